"""Rounds through an Orthanc that has a network of its own: run in a network namespace, it says what happened as JSON.

``python orthanc_round.py MODEL FOLDER``: the folder holds series of the names below, and gets what is fetched.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

import twobe3 as tb

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD, WEB_PORT, DICOM_PORT, NODE_PORT = "alice", "open sesame", 8042, 4242, 11112
ROOT = f"http://127.0.0.1:{WEB_PORT}"
FULL_BYTES = 128 * 1024


@contextmanager
def orthanc(folder: Path) -> Iterator[None]:
    """An archive, which sends to the node by the name NODE."""
    folder.mkdir()
    settings = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "HttpPort": WEB_PORT, "DicomPort": DICOM_PORT,
        "DicomAet": "ORTHANC", "AuthenticationEnabled": True, "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(PLUGIN)], "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}, "DicomAlwaysAllowStore": True,
        "DicomModalities": {"NODE": ["TWOBE3", "127.0.0.1", NODE_PORT]},
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            ["Orthanc", folder / "settings.json"], stdout=log, stderr=log, env={"PATH": "/usr/bin:/usr/sbin"}
        ) as server,
    ):
        try:
            wait_for_archive(server)
            yield
        finally:
            server.kill()  # it is this test's alone, and takes 3 s to end by itself


def wait_for_archive(server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < end:
        try:
            requests.get(ROOT, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("Orthanc does not start")


def send(files: Sequence[Path], port: int, aet: str) -> list[int]:
    """C-STORE, each file in the transfer syntax that it has."""
    entity, datasets = AE("SENDER"), [pydicom.dcmread(file) for file in files]
    for sop_class in {one.SOPClassUID for one in datasets}:
        entity.add_requested_context(sop_class, ExplicitVRLittleEndian)
        entity.add_requested_context(sop_class, ImplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", port, ae_title=aet, evt_handlers=[(evt.EVT_CONN_OPEN, send_at_once)])
    try:
        return [int(association.send_c_store(one).Status) for one in datasets]
    finally:
        association.release()


def send_at_once(event: evt.Event) -> None:
    """Switch off Nagle's algorithm, which makes pynetdicom wait 40 ms in every object."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def study_of(folder: Path) -> str:
    return str(pydicom.dcmread(next(folder.iterdir()), stop_before_pixels=True).StudyInstanceUID)


def find(study: str) -> dict[str, list[str]]:
    """Modality to SOPInstanceUIDs, as another client finds them by QIDO-RS."""
    session = requests.Session()
    session.auth = (USER, PASSWORD)
    client = DICOMwebClient(f"{ROOT}/dicom-web", session=session)
    found: dict[str, list[str]] = {}
    for row in client.search_for_instances(study):
        found.setdefault(row["00080060"]["Value"][0], []).append(row["00080018"]["Value"][0])
    return found


def refuse(archive: tb.deploy.DicomWeb, study: str, folder: Path) -> str:
    """Code with which a study is refused."""
    try:
        archive.fetch(study, folder)
    except tb.TwoBe3Error as refusal:
        return refusal.code.name
    return ""


def predict(model: Path, archive: tb.deploy.DicomWeb, study: str, folder: Path) -> dict[str, Any]:
    """Predict a study and store the results by STOW-RS: the row, and what is found afterwards."""
    results = tb.deploy.ResultFiles(folder, folder, folder)
    (row,) = tb.deploy.predict_studies(model, archive, [study], each=results).predictions
    archive.store(results.written)
    written = [str(pydicom.dcmread(file).SOPInstanceUID) for file in results.written]
    return {"row": row.to_json(), "written": written, "found": find(study)}


def pass_to_node(model: Path, folder: Path, study: str, archive: Any) -> dict[str, Any]:
    """Let the archive send a study to a node, twice: the lines of its log, and what is found afterwards."""
    with tb.deploy.Node(model, folder, port=NODE_PORT, quiet_s=0, archive=archive) as node:
        jobs = []
        for _ in range(2):
            identifier = requests.post(f"{ROOT}/tools/lookup", study, auth=(USER, PASSWORD), timeout=60).json()[0]["ID"]
            job = requests.post(f"{ROOT}/modalities/NODE/store", identifier, auth=(USER, PASSWORD), timeout=60)
            jobs.append({"status": job.status_code, **job.json()})
            node.work()
    lines = [json.loads(line) for line in (folder / "node.jsonl").read_text().splitlines()]
    written = [str(pydicom.dcmread(folder / name).SOPInstanceUID) for line in lines for name in line.get("files", ())]
    return {"jobs": jobs, "lines": lines, "written": written, "found": find(study)}


def fill_disk(model: Path, folder: Path, files: Sequence[Path]) -> dict[str, Any]:
    """A node on a disk of its own that is full, and then is not."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={FULL_BYTES}", "tmpfs", folder], check=True)
    with tb.deploy.Node(model, folder, port=NODE_PORT, quiet_s=0) as node:
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as stream:
            try:
                while stream.write(bytes(1024)):
                    pass
            except OSError:
                pass
        full = send(files, NODE_PORT, "TWOBE3")
        kept = sorted(path.name for path in (folder / "inbox").rglob("*") if path.is_file())
        filler.unlink()
        again = send(files, NODE_PORT, "TWOBE3")
        node.work()
    return {"full": full, "kept": kept, "again": again, "lines": (folder / "node.jsonl").read_text().splitlines()}


def main(model: Path, folder: Path) -> dict[str, Any]:
    said: dict[str, Any] = {}
    archive = tb.deploy.DicomWeb(f"{ROOT}/dicom-web", tb.deploy.Credentials(f"{USER}:{PASSWORD}"))
    names = ("whole body", "philips", "large dose", "ct")
    files = {name: sorted((folder / name).iterdir()) for name in names}
    study = {name: study_of(folder / name) for name in names}
    with orthanc(folder / "archive"):
        said["sent"] = [status for name in names for status in send(files[name], DICOM_PORT, "ORTHANC")]
        said["sent again"] = send(files["whole body"], DICOM_PORT, "ORTHANC")
        for name in names[:3]:
            archive.fetch(study[name], folder / "fetched" / name)
        wrong = tb.deploy.DicomWeb(archive.url, tb.deploy.Credentials(f"{USER}:guess"))
        said["refused"] = [
            refuse(server, uid, folder / "refused")
            for server, uid in ((archive, study["ct"]), (archive, "1.2.3"), (wrong, study["ct"]))
        ]
        said["first"] = predict(model, archive, study["whole body"], folder / "first")
        said["second"] = predict(model, archive, study["whole body"], folder / "second")
        local = tb.deploy.Archive("ORTHANC", "127.0.0.1", DICOM_PORT)
        said["by C-STORE"] = pass_to_node(model, folder / "node", study["whole body"], local)
        said["by STOW"] = pass_to_node(model, folder / "web node", study["whole body"], archive)
    said["disk"] = fill_disk(model, folder / "disk", files["whole body"])
    return said


if __name__ == "__main__":
    print(json.dumps(main(*map(Path, sys.argv[1:]))))
