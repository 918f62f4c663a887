"""What an adapter is: the published files of one collection, read as a clinical table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twobe3.collections.adapters._sheets import Record, Sheet, read_sheets
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import Endpoint
from twobe3.core.table import NumberedTable, Table, is_missing

PATIENT, CENTRE, SPLIT, ROI = "patient_id", "centre", "split", "tumour_roi"
"""Columns of every adapted table that has what they say."""

Rows = dict[str, dict[str, str]]


@dataclass(frozen=True)
class AdaptedTable:
    """The clinical table of a collection."""

    table: Table  # from the patient id of the scans to the row; all rows have the same columns
    endpoints: tuple[Endpoint, ...]  # those whose columns the table has
    covariates: tuple[str, ...]  # columns known before treatment

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table."""
        return tuple(next(iter(self.table.values())))

    @property
    def centre(self) -> str | None:
        """The column with the centre; None where the collection does not tell it."""
        return CENTRE if CENTRE in self.columns else None

    @property
    def roi(self) -> str | None:
        """The column with the names of the drawn regions that are the tumour; None where every region is."""
        return ROI if ROI in self.columns else None

    def to_json(self) -> dict[str, Any]:
        """How many patients there are, where, with which outcomes and with how many tumour contours named."""
        centres = Counter(row[CENTRE] for row in self.table.values()) if self.centre else {}
        return {
            "patients": len(self.table),
            "centres": dict(centres),
            "endpoints": [
                {"name": one.name, "columns": list(one.columns), **self._counts(one)} for one in self.endpoints
            ],
            "covariates": list(self.covariates),
            "contours": sum(not is_missing(row.get(ROI)) for row in self.table.values()) if self.roi else None,
        }

    def _counts(self, endpoint: Endpoint) -> dict[str, Any]:
        try:
            outcomes = endpoint.outcomes(self.table)
        except ConfigurationError as error:  # nobody has the event, or everybody: no reason to refuse the table
            return {"patients": None, "events": None, "code": error.code.name}
        events = None if endpoint.kind == "continuous" else outcomes.n_events
        return {"patients": len(outcomes), "events": events, "code": None}


@dataclass(frozen=True)
class Adapter:
    """One collection as it is published.

    Files are recognised by their columns, so their order and names are free.
    """

    name: str  # in study files
    title: str  # of the collection
    files: tuple[str, ...]  # published names
    endpoints: tuple[Endpoint, ...]
    covariates: tuple[str, ...]  # columns known before treatment
    rows: Callable[[Sequence[Sheet]], Rows] = field(repr=False)  # from the tables to a row for each patient
    split: Mapping[str, str] = field(default_factory=dict, hash=False)  # centre to "train" or "test", where published

    def read(self, files: Sequence[Path]) -> AdaptedTable:
        """Read the files of the collection, spreadsheets (``.xlsx``) or delimited text.

        Raises
        ------
        ConfigurationError
            ``TABLE_UNREADABLE``; ``COLUMN_MISSING`` when a published column is not there; ``PATIENT_TWICE``.
        """
        rows = self.rows(read_sheets(files))
        if not rows:
            names = ", ".join(Path(file).name for file in files)
            remedy = f"give {', '.join(self.files)} as downloaded"
            raise ConfigurationError(Code.TABLE_UNREADABLE, f"no patient of {self.title} in {names}", remedy=remedy)
        table = NumberedTable(
            {patient: {PATIENT: patient, **row} for patient, row in rows.items()},
            {patient: number for number, patient in enumerate(rows, start=1)},
        )
        for row in table.values() if self.split else ():
            row[SPLIT] = self.split.get(row[CENTRE], "")
        there = set(next(iter(table.values())))
        endpoints = tuple(endpoint for endpoint in self.endpoints if there.issuperset(endpoint.columns))
        return AdaptedTable(table, endpoints, tuple(column for column in self.covariates if column in there))


def add_row(rows: Rows, patient: str, row: dict[str, str], sheet: Sheet, record: Record) -> None:
    """Add the row of a patient, made of a record; raises what :func:`require_new` raises."""
    require_new(patient, rows, sheet, record)
    rows[patient] = row


def require_new(patient: str, known: Container[str], sheet: Sheet, record: Record) -> None:
    """Refuse a second row of one patient: ``PATIENT_TWICE``, naming its line and no id."""
    if patient in known:
        reason = f"{sheet.label}: the patient of line {record.line} has a row before it"
        raise ConfigurationError(Code.PATIENT_TWICE, reason)


def flag(text: str, words: Mapping[str, str]) -> str:
    """``"1"``, ``"0"`` or, for a word that is not among those known, empty; case does not matter."""
    return words.get(text.strip().casefold(), "")


def numbers(text: str) -> str:
    """The number in a text such as ``"056Y"``, without leading zeros; empty without one."""
    digits = "".join(character for character in text if character.isdigit() or character == ".")
    try:
        return f"{float(digits):g}"
    except ValueError:
        return ""
