"""The checksums of a finished study, written last of all: who reads its files notices one that was changed since."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.io.claims import CLAIM
from twobe3.io.files import DAMAGED, digest_file

FINISHED = "finished.json"
STORES = ("features", "folds", "volumes", "contours", "cluster")
"""Folders whose content only saves computing it again, and carries checksums of its own, or tells how that went."""
_DEPTH = 3  # external/explanations/explanations.json is as deep as any file
_REMEDY = (
    "run the study again: `twobe3 run` makes it again from what is stored; a file that you changed on purpose belongs "
    "in another folder"
)


def digest_outputs(out: Path) -> Mapping[str, str]:
    """The digest of every file of a study folder by its path.

    Without the mark itself, what only saves computing, what was set aside as damaged, and claims of other runs.
    """
    files: dict[str, Path] = {}
    for folder, below, names in os.walk(out):
        below[:] = [name for name in below if name not in STORES]  # of which there may be thousands of files
        files |= {(path := Path(folder, name)).relative_to(out).as_posix(): path for name in names}
    return {
        name: digest_file(path)
        for name, path in sorted(files.items())
        if name != FINISHED and path.suffix not in (DAMAGED, CLAIM) and path.is_file()
    }


def read_checksums(folder: Path) -> Mapping[str, str]:
    """What :func:`digest_outputs` gave when a study was finished; nothing where it is not, or was of an early version.

    Raises
    ------
    EnvironmentFailure
        ``ARTEFACT_DAMAGED``: the mark of the finished study cannot be read.
    """
    try:
        return dict(json.loads((folder / FINISHED).read_bytes())["outputs"])
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = f"{FINISHED} cannot be read: {type(error).__name__}"
        raise EnvironmentFailure(Code.ARTEFACT_DAMAGED, reason, remedy=_REMEDY) from None


def require_as_written(path: Path) -> None:
    """Refuse a file of a finished study that is not as the study wrote it; any other file may be what it is.

    Raises
    ------
    ConfigurationError
        ``ARTEFACT_MISSING``: the study wrote it, and it is gone.
    EnvironmentFailure
        ``ARTEFACT_DAMAGED``: it was edited, damaged or exchanged, or the mark of the finished study cannot be read.
    """
    path = path.absolute()
    study = next((folder for folder in path.parents[:_DEPTH] if (folder / FINISHED).is_file()), None)
    if study is None:
        return
    name = path.relative_to(study).as_posix()
    written = read_checksums(study).get(name)
    try:
        if written is None or digest_file(path) == written:
            return
    except (FileNotFoundError, IsADirectoryError):
        reason = f"{name} is not in the study folder any more"
        raise ConfigurationError(Code.ARTEFACT_MISSING, reason, remedy=_REMEDY) from None
    except OSError as error:
        raise EnvironmentFailure(Code.ARTEFACT_DAMAGED, f"{name} cannot be read: {error.strerror}") from None
    reason = f"{name} is not as the study wrote it: its checksum differs"
    raise EnvironmentFailure(Code.ARTEFACT_DAMAGED, reason, remedy=_REMEDY)
