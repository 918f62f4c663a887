"""The attributes that the SUV rules need of a PET series and its slices, as plain values without DICOM objects."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeVar

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError

Policy = Literal["strict", "lenient"]
"""``"lenient"`` repairs what has one plausible reading and records it; ``"strict"`` refuses it."""

T = TypeVar("T")


@dataclass(frozen=True)
class SliceAttributes:
    """What the header of one slice says.

    Attributes
    ----------
    slope, intercept : float or None
        RescaleSlope (0028,1053) and RescaleIntercept (0028,1052).
    acquisition_date, acquisition_time, acquisition_datetime : str
        (0008,0022), (0008,0032), (0008,002A) as DICOM text; empty where absent.
    frame_reference_time_ms, frame_duration_ms : float or None
        (0054,1300) and (0018,1242).
    decay_factor : float or None
        DecayFactor (0054,1321).
    philips_suv, philips_activity : float or None
        Philips private scale factors (7053,xx00) to SUV and (7053,xx09) to Bq/ml.
    """

    slope: float | None
    intercept: float | None = 0.0
    acquisition_date: str = ""
    acquisition_time: str = ""
    acquisition_datetime: str = ""
    frame_reference_time_ms: float | None = None
    frame_duration_ms: float | None = None
    decay_factor: float | None = None
    philips_suv: float | None = None
    philips_activity: float | None = None


@dataclass(frozen=True)
class Injection:
    """What one item of RadiopharmaceuticalInformationSequence (0054,0016) says.

    Attributes
    ----------
    dose, half_life_s : float or None
        RadionuclideTotalDose (0018,1074) and RadionuclideHalfLife (0018,1075).
    nuclide : str
        Code value of RadionuclideCodeSequence (0054,0300).
    start_datetime, start_time : str
        (0018,1078) and (0018,1072), as DICOM text.
    """

    dose: float | None = None
    half_life_s: float | None = None
    nuclide: str = ""
    start_datetime: str = ""
    start_time: str = ""


@dataclass(frozen=True)
class SeriesAttributes:
    """What the headers of a series say; numbers as stored, before any check or repair.

    Attributes
    ----------
    units, suv_type, decay_correction : str
        (0054,1001), (0054,1006), (0054,1102).
    corrections, series_type : tuple of str
        CorrectedImage (0028,0051) and SeriesType (0054,1000).
    weight, height : float or None
        PatientWeight (0010,1030) and PatientSize (0010,1020).
    sex : str
        PatientSex (0010,0040).
    dose, half_life_s, nuclide, start_datetime, start_time
        Of the first injection, as in :class:`Injection`.
    further : tuple of Injection
        The injections after the first.
    series_date, series_time, zone : str
        (0008,0021), (0008,0031) and TimezoneOffsetFromUTC (0008,0201), as DICOM text.
    decay_correction_datetime : str
        DecayCorrectionDateTime (0018,9701).
    ge_scan_datetime, ge_injection_datetime, siemens_decay_datetime : str
        GE (0009,xx0D) and (0009,xx3B), Siemens (0071,xx22), each under its private creator.
    philips_creator : bool
        Whether the Philips factors stand under their private creator; False when it was removed.
    slices : tuple of SliceAttributes
        In the order of the volume.
    whole_series : tuple of SliceAttributes
        The slices of the whole series that were acquired first and last, where the volume is one frame of it.
    model : str
        ManufacturerModelName (0008,1090).
    """

    units: str
    decay_correction: str
    corrections: tuple[str, ...]
    slices: tuple[SliceAttributes, ...]
    suv_type: str = ""
    series_type: tuple[str, ...] = ()
    weight: float | None = None
    height: float | None = None
    sex: str = ""
    dose: float | None = None
    half_life_s: float | None = None
    nuclide: str = ""
    series_date: str = ""
    series_time: str = ""
    start_datetime: str = ""
    start_time: str = ""
    further: tuple[Injection, ...] = ()
    zone: str = ""
    decay_correction_datetime: str = ""
    ge_scan_datetime: str = ""
    ge_injection_datetime: str = ""
    siemens_decay_datetime: str = ""
    philips_creator: bool = True
    whole_series: tuple[SliceAttributes, ...] = ()
    model: str = ""

    @property
    def norm_fields(self) -> frozenset[str]:
        """Which fields decide the norm of SUV that were stored by another one than the weight (rules 4 and 5)."""
        if self.units == "CM2ML":
            return frozenset(("height",))
        return frozenset(("height", "sex")) if self.units == "GML" and self.suv_type not in ("", "BW") else frozenset()

    @property
    def injections(self) -> tuple[SeriesAttributes, ...]:
        """The same series once for each injection, as if that were the only one."""
        if not self.further:
            return (self,)
        alone = replace(self, further=(), ge_injection_datetime="")  # which does not say whose time it is
        return (alone, *(replace(alone, **vars(one)) for one in self.further))


@dataclass(frozen=True)
class Repair:
    """A repair that was made, or a cross-check that failed.

    Attributes
    ----------
    code : Code
        What would have been refused.
    text : str
        One line: the value, and how it was taken.
    changes_value : bool
        Whether a value was changed or guessed, which the strict policy refuses; cross-checks are only recorded.
    on_request : str
        Name of the option without which the lenient policy refuses the repair too; empty for most.
    """

    code: Code
    text: str
    changes_value: bool = True
    on_request: str = ""

    def __str__(self) -> str:
        asked = f"; taken, as {self.on_request} asks" if self.on_request else ""
        return f"{self.code.name}: {self.text}{asked}"


@dataclass(frozen=True)
class WithRepairs(Generic[T]):
    """A value, and the repairs and failed cross-checks on the way to it."""

    value: T
    repairs: tuple[Repair, ...] = ()


def apply_policy(repairs: Iterable[Repair], policy: Policy, *, requested: Container[str] = ()) -> tuple[str, ...]:
    """The repairs and cross-checks as lines, each once.

    Raises
    ------
    UnusableScanError
        Of the first that is refused: under the strict policy every repair, under both policies a repair that needs an
        option which is not among ``requested``.
    """
    repairs = tuple(dict.fromkeys(repairs))
    for repair in repairs:
        if repair.changes_value and (policy == "strict" or (repair.on_request and repair.on_request not in requested)):
            remedy = f"{repair.code.remedy}; or ask for {repair.on_request}" if repair.on_request else None
            raise UnusableScanError(repair.code, repair.text, remedy=remedy)
    return tuple(str(repair) for repair in repairs)
