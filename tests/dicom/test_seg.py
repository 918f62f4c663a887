"""DICOM SEG and NIfTI masks on the voxels of a scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pack_bits
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, SegmentationStorage, generate_uid
from tests.dicom.test_file_meta import store_bare

from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import Geometry, Mask
from twobe3.dicom.seg import read_seg
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv
from twobe3.scans.masks import contour_mask, merge, read_nifti_mask, read_regions
from twobe3.scans.scan import DicomScan

FRAME = "1.2.3.4"
AXIAL = Geometry((6, 20, 30), np.array([[0.0, 0, 4, -10], [0, 4, 0, -5], [3, 0, 0, 40], [0, 0, 0, 1]]), FRAME)
RNG = np.random.default_rng(5)


def turned(geometry: Geometry) -> Geometry:
    """The same shape, tilted by 20° about x and by 10° about z."""
    a, b = np.deg2rad(20), np.deg2rad(10)
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = geometry.affine.copy()
    affine[:3, :3] = turn @ tilt @ affine[:3, :3]
    return Geometry(geometry.shape, affine, geometry.frame_of_reference)


def item(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def write_seg(
    path: Path,
    segments: dict[str, np.ndarray],
    geometry: Geometry,
    *,
    kind: str = "BINARY",
    frame: str = FRAME,
    empty_frames: bool = False,
    thickness_mm: float | None = None,
    stated_mm: float | None = -1.0,
) -> Path:
    """A SEG file after DICOM PS3.3 A.51: a frame for every plane of every segment, by default not the empty ones.

    SliceThickness and SpacingBetweenSlices are the geometry's own unless given; no spacing is stated for None.
    """
    spacing, axes = geometry.spacing_mm, geometry.affine[:3, :3] / geometry.spacing_mm
    planes, images = [], []
    for number, values in enumerate(segments.values(), 1):
        for index, image in enumerate(values):
            if not (image.any() or empty_frames):
                continue
            images.append(image)
            where = item(ImagePositionPatient=[round(x, 6) for x in geometry.to_mm((index, 0, 0)).tolist()])
            which = item(ReferencedSegmentNumber=number)
            planes.append(item(PlanePositionSequence=[where], SegmentIdentificationSequence=[which]))
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = SegmentationStorage, generate_uid(), "SEG"
    dataset.FrameOfReferenceUID, dataset.SegmentationType = frame, kind
    dataset.SegmentSequence = [item(SegmentNumber=n, SegmentLabel=name) for n, name in enumerate(segments, 1)]
    orientation = [round(x, 9) for x in (*axes[:, 2], *axes[:, 1])]
    measures = item(PixelSpacing=list(spacing[1:]), SliceThickness=thickness_mm or spacing[0])
    if stated_mm is not None:
        measures.SpacingBetweenSlices = spacing[0] if stated_mm < 0 else stated_mm
    dataset.SharedFunctionalGroupsSequence = [
        item(
            PlaneOrientationSequence=[item(ImageOrientationPatient=orientation)],
            PixelMeasuresSequence=[measures],
        )
    ]
    dataset.PerFrameFunctionalGroupsSequence = planes
    dataset.NumberOfFrames, (dataset.Rows, dataset.Columns) = len(images), geometry.shape[1:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    pixels = np.array(images)
    if kind == "BINARY":
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
        dataset.PixelData = pack_bits(pixels.astype(np.uint8).ravel(), pad=True)
    else:
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.PixelData = pixels.astype(np.uint8).tobytes()
    if kind == "FRACTIONAL":
        dataset.SegmentationFractionalType, dataset.MaximumFractionalValue = "PROBABILITY", 200
    dataset["PixelData"].VR = "OB"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def random_mask(shape: Sequence[int]) -> np.ndarray:
    return RNG.random(tuple(shape)) < 0.2


@pytest.mark.parametrize("geometry", [AXIAL, turned(AXIAL)], ids=["axial", "oblique"])
@pytest.mark.parametrize("empty_frames", [False, True])
def test_on_its_own_grid_a_binary_segment_is_what_was_stored(
    geometry: Geometry, empty_frames: bool, tmp_path: Path
) -> None:
    expected = random_mask(geometry.shape)
    expected[2] = False
    path = write_seg(tmp_path / "seg.dcm", {"lesion": expected}, geometry, empty_frames=empty_frames)
    mask = read_seg(path, geometry)
    np.testing.assert_array_equal(mask.array, expected)
    assert mask.name == "lesion"
    np.testing.assert_array_equal(read_regions(path, geometry).array, expected)


def test_a_fractional_segment_is_inside_from_one_half(tmp_path: Path) -> None:
    values = np.zeros(AXIAL.shape)
    values[1, 2, 3:7] = 1, 99, 100, 200  # the largest value is 200
    mask = read_seg(write_seg(tmp_path / "seg.dcm", {"lesion": values}, AXIAL, kind="FRACTIONAL"), AXIAL)
    assert np.argwhere(mask.array).tolist() == [[1, 2, 5], [1, 2, 6]]


def test_segments_are_merged_or_named(tmp_path: Path) -> None:
    a, b, c = (random_mask(AXIAL.shape) for _ in range(3))
    path = write_seg(tmp_path / "seg.dcm", {"a": a, "b": b, "c": c}, AXIAL)
    np.testing.assert_array_equal(read_regions(path, AXIAL).array, a | b | c)
    np.testing.assert_array_equal(read_regions(path, AXIAL, roi="b").array, b)
    np.testing.assert_array_equal(read_seg(path, AXIAL, roi=" B ").array, b)
    chosen = read_regions(path, AXIAL, roi=["a", "c"])
    np.testing.assert_array_equal(chosen.array, a | c)
    assert chosen.name == "a + c"
    with pytest.raises(UnusableScanError, match=r"no region 'd'; there are: a, b, c"):
        read_regions(path, AXIAL, roi=["a", "d"])


def test_a_label_map_holds_all_segments_in_one_image(tmp_path: Path) -> None:
    labels = RNG.integers(0, 3, AXIAL.shape)
    path = write_seg(tmp_path / "seg.dcm", {"one": labels}, AXIAL, kind="LABELMAP", empty_frames=True)
    dataset = pydicom.dcmread(path)
    dataset.SegmentSequence.append(item(SegmentNumber=2, SegmentLabel="two"))
    dataset.SegmentSequence.append(item(SegmentNumber=0, SegmentLabel="background"))
    dataset.save_as(path)
    np.testing.assert_array_equal(read_regions(path, AXIAL).array, labels > 0)
    np.testing.assert_array_equal(read_regions(path, AXIAL, roi="two").array, labels == 2)


def test_a_box_drawn_on_a_finer_grid_holds_the_voxels_whose_centres_are_inside(tmp_path: Path) -> None:
    affine = np.array([[0.0, 0, 1, -13], [0, 1, 0, -8], [1, 0, 0, 38], [0, 0, 0, 1]])
    ct = Geometry((20, 90, 130), affine, FRAME)
    low, high = np.array([5.3, 12.2, 42.4]), np.array([52.7, 40.4, 49.6])  # LPS mm

    def box(geometry: Geometry) -> np.ndarray:
        points = geometry.to_mm(np.moveaxis(np.indices(geometry.shape), 0, -1))
        return np.asarray(((points > low) & (points < high)).all(axis=-1))

    for grid in (AXIAL, turned(AXIAL)):
        mask = read_seg(write_seg(tmp_path / "seg.dcm", {"box": box(ct)}, ct), grid)
        nibabel.save(_as_nifti(box(ct), ct), tmp_path / "box.nii.gz")
        other = read_nifti_mask(tmp_path / "box.nii.gz", grid)
        points = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
        from_border = np.minimum(points - low, high - points).min(axis=-1)
        clear = np.abs(from_border) > 1.0  # nearer to the border the finer grid's own voxels decide
        for found in (mask, other):
            np.testing.assert_array_equal(found.array[clear], (from_border > 0)[clear])
            assert found.array.sum() > 20


def _as_nifti(array: np.ndarray, geometry: Geometry) -> nibabel.Nifti1Image:
    """NIfTI counts (column, row, slice); its world is RAS."""
    affine = np.diag([-1.0, -1, 1, 1]) @ geometry.affine[:, [2, 1, 0, 3]]
    return nibabel.Nifti1Image(array.transpose(2, 1, 0).astype(np.uint8), affine)


def _spoilt(path: Path, change: str) -> Path:
    dataset = pydicom.dcmread(path)
    match change:
        case "huge":
            dataset.NumberOfFrames = 2**31 - 1
        case "frames":
            del dataset.PerFrameFunctionalGroupsSequence[0]
        case "place":
            del dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
        case "position":
            del dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
        case "pixels":
            dataset.PixelData = dataset.PixelData[:10]
    dataset.save_as(path)
    return path


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("huge", "TOO_LARGE"),
        ("frames", "CORRUPT_FILE"),
        ("place", "CORRUPT_FILE"),
        ("position", "CORRUPT_FILE"),
        ("pixels", "CORRUPT_FILE"),
    ],
)
def test_damaged_segmentations_are_refused(change: str, code: str, tmp_path: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", {"a": random_mask(AXIAL.shape)}, AXIAL)
    with pytest.raises(UnusableScanError, match=code):
        read_seg(_spoilt(path, change), AXIAL)


def grid(slices: int, step_mm: float, pixel_mm: float = 4.0, low_mm: float = 0.0) -> Geometry:
    """Axial slices of 16 × 16 pixels of 4 mm or as many as make up for another size."""
    n = round(64 / pixel_mm)
    affine = np.array([[0, 0, pixel_mm, 0], [0, pixel_mm, 0, 0], [step_mm, 0, 0, low_mm], [0, 0, 0, 1.0]])
    return Geometry((slices, n, n), affine, FRAME)


@pytest.mark.parametrize("geometry", [grid(21, 2.0), turned(grid(21, 2.027))], ids=["axial", "oblique"])
@pytest.mark.parametrize(("thickness_mm", "stated_mm"), [(5.0, None), (1.0, None), (5.0, 5.0), (2.0, 0.5), (5.0, 2.0)])
@pytest.mark.parametrize("kept", [(9, 10, 11), (3, 5, 12), (7,)])
def test_on_its_own_grid_a_segment_is_what_was_stored_whatever_thickness_is_said(
    geometry: Geometry, thickness_mm: float, stated_mm: float | None, kept: tuple[int, ...], tmp_path: Path
) -> None:
    """Acceptance row 58."""
    stored = np.zeros(geometry.shape, np.bool_)
    stored[list(kept), 5:10, 5:10] = True
    path = write_seg(tmp_path / "seg.dcm", {"a": stored}, geometry, thickness_mm=thickness_mm, stated_mm=stated_mm)
    np.testing.assert_array_equal(read_seg(path, geometry).array, stored)


@pytest.mark.parametrize("thickness_mm", [1.0, 5.0])
@pytest.mark.parametrize("stated_mm", [None, 2.5])
@pytest.mark.parametrize("slice_mm", [1.0, 1.65, 2.5, 4.0])
@pytest.mark.parametrize("shuffled", [False, True])
def test_frames_of_another_grid_lie_where_simpleitk_puts_the_whole_image(
    thickness_mm: float, stated_mm: float | None, slice_mm: float, shuffled: bool, tmp_path: Path
) -> None:
    """Empty frames are left out, two segments do not lie on the same ones, and the frames come in any order."""
    ct = grid(24, 2.5, pixel_mm=2.0)
    a, b = np.zeros((2, *ct.shape), np.bool_)
    a[[3, 4, 5, 9]] = random_mask((4, *ct.shape[1:]))
    b[[12, 13, 17]] = random_mask((3, *ct.shape[1:]))
    path = write_seg(tmp_path / "seg.dcm", {"a": a, "b": b}, ct, thickness_mm=thickness_mm, stated_mm=stated_mm)
    if shuffled:
        dataset = pydicom.dcmread(path)
        order = RNG.permutation(len(dataset.PerFrameFunctionalGroupsSequence))
        frames = dataset.pixel_array[order]
        dataset.PerFrameFunctionalGroupsSequence = [dataset.PerFrameFunctionalGroupsSequence[k] for k in order]
        dataset.PixelData = pack_bits(frames.ravel(), pad=True)
        dataset.save_as(path)
    scan = grid(round(60 / slice_mm), slice_mm, low_mm=0.31)
    for names, stored in ((["a"], a), (["a", "b"], a | b)):
        found = read_seg(path, scan, roi=names).array
        np.testing.assert_array_equal(found, resample_nearest(stored, ct, scan))


def resample_nearest(stored: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    image = SimpleITK.GetImageFromArray(stored.astype(np.uint8))
    image.SetSpacing(source.spacing_mm[::-1])
    image.SetOrigin(source.origin_mm)
    resample = SimpleITK.ResampleImageFilter()
    resample.SetInterpolator(SimpleITK.sitkNearestNeighbor)
    resample.SetSize(target.shape[::-1])
    resample.SetOutputSpacing(target.spacing_mm[::-1])
    resample.SetOutputOrigin(np.add(target.origin_mm, (1e-3, 1e-3, 0)))  # of two pixels alike near the further one
    return SimpleITK.GetArrayFromImage(resample.Execute(image)) > 0


def test_single_frames_far_apart_do_not_reach_for_each_other(tmp_path: Path) -> None:
    ct = grid(24, 2.5, pixel_mm=2.0)
    stored = np.zeros(ct.shape, np.bool_)
    stored[[4, 20], 5:10, 5:10] = True
    path = write_seg(tmp_path / "seg.dcm", {"a": stored}, ct, thickness_mm=5.0, stated_mm=None)
    found = read_seg(path, grid(60, 1.0, low_mm=0.2))
    assert np.flatnonzero(found.array.any(axis=(1, 2))).tolist() == [10, 50]


def test_another_frame_of_reference_or_nothing_inside_is_refused(tmp_path: Path) -> None:
    mask = random_mask(AXIAL.shape)
    with pytest.raises(UnusableScanError, match=r"CONTOUR_FRAME.*frame of reference"):
        read_seg(write_seg(tmp_path / "seg.dcm", {"a": mask}, AXIAL, frame="9.9"), AXIAL)
    far = AXIAL.affine.copy()
    far[2, 3] += 1000
    away = Geometry(AXIAL.shape, far, FRAME)
    with pytest.raises(UnusableScanError, match="CONTOUR_OUTSIDE"):
        read_seg(write_seg(tmp_path / "seg.dcm", {"a": mask}, away), AXIAL)
    with pytest.raises(UnusableScanError, match="CONTOUR_EMPTY"):
        read_seg(write_seg(tmp_path / "seg.dcm", {"a": mask, "b": 0 * mask}, AXIAL), AXIAL, roi=["b"])


def test_a_nifti_mask_is_read_as_others_wrote_it(tmp_path: Path) -> None:
    for geometry in (AXIAL, turned(AXIAL)):
        labels = RNG.integers(0, 4, geometry.shape)
        path = tmp_path / "mask.nii.gz"
        nibabel.save(_as_nifti(labels, geometry), path)
        np.testing.assert_array_equal(read_regions(path, geometry).array, labels > 0)
        np.testing.assert_array_equal(read_regions(path, geometry, roi="2").array, labels == 2)
        np.testing.assert_array_equal(read_regions(path, geometry, roi=["1", "3"]).array, labels % 2 == 1)
        with pytest.raises(UnusableScanError, match=r"no label '7'; there are: 1, 2, 3"):
            read_regions(path, geometry, roi="7")
        nibabel.save(_as_nifti(0 * labels, geometry), path)
        with pytest.raises(UnusableScanError, match="CONTOUR_EMPTY"):
            read_regions(path, geometry)


def test_real_nifti_masks_equal_the_contours(real_data: Path) -> None:
    (series,) = find_series([real_data / "sts" / "dicom" / "STS_019"]).series
    volume = read_suv(series)
    drawn = contour_mask(series, volume)
    assert drawn is not None
    mask = read_nifti_mask(real_data / "sts" / "nifti" / "STS_019" / "PET_mask.nii.gz", volume.geometry)
    np.testing.assert_array_equal(mask.array, drawn.array)


@pytest.mark.parametrize("by_series", [True, False], ids=["by its series", "by its frame of reference"])
def test_a_segmentation_in_the_folder_is_the_contour_of_the_scan(bench: Any, by_series: bool) -> None:
    slices = bench.slices()
    folder = bench.save(slices)
    volume = read_suv(find_series([folder]).series[0])
    drawn = random_mask(volume.geometry.shape)
    path = write_seg(folder / "seg.dcm", {"lesion": drawn}, volume.geometry, frame=slices[0].FrameOfReferenceUID)
    dataset = pydicom.dcmread(path)
    dataset.PatientID, dataset.StudyInstanceUID = slices[0].PatientID, slices[0].StudyInstanceUID
    dataset.SeriesInstanceUID = generate_uid()
    if by_series:
        dataset.ReferencedSeriesSequence = [item(SeriesInstanceUID=slices[0].SeriesInstanceUID)]
    dataset.save_as(path)
    (series,) = find_series([folder]).series
    assert series.contours == (path,)
    mask = DicomScan(series).contour(volume)
    assert mask is not None
    np.testing.assert_array_equal(mask.array, drawn)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_a_segmentation_without_preamble_and_file_meta_is_read_like_other_bare_files(bench: Any, syntax: str) -> None:
    slices = bench.slices()
    folder = bench.save(slices)
    volume = read_suv(find_series([folder]).series[0])
    drawn = random_mask(volume.geometry.shape)
    whole = write_seg(folder / "seg.dcm", {"lesion": drawn}, volume.geometry, frame=slices[0].FrameOfReferenceUID)
    dataset = pydicom.dcmread(whole)
    dataset.PatientID, dataset.StudyInstanceUID = slices[0].PatientID, slices[0].StudyInstanceUID
    dataset.SeriesInstanceUID = generate_uid()
    whole.unlink()
    store_bare(dataset, folder / "seg", syntax)
    (series,) = find_series([folder]).series
    mask = contour_mask(series, volume)
    assert mask is not None
    np.testing.assert_array_equal(mask.array, drawn)


def test_a_real_contour_stored_as_segmentation_is_the_same_region(real_data: Path, tmp_path: Path) -> None:
    for file in (real_data / "sts" / "dicom" / "STS_019").rglob("*.dcm"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (series,) = find_series([tmp_path]).series
    volume = read_suv(series)
    drawn = contour_mask(series, volume)
    assert drawn is not None
    (structures,) = series.contours
    old = pydicom.dcmread(structures)
    structures.unlink()
    frame = volume.geometry.frame_of_reference
    path = write_seg(tmp_path / "seg.dcm", {"mass": drawn.array}, volume.geometry, frame=frame)
    dataset = pydicom.dcmread(path)
    dataset.PatientID, dataset.StudyInstanceUID = old.PatientID, old.StudyInstanceUID
    dataset.SeriesInstanceUID = generate_uid()
    dataset.save_as(path)
    (series,) = find_series([tmp_path]).series
    mask = contour_mask(series, volume)
    assert mask is not None
    np.testing.assert_array_equal(mask.array, drawn.array)


def test_regions_of_several_files_are_united() -> None:
    a, b = Mask(random_mask(AXIAL.shape), AXIAL, "a"), Mask(random_mask(AXIAL.shape), AXIAL, "b")
    both = merge([a, b])
    np.testing.assert_array_equal(both.array, a.array | b.array)
    assert both.name == "a + b"
    with pytest.raises(ValueError, match="different voxels"):
        merge([a, Mask(b.array, turned(AXIAL), "b")])
    with pytest.raises(ValueError, match="no region"):
        merge([])
