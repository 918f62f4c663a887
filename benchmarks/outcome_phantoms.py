"""The phantoms of `outcomes.py`: patients of the package's phantom, with five properties that decide an outcome each.

- ``burden``: the logarithm of total lesion glycolysis;
- ``heterogeneity``: how uneven the uptake within lesions is, at equal glycolysis;
- ``dissemination``: the largest distance between two lesions;
- ``necrosis``: the share of the largest lesion that is a cold core;
- ``place``: how far up in the body the lesion of the most glycolysis lies.

Every patient has all five, so one scan serves five outcomes, and the other four properties are chance to each. Patients
have at least two lesions, the largest at least 26 mm wide, so that every property is there. An outcome depends on one
property alone, standardised: a logistic model of a metastasis, a Weibull model of the time to recurrence, censored as
in the package's phantom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

import twobe3 as tb
from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.io.cache import Cache
from twobe3.phantom import NORTH, Lesion, PhantomSubject, draw_phantom_subject
from twobe3.phantom.lesions import largest_distance_mm, total_lesion_glycolysis
from twobe3.phantom.patient import (
    DROPOUT_DAYS,
    FOLLOW_UP_DAYS,
    METASTASIS_INTERCEPT,
    SCANNED_SHARE,
    WEIBULL_SCALE_DAYS,
    WEIBULL_SHAPE,
)
from twobe3.phantom.scanner import acquire, lesion_mask, paint_uptake
from twobe3.phantom.shapes import Ellipsoid, VoxelGrid, paint_exactly

VERSION = "outcomes-2"
"""Of how patients are drawn and painted."""
FIRST_SEED = {"development": 30_000_000, "published": 35_000_000}
"""Choices are made on the first; no choice has seen those of published tables. The project's other phantoms, on which
networks were trained or `heads.py` chose, begin at 10, 20 and 40 million."""
LESIONS, WIDEST_MM = 2, 26.0
"""What every patient has at least."""
TEXTURE, TEXTURE_MM = 0.8, 5.0
"""Largest standard deviation of the logarithm of the uptake within a lesion, and its smoothness as a Gaussian's."""
CORE_SHARE, CORE_SUV = 0.6, 0.8
"""Largest share of a lesion that is necrotic, and the uptake there."""
GRID = tb.Grid((8.0, 8.0, 8.0), (1024.0, 512.0, 512.0))


@dataclass(frozen=True, eq=False)
class Patient:
    """A patient before the scan; ``unevenness`` and ``core`` are uniform between 0 and 1, independent of all else."""

    seed: int
    subject: PhantomSubject
    unevenness: float
    core: float

    @property
    def lesions(self) -> tuple[Lesion, ...]:
        return self.subject.lesions

    @property
    def largest(self) -> Lesion:
        return max(self.lesions, key=lambda lesion: lesion.radius_mm)

    @property
    def necrotic_share(self) -> float:
        return CORE_SHARE * self.core

    @property
    def glycolysis(self) -> float:
        """SUV·ml, without what the necrosis takes away."""
        lost = self.necrotic_share * self.largest.volume_ml * (self.largest.suv - CORE_SUV)
        return total_lesion_glycolysis(self.lesions) - lost

    @property
    def height(self) -> float:
        """Of the lesion of the most glycolysis, from the vertex, as a share of the body's height; negative."""
        hottest = max(self.lesions, key=lambda lesion: lesion.suv * lesion.volume_ml)
        return hottest.centre_mm[2] / (1000.0 * self.subject.height_m)


@dataclass(frozen=True)
class Property:
    """Something of a patient, with its mean and standard deviation over patients.

    The slopes are the logarithms of the odds and of the hazard for a standard deviation, such that the property itself
    predicts metastasis with an AUC of about 0.85 and recurrence with a C of about 0.74.
    """

    measure: Callable[[Patient], float]
    mean: float
    sd: float
    slope: float
    hazard_slope: float

    def risk(self, patient: Patient) -> float:
        return (self.measure(patient) - self.mean) / self.sd


UNIFORM_SD = float(np.sqrt(1.0 / 12.0))
MECHANISMS = {
    "burden": Property(lambda patient: float(np.log(patient.glycolysis)), 5.28, 0.705, 1.85, 0.95),
    "heterogeneity": Property(lambda patient: patient.unevenness, 0.5, UNIFORM_SD, 1.6, 0.95),
    "dissemination": Property(lambda patient: largest_distance_mm(patient.lesions), 259.0, 161.0, 1.75, 0.85),
    "necrosis": Property(lambda patient: patient.core, 0.5, UNIFORM_SD, 1.6, 1.0),
    "place": Property(lambda patient: patient.height, -0.222, 0.082, 2.2, 1.3),
}


@dataclass(frozen=True)
class Outcome:
    """Metastasis; recurrence, or censoring, after so many days."""

    risk: float
    metastasis: bool
    days: int
    recurrence: bool


@cache
def draw_patient(seed: int) -> Patient:
    """Draw patients until one has lesions enough."""
    rng = np.random.default_rng(seed)
    while True:
        subject = draw_phantom_subject(rng)
        widths = [2.0 * lesion.radius_mm for lesion in subject.lesions]
        if len(widths) >= LESIONS and max(widths) >= WIDEST_MM:
            return Patient(seed, subject, *rng.uniform(size=2).tolist())


def draw_outcome(patient: Patient, mechanism: str) -> Outcome:
    """Draw both outcomes that a property decides; times as :func:`twobe3.phantom.patient.draw_outcome` draws them."""
    rng = np.random.default_rng([patient.seed, 2, list(MECHANISMS).index(mechanism)])
    cause = MECHANISMS[mechanism]
    risk = cause.risk(patient)
    chance = 1.0 / (1.0 + np.exp(-(METASTASIS_INTERCEPT + cause.slope * risk)))
    metastasis = bool(rng.random() < chance)
    time = WEIBULL_SCALE_DAYS * (rng.exponential() * np.exp(-cause.hazard_slope * risk)) ** (1.0 / WEIBULL_SHAPE)
    end = min(rng.uniform(*FOLLOW_UP_DAYS), rng.exponential(DROPOUT_DAYS))
    return Outcome(risk, metastasis, max(int(np.ceil(min(time, end))), 1), bool(time <= end))


# -- the scan


def paint_patient(patient: Patient) -> tuple[SUVVolume, Mask]:
    """The scan, and the lesions on its voxels, necrosis among them."""
    rng = np.random.default_rng([patient.seed, 1])
    geometry = NORTH.geometry(SCANNED_SHARE * patient.subject.height_m * 1000.0)
    image = acquire(paint_truth(patient, geometry, rng), NORTH, geometry, rng)
    calibration = SUVCalibration(
        type="bw", rule="PHANTOM", factor_min=1.0, factor_max=1.0, weight_kg=patient.subject.weight_kg
    )
    mask = Mask(lesion_mask(patient.lesions, geometry), geometry, "lesions")
    return SUVVolume(image, geometry, calibration, history=("phantom",)), mask


def paint_truth(patient: Patient, geometry: Geometry, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """The true uptake in SUV, with texture and necrosis."""
    grid = VoxelGrid.from_geometry(geometry)
    image = paint_uptake(patient.subject.body, patient.lesions, geometry, rng)
    sigma = [TEXTURE_MM / step for step in geometry.spacing_mm]
    texture = gaussian_filter(rng.standard_normal(geometry.shape, dtype=np.float32), sigma)
    texture = np.exp(TEXTURE * patient.unevenness * texture / texture.std())
    for lesion in patient.lesions:
        cover = cover_of(lesion.solid, grid, geometry)
        # Of mean 1 within the lesion, so that its glycolysis stays.
        uneven = lesion.suv * texture * cover.sum() / (texture * cover).sum()
        image += cover * (uneven - lesion.suv)
        if lesion is patient.largest and patient.necrotic_share:
            core = shrink(lesion.solid, patient.necrotic_share)
            image += cover_of(core, grid, geometry) * (CORE_SUV - uneven)
    return image


def cover_of(solid: Ellipsoid, grid: VoxelGrid, geometry: Geometry) -> npt.NDArray[np.float32]:
    """The share of each voxel that lies in a solid."""
    cover = np.zeros(geometry.shape, dtype=np.float32)
    paint_exactly(cover, grid, solid, 1.0)
    return cover


def shrink(solid: Ellipsoid, share: float) -> Ellipsoid:
    """An ellipsoid of the same form and centre, with this share of the volume."""
    a, b, c = (share ** (1.0 / 3.0) * radius for radius in solid.radii_mm)
    return Ellipsoid(solid.centre_mm, (a, b, c), solid.tilt_deg)


@dataclass(frozen=True)
class PhantomScan:
    """A phantom that is painted when it is needed."""

    seed: int

    @property
    def digest(self) -> str:
        return f"{VERSION} {self.seed}"

    def suv(self) -> SUVVolume:
        return self._painted[0]

    def contour(self, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask:
        return self._painted[1]

    @cached_property
    def _painted(self) -> tuple[SUVVolume, Mask]:
        return paint_patient(draw_patient(self.seed))


def scans(seeds: range, folder: Path) -> tb.Cohort:
    """Patients without outcomes."""
    subjects = tuple(tb.Subject(str(seed), PhantomScan(seed)) for seed in seeds)
    return tb.Cohort(subjects, grid=GRID, volumes=Cache(folder / "volumes"))


def cohort(seeds: range, mechanism: str, folder: Path) -> tb.Cohort:
    """Patients with both outcomes of a mechanism."""
    outcomes = {str(seed): draw_outcome(draw_patient(seed), mechanism) for seed in seeds}
    table = {
        key: {"m": str(int(one.metastasis)), "t": str(one.days), "e": str(int(one.recurrence))}
        for key, one in outcomes.items()
    }
    endpoints = (
        tb.Binary("metastasis", "m").outcomes(table),
        tb.TimeToEvent("recurrence", "t", "e").outcomes(table),
    )
    return replace(scans(seeds, folder), endpoints=endpoints)
