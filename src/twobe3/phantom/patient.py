"""Phantom patients: who they are, what grows in them, what becomes of them, and their scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twobe3.core.volume import Mask, SUVCalibration, SUVVolume
from twobe3.phantom.anatomy import Body, Sex, build_body
from twobe3.phantom.atlas import Arms
from twobe3.phantom.lesions import Lesion, draw_lesions
from twobe3.phantom.outcome import Fate, draw_fate
from twobe3.phantom.scanner import NORTH, Scanner, acquire, lesion_mask, uptake

SCANNED_SHARE = 0.575  # of the height: vertex to mid-thigh
_TOP_MM = 12.0


@dataclass(frozen=True, kw_only=True)
class PhantomSpec:
    """What is fixed about a patient; the rest is chance.

    Attributes
    ----------
    scanner : Scanner
        Of the centre where the patient is scanned.
    lesions : int, optional
        How many; 0 to 6 by chance.
    arms : {"up", "down"}, optional
        By chance.
    """

    scanner: Scanner = NORTH
    lesions: int | None = None
    arms: Arms | None = None


@dataclass(frozen=True, eq=False)
class PhantomSubject:
    """A patient before the scan: the ground truth.

    Attributes
    ----------
    age_years, sex, height_m, weight_kg
        Drawn consistently with each other.
    body : Body
        Organs with their true uptake.
    lesions : tuple of Lesion
        Lesions with their true uptake.
    fate : Fate
        What happens.
    """

    age_years: int
    sex: Sex
    height_m: float
    weight_kg: float
    body: Body
    lesions: tuple[Lesion, ...]
    fate: Fate


@dataclass(frozen=True, eq=False)
class PhantomPatient:
    """A scanned patient.

    Attributes
    ----------
    subject : PhantomSubject
        The ground truth.
    volume : SUVVolume
        The scan.
    mask : Mask
        The true lesions on the scan's voxels; empty where there are none.
    """

    subject: PhantomSubject
    volume: SUVVolume
    mask: Mask

    @property
    def lesions(self) -> tuple[Lesion, ...]:
        """The true lesions."""
        return self.subject.lesions


def draw_phantom_subject(seed: int | np.random.Generator, *, spec: PhantomSpec | None = None) -> PhantomSubject:
    """Draw a patient without scanning, in a few milliseconds.

    Parameters
    ----------
    seed : int or numpy.random.Generator
        Source of all chance.
    spec : PhantomSpec, optional
        What is fixed.
    """
    spec, rng = spec or PhantomSpec(), np.random.default_rng(seed)
    sex: Sex = "F" if rng.random() < 0.45 else "M"
    age = int(np.clip(rng.normal(62.0, 11.0), 25, 88))
    height_cm = np.clip(rng.normal(176.0, 7.0) if sex == "M" else rng.normal(164.0, 6.5), 148.0, 198.0)
    bmi = np.clip(25.5 * np.exp(rng.normal(0.0, 0.15)), 17.5, 38.0)
    height, weight = round(float(height_cm) / 100.0, 2), round(float(bmi * (height_cm / 100.0) ** 2), 1)
    arms: Arms = spec.arms or ("down" if rng.random() < 0.6 else "up")
    body = build_body(height_m=height, weight_kg=weight, sex=sex, arms=arms, rng=rng)
    lesions = draw_lesions(body, rng, count=spec.lesions)
    return PhantomSubject(age, sex, height, weight, body, lesions, draw_fate(lesions, age, rng))


def make_patient(
    seed: int | np.random.Generator, *, spec: PhantomSpec | None = None, frame_of_reference: str = ""
) -> PhantomPatient:
    """Draw a patient and scan them.

    Parameters
    ----------
    seed : int or numpy.random.Generator
        Source of all chance; an int gives the subject that :func:`draw_phantom_subject` gives.
    spec : PhantomSpec, optional
        What is fixed.
    frame_of_reference : str, optional
        FrameOfReferenceUID of volume and mask.

    Returns
    -------
    PhantomPatient
        Volume and mask of about (165, 96, 96) voxels, vertex to mid-thigh, slices from the feet upwards.
    """
    spec, rng = spec or PhantomSpec(), np.random.default_rng(seed)
    subject = draw_phantom_subject(rng, spec=spec)
    length_mm = SCANNED_SHARE * subject.height_m * 1000.0 + _TOP_MM
    geometry = spec.scanner.geometry(length_mm, frame_of_reference)
    image = acquire(uptake(subject.body, subject.lesions, geometry, rng), spec.scanner, geometry, rng)
    calibration = SUVCalibration(type="bw", rule="PHANTOM", factor_min=1.0, factor_max=1.0, weight_kg=subject.weight_kg)
    mask = Mask(lesion_mask(subject.lesions, geometry), geometry, "lesions")
    return PhantomPatient(subject, SUVVolume(image, geometry, calibration, history=("phantom",)), mask)


def make_array(seed: int | np.random.Generator, *, spacing_mm: float = 12.0) -> npt.NDArray[np.float32]:
    """SUV of a coarse scan of fixed field of view, quickly: for tests and benchmarks of networks.

    Parameters
    ----------
    seed : int or numpy.random.Generator
        Source of all chance.
    spacing_mm : float
        Of the voxels, in all directions.

    Returns
    -------
    ndarray of float32, shape (1008 / spacing, 528 / spacing, 528 / spacing)
        For instance (84, 44, 44).
    """
    rng = np.random.default_rng(seed)
    scanner = Scanner("coarse", spacing_mm, NORTH.noise, (spacing_mm,) * 3, round(528.0 / spacing_mm))
    subject = draw_phantom_subject(rng)
    geometry = scanner.geometry(1008.0)
    return acquire(uptake(subject.body, subject.lesions, geometry, rng), scanner, geometry, rng)
