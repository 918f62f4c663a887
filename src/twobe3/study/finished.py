"""Whether a study is finished: what it was made from, and what it made, are as they were. Needs no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path

from twobe3 import __version__
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.io.cache import CACHE_VERSION
from twobe3.io.checksums import FINISHED, digest_outputs
from twobe3.io.files import digest, digest_file, write_artefact, write_atomic
from twobe3.io.pseudonym import pseudonym

TABLE = "results.txt"


@dataclass(frozen=True)
class Options:
    """What the command line adds to a study file, as far as results depend on it."""

    audit: bool = False
    device: str | None = None
    precision: str | None = None


def digest_inputs(study_file: Path, out: Path, named: Sequence[str], options: Options) -> str:
    """Digest of all that the results of a study depend on.

    Study file, options, version and pseudonym key count by their content; files, and the files of folders, by name,
    size, and times of change to the nanosecond, as version control does it, so that 750,000 slices take seconds.

    Parameters
    ----------
    study_file, out : Path
        The study file and its output folder, whose files are none of the inputs.
    named : sequence of str
        Files and folders that the study file names, relative to its folder.
    options : Options

    Raises
    ------
    ConfigurationError
        One of them does not exist.
    OSError
        The study file cannot be read.
    """
    parts = [
        __version__,
        str(CACHE_VERSION),
        pseudonym("study", ""),
        digest_file(study_file),
        json.dumps(asdict(options)),
    ]
    for name in named:
        root = (study_file.parent / name).resolve()
        if not root.exists():
            raise ConfigurationError(Code.NO_PET, f"{name!r} does not exist", remedy="check the path")
        parts += [name, digest(_walk_states(str(root), str(out.resolve())))]
    return digest(parts)


def _walk_states(root: str, without: str) -> Iterator[bytes]:
    """Name, size and times of change of what is at or below a path, but in one folder, in an order of its own.

    Links are followed wherever they lead, and each folder is entered once, so that links in a circle end. Text and no
    :class:`~pathlib.Path`: of 2,800 whole bodies there are 750,000 files.
    """
    waiting, entered = [("", root)], set[str]()
    while waiting:
        prefix, folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=attrgetter("name"))
        except NotADirectoryError:
            yield _state(prefix, Path(folder))
            continue
        except OSError as error:  # it vanished, or nobody may read it
            yield os.fsencode(f"{prefix}{type(error).__name__}")
            continue
        for entry in found:
            name = f"{prefix}{entry.name}"
            if not _is_folder(entry):
                yield _state(name, entry)
            elif (real := os.path.realpath(entry.path)) not in entered and real != without:
                entered.add(real)
                waiting.append((f"{name}/", entry.path))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _state(name: str, file: os.DirEntry[str] | Path) -> bytes:
    try:
        state = file.stat()
    except OSError as error:  # a link to nothing, or it vanished since it was listed
        return os.fsencode(f"{name} {type(error).__name__}")
    return os.fsencode(f"{name} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}")


def write_finished(out: Path, named: Sequence[str], inputs: str, table: str) -> None:
    """Write the table of results, and last of all the mark of a finished study.

    Parameters
    ----------
    out : Path
        The output folder, where everything else is written.
    named, inputs
        What :func:`digest_inputs` was given and gave before the study was run.
    table : str
        For :data:`TABLE`.
    """
    write_atomic(out / TABLE, f"{table}\n".encode())
    write_artefact(out / FINISHED, {"inputs": list(named), "inputs_digest": inputs, "outputs": digest_outputs(out)})


def read_finished(study_file: Path, out: Path, options: Options) -> str | None:
    """The table of results of a finished study; None where anything is missing, or another than when it finished."""
    try:
        mark = json.loads((out / FINISHED).read_bytes())
        if mark["outputs"] != digest_outputs(out):
            return None
        same = mark["inputs_digest"] == digest_inputs(study_file, out, mark["inputs"], options)
        return (out / TABLE).read_text(encoding="utf-8").removesuffix("\n") if same else None
    except (OSError, ValueError, LookupError, TypeError, ConfigurationError):
        return None
