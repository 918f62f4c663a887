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
from twobe3.features.measurements import Measurements, measure
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
