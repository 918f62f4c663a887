"""A clinical table in memory: patient id to row, row to text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.nearest import find_nearest

Table = Mapping[str, Mapping[str, str]]

MISSING = frozenset({"", "na", "n/a", "nan", "none", "null", "?", "-"})


def require_columns(table: Table, columns: Iterable[str]) -> None:
    """Refuse a table that lacks a column.

    Raises ConfigurationError ``COLUMN_MISSING``, naming the columns that are there, and the nearest.
    """
    there = list(next(iter(table.values()), {}))
    for column in columns:
        if column not in there:
            near = find_nearest(column, there)
            hint = f"; the nearest is {near!r}" if near else ""
            reason = f"the clinical table has no column {column!r}; it has {', '.join(there)}{hint}"
            raise ConfigurationError(Code.COLUMN_MISSING, reason)


def parse_number(value: object) -> float | None:
    """The finite number that a value or a text is; None where it is none."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def is_missing(text: str | None) -> bool:
    """Whether a cell of a table stands for "not known"."""
    return text is None or text.strip().lower() in MISSING
