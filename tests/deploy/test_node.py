"""A DICOM node against pynetdicom and dcmtk: what it keeps, predicts, sends, and does after it was killed."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, PositronEmissionTomographyImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import Comprehensive3DSRStorage, ParametricMapStorage, SegmentationStorage, Verification
from tests.command_line import Call
from tests.conftest import TinyCohort

import twobe3 as tb
from twobe3.core.errors import EnvironmentFailure
from twobe3.deploy import node as module

IDENTITY = re.compile("NEW-PATIENT|Doe|Jane|2020")
BOUND_S = 240  # generous: nothing is measured by it


def read_folder(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]


@contextmanager
def associate(port: int, **options: Any) -> Iterator[Any]:
    entity = AE("SENDER")
    entity.add_requested_context(Verification)
    for sop_class in (PositronEmissionTomographyImageStorage, CTImageStorage, Comprehensive3DSRStorage):
        entity.add_requested_context(sop_class, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title="TWOBE3", **options)
    try:
        yield association
    finally:
        association.release()


def store(port: int, *objects: pydicom.Dataset) -> list[int]:
    with associate(port) as association:
        return [int(association.send_c_store(one).Status) for one in objects]


@contextmanager
def archive(port: int = 0, status: int = 0) -> Iterator[tuple[int, list[pydicom.Dataset]]]:
    """An archive, its port, and what it has received."""
    received: list[pydicom.Dataset] = []

    def keep(event: evt.Event) -> int:
        received.append(event.dataset)
        received[-1].file_meta = event.file_meta
        return status

    entity = AE("ARCHIVE")
    for sop_class in (Comprehensive3DSRStorage, SegmentationStorage, ParametricMapStorage):
        entity.add_supported_context(sop_class)
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    assert server is not None
    try:
        yield server.socket.getsockname()[1], received
    finally:
        entity.shutdown()


def log_lines(folder: Path) -> list[dict[str, Any]]:
    log = folder / "node.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + BOUND_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def objects_of(folder: Path) -> list[Path]:
    return sorted((folder / "inbox").rglob("*.dcm"))


def test_a_study_becomes_results_in_the_archive(
    model: Path, scan: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, slices = tmp_path / "node", read_folder(scan)
    with (
        archive() as (port, received),
        tb.deploy.Node(model, out, port=0, quiet_s=0, archive=tb.deploy.Archive("ARCHIVE", "127.0.0.1", port)) as node,
    ):
        with associate(node.port) as association:
            assert association.send_c_echo().Status == 0
        assert store(node.port, *slices) == [0] * len(slices)
        node.work()
        said, sent = log_lines(out)
        assert store(node.port, *slices) == [0] * len(slices)  # the same again: nothing to do
        node.work()
        assert store(node.port, *(one for one in received if one.Modality == "SR")) == [0xB006]
        node.work()
        assert log_lines(out) == [said, sent]
        slices[0].PixelData = bytes(len(slices[0].PixelData))
        assert store(node.port, slices[0]) == [0]  # corrected
        node.work()
    assert (said["state"], sent["state"]) == ("predicted", "sent")
    (row,) = said["predictions"]
    assert row["risk"] == pytest.approx(tb.predict(model, [scan]).predictions[0].risk)
    corrected = log_lines(out)[2:]
    assert [line["state"] for line in corrected] == ["predicted", "sent"]
    assert corrected[0]["digest"] != said["digest"]
    assert [one.Modality for one in received].count("SR") == 2
    assert (
        len({one.SOPInstanceUID for one in received})
        == len(received)
        == len(said["files"]) + len(corrected[0]["files"])
    )
    assert {one.StudyInstanceUID for one in received} == {slices[0].StudyInstanceUID}
    for name in said["files"]:
        assert pydicom.dcmread(out / name).PatientID == "NEW-PATIENT"
    assert not IDENTITY.search((out / "node.jsonl").read_text() + caplog.text)
    assert not any(IDENTITY.search(str(path.relative_to(out))) for path in out.rglob("*"))


def test_what_is_not_whole_is_neither_kept_nor_answered_with_success(
    model: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, (whole, other, third, *_) = tmp_path / "node", read_folder(scan)
    cut = whole.PixelData[: len(whole.PixelData) // 2]
    with tb.deploy.Node(model, out, port=0, quiet_s=3600) as node:
        whole.PixelData = cut
        assert store(node.port, whole) == [0xC000]
        del whole.PixelData
        assert store(node.port, whole) == [0xC000]
        del other.StudyInstanceUID
        assert store(node.port, other) == [0xC000]
        assert objects_of(out) == []
        monkeypatch.setattr("twobe3.deploy.queue.write_atomic", fail)
        assert store(node.port, third) == [0xA700]
        monkeypatch.undo()
        monkeypatch.setattr(module, "LARGEST_OBJECT_BYTES", 20_000)
        large = copy.deepcopy(third)
        large.add_new((0x0009, 0x1001), "OB", bytes(30_000))
        with associate(node.port) as association:
            assert "Status" not in association.send_c_store(large)
        monkeypatch.undo()
        assert objects_of(out) == []
        assert store(node.port, third) == [0]
        monkeypatch.setattr("twobe3.deploy.queue.MOST_FILES", 1)
        other.StudyInstanceUID = third.StudyInstanceUID
        assert store(node.port, other) == [0xA700]
        assert len(objects_of(out)) == 1


def fail(path: Path, content: bytes) -> None:
    raise EnvironmentFailure(tb.core.Code.WRITE_FAILED, "the disk is full")


def test_a_study_without_pet_is_a_line_and_the_node_goes_on(
    model: Path, scan: Path, tmp_path: Path, tiny_cohort: TinyCohort
) -> None:
    out, pet = tmp_path / "node", read_folder(scan)
    other = read_folder(tiny_cohort.scan("OTHER", Modality="CT", SOPClassUID=CTImageStorage))
    for one in other:
        one.file_meta.MediaStorageSOPClassUID = CTImageStorage
    with tb.deploy.Node(model, out, port=0, quiet_s=0) as node:
        with ThreadPoolExecutor(2) as pool:  # two associations at once
            answers = list(pool.map(lambda objects: store(node.port, *objects), (other, pet)))
        assert answers == [[0] * len(other), [0] * len(pet)]
        node.work()
    lines = log_lines(out)
    assert {(line["state"], line["code"]) for line in lines} == {("refused", "NO_PET"), ("predicted", None)}
    (out / "node.jsonl").unlink()  # as if the node had been killed before it said anything
    with tb.deploy.Node(model, out, port=0, quiet_s=0) as node:
        node.work()
    assert sorted(map(str, log_lines(out))) == sorted(map(str, lines))


def test_an_archive_that_is_down(model: Path, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "node"
    with archive(status=0xA700) as (port, received):
        where = tb.deploy.Archive("ARCHIVE", "127.0.0.1", port)
        with tb.deploy.Node(model, out, port=0, quiet_s=0, retry_s=0, archive=where) as node:
            store(node.port, *read_folder(scan))
            for _ in range(module.MOST_SENDINGS + 2):
                node.work()
    assert len(received) == module.MOST_SENDINGS
    said, unsent = log_lines(out)
    assert (unsent["state"], unsent["code"]) == ("unsent", "SEND_FAILED")
    assert all((out / name).is_file() for name in said["files"])
    with archive(port) as (_, received), tb.deploy.Node(model, out, port=0, quiet_s=0, archive=where) as node:
        node.work()
        assert len(received) == len(said["files"])
    assert [line["state"] for line in log_lines(out)] == ["predicted", "unsent", "sent"]


def test_results_that_somebody_deleted_do_not_end_the_node(model: Path, scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "node"
    with archive() as (port, received):
        where = tb.deploy.Archive("ARCHIVE", "127.0.0.1", port)
        with tb.deploy.Node(model, out, port=0, quiet_s=0) as node:
            store(node.port, *read_folder(scan))
            node.work()
        shutil.rmtree(out / "results")
        with tb.deploy.Node(model, out, port=0, quiet_s=0, retry_s=0, archive=where) as node:
            for _ in range(module.MOST_SENDINGS):
                node.work()
    assert [(line["state"], line["code"]) for line in log_lines(out)] == [
        ("predicted", None),
        ("unsent", "SEND_FAILED"),
    ]
    assert received == []


@contextmanager
def process(model: Path, out: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command, and the port at which it listens."""
    command = [sys.executable, "-m", "twobe3", "node", str(model), "--out", str(out), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as started:
        assert started.stderr is not None
        try:
            line = next(line for line in started.stderr if line.startswith("listens"))
            yield started, int(line.split()[-1])
        finally:
            started.kill()


def test_what_was_received_outlives_the_process(
    model: Path, scan: Path, tmp_path: Path, tiny_cohort: TinyCohort
) -> None:
    out, slices, others = tmp_path / "node", read_folder(scan), read_folder(tiny_cohort.scan("OTHER", suv=4.0))
    with process(model, out, "--quiet-seconds", "3600") as (killed, port):
        assert store(port, *slices, *others) == [0] * (len(slices) + len(others))
        killed.kill()
        assert killed.wait() == -signal.SIGKILL
    assert log_lines(out) == []
    with process(model, out, "--quiet-seconds", "0") as (ended, port):
        wait_until(lambda: len(log_lines(out)) > 1)
        assert store(port, *slices) == [0] * len(slices)
        ended.send_signal(signal.SIGTERM)
        assert ended.wait() == 143
    with tb.deploy.Node(model, out, port=0, quiet_s=0) as node:
        node.work()
    assert [line["state"] for line in log_lines(out)] == ["predicted", "predicted"]
    assert len({line["study"] for line in log_lines(out)}) == 2


def test_a_study_that_ends_the_node_is_given_up(
    model: Path, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(*arguments: object, **options: object) -> None:
        raise GeneratorExit  # as good as the end of the process: nothing takes it for an error

    out = tmp_path / "node"
    with tb.deploy.Node(model, out, port=0, quiet_s=0) as node:
        store(node.port, *read_folder(scan))
        monkeypatch.setattr(module, "predict", end)
        for _ in range(module.MOST_ATTEMPTS):
            with pytest.raises(GeneratorExit):
                node.work()
        node.work()
    (line,) = log_lines(out)
    assert (line["state"], line["code"]) == ("refused", "WORKER_DIED")


def test_only_this_machine_unless_said_otherwise(
    model: Path, tmp_path: Path, twobe3: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "node")
    refused = twobe3("node", model, "--out", out, "--host", "0.0.0.0")
    assert refused.status == 2
    assert refused.refusal().startswith("NODE_EXPOSED")
    assert twobe3("node", model, "--out", out, "--send", "somewhere").status == 2
    monkeypatch.setenv("TWOBE3_DICOMWEB_CREDENTIALS", "user:secret")
    exposed = twobe3("node", model, "--out", out, "--send", "http://10.0.0.1/dicom-web")
    assert exposed.refusal().startswith("CREDENTIALS_EXPOSED")
    with tb.deploy.Node(model, out, port=0, allow=["FRIEND"]) as node:
        with associate(node.port) as association:
            assert association.is_rejected
        again = twobe3("node", model, "--out", out, "--port", "0")
        assert again.refusal().startswith("NODE_RUNNING")
        elsewhere = twobe3("node", model, "--out", f"{out}2", "--port", str(node.port))
        assert elsewhere.refusal().startswith("LISTEN_FAILED")


def test_storescu_of_dcmtk(model: Path, scan: Path, tmp_path: Path) -> None:
    storescu = shutil.which("storescu")
    if storescu is None:
        pytest.skip("storescu of dcmtk is not installed")
    out = tmp_path / "node"
    with tb.deploy.Node(model, out, port=0, quiet_s=0) as node:
        command = [storescu, "-aec", "TWOBE3", "+sd", "127.0.0.1", str(node.port), str(scan)]
        subprocess.run(command, check=True, capture_output=True)
        assert len(objects_of(out)) == len(list(scan.iterdir()))
        node.work()
    assert [line["state"] for line in log_lines(out)] == ["predicted"]
