"""User and password, or a bearer token, for a service on the web: from a file or the environment, and never shown."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.io.secret import read_secret

VARIABLE = "TWOBE3_DICOMWEB_CREDENTIALS"
_TOKEN = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)")  # RFC 6750, section 2.1
_USER = re.compile(r"[^:\x00-\x1f\x7f]+:[^\x00-\x1f\x7f]*")  # RFC 7617, section 2


@dataclass(frozen=True)
class Credentials:
    """What proves to a service who asks.

    Parameters
    ----------
    text : str
        ``user:password`` or ``Bearer TOKEN``; empty for none.

    Raises
    ------
    ConfigurationError
        ``CREDENTIALS_INVALID``: it is neither.
    """

    text: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.text and not _TOKEN.fullmatch(self.text) and not _USER.fullmatch(self.text):
            raise ConfigurationError(Code.CREDENTIALS_INVALID, "neither user:password nor Bearer TOKEN")

    def __bool__(self) -> bool:
        return bool(self.text)

    def sign(self, request: Any) -> Any:
        """Add them to a request of the package requests: basic authentication in UTF-8, or the token."""
        token = _TOKEN.fullmatch(self.text)
        if token is not None:
            request.headers["Authorization"] = f"Bearer {token[1]}"
        elif self.text:
            request.headers["Authorization"] = f"Basic {base64.b64encode(self.text.encode()).decode()}"
        return request


def read_credentials(file: Path | None = None) -> Credentials:
    """Read credentials out of a file that nobody else may read, or else of ``TWOBE3_DICOMWEB_CREDENTIALS``.

    Raises
    ------
    ConfigurationError
        ``CREDENTIALS_INVALID``: the file cannot be read, others may read it, or it holds something else.
    """
    if file is None:
        return Credentials(os.environ.get(VARIABLE, "").strip())
    return Credentials(read_secret(file, Code.CREDENTIALS_INVALID))
