"""Passwords and tokens in files that nobody else may read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError

MOST_BYTES = 2**14


def read_secret(path: Path, code: Code) -> str:
    """The text in a file, without what is blank around it.

    Raises
    ------
    ConfigurationError
        Under the code given: the file cannot be read, others than its owner may read it, or it is empty or no text.
    """
    try:
        with path.open("rb") as stream:
            if stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & 0o077:
                reason = f"others than its owner may read {path.name}"
                raise ConfigurationError(code, reason, remedy=f"chmod 600 {path.name}")
            text = stream.read(MOST_BYTES).decode().strip()
    except UnicodeDecodeError:
        raise ConfigurationError(code, f"{path.name} is no text") from None
    except OSError as error:
        raise ConfigurationError(code, f"{path.name}: {error.strerror}") from None
    if not text:
        raise ConfigurationError(code, f"{path.name} is empty")
    return text
