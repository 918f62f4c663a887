"""Phantom patients: body, lesions, scan, and two outcomes that depend on the lesions.

Both outcomes depend on how much disease there is and on how far it is spread, standardised over patients, with chance
of their own. The true lesions predict metastasis with an AUC of about 0.85 and recurrence with a C-index of about
0.74; burden alone gives 0.81 and 0.71. Where a specification says so, metastasis depends on nothing but how far down
the body the uptake of four lesions lies, and recurrence on nothing but their burden: that place predicts metastasis
with an AUC of about 0.96, burden with 0.56; burden predicts recurrence with a C-index of about 0.80. The tests measure
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from twobe3.core.volume import CTVolume, Mask, SUVCalibration, SUVVolume
from twobe3.phantom.anatomy import Body, Sex, build_body
from twobe3.phantom.atlas import Arms
from twobe3.phantom.ct import acquire_ct
from twobe3.phantom.lesions import Lesion, draw_lesions, largest_distance_mm, total_lesion_glycolysis
from twobe3.phantom.scanner import NORTH, Scanner, acquire, lesion_mask, paint_uptake

SCANNED_SHARE = 0.575  # of the height: vertex to mid-thigh
_TOP_MM = 12.0
# Mean and standard deviation over drawn patients, for standardising.
BURDEN_LOG = (3.86, 1.83)
SPREAD_MM = (163.0, 162.0)
AGE_YEARS = (61.0, 11.0)
# Of patients with four lesions: `mean_place`, and the logarithm as above.
PLACE = (-0.221, 0.056)
BURDEN_LOG_OF_FOUR = (4.77, 0.91)

WEIGHT_BURDEN, WEIGHT_SPREAD, WEIGHT_AGE = 0.75, 0.45, 0.2
METASTASIS_SLOPE, METASTASIS_INTERCEPT = 1.6, -0.55
PLACE_SLOPE, BURDEN_HAZARD_SLOPE = 5.0, 1.6
HAZARD_SLOPE, WEIBULL_SHAPE, WEIBULL_SCALE_DAYS = 0.95, 1.2, 1900.0
FOLLOW_UP_DAYS = (500.0, 2000.0)  # administrative end: patients entered over several years
DROPOUT_DAYS = 6000.0  # mean of the exponential loss to follow-up


@dataclass(frozen=True, kw_only=True)
class PhantomSpec:
    """What is fixed about a patient: the scanner and, if given, the number of lesions and the position of the arms.

    Outcomes are ``"mixed"``, both depending on the latent risk; or ``"separate"``, for patients with four lesions:
    metastasis depends on their place alone, recurrence on their burden alone. With ``ct`` there is a CT beside the PET,
    which is the same with and without it.
    """

    scanner: Scanner = NORTH
    lesions: int | None = None
    arms: Arms | None = None
    outcomes: Literal["mixed", "separate"] = "mixed"
    ct: bool = False


@dataclass(frozen=True)
class PhantomOutcome:
    """Outcomes of a patient: recurrence, or censoring, after so many days from the scan, and distant metastasis.

    ``latent`` is the true standardised risk, by :func:`latent_risk`.
    """

    latent: float
    recurrence_days: int
    recurrence: bool
    metastasis: bool


@dataclass(frozen=True, eq=False)
class PhantomSubject:
    """A patient before the scan: the ground truth, with the true uptake of organs and lesions."""

    age_years: int
    sex: Sex
    height_m: float
    weight_kg: float
    body: Body
    lesions: tuple[Lesion, ...]
    outcome: PhantomOutcome


@dataclass(frozen=True, eq=False)
class PhantomPatient:
    """A scanned patient: ground truth, scan, the true lesions on the scan's voxels, and the CT if asked for."""

    subject: PhantomSubject
    volume: SUVVolume
    mask: Mask
    ct: CTVolume | None = None

    @property
    def lesions(self) -> tuple[Lesion, ...]:
        """The true lesions."""
        return self.subject.lesions


def draw_phantom_subject(seed: int | np.random.Generator, *, spec: PhantomSpec | None = None) -> PhantomSubject:
    """Draw a patient without scanning, in a few milliseconds."""
    spec, rng = spec or PhantomSpec(), np.random.default_rng(seed)
    sex: Sex = "F" if rng.random() < 0.45 else "M"
    age = int(np.clip(rng.normal(62.0, 11.0), 25, 88))
    height_cm = np.clip(rng.normal(176.0, 7.0) if sex == "M" else rng.normal(164.0, 6.5), 148.0, 198.0)
    bmi = np.clip(25.5 * np.exp(rng.normal(0.0, 0.15)), 17.5, 38.0)
    height, weight = round(float(height_cm) / 100.0, 2), round(float(bmi * (height_cm / 100.0) ** 2), 1)
    arms: Arms = spec.arms or ("down" if rng.random() < 0.6 else "up")
    body = build_body(height_m=height, weight_kg=weight, sex=sex, arms=arms, rng=rng)
    lesions = draw_lesions(body, rng, count=spec.lesions)
    place = mean_place(lesions, height) if spec.outcomes == "separate" else None
    return PhantomSubject(age, sex, height, weight, body, lesions, draw_outcome(lesions, age, rng, place=place))


def make_patient(
    seed: int | np.random.Generator, *, spec: PhantomSpec | None = None, frame_of_reference: str = ""
) -> PhantomPatient:
    """Draw a patient and scan them from vertex to mid-thigh, about (165, 96, 96) voxels, slices from the feet upwards.

    An int as seed gives the subject that :func:`draw_phantom_subject` gives.
    """
    spec, rng = spec or PhantomSpec(), np.random.default_rng(seed)
    subject = draw_phantom_subject(rng, spec=spec)
    length_mm = SCANNED_SHARE * subject.height_m * 1000.0 + _TOP_MM
    geometry = spec.scanner.geometry(length_mm, frame_of_reference)
    image = acquire(paint_uptake(subject.body, subject.lesions, geometry, rng), spec.scanner, geometry, rng)
    calibration = SUVCalibration(type="bw", rule="PHANTOM", factor_min=1.0, factor_max=1.0, weight_kg=subject.weight_kg)
    mask = Mask(lesion_mask(subject.lesions, geometry), geometry, "lesions")
    ct = acquire_ct(subject.body, subject.lesions, geometry, rng.spawn(1)[0]) if spec.ct else None
    return PhantomPatient(subject, SUVVolume(image, geometry, calibration, history=("phantom",)), mask, ct)


def make_array(seed: int | np.random.Generator, *, spacing_mm: float = 12.0) -> npt.NDArray[np.float32]:
    """Make the SUV of a coarse scan of fixed field of view, quickly: for tests and benchmarks of networks.

    Returns
    -------
    ndarray of float32, shape (1008 / spacing, 528 / spacing, 528 / spacing)
        For instance (84, 44, 44).
    """
    rng = np.random.default_rng(seed)
    scanner = Scanner("coarse", spacing_mm, NORTH.noise, (spacing_mm,) * 3, round(528.0 / spacing_mm))
    subject = draw_phantom_subject(rng)
    geometry = scanner.geometry(1008.0)
    return acquire(paint_uptake(subject.body, subject.lesions, geometry, rng), scanner, geometry, rng)


def latent_risk(lesions: tuple[Lesion, ...], age_years: float) -> float:
    """Weighted sum of burden (logarithm of total lesion glycolysis), dissemination and age, each standardised."""
    burden = (np.log1p(total_lesion_glycolysis(lesions)) - BURDEN_LOG[0]) / BURDEN_LOG[1]
    spread = (largest_distance_mm(lesions) - SPREAD_MM[0]) / SPREAD_MM[1]
    age = (age_years - AGE_YEARS[0]) / AGE_YEARS[1]
    return float(WEIGHT_BURDEN * burden + WEIGHT_SPREAD * spread + WEIGHT_AGE * age)


def mean_place(lesions: tuple[Lesion, ...], height_m: float) -> float:
    """Where the uptake of the lesions lies on average: from the vertex, as a share of the height, downwards negative.

    Without lesions the mean of patients with four.
    """
    if not lesions:
        return PLACE[0]
    weights = [total_lesion_glycolysis((lesion,)) for lesion in lesions]
    return float(np.average([lesion.centre_mm[2] for lesion in lesions], weights=weights)) / (1000.0 * height_m)


def draw_outcome(
    lesions: tuple[Lesion, ...], age_years: float, rng: np.random.Generator, *, place: float | None = None
) -> PhantomOutcome:
    """Draw both outcomes: a logistic model for metastasis; Weibull times, proportional hazards, for recurrence.

    Given the ``place`` of four lesions by :func:`mean_place`, metastasis depends on that, and recurrence on burden,
    alone.

    Times follow Bender, Augustin and Blettner, Stat Med 2005, 24, 1713–1723, table II: scale·(−log U·e^(−η))^(1/shape).
    """
    latent = latent_risk(lesions, age_years)
    odds, hazard = METASTASIS_INTERCEPT + METASTASIS_SLOPE * latent, HAZARD_SLOPE * latent
    if place is not None:
        odds = PLACE_SLOPE * (PLACE[0] - place) / PLACE[1]
        burden = (np.log1p(total_lesion_glycolysis(lesions)) - BURDEN_LOG_OF_FOUR[0]) / BURDEN_LOG_OF_FOUR[1]
        hazard = BURDEN_HAZARD_SLOPE * float(burden)
    metastasis = bool(rng.random() < 1.0 / (1.0 + np.exp(-odds)))
    time = WEIBULL_SCALE_DAYS * (rng.exponential() * np.exp(-hazard)) ** (1.0 / WEIBULL_SHAPE)
    end = min(rng.uniform(*FOLLOW_UP_DAYS), rng.exponential(DROPOUT_DAYS))
    days = max(int(np.ceil(min(time, end))), 1)
    return PhantomOutcome(latent, days, bool(time <= end), metastasis)
