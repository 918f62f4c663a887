"""The studies of a node on disk: what came, what became of it, and what is still to be done.

Objects lie in ``inbox/STUDY/OBJECT.dcm``, what became of a study in ``queue/STUDY.json``, its results in
``results/STUDY/DIGEST/``. All are written atomically, so that a node that is killed goes on where it was: a study whose
objects have another digest than its record is still to be predicted.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.io.files import digest, digest_file, write_atomic, write_json
from twobe3.io.pseudonym import pseudonym

MOST_FILES = 20_000
"""Objects of one study."""

State = Literal["started", "refused", "predicted", "sent", "unsent"]


@dataclass(frozen=True)
class Record:
    """What became of a study, under pseudonyms.

    Attributes
    ----------
    study : str
        Pseudonym.
    digest : str
        Of its objects.
    state : {"started", "refused", "predicted", "sent", "unsent"}
        ``started`` stays where the node was killed while it predicted.
    attempts : int
        How often its prediction was started.
    code, reason : str, optional
        Why there is no prediction, or why its results were not sent.
    model_digest : str
        Of the file of the model.
    predictions : tuple of dict
        As in the document of ``twobe3 predict --json``.
    files : tuple of str
        Its results, as paths below the folder of the node.
    """

    study: str
    digest: str
    state: State
    attempts: int = 0
    code: str | None = None
    reason: str | None = None
    model_digest: str = ""
    predictions: tuple[dict[str, Any], ...] = ()
    files: tuple[str, ...] = ()

    def line(self) -> str:
        """Its line of the log: predictions once, and later only what has become of them."""
        shown = asdict(self)
        unsaid = ("attempts",) if self.state in ("predicted", "refused") else ("attempts", "predictions", "files")
        said = {name: value for name, value in shown.items() if name not in unsaid}
        return json.dumps(said, ensure_ascii=False, allow_nan=False)


class StudyQueue:
    """The studies of a node.

    Parameters
    ----------
    folder : Path
        Of the node; made where it is not there.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``; ``NODE_RUNNING``: another server works in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._inbox, self._records, self._log = folder / "inbox", folder / "queue", folder / "node.jsonl"
        self._arrived: dict[str, float] = {}  # when, of studies that may have to be predicted
        self._changing = Lock()
        try:
            for one in (folder, self._inbox, self._records, folder / "results"):
                one.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = lock_file(folder / "node.lock")
            for partial in folder.rglob(".partial-*"):
                partial.unlink()
        except OSError as error:
            reason = f"the folder {folder.name!r} cannot be written: {error.strerror}"
            raise EnvironmentFailure(Code.WRITE_FAILED, reason) from None
        for study in self._inbox.iterdir():
            self._arrived[study.name] = time.monotonic()
        self._complete_log()

    def close(self) -> None:
        """Let another node have the folder."""
        os.close(self._lock)

    def store(self, study_uid: str, sop_instance_uid: str, content: bytes) -> str:
        """Keep an object, and give the pseudonym of its study; one that is there already changes nothing.

        Raises
        ------
        EnvironmentFailure
            ``WRITE_FAILED``: also where the study has :data:`MOST_FILES` objects.
        """
        study = pseudonym("study", study_uid)
        path = self._inbox / study / f"{digest([sop_instance_uid])[:32]}.dcm"
        if path.exists():
            if path.read_bytes() == content:
                return study
        elif path.parent.exists() and sum(1 for _ in path.parent.iterdir()) >= MOST_FILES:
            raise EnvironmentFailure(Code.WRITE_FAILED, f"{study} has {MOST_FILES} objects, and may have no more")
        write_atomic(path, content)
        self.postpone(study)
        return study

    def postpone(self, study: str) -> None:
        """Count the time in which nothing came for a study from now."""
        with self._changing:
            self._arrived[study] = time.monotonic()

    def find_quiet(self, quiet_s: float) -> list[tuple[str, float]]:
        """Studies for which nothing came in some seconds, each with when the last object came."""
        now = time.monotonic()
        with self._changing:
            return [(study, arrived) for study, arrived in self._arrived.items() if now - arrived >= quiet_s]

    def is_settled(self, study: str, arrived: float) -> bool:
        """Whether no object of a study came since."""
        with self._changing:
            return self._arrived[study] == arrived

    def settle(self, study: str, arrived: float) -> None:
        """Take a study off the queue, unless an object came since."""
        with self._changing:
            if self._arrived[study] == arrived:
                del self._arrived[study]

    def list_objects(self, study: str) -> list[Path]:
        """The objects of a study."""
        return sorted((self._inbox / study).glob("*.dcm"))

    def digest_objects(self, study: str) -> str:
        """SHA-256 over the objects of a study."""
        return digest(part for path in self.list_objects(study) for part in (path.name, digest_file(path)))

    def make_results_folder(self, study: str, digest_of_objects: str) -> Path:
        """An empty folder for the results of a study in its present state."""
        folder = self.folder / "results" / study / digest_of_objects[:16]
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise EnvironmentFailure(Code.WRITE_FAILED, f"results of {study}: {error.strerror}") from None
        return folder

    def read(self, study: str) -> Record | None:
        """What became of a study; None where nothing has yet."""
        try:
            document: dict[str, Any] = json.loads((self._records / f"{study}.json").read_bytes())
        except FileNotFoundError:
            return None
        document.update({name: tuple(document[name]) for name in ("predictions", "files")})
        return Record(**document)

    def read_all(self) -> Iterator[Record]:
        """What became of every study."""
        for path in sorted(self._records.glob("*.json")):
            record = self.read(path.stem)
            if record is not None:
                yield record

    def write(self, record: Record) -> None:
        """Keep what became of a study, and say it in the log.

        Raises EnvironmentFailure ``WRITE_FAILED``.
        """
        write_json(self._records / f"{record.study}.json", asdict(record))
        if record.state != "started":
            self._append(record.line())

    def _complete_log(self) -> None:
        """Say what a node that was killed had no time to say."""
        lines = set(self._log.read_text().splitlines()) if self._log.exists() else set()
        for record in self.read_all():
            if record.state != "started" and record.line() not in lines:
                self._append(record.line())

    def _append(self, line: str) -> None:
        try:
            with self._log.open("ab+") as stream:
                end = stream.seek(0, os.SEEK_END)
                stream.seek(max(end - 1, 0))
                cut = stream.read() not in (b"", b"\n")  # by a power failure
                stream.write(b"\n" * cut + line.encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise EnvironmentFailure(Code.WRITE_FAILED, f"{self._log.name}: {error.strerror}") from None


def lock_file(path: Path) -> int:
    """Lock a file until it is closed, which the end of the process does.

    Raises EnvironmentFailure ``NODE_RUNNING``.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise EnvironmentFailure(Code.NODE_RUNNING, f"another server works in {path.parent.name!r}") from None
    return descriptor
