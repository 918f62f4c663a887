"""What the tests of the page share: a small model, scans full of identity, uploads, and waiting for results."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient
from tests.conftest import TinyCohort

import twobe3 as tb
from twobe3.deploy.web.app import make_app
from twobe3.deploy.web.bounds import Bounds
from twobe3.deploy.web.server import read_models

GRID = tb.Grid(16.0, (192, 160, 160))
BOUND_S = 120  # generous: nothing is measured by it
MARKER = "XYZZY"
IDENTIFYING = (
    "PatientName", "OtherPatientIDs", "PatientAddress", "AccessionNumber", "InstitutionName", "StationName", "StudyID",
    "ReferringPhysicianName", "OperatorsName", "StudyDescription", "SeriesDescription", "PatientComments",
)  # fmt: skip


def fit_small(cohort: TinyCohort, folder: Path) -> Path:
    """A model with a map that is fitted in a second."""
    endpoint = tb.Binary("outcome", "outcome")
    read = tb.read_cohort(cohort.images, clinical=cohort.clinical, endpoint=endpoint, grid=GRID)
    return tb.models.PooledModel().fit(read).save(folder / "m.safetensors")


def write_identified(cohort: TinyCohort, suv: float = 5.5) -> Path:
    """A scan with a marker in every attribute that names somebody."""
    return cohort.scan(f"{MARKER}-1", suv=suv, **dict.fromkeys(IDENTIFYING, MARKER))


def zip_folder(folder: Path) -> bytes:
    """A folder as a zip file, under names that are the patient's."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, f"{MARKER}/scan/{path.name}")
    return content.getvalue()


@contextmanager
def open_client(
    model: Path, folder: Path, *, token: str = "", bounds: Bounds | None = None, workers: int = 1
) -> Iterator[TestClient]:
    """A client of an application of its own, in this process."""
    app = make_app(read_models([model]), folder, token=token, bounds=bounds, workers=workers, device="cpu")
    with TestClient(app, base_url="http://127.0.0.1", follow_redirects=False) as client:
        yield client


def model_id(model: Path) -> str:
    return tb.models.read_card(model)[1]


def upload(client: TestClient, model: Path | str, *files: bytes, name: str = "a.zip", **fields: str) -> Any:
    """The answer to an upload."""
    identifier = model if isinstance(model, str) else model_id(model)
    sent = [("files", (name, content)) for content in files]
    return client.post("/api/jobs", data={"model": identifier, **fields}, files=sent)


def wait_until(true: Callable[[], Any]) -> Any:
    end = time.monotonic() + BOUND_S
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def finish(client: TestClient, job: str) -> dict[str, Any]:
    """What became of a job, when it ended."""

    def look() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(f"/api/jobs/{job}").json()
        return found if found["finished"] else None

    found: dict[str, Any] = wait_until(look)
    return found


def left(folder: Path) -> list[Path]:
    """Files of uploads that are on disk."""
    return [path for path in folder.rglob("*") if path.is_file() and {"input", "work", "incoming"} & set(path.parts)]


@contextmanager
def run_server(
    model: Path, folder: Path, *options: str, token: str = ""
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server in a process of its own, and its address."""
    command = [sys.executable, "-m", "twobe3", "serve", str(model), "--out", str(folder), "--port", "0", *options]
    environment = {**os.environ, "TWOBE3_TOKEN": token}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(r"the page is at (\S+)\n", line)
        assert found, line + process.stderr.read()
        try:
            yield found[1], process
        finally:
            process.terminate()
            process.stderr.read()
            process.wait()
