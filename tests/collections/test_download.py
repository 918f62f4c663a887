"""Series fetched from a server of our own, on loopback, that holds real PET."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pydicom
import pytest
from tests.command_line import Call

from twobe3.collections.download import FetchResult, fetch_collections
from twobe3.collections.manifest import Header, ManifestRow, write_manifest
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.phantom import PhantomSpec, write_cohort
from twobe3.scans.inspect import inspect

BUCKET = "idc-open-data"
SLICES = 16  # of each series: neighbours, so that they are a scan


class Bucket(ThreadingHTTPServer):
    """The three requests of S3 that s5cmd makes: list a prefix, head, get (Amazon S3 API reference)."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no error of the server."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.objects: dict[str, bytes] = {}
        self.got: list[str] = []  # keys whose content was sent whole
        self.altered: dict[str, int] = {}  # keys that leave the server altered, this many times
        self.holds_after: int | None = None  # contents sent until the server falls silent
        self.go_on = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, folder: str, series: Path, slices: int = SLICES) -> ManifestRow:
        files = sorted(series.iterdir(), key=_slice_mm)[:slices]
        contents = {f"{folder}/{number:04d}.dcm": file.read_bytes() for number, file in enumerate(files)}
        self.objects |= contents
        uid = str(pydicom.dcmread(files[0], specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)
        size = sum(map(len, contents.values()))
        return wanted(uid, len(files), size, f"s3://{BUCKET}/{folder}/*")


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        _, _, key = unquote(url.path).lstrip("/").partition("/")
        if not key:
            return self.send(200, _listing(self.server.objects, parse_qs(url.query).get("prefix", [""])[0]))
        content = self.server.objects.get(key)
        if content is None:
            return self.send(404, b"<Error><Code>NoSuchKey</Code></Error>")
        etag = hashlib.md5(content).hexdigest()
        if self.command == "HEAD":
            return self.send(200, content, etag)
        if self.server.holds_after is not None and len(self.server.got) >= self.server.holds_after:
            self.server.go_on.wait(30)
        if self.server.altered.get(key, 0) > 0:
            self.server.altered[key] -= 1
            content = content[:-3] + bytes([content[-3] ^ 0xFF]) + content[-2:]
        self.send(206, content, etag)
        return self.server.got.append(key)

    def send(self, status: int, body: bytes, etag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if etag:
            self.send_header("ETag", f'"{etag}"')
        if status == 206:
            self.send_header("Content-Range", f"bytes 0-{len(body) - 1}/{len(body)}")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _slice_mm(path: Path) -> float:
    return float(pydicom.dcmread(path, specific_tags=["ImagePositionPatient"]).ImagePositionPatient[2])


def _listing(objects: dict[str, bytes], prefix: str) -> bytes:
    rows = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{hashlib.md5(content).hexdigest()}&quot;</ETag><Size>{len(content)}</Size></Contents>"
        for key, content in objects.items()
        if key.startswith(prefix)
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()


def wanted(series_uid: str, instances: int, size_bytes: int, url: str) -> ManifestRow:
    uuid = url.split("/")[3] if url.count("/") > 3 else ""
    return ManifestRow("soft_tissue_sarcoma", "STS", "1.2", series_uid, "PT", uuid, url, instances, size_bytes,
                       "CC BY 3.0", "10.7937/K9/TCIA.2015.7GO2GSKS", "FDG", "PET")  # fmt: skip


def planned(rows: list[ManifestRow], folder: Path) -> Path:
    header = Header("23", "digest", "0", {}, {"10.7937/K9/TCIA.2015.7GO2GSKS": "Vallières et al., 2015."}, {})
    return write_manifest(folder / "plan", rows, header)


def fetch(rows: list[ManifestRow], out: Path, **options: Any) -> FetchResult:
    return fetch_collections(planned(rows, out.parent / f"{out.name}-plan"), out, **options)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    server = Bucket()
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.02))
    thread.start()
    yield server
    server.go_on.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def rows(bucket: Bucket, real_data: Path) -> list[ManifestRow]:
    """Three real series on the server."""
    return [bucket.add(f"uuid-{n}", real_data / f"sts/dicom/STS_{n:03d}/PET") for n in (1, 2, 3)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.dcm")}


def expected(bucket: Bucket, rows: list[ManifestRow]) -> dict[str, bytes]:
    places = {row.url.split("/")[3]: f"{row.collection}/{row.study_uid}/{row.series_uid}" for row in rows}
    whole = {tuple(key.split("/")): content for key, content in bucket.objects.items()}
    return {f"{places[folder]}/{name}": content for (folder, name), content in whole.items() if folder in places}


def test_what_arrives_is_what_the_server_holds_and_can_be_read(
    bucket: Bucket, rows: list[ManifestRow], tmp_path: Path
) -> None:
    done = fetch(rows, tmp_path, endpoint=bucket.address)
    assert (done.series, done.fetched, done.reused, done.failed) == (3, 3, 0, ())
    assert contents(tmp_path) == expected(bucket, rows)
    assert inspect([tmp_path]).usable == 3


def test_a_second_fetch_asks_the_server_for_nothing(bucket: Bucket, rows: list[ManifestRow], tmp_path: Path) -> None:
    fetch(rows, tmp_path, endpoint=bucket.address)
    bucket.got.clear()
    again = fetch(rows, tmp_path, endpoint="http://127.0.0.1:9")  # nobody listens there
    assert (again.fetched, again.reused, again.needed_bytes, bucket.got) == (0, 3, 0, [])


def stopped_half_way(bucket: Bucket, rows: list[ManifestRow], out: Path, number: signal.Signals) -> int:
    """Exit status of a run of the command line that gets a signal when the server has sent half of everything."""
    bucket.holds_after = sum(row.instances for row in rows) // 2
    verb = [sys.executable, "-m", "twobe3", "collections", "fetch", str(planned(rows, out.parent)), "--out", str(out)]
    run = subprocess.Popen([*verb, "--endpoint-url", bucket.address], stderr=subprocess.DEVNULL)
    while len(bucket.got) < bucket.holds_after:
        time.sleep(0.01)
        assert run.poll() is None
    run.send_signal(number)
    status = run.wait()
    bucket.holds_after = None
    bucket.go_on.set()
    return status


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_a_fetch_stopped_half_way_goes_on_and_fetches_only_what_lacks(
    bucket: Bucket, rows: list[ManifestRow], tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """Acceptance rows 45 and 50."""
    out = tmp_path / "out"
    assert stopped_half_way(bucket, rows, out, number) == status
    time.sleep(0.2)  # what a killed run had asked for still comes
    kept = len(contents(out))
    assert 0 < kept < sum(row.instances for row in rows)
    bucket.got.clear()
    fetch(rows, out, endpoint=bucket.address)
    assert contents(out) == expected(bucket, rows)
    assert len(bucket.got) <= sum(row.instances for row in rows) - kept


def test_an_object_altered_on_its_way_is_fetched_again(bucket: Bucket, rows: list[ManifestRow], tmp_path: Path) -> None:
    bucket.altered = {"uuid-2/0007.dcm": 1}
    assert fetch(rows, tmp_path, endpoint=bucket.address).failed == ()
    assert contents(tmp_path) == expected(bucket, rows)
    assert len(bucket.got) == len(bucket.objects) + 1


def test_a_series_that_stays_corrupt_fails_alone(bucket: Bucket, rows: list[ManifestRow], tmp_path: Path) -> None:
    bucket.altered = {"uuid-2/0007.dcm": 99}
    done = fetch(rows, tmp_path, endpoint=bucket.address)
    assert [(one.series, one.code) for one in done.failed] == [(rows[1].series_uid, "FETCH_FAILED")]
    assert "0007.dcm does not match its checksum" in done.failed[0].reason
    assert done.fetched == 2
    assert inspect([tmp_path / "soft_tissue_sarcoma"]).usable == 2
    bucket.altered, bucket.got = {}, []
    assert fetch(rows, tmp_path, endpoint=bucket.address).fetched == 1
    assert bucket.got == ["uuid-2/0007.dcm"]
    assert contents(tmp_path) == expected(bucket, rows)


def test_a_file_of_another_series_is_no_part_of_this_one(
    bucket: Bucket, rows: list[ManifestRow], tmp_path: Path
) -> None:
    bucket.objects["uuid-1/0000.dcm"], row = bucket.objects["uuid-2/0000.dcm"], rows[0]
    size = sum(len(content) for key, content in bucket.objects.items() if key.startswith("uuid-1/"))
    done = fetch([replace(row, size_bytes=size)], tmp_path, endpoint=bucket.address)
    assert "0000.dcm belongs to another series" in done.failed[0].reason


def test_a_page_in_place_of_an_image_is_noticed(bucket: Bucket, rows: list[ManifestRow], tmp_path: Path) -> None:
    bucket.objects = {"page/0.dcm": b"<html>come back tomorrow</html>" * 9}
    row = replace(rows[0], url=f"s3://{BUCKET}/page/*", instances=1, size_bytes=279)
    assert "is no readable DICOM file" in fetch([row], tmp_path, endpoint=bucket.address).failed[0].reason


@pytest.mark.parametrize("wrong", [{"instances": 3}, {"size_bytes": 12345}])
def test_a_series_of_another_size_than_the_manifest_says_is_not_fetched(
    bucket: Bucket, rows: list[ManifestRow], tmp_path: Path, wrong: dict[str, int]
) -> None:
    done = fetch([replace(rows[0], **wrong), rows[1]], tmp_path, endpoint=bucket.address)
    assert [one.code for one in done.failed] == ["FETCH_FAILED"]
    assert str(next(iter(wrong.values()))) in done.failed[0].reason
    assert not any(key.startswith("uuid-1/") for key in bucket.got)
    assert done.fetched == 1


def test_a_place_that_is_not_there_fails_alone(bucket: Bucket, rows: list[ManifestRow], tmp_path: Path) -> None:
    lost = replace(rows[0], url=f"s3://{BUCKET}/nowhere/*")
    done = fetch([lost, rows[1]], tmp_path, endpoint=bucket.address)
    assert [one.series for one in done.failed] == [lost.series_uid]
    assert done.fetched == 1


def test_without_a_network_it_says_so_and_makes_no_data(rows: list[ManifestRow], tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="NETWORK_MISSING"):
        fetch(rows, tmp_path, endpoint="http://127.0.0.1:9")
    assert contents(tmp_path) == {}


def test_a_server_that_falls_silent_ends_the_fetch(bucket: Bucket, rows: list[ManifestRow], tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("twobe3.collections.s5cmd.PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr("twobe3.collections.s5cmd.SLOWEST_BYTES_PER_SECOND", 1e9)
    bucket.holds_after = 5
    with pytest.raises(EnvironmentFailure, match="NETWORK_MISSING"):
        fetch(rows, tmp_path, endpoint=bucket.address)
    monkeypatch.undo()
    bucket.holds_after = None
    bucket.go_on.set()
    assert fetch(rows, tmp_path, endpoint=bucket.address).failed == ()


def test_too_small_a_disk_is_said_before_anything_is_fetched(
    bucket: Bucket, rows: list[ManifestRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acceptance row 46."""
    needed = sum(row.size_bytes for row in rows)
    usage = shutil.disk_usage(tmp_path)._replace(free=needed - 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(
        EnvironmentFailure, match=f"DISK_SPACE: {needed} bytes are needed and {needed - 1} bytes are free"
    ):
        fetch(rows, tmp_path / "out", endpoint=bucket.address)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_lacks_and_writes_nothing(rows: list[ManifestRow], tmp_path: Path) -> None:
    said = fetch(rows, tmp_path / "out", endpoint="http://127.0.0.1:9", dry_run=True)
    assert (said.series, said.fetched, said.needed_bytes) == (3, 0, sum(row.size_bytes for row in rows))
    assert not (tmp_path / "out").exists()


def test_verifying_finds_a_byte_changed_on_the_disk(bucket: Bucket, rows: list[ManifestRow], tmp_path: Path) -> None:
    fetch(rows, tmp_path, endpoint=bucket.address)
    file = next(iter(sorted((tmp_path / rows[0].collection / rows[0].study_uid / rows[0].series_uid).iterdir())))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    bucket.got.clear()
    assert fetch(rows, tmp_path, endpoint=bucket.address, verify=True).fetched == 1
    assert bucket.got == ["uuid-1/0000.dcm"]
    assert contents(tmp_path) == expected(bucket, rows)


@pytest.mark.parametrize(
    "wrong",
    [
        {"collection": "../../etc"},
        {"series_uid": "../../x"},
        {"collection": ".."},
        {"collection": "LICENSES.md"},
        {"collection": "Citations.MD"},
        {"collection": "fetched.jsonl"},
    ],
)
def test_a_row_that_points_out_of_the_folder_or_at_our_files_is_refused(tmp_path: Path, wrong: dict[str, str]) -> None:
    row = replace(wanted("1.2.3", 1, 1, "s3://bucket/folder/*"), **wrong)
    with pytest.raises(ConfigurationError, match="MANIFEST_INVALID"):
        fetch([row], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("url", ["https://example.org/x", "s3://bucket/*", 's3://bucket/x"; rm -rf /*', "x"])
def test_a_place_that_is_no_folder_of_a_bucket_is_refused(bucket: Bucket, tmp_path: Path, url: str) -> None:
    done = fetch([wanted("1.2.3", 1, 1, url)], tmp_path, endpoint=bucket.address)
    assert [one.code for one in done.failed] == ["FETCH_FAILED"]


def test_a_manifest_edited_by_hand_is_fetched_only_when_that_is_asked_for(
    bucket: Bucket, rows: list[ManifestRow], tmp_path: Path
) -> None:
    edited = planned(rows, tmp_path).with_suffix(".csv")
    edited.write_text("".join(edited.read_text().splitlines(keepends=True)[:2]))
    with pytest.raises(ConfigurationError, match="MANIFEST_EDITED"):
        fetch_collections(edited, tmp_path / "out", endpoint=bucket.address)
    assert fetch_collections(edited, tmp_path / "out", endpoint=bucket.address, allow_edited=True).fetched == 1


def test_licence_and_citation_lie_beside_the_data(bucket: Bucket, rows: list[ManifestRow], tmp_path: Path) -> None:
    fetch(rows, tmp_path / "out", endpoint=bucket.address)
    licences = (tmp_path / "out/LICENSES.md").read_text()
    assert "| soft_tissue_sarcoma | CC BY 3.0 | 3 | https://creativecommons.org/licenses/by/3.0/ |" in licences
    assert "- soft_tissue_sarcoma: Vallières et al., 2015." in (tmp_path / "out/CITATIONS.md").read_text()


def test_the_command_line_says_which_series_failed_and_why(
    bucket: Bucket, rows: list[ManifestRow], tmp_path: Path, twobe3: Call
) -> None:
    bucket.altered = {"uuid-3/0001.dcm": 99}
    options = ["--out", tmp_path / "out", "--endpoint-url", bucket.address, "--json"]
    done = twobe3("collections", "fetch", planned(rows, tmp_path), *options)
    document = done.json()
    assert done.status == 1
    assert (document["series"], document["fetched"]) == (3, 2)
    assert [one["series"] for one in document["failed"]] == [rows[2].series_uid]
    assert "FETCH_FAILED: 1 of 3 series could not be fetched whole" in done.err


def test_a_pet_and_its_ct_are_found_beside_each_other(bucket: Bucket, tmp_path: Path) -> None:
    """From the images of a phantom: fetched as two series of one study, read as one scan with its CT."""
    write_cohort(tmp_path / "there", patients=1, seed=5, spec=PhantomSpec(ct=True))
    scan = tmp_path / "there" / "dicom" / "scan_001"
    rows = [
        replace(bucket.add(f"uuid-{name}", scan / name, slices=1000), modality=modality)
        for name, modality in (("PET", "PT"), ("CT", "CT"))
    ]
    result = fetch(rows, tmp_path / "images", endpoint=bucket.address)
    assert result.fetched == 2
    found = inspect([tmp_path / "images"])
    assert (found.found, found.usable) == (1, 1)
    ct = found.series[0].ct
    assert ct is not None
    assert ct.code is None
    assert ct.registration is not None
    assert ct.registration.dice > 0.8
