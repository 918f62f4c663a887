"""Outcomes that every header carries: sex, age, weight, and the region of the body; no clinical table is needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from twobe3.cohort.cohort import Subject
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import Endpoint, Outcomes
from twobe3.core.table import Table
from twobe3.dicom.body_region import body_region
from twobe3.scans.find import Series
from twobe3.scans.sidecar import NiftiSeries

HEADER_LABELS = ("sex", "age_years", "weight_kg", "body_region")
REGION = "body_region"


def read_header_row(series: Series) -> dict[str, str]:
    """What the header of a series says, as a row of a table; cells are empty where it says nothing.

    Sex is ``M`` or ``F``; another code is no label of two classes, and counts as not known.
    """
    told = series.covariates
    row = {name: str(told.get(name, "")) for name in HEADER_LABELS}
    row["sex"] = row["sex"] if row["sex"] in ("M", "F") else ""
    numbers = {key: float(told[key]) for key in ("height_m", "age_years") if key in told}
    part = "" if isinstance(series, NiftiSeries) else series.body_part
    row[REGION] = body_region(series.coverage_mm, body_part=part, **numbers)
    return row


def require_header_labels(endpoints: Iterable[Endpoint]) -> None:
    """Refuse an endpoint that no header carries.

    Raises
    ------
    ConfigurationError
        ``UNKNOWN_NAME``.
    """
    for endpoint in endpoints:
        for column in endpoint.columns:
            if column not in HEADER_LABELS:
                reason = (
                    f"endpoint {endpoint.name!r}: headers carry no {column!r}; they carry {', '.join(HEADER_LABELS)}"
                )
                raise ConfigurationError(
                    Code.UNKNOWN_NAME, reason, remedy="name one of them, or take the clinical table"
                )


def header_outcomes(endpoint: Endpoint, rows: Table) -> Outcomes:
    """Outcomes of the patients whose header carries the label.

    Of the regions of the body, the positive one is told from all others that are known.

    Raises
    ------
    ConfigurationError
        ``OUTCOME_INVALID``, ``ONE_CLASS``.
    """
    if isinstance(endpoint, Binary) and endpoint.column == REGION:
        positive = (endpoint.positive,) if isinstance(endpoint.positive, str) else endpoint.positive
        rows = {
            patient: row if row[REGION] in ("", *positive) else {**row, REGION: "another"}
            for patient, row in rows.items()
        }
    return endpoint.outcomes(rows)


def hide_labels(subjects: Iterable[Subject], endpoints: Sequence[Endpoint]) -> tuple[Subject, ...]:
    """The subjects without the covariates that are to be predicted: no model may see them."""
    hidden = {column for endpoint in endpoints for column in endpoint.columns}
    return tuple(
        replace(subject, covariates={name: value for name, value in subject.covariates.items() if name not in hidden})
        for subject in subjects
    )
