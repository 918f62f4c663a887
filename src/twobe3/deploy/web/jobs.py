"""The predictions of the page on disk: an upload that was accepted outlives the server.

``incoming/JOB/`` is an upload on its way, and what is there at the start is deleted. Once it is whole its folder is
moved to ``jobs/JOB/``, which is its acceptance: ``input/`` holds the scans until they were predicted, ``work/`` what
the prediction needs meanwhile, ``results/`` what came of it, and ``job.json`` says all of it in words.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.deploy.queue import lock_file
from twobe3.io.files import write_json

State = Literal["waiting", "running", "predicted", "refused"]
JOB_ID = r"[A-Za-z0-9_-]{22}"
_TUPLES = ("predictions", "lacking", "files", "script_hashes")


@dataclass(frozen=True)
class Job:
    """A prediction that was asked for, under pseudonyms.

    Attributes
    ----------
    id : str
        Random: who knows it may see the results, where the server has no token.
    model : str
        Digest of its file.
    received : float
        When, in seconds since 1970.
    n_files : int
    force : bool
    state : {"waiting", "running", "predicted", "refused"}
        On disk it is ``waiting`` until it ended.
    attempts : int
        How often its prediction was started.
    finished : float, optional
    code, reason, remedy : str, optional
        Why nothing was predicted.
    predictions : tuple of dict
        As in the document of ``twobe3 predict --json``, each with its remedy.
    lacking : tuple of dict
        Code and reason of each file that could not be made.
    files : tuple of str
        Those that may be downloaded, by their names in ``results/``.
    script_hashes : tuple of str
        What the content security policy of the page of the results has to allow.
    """

    id: str
    model: str
    received: float
    n_files: int
    force: bool = False
    state: State = "waiting"
    attempts: int = 0
    finished: float | None = None
    code: str | None = None
    reason: str | None = None
    remedy: str | None = None
    predictions: tuple[dict[str, Any], ...] = ()
    lacking: tuple[dict[str, str], ...] = ()
    files: tuple[str, ...] = ()
    script_hashes: tuple[str, ...] = ()

    def update(self, changes: dict[str, Any]) -> Job:
        """The same job with changes as JSON has them."""
        document: dict[str, Any] = {**asdict(self), **changes}
        document.update({name: tuple(document[name]) for name in _TUPLES})
        return Job(**document)


class JobStore:
    """The folder of the page.

    Parameters
    ----------
    folder : Path
        Made where it is not there; for its owner only.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``; ``NODE_RUNNING``: another server works in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._incoming, self._jobs = folder / "incoming", folder / "jobs"
        try:
            for one in (folder, self._incoming, self._jobs):
                one.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = lock_file(folder / "serve.lock")
            for left in self._incoming.iterdir():
                shutil.rmtree(left)
            for left in [path for path in self._jobs.iterdir() if not (path / "job.json").exists()]:
                shutil.rmtree(left)  # its deletion was cut off
        except OSError as error:
            reason = f"the folder {folder.name!r} cannot be written: {error.strerror}"
            raise EnvironmentFailure(Code.WRITE_FAILED, reason) from None

    def close(self) -> None:
        """Let another server have the folder."""
        os.close(self._lock)

    def open_upload(self) -> tuple[str, Path]:
        """A new id, and an empty folder for the files of an upload; raises EnvironmentFailure ``WRITE_FAILED``."""
        job = secrets.token_urlsafe(16)
        folder = self._incoming / job / "input"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise EnvironmentFailure(Code.WRITE_FAILED, f"an upload cannot be kept: {error.strerror}") from None
        return job, folder

    def drop_upload(self, job: str) -> None:
        """Delete an upload that was not accepted."""
        shutil.rmtree(self._incoming / job, ignore_errors=True)

    def accept(self, job: Job) -> None:
        """Take an upload on; from here on it is predicted, whatever becomes of the server.

        Raises EnvironmentFailure ``WRITE_FAILED``.
        """
        write_json(self._incoming / job.id / "job.json", asdict(job))
        try:
            (self._incoming / job.id).rename(self._jobs / job.id)
        except OSError as error:
            raise EnvironmentFailure(Code.WRITE_FAILED, f"an upload cannot be kept: {error.strerror}") from None

    def folder(self, job: str) -> Path:
        """Where a job lies."""
        return self._jobs / job

    def read(self, job: str) -> Job | None:
        """A job; None where there is none, or no longer."""
        if not re.fullmatch(JOB_ID, job):
            return None
        try:
            document: dict[str, Any] = json.loads((self._jobs / job / "job.json").read_bytes())
        except FileNotFoundError:
            return None
        return Job(job, "", 0.0, 0).update(document)

    def read_all(self) -> Iterator[Job]:
        """Every job, the oldest first."""
        found = [self.read(path.name) for path in self._jobs.iterdir()]
        yield from sorted((job for job in found if job is not None), key=lambda job: job.received)

    def write(self, job: Job) -> None:
        """Say what became of a job; raises EnvironmentFailure ``WRITE_FAILED``."""
        write_json(self._jobs / job.id / "job.json", asdict(job))

    def clear(self, job: str) -> None:
        """Delete what was uploaded, and what the prediction needed."""
        for name in ("input", "work"):
            shutil.rmtree(self._jobs / job / name, ignore_errors=True)

    def delete(self, job: str) -> None:
        """Delete a job with all that belongs to it."""
        (self._jobs / job / "job.json").unlink(missing_ok=True)  # first: what is left without it goes at the next start
        shutil.rmtree(self._jobs / job, ignore_errors=True)

    def find_expired(self, keep_s: float) -> list[str]:
        """Jobs that ended longer ago."""
        end = time.time() - keep_s
        return [job.id for job in self.read_all() if job.finished is not None and job.finished < end]
