"""A table as it was saved, text or spreadsheet, as rows of cells."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.io.csv import split_lines
from twobe3.io.spreadsheet import is_spreadsheet, read_sheet

_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*")
_DECIMAL_POINT = re.compile(r"\s*[+-]?\d*\.\d+(?:[eE][+-]?\d+)?\s*")
_THOUSANDS = re.compile(r"\s*[+-]?\d{1,3},\d{3}\s*")
_HEADER_SEARCHED = 30
log = logging.getLogger("twobe3")

Line = tuple[int, Sequence[str]]


@dataclass(frozen=True)
class Row:
    """A line of a table: its number in the file, from 1, and its cells by column, as they stand there."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class Rows:
    """The rows of a table below its header, and what should be known of how they were read."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def read_rows(
    path: Path, code: Code, *, text: Collection[str] = (), key: str = "", sheet: str = "", encoding: str = ""
) -> Rows:
    """Read a table with one header line: text (:func:`~twobe3.io.csv.split_lines`) or a sheet of an Excel workbook.

    Programs that separate by semicolons, and most that separate by tabs, do so where the comma is the decimal
    separator, so there ``0,73`` becomes ``0.73``; between tabs not where all commas of a column could part thousands.
    Lines without any content are skipped; a line that is too short lacks its last cells.

    Parameters
    ----------
    path : Path
        The file; its content decides what it is.
    code : Code
        Of the refusals.
    text : collection of str
        Columns whose commas stay.
    key : str
        A column without which there is no header.
    sheet : str
        Which sheet of a workbook; not needed where only one shows anything.
    encoding : str
        Of text; found out by default.

    Returns
    -------
    Rows
        At least one; all have the same columns. An encoding other than UTF-8 is noted, and logged.

    Raises
    ------
    ConfigurationError
        With ``code``: the file can't be read or is no table, has two columns of one name, its header not in the first
        row, a line with more cells than the header or no line below it, or decimal points and commas in one column.
    """
    notes: tuple[str, ...] = ()
    separator = ""
    lines: Sequence[Line]
    if is_spreadsheet(path):
        lines = read_sheet(path, code, sheet)
    else:
        if sheet:
            raise ConfigurationError(code, f"{path.name} is no Excel workbook, and so has no sheet {sheet!r}")
        table = split_lines(path, code, encoding)
        separator, lines = table.separator, table.lines
        if table.encoding != "UTF-8" and not encoding:
            notes = (f"{path.name} is not in UTF-8: it was read as {table.encoding}",)
    (_, header), *lines = lines
    names = [" ".join(name.split("\n")).strip() for name in header]
    _require_header(path, code, names, lines, key)
    rows = [_make_row(path, code, names, line) for line in lines]
    if separator in (";", "\t"):
        for column in set(names) - {"", *text}:
            _to_decimal_points(path, code, rows, column, separator)
    for note in notes:
        log.warning("%s", note)
    return Rows(tuple(rows), notes)


def _require_header(path: Path, code: Code, names: Sequence[str], lines: Sequence[Line], key: str) -> None:
    if key and key not in names:
        below = [number for number, cells in lines[:_HEADER_SEARCHED] if key in map(str.strip, cells)]
        if below:
            raise ConfigurationError(
                code,
                f"{path.name}: the header with the column {key!r} is in line {below[0]}, not the first of the table",
                remedy="delete what stands above the header",
            )
    for name in filter(None, names):
        if names.count(name) > 1:
            raise ConfigurationError(code, f"{path.name}: two columns are called {name!r}")
    if not lines:
        raise ConfigurationError(code, f"{path.name} has no row below its header")


def _make_row(path: Path, code: Code, names: Sequence[str], line: Line) -> Row:
    number, cells = line
    if any(map(str.strip, cells[len(names) :])):
        raise ConfigurationError(
            code,
            f"{path.name}: line {number} has more cells than the header",
            remedy="quote cells that hold the separator; with decimal commas separate by semicolons",
        )
    return Row(number, dict(zip(names, [*cells, *[""] * len(names)], strict=False)))


def _to_decimal_points(path: Path, code: Code, rows: Sequence[Row], column: str, separator: str) -> None:
    commas = [row for row in rows if _DECIMAL_COMMA.fullmatch(row.cells[column])]
    points = [row for row in rows if _DECIMAL_POINT.fullmatch(row.cells[column])]
    if separator == "\t" and (points or all(_THOUSANDS.fullmatch(row.cells[column]) for row in commas)):
        return
    if commas and points:
        raise ConfigurationError(
            code,
            f"{path.name}: column {column!r} has a decimal comma in line {commas[0].line}"
            f" and a point in line {points[0].line}, so one of them is not what it seems",
            remedy="write all its numbers in one way",
        )
    for row in commas:
        row.cells[column] = row.cells[column].replace(",", ".")
