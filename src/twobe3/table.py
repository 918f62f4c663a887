"""The clinical table: one row a patient."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from twobe3.errors import Code, UsageError
from twobe3.outcome import Table, require_columns


def read_table(path: Path | str, *, patient: str = "patient_id") -> Table:
    """Read a clinical table: comma-, semicolon- or tab-separated text with one header line, one row a patient.

    Parameters
    ----------
    path : path
        The file; UTF-8, with or without a byte-order mark. Lines without any content are skipped.
    patient : str
        The column that holds the patient id.

    Returns
    -------
    mapping
        From the patient id to the row, a mapping from column to text.

    Raises
    ------
    UsageError
        ``TABLE_UNREADABLE``, ``COLUMN_MISSING``, ``PATIENT_TWICE``.
    """
    path = Path(path)
    header, rows = _cells(path)
    require_columns({"": dict.fromkeys(header, "")}, [patient])
    table: dict[str, dict[str, str]] = {}
    for line, cells in rows:
        if any(cells[len(header) :]):
            raise UsageError(Code.TABLE_UNREADABLE, f"{path.name}: line {line} has more cells than the header")
        cells += [""] * (len(header) - len(cells))
        row = dict(zip(header, cells, strict=False))
        key = row[patient]
        if not key:
            raise UsageError(Code.TABLE_UNREADABLE, f"{path.name}: line {line} has no {patient!r}")
        if key in table:
            raise UsageError(Code.PATIENT_TWICE, f"{path.name}: {patient} {key!r} stands again in line {line}")
        table[key] = row
    return table


def _cells(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and the stripped cells of every line with content, with the line's number."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except OSError as error:
        raise UsageError(Code.TABLE_UNREADABLE, f"{path.name}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise UsageError(Code.TABLE_UNREADABLE, f"{path.name} is not a table in UTF-8") from None
    if len(lines) < 2:
        raise UsageError(Code.TABLE_UNREADABLE, f"{path.name} has no row below its header")
    (_, header), *rows = lines
    for name in filter(None, header):
        if header.count(name) > 1:
            raise UsageError(Code.TABLE_UNREADABLE, f"{path.name}: two columns are called {name!r}")
    return header, rows
