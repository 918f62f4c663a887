"""Regions by choice, on a body of analytic parts; the part of PERCIST is tests/scans/test_percist.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from twobe3.cohort.read import cohort_document, read_cohort
from twobe3.core.endpoints import Binary
from twobe3.core.errors import UnusableScanError
from twobe3.core.grid import Grid
from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.dicom.series import find_series
from twobe3.scans.regions import Region
from twobe3.scans.scan import ArrayScan, DicomScan

GEOMETRY = Geometry((8, 20, 20), np.diag([4.0, 4.0, 4.0, 1.0]))


@pytest.fixture
def scan() -> ArrayScan:
    """A lesion of SUV 3, 6 and 10 in a drawn box; outside it a bladder of SUV 40."""
    suv = np.full(GEOMETRY.shape, 1.0, np.float32)
    suv[2, 2:5, 2:5], suv[3, 2:5, 2:5], suv[4, 2:5, 2:5] = 3.0, 6.0, 10.0
    suv[6:, 10:, 10:] = 40.0
    drawn = np.zeros(GEOMETRY.shape, bool)
    drawn[1:6, 1:6, 1:6] = True
    return ArrayScan(SUVVolume(suv, GEOMETRY, SUVCalibration("bw", "TEST", 1, 1)), Mask(drawn, GEOMETRY, "GTV + LN"))


def voxels(region: Region, scan: ArrayScan) -> set[float]:
    """The SUV that occur in the region."""
    return set(scan.volume.array[region.find(scan, scan.volume).array].tolist())


@pytest.mark.parametrize(
    ("region", "suv", "label"),
    [
        (Region(), {1, 3, 6, 10}, "contour"),
        (Region("contour", ("LN", "GTV")), {1, 3, 6, 10}, "contour LN + GTV"),
        (Region("threshold"), {6, 10, 40}, "SUV > 4"),
        (Region("threshold", threshold_suv=2.5), {3, 6, 10, 40}, "SUV > 2.5"),
        (Region("relative"), {6, 10}, "41 % of SUVmax"),  # of the lesion's 10, not of the bladder's 40
        (Region("relative", fraction=0.7), {10}, "70 % of SUVmax"),
        (Region("relative", ("GTV", "LN")), {6, 10}, "41 % of SUVmax in GTV + LN"),
    ],
)
def test_a_region_holds_what_its_name_says(scan: ArrayScan, region: Region, suv: set[float], label: str) -> None:
    assert voxels(region, scan) == suv
    assert region.label == label


def test_percist_asks_for_the_patient_s_own_liver(scan: ArrayScan, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Mask(scan.volume.array > 7, GEOMETRY, "PERCIST")
    monkeypatch.setattr("twobe3.scans.regions.percist_mask", lambda volume: expected if volume is scan.volume else None)
    assert Region("percist").find(scan, scan.volume) is expected
    assert Region("percist").label == "PERCIST"


@pytest.mark.parametrize("kind", ["contour", "relative"])
def test_where_nobody_drew_there_is_no_contour_and_no_share_of_its_maximum(scan: ArrayScan, kind: Any) -> None:
    with pytest.raises(UnusableScanError, match="CONTOUR_MISSING"):
        Region(kind).find(replace(scan, region=None), scan.volume)


def test_a_region_that_nobody_drew_is_refused(scan: ArrayScan) -> None:
    with pytest.raises(UnusableScanError, match=r"CONTOUR_UNUSABLE: the region is 'GTV \+ LN', not 'GTV'"):
        Region("contour", ("GTV",)).find(scan, scan.volume)


def test_a_limb_has_no_liver(scan: ArrayScan) -> None:
    with pytest.raises(UnusableScanError, match="LIVER_NOT_FOUND"):
        Region("percist").find(scan, scan.volume)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"kind": "treshold"}, "there is no region 'treshold'; the nearest is 'threshold'"),
        ({"kind": "PERCIST "}, "there is no region 'PERCIST '; the nearest is 'percist'"),
        ({"threshold_suv": 0}, "threshold_suv"),
        ({"threshold_suv": float("inf")}, "threshold_suv"),
        ({"fraction": 41}, "fraction"),
    ],
)
def test_a_region_that_there_is_not(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Region(**wrong)


def test_a_scan_without_the_region_stays_and_is_counted(tiny_cohort: Any) -> None:
    tiny_cohort.patients(2)
    options: dict[str, Any] = {
        "clinical": tiny_cohort.clinical,
        "endpoints": [Binary("y", "outcome")],
        "grid": Grid((16.0,) * 3, (192.0, 160.0, 160.0)),
        "volumes": tiny_cohort.images.parent / "volumes",
    }
    cohort = read_cohort(tiny_cohort.images, **options, region=Region("percist"))
    assert (len(cohort), cohort.exclusions) == (2, ())
    assert cohort.warnings == ("2 of 2 scans have no region (PERCIST): LIVER_NOT_FOUND",)
    subjects = cohort_document(cohort)["subjects"]
    assert [study["region"]["code"] for study in subjects] == ["LIVER_NOT_FOUND"] * 2
    again = read_cohort(tiny_cohort.images, **options, region=Region("percist"))
    # of each scan its volume, its calibration and its region
    assert (again.volumes.computed, cohort.volumes.computed) == (0, 6)
    assert cohort_document(again) == cohort_document(cohort)
    cohort = read_cohort(tiny_cohort.images, **options, region=Region("threshold", threshold_suv=1.5))
    assert cohort.warnings == ()
    lesion_ml = 27 * 1.6**3  # 3 × 3 × 3 voxels of 16 mm
    assert cohort_document(cohort)["subjects"][0]["region"] == {
        "name": "SUV > 1.5",
        "volume_ml": pytest.approx(lesion_ml),
    }


def test_named_regions_of_a_real_scan(real_data: Path) -> None:
    scan = DicomScan(find_series([real_data / "sts/dicom/STS_003"]).series[0])
    volume = scan.suv()
    whole = Region().find(scan, volume)
    np.testing.assert_array_equal(Region("contour", (whole.name,)).find(scan, volume).array, whole.array)
    part = Region("relative").find(scan, volume)
    assert not (part.array & ~whole.array).any()
    inside, outside = volume.array[part.array], volume.array[whole.array & ~part.array]
    assert outside.max() < 0.41 * inside.max() <= inside.min()
    with pytest.raises(UnusableScanError, match="CONTOUR_UNUSABLE: there is no region 'liver'; there are"):
        Region("contour", ("liver",)).find(scan, volume)
