"""On what a model was trained, in numbers, ranges and counts: nothing of it names a patient or a date."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from twobe3.cohort.cohort import Cohort, Subject, describe_sampling
from twobe3.core.printable import keep_printable
from twobe3.core.volume import FloatArray
from twobe3.dicom.tracer import name_tracer
from twobe3.features.descriptors import MAXIMUM, MEDIAN, extract_descriptors
from twobe3.io.files import digest

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
NOT_TOLD = "not told"
LONGEST_NAME = 64  # of a scanner or tracer, as a header writes it
FEWEST_FOR_PERCENTILES = 20  # with fewer patients the 5th percentile is as good as the age of one of them


@dataclass(frozen=True, config=STRICT)
class Range:
    """The smallest and the largest of the numbers that are known, and of how many patients they are."""

    low: float
    high: float
    known: int

    @classmethod
    def of(cls, values: Iterable[float | None], digits: int = 4) -> Self | None:
        """The range of the values that are numbers; None without any."""
        known = [float(value) for value in values if value is not None and np.isfinite(value)]
        return cls(round(min(known), digits), round(max(known), digits), len(known)) if known else None


@dataclass(frozen=True, config=STRICT)
class Spread:
    """The 5th, 50th and 95th percentile of the numbers that are known: extremes would be those of single patients."""

    low: float
    median: float
    high: float
    known: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Self | None:
        """The percentiles, rounded to whole numbers; None where fewer than 20 values are known."""
        known = [float(value) for value in values if value is not None and np.isfinite(value)]
        if len(known) < FEWEST_FOR_PERCENTILES:
            return None
        low, median, high = (float(round(value)) for value in np.percentile(known, [5, 50, 95]))
        return cls(low, median, high, len(known))


@dataclass(frozen=True, config=STRICT)
class TrainingDomain:
    """The patients and scans that a model was trained on.

    Attributes
    ----------
    n, events : int
        Patients, and how many of them have the event; None for a continuous endpoint.
    modality : str
        Always ``"PT"``.
    centres, scanners, tracers : mapping
        How many patients are of each; centres only where the cohort has them, tracers by their short names.
    spacing_mm, field_of_view_mm : tuple of Range
        Of the scans as they were, along the body, front to back, right to left.
    half_life_s : Range or None
        Of the nuclide, where the SUV needed it.
    age_years : Spread or None
    uptake_min : Range or None
        Minutes from the injection to the scan.
    suv_max, suv_median : Range
        Of the scans on the model's grid: the hottest voxel, and the median of the body.
    digest : str
        Of the contents of all scans.
    """

    n: int
    events: int | None
    modality: str
    centres: dict[str, int]
    scanners: dict[str, int]
    tracers: dict[str, int]
    spacing_mm: tuple[Range, Range, Range]
    field_of_view_mm: tuple[Range, Range, Range]
    half_life_s: Range | None
    age_years: Spread | None
    uptake_min: Range | None
    suv_max: Range
    suv_median: Range
    digest: str


def describe_domain(cohort: Cohort) -> TrainingDomain:
    """Describe the patients of a cohort with one endpoint.

    Raises
    ------
    UnusableScanError
        A scan cannot become SUV.
    """
    outcomes = cohort.outcomes
    facts = [_describe_scan(subject) for subject in cohort.subjects]
    values = np.stack([extract_descriptors(cohort, subject) for subject in cohort.subjects])
    centres = _count(subject.centre for subject in cohort.subjects) if any(cohort.centres) else {}
    return TrainingDomain(
        n=len(cohort),
        events=outcomes.n_events if outcomes.endpoint.has_events else None,
        modality="PT",
        centres=centres,
        scanners=_count(_name_scanner(subject.description) for subject in cohort.subjects),
        tracers=_count(name_tracer(str(subject.description.get("tracer") or "")) for subject in cohort.subjects),
        spacing_mm=_ranges([one["sampling"]["spacing_mm"] for one in facts]),
        field_of_view_mm=_ranges([one["sampling"]["field_of_view_mm"] for one in facts]),
        half_life_s=Range.of((one["half_life_s"] for one in facts), 1),
        age_years=Spread.of(_number(subject.covariates.get("age_years")) for subject in cohort.subjects),
        uptake_min=Range.of((one["uptake_min"] for one in facts), 1),
        suv_max=_range(values[:, MAXIMUM]),
        suv_median=_range(values[:, MEDIAN]),
        digest=digest(sorted(cohort.volume_key(subject) for subject in cohort.subjects)),
    )


def _describe_scan(subject: Subject) -> dict[str, Any]:
    """Sampling, half-life and uptake time: as the cohort describes them, else of the scan, which is read for it."""
    known = subject.description
    if {"sampling", "acquisition", "calibration"} <= known.keys():
        return {
            "sampling": known["sampling"],
            "half_life_s": known["calibration"]["half_life_s"],
            "uptake_min": known["acquisition"]["uptake_min"],
        }
    volume = subject.scan.suv()
    return {
        "sampling": describe_sampling(volume.geometry),
        "half_life_s": volume.calibration.half_life_s,
        "uptake_min": volume.acquisition.uptake_min,
    }


def _ranges(lengths: list[tuple[float, float, float]]) -> tuple[Range, Range, Range]:
    a, b, c = (_range(np.array(along)) for along in zip(*lengths, strict=True))
    return a, b, c


def _range(values: FloatArray) -> Range:
    found = Range.of(values.tolist())
    assert found is not None  # there is a scan
    return found


def _number(value: float | str | None) -> float | None:
    return value if isinstance(value, int | float) else None


def _name_scanner(description: Mapping[str, Any]) -> str:
    return " ".join(str(description.get(name) or "").strip() for name in ("manufacturer", "model")).strip()


def _count(names: Iterable[str]) -> dict[str, int]:
    """How many are of each name, as it may be printed; the commonest first."""
    shown = (keep_printable(name)[:LONGEST_NAME] or NOT_TOLD for name in names)
    return dict(sorted(Counter(shown).items(), key=lambda item: (-item[1], item[0])))
