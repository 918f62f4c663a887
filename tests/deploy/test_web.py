"""The page's interface: what an upload becomes, what is refused, what is deleted, and who may ask."""

from __future__ import annotations

import asyncio
import io
import json
import re
import stat
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from tests.command_line import Call
from tests.conftest import TinyCohort
from tests.deploy.web_bench import (
    MARKER,
    finish,
    fit_small,
    left,
    model_id,
    open_client,
    upload,
    wait_until,
    write_identified,
    zip_folder,
)

import twobe3 as tb
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure, UnusableScanError
from twobe3.deploy.web import server
from twobe3.deploy.web.bounds import Bounds
from twobe3.deploy.web.upload import receive_upload
from twobe3.dicom import archive

TOKEN = "t" * 32


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, new_tiny_cohort: Callable[[Path], TinyCohort]) -> Path:
    folder = tmp_path_factory.mktemp("model")
    return fit_small(new_tiny_cohort(folder).patients(12), folder)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory, new_tiny_cohort: Callable[[Path], TinyCohort]) -> Path:
    return write_identified(new_tiny_cohort(tmp_path_factory.mktemp("scan")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def client(model: Path, folder: Path) -> Iterator[TestClient]:
    with open_client(model, folder) as opened:
        yield opened


@pytest.fixture
def idle(model: Path, tmp_path: Path) -> Iterator[TestClient]:
    """A client of an application that predicts nothing, with narrow bounds."""
    bounds = Bounds(upload_bytes=200_000, unpacked_bytes=100_000, files=20, waiting=3)
    with open_client(model, tmp_path / "serve", bounds=bounds, workers=0) as opened:
        yield opened


def problem(answer: Any) -> tuple[int, str]:
    found = answer.json()
    assert set(found) == {"code", "reason", "remedy"}
    assert found["code"] in Code.__members__
    return answer.status_code, found["code"]


def test_an_upload_becomes_results_and_is_deleted(
    client: TestClient, model: Path, scan: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "twobe3")
    answer = upload(client, model, zip_folder(scan), name=f"{MARKER}.zip")
    assert answer.status_code == 202
    job = finish(client, answer.json()["id"])
    (said,), (expected,) = job["predictions"], tb.predict(model, [scan]).predictions
    assert job["state"] == "predicted"
    for name in ("patient", "series_uid", "risk", "probability", "percentile"):
        assert said[name] == getattr(expected, name)
    assert {one["kind"] for one in job["files"]} == {"sr", "seg", "pm", "pdf", "csv", "json"}
    shown = client.get(f"/jobs/{job['id']}")
    for text in ("research use only", "percentile among 12 training patients", said["patient"], "viewer-open"):
        assert text.lower() in shown.text.lower()
    told = json.dumps(job) + shown.text + caplog.text
    for file in job["files"]:
        content = client.get(f"/api/jobs/{job['id']}/files/{file['name']}")
        assert content.headers["content-disposition"].startswith("attachment")
        assert len(content.content) == file["n_bytes"]
        assert file["identity"] == (file["kind"] in ("sr", "seg", "pm"))
        if file["identity"]:
            assert pydicom.dcmread(io.BytesIO(content.content)).PatientID == f"{MARKER}-1"
        else:
            told += content.content.decode("latin-1")
    assert MARKER not in told
    assert MARKER not in "".join(str(path) for path in folder.rglob("*"))
    assert not left(folder)
    document = client.get(f"/api/jobs/{job['id']}/files/predictions.json").json()
    assert document == tb.predict(model, [scan]).to_json()


def test_plain_files_are_taken_as_they_are(client: TestClient, model: Path, scan: Path) -> None:
    job = upload(client, model, *(path.read_bytes() for path in scan.iterdir()), name="../../evil").json()
    assert job["n_files"] == TinyCohort.SHAPE[0]
    assert finish(client, job["id"])["predictions"][0]["risk"] == tb.predict(model, [scan]).predictions[0].risk


def test_a_refused_scan_is_told_with_code_and_remedy(
    client: TestClient, model: Path, folder: Path, tiny_cohort: TinyCohort
) -> None:
    constant = zip_folder(tiny_cohort.scan("P1", suv=0.5))
    job = finish(client, upload(client, model, constant).json()["id"])
    assert (job["state"], job["problem"]["code"]) == ("refused", "SCAN_CONSTANT")
    page = client.get(f"/jobs/{job['id']}").text
    assert "Nothing was predicted" in page
    assert "export the scan again" in page
    forced = finish(client, upload(client, model, constant, force="true").json()["id"])
    assert [one["code"] for one in forced["predictions"][0]["forced"]] == ["SCAN_CONSTANT"]
    assert "Predicted by force" in client.get(f"/jobs/{forced['id']}").text
    assert not left(folder)


def test_what_is_no_scan_is_refused_and_deleted(client: TestClient, model: Path, scan: Path, folder: Path) -> None:
    nested = io.BytesIO()
    with zipfile.ZipFile(nested, "w") as outer:
        outer.writestr("inner.zip", zip_folder(scan))
    for content in (nested.getvalue(), make_zip("text")):
        job = finish(client, upload(client, model, content).json()["id"])
        assert (job["state"], job["problem"]["code"]) == ("refused", "NO_PET")
    assert not left(folder)


def make_zip(*members: str | zipfile.ZipInfo, content: bytes = b"x") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as opened:
        for member in members:
            opened.writestr(member, content)
    return made.getvalue()


def make_link() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("link")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (make_zip("../outside"), (422, "CORRUPT_FILE")),
        (make_zip("/outside"), (422, "CORRUPT_FILE")),
        (make_zip("C:\\outside"), (422, "CORRUPT_FILE")),
        (make_zip(make_link()), (422, "CORRUPT_FILE")),
        (b"no zip file", (422, "CORRUPT_FILE")),
        (make_zip("a")[:-30], (422, "CORRUPT_FILE")),
        (make_zip("a", content=bytes(100_001)), (413, "TOO_LARGE")),
        (make_zip("a", "b", content=bytes(60_000)), (413, "TOO_LARGE")),
        (make_zip(*map(str, range(21))), (413, "TOO_LARGE")),
    ],
    ids=["up", "root", "drive", "link", "text", "cut", "large", "large together", "many"],  # no times: workers compare
)  # fmt: skip
def test_a_hostile_zip_file_is_refused_and_leaves_nothing(
    idle: TestClient, model: Path, tmp_path: Path, content: bytes, expected: tuple[int, str]
) -> None:
    assert problem(upload(idle, model, content)) == expected
    assert not [path for path in (tmp_path / "serve").rglob("*") if path.is_file() and path.name != "serve.lock"]
    assert not (tmp_path / "outside").exists()


def test_a_zip_file_with_a_ratio_of_a_bomb_is_refused(
    idle: TestClient, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "SMALL_BYTES", 1000)
    assert problem(upload(idle, model, make_zip("zeros", content=bytes(90_000)))) == (413, "TOO_LARGE")


def test_several_zip_files_share_the_bounds(idle: TestClient, model: Path) -> None:
    content = make_zip(*map(str, range(11)))
    assert problem(upload(idle, model, content, content)) == (413, "TOO_LARGE")


def test_a_huge_directory_of_a_zip_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(make_zip(*(f"{i:0300}" for i in range(40))))
    with pytest.raises(UnusableScanError, match="the directory of a zip file"):
        archive.unpack_into(tmp_path / "a.zip", tmp_path / "nowhere", max_members=20)


def form(*parts: tuple[str, str], end: str = "--x--\r\n") -> bytes:
    """A form by hand: each part's header and content."""
    return "".join(f"--x\r\n{head}\r\n\r\n{content}\r\n" for head, content in parts).encode() + end.encode()


KIND = "multipart/form-data; boundary=x"
FIELD, FILE = 'Content-Disposition: form-data; name="{}"', 'Content-Disposition: form-data; name="files"; filename="a"'


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", "application/json"),
        (form((FILE, "x")), "multipart/form-data"),
        (form((FILE, "x")), f"multipart/form-data; boundary={'y' * 300}"),
        (form((FILE, "x")), KIND),
        (form((FIELD.format("model"), "ID")), KIND),
        (form((FIELD.format("model"), "ID"), (FIELD.format("files"), "x")), KIND),
        (form((FIELD.format("model"), "ID"), (FIELD.format("model"), "ID"), (FILE, "x")), KIND),
        (form((FIELD.format("model"), "y" * 300), (FILE, "x")), KIND),
        (form((FIELD.format("model"), "ID"), (FIELD.format("other"), "x"), (FILE, "x")), KIND),
        (form((FIELD.format("model"), "ID"), (FIELD.format("force"), "1"), (FILE, "x")), KIND),
        (form((FIELD.format("model"), "ID"), (FILE, "x"), end=""), KIND),
        (b"garbage", KIND),
    ],
)  # fmt: skip
def test_a_form_that_is_none_is_refused(idle: TestClient, model: Path, tmp_path: Path, body: bytes, kind: str) -> None:
    body = body.replace(b"ID", model_id(model).encode())
    assert problem(idle.post("/api/jobs", content=body, headers={"Content-Type": kind})) == (422, "UPLOAD_INVALID")
    assert not list((tmp_path / "serve" / "incoming").iterdir())


def test_what_was_sent_is_not_logged(idle: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    server._configure(FastAPI())
    idle.post("/api/jobs", content=b"garbage", headers={"Content-Type": KIND})
    assert "boundary" not in caplog.text


def test_a_remedy_is_that_of_the_request(idle: TestClient) -> None:
    refused = {
        "/api/models lists them": upload(idle, "no model", b"x", name="a"),
        "see /openapi.json": idle.get("/nothing"),
        "see /openapi.json ": idle.get("/api/jobs/abc"),
        "results are deleted after a time: upload again": idle.get(f"/api/jobs/{'x' * 22}"),
    }
    for remedy, answer in refused.items():
        assert answer.json()["remedy"] == remedy.strip()


def test_an_upload_is_bounded(idle: TestClient, model: Path, tmp_path: Path) -> None:
    assert problem(upload(idle, "no model", b"x", name="a")) == (404, "NOT_FOUND")
    assert problem(upload(idle, model, bytes(200_001), name="a")) == (413, "TOO_LARGE")
    assert problem(upload(idle, model, *[b"x"] * 21, name="a")) == (413, "TOO_LARGE")

    def endless() -> Iterator[bytes]:  # of a length that nobody announced
        yield form((FIELD.format("model"), model_id(model)), (FILE, "x" * 1000), end="")
        for _ in range(400):
            yield b"x" * 1000

    kind = {"Content-Type": KIND}
    assert problem(idle.post("/api/jobs", content=endless(), headers=kind)) == (413, "TOO_LARGE")
    assert not list((tmp_path / "serve" / "incoming").iterdir())
    for position in range(3):
        job = upload(idle, model, b"x", name="a").json()
        assert idle.get(f"/api/jobs/{job['id']}").json()["position"] == position
    full = upload(idle, model, b"x", name="a")
    assert problem(full) == (429, "QUEUE_FULL")
    assert int(full.headers["retry-after"]) > 0
    assert idle.delete(f"/api/jobs/{job['id']}").status_code == 204
    assert upload(idle, model, b"x", name="a").status_code == 202


def test_an_upload_that_is_too_slow_is_refused(tmp_path: Path) -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b""
            await asyncio.sleep(0.01)

    with pytest.raises(ConfigurationError, match="UPLOAD_SLOW"):
        asyncio.run(receive_upload(KIND, drip(), tmp_path, Bounds(receive_s=0.05)))


def test_a_job_that_runs_can_be_deleted(model: Path, scan: Path, tmp_path: Path) -> None:
    with open_client(model, tmp_path) as client:
        job = upload(client, model, zip_folder(scan)).json()["id"]
        wait_until(lambda: client.get(f"/api/jobs/{job}").json()["state"] == "running")
        assert client.delete(f"/api/jobs/{job}").status_code == 204
        assert problem(client.get(f"/api/jobs/{job}")) == (404, "NOT_FOUND")
        wait_until(lambda: not (tmp_path / "jobs" / job).exists())


def test_a_prediction_that_takes_too_long_is_ended(model: Path, scan: Path, tmp_path: Path) -> None:
    with open_client(model, tmp_path, bounds=Bounds(predict_s=0.01)) as client:
        job = finish(client, upload(client, model, zip_folder(scan)).json()["id"])
    assert (job["state"], job["problem"]["code"]) == ("refused", "TIME_LIMIT")
    assert not left(tmp_path)


def test_what_was_accepted_outlives_the_server_and_what_was_not_is_deleted(
    model: Path, scan: Path, tmp_path: Path
) -> None:
    with open_client(model, tmp_path, workers=0) as client:
        jobs = [upload(client, model, zip_folder(scan)).json()["id"] for _ in range(2)]
        with pytest.raises(EnvironmentFailure, match="NODE_RUNNING"), open_client(model, tmp_path):
            pass
    (tmp_path / "incoming" / "half" / "input").mkdir(parents=True)
    (tmp_path / "incoming" / "half" / "input" / "0000001").write_bytes(b"x")
    (tmp_path / "jobs" / "gone" / "input").mkdir(parents=True)  # whose deletion was cut off
    with open_client(model, tmp_path) as client:
        assert sorted(path.name for path in (tmp_path / "jobs").iterdir()) == sorted(jobs)
        states = [finish(client, job)["state"] for job in jobs]
    assert states == ["predicted"] * 2
    assert not left(tmp_path)


def test_a_job_that_ends_the_server_each_time_is_given_up(model: Path, scan: Path, tmp_path: Path) -> None:
    with open_client(model, tmp_path, workers=0) as client:
        job = upload(client, model, zip_folder(scan)).json()["id"]
    path = tmp_path / "jobs" / job / "job.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"attempts": 3}))
    with open_client(model, tmp_path) as client:
        assert finish(client, job)["problem"]["code"] == "WORKER_DIED"
    assert not left(tmp_path)


def test_results_are_deleted_after_a_time_and_when_they_are_told_to(
    model: Path, scan: Path, tmp_path: Path, client: TestClient
) -> None:
    done = finish(client, upload(client, model, zip_folder(scan)).json()["id"])["id"]
    (file, *_) = client.get(f"/api/jobs/{done}").json()["files"]
    assert client.delete(f"/api/jobs/{done}").status_code == 204
    assert client.get(f"/api/jobs/{done}/files/{file['name']}").status_code == 404
    assert problem(client.delete(f"/api/jobs/{done}")) == (404, "NOT_FOUND")
    with open_client(model, tmp_path, bounds=Bounds(predict_s=0.01, keep_s=0)) as short:
        job = finish(short, upload(short, model, b"x", name="a").json()["id"])["id"]
        queue = short.app.state.queue  # type: ignore[attr-defined]
        queue.delete_expired()
        assert short.get(f"/api/jobs/{job}").status_code == 404
    assert not (tmp_path / "jobs" / job).exists()


def test_only_what_a_job_lists_can_be_downloaded(client: TestClient, model: Path, scan: Path) -> None:
    job = finish(client, upload(client, model, zip_folder(scan)).json()["id"])["id"]
    for name in ("../job.json", "..%2Fjob.json", "%2e%2e%2fjob.json", "part.html", "job.json", "x", "."):
        assert client.get(f"/api/jobs/{job}/files/{name}").status_code in (404, 405), name


def test_every_answer_forbids_requests_elsewhere(client: TestClient) -> None:
    for path in ("/", "/login", "/api/models", "/static/app.js", "/static/app.css", "/nothing", "/jobs/x", "/docs",
                 "/static/", "/static/..%2fapp.py", "/openapi.json"):  # fmt: skip
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert (answer.headers["x-content-type-options"], answer.headers["referrer-policy"]) == (
            "nosniff",
            "same-origin",
        )
        assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", answer.text)
    assert [client.get(path).status_code for path in ("/docs", "/redoc", "/static/", "/jobs/x")] == [404] * 4


@contextmanager
def guarded(model: Path, folder: Path) -> Iterator[TestClient]:
    with open_client(model, folder, token=TOKEN, workers=0) as client:
        yield client


def test_without_the_token_there_is_only_the_form_to_log_in(model: Path, tmp_path: Path) -> None:
    with guarded(model, tmp_path) as client:
        texts = ("Bearer wrong", f"Basic {TOKEN}", "Bearer ", "Bearer")
        for wrong in (
            {},
            {"Cookie": "twobe3=x"},
            {"Cookie": 'twobe3="; ['},
            *({"Authorization": one} for one in texts),
        ):
            answer = client.get("/api/models", headers=wrong)
            assert problem(answer) == (401, "TOKEN_REFUSED")
            assert answer.headers["www-authenticate"] == "Bearer"
            page = client.get("/", headers=wrong)
            assert (page.status_code, page.headers["location"]) == (303, "/login")
        assert problem(upload(client, model, b"x", name="a")) == (401, "TOKEN_REFUSED")
        assert client.get("/openapi.json").status_code == 401
        assert client.get("/api/models", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert client.get("/login").status_code == client.get("/static/app.css").status_code == 200


def test_a_browser_logs_in_and_out(model: Path, tmp_path: Path) -> None:
    with guarded(model, tmp_path) as client:
        assert client.post("/login", data={"token": "wrong"}).status_code == 401
        assert client.post("/login", content=b"x" * 100_000).status_code == 401
        answer = client.post("/login", data={"token": TOKEN})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/").status_code == 200
        before = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        assert client.post("/logout").status_code == 303
        assert client.get("/", headers={"Cookie": before}).status_code == 303


def test_foreign_names_and_foreign_pages_are_refused(client: TestClient, model: Path) -> None:
    for host in ("evil.example", "evil.example:8023", "127.0.0.1.evil.example", ""):
        assert problem(client.get("/api/models", headers={"Host": host})) == (403, "ORIGIN_REFUSED")
    for host in ("localhost:8023", "127.0.0.1:1", "[::1]:8023", "localhost"):
        assert client.get("/api/models", headers={"Host": host}).status_code == 200
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:9"},
                    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):  # fmt: skip
        answer = client.post("/api/jobs", files={"files": b"x"}, data={"model": "x"}, headers=headers)
        assert problem(answer) == (403, "ORIGIN_REFUSED")
    own = client.post("/api/jobs", files={"files": b"x"}, data={"model": "x"}, headers={"Origin": "http://127.0.0.1"})
    assert problem(own) == (404, "NOT_FOUND")


def test_an_error_nobody_foresaw_tells_its_type_alone(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(job_id: str) -> None:
        raise ValueError(MARKER)

    monkeypatch.setattr(client.app.state.queue, "find", fail)  # type: ignore[attr-defined]
    answer = client.get(f"/api/jobs/{'x' * 22}")
    assert problem(answer) == (500, "INTERNAL_ERROR")
    assert MARKER not in answer.text + caplog.text
    assert "INTERNAL_ERROR: ValueError at test_web.py" in caplog.text


def test_the_command_refuses_to_be_exposed(
    model: Path, tmp_path: Path, twobe3: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acceptance row 35."""
    where = ("serve", str(model), "--out", str(tmp_path / "serve"), "--port", "0")
    exposed = twobe3(*where, "--host", "0.0.0.0")
    assert exposed.status == 2
    assert exposed.refusal().startswith("NODE_EXPOSED")
    assert "--token-file" in exposed.err
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o644)
    assert "chmod 600" in twobe3(*where, "--token-file", str(token)).refusal()
    assert twobe3(*where, "--token-file", str(tmp_path / "none")).refusal().startswith("TOKEN_INVALID")
    monkeypatch.setenv("TWOBE3_TOKEN", "short")
    assert twobe3(*where).refusal().startswith("TOKEN_INVALID")
    monkeypatch.delenv("TWOBE3_TOKEN")
    assert twobe3("serve", str(tmp_path), "--port", "0").refusal().startswith("MODEL_INVALID")
    assert (
        twobe3(*where, "--host", "192.0.2.1", "--token-file", str(_chmod(token))).refusal().startswith("LISTEN_FAILED")
    )
    assert not (tmp_path / "serve").exists()


def _chmod(path: Path) -> Path:
    path.chmod(0o600)
    return path
