"""Outcomes that every header carries: sex, age, weight, and the region of the body; no clinical table is needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from twobe3.cohort import Study
from twobe3.converted import ConvertedSeries
from twobe3.dicom.extent import body_region
from twobe3.errors import Code, UsageError
from twobe3.outcome import Binary, Endpoint, Outcomes, Table
from twobe3.scans import Series

HEADER_LABELS = ("sex", "age_years", "weight_kg", "body_region")
REGION = "body_region"


def header_row(series: Series) -> dict[str, str]:
    """What the header of a series says, as a row of a table; cells are empty where it says nothing.

    Sex is ``M`` or ``F``; another code is no label of two classes, and counts as not known.
    """
    told = series.covariates
    row = {name: str(told.get(name, "")) for name in HEADER_LABELS}
    row["sex"] = row["sex"] if row["sex"] in ("M", "F") else ""
    numbers = {key: float(told[key]) for key in ("height_m", "age_years") if key in told}
    part = "" if isinstance(series, ConvertedSeries) else series.body_part
    row[REGION] = body_region(series.coverage_mm, body_part=part, **numbers)
    return row


def require_header_labels(endpoints: Iterable[Endpoint]) -> None:
    """Refuse an endpoint that no header carries.

    Raises
    ------
    UsageError
        ``UNKNOWN_NAME``.
    """
    for endpoint in endpoints:
        for column in endpoint.columns:
            if column not in HEADER_LABELS:
                reason = (
                    f"endpoint {endpoint.name!r}: headers carry no {column!r}; they carry {', '.join(HEADER_LABELS)}"
                )
                raise UsageError(Code.UNKNOWN_NAME, reason, remedy="name one of them, or take the clinical table")


def header_outcomes(endpoint: Endpoint, rows: Table) -> Outcomes:
    """Outcomes of the patients whose header carries the label.

    Of the regions of the body, the positive one is told from all others that are known.

    Raises
    ------
    UsageError
        ``OUTCOME_INVALID``, ``ONE_CLASS``.
    """
    if isinstance(endpoint, Binary) and endpoint.column == REGION:
        rows = {
            patient: row if row[REGION] in ("", endpoint.positive) else {**row, REGION: "another"}
            for patient, row in rows.items()
        }
    return endpoint.outcomes(rows)


def without_labels(studies: Iterable[Study], endpoints: Sequence[Endpoint]) -> tuple[Study, ...]:
    """The studies without the covariates that are to be predicted: no model may see them."""
    hidden = {column for endpoint in endpoints for column in endpoint.columns}
    return tuple(
        replace(study, covariates={name: value for name, value in study.covariates.items() if name not in hidden})
        for study in studies
    )
