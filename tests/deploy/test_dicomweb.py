"""An archive by DICOMweb that is good or bad in one way: what is fetched, refused, stored, and never said."""

from __future__ import annotations

import json
import logging
import re
import socket
import ssl
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest
from pydicom.uid import CTImageStorage
from tests.command_line import Call
from tests.conftest import TinyCohort

import twobe3 as tb
from twobe3.core.errors import ConfigurationError, EmptyInputError, EnvironmentFailure, TwoBe3Error, UnusableScanError
from twobe3.deploy import dicomweb as module
from twobe3.deploy.queue import StudyQueue

MULTIPART = 'multipart/related; type="application/dicom"; boundary="=_b"'
STATUS = {"401": 401, "403": 403, "500": 500, "redirect": 302, "absent": 404}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path, self.server.asked = urlsplit(self.path), [*self.server.asked, self]
        *_, kind, last = path.path.split("/")
        objects = [one for one in self.server.objects if one["StudyInstanceUID"] in path.path.split("/")]
        fault = self.server.fault
        if fault.removesuffix(" object") in STATUS and (last not in ("series", "instances")) == fault.endswith(
            " object"
        ):
            self.answer(b"", "text/plain", STATUS[fault.removesuffix(" object")])
        elif last in ("series", "instances"):
            self.list(last, objects, int(parse_qs(path.query)["offset"][0]), study=kind)
        else:
            self.give(next(one["content"] for one in objects if one["SOPInstanceUID"] == last))

    def list(self, last: str, objects: list[dict[str, Any]], offset: int, *, study: str) -> None:
        tags = {"series": ("0020000E", "00080060"), "instances": ("00080018", "0020000E")}[last]
        names = {"0020000E": "SeriesInstanceUID", "00080060": "Modality", "00080018": "SOPInstanceUID"}
        if last == "instances":
            objects = [one for one in objects if one["SeriesInstanceUID"] == study]
        rows = list(dict.fromkeys(tuple(one[names[tag]] for tag in tags) for one in objects))
        page = rows[offset : offset + self.server.page]
        document: Any = [{tag: {"Value": [value]} for tag, value in zip(tags, row, strict=True)} for row in page]
        match self.server.fault:
            case "page instead":
                return self.answer(b"<html>log in</html>", "text/html")
            case "no uid":
                document = [{"0020000E": {"Value": ["../../../etc"]}}]
            case "no rows":
                document = [1]
            case "nested":
                return self.answer(b"[" * 200_000, "application/dicom+json")
            case "no content" if not page:
                return self.answer(b"", "text/plain", 204)
        self.answer(json.dumps(document).encode(), "application/dicom+json")

    def give(self, content: bytes) -> None:
        match self.server.fault:
            case "cut object":
                content = content[:-500]
            case "other object":
                content = self.server.objects[-1]["content"]
            case "bare":
                return self.answer(content, "application/dicom")
            case "wrong type":
                return self.answer(content, "application/zip")
            case "no boundary":
                return self.answer(content, "multipart/related")
            case "silent":
                self.server.silence.recv(1)
        body = b"--=_b\r\nContent-Type: application/dicom\r\n\r\n" + content + b"\r\n--=_b--\r\n"
        cut = {"cut body": 1000, "cut end": 5}.get(self.server.fault, 0)
        told = None if self.server.fault == "cut end" else len(body)
        self.answer(body[: len(body) - cut], MULTIPART, length=told)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(self)
        boundary = re.search("boundary=(.+)", self.headers["Content-Type"])
        assert boundary is not None
        (part,) = body.split(f"--{boundary[1]}".encode())[1:-1]
        content = part.removeprefix(b"\r\nContent-Type: application/dicom\r\n\r\n").removesuffix(b"\r\n")
        uid = pydicom.dcmread(pydicom.filebase.DicomBytesIO(content)).SOPInstanceUID
        stored = self.server.fault != "not taken"
        if stored and self.server.fault not in STATUS:
            self.server.stored.append(content)
        sequence = {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid]}}]}
        document = json.dumps({"00081199" if stored else "00081198": sequence}).encode()
        if self.server.fault in STATUS:
            return self.answer(document, "application/dicom+json", STATUS[self.server.fault])
        cut = 10 if self.server.fault == "cut body" else 0
        self.answer(document[: len(document) - cut], "application/dicom+json", length=len(document))

    def answer(self, body: bytes, kind: str, status: int = 200, *, length: int | None = -1) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status == 302:
            self.send_header("Location", "http://192.0.2.1/elsewhere")
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):  # whoever has read enough hangs up
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """An archive that holds some files; ``fault`` says what is wrong with it."""

    def __init__(self, *folders: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault, self.page, self.asked, self.stored = "", 1000, list[Handler](), list[bytes]()
        self.silence, self.end_silence = socket.socketpair()
        self.objects = []
        for file in sorted(file for folder in folders for file in folder.iterdir()):
            dataset = pydicom.dcmread(file)
            keys = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality")
            self.objects.append({**{key: str(dataset[key].value) for key in keys}, "content": file.read_bytes()})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/dicom-web"

    @property
    def study(self) -> str:
        return str(self.objects[0]["StudyInstanceUID"])


@contextmanager
def serving(*folders: Path) -> Iterator[Server]:
    with Server(*folders) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.end_silence.close()
            server.shutdown()
            thread.join()
            server.silence.close()


@pytest.fixture
def server(scan: Path, tiny_cohort: TinyCohort) -> Iterator[Server]:
    """A PET study, with a CT beside it and an object of its own that twobe3 made, and another patient's."""
    study = pydicom.dcmread(next(scan.iterdir())).StudyInstanceUID
    beside = {"StudyInstanceUID": study, "PatientID": "NEW-PATIENT"}
    ct = tiny_cohort.scan("CT", Modality="CT", SOPClassUID=CTImageStorage, **beside)
    own = tiny_cohort.scan("OWN", Manufacturer="twobe3", **beside)
    other = tiny_cohort.scan("OTHER", PatientName="Roe^Richard")
    with serving(scan, ct, own, other) as running:
        yield running


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_what_is_fetched_is_what_was_stored(server: Server, scan: Path, tmp_path: Path) -> None:
    for fault, page in (("", 1000), ("bare", 5), ("no content", 1)):
        server.fault, server.page = fault, page
        files = tb.deploy.DicomWeb(f"{server.url}/").fetch(server.study, tmp_path / f"fetched{page}")
        assert sorted(file.read_bytes() for file in files) == sorted(file.read_bytes() for file in scan.iterdir())
        assert sorted((tmp_path / f"fetched{page}").iterdir()) == files
    ct = {one["SeriesInstanceUID"] for one in server.objects if one["Modality"] == "CT"}
    assert not any(uid in handler.path for uid in ct for handler in server.asked)
    whole = {handler.headers["Accept"] for handler in server.asked if "json" not in handler.headers["Accept"]}
    assert whole == {'multipart/related; type="application/dicom"; transfer-syntax=*'}  # PS3.18, table 8.7.3-2


FAULTS: dict[str, tuple[type[TwoBe3Error], str]] = {
    "401": (EnvironmentFailure, "ACCESS_DENIED"),
    "403 object": (EnvironmentFailure, "ACCESS_DENIED"),
    "500": (EnvironmentFailure, "ANSWER_INVALID"),
    "redirect": (EnvironmentFailure, "ANSWER_INVALID"),
    "redirect object": (EnvironmentFailure, "ANSWER_INVALID"),
    "page instead": (EnvironmentFailure, "ANSWER_INVALID"),
    "no uid": (EnvironmentFailure, "ANSWER_INVALID"),
    "no rows": (EnvironmentFailure, "ANSWER_INVALID"),
    "nested": (EnvironmentFailure, "ANSWER_INVALID"),
    "other object": (EnvironmentFailure, "ANSWER_INVALID"),
    "wrong type": (EnvironmentFailure, "ANSWER_INVALID"),
    "no boundary": (EnvironmentFailure, "ANSWER_INVALID"),
    "silent": (EnvironmentFailure, "ARCHIVE_UNREACHABLE"),
    "absent": (EmptyInputError, "STUDY_MISSING"),
    "absent object": (UnusableScanError, "FETCH_FAILED"),
    "cut body": (UnusableScanError, "FETCH_FAILED"),
    "cut end": (UnusableScanError, "FETCH_FAILED"),
    "cut object": (UnusableScanError, "CORRUPT_FILE"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_archive_that_is_wrong(
    server: Server, tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    server.fault = fault
    archive = tb.deploy.DicomWeb(server.url, timeout_s=0.3 if fault == "silent" else 60)
    with pytest.raises(FAULTS[fault][0]) as refused:
        archive.fetch(server.study, tmp_path / "fetched")
    assert refused.value.code.name == FAULTS[fault][1]
    said = str(refused.value) + caplog.text + "".join(capfd.readouterr())
    assert not re.search("Doe|Jane|NEW-PATIENT|" + "|".join(one["StudyInstanceUID"] for one in server.objects), said)


def test_bounds(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tb.deploy.DicomWeb(server.url)
    for name, value in (
        ("MOST_FILES", 3),
        ("MOST_BYTES", 3000),
        ("LARGEST_OBJECT_BYTES", 1000),
        ("_LARGEST_JSON_BYTES", 9),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            with pytest.raises(UnusableScanError) as refused:
                archive.fetch(server.study, tmp_path / name)
        assert refused.value.code.name == "TOO_LARGE"
    for uid in ("", "1.2.3/../../instances", "1" * 65, "1.2?x"):
        with pytest.raises(ConfigurationError) as wrong:
            archive.fetch(uid, tmp_path)
        assert wrong.value.code.name == "STUDY_MISSING"


def test_a_port_where_nothing_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(EnvironmentFailure) as refused:
        tb.deploy.DicomWeb(f"http://127.0.0.1:{port}").fetch("1.2.3", tmp_path)
    assert refused.value.code.name == "ARCHIVE_UNREACHABLE"


def test_https_where_http_is_spoken_is_no_matter_of_certificates(scan: Path, tmp_path: Path) -> None:
    with serving(scan) as server:
        archive = tb.deploy.DicomWeb(server.url.replace("http://", "https://"))
        with pytest.raises(EnvironmentFailure, match="ARCHIVE_UNREACHABLE: no TLS connection comes about"):
            archive.fetch(server.study, tmp_path / "fetched")


def test_a_certificate_must_be_trusted(scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += [
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-keyout",
        key,
        "-out",
        certificate,
    ]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(scan) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        archive = tb.deploy.DicomWeb(server.url.replace("http://127.0.0.1", "https://localhost"))
        with pytest.raises(EnvironmentFailure, match="certificate of the archive is not trusted") as refused:
            archive.fetch(server.study, tmp_path / "fetched")
        assert refused.value.code.name == "ARCHIVE_UNREACHABLE"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert len(archive.fetch(server.study, tmp_path / "fetched")) == len(server.objects)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("Aladdin:open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),  # RFC 7617, section 2
        ("test:123£", "Basic dGVzdDoxMjPCow=="),  # section 2.1
        ("Bearer mF_9.B5f-4.1JqM", "Bearer mF_9.B5f-4.1JqM"),  # RFC 6750, section 2.1
        ("", None),
    ],
)
def test_credentials(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, header: str | None
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("TWOBE3_DICOMWEB_CREDENTIALS", text)
    archive = tb.deploy.DicomWeb(server.url, tb.deploy.read_credentials())
    archive.fetch(server.study, tmp_path / "fetched")
    assert {handler.headers["Authorization"] for handler in server.asked} == {header}
    assert "esame" not in repr(archive)
    assert "mF_9" not in repr(archive)


def test_credentials_that_others_could_see(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("user:secret\n")
    file.chmod(0o600)
    secret = tb.deploy.read_credentials(file)
    assert secret == tb.deploy.Credentials("user:secret")
    for url in ("http://pacs.example.org", "http://10.0.0.1:8042/dicom-web"):
        with pytest.raises(ConfigurationError) as exposed:
            tb.deploy.DicomWeb(url, secret)
        assert exposed.value.code.name == "CREDENTIALS_EXPOSED"
        assert tb.deploy.DicomWeb(url).url == url
    tb.deploy.DicomWeb("https://pacs.example.org", secret)
    for url in ("https://user:secret@pacs.example.org", "ftp://pacs.example.org", "pacs", "https://", "https://a:b/"):
        with pytest.raises(ConfigurationError) as wrong:
            tb.deploy.DicomWeb(url)
        assert wrong.value.code.name == "URL_INVALID"
        assert "secret" not in str(wrong.value)
    for change in (lambda: file.chmod(0o640), lambda: file.chmod(0o600) or file.write_text("secret"), file.unlink):
        change()
        with pytest.raises(ConfigurationError) as refused:
            tb.deploy.read_credentials(file)
        assert refused.value.code.name == "CREDENTIALS_INVALID"
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("fault", "code"),
    [("not taken", "SEND_FAILED"), ("absent", "SEND_FAILED"), ("cut body", "SEND_FAILED"), ("403", "ACCESS_DENIED")],
)
def test_results_that_are_not_taken(server: Server, scan: Path, fault: str, code: str) -> None:
    server.fault = fault
    with pytest.raises(EnvironmentFailure) as refused:
        tb.deploy.DicomWeb(server.url).store(list(scan.iterdir()))
    assert refused.value.code.name == code


def test_studies_are_predicted_and_deleted(
    model: Path, scan: Path, server: Server, tmp_path: Path, temporary: Path, twobe3: Call
) -> None:
    options = ["--dicomweb", server.url, "--study", server.study]
    done = twobe3("predict", model, *options, "--study", "1.2.3", "--sr", tmp_path / "sr", "--store", "--json")
    assert done.status == 0
    row, missing = done.json()["predictions"]
    assert row == tb.predict(model, [scan]).predictions[0].to_json()
    assert missing["code"] == "STUDY_MISSING"
    assert re.match("st-[0-9a-f]{12}: ", missing["reason"])
    (report,) = (tmp_path / "sr").iterdir()
    assert server.stored == [report.read_bytes()]
    assert twobe3("predict", model, *options, "--store").status == 0
    assert [pydicom.dcmread(pydicom.filebase.DicomBytesIO(one)).Modality for one in server.stored[1:]] == [
        "SEG",
        "OT",
        "SR",
    ]
    assert server.study not in done.out + done.err
    assert list(temporary.iterdir()) == []


def test_nothing_is_left_of_a_study_that_fails(
    model: Path, server: Server, temporary: Path, twobe3: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    give = Handler.give

    def look(handler: Handler, content: bytes) -> None:
        seen.update(stat.S_IMODE(folder.stat().st_mode) for folder in temporary.iterdir())
        give(handler, content)

    monkeypatch.setattr(Handler, "give", look)
    for fault, status, code in (
        ("cut body", 3, "FETCH_FAILED"),
        ("401", 1, "ACCESS_DENIED"),
        ("absent", 3, "STUDY_MISSING"),
    ):
        server.fault = fault
        done = twobe3("predict", model, "--dicomweb", server.url, "--study", server.study)
        assert done.status == status
        assert code in done.out + done.err
        assert "Traceback" not in done.err
        assert list(temporary.iterdir()) == []
    assert seen == {0o700}


def test_what_must_be_given_together(model: Path, scan: Path, twobe3: Call) -> None:
    web = ("--dicomweb", "http://127.0.0.1:9")
    for wrong in ((), (scan, *web, "--study", "1.2"), web, ("--study", "1.2"), (scan, "--store")):
        assert twobe3("predict", model, *wrong).status == 2


def test_the_node_stores_by_dicomweb(model: Path, scan: Path, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "node"
    queue = StudyQueue(folder)
    for file in scan.iterdir():
        queue.store(server.study, file.name, file.read_bytes())
    queue.close()
    with tb.deploy.Node(model, folder, port=0, quiet_s=0, retry_s=0, archive=tb.deploy.DicomWeb(server.url)) as node:
        server.fault = "500"
        node.work()
        server.fault = ""
        node.work()
    lines = [json.loads(line) for line in (folder / "node.jsonl").read_text().splitlines()]
    assert [line["state"] for line in lines] == ["predicted", "sent"]
    assert server.stored == [(folder / name).read_bytes() for name in lines[0]["files"]]
