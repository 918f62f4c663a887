"""Sheets of Excel workbooks, cell by cell as a text file would have them."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError

# A clinical workbook has some kilobytes; a small file that unpacks to more than this is an attack, or no table.
MAX_UNPACKED_BYTES = 2**26
MAX_COLUMNS = 512
_ZIP, _OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ZEROS = re.compile("0{2,}")


@dataclass(frozen=True)
class Sheet:
    """A sheet that shows anything: its rows with content, by their number, from 1.

    ``empty`` holds row and column, from 1, of cells whose formula was computed and gave an empty text.
    """

    name: str
    hidden: bool
    lines: tuple[tuple[int, list[str]], ...]
    empty: frozenset[tuple[int, int]]


def is_spreadsheet(path: Path) -> bool:
    """Whether a file is a workbook of Excel, by its first bytes."""
    try:
        with path.open("rb") as stream:
            return stream.read(len(_OLE)).startswith((_ZIP, _OLE))
    except OSError:
        return False


def read_sheet(path: Path, code: Code, name: str = "") -> Sequence[tuple[int, list[str]]]:
    """Read one sheet of a workbook that people edit: the one named, or the only one that shows anything.

    Raises
    ------
    ConfigurationError
        With ``code``: :func:`read_workbook`; the sheet is not there, several are and none is named, cells are merged,
        or a formula has no value because no program has computed it.
    """
    sheets = read_workbook(path, code)
    shown = [sheet for sheet in sheets if sheet.name == name] if name else [one for one in sheets if not one.hidden]
    if len(shown) != 1:
        there = ", ".join(repr(sheet.name) for sheet in sheets)
        if name or not shown:
            what = f"no sheet {name!r} with any content" if name else "no sheet that shows anything"
            raise ConfigurationError(code, f"{path.name} has {what}{f'; there is {there}' if there else ''}")
        where = "--predictions-sheet" if code is Code.PREDICTION_INVALID else "`sheet = ...` in [cohort], or --sheet"
        raise ConfigurationError(code, f"{path.name} has several sheets: {there}", remedy=f"name one of them: {where}")
    _require_plain(path, code, shown[0])
    return shown[0].lines


def read_workbook(path: Path, code: Code) -> list[Sheet]:
    """Read every sheet that holds anything; formulas are the values that were last computed.

    A number that is shown with leading zeros has them, whole numbers have no decimal point, and dates are ISO.

    Raises
    ------
    ConfigurationError
        With ``code``: the file can't be read, is an old, a protected or no workbook, or unpacks to too much.
    """
    with _open(path, code, data_only=True, read_only=True) as book:
        sheets = [_read_sheet(sheet) for sheet in book.worksheets]
    return [sheet for sheet in sheets if sheet.lines]


@contextmanager
def _open(path: Path, code: Code, **options: bool) -> Iterator[Any]:
    from openpyxl import load_workbook

    try:
        _require_workbook(path, code)
        with warnings.catch_warnings(), path.open("rb") as stream:  # a stream, since of a name the ending counts
            warnings.simplefilter("ignore")  # of styles and extensions that do not matter here
            with closing(load_workbook(stream, **options)) as book:
                yield book
    except OSError as error:
        raise ConfigurationError(code, f"{path.name} can't be read: {error.strerror}") from None
    except ConfigurationError:
        raise
    except Exception as error:  # openpyxl lets errors of zip, XML and its own descriptors through
        reason = f"{path.name} is no spreadsheet that can be read ({type(error).__name__})"
        raise ConfigurationError(code, reason, remedy="save it as .xlsx or as comma-separated text") from None


def _require_workbook(path: Path, code: Code) -> None:
    with path.open("rb") as stream:
        if stream.read(len(_OLE)) == _OLE:
            raise ConfigurationError(
                code,
                f"{path.name} is a workbook of Excel before 2007, or protected by a password",
                remedy="save it as .xlsx without a password, or as comma-separated text",
            )
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MAX_UNPACKED_BYTES:
        raise ConfigurationError(code, f"{path.name} unpacks to {unpacked} bytes", remedy="check the file")


def _read_sheet(sheet: Any) -> Sheet:
    sheet.reset_dimensions()  # a sheet may claim to reach to the last row and column that there are
    lines, empty = [], set()
    for number, cells in enumerate(sheet.iter_rows(), start=1):
        texts = [_text(cell) for cell in cells[:MAX_COLUMNS]]
        if any(texts):
            lines.append((number, texts))
        # openpyxl leaves the type of a text that a formula gave as it is where the text is empty.
        empty |= {
            (number, i) for i, cell in enumerate(cells, start=1) if cell.value is None and cell.data_type == "str"
        }
    return Sheet(str(sheet.title), sheet.sheet_state != "visible", tuple(lines), frozenset(empty))


def _require_plain(path: Path, code: Code, sheet: Sheet) -> None:
    """Refuse merged cells, of which only the first has a value, and formulas without one."""
    last, width = sheet.lines[-1][0], max(len(cells) for _, cells in sheet.lines)
    shown = dict(sheet.lines)
    with _open(path, code) as book:
        cells = book[sheet.name]
        merged = [
            part.coord
            for part in cells.merged_cells.ranges
            if part.min_row <= last
            and part.min_col <= width
            and cells.cell(part.min_row, part.min_col).value is not None
        ]
        lacking = [
            cell.coordinate
            for row in cells.iter_rows(max_row=last, max_col=width)
            for cell in row
            if cell.data_type == "f"
            and not "".join(shown.get(cell.row, [])[cell.column - 1 : cell.column])
            and (cell.row, cell.column) not in sheet.empty
        ]
    where = f"{path.name}, sheet {sheet.name!r}"
    if merged:
        reason = f"{where}: cells {', '.join(sorted(merged)[:3])} are merged, so that all but the first are empty"
        raise ConfigurationError(code, reason, remedy="unmerge them and fill every cell")
    if lacking:
        reason = f"{where}: the formula in {', '.join(lacking[:3])} has no value, since no program has computed it"
        raise ConfigurationError(code, reason, remedy="open the file in a spreadsheet program and save it")


def _text(cell: Any) -> str:
    """A cell as a text file would have it."""
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.date().isoformat()
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float) and float(value).is_integer():
        zeros = _ZEROS.fullmatch(cell.number_format or "")
        return str(int(value)).zfill(len(zeros[0]) if zeros else 0)
    return str(value).strip()
