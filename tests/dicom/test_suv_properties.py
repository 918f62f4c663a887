"""What must hold of SUV whatever the header says."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds
from tests.dicom.attributes import ATTRIBUTES

from twobe3.core.errors import UnusableScanError
from twobe3.dicom.attributes import SeriesAttributes, SliceAttributes
from twobe3.dicom.series import find_series
from twobe3.dicom.suv import calibrate
from twobe3.dicom.suv_types import SUV_TYPES, BodyMeasurements, norm_per_weight

DECAY = st.sampled_from(["START", "ADMIN", "NONE"])


def factors(attributes: SeriesAttributes) -> np.ndarray:
    return np.asarray(calibrate(attributes, policy="strict").per_slice)


@given(DECAY, st.floats(0.2, 4.5), st.floats(0.01, 100.0))  # up to 315 kg: no scanner carries 350
def test_linear_in_weight_and_inverse_in_dose(decay: str, heavier: float, more: float) -> None:
    attributes = replace(
        ATTRIBUTES, decay_correction=decay, corrections=("ATTN",) if decay == "NONE" else ATTRIBUTES.corrections
    )
    np.testing.assert_allclose(
        factors(replace(attributes, weight=70 * heavier)), factors(attributes) * heavier, rtol=1e-12
    )
    np.testing.assert_allclose(factors(replace(attributes, dose=370e6 * more)), factors(attributes) / more, rtol=1e-12)


@given(st.integers(0, 30000), st.floats(600.0, 1e6))
def test_the_longer_the_uptake_the_larger_the_factor(seconds: int, half_life_s: float) -> None:
    """SUV corrected to START grow by 2^(Δt / half-life) with the time since the injection."""
    hours, rest = divmod(39600 - min(seconds, int(9 * half_life_s)), 3600)
    injected = f"20240301{hours:02}{rest // 60:02}{rest % 60:02}"
    attributes = replace(ATTRIBUTES, start_datetime=injected, half_life_s=half_life_s)
    elapsed_s = min(seconds, int(9 * half_life_s))
    np.testing.assert_allclose(factors(attributes), 70e3 / 370e6 * 2 ** (elapsed_s / half_life_s), rtol=1e-9)


NUMBERS = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, -1.0, 1e-300, 1e300, 370.0, 370e6, 70.0, 1.75]))
LIKELY = st.one_of(st.sampled_from([1e-300, 1e-3, 1.0, 370.0, 6586.2, 1e6, 1e9, 1e300]), NUMBERS)
TIMES = st.one_of(
    st.text("0123456789.+-: ", max_size=22),
    st.sampled_from(["", "110000", "235959.999999", "000000", "000000.000001"]),
)
DATES = st.one_of(TIMES, st.sampled_from(["20240301", "00010101", "99991231", "20240229", "2024.03.01"]))
DATE_TIMES = st.one_of(
    TIMES, st.sampled_from(["20240301100000", "00010101000000", "99991231235959", "20240301100000+1400"])
)
ZONES = st.one_of(TIMES, st.sampled_from(["", "+0100", "-1200", "+1400", "+9999"]))
# Mostly headers that reach the arithmetic: what is refused before it is tested by itself.
SLOPES = st.sampled_from([1.0, 1.0, 1.0, 1e-300, 1e300])
SLICES = st.builds(
    SliceAttributes,
    slope=SLOPES,
    intercept=st.just(0.0),
    acquisition_date=DATES,
    acquisition_time=TIMES,
    acquisition_datetime=DATE_TIMES,
    frame_reference_time_ms=NUMBERS,
    frame_duration_ms=NUMBERS,
    decay_factor=NUMBERS,
    philips_suv=NUMBERS,
    philips_activity=NUMBERS,
)
HEADERS = st.builds(
    SeriesAttributes,
    units=st.sampled_from(["BQML", "BQML", "BQML", "CNTS", "CNTS", "GML", "CM2ML"]),
    decay_correction=st.sampled_from(["START", "START", "ADMIN", "NONE"]),
    corrections=st.just(("ATTN", "DECY")),
    slices=st.lists(SLICES, min_size=1, max_size=3).map(tuple),
    suv_type=st.sampled_from(["", "BW", "LBM", "LBMJAMES128", "LBMJANMA", "IBW", "BSA", "?"]),
    weight=LIKELY | st.just(70.0),
    height=NUMBERS,
    sex=st.sampled_from(["M", "F", "O", ""]),
    dose=LIKELY | st.just(370e6),
    half_life_s=LIKELY | st.just(6586.2),
    nuclide=st.sampled_from(["C-111A1", ""]),
    series_date=DATES,
    series_time=TIMES,
    start_datetime=DATE_TIMES,
    start_time=TIMES,
    zone=ZONES,
    ge_scan_datetime=DATE_TIMES,
    ge_injection_datetime=DATE_TIMES,
    siemens_decay_datetime=DATE_TIMES,
    philips_creator=st.booleans(),
)


@settings(max_examples=1000, deadline=None)
@given(HEADERS)
def test_any_header_gives_factors_or_a_refusal(attributes: SeriesAttributes) -> None:
    try:
        found = calibrate(attributes)
    except UnusableScanError:
        return
    assert np.isfinite(found.per_slice).all()
    assert (found.per_slice > 0).all()
    assert found.per_slice.shape == (len(attributes.slices),)


@given(st.sampled_from(SUV_TYPES), NUMBERS, NUMBERS, st.sampled_from(["M", "F", "O", ""]))
def test_any_person_gives_a_factor_or_a_refusal(suv_type: str, weight: float, height: float, sex: str) -> None:
    try:
        factor = norm_per_weight(suv_type, BodyMeasurements(weight, height, sex)).value  # type: ignore[arg-type]
    except UnusableScanError:
        return
    assert factor > 0
    assert np.isfinite(factor)


# -- through files

QUICK = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def set_dose(slices: Sequence[Dataset], dose_bq: float) -> None:
    for one in slices:
        one.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose = dose_bq


@QUICK
@given(factor=st.floats(0.01, 100), decay=st.sampled_from(["START", "ADMIN", "NONE"]))
def test_suv_is_linear_in_activity(bench: Any, factor: float, decay: str) -> None:
    slices, scaled = bench.slices(), bench.slices(slopes=[pydicom.valuerep.DSfloat(100 * factor, auto_format=True)] * 4)
    for one in (*slices, *scaled):
        one.DecayCorrection, one.CorrectedImage = decay, ["ATTN"] if decay == "NONE" else ["ATTN", "DECY"]
    np.testing.assert_allclose(bench.read(scaled).array, bench.read(slices).array * factor, rtol=1e-6)


@QUICK
@given(weight_kg=st.integers(20, 250))
def test_suv_is_linear_in_weight(bench: Any, weight_kg: int) -> None:
    slices, other = bench.slices(), bench.slices()
    for one in other:
        one.PatientWeight = weight_kg
    np.testing.assert_allclose(bench.read(other).array * 70, bench.read(slices).array * weight_kg, rtol=1e-6)


@QUICK
@given(dose_mbq=st.integers(1, 2000))
def test_suv_is_inverse_in_dose(bench: Any, dose_mbq: int) -> None:
    slices, other = bench.slices(), bench.slices()
    set_dose(other, dose_mbq * 1e6)
    np.testing.assert_allclose(bench.read(other).array * dose_mbq, bench.read(slices).array * 370, rtol=1e-6)


@QUICK
@given(order=st.permutations(range(4)), numbers_=st.permutations(range(1, 5)))
def test_suv_does_not_depend_on_the_order_of_files(bench: Any, order: list[int], numbers_: list[int]) -> None:
    """Acceptance row 14."""
    slices = bench.slices(slopes=[1.0, 2.0, 3.0, 4.0])
    plain = bench.read(slices)
    for one, instance in zip(slices, numbers_, strict=True):
        one.InstanceNumber = instance
    shuffled = bench.read([slices[i] for i in order])
    np.testing.assert_array_equal(shuffled.array, plain.array)
    assert shuffled.geometry.same_as(plain.geometry)


@pytest.fixture(scope="module")
def whole_body(real_data: Path) -> list[Dataset]:
    """Four slices of a real series in Bq/ml, decay-corrected to its start."""
    (series,) = find_series([real_data / "ge_whole_body"]).series
    slices = sorted(map(pydicom.dcmread, series.files), key=lambda one: float(one.ImagePositionPatient[2]))
    return slices[100:104]


@QUICK
@given(
    activity=st.floats(0.1, 10),
    weight_kg=st.integers(20, 250),
    dose_mbq=st.integers(1, 2000),
    order=st.permutations(range(4)),
)
def test_suv_of_a_real_series_follows_its_definition(
    bench: Any, whole_body: list[Dataset], activity: float, weight_kg: int, dose_mbq: int, order: list[int]
) -> None:
    first = whole_body[0]
    weight_before_kg = float(first.PatientWeight)
    dose_before_bq = float(first.RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose)
    plain = bench.read(whole_body)
    changed = [copy.deepcopy(whole_body[i]) for i in order]
    for one in changed:
        one.RescaleSlope = format_number_as_ds(float(one.RescaleSlope) * activity)
        one.PatientWeight = weight_kg
    set_dose(changed, dose_mbq * 1e6)
    volume = bench.read(changed)
    expected = activity * weight_kg / weight_before_kg * dose_before_bq / (dose_mbq * 1e6)
    np.testing.assert_allclose(volume.array, plain.array * expected, rtol=2e-6)
    assert volume.geometry.same_as(plain.geometry)
