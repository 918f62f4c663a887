"""Which of the processes that work side by side this one is."""

from __future__ import annotations

_number = 0


def number() -> int:
    """Counted from 0, which the process that started the others is too."""
    return _number


def set_number(value: int) -> None:
    """Say so, once, when a worker starts."""
    global _number
    _number = value
