"""The PERCIST threshold, and the liver, on phantoms whose liver is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import Geometry, SUVVolume
from twobe3.dicom.series import find_series
from twobe3.dicom.suv_types import BodyMeasurements, to_suv_type
from twobe3.dicom.volume import read_suv
from twobe3.phantom import SOUTH, PhantomPatient, PhantomSpec, make_patient
from twobe3.scans.percist import Liver, find_liver, percist_mask


@pytest.fixture(scope="module")
def patient() -> PhantomPatient:
    return make_patient(0)


def part(volume: SUVVolume, slices: slice = slice(None), columns: slice = slice(None)) -> SUVVolume:
    """A scan cropped as a scanner or a data set would crop it."""
    start = (slices.start or 0, 0, columns.start or 0)
    array = volume.array[slices, :, columns]
    affine = volume.geometry.affine.copy()
    affine[:3, 3] = volume.geometry.to_mm(start)
    return replace(volume, array=array, geometry=Geometry(array.shape, affine, volume.geometry.frame_of_reference))


def test_the_threshold_is_that_of_the_paper() -> None:
    assert Liver((0, 0, 0), 1.8, 0.3).threshold == pytest.approx(1.5 * 1.8 + 2 * 0.3)


@pytest.mark.parametrize("seed", range(4))
def test_the_sphere_lies_in_the_liver_and_has_its_uptake(seed: int) -> None:
    patient = make_patient(seed, spec=PhantomSpec(scanner=SOUTH) if seed % 2 else None)
    truth = [organ for organ in patient.subject.body.organs if organ.name.startswith("liver")]
    liver = find_liver(patient.volume)
    directions = np.random.default_rng(seed).normal(size=(3, 1000))
    x, y, z = (15 * directions / np.linalg.norm(directions, axis=0) + np.array(liver.centre_mm)[:, None]).astype("f4")
    assert np.logical_or.reduce([organ.solid.contains(x, y, z) for organ in truth]).all()
    assert liver.mean == pytest.approx(truth[0].suv, rel=0.2)  # the phantom's liver is uneven by a tenth
    assert 0 < liver.sd < 0.25 * liver.mean


def test_the_mask_is_what_lies_above_and_does_not_depend_on_the_type(patient: PhantomPatient) -> None:
    volume, liver = patient.volume, find_liver(patient.volume)
    mask = percist_mask(volume)
    np.testing.assert_array_equal(mask.array, volume.array >= liver.threshold)
    lean = to_suv_type(volume, "lbm-janma", BodyMeasurements(70.0, 1.75, "F"))
    assert find_liver(lean).mean == pytest.approx(liver.mean * lean.calibration.per_bw, rel=1e-5)
    assert (percist_mask(lean).array != mask.array).mean() < 1e-6


def test_every_orientation_gives_the_same_liver(patient: PhantomPatient) -> None:
    volume = patient.volume
    affine = volume.geometry.affine @ np.array([[-1.0, 0, 0, volume.array.shape[0] - 1], *np.eye(4)[1:]])
    flipped = replace(volume, array=volume.array[::-1], geometry=Geometry(volume.array.shape, affine))
    assert find_liver(flipped).mean == pytest.approx(find_liver(volume).mean, rel=1e-5)
    np.testing.assert_allclose(find_liver(flipped).centre_mm, find_liver(volume).centre_mm, atol=1e-6)


def test_left_and_right_exchanged_is_refused(patient: PhantomPatient) -> None:
    mirrored = replace(patient.volume, array=patient.volume.array[:, :, ::-1])
    with pytest.raises(UnusableScanError, match=r"LIVER_NOT_FOUND.*right"):
        find_liver(mirrored)


def test_parts_without_liver_or_without_lungs_are_refused(patient: PhantomPatient) -> None:
    volume = patient.volume
    middle = int(volume.geometry.to_index(find_liver(volume).centre_mm)[0])
    for slices in (slice(0, middle - 25), slice(middle + 25, None), slice(0, middle + 5)):
        with pytest.raises(UnusableScanError, match="LIVER_NOT_FOUND"):
            percist_mask(part(volume, slices))
    with pytest.raises(UnusableScanError, match="LIVER_NOT_FOUND"):
        percist_mask(part(volume, columns=slice(48, None)))


def test_a_liver_full_of_metastases_is_refused(patient: PhantomPatient) -> None:
    geometry, centre = patient.volume.geometry, np.array(find_liver(patient.volume).centre_mm)
    points = geometry.to_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
    spots = (np.sin(points / 5.0).sum(axis=-1) > 0.5) & (np.linalg.norm(points - centre, axis=-1) < 150)
    ill = replace(patient.volume, array=np.where(spots, 12, patient.volume.array).astype(np.float32))
    with pytest.raises(UnusableScanError, match="LIVER_NOT_FOUND"):
        find_liver(ill)


def test_nothing_at_all_is_refused() -> None:
    empty = make_patient(1).volume
    with pytest.raises(UnusableScanError, match="LIVER_NOT_FOUND"):
        find_liver(replace(empty, array=np.zeros_like(empty.array)))


def test_a_real_whole_body_scan_has_a_liver_on_the_right(real_data: Path) -> None:
    (series,) = find_series([real_data / "ge_whole_body"]).series
    volume = read_suv(series)
    liver = find_liver(volume)
    # livers an hour after FDG: SUV 1.5 to 3 (Wahl 2009, table 3 and the papers it cites)
    assert 1.5 < liver.mean < 3.0
    body_middle = volume.geometry.to_mm(np.argwhere(volume.array > 0.3))[:, 0].mean()
    assert liver.centre_mm[0] < body_middle - 20


@pytest.mark.parametrize("patient_id", ["STS_001", "STS_020", "STS_045"])
def test_crops_of_a_limb_are_refused(real_data: Path, patient_id: str) -> None:
    (series,) = find_series([real_data / "sts" / "dicom" / patient_id]).series
    with pytest.raises(UnusableScanError, match="LIVER_NOT_FOUND"):
        percist_mask(read_suv(series))
