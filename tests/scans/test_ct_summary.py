"""CT in inspect, convert and cohort.json, and whether it lies over its PET."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twobe3.cli.output import inspection_lines
from twobe3.cohort.cohort import Cohort, Subject
from twobe3.cohort.ct import read_hu
from twobe3.cohort.read import cohort_document, read_cohort
from twobe3.core.errors import UnusableScanError
from twobe3.core.grid import Grid
from twobe3.core.volume import AIR_HU, CTVolume, Geometry, SUVCalibration, SUVVolume
from twobe3.dicom.ct import read_ct
from twobe3.dicom.ct_series import CTSeries
from twobe3.dicom.series import find_series
from twobe3.io.nifti import read_nifti
from twobe3.scans.inspect import convert, inspect
from twobe3.scans.registration import register
from twobe3.scans.scan import ArrayScan, NiftiScan
from twobe3.scans.sidecar import find_nifti_series

NAME = "STS_002"


def real_paths(real_data: Path) -> list[Path]:
    return [real_data / "sts" / "dicom" / NAME, real_data / "sts_ct" / NAME]


def moved(ct: CTVolume, along_mm: float, back_mm: float, left_mm: float) -> CTVolume:
    affine = np.array(ct.geometry.affine)
    affine[:3, 3] += (left_mm, back_mm, along_mm)
    return replace(ct, geometry=Geometry(ct.geometry.shape, affine))


def phantom(*, arms: bool = False) -> tuple[SUVVolume, CTVolume]:
    """A body of two ellipsoids, 600 mm long, in PET and in a finer CT, with lungs and a couch in the CT."""

    def paint(spacing_mm: float) -> tuple[np.ndarray, np.ndarray, Geometry]:
        shape = tuple(round(mm / spacing_mm) for mm in (640.0, 320.0, 480.0))
        affine = np.eye(4)
        affine[:3, :3] = np.fliplr(np.eye(3)) * spacing_mm
        affine[:3, 3] = -np.array([480.0, 320.0, 640.0]) / 2
        z, y, x = (np.moveaxis(np.indices(shape), 0, -1) * spacing_mm + affine[:3, 3][::-1]).transpose(3, 0, 1, 2)
        body = (z / 290) ** 2 + (y / 110) ** 2 + (x / 170) ** 2 < 1
        if arms:
            body |= (z / 250) ** 2 + (y / 35) ** 2 + ((x - 205) / 30) ** 2 < 1
        lungs = ((z - 80) / 90) ** 2 + (y / 60) ** 2 + (x / 110) ** 2 < 1
        return body, lungs & body, Geometry(shape, affine)

    body, lungs, geometry = paint(5.0)
    pet = SUVVolume(np.where(body, np.where(lungs, 0.4, 0.8), 0.0), geometry, SUVCalibration("bw", "test", 1, 1))
    body, lungs, geometry = paint(4.0)
    hu = np.where(body, np.where(lungs, -750.0, 30.0), AIR_HU)
    hu[:, 74:76, 20:100] = -100.0
    return pet, CTVolume(hu, geometry)


def test_a_ct_that_fits_and_one_that_is_moved() -> None:
    pet, ct = phantom()
    fits = register(pet, ct)
    assert fits.dice > 0.94
    assert fits.coverage == 1.0
    np.testing.assert_allclose(fits.shift_mm, 0.0, atol=2.0)
    assert fits.warnings == ()
    for by in ((0.0, 24.0, 0.0), (0.0, 0.0, -40.0), (56.0, -16.0, 8.0)):
        found = register(pet, moved(ct, *by))
        np.testing.assert_allclose(found.shift_mm, -np.array(by), atol=4.0)
        assert any(note.startswith("CT_MISALIGNED") for note in found.warnings)


def test_half_a_ct_fits_as_well_and_says_how_much_it_covers() -> None:
    """Arms that lie outside a smaller field, and a CT of two thirds of the body."""
    pet, ct = phantom(arms=True)
    narrow = ct.array[:, :, 10:100]
    found = register(pet, CTVolume(narrow, Geometry(narrow.shape, moved(ct, 0, 0, 40.0).affine)))
    assert (found.coverage, found.warnings) == (1.0, ())
    assert found.dice > 0.94
    short = CTVolume(ct.array[:106], Geometry((106, *ct.array.shape[1:]), ct.affine))
    found = register(pet, short)
    assert found.coverage == pytest.approx(2 / 3, abs=0.02)
    assert found.dice > 0.92
    np.testing.assert_allclose(found.shift_mm, 0.0, atol=3.0)
    (warning,) = found.warnings
    assert warning.startswith("CT_OUTSIDE: the CT covers 6")
    found.require_fit()
    quarter = CTVolume(ct.array[:40], Geometry((40, *ct.array.shape[1:]), ct.affine))
    with pytest.raises(UnusableScanError, match="CT_OUTSIDE"):
        register(pet, quarter).require_fit()
    with pytest.raises(UnusableScanError, match="CT_OUTSIDE"):
        register(pet, moved(ct, 2000.0, 0, 0)).require_fit()


def test_a_ct_of_something_else_is_refused() -> None:
    pet, ct = phantom()
    thin = np.full_like(ct.array, AIR_HU)
    thin[:, 50:60, 5:20] = 40.0
    with pytest.raises(UnusableScanError, match="CT_MISALIGNED"):
        register(pet, CTVolume(thin, ct.geometry)).require_fit()


@pytest.mark.parametrize("number", [2, 19, 41, 48])
def test_real_pairs_fit(real_data: Path, number: int) -> None:
    """STS_019's CT lies two slices beside the PET, as its own files say."""
    from twobe3.dicom.volume import read_suv

    name = f"STS_{number:03d}"
    (series,) = find_series([real_data / "sts" / "dicom" / name, real_data / "sts_ct" / name]).series
    assert isinstance(series.ct, CTSeries)
    found = register(read_suv(series), read_ct(series.ct))
    found.require_fit()
    assert found.coverage > (0.9 if number == 19 else 0.98)
    assert found.dice > 0.75


def test_inspect_and_convert_show_the_ct(real_data: Path, tmp_path: Path) -> None:
    document = inspect(real_paths(real_data)).to_json()
    (entry,) = document["series"]
    assert (document["found"], document["usable"], document["excluded"]) == (1, 1, 0)
    ct = entry["ct"]
    assert (ct["slices"], ct["kernel"], ct["contrast"], ct["code"]) == (48, "STANDARD", False, None)
    assert ct["spacing_mm"] == pytest.approx([3.27, 0.9766, 0.9766], abs=1e-3)
    assert ct["dice"] > 0.8
    line = next(one for one in inspection_lines(document) if one.startswith("  CT: "))
    assert line.startswith("  CT: 48 slices  3.27 × 0.9766 × 0.9766 mm  STANDARD, bodies overlap by 0.")
    json.dumps(document, allow_nan=False)

    (entry,) = convert(real_paths(real_data), tmp_path).to_json()["series"]
    name = entry["series_uid"]
    assert {f"{name}.nii.gz", f"{name}.ct.nii.gz", f"{name}.json"} <= {path.name for path in tmp_path.iterdir()}
    (dicom,) = find_series(real_paths(real_data)).series
    assert isinstance(dicom.ct, CTSeries)
    expected, (hu, geometry) = read_ct(dicom.ct), read_nifti(tmp_path / f"{name}.ct.nii.gz")
    np.testing.assert_array_equal(hu, expected.array)
    assert geometry.same_as(expected.geometry)

    (back,) = find_nifti_series([tmp_path]).series  # the CT is no scan of its own
    np.testing.assert_array_equal(NiftiScan(back).ct().array, expected.array)
    (entry,) = inspect([tmp_path]).to_json()["series"]
    assert entry["ct"]["dice"] == ct["dice"]


def test_a_cohort_has_the_ct_on_its_grid_and_says_so(real_data: Path, tmp_path: Path) -> None:
    grid = Grid(8.0, (256.0, 256.0, 256.0))
    alone = read_cohort(real_paths(real_data), grid=grid)
    (facts,) = cohort_document(alone)["subjects"]
    assert (facts["ct"]["slices"], facts["ct"]["spacing_mm"]) == (48, None)  # the headers alone were read
    cohort = read_cohort(real_paths(real_data), grid=grid, modalities=("pet", "ct"), volumes=tmp_path)
    document = cohort_document(cohort)
    (facts,) = document["subjects"]
    assert facts["ct"]["dice"] > 0.8
    assert (document["found"], document["used"], document["excluded"]) == (1, 1, 0)
    assert [one["volume"] for one in cohort_document(alone)["subjects"]] == [facts["volume"]]
    (subject,) = cohort.subjects
    suv, hu = cohort.volume(subject), read_hu(cohort, subject)
    assert suv.shape == hu.shape == grid.shape
    assert hu.min() == AIR_HU
    body = suv > 0.5
    assert abs(np.median(hu[body])) < 120
    assert np.median(hu[suv == 0]) == AIR_HU


def test_a_scan_without_a_usable_ct_stays_for_the_pet(tmp_path: Path) -> None:
    pet, ct = phantom()
    thin = CTVolume(np.where(np.indices(ct.array.shape)[2] < 5, 40.0, AIR_HU), ct.geometry)
    scans = {"A": ArrayScan(pet, None, ct), "B": ArrayScan(pet), "C": ArrayScan(pet, None, thin)}
    cohort = Cohort(tuple(Subject(key, scan) for key, scan in scans.items()), grid=Grid(16.0, (640.0, 480.0, 480.0)))
    assert read_hu(cohort, cohort[0]).max() > 0
    for position, code in ((1, "CT_MISSING"), (2, "CT_MISALIGNED")):
        with pytest.raises(UnusableScanError, match=code):
            read_hu(cohort, cohort[position])
        assert cohort.volume(cohort[position]).max() > 0
    again: Any = read_hu(cohort, cohort[0])
    np.testing.assert_array_equal(again, read_hu(cohort, cohort[0]))
