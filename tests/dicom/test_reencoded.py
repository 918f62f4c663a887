"""A real scan, stored again as each vendor would store it, gives back the same SUV.

The scans of ``sts`` are SUV already (GML), so what they hold is known without any rule for activity. Here their stored
values stay and slope, unit, decay, times and private elements are rewritten; the factors are worked out below, from
DICOM PS3.3 C.8.9, not by the package.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.valuerep import format_number_as_ds

from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import SUVVolume
from twobe3.dicom.reader import quietly
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv

HALF_LIFE_S, DOSE_BQ, WEIGHT_KG = 6586.2, 388e6, 71.0
RATE = math.log(2) / HALF_LIFE_S
FRAME_S, SLICES_PER_BED = 240.0, 20
INJECTED = datetime(2020, 3, 1, 23, 20, 30)
UPTAKE_S = 3300.0  # the scan starts after midnight
STARTED = INJECTED + timedelta(seconds=UPTAKE_S)


@dataclass(frozen=True)
class Original:
    volume: SUVVolume
    slices: tuple[pydicom.Dataset, ...]  # in the order of the volume


@pytest.fixture(scope="module")
def original(real_data: Path) -> Original:
    (series,) = find_series([real_data / "sts" / "dicom" / "STS_019"]).series
    slices = [pydicom.dcmread(path) for path in series.files]
    slices.sort(key=lambda one: float(one.ImagePositionPatient[2]))
    return Original(read_suv(series), tuple(slices))


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y%m%d%H%M%S.%f")


def set_date_time(dataset: pydicom.Dataset, what: str, moment: datetime) -> None:
    setattr(dataset, f"{what}Date", stamp(moment)[:8])
    setattr(dataset, f"{what}Time", stamp(moment)[8:])


def siemens(dataset: pydicom.Dataset) -> None:
    """The series' time is the reference; date and time of the injection; the private decay reference."""
    set_date_time(dataset, "Series", STARTED)
    dataset.Manufacturer = "SIEMENS"
    dataset.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime = stamp(INJECTED)
    dataset.private_block(0x0071, "SIEMENS MED PT", create=True).add_new(0x22, "DT", stamp(STARTED))


def ge(dataset: pydicom.Dataset) -> None:
    """Reconstructed again an hour later: the scan's start and the injection stand in private elements alone."""
    set_date_time(dataset, "Series", STARTED + timedelta(hours=1))
    dataset.Manufacturer = "GE MEDICAL SYSTEMS"
    block = dataset.private_block(0x0009, "GEMS_PETD_01", create=True)
    block.add_new(0x0D, "DT", stamp(STARTED))
    block.add_new(0x3B, "DT", stamp(INJECTED))


def ge_without_private_elements(dataset: pydicom.Dataset) -> None:
    """The same series anonymised: the reference follows from FrameReferenceTime alone."""
    set_date_time(dataset, "Series", STARTED + timedelta(hours=1))
    dataset.Manufacturer = "GE MEDICAL SYSTEMS"
    dataset.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime = stamp(INJECTED)[8:]


def philips(dataset: pydicom.Dataset) -> None:
    """The injection has a clock time without a date, and here lies before midnight."""
    set_date_time(dataset, "Series", STARTED)
    dataset.Manufacturer = "Philips Medical Systems"
    dataset.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime = stamp(INJECTED)[8:]


def philips_counts(dataset: pydicom.Dataset) -> None:
    """Counts, and the private factor from counts to activity; that to SUV is 0, which means absent."""
    philips(dataset)
    dataset.Units = "CNTS"
    dataset.RescaleSlope = format_number_as_ds(float(dataset.RescaleSlope) / 2.5)
    block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", "0")
    block.add_new(0x09, "DS", "2.5")


STYLES: dict[str, Callable[[pydicom.Dataset], None]] = {
    "Siemens": siemens,
    "GE": ge,
    "GE without private elements": ge_without_private_elements,
    "Philips": philips,
    "Philips counts": philips_counts,
}
DECAY = ("START", "ADMIN", "NONE")


def activity_per_suv(decay: str, bed_s: float) -> float:
    """Bq/ml that a scanner stores for SUV 1 in a bed position that begins so long after the scan's start."""
    at_injection = DOSE_BQ / (WEIGHT_KG * 1000)
    match decay:
        case "ADMIN":
            return at_injection
        case "START":
            return at_injection * math.exp(-RATE * UPTAKE_S)
    # the mean over the frame of what has decayed since the injection
    begin, end = UPTAKE_S + bed_s, UPTAKE_S + bed_s + FRAME_S
    return at_injection * (math.exp(-RATE * begin) - math.exp(-RATE * end)) / (RATE * FRAME_S)


def encode(original: Original, style: str, decay: str, folder: Path) -> Path:
    """The scan in a vendor's style; its tracer, decay and times are ours, its stored values and geometry its own."""
    for number, source in enumerate(original.slices):
        dataset = pydicom.dcmread(source.filename)
        with quietly():  # some of these headers hold longer texts than DICOM allows
            dataset.remove_private_tags()
        bed_s = number // SLICES_PER_BED * FRAME_S
        dataset.Units, dataset.DecayCorrection, dataset.PatientWeight = "BQML", decay, WEIGHT_KG
        del dataset.SUVType
        dataset.CorrectedImage = ["ATTN", "SCAT"] + ([] if decay == "NONE" else ["DECY"])
        dataset.RescaleSlope = format_number_as_ds(float(source.RescaleSlope) * activity_per_suv(decay, bed_s))
        dataset.ActualFrameDuration = round(FRAME_S * 1000)
        mean_s = bed_s - math.log(-math.expm1(-RATE * FRAME_S) / (RATE * FRAME_S)) / RATE
        dataset.FrameReferenceTime = format_number_as_ds(mean_s * 1000)
        to_injection_s = UPTAKE_S if decay == "ADMIN" else 0.0
        dataset.DecayFactor = (
            "1" if decay == "NONE" else format_number_as_ds(math.exp(RATE * (mean_s + to_injection_s)))
        )
        set_date_time(dataset, "Acquisition", STARTED + timedelta(seconds=bed_s))
        tracer = dataset.RadiopharmaceuticalInformationSequence[0]
        del tracer.RadiopharmaceuticalStartTime
        tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = DOSE_BQ, HALF_LIFE_S
        STYLES[style](dataset)
        dataset.save_as(folder / f"{number:03}.dcm")
    return folder


def read(folder: Path) -> SUVVolume:
    (series,) = find_series([folder]).series
    return read_suv(series)


def codes(warnings: Iterable[str]) -> set[str]:
    return {warning.split(":")[0] for warning in warnings}


@pytest.mark.parametrize(("style", "decay"), list(itertools.product(STYLES, DECAY)))
def test_a_real_scan_gives_back_its_suv(original: Original, style: str, decay: str, tmp_path: Path) -> None:
    volume = read(encode(original, style, decay, tmp_path))
    np.testing.assert_allclose(volume.array, original.volume.array, rtol=1e-6)
    assert volume.geometry.same_as(original.volume.geometry)
    prefix = "PHILIPS_" if style == "Philips counts" else ""
    assert volume.calibration.rule == f"{prefix}BQML_{decay}"
    expected = {"TIMES_INCONSISTENT"} if style == "GE without private elements" and decay == "START" else set()
    assert codes(volume.calibration.warnings) == expected  # the reference was worked out, and that is recorded


def test_a_wrong_reference_is_noticed_by_the_cross_checks(original: Original, tmp_path: Path) -> None:
    folder = encode(original, "Siemens", "START", tmp_path)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        set_date_time(dataset, "Series", STARTED - timedelta(minutes=20))
        dataset.save_as(path)
    warnings = read(folder).calibration.warnings
    assert len(warnings) == 2  # by Siemens' private element, and by DecayFactor
    assert codes(warnings) == {"TIMES_INCONSISTENT"}
    assert "1200 s" in warnings[0]


def shift(folder: Path, **years: int) -> None:
    """De-identification of one date: that of the series with its slices, or that of the injection."""
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        tracer = dataset.RadiopharmaceuticalInformationSequence[0]
        if "years_of_injection" in years:
            text = str(tracer.RadiopharmaceuticalStartDateTime)
            tracer.RadiopharmaceuticalStartDateTime = f"{int(text[:4]) + years['years_of_injection']}{text[4:]}"
        for name in ("Series", "Acquisition"):
            date = getattr(dataset, f"{name}Date")
            setattr(dataset, f"{name}Date", f"{int(date[:4]) + years.get('years_of_scan', 0)}{date[4:]}")
        dataset.save_as(path)


@pytest.mark.parametrize("decay", ["START", "NONE"])
@pytest.mark.parametrize("shifted", [{"years_of_injection": -1}, {"years_of_injection": 1}, {"years_of_scan": 2}])
def test_a_date_shifted_by_years_is_refused_and_repaired_on_request(
    original: Original, shifted: dict[str, int], decay: str, tmp_path: Path
) -> None:
    """Acceptance row 8."""
    folder = encode(original, "Siemens", decay, tmp_path)
    shift(folder, **shifted)
    (series,) = find_series([folder]).series
    for asked in ({}, {"policy": "strict", "repair_dates": True}):
        with pytest.raises(UnusableScanError, match="TIMES_INCONSISTENT"):
            read_suv(series, **asked)
    volume = read_suv(series, repair_dates=True)
    np.testing.assert_allclose(volume.array, original.volume.array, rtol=1e-6)
    (repair,) = (warning for warning in volume.calibration.warnings if "repair_dates" in warning)
    assert "by its time of day alone, 0.92 h; taken, as repair_dates asks" in repair  # 55 minutes, across midnight
