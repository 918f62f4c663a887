"""Tables as text: what spreadsheets and statistics programs save."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError

_SEPARATORS = ",;\t"
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+(?:[eE][+-]?\d+)?\s*")
_DECIMAL_POINT = re.compile(r"\s*[+-]?\d*\.\d+(?:[eE][+-]?\d+)?\s*")
# A spreadsheet takes a cell that begins so for a formula. Leading quotes are counted, so that reading is exact.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NEUTRALISED = re.compile(r"'+[=+\-@\t\r]")


@dataclass(frozen=True)
class Row:
    """A line of a table: its number in the file, from 1, and its cells by column, as they stand there.

    The number is that of the last line where a quoted cell goes over several.
    """

    line: int
    cells: dict[str, str]


def read_delimited(path: Path, code: Code, *, text: Collection[str]) -> list[Row]:
    """Read a table with one header line; its separator is the one of ``,``, ``;`` and tab that the header has most of.

    Programs that separate by semicolons do so where the comma is the decimal separator, so there ``0,73`` becomes
    ``0.73``, but not in the columns ``text``. Lines without any content are skipped; a line that is too short lacks its
    last cells.

    Returns
    -------
    list of Row
        At least one; all have the same columns.

    Raises
    ------
    ConfigurationError
        With ``code``: the file can't be read, is no table in UTF-8, has two columns of one name, a line with more cells
        than the header or no line below it, or decimal points and commas in one column.
    """
    separator, (header, *lines) = _split_lines(path, code)
    names = [name.strip() for name in header[1]]
    for name in filter(None, names):
        if names.count(name) > 1:
            raise ConfigurationError(code, f"{path.name}: two columns are called {name!r}")
    if not lines:
        raise ConfigurationError(code, f"{path.name} has no row below its header")
    rows = []
    for line, cells in lines:
        if any(map(str.strip, cells[len(names) :])):
            raise ConfigurationError(
                code,
                f"{path.name}: line {line} has more cells than the header",
                remedy="quote cells that hold the separator; with decimal commas separate by semicolons",
            )
        rows.append(Row(line, dict(zip(names, [*cells, *[""] * len(names)], strict=False))))
    if separator == ";":
        for column in set(names) - {"", *text}:
            _to_decimal_points(path, code, rows, column)
    return rows


def escape_formula(text: str) -> str:
    """Put a quote before a text that a spreadsheet would take for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def to_csv(
    rows: Iterable[Iterable[object]],
    *,
    quote_all: bool = False,
    line_end: str = "\n",
    escape: Callable[[str], str] = escape_formula,
) -> bytes:
    """Write rows as comma-separated text; ``escape`` is applied to every cell that is a text."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator=line_end, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL)
    writer.writerows([escape(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return stream.getvalue().encode()


def unescape_formula(text: str) -> str:
    """A text as it was before :func:`escape_formula`."""
    return text[1:] if _NEUTRALISED.match(text) else text


def _split_lines(path: Path, code: Code) -> tuple[str, list[tuple[int, list[str]]]]:
    """The separator, and the cells of every line with content, with the line's number."""
    try:
        content = path.read_bytes().decode("utf-8-sig")
        separator = max(_SEPARATORS, key=content.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator)
        lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except OSError as error:
        reason = f"{path.name or path} can't be read: {error.strerror}"
        raise ConfigurationError(code, reason, remedy="give the path of a table") from None
    except (UnicodeDecodeError, csv.Error) as error:
        reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
        raise ConfigurationError(
            code, f"{path.name} is not a table in UTF-8: {reason}", remedy="save it as comma-separated text in UTF-8"
        ) from None
    if not lines:
        raise ConfigurationError(code, f"{path.name} is empty", remedy="give a table with a header line")
    return separator, lines


def _to_decimal_points(path: Path, code: Code, rows: list[Row], column: str) -> None:
    commas = [row for row in rows if _DECIMAL_COMMA.fullmatch(row.cells[column])]
    points = [row for row in rows if _DECIMAL_POINT.fullmatch(row.cells[column])]
    if commas and points:
        raise ConfigurationError(
            code,
            f"{path.name}: column {column!r} has a decimal comma in line {commas[0].line}"
            f" and a point in line {points[0].line}, so one of them is not what it seems",
            remedy="write all its numbers in one way",
        )
    for row in commas:
        row.cells[column] = row.cells[column].replace(",", ".")
