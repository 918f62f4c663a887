"""Pseudonymous ids: a keyed hash whose key stays with the user.

The same patient gets the same id in every run on one machine; without the key file nobody can compute or
revert it, not even by hashing every possible hospital number.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from functools import cache
from multiprocessing import parent_process
from pathlib import Path

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure

KEY_VARIABLE = "TWOBE3_KEY_FILE"
KEY_BYTES = 32
_RESTORE = "restore it from a backup: with another key every patient gets another pseudonym"
log = logging.getLogger("twobe3")
_REMEDY = f"name a file that can be written in the environment variable {KEY_VARIABLE}"


def pseudonym(kind: str, identifier: str) -> str:
    """Pseudonymous id of a ``"patient"``, ``"study"`` or ``"series"``, whose first two letters begin the id.

    For instance ``"pa-3f9a0c52e1b7"``: safe as a file name, 48 bits of HMAC-SHA-256. Any identifier will do.
    """
    message = f"{kind}\0{identifier}".encode("utf-8", "surrogatepass")
    return f"{kind[:2]}-{hmac.new(_key(key_file()), message, hashlib.sha256).hexdigest()[:12]}"


def key_file() -> Path:
    """The user's key file: ``$TWOBE3_KEY_FILE``, else ``~/.config/twobe3/pseudonym.key``."""
    named = os.environ.get(KEY_VARIABLE)
    if named:
        return Path(named)
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "twobe3" / "pseudonym.key"


@cache
def _key(path: Path) -> bytes:
    """Read the key; make it on first use, readable by its owner only."""
    try:
        if not path.exists():
            _make_key(path)
        key, mode = path.read_bytes(), path.stat().st_mode
    except OSError as error:
        reason = f"the pseudonym key {path.name}: {error.strerror}"
        raise EnvironmentFailure(Code.WRITE_FAILED, reason, remedy=_REMEDY) from error
    if len(key) < KEY_BYTES:
        reason = f"the pseudonym key {path.name} has {len(key)} bytes, not {KEY_BYTES}"
        raise EnvironmentFailure(Code.ARTEFACT_DAMAGED, reason, remedy=_RESTORE)
    if mode & (stat.S_IRGRP | stat.S_IROTH) and parent_process() is None:  # workers need not repeat it
        log.warning("KEY_EXPOSED: others may read the pseudonym key %s (%s)", path.name, Code.KEY_EXPOSED.remedy)
    return key


def _make_key(path: Path) -> None:
    """Write the key aside and link it into place, so that of several processes one wins and none sees half a key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".partial-", dir=path.parent) as aside:
        aside.write(secrets.token_bytes(KEY_BYTES))
        aside.flush()
        os.fsync(aside.fileno())
        with suppress(FileExistsError):
            os.link(aside.name, path)
