"""Clinical covariates: columns of the clinical table that models may see, beside what the headers say of a patient."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from twobe3.cohort.cohort import Subject
from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import ConfigurationError
from twobe3.core.table import Table, is_missing, name_rows, number_rows, parse_number, require_columns

Covariates = Mapping[str, float | str]
MOST_CATEGORIES = 20
"""A column of more different texts is no category but an identity, a date, or numbers with words among them."""

_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F", "o": "O", "other": "O"}


class HeaderNumber(NamedTuple):
    """A number that the headers of a scan tell of the patient too."""

    low: float  # a cell of the table must lie from here
    high: float  # to here, so that no other unit passes
    within: float  # how far the table and the header may be apart and still agree


HEADER_NUMBERS = {
    "age_years": HeaderNumber(0.0, 130.0, 1.0),
    "weight_kg": HeaderNumber(0.5, 500.0, 1.0),
    "height_m": HeaderNumber(0.2, 2.8, 0.02),
}
# How a column may be called that stands for what the headers tell; any other name is a covariate of its own.
HEADER_NAMES = {"age": "age_years", "sex": "sex", **{name: name for name in HEADER_NUMBERS}}


def covariate_of(column: str) -> str:
    """How a column is called among the covariates of a study: ``"Age"`` is ``"age_years"``, ``"hpv"`` itself."""
    return HEADER_NAMES.get(column.lower(), column)


def read_covariates(table: Table, columns: Sequence[str], *, taken: Collection[str] = ()) -> dict[str, Covariates]:
    """What some columns of the clinical table say of each patient.

    A column is one of numbers if each of its filled cells is a finite number, else one of categories. A column called
    ``age`` or ``age_years``, ``sex``, ``weight_kg``, ``height_m`` in any letters tells what the headers tell too.

    Parameters
    ----------
    table : mapping
        The clinical table.
    columns : sequence of str
        Of it.
    taken : collection of str
        Columns that no model may see: those of the outcomes, and the patient id.

    Returns
    -------
    dict
        From the patient to covariates, without those whose cell is empty.

    Raises
    ------
    ConfigurationError
        ``COLUMN_MISSING``; ``COVARIATE_INVALID`` when a column is taken or a covariate is named twice, when there
        are more than :data:`MOST_CATEGORIES` categories, or when age, sex, weight or height are none.
    """
    require_columns(table, columns)
    names = [covariate_of(column) for column in columns]
    for column, name in zip(columns, names, strict=True):
        if column in taken:
            raise _invalid(column, "holds an outcome or the patient id, which no model may see")
        if names.count(name) > 1:
            raise _invalid(column, f"is not the only one that stands for {name!r}")
    found: dict[str, dict[str, float | str]] = {patient: {} for patient in table}
    for column, name in zip(columns, names, strict=True):
        cells = {patient: row[column].strip() for patient, row in table.items() if not is_missing(row[column])}
        for patient, value in _read(column, name, cells, number_rows(table)).items():
            found[patient][name] = value
    return dict(found)


def add_covariates(
    subjects: Iterable[Subject], covariates: Mapping[str, Covariates]
) -> tuple[tuple[Subject, ...], tuple[str, ...]]:
    """Studies with what the table says beside what their headers say, and what a reader should know of it.

    A cell of the table goes before the header, since the user has named its column; an empty cell leaves what the
    header says. For how many patients the two differ is a warning.
    """
    subjects, differing = tuple(subjects), dict.fromkeys(("sex", *HEADER_NUMBERS), 0)
    for subject in subjects:
        for name, value in covariates[subject.patient_id].items():
            if name in differing and name in subject.covariates:
                differing[name] += _differ(name, value, subject.covariates[name])
    warnings = tuple(
        f"{name}: the clinical table and the headers differ for {n} of {format_count(len(subjects), 'patient')}; "
        "the table's is taken"
        for name, n in differing.items()
        if n
    )
    return tuple(
        replace(subject, covariates={**subject.covariates, **covariates[subject.patient_id]}) for subject in subjects
    ), warnings


def _read(column: str, name: str, cells: Mapping[str, str], numbers: Mapping[str, int]) -> dict[str, float | str]:
    if name == "sex":
        return _read_sexes(column, cells, numbers)
    parsed = {patient: parse_number(cell) for patient, cell in cells.items()}
    values = {patient: number for patient, number in parsed.items() if number is not None}
    words = [numbers[patient] for patient in cells if patient not in values]
    if name in HEADER_NUMBERS:
        known = HEADER_NUMBERS[name]
        odd = words + [numbers[patient] for patient, value in values.items() if not known.low <= value <= known.high]
        if odd:
            reason = f"must hold {name} from {known.low:g} to {known.high:g}; {name_rows(sorted(odd))}"
            raise _invalid(column, reason)
    if not words:
        return dict(values)
    texts = set(cells.values())
    if len(texts) > MOST_CATEGORIES:
        reason = f"has {len(texts)} different texts, more than the {MOST_CATEGORIES} that categories may have; "
        raise _invalid(column, f"{reason}no number is in {name_rows(words)}")
    return dict(cells)


def _read_sexes(column: str, cells: Mapping[str, str], numbers: Mapping[str, int]) -> dict[str, float | str]:
    odd = [numbers[patient] for patient, cell in cells.items() if cell.lower() not in _SEXES]
    if odd:
        raise _invalid(column, f"must hold M, F or O; {name_rows(odd)}")
    return {patient: _SEXES[cell.lower()] for patient, cell in cells.items()}


def _differ(name: str, one: float | str, other: float | str) -> bool:
    if name == "sex":
        return one != other
    return abs(float(one) - float(other)) > HEADER_NUMBERS[name].within


def _invalid(column: str, reason: str) -> ConfigurationError:
    return ConfigurationError(Code.COVARIATE_INVALID, f"column {column!r} {reason}")
