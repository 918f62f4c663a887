"""Measurements of an analytic sphere, of scans without a region, and of the real cohort."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import roc_auc_score

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.dicom.series import find_series
from twobe3.features.measurements import (
    PEAK_RADIUS_MM,
    SMALLEST_LESION_ML,
    Measurements,
    lesion_centroids_mm,
    measure,
    measure_lesions,
    suv_peak,
)
from twobe3.io.cache import Cache
from twobe3.scans.regions import Region
from twobe3.scans.scan import ArrayScan, DicomScan

CONTOUR = Region()
RADIUS_MM = 30.0
BALL_ML = 4.0 / 3.0 * np.pi * 3.0**3  # of 3 cm


@pytest.fixture
def scan() -> ArrayScan:
    """A ball of SUV 6, one voxel of it 9, in SUV 1; voxels of 2 × 3 × 4 mm."""
    shape, spacing = (48, 32, 24), np.array([2.0, 3.0, 4.0])
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.eye(3)) * spacing
    geometry = Geometry(shape, affine)
    mm = np.indices(shape).T * spacing
    ball = (np.linalg.norm(mm - mm.reshape(-1, 3).mean(axis=0), axis=-1) < RADIUS_MM).T
    suv = np.where(ball, 6.0, 1.0).astype(np.float32)
    suv[24, 16, 12] = 9.0
    return ArrayScan(SUVVolume(suv, geometry, SUVCalibration("bw", "TEST", 1, 1)), Mask(ball, geometry, "ball"))


@pytest.mark.parametrize("region", [CONTOUR, Region("threshold"), Region("relative"), Region("contour", ("ball",))])
def test_a_ball_has_its_volume_its_uptake_and_their_product(scan: ArrayScan, region: Region) -> None:
    found = measure(scan, region, cache=Cache())
    assert found.suv_max == 9.0
    assert found.volume_ml == pytest.approx(BALL_ML, rel=0.01)
    assert found.tlg_ml == pytest.approx(6.0 * found.volume_ml + 3.0 * 0.024)
    assert found.extent_ml == pytest.approx(4.8 * 2 * 9.6 * 9.6)


def test_a_higher_threshold_measures_less(scan: ArrayScan) -> None:
    found = measure(scan, Region("threshold", threshold_suv=8.0), cache=Cache())
    assert found == Measurements(9.0, pytest.approx(0.024), pytest.approx(0.216), pytest.approx(4.8 * 2 * 9.6 * 9.6))


def test_nothing_above_the_threshold_is_a_volume_of_0_under_the_scans_own_maximum(scan: ArrayScan) -> None:
    found = measure(scan, Region("threshold", threshold_suv=100.0), cache=Cache())
    assert (found.suv_max, found.volume_ml, found.tlg_ml) == (9.0, 0.0, 0.0)


def test_without_a_contour_nothing_but_the_extent_is_known(scan: ArrayScan) -> None:
    found = measure(replace(scan, region=None), CONTOUR, cache=Cache())
    assert np.isnan([found.suv_max, found.volume_ml, found.tlg_ml]).all()
    assert found.extent_ml == pytest.approx(4.8 * 2 * 9.6 * 9.6)
    assert found.lacking is not None
    assert found.lacking.code is Code.CONTOUR_MISSING


def test_a_contour_that_cannot_be_used_counts_as_none_and_is_told(
    scan: ArrayScan, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(ArrayScan):
        def contour(self, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
            raise UnusableScanError(Code.CONTOUR_OUTSIDE, "no voxel lies inside")

    caplog.set_level(logging.WARNING, logger="twobe3")
    found = measure(Broken(scan.volume), CONTOUR, cache=Cache())
    assert np.isnan(found.suv_max)
    assert found.lacking is not None
    assert (found.lacking.code, found.lacking.reason) == (Code.CONTOUR_OUTSIDE, "no voxel lies inside")
    assert "CONTOUR_OUTSIDE" in caplog.text


def test_a_scan_is_measured_once_for_each_region_and_threshold(scan: ArrayScan, tmp_path: Path) -> None:
    for computed, reused, cache in ((3, 1, Cache(tmp_path)), (0, 4, Cache(tmp_path))):
        for threshold_suv in (4.0, 8.0):
            measure(scan, Region("threshold", threshold_suv=threshold_suv), cache=cache)
            measure(scan, Region(threshold_suv=threshold_suv), cache=cache)
        assert (cache.computed, cache.reused) == (computed, reused)


def test_a_limb_has_no_liver_and_only_what_needs_one_is_lacking(scan: ArrayScan) -> None:
    found = measure(scan, Region("percist"), cache=Cache())
    assert found.lacking is not None
    assert found.lacking.code is Code.LIVER_NOT_FOUND
    assert np.isnan([found.suv_max, found.volume_ml, found.tlg_ml]).all()
    assert found.extent_ml == pytest.approx(4.8 * 2 * 9.6 * 9.6)


@pytest.fixture(scope="module")
def sarcoma(real_data: Path) -> tuple[list[Measurements], npt.NDArray[np.bool_]]:
    """The 51 patients with soft-tissue sarcoma, measured in their contours, and who got lung metastases."""
    with (real_data / "sts/clinical.csv").open() as stream:
        outcome = {row["patient_id"]: row["lung_metastasis"] == "1" for row in csv.DictReader(stream)}
    cache = Cache()
    series = find_series([real_data / "sts/dicom"]).series
    found = [measure(DicomScan(one), CONTOUR, cache=cache) for one in series]
    return found, np.array([outcome[one.patient_id] for one in series])


@pytest.mark.parametrize(
    ("what", "auc"), [("suv_max", 0.81), ("tlg_ml", 0.78), ("volume_ml", 0.69), ("extent_ml", 0.66)]
)
def test_real_tumours_tell_lung_metastasis_as_well_as_others_found(
    sarcoma: tuple[list[Measurements], npt.NDArray[np.bool_]], what: str, auc: float
) -> None:
    found, metastasis = sarcoma
    assert (len(metastasis), metastasis.sum()) == (51, 19)
    assert roc_auc_score(metastasis, [getattr(one, what) for one in found]) == pytest.approx(auc, abs=0.01)


def even_scan(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], value: float = 1.0) -> SUVVolume:
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.eye(3)) * np.array(spacing_mm)
    return SUVVolume(np.full(shape, value, np.float32), Geometry(shape, affine), SUVCalibration("bw", "TEST", 1, 1))


def two_cubes(volume: SUVVolume, offset: tuple[int, int, int]) -> Mask:
    inside = np.zeros(volume.array.shape, np.bool_)
    inside[2:5, 2:5, 2:5] = True
    a, b, c = offset
    inside[2 + a : 5 + a, 2 + b : 5 + b, 2 + c : 5 + c] = True
    return Mask(inside, volume.geometry, "two")


def test_volume_and_glycolysis_of_an_even_region_are_products() -> None:
    volume = even_scan((20, 20, 20), (5.0, 4.0, 4.0), value=3.0)
    found = measure_lesions(volume, two_cubes(volume, (10, 10, 10)))
    assert found.mtv_ml == pytest.approx(2 * 27 * 0.08)
    assert found.tlg_ml == pytest.approx(3.0 * found.mtv_ml)
    assert (found.suv_max, found.suv_mean) == (3.0, 3.0)
    assert found.suv_peak == pytest.approx(3.0)


def test_distance_and_spread_of_two_lesions_are_those_of_their_centres() -> None:
    volume = even_scan((30, 20, 20), (5.0, 4.0, 3.0))
    found = measure_lesions(volume, two_cubes(volume, (12, 10, 8)))
    apart_mm = np.linalg.norm([60.0, 40.0, 24.0])
    assert found.lesions == 2
    assert found.dmax_mm == pytest.approx(apart_mm)
    assert found.spread_mm == pytest.approx(apart_mm / 2)


def test_one_lesion_has_no_distance() -> None:
    volume = even_scan((20, 20, 20), (4.0, 4.0, 4.0))
    found = measure_lesions(volume, two_cubes(volume, (0, 0, 0)))
    assert (found.lesions, found.dmax_mm, found.spread_mm) == (1, 0.0, 0.0)


def test_voxels_that_touch_at_a_corner_are_one_lesion() -> None:
    volume = even_scan((20, 20, 20), (4.0, 4.0, 4.0))
    assert measure_lesions(volume, two_cubes(volume, (3, 3, 3))).lesions == 1
    assert measure_lesions(volume, two_cubes(volume, (4, 3, 3))).lesions == 2


def test_a_speck_is_no_lesion_beside_a_larger_one_but_is_one_alone() -> None:
    volume = even_scan((20, 20, 20), (4.0, 4.0, 4.0))
    inside = np.zeros(volume.array.shape, np.bool_)
    inside[15, 15, 15] = True
    speck = Mask(inside.copy(), volume.geometry)
    assert speck.volume_ml < SMALLEST_LESION_ML
    np.testing.assert_allclose(lesion_centroids_mm(speck), [[60.0, 60.0, 60.0]])
    inside[2:5, 2:5, 2:5] = True
    np.testing.assert_allclose(lesion_centroids_mm(Mask(inside, volume.geometry)), [[12.0, 12.0, 12.0]])


def test_the_peak_of_a_wide_hot_sphere_is_its_plateau_and_of_a_point_its_share_of_one_millilitre() -> None:
    assert 4 / 3 * np.pi * PEAK_RADIUS_MM**3 == pytest.approx(1000.0)
    point = even_scan((41, 41, 41), (1.0, 1.0, 1.0), value=0.0)
    point.array[20, 20, 20] = 1000.0
    inside = np.zeros(point.array.shape, np.bool_)
    inside[18:23, 18:23, 18:23] = True
    # 1000 SUV · mm³ within a sphere of 1000 mm³, as far as voxels of 1 mm³ can draw one.
    assert suv_peak(point, Mask(inside, point.geometry)) == pytest.approx(1.0, rel=0.03)


def test_the_peak_looks_beyond_the_region_and_not_beyond_the_image() -> None:
    volume = even_scan((9, 9, 9), (4.0, 4.0, 4.0), value=2.0)
    inside = np.zeros(volume.array.shape, np.bool_)
    inside[0, 0, 0] = True
    assert suv_peak(volume, Mask(inside, volume.geometry)) == pytest.approx(2.0)
    volume.array[0, 0, 1] = 20.0
    assert suv_peak(volume, Mask(inside, volume.geometry)) > 2.0
