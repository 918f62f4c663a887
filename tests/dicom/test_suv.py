import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.dicom.attributes import ATTRIBUTES, SLICE

from twobe3.core.errors import UnusableScanError
from twobe3.dicom.attributes import SeriesAttributes, SliceAttributes
from twobe3.dicom.suv import calibrate

ONE_HOUR = 70e3 / 370e6 * 2 ** (3600 / 6586.2)


def factor(attributes: SeriesAttributes = ATTRIBUTES, **changes: object) -> float:
    return float(calibrate(replace(attributes, **changes)).per_slice[0])


def of_slices(attributes: SeriesAttributes = ATTRIBUTES, **changes: object) -> SeriesAttributes:
    return replace(attributes, slices=tuple(replace(one, **changes) for one in attributes.slices))


@pytest.mark.parametrize("name", ["SIEMENS", "GE_MEDICAL_AND_BQML", "PHILIPS_BQML", "PHILIPS_CNTS_AND_SUV"])
def test_vendor_headers_give_the_published_factor(real_data: Path, name: str) -> None:
    folder = real_data / "pet_headers"
    with (folder / "expected.csv").open() as stream:
        expected = {row["file"]: float(row["suv_bw_factor"]) for row in csv.DictReader(stream)}
    headers = json.loads((folder / f"{name}-instances.json").read_text())
    first = headers[0]
    attributes = SeriesAttributes(
        units=first["Units"],
        decay_correction=first["DecayCorrection"],
        corrections=tuple(first["CorrectedImage"]),
        slices=tuple(
            SliceAttributes(
                slope=1.0,
                acquisition_date=header["AcquisitionDate"],
                acquisition_time=header["AcquisitionTime"],
                frame_reference_time_ms=header["FrameReferenceTime"],
                frame_duration_ms=header["ActualFrameDuration"],
                philips_suv=float(header["PhilipsPETPrivateGroup"].get("SUVScaleFactor", 0)),
                philips_activity=float(header["PhilipsPETPrivateGroup"].get("ActivityConcentrationScaleFactor", 0)),
            )
            for header in headers
        ),
        weight=first["PatientWeight"],
        dose=first["RadionuclideTotalDose"],
        half_life_s=first["RadionuclideHalfLife"],
        series_date=first["SeriesDate"],
        series_time=first["SeriesTime"],
        start_datetime=first.get("RadiopharmaceuticalStartDateTime", ""),
        start_time=first["RadiopharmaceuticalStartTime"],
    )
    factors = calibrate(attributes, policy="strict").per_slice
    np.testing.assert_allclose(factors, expected[f"{name}-instances.json"], rtol=1e-6)


def test_start_decays_the_dose_from_injection_to_reference() -> None:
    calibration = calibrate(ATTRIBUTES).calibration
    assert factor() == pytest.approx(ONE_HOUR)
    assert calibration.rule == "BQML_START"
    assert calibration.decay_factor == pytest.approx(2 ** (-3600 / 6586.2))
    assert calibration.reference_time == "2024-03-01T11:00:00"
    assert calibration.warnings == ()


def test_admin_needs_no_times() -> None:
    bare = of_slices(
        replace(ATTRIBUTES, decay_correction="ADMIN", start_datetime="", series_time=""), acquisition_time=""
    )
    assert factor(bare, half_life_s=None) == pytest.approx(70e3 / 370e6)


def test_undecayed_frames_give_the_activity_at_injection() -> None:
    """A constant uptake, measured as the mean of a decaying count over each frame, is found again by rule 9."""
    rate = math.log(2) / 1223.0
    begins, duration = (600.0, 1800.0), 300.0
    measured = [np.exp(-rate * np.linspace(t, t + duration, 20001)).mean() for t in begins]
    slices = tuple(
        replace(SLICE, acquisition_time=f"10{int(t) // 60:02}00", frame_duration_ms=duration * 1e3) for t in begins
    )
    attributes = replace(ATTRIBUTES, decay_correction="NONE", corrections=("ATTN",), half_life_s=1223.0, slices=slices)
    suv = calibrate(attributes).per_slice * np.array(measured)
    np.testing.assert_allclose(suv, 70e3 / 370e6, rtol=1e-4)


@pytest.mark.parametrize(
    ("suv_type", "sex", "norm_kg"),
    [
        ("LBMJAMES128", "M", 1.10 * 70 - 128 * 0.16),
        ("LBM", "M", 1.10 * 70 - 120 * 0.16),
        ("LBM", "F", 1.07 * 70 - 148 * 0.16),
        ("IBW", "O", (48 + 1.06 * 23 + 45.5 + 0.91 * 23) / 2),
        ("BW", "", 70.0),
        ("", "", 70.0),
    ],
)
def test_other_norms_become_body_weight(suv_type: str, sex: str, norm_kg: float) -> None:
    attributes = replace(ATTRIBUTES, units="GML", suv_type=suv_type, sex=sex, dose=None, start_datetime="")
    assert factor(attributes) == pytest.approx(70 / norm_kg)


def test_body_surface_becomes_body_weight() -> None:
    # Du Bois: 70 kg and 170 cm have 1.810 m²
    assert factor(units="CM2ML", height=1.70) == pytest.approx(70 / 18.10, rel=1e-3)


def test_philips_factor_to_suv_goes_before_the_one_to_activity() -> None:
    counts = replace(of_slices(philips_suv=0.0007, philips_activity=2.0), units="CNTS")
    assert factor(counts) == 0.0007
    assert "would differ" in calibrate(counts).calibration.warnings[0]
    assert factor(of_slices(counts, philips_suv=0.0)) == pytest.approx(2.0 * ONE_HOUR)
    assert calibrate(of_slices(counts, philips_suv=0.0)).calibration.rule == "PHILIPS_BQML_START"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"corrections": ("DECY",)}, "NOT_ATTN"),
        ({"corrections": ("ATTN",)}, "NOT_DECAY_CORRECTED"),
        ({"decay_correction": ""}, "NOT_DECAY_CORRECTED"),
        ({"slices": (SLICE, replace(SLICE, intercept=-1.0))}, "RESCALE_INVALID"),
        ({"slices": (SLICE, replace(SLICE, slope=0.0))}, "RESCALE_INVALID"),
        ({"slices": (SLICE, replace(SLICE, slope=-1.0))}, "RESCALE_INVALID"),
        ({"slices": (SLICE, replace(SLICE, slope=math.nan))}, "RESCALE_INVALID"),
        ({"slices": (SLICE, replace(SLICE, slope=None))}, "RESCALE_INVALID"),
        ({"units": "GML", "suv_type": "XYZ"}, "SUV_TYPE_UNSUPPORTED"),
        ({"units": "GML", "suv_type": "LBM", "sex": "X"}, "SEX_MISSING"),
        ({"units": "GML", "suv_type": "LBM", "height": None}, "HEIGHT_MISSING"),
        ({"units": "CNTS"}, "NO_SCALE_FACTOR"),
        ({"units": "CPS"}, "UNITS_UNSUPPORTED"),
        ({"units": "PROPCNTS"}, "UNITS_UNSUPPORTED"),
        ({"units": "1CM"}, "UNITS_UNSUPPORTED"),
        ({"start_datetime": ""}, "TIMES_MISSING"),
        ({"start_datetime": "20230301100000"}, "TIMES_INCONSISTENT"),
        ({"start_datetime": "20240301110100"}, "TIMES_INCONSISTENT"),
        ({"half_life_s": None, "nuclide": "C-128A2"}, "HALF_LIFE_MISSING"),
        ({"dose": None}, "DOSE_MISSING"),
        ({"dose": 0.0}, "DOSE_MISSING"),
        ({"weight": None}, "WEIGHT_MISSING"),
        ({"weight": 0.0}, "WEIGHT_MISSING"),
        ({"series_type": ("DYNAMIC", "IMAGE")}, "NOT_STATIC"),
        ({"series_type": ("GATED", "IMAGE")}, "NOT_STATIC"),
    ],
)
def test_refusals(changes: dict[str, object], code: str) -> None:
    """Acceptance row 13."""
    with pytest.raises(UnusableScanError) as refused:
        calibrate(replace(ATTRIBUTES, **changes))
    assert refused.value.code.name == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"weight": 70000.0}, "WEIGHT_IMPLAUSIBLE"),
        ({"dose": 370.0}, "DOSE_IMPLAUSIBLE"),
        ({"half_life_s": None, "nuclide": "C-111A1"}, "HALF_LIFE_MISSING"),
        ({"half_life_s": 0.0, "nuclide": "77004003"}, "HALF_LIFE_MISSING"),
    ],
)
def test_repairs_are_recorded_and_strict_refuses_them(changes: dict[str, object], code: str) -> None:
    repaired = calibrate(replace(ATTRIBUTES, **changes))
    assert repaired.per_slice[0] == pytest.approx(ONE_HOUR, rel=1e-4)
    assert [warning.split(":")[0] for warning in repaired.calibration.warnings] == [code]
    with pytest.raises(UnusableScanError) as refused:
        calibrate(replace(ATTRIBUTES, **changes), policy="strict")
    assert refused.value.code.name == code


def test_height_in_centimetres_is_repaired() -> None:
    lean = replace(ATTRIBUTES, units="GML", suv_type="LBM")
    assert factor(lean, height=175.0) == factor(lean)
    with pytest.raises(UnusableScanError, match="HEIGHT_IMPLAUSIBLE"):
        calibrate(replace(lean, height=175.0), policy="strict")
