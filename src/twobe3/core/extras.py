"""Packages of the optional parts."""

from __future__ import annotations

import importlib
from typing import Any

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure


def import_optional(name: str, use: str, *, extra: str) -> Any:
    """Import a package of an extra; raises EnvironmentFailure ``EXTRA_MISSING``."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        reason = f"{use} needs {name}; {error.name} is not installed"
        raise EnvironmentFailure(Code.EXTRA_MISSING, reason, remedy=f"pip install 'twobe3[{extra}]'") from None
