"""A clinical table in memory: patient id to row, row to text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import ConfigurationError
from twobe3.core.nearest import find_nearest

Table = Mapping[str, Mapping[str, str]]

# Beside the words of people: how R, pandas, SAS, Excel and German Excel write that nothing is known.
MISSING = frozenset({"", "na", "n/a", "nan", "none", "null", "?", "-", "<na>", "nat", ".", "#n/a", "#nv"})
ROWS_NAMED = 5


class NumberedTable(dict[str, dict[str, str]]):
    """The clinical table of a file, which knows where each patient stands in it.

    Attributes
    ----------
    numbers : mapping
        From the patient id to the number of the row in the file, from 1.
    notes : tuple of str
        What should be known of how the file was read, for instance its encoding; no patient id.
    """

    def __init__(
        self, rows: Mapping[str, dict[str, str]], numbers: Mapping[str, int], notes: tuple[str, ...] = ()
    ) -> None:
        super().__init__(rows)
        self.numbers = numbers
        self.notes = notes

    def __repr__(self) -> str:
        return f"NumberedTable({format_count(len(self), 'patient')})"


def number_rows(table: Table) -> Mapping[str, int]:
    """The number of each patient's row: in the file, or of a table that was made in memory its position, from 1."""
    if isinstance(table, NumberedTable):
        return table.numbers
    return {patient: number for number, patient in enumerate(table, start=1)}


def name_rows(rows: Sequence[object], *, what: str = "row", named: int = ROWS_NAMED) -> str:
    """Name the first rows, by what is said of each, and count the others: ``"rows 2, 3, 4, 5, 6 and 4 more"``."""
    more = f" and {len(rows) - named} more" if len(rows) > named else ""
    return f"{what if len(rows) == 1 else f'{what}s'} {', '.join(map(str, rows[:named]))}{more}"


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


def quote_cell(text: str, table: Table) -> str:
    """A cell as a message may quote it: not where it is the id of a patient of the table."""
    return "a patient id" if text.strip() in table else repr(text)
