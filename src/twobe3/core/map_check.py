"""What a sanity check of an explanation gives."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MapCheck:
    """One sanity check of a map.

    ``value`` is None where it could not be made, and ``threshold`` and ``passed`` where it decides nothing.
    """

    name: str
    value: float | None
    threshold: float | None = None
    passed: bool | None = None
