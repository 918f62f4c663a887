"""How the scans were made, and which of them stand out: uptake time, dose, weight, scanner and reconstruction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from twobe3.report import charts
from twobe3.report.study_folder import CohortRecord, SubjectRecord

Z_LIMIT = 3.5
TO_SIGMA = 0.6745  # the median absolute deviation of a normal distribution, in standard deviations
FEWEST = 5  # scans below which nothing can stand out
LIMITS = (
    "Dashed lines are the median ± 3.5 median absolute deviations divided by 0.6745 (Iglewicz and Hoaglin 1993); what "
    "lies beyond them is marked. They say what is unusual in this cohort, not what is wrong."
)


@dataclass(frozen=True)
class Quantity:
    """One quantity over the scans: how many tell it, its spread, its limits, and who lies beyond them.

    ``outliers`` are pseudonyms with their values; ``strip`` is None where no scan tells it.
    """

    label: str
    unit: str
    n: int
    median: float | None
    low: float | None
    high: float | None
    limits: tuple[float, float] | None
    outliers: tuple[tuple[str, float], ...]
    strip: charts.Strip | None


@dataclass(frozen=True)
class ScanQuality:
    """Quantities over all scans; scanners with their reconstructions and how many scans they made."""

    quantities: tuple[Quantity, ...]
    scanners: tuple[tuple[str, str, int], ...]
    of_scan: tuple[tuple[tuple[float | None, bool], ...], ...]
    """For each scan, in their order, each quantity: its value, and whether it is an outlier."""


def scan_quality(cohort: CohortRecord) -> ScanQuality:
    """Describe the scans that were used."""
    values = [[read(subject) for subject in cohort.subjects] for _, _, read in QUANTITIES]
    limits = [robust_limits([v for v in row if v is not None]) for row in values]
    quantities = tuple(
        _describe(label, unit, row, between, cohort.subjects)
        for (label, unit, _), row, between in zip(QUANTITIES, values, limits, strict=True)
    )
    marked = [[(v, _is_beyond(v, between)) for v in row] for row, between in zip(values, limits, strict=True)]
    scanners = Counter((_scanner(one), one.acquisition.reconstruction or "not stated") for one in cohort.subjects)
    return ScanQuality(
        tuple(one for one in quantities if one.n),
        tuple((*key, n) for key, n in sorted(scanners.items(), key=lambda item: (-item[1], item[0]))),
        tuple(
            tuple(cell for cell, one in zip(cells, quantities, strict=True) if one.n)
            for cells in zip(*marked, strict=True)
        ),
    )


def robust_limits(values: Sequence[float]) -> tuple[float, float] | None:
    """Limits beyond which a value is an outlier; None for too few values, or where most of them are equal.

    The modified z-score 0.6745 (x − median) / MAD is beyond ±3.5 (Iglewicz and Hoaglin, How to Detect and Handle
    Outliers, ASQC 1993, section 3.5), which a few outliers don't move.
    """
    if len(values) < FEWEST:
        return None
    middle = float(np.median(values))
    deviation = float(np.median(np.abs(np.asarray(values) - middle)))
    reach = Z_LIMIT * deviation / TO_SIGMA
    return (middle - reach, middle + reach) if deviation else None


def _describe(
    label: str,
    unit: str,
    values: Sequence[float | None],
    limits: tuple[float, float] | None,
    subjects: Sequence[SubjectRecord],
) -> Quantity:
    known = [value for value in values if value is not None]
    outliers = [
        (subject.patient, value)
        for subject, value in zip(subjects, values, strict=True)
        if value is not None and _is_beyond(value, limits)
    ]
    return Quantity(
        label,
        unit,
        len(known),
        float(np.median(known)) if known else None,
        min(known, default=None),
        max(known, default=None),
        limits,
        tuple(outliers),
        charts.strip(known, limits) if known else None,
    )


def _is_beyond(value: float | None, limits: tuple[float, float] | None) -> bool:
    return value is not None and limits is not None and not limits[0] <= value <= limits[1]


def _scanner(subject: SubjectRecord) -> str:
    return " ".join(part for part in (subject.manufacturer, subject.model) if part) or "not stated"


def _dose_mbq(subject: SubjectRecord) -> float | None:
    dose_bq = subject.acquisition.injected_dose_bq
    return None if dose_bq is None else dose_bq / 1e6


def _weight_kg(subject: SubjectRecord) -> float | None:
    weight = subject.covariates.get("weight_kg")
    return float(weight) if isinstance(weight, int | float) else None


def _dose_mbq_per_kg(subject: SubjectRecord) -> float | None:
    dose, weight = _dose_mbq(subject), _weight_kg(subject)
    return dose / weight if dose is not None and weight else None


QUANTITIES: tuple[tuple[str, str, Callable[[SubjectRecord], float | None]], ...] = (
    ("Uptake time", "min", lambda subject: subject.acquisition.uptake_min),
    ("Injected dose", "MBq", _dose_mbq),
    ("Dose per weight", "MBq/kg", _dose_mbq_per_kg),
    ("Body weight", "kg", _weight_kg),
)
