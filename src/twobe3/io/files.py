"""Files that are whole or absent: atomic writes, digests, and what every artefact says of its making."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twobe3 import __version__
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure

SCHEMA_VERSION = 1


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
        partial = path.with_name(f".partial-{secrets.token_hex(8)}")
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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
