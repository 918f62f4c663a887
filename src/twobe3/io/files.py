"""Files that are whole or absent: atomic writes, digests, and what every artefact says of its making."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import re
import secrets
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from twobe3 import __version__
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure

SCHEMA_VERSION = 1
PARTIAL = re.compile(r"\.partial-(?P<system>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{16}")
DAMAGED = ".damaged"  # ending of a file that was set aside
WINDOWS = sys.platform == "win32"
PARTIAL_AGE_S = 86_400.0  # without a change, after which nobody writes a file any more
log = logging.getLogger("twobe3")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, whatever happens in between.

    A temporary file in the target folder, fsync, ``os.replace``, fsync of the folder.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``: the disk is full, or the folder cannot be written; the old file is intact.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not tempfile, whose files only their owner may read: results are shared like any other file.
        partial = path.with_name(f".partial-{_system()}-{os.getpid()}-{secrets.token_hex(8)}")
        try:
            with partial.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise EnvironmentFailure(Code.WRITE_FAILED, f"{path.name} could not be written: {error.strerror}") from error


def remove_partials(folder: Path) -> None:
    """Remove what writers that were killed left at any depth of a folder, and nothing that is being written.

    Whether a process runs is known of those of this system alone; what others left is removed when nobody has written
    to it for :data:`PARTIAL_AGE_S`, and so is that of a process whose number another one has got since.
    """
    for partial in folder.rglob(".partial-*"):
        with suppress(OSError):  # it is whole by now, or gone, or another user's
            found = PARTIAL.fullmatch(partial.name)
            dead = found is not None and found["system"] == _system() and not _is_running(int(found["process"]))
            if dead or time.time() - partial.stat().st_mtime > PARTIAL_AGE_S:
                partial.unlink()


def remove(path: Path) -> None:
    """Remove a file, if there is one.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise EnvironmentFailure(Code.WRITE_FAILED, f"{path.name} could not be removed: {error.strerror}") from error


def set_aside(path: Path) -> None:
    """Rename a damaged file, which is made again, to the ending ``.damaged``, with a warning."""
    log.warning("ARTEFACT_DAMAGED: %s is damaged; set aside, made again", path.name)
    with suppress(FileNotFoundError):  # another run set it aside
        path.replace(path.with_suffix(DAMAGED))


def require_folder(path: Path) -> None:
    """Refuse an output folder that is none or cannot be written, before anything is computed for it; nothing is made.

    Raises
    ------
    ConfigurationError
        ``OUTPUT_EXISTS``: the path, or one above it, is a file.
    EnvironmentFailure
        ``WRITE_FAILED``: nothing can be written there.
    """
    there = next(one for one in (path, *path.absolute().parents) if one.exists() or one.is_symlink())
    if not there.is_dir():
        reason = f"{there.name!r} is {'a file' if there.exists() else 'a link to nothing'}, and a folder is needed"
        raise ConfigurationError(Code.OUTPUT_EXISTS, reason, remedy="choose another folder")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = f"the output folder {path.name!r} cannot be written: {error.strerror}"
        raise EnvironmentFailure(Code.WRITE_FAILED, reason) from None


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON document atomically, keys in the order given; NaN is an error."""
    write_atomic(path, (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_artefact(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON artefact: the document, and before it the schema and the version of the package."""
    write_json(path, {"schema": SCHEMA_VERSION, "package_version": __version__, **document})


def digest(parts: Iterable[bytes | str]) -> str:
    """SHA-256 of the parts, each preceded by its length so that no two lists of parts share a digest."""
    state = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        state.update(len(raw).to_bytes(8, "big"))
        state.update(raw)
    return state.hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def _system() -> str:
    """Stands for those processes that one sees by their numbers: of a machine, or of a container on it."""
    known = [platform.node().encode()]
    with suppress(OSError):
        known.append(Path("/etc/machine-id").read_bytes())
    with suppress(OSError):
        known.append(bytes(Path("/proc/self/ns/pid").readlink()))
    return digest(known)[:8]


def _is_running(process: int) -> bool:
    if WINDOWS:  # where os.kill ends a process whatever the signal; age decides there
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; no number of a process
        pass
    return True


def _sync_folder(folder: Path) -> None:
    if WINDOWS:  # which opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
