"""Whether a model knows scans like a new one: what is refused and what is flagged, by comparison with its card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from twobe3.cohort.cohort import Cohort, describe_sampling
from twobe3.core.codes import Code
from twobe3.core.errors import Exclusion, UnusableScanError
from twobe3.core.grid import MIN_GRID_VOXELS, Grid, uptake_outside
from twobe3.core.volume import FloatArray, SUVVolume
from twobe3.dicom.body_size import HEAVIEST_KG
from twobe3.dicom.tracer import name_tracer
from twobe3.features.descriptors import DESCRIPTORS, extract_descriptors
from twobe3.models.card import AXES
from twobe3.models.domain import NOT_TOLD, Range, TrainingDomain
from twobe3.models.known_scans import take_fingerprint
from twobe3.models.novelty import Novelty
from twobe3.models.record import TrainingRecord
from twobe3.scans.find import Series

# The hottest voxels of patients are urine and what missed the vein, some hundred; noise below 0 stays at a few.
SUV_LIMITS = (-100.0, 1000.0)
# Of the injected dose, all over the scan; 1 is all there is, the rest is for scatter and wrong weights.
MOST_OF_DOSE = 1.5
# How far beyond the training scans voxels and field of view may lie. All scans come onto one grid, so another scanner's
# voxels are no obstacle; half as fine or twice as coarse is another kind of image.
SPACING_FACTOR, VIEW_FACTOR = 2.0, 1.5
HALF_LIFE_TOLERANCE = 0.05  # those of headers differ in the fourth digit, those of nuclides by a quarter and more


@dataclass(frozen=True)
class Notice:
    """Something about a scan that its owner should know: a code and half a sentence."""

    code: str
    reason: str

    @classmethod
    def of(cls, code: Code, reason: str) -> Notice:
        """A notice of a code; control characters of foreign headers become spaces."""
        return cls(code.name, UnusableScanError(code, reason).reason)


def find_refusals(series: Series, volume: SUVVolume, domain: TrainingDomain, grid: Grid) -> tuple[Notice, ...]:
    """Why a model should not predict a scan; empty where nothing speaks against it.

    Parameters
    ----------
    series, volume
        The scan: what its header says, and its voxels as they are.
    domain : TrainingDomain
        What the model was trained on.
    grid : Grid
        On which the model sees it.

    Returns
    -------
    tuple of Notice
        ``SCAN_CONSTANT``, ``SUV_IMPLAUSIBLE``, ``TRACER_OTHER``, ``TOO_FEW_SLICES``, ``SPACING_OUTSIDE``,
        ``VIEW_OUTSIDE``, in this order.
    """
    checks = (
        _check_values(series, volume),
        _check_tracer(series, volume, domain),
        _check_sampling(volume, domain, grid),
    )
    return tuple(notice for found in checks for notice in found)


def find_flags(series: Series, volume: SUVVolume, alone: Cohort, record: TrainingRecord) -> tuple[Notice, ...]:
    """What is unusual about a scan that a model may predict; empty where nothing is.

    Parameters
    ----------
    series, volume
        The scan: what its header says, and its voxels as they are.
    alone : Cohort
        The scan alone, on the model's grid.
    record : TrainingRecord
        What the model remembers of its training patients.

    Returns
    -------
    tuple of Notice
        ``TRAINING_PATIENT``, ``UNUSUAL_SCAN``, ``UPTAKE_TIME_OUTSIDE``, ``TRACER_UNKNOWN``, in this order.
    """
    (subject,), domain = alone.subjects, record.card.trained_on
    known = record.scans.recognise(take_fingerprint(alone, subject))
    flags = [Notice.of(Code.TRAINING_PATIENT, known)] if known else []
    descriptors = extract_descriptors(alone, subject)
    distance = record.novelty.distance(descriptors)
    if record.novelty.is_unusual(distance):
        text = f"its distance from the training scans is {distance:.3g}, {_name_farthest(descriptors, record.novelty)}"
        flags.append(Notice.of(Code.UNUSUAL_SCAN, text))
    minutes, usual = volume.acquisition.uptake_min, domain.uptake_min
    if minutes is not None and usual and _beyond(minutes, usual, 1.0):
        text = f"the uptake time is {minutes:.4g} min, the model knows {_span(usual, 'min')}"
        flags.append(Notice.of(Code.UPTAKE_TIME_OUTSIDE, text))
    if not name_tracer(series.tracer):
        flags.append(Notice.of(Code.TRACER_UNKNOWN, "the scan does not tell its tracer"))
    elif set(domain.tracers) == {NOT_TOLD}:
        flags.append(Notice.of(Code.TRACER_UNKNOWN, "the training scans did not tell their tracer"))
    return tuple(flags)


def _name_farthest(descriptors: FloatArray, novelty: Novelty) -> str:
    """The threshold, and the two descriptors that lie farthest from the median of the training scans."""
    away = novelty.standardise(descriptors)
    first, second = np.argsort(-np.abs(away))[:2].tolist()
    said = (f"{DESCRIPTORS[i]} {descriptors[i]:.3g} ({away[i]:+.1f} SD)" for i in (first, second))
    return f"beyond {float(novelty.threshold[0]):.3g}; most of all {' and '.join(said)}"


def to_exclusion(notices: Sequence[Notice], series: Series) -> Exclusion:
    """The notices as the reason why a scan is not used: the code of the first, the reasons of all."""
    first, *others = notices
    reason = "; ".join((first.reason, *(f"also {one.code}: {one.reason}" for one in others)))
    return Exclusion(series.patient, series.series, first.code, reason, Code[first.code].remedy)


def _check_values(series: Series, volume: SUVVolume) -> Iterator[Notice]:
    """No image at all, or numbers that no tracer in a body gives.

    SUV of a body add up to its weight where all of the dose is in it: SUV · ml, at 1 g/ml (Kinahan & Fletcher,
    Semin Ultrasound CT MR 2010;31:496, equation 1).
    """
    low, high = float(volume.array.min()), float(volume.array.max())
    if low == high:
        yield Notice.of(Code.SCAN_CONSTANT, f"every voxel is {low:g}")
        return
    stated = volume.calibration.weight_kg or series.covariates.get("weight_kg") or HEAVIEST_KG
    held = float(volume.array.sum(dtype=np.float64)) * volume.geometry.voxel_volume_ml / (1000.0 * float(stated))
    if low < SUV_LIMITS[0] or high > SUV_LIMITS[1]:
        yield Notice.of(Code.SUV_IMPLAUSIBLE, f"SUV run from {low:.4g} to {high:.4g}")
    elif held > MOST_OF_DOSE:
        yield Notice.of(Code.SUV_IMPLAUSIBLE, f"the SUV add up to {held:.2g} times the injected dose")


def _check_tracer(series: Series, volume: SUVVolume, domain: TrainingDomain) -> Iterator[Notice]:
    """Another tracer than those of the card, by its name or by its half-life; what is not known is not refused."""
    name, known = name_tracer(series.tracer), [one for one in domain.tracers if one != NOT_TOLD]
    half_life_s, usual = volume.calibration.half_life_s, domain.half_life_s
    if name and known and name not in known:
        yield Notice.of(Code.TRACER_OTHER, f"the tracer is {name[:64]}, the model knows {', '.join(known)}")
    elif half_life_s and usual and _beyond(half_life_s, usual, 1.0 + HALF_LIFE_TOLERANCE):
        text = f"the half-life is {half_life_s:.0f} s, the model knows {_span(usual, 's')}"
        yield Notice.of(Code.TRACER_OTHER, text)


def _check_sampling(volume: SUVVolume, domain: TrainingDomain, grid: Grid) -> Iterator[Notice]:
    """Too little of a body for the grid, and voxels or a field of view far from those of the training.

    A model that was trained on scans as short knows them: they are not too short for it.
    """
    sampling = describe_sampling(volume.geometry)
    along_mm = sampling["field_of_view_mm"][0]
    shortest_mm = 0.99 * domain.field_of_view_mm[0].low  # lengths of headers are rounded
    if along_mm < min(MIN_GRID_VOXELS * grid.spacing_mm[0], shortest_mm):
        slices = f"{along_mm:.4g} mm along the body make {along_mm / grid.spacing_mm[0]:.2g} slices of the model's grid"
        yield Notice.of(Code.TOO_FEW_SLICES, f"{slices}, which needs {MIN_GRID_VOXELS}")
    if found := _list_outside(sampling["spacing_mm"], domain.spacing_mm, SPACING_FACTOR):
        yield Notice.of(Code.SPACING_OUTSIDE, f"voxels of {found}")
    if found := _list_outside(sampling["field_of_view_mm"], domain.field_of_view_mm, VIEW_FACTOR):
        lost = uptake_outside(volume, grid)
        outside = f"; {lost:.0%} of the voxels above SUV 1 lie outside the model's grid" if lost > 0 else ""
        yield Notice.of(Code.VIEW_OUTSIDE, f"a field of view of {found}{outside}")


def _list_outside(lengths_mm: Sequence[float], ranges: Sequence[Range], factor: float) -> str:
    """The lengths that lie beyond the training's by a factor, in words; empty where none does."""
    return ", ".join(
        f"{length:.4g} mm {axis} (trained on {_span(one, 'mm')})"
        for axis, length, one in zip(AXES, lengths_mm, ranges, strict=True)
        if _beyond(length, one, factor)
    )


def _beyond(value: float, one: Range, factor: float) -> bool:
    return not one.low / factor <= value <= one.high * factor


def _span(one: Range, unit: str) -> str:
    return f"{one.low:.4g} {unit}" if one.low == one.high else f"{one.low:.4g} to {one.high:.4g} {unit}"
