"""The cohort in a dozen lines: who was scanned, where, on what, and how the scans became SUV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from twobe3.report.records import Cohort, Study

SEXES = {"F": "female", "M": "male", "O": "other"}
UNKNOWN = "not stated"


@dataclass(frozen=True)
class Fact:
    """A term and what is to be said of it, an item a line."""

    term: str
    items: tuple[str, ...]


def cohort_facts(cohort: Cohort) -> tuple[Fact, ...]:
    """Summarise the scans that were used; facts about which nothing is known are left out."""
    studies = cohort.studies
    contours = sum(study.contour for study in studies)
    facts = (
        Fact("Centres", _counts(study.centre for study in studies)),
        Fact("Scanners", _counts(_scanner(study) for study in studies)),
        Fact("Tracers", _counts(study.tracer for study in studies)),
        Fact("Sex", _counts(SEXES.get(str(s.covariates.get("sex")), UNKNOWN) for s in studies)),
        Fact("Age", _range(studies, "age_years", "years")),
        Fact("Weight", _range(studies, "weight_kg", "kg")),
        Fact("Slices as scanned", _spread([study.slices for study in studies], "")),
        Fact("Spacing as scanned", _spacings(studies)),
        Fact("Contours", (f"{contours} of {len(studies)} scans have one",)),
        Fact("SUV calibration", _counts(f"{s.calibration.rule}, SUV{s.calibration.type}" for s in studies)),
    )
    return tuple(fact for fact in facts if fact.items)


def calibration_warnings(cohort: Cohort) -> tuple[tuple[str, int], ...]:
    """Each warning of the SUV calibrations and how many scans have it, the most frequent first."""
    return tuple(
        Counter(w for study in cohort.studies for w in dict.fromkeys(study.calibration.warnings)).most_common()
    )


def _scanner(study: Study) -> str:
    return " ".join(part for part in (study.manufacturer, study.model) if part)


def _counts(values: Iterable[str | None]) -> tuple[str, ...]:
    counted = Counter(value or UNKNOWN for value in values)
    if set(counted) <= {UNKNOWN}:
        return ()
    return tuple(f"{value}: {count}" for value, count in sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _range(studies: Iterable[Study], covariate: str, unit: str) -> tuple[str, ...]:
    values = [study.covariates.get(covariate) for study in studies]
    known = [float(value) for value in values if isinstance(value, int | float)]
    missing = (f"{UNKNOWN}: {len(values) - len(known)}",) if len(known) < len(values) else ()
    return (*_spread(known, f" {unit}"), *missing) if known else ()


def _spread(values: list[float] | list[int], unit: str) -> tuple[str, ...]:
    if not values:
        return ()
    low, high = min(values), max(values)
    return (f"{low:g}{unit} each",) if low == high else (f"median {median(values):g}{unit}, {low:g} to {high:g}",)


def _spacings(studies: tuple[Study, ...]) -> tuple[str, ...]:
    return _counts(" × ".join(f"{length:.3g}" for length in study.spacing_mm) + " mm" for study in studies)
