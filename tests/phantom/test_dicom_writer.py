"""Series written in three vendors' styles, read back by the rules of each vendor, worked out here on their own."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pydicom
import pytest
from matplotlib.path import Path as Polygon

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv
from twobe3.phantom.dicom_writer import PETHeader, write_pet_series
from twobe3.phantom.rtstruct_writer import polygons, write_rtstruct
from twobe3.scans.masks import contour_mask

HEADER = PETHeader(
    patient_id="P-1",
    sex="F",
    age_years=58,
    weight_kg=63.7,
    height_m=1.64,
    injected_dose_bq=231_456_789.0,
    injected=datetime(2021, 3, 4, 13, 2, 11),
    started=datetime(2021, 3, 4, 14, 5, 40, 500_000),
    slices_per_bed=4,
    uid_seed="test",
)
STYLES = {
    "siemens": HEADER,
    "ge-start": replace(HEADER, vendor="ge"),
    "ge-admin": replace(HEADER, vendor="ge", decay_correction="ADMIN"),
    "philips-counts": replace(HEADER, vendor="philips", units="CNTS"),
    "philips-bqml": replace(HEADER, vendor="philips"),
    "after-midnight": replace(
        HEADER, vendor="philips", injected=datetime(2021, 3, 4, 23, 30), started=datetime(2021, 3, 5, 0, 30)
    ),
    "over-midnight": replace(
        HEADER, injected=datetime(2021, 3, 4, 22, 50), started=datetime(2021, 3, 4, 23, 57), frame_duration_s=240.0
    ),
}


def volume_of(array: np.ndarray, turn: np.ndarray | None = None) -> SUVVolume:
    axes = np.array([[0, 0, 4.1], [0, 4.3, 0], [3.27, 0, 0]])
    affine = np.eye(4)
    affine[:3, :3] = axes if turn is None else turn @ axes
    affine[:3, 3] = -101.25, -87.5, -433.125
    return SUVVolume(array, Geometry(array.shape, affine), SUVCalibration("bw", "TEST", 1.0, 1.0))


@pytest.fixture(scope="module")
def volume() -> SUVVolume:
    rng = np.random.default_rng(3)
    array = (
        rng.gamma(0.7, 1.0, (10, 12, 9)).astype(np.float32) * np.linspace(0.1, 12, 10, dtype=np.float32)[:, None, None]
    )
    array[4] = 0.0
    array[5, 0, 0] = 61.0
    return volume_of(array)


def moment(date: str, time: str) -> datetime:
    return datetime.strptime(date + time, "%Y%m%d%H%M%S.%f")


def suv_by_the_rule(files: list[Path]) -> np.ndarray:
    """SUV by body weight as the vendors' documents have it, nothing taken from the package."""
    slices = [pydicom.dcmread(path) for path in files]
    first = slices[0]
    injection = first.RadiopharmaceuticalInformationSequence[0]
    dose, half_life = float(injection.RadionuclideTotalDose), float(injection.RadionuclideHalfLife)
    grams = 1000.0 * float(first.PatientWeight)
    images = np.stack([ds.pixel_array * float(ds.RescaleSlope) for ds in slices])
    assert {"ATTN", "DECY"} <= set(first.CorrectedImage)
    assert all(float(ds.RescaleIntercept) == 0.0 for ds in slices)
    if first.Units == "CNTS":
        assert first[0x7053, 0x0010].value == "Philips PET Private Group"
        return np.asarray(images * float(first[0x7053, 0x1000].value))
    if first.DecayCorrection == "ADMIN":
        return np.asarray(images * grams / dose)
    reference = moment(first.SeriesDate, first.SeriesTime)
    if reference > min(moment(ds.AcquisitionDate, ds.AcquisitionTime) for ds in slices):
        assert first[0x0009, 0x0010].value == "GEMS_PETD_01"
        reference = datetime.strptime(first[0x0009, 0x100D].value, "%Y%m%d%H%M%S.%f")
    injected = moment(first.SeriesDate, injection.RadiopharmaceuticalStartTime)
    if injected > reference:
        injected -= timedelta(days=1)
    return np.asarray(images * grams / (dose * 2.0 ** (-(reference - injected).total_seconds() / half_life)))


@pytest.mark.parametrize("style", STYLES)
def test_the_suv_that_went_in_comes_out(style: str, volume: SUVVolume, tmp_path: Path) -> None:
    files = write_pet_series(volume, tmp_path, header=STYLES[style])
    half_step = 0.5001 * volume.array.max(axis=(1, 2), keepdims=True) / 32767
    assert (np.abs(suv_by_the_rule(files) - volume.array) <= half_step + 1e-7 * volume.array).all()


@pytest.mark.parametrize("style", STYLES)
def test_the_package_reads_its_own_series_without_a_warning(style: str, volume: SUVVolume, tmp_path: Path) -> None:
    write_pet_series(volume, tmp_path, header=STYLES[style])
    (series,) = find_series([tmp_path]).series
    read = read_suv(series, policy="strict")
    assert read.calibration.warnings == ()
    assert read.geometry.same_as(volume.geometry)
    step = volume.array.max(axis=(1, 2), keepdims=True) / 32767
    assert (np.abs(read.array - volume.array) <= 0.51 * step + 1e-6 * volume.array).all()


@pytest.mark.parametrize("style", ["siemens", "ge-start", "over-midnight"])
def test_frame_reference_time_and_decay_factor_tell_the_same_start(
    style: str, volume: SUVVolume, tmp_path: Path
) -> None:
    header = STYLES[style]
    for path in write_pet_series(volume, tmp_path, header=header):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        decay = math.log(2) / header.half_life_s
        frame = decay * ds.ActualFrameDuration / 1000
        mean_s = math.log(frame / (1 - math.exp(-frame))) / decay  # SUV.md, rule 11
        start = moment(ds.AcquisitionDate, ds.AcquisitionTime) + timedelta(
            seconds=mean_s - ds.FrameReferenceTime / 1000
        )
        assert abs((start - header.started).total_seconds()) < 1e-3
        assert float(ds.DecayFactor) == pytest.approx(math.exp(decay * ds.FrameReferenceTime / 1000), rel=1e-9)


def test_bed_positions_follow_each_other(volume: SUVVolume, tmp_path: Path) -> None:
    files = write_pet_series(volume, tmp_path, header=HEADER)
    times = [moment(ds.AcquisitionDate, ds.AcquisitionTime) for ds in map(pydicom.dcmread, files)]
    beds = [(time - HEADER.started).total_seconds() / HEADER.frame_duration_s for time in times]
    assert beds == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


def test_position_orientation_and_spacing(volume: SUVVolume, tmp_path: Path) -> None:
    files = write_pet_series(volume, tmp_path, header=HEADER)
    ds = pydicom.dcmread(files[2])
    assert [float(v) for v in ds.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
    assert [float(v) for v in ds.PixelSpacing] == [4.3, 4.1]  # between rows first
    assert [float(v) for v in ds.ImagePositionPatient] == pytest.approx([-101.25, -87.5, -433.125 + 2 * 3.27])


def test_an_oblique_volume_keeps_its_place(volume: SUVVolume, tmp_path: Path) -> None:
    a, b = np.deg2rad((25.0, -40.0))
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    oblique = volume_of(volume.array, turn)
    write_pet_series(oblique, tmp_path, header=HEADER)
    read = read_suv(find_series([tmp_path]).series[0])
    assert read.geometry.same_as(oblique.geometry)
    np.testing.assert_allclose(read.array, oblique.array, atol=1e-3)


def test_negative_suv_become_zero(tmp_path: Path) -> None:
    array = np.array([[[-1.0, 2.0], [0.0, 1.0]]] * 2, dtype=np.float32)
    read = suv_by_the_rule(write_pet_series(volume_of(array), tmp_path, header=HEADER))
    np.testing.assert_allclose(read, np.maximum(array, 0.0), atol=1e-4)


def test_identifiers_are_valid_unique_and_follow_from_the_seed(volume: SUVVolume, tmp_path: Path) -> None:
    first = write_pet_series(volume, tmp_path / "a", header=HEADER)
    again = write_pet_series(volume, tmp_path / "b", header=HEADER)
    other = write_pet_series(volume, tmp_path / "c", header=replace(HEADER, uid_seed="other"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    ds, changed = pydicom.dcmread(first[0]), pydicom.dcmread(other[0])
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        assert ds[keyword].value.is_valid
        assert ds[keyword].value != changed[keyword].value
    assert ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    assert len({pydicom.dcmread(path).SOPInstanceUID for path in first}) == len(first)


@pytest.mark.parametrize(
    "wrong",
    [
        {"weight_kg": 0.0},
        {"injected_dose_bq": float("nan")},
        {"started": datetime(2021, 3, 4, 13, 0)},
        {"units": "CNTS"},
        {"decay_correction": "ADMIN"},
        {"vendor": "philips", "decay_correction": "ADMIN"},
    ],
)
def test_headers_that_no_scanner_writes_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must be|before|alone"):
        replace(HEADER, **wrong)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_made_is_an_error(volume: SUVVolume, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EnvironmentFailure) as caught:
        write_pet_series(volume, tmp_path / "file" / "PET", header=HEADER)
    assert caught.value.code is Code.WRITE_FAILED


def filled(outlines: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Polygons filled at pixel centres by exclusive or, by matplotlib's own test of points."""
    centres = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 2)
    inside = np.zeros(len(centres), dtype=bool)
    for outline in outlines:
        inside ^= Polygon([*outline, outline[0]]).contains_points(centres)
    return inside.reshape(shape)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 1.0])
def test_filled_polygons_give_any_plane_back(share: float) -> None:
    plane = np.random.default_rng(0).random((23, 31)) < share
    assert np.array_equal(filled(list(polygons(plane)), plane.shape), plane)


def test_structure_set_gives_the_mask_back(volume: SUVVolume, tmp_path: Path) -> None:
    array = np.zeros(volume.geometry.shape, dtype=bool)
    array[2:7, 3:9, 2:6] = True
    array[4, 5:7, 3:5] = False  # a hole
    array[8, 0, 0] = array[8, 11, 8] = True
    files = write_pet_series(volume, tmp_path, header=HEADER)
    ds = pydicom.dcmread(write_rtstruct(Mask(array, volume.geometry, "lesions"), tmp_path / "RS.dcm", header=HEADER))
    image = pydicom.dcmread(files[0])
    assert [roi.ROIName for roi in ds.StructureSetROISequence] == ["lesions"]
    assert ds.StructureSetROISequence[0].ReferencedFrameOfReferenceUID == image.FrameOfReferenceUID
    assert (ds.PatientID, ds.StudyInstanceUID) == (image.PatientID, image.StudyInstanceUID)
    slices = {pydicom.dcmread(path).SOPInstanceUID: index for index, path in enumerate(files)}
    outlines: dict[int, list[np.ndarray]] = {index: [] for index in range(len(files))}
    for contour in ds.ROIContourSequence[0].ContourSequence:
        index = volume.geometry.to_index(np.reshape(contour.ContourData, (-1, 3)).astype(float))
        assert len(index) == contour.NumberOfContourPoints
        (slice_index,) = set(np.rint(index[:, 0]).astype(int).tolist())
        assert slices[contour.ContourImageSequence[0].ReferencedSOPInstanceUID] == slice_index
        outlines[slice_index].append(index[:, 1:])
    for index, plane in enumerate(array):
        assert np.array_equal(filled(outlines[index], plane.shape), plane)


def test_the_package_reads_its_own_structure_set(volume: SUVVolume, tmp_path: Path) -> None:
    array = np.random.default_rng(1).random(volume.geometry.shape) < 0.3
    write_pet_series(volume, tmp_path / "PET", header=HEADER)
    write_rtstruct(Mask(array, volume.geometry, "lesions"), tmp_path / "RS.dcm", header=HEADER)
    (series,) = find_series([tmp_path]).series
    mask = contour_mask(series, read_suv(series))
    assert mask is not None
    assert mask.name == "lesions"
    assert np.array_equal(mask.array, array)


def test_an_empty_mask_is_refused(volume: SUVVolume, tmp_path: Path) -> None:
    empty = Mask(np.zeros(volume.geometry.shape, dtype=bool), volume.geometry)
    with pytest.raises(ValueError, match="empty mask"):
        write_rtstruct(empty, tmp_path / "RS.dcm", header=HEADER)
