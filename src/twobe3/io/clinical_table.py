"""The clinical table: one row a patient."""

from __future__ import annotations

from pathlib import Path

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.table import Table, require_columns
from twobe3.io.csv import read_delimited


def read_table(path: Path | str, *, patient: str = "patient_id") -> Table:
    """Read a clinical table: comma-, semicolon- or tab-separated text with one header line, one row a patient.

    Parameters
    ----------
    path : path
        The file, see :func:`~twobe3.io.csv.read_delimited`; blanks around a cell are taken away.
    patient : str
        The column that holds the patient id.

    Returns
    -------
    mapping
        From the patient id to the row, a mapping from column to text.

    Raises
    ------
    ConfigurationError
        ``TABLE_UNREADABLE``, ``COLUMN_MISSING``, ``PATIENT_TWICE``.
    """
    return read_numbered_table(path, patient=patient)[0]


def read_numbered_table(path: Path | str, *, patient: str = "patient_id") -> tuple[Table, dict[str, int]]:
    """As :func:`read_table`, with the number of the line on which each patient stands."""
    path = Path(path)
    table: dict[str, dict[str, str]] = {}
    lines: dict[str, int] = {}
    twice: list[str] = []
    rows = read_delimited(path, Code.TABLE_UNREADABLE, text=[patient])
    require_columns({"": rows[0].cells}, [patient])
    for row in rows:
        cells = {column: text.strip() for column, text in row.cells.items()}
        key = cells[patient]
        if not key:
            raise ConfigurationError(Code.TABLE_UNREADABLE, f"{path.name}: line {row.line} has no {patient!r}")
        if key in table:
            twice.append(f"{patient} {key!r} of line {lines[key]} stands again in line {row.line}")
        table.setdefault(key, cells)
        lines.setdefault(key, row.line)
    if twice:
        more = f"; and {len(twice) - 5} more" if len(twice) > 5 else ""
        raise ConfigurationError(Code.PATIENT_TWICE, f"{path.name}: {'; '.join(twice[:5])}{more}")
    return table, lines
