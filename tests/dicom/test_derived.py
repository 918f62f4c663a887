"""What others read back from parametric maps and segmentations: pydicom by position, dciodvfy, dcm2niix."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.pixels import pixel_array
from tests.conftest import TinyCohort
from tests.dicom.test_enhanced import enhanced

from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import LPS_TO_RAS, Geometry
from twobe3.dicom.derived import make_parametric_map, make_segmentation, read_source
from twobe3.dicom.reader import quietly
from twobe3.dicom.series import PETSeries, find_series
from twobe3.dicom.volume import read_suv

Array = npt.NDArray[Any]


def only_series(folder: Path) -> PETSeries:
    (series,) = find_series([folder]).series
    return series


def by_position(dataset: pydicom.Dataset, values: Array, geometry: Geometry) -> Array:
    """The frames of an object on the voxels of a volume, placed by where each says that it lies."""
    placed = np.zeros(geometry.shape)
    shared = dataset.SharedFunctionalGroupsSequence[0]
    measures, cosines = shared.PixelMeasuresSequence[0], shared.PlaneOrientationSequence[0].ImageOrientationPatient
    np.testing.assert_allclose(measures.PixelSpacing, geometry.spacing_mm[1:], rtol=1e-6)
    np.testing.assert_allclose(cosines[:3], geometry.affine[:3, 2] / geometry.spacing_mm[2], atol=1e-6)
    np.testing.assert_allclose(cosines[3:], geometry.affine[:3, 1] / geometry.spacing_mm[1], atol=1e-6)
    for frame, group in zip(values, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        index = geometry.to_index(group.PlanePositionSequence[0].ImagePositionPatient)
        np.testing.assert_allclose(index, [round(index[0]), 0, 0], atol=1e-3)
        placed[round(index[0])] = frame
    return placed


def floats(dataset: pydicom.Dataset) -> Array:
    shape = (dataset.NumberOfFrames, dataset.Rows, dataset.Columns)
    return np.frombuffer(dataset.FloatPixelData, "<f4").reshape(shape)


@pytest.fixture
def phantom(new_tiny_cohort: Callable[[Path], TinyCohort], tmp_path: Path) -> Callable[..., PETSeries]:
    """Writes a tiny scan; tags are set in every file."""
    return lambda **tags: only_series(new_tiny_cohort(tmp_path).scan("P01", **tags))


@pytest.fixture(params=["sts/dicom/STS_001", "ge_whole_body/PET"])
def real(request: Any, real_data: Path) -> PETSeries:
    return only_series(real_data / request.param)


def test_real_scans_come_back_voxel_by_voxel(real: PETSeries) -> None:
    volume = read_suv(real)
    signed = volume.array - 3
    source = read_source(real, volume.geometry)
    dataset = pydicom.dcmread(BytesIO(make_parametric_map(source, signed, label="m", meaning="test")))
    np.testing.assert_array_equal(by_position(dataset, floats(dataset), volume.geometry), signed)
    hot = volume.array > 4
    dataset = pydicom.dcmread(BytesIO(make_segmentation(source, hot, label="m", region="hot")))
    np.testing.assert_array_equal(by_position(dataset, pixel_array(dataset), volume.geometry), hot)


def test_frames_name_the_slices_they_were_made_of(real: PETSeries) -> None:
    volume = read_suv(real)
    content = make_parametric_map(read_source(real, volume.geometry), volume.array, label="m", meaning="test")
    places = {}
    for path in real.files:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        places[header.SOPInstanceUID] = header.ImagePositionPatient
    for group in pydicom.dcmread(BytesIO(content)).PerFrameFunctionalGroupsSequence:
        (image,) = group.DerivationImageSequence[0].SourceImageSequence
        place = group.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(
            places[image.ReferencedSOPInstanceUID], place, atol=0.05
        )  # the slices of a real scan are not quite even


def test_an_enhanced_object_names_its_frames(phantom: Callable[..., PETSeries], tmp_path: Path) -> None:
    slices = [pydicom.dcmread(path) for path in phantom().files]
    slices.sort(key=lambda one: one.ImagePositionPatient[2], reverse=True)  # frame 1 is nearest to the head
    for one in slices:
        one.SeriesInstanceUID = "2.25.7"
    (tmp_path / "one").mkdir()
    enhanced(slices).save_as(tmp_path / "one" / "e.dcm")
    series = only_series(tmp_path / "one")
    volume = read_suv(series)
    dataset = pydicom.dcmread(
        BytesIO(make_parametric_map(read_source(series, volume.geometry), volume.array, label="m", meaning="test"))
    )
    np.testing.assert_array_equal(by_position(dataset, floats(dataset), volume.geometry), volume.array)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        (image,) = group.DerivationImageSequence[0].SourceImageSequence
        place = round(volume.geometry.to_index(group.PlanePositionSequence[0].ImagePositionPatient)[0])
        assert image.ReferencedFrameNumber == volume.geometry.shape[0] - place


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed: apt-get install dicom3tools")
@pytest.mark.parametrize("reach", [0.0, 1e-3, 40.0])
def test_dciodvfy_finds_no_error(real: PETSeries, reach: float, tmp_path: Path) -> None:
    volume = read_suv(real)
    source = read_source(real, volume.geometry)
    values = volume.array * np.float32(reach)
    (tmp_path / "pm.dcm").write_bytes(make_parametric_map(source, values, label="m" * 80, meaning="y" * 80))
    (tmp_path / "seg.dcm").write_bytes(make_segmentation(source, volume.array > 4, label="m", region="r" * 80))
    for name in ("pm.dcm", "seg.dcm"):
        done = subprocess.run(["dciodvfy", tmp_path / name], capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert "ParametricMap" in said or "Segmentation" in said
        assert not [line for line in said.splitlines() if line.startswith("Error")]


def read_by_dcm2niix(folder: Path) -> nib.Nifti1Image:
    """The one DICOM file in ``folder/in`` as NIfTI."""
    command = ["dcm2niix", "-o", folder, "-f", "read", "-z", "n", folder / "in"]
    subprocess.run(command, check=True, capture_output=True)
    return nib.load(folder / "read.nii")


def at(voxels: Array, geometry: Geometry, image: nib.Nifti1Image) -> Array:
    """The values of an image where the voxels of a volume lie."""
    there = np.linalg.inv(image.affine) @ LPS_TO_RAS @ geometry.affine
    index = np.rint(np.c_[voxels, np.ones(len(voxels))] @ there.T)[:, :3].astype(int)
    return np.asarray(image.get_fdata()[tuple(index.T)])


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed: apt-get install dcm2niix")
def test_dcm2niix_reads_the_map_at_its_place(real: PETSeries, tmp_path: Path) -> None:
    volume = read_suv(real)
    source = read_source(real, volume.geometry)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "pm.dcm").write_bytes(make_parametric_map(source, volume.array, label="m", meaning="test"))
    subprocess.run(
        ["dcm2niix", "-o", tmp_path, "-f", "pm", "-z", "n", tmp_path / "in"], check=True, capture_output=True
    )
    image = nib.load(tmp_path / "pm.nii")
    there = np.linalg.inv(image.affine) @ LPS_TO_RAS @ volume.geometry.affine
    corners = np.argwhere(volume.array > np.quantile(volume.array, 0.999))
    index = np.rint(np.c_[corners, np.ones(len(corners))] @ there.T)[:, :3].astype(int)
    np.testing.assert_array_equal(image.get_fdata()[tuple(index.T)], volume.array[tuple(corners.T)])


def test_it_belongs_to_the_patient_and_study_and_tells_nothing_else(phantom: Callable[..., PETSeries]) -> None:
    kept = {"PatientName": "Doe^Jane", "PatientBirthDate": "19500102", "StudyID": "S1", "AccessionNumber": "A1"}
    secret = {"InstitutionName": "MARKER", "OperatorsName": "MARKER", "PatientAddress": "MARKER"}
    series = phantom(**kept, **secret, PatientComments="MARKER", DeviceSerialNumber="MARKER", StudyDescription="MARKER")
    volume, first = read_suv(series), pydicom.dcmread(series.files[0])
    source = read_source(series, volume.geometry)
    uids = set()
    for content in (
        make_parametric_map(source, volume.array, label="m", meaning="test", model_digest="d1"),
        make_parametric_map(source, volume.array, label="m", meaning="test", model_digest="d1"),
        make_segmentation(source, volume.array > 2, label="m", region="hot", model_digest="d1"),
    ):
        assert b"MARKER" not in content
        made = pydicom.dcmread(BytesIO(content))
        assert made.PatientID == "P01"
        assert {name: getattr(made, name) for name in kept} == kept
        assert made.StudyInstanceUID == first.StudyInstanceUID
        assert made.FrameOfReferenceUID == first.FrameOfReferenceUID
        assert "research use only" in made.SeriesDescription
        assert made.DeviceSerialNumber == "d1"
        uids |= {made.SOPInstanceUID, made.SeriesInstanceUID}
    assert len(uids) == 6  # new ones each time: an archive keeps the first object of a UID for good
    assert not uids & {first.SOPInstanceUID, first.SeriesInstanceUID}


def test_what_exports_break_is_mended(phantom: Callable[..., PETSeries]) -> None:
    with pydicom.config.disable_value_validation():
        series = phantom(
            PatientSex="FEMALE", PatientBirthDate="1950.01.02", StudyTime="10:11:12", StudyID="x" * 40,
            PatientName="Müller^Änne", SpecificCharacterSet="ISO_IR 100",
        )  # fmt: skip
    volume = read_suv(series)
    made = pydicom.dcmread(
        BytesIO(make_segmentation(read_source(series, volume.geometry), volume.array > 2, label="ä", region="hot"))
    )
    assert (made.PatientSex, made.PatientBirthDate, made.StudyTime) == ("", "19500102", "101112")
    assert made.PatientName == "Müller^Änne"
    assert made.StudyID == "x" * 16


def test_an_empty_mask_is_no_segmentation(phantom: Callable[..., PETSeries]) -> None:
    series = phantom()
    volume = read_suv(series)
    source = read_source(series, volume.geometry)
    with pytest.raises(ValueError, match="needs a voxel"):
        make_segmentation(source, np.zeros(volume.geometry.shape, bool), label="m", region="r")


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID"])
def test_without_a_uid_nothing_can_be_made(phantom: Callable[..., PETSeries], keyword: str) -> None:
    """One made up of nothing would be the same for all patients, and an archive would make one study of them."""
    series = phantom()
    volume = read_suv(series)
    for path in series.files:
        dataset = pydicom.dcmread(path)
        del dataset[keyword]
        dataset.save_as(path)
    with pytest.raises(UnusableScanError, match=f"NO_DICOM_SOURCE.*{keyword}"):
        read_source(series, volume.geometry)


def test_names_are_not_cut_and_hold_no_control_characters(phantom: Callable[..., PETSeries]) -> None:
    long = "x" * 80
    with quietly():
        series = phantom(PatientName=long, StudyID="a\x07b")
        volume = read_suv(series)
        content = make_segmentation(read_source(series, volume.geometry), volume.array > 2, label="m", region="hot")
        made = pydicom.dcmread(BytesIO(content))
        assert (made.PatientName, made.StudyID) == (long, "ab")


def test_a_file_that_is_gone_is_named(phantom: Callable[..., PETSeries]) -> None:
    series = phantom()
    volume = read_suv(series)
    series.files[3].unlink()
    with pytest.raises(UnusableScanError, match="CORRUPT_FILE"):
        read_source(series, volume.geometry)
