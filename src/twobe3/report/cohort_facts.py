"""The cohort in a dozen lines: who was scanned, where, on what, and how the scans became SUV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from twobe3.core.counts import format_count
from twobe3.report.study_folder import CohortRecord, SubjectRecord

SEXES = {"F": "female", "M": "male", "O": "other"}
UNKNOWN = "not stated"


@dataclass(frozen=True)
class Fact:
    """A term and what is to be said of it, an item a line."""

    term: str
    items: tuple[str, ...]


def cohort_facts(cohort: CohortRecord) -> tuple[Fact, ...]:
    """Summarise the scans that were used; facts about which nothing is known are left out."""
    subjects = cohort.subjects
    contours = sum(subject.contour for subject in subjects)
    facts = (
        Fact("Centres", _counts(subject.centre for subject in subjects)),
        Fact("Scanners", _counts(_scanner(subject) for subject in subjects)),
        Fact("Tracers", _counts(subject.tracer for subject in subjects)),
        Fact("Sex", _counts(SEXES.get(str(s.covariates.get("sex")), UNKNOWN) for s in subjects)),
        Fact("Age", _range(subjects, "age_years", "years")),
        Fact("Weight", _range(subjects, "weight_kg", "kg")),
        Fact("Slices as scanned", _spread([subject.slices for subject in subjects], "")),
        Fact("Spacing as scanned", _counts(f"{' × '.join(f'{mm:.3g}' for mm in s.spacing_mm)} mm" for s in subjects)),
        Fact("Contours", (f"{contours} of {format_count(len(subjects), 'scan')} have one",)),
        Fact("SUV calibration", _counts(f"{s.calibration.rule}, SUV{s.calibration.type}" for s in subjects)),
    )
    return tuple(fact for fact in facts if fact.items)


def calibration_warnings(cohort: CohortRecord) -> tuple[tuple[str, int], ...]:
    """Each warning of the SUV calibrations and how many scans have it, the most frequent first."""
    return tuple(
        Counter(w for subject in cohort.subjects for w in dict.fromkeys(subject.calibration.warnings)).most_common()
    )


def _scanner(subject: SubjectRecord) -> str:
    return " ".join(part for part in (subject.manufacturer, subject.model) if part)


def _counts(values: Iterable[str | None]) -> tuple[str, ...]:
    counted = Counter(value or UNKNOWN for value in values)
    if set(counted) <= {UNKNOWN}:
        return ()
    return tuple(f"{value}: {count}" for value, count in sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _range(subjects: Iterable[SubjectRecord], covariate: str, unit: str) -> tuple[str, ...]:
    values = [subject.covariates.get(covariate) for subject in subjects]
    known = [float(value) for value in values if isinstance(value, int | float)]
    missing = (f"{UNKNOWN}: {len(values) - len(known)}",) if len(known) < len(values) else ()
    return (*_spread(known, f" {unit}"), *missing) if known else ()


def _spread(values: list[float] | list[int], unit: str) -> tuple[str, ...]:
    if not values:
        return ()
    low, high = min(values), max(values)
    return (f"{low:g}{unit} each",) if low == high else (f"median {median(values):g}{unit}, {low:g} to {high:g}",)
