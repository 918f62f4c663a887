"""The files of a collection as they are published: spreadsheets and delimited text, cell by cell as text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.io.rows import read_rows
from twobe3.io.spreadsheet import is_spreadsheet, read_workbook


@dataclass(frozen=True)
class Record:
    """One row of a published table: its line, from 1, and its cells by column, spelt as by :func:`spelling`."""

    line: int
    cells: dict[str, str]

    def __getitem__(self, column: str) -> str:
        """The cell of a column, empty where the table has no such column."""
        return self.cells.get(spelling(column), "")


@dataclass(frozen=True)
class Sheet:
    """One table: a sheet of a workbook, or a text file, whose sheet name is empty; ``columns`` are as published."""

    file: str
    name: str
    columns: tuple[str, ...]
    records: tuple[Record, ...]

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{self.file}, sheet {self.name!r}" if self.name else self.file

    def lacks(self, columns: Iterable[str]) -> list[str]:
        """Those of the columns that it does not have."""
        there = {spelling(column) for column in self.columns}
        return [column for column in columns if spelling(column) not in there]


def spelling(column: str) -> str:
    """A column's name without what differs between sheets of one collection: case, blanks and punctuation."""
    return "".join(character for character in column.casefold() if character.isalnum())


def read_sheets(files: Sequence[Path]) -> list[Sheet]:
    """Read every table of some files: workbooks of Excel, anything else as delimited text.

    Raises
    ------
    ConfigurationError
        ``TABLE_UNREADABLE``.
    """
    return [sheet for file in files for sheet in _read(Path(file))]


def require_tables(sheets: Sequence[Sheet], columns: Sequence[str], what: str) -> list[Sheet]:
    """The tables that have all the columns that were published.

    Raises
    ------
    ConfigurationError
        ``COLUMN_MISSING``, naming what the nearest table lacks.
    """
    found = [sheet for sheet in sheets if not sheet.lacks(columns)]
    if not found:
        nearest = min(sheets, key=lambda sheet: len(sheet.lacks(columns)))
        lacking = ", ".join(map(repr, nearest.lacks(columns)))
        raise ConfigurationError(
            Code.COLUMN_MISSING,
            f"{what}: no table has its {len(columns)} published columns; {nearest.label} lacks {lacking}",
            remedy="give the files as they were downloaded",
        )
    return found


def days_between(start: str, end: str) -> str:
    """Days from one date to a later one, dates as ISO or as month/day/year.

    Empty where one of them is no date, or the second not later: what came before time zero cannot be predicted.
    """
    first, last = _date(start), _date(end)
    if first is None or last is None or last <= first:
        return ""
    return str((last - first).days)


def whole(text: str) -> int | None:
    """The whole number that a cell holds, ``"7"`` or ``"7.0"``; None where it holds none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _date(text: str) -> date | None:
    for form in ("%Y-%m-%d", "%m/%d/%Y", "%m/%d/%y"):
        try:
            return datetime.strptime(text, form).date()
        except ValueError:
            continue
    return None


def _read(file: Path) -> list[Sheet]:
    if is_spreadsheet(file):
        return [_sheet(file.name, one.name, one.lines) for one in read_workbook(file, Code.TABLE_UNREADABLE)]
    rows = read_rows(file, Code.TABLE_UNREADABLE).rows
    records = (Record(row.line, {spelling(name): cell.strip() for name, cell in row.cells.items()}) for row in rows)
    return [Sheet(file.name, "", tuple(rows[0].cells), tuple(records))]


def _sheet(file: str, name: str, lines: Sequence[tuple[int, Sequence[str]]]) -> Sheet:
    (_, header), *rows = lines
    columns = [spelling(column) for column in header]
    records = (
        Record(number, {column: cell for column, cell in zip(columns, cells, strict=False) if column})
        for number, cells in rows
    )
    return Sheet(file, name, tuple(column for column in header if column), tuple(records))
