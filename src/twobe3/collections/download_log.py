"""Which series a folder holds whole: one line for each, written when its last byte was checked."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.io.files import digest, digest_file, write_atomic

LOG_FILE = "fetched.jsonl"


@dataclass(frozen=True)
class Entry:
    """A series that arrived whole: its UID, its files and their size, and the digest of their names and contents."""

    series: str
    instances: int
    size_bytes: int
    digest: str

    @classmethod
    def describe(cls, series: str, folder: Path) -> Entry:
        """Describe the DICOM files of a folder."""
        files = sorted(folder.glob("*.dcm"))
        content = digest(part for file in files for part in (file.name, digest_file(file)))
        return cls(series, len(files), sum(file.stat().st_size for file in files), content)

    def matches(self, folder: Path) -> bool:
        """Whether the folder holds as many files of the same size altogether; their contents are not read."""
        sizes = [file.stat().st_size for file in folder.glob("*.dcm")]
        return (len(sizes), sum(sizes)) == (self.instances, self.size_bytes)


@dataclass
class DownloadLog:
    """The series that a folder holds whole.

    A line is appended and synced before the next series counts as fetched; one that was cut off by a crash is
    dropped when the log is opened, and its series is checked again.
    """

    folder: Path
    entries: dict[str, Entry] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        try:
            lines = (self.folder / LOG_FILE).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            with suppress(ValueError, TypeError):
                entry = Entry(**json.loads(line))
                self.entries[entry.series] = entry

    def compact(self) -> None:
        """Write the log without repeated and damaged lines."""
        write_atomic(self.folder / LOG_FILE, "".join(map(_line, self.entries.values())).encode())

    def append(self, entry: Entry) -> None:
        """Append a series.

        Raises
        ------
        EnvironmentFailure
            ``WRITE_FAILED``.
        """
        try:
            with (self.folder / LOG_FILE).open("a") as stream:
                stream.write(_line(entry))
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise EnvironmentFailure(Code.WRITE_FAILED, f"{LOG_FILE} could not be written: {error.strerror}") from error
        self.entries[entry.series] = entry


def _line(entry: Entry) -> str:
    return json.dumps(asdict(entry)) + "\n"
