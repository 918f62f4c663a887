"""The clinical table: one row a patient."""

from __future__ import annotations

from pathlib import Path

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.table import NumberedTable, require_columns
from twobe3.io.rows import read_rows


def read_table(path: Path | str, *, patient: str = "patient_id", sheet: str = "", encoding: str = "") -> NumberedTable:
    """Read a clinical table: delimited text or a sheet of an Excel workbook, one header line, one row a patient.

    Parameters
    ----------
    path : path
        The file, see :func:`~twobe3.io.rows.read_rows`; blanks around a cell are taken away.
    patient : str
        The column that holds the patient id.
    sheet, encoding : str
        See :func:`~twobe3.io.rows.read_rows`.

    Returns
    -------
    NumberedTable
        From the patient id to the row, a mapping from column to text.

    Raises
    ------
    ConfigurationError
        ``TABLE_UNREADABLE``, ``COLUMN_MISSING``, ``PATIENT_TWICE``.
    """
    path = Path(path)
    table: dict[str, dict[str, str]] = {}
    lines: dict[str, int] = {}
    twice: list[str] = []
    read = read_rows(path, Code.TABLE_UNREADABLE, text=[patient], key=patient, sheet=sheet, encoding=encoding)
    require_columns({"": read.rows[0].cells}, [patient])
    for row in read.rows:
        cells = {column: text.strip() for column, text in row.cells.items()}
        key = cells[patient]
        if not key:
            raise ConfigurationError(Code.TABLE_UNREADABLE, f"{path.name}: line {row.line} has no {patient!r}")
        if key in table:
            twice.append(f"the {patient} of line {lines[key]} stands again in line {row.line}")
        table.setdefault(key, cells)
        lines.setdefault(key, row.line)
    if twice:
        more = f"; and {len(twice) - 5} more" if len(twice) > 5 else ""
        raise ConfigurationError(Code.PATIENT_TWICE, f"{path.name}: {'; '.join(twice[:5])}{more}")
    return NumberedTable(table, lines, read.notes)
