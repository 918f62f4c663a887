"""Numbers of things, as they are said: ``1 patient``, ``2 patients``."""

from __future__ import annotations


def format_count(n: int, what: str, plural: str = "") -> str:
    """A number and what is counted, in the singular or the plural, which by default ends in ``s``."""
    return f"{n} {what if n == 1 else plural or what + 's'}"
