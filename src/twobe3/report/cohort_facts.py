"""The cohort in a dozen lines: who was scanned, where, on what, and how the scans became SUV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from twobe3.core.counts import format_count
from twobe3.core.endpoints import KINDS
from twobe3.core.errors import Exclusion
from twobe3.report.study_folder import CohortRecord, SubjectRecord
from twobe3.report.wording import SEXES

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
        Fact("Tracers", _counts(subject.tracer for subject in subjects)),
        Fact("Sex", _counts(SEXES.get(str(s.covariates.get("sex")), UNKNOWN) for s in subjects)),
        Fact("Age", _range(subjects, "age_years", "years")),
        Fact("Spacing as scanned", _counts(f"{' × '.join(f'{mm:.3g}' for mm in s.spacing_mm)} mm" for s in subjects)),
        Fact("Contours", (f"{contours} of {format_count(len(subjects), 'scan')} have one",)),
        Fact("SUV calibration", _counts(f"{s.calibration.rule}, SUV{s.calibration.type}" for s in subjects)),
    )
    return tuple(fact for fact in facts if fact.items)


@dataclass(frozen=True)
class FlowStep:
    """A box of the flow: how many, of what, and what left before it, (count, code, reason of the first)."""

    count: int
    what: str
    left: tuple[tuple[int, str, str], ...] = ()


def flow(cohort: CohortRecord, left_out: Iterable[Exclusion]) -> tuple[FlowStep, ...]:
    """From the series found to the patients with an outcome, with what left on the way by code.

    Scans that single models leave out stay in the cohort; the last step counts those that every model could use.
    """
    series = [one for one in cohort.exclusions if one.series]
    others = [one for one in cohort.exclusions if not one.series]
    used = FlowStep(cohort.used, "scans used", _by_code(series))
    known = [
        FlowStep(
            endpoint.n,
            f"with a known outcome: {endpoint.name}"
            + (f", {endpoint.events} with the event" if KINDS[endpoint.kind].has_events else ""),
        )
        for endpoint in cohort.endpoints
    ]
    limited = {one.patient for one in left_out if one.patient}
    by_all = [FlowStep(cohort.used - len(limited), "scans usable for every model")] if limited else []
    absent = [FlowStep(len(others), "entries of the table or files without a usable scan", _by_code(others))]
    return (FlowStep(cohort.found, "series found"), used, *known, *by_all, *(absent if others else []))


def _by_code(exclusions: Iterable[Exclusion]) -> tuple[tuple[int, str, str], ...]:
    first: dict[str, Exclusion] = {}
    counts: Counter[str] = Counter()
    for one in exclusions:
        first.setdefault(one.code, one)
        counts[one.code] += 1
    return tuple((n, code, first[code].reason) for code, n in counts.most_common())


def calibration_warnings(cohort: CohortRecord) -> tuple[tuple[str, int], ...]:
    """Each warning of the SUV calibrations and how many scans have it, the most frequent first."""
    return tuple(
        Counter(w for subject in cohort.subjects for w in dict.fromkeys(subject.calibration.warnings)).most_common()
    )


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
