import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from tests.drawn import structure_set

from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import Geometry, SUVCalibration, SUVVolume
from twobe3.dicom.rtstruct import read_rtstruct
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv
from twobe3.scans.masks import contour_mask, relative_threshold_mask, threshold_mask

FRAME = "1.2.3.4"
GEOMETRY = Geometry(
    (4, 20, 30),
    np.array([[0.0, 0, 2, -10], [0, 2, 0, -5], [3, 0, 0, 40], [0, 0, 0, 1]]),
    FRAME,
)


def test_contours_equal_the_independent_masks(real_data: Path) -> None:
    """But for voxels whose centres lie on the path, which the masks leave out and DICOM PS3.3 C.8.8.6.3 does not.

    The contours were written to 0.001 mm and run along an eighth of a millimetre, as do the centres of some scans.
    """
    found = find_series([real_data / "sts" / "dicom"])
    assert len(found.series) == 51
    on_path = voxels = 0
    for series in found.series:
        path = real_data / "sts" / "nifti" / series.patient_id / "PET_mask.nii.gz"
        expected = nibabel.load(path).get_fdata().transpose(2, 1, 0) > 0
        mask = contour_mask(series, read_suv(series))
        assert mask is not None
        assert not (expected & ~mask.array).any(), series.patient_id
        for index in np.argwhere(mask.array & ~expected):
            assert distance_to_path_mm(series.contours[0], mask.geometry.to_mm(index)) < 0.001, series.patient_id
            on_path += 1
        voxels += int(expected.sum())
    assert (voxels, on_path) == (299_787, 968)


@functools.cache
def contour_points(path: Path) -> list[np.ndarray]:
    contours = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence
    return [np.array(contour.ContourData, dtype=float).reshape(-1, 3) for contour in contours]


def distance_to_path_mm(path: Path, point: np.ndarray) -> float:
    """From a point to the nearest contour of its plane, in the plane."""
    found = np.inf
    for points in contour_points(path):
        if abs(points[0, 2] - point[2]) < 1.0:
            start, along = points[:, :2], np.roll(points, -1, axis=0)[:, :2] - points[:, :2]
            share = ((point[:2] - start) * along).sum(axis=1) / np.maximum((along**2).sum(axis=1), 1e-12)
            nearest = start + np.clip(share, 0, 1)[:, None] * along
            found = min(found, np.linalg.norm(point[:2] - nearest, axis=1).min())
    return found


def square(low: float, high: float, z: int) -> list[float]:
    """Corners of a square between rows and columns ``low`` and ``high`` of slice ``z``, in LPS mm."""
    corners = [(z, low, low), (z, low, high), (z, high, high), (z, high, low)]
    return np.round(GEOMETRY.to_mm(corners), 6).ravel().tolist()


def test_a_square_holds_the_voxels_whose_centres_are_inside(tmp_path: Path) -> None:
    mask = read_rtstruct(structure_set(tmp_path / "rs.dcm", {"lesion": [square(4.5, 9.5, 2)]}), GEOMETRY)
    expected = np.zeros(GEOMETRY.shape, bool)
    expected[2, 5:10, 5:10] = True
    np.testing.assert_array_equal(mask.array, expected)
    assert mask.name == "lesion"
    assert mask.volume_ml == pytest.approx(25 * 12 / 1000)


def test_an_inner_contour_is_a_hole(tmp_path: Path) -> None:
    path = structure_set(tmp_path / "rs.dcm", {"ring": [square(2.5, 9.5, 1), square(4.5, 7.5, 1)]})
    assert read_rtstruct(path, GEOMETRY).array.sum() == 49 - 9


def test_of_two_planes_on_one_slice_the_nearer_one_counts(tmp_path: Path) -> None:
    upper, lower = np.array(square(4.5, 9.5, 2)), np.array(square(3.5, 10.5, 2))
    upper[2::3] += 0.7
    lower[2::3] -= 0.9
    path = structure_set(tmp_path / "rs.dcm", {"drawn on CT": [upper, lower]})
    assert read_rtstruct(path, GEOMETRY).array.sum(axis=(1, 2)).tolist() == [0, 0, 25, 0]


def test_regions_are_merged_or_named(tmp_path: Path) -> None:
    path = structure_set(tmp_path / "rs.dcm", {"a": [square(1.5, 3.5, 0)], "b": [square(5.5, 9.5, 1)], "empty": []})
    assert read_rtstruct(path, GEOMETRY).array.sum() == 4 + 16
    assert read_rtstruct(path, GEOMETRY).name == "a + b"
    assert read_rtstruct(path, GEOMETRY, roi="b").array.sum() == 16
    with pytest.raises(UnusableScanError, match="there are: a, b, empty"):
        read_rtstruct(path, GEOMETRY, roi="c")
    with pytest.raises(UnusableScanError, match="CONTOUR_EMPTY"):
        read_rtstruct(path, GEOMETRY, roi="empty")


def tilted() -> list[float]:
    corners = np.array(square(4.5, 9.5, 1)).reshape(4, 3)
    corners[2:, 2] += 6
    return corners.ravel().tolist()


@pytest.mark.parametrize(
    ("polygons", "options", "code"),
    [
        ([], {}, "CONTOUR_EMPTY"),
        ([square(4.5, 9.5, 1)], {"kind": "OPEN_PLANAR"}, "CONTOUR_EMPTY"),
        ([square(4.5, 9.5, 9)], {}, "CONTOUR_OUTSIDE"),
        ([square(40.5, 49.5, 1)], {}, "CONTOUR_OUTSIDE"),
        ([square(4.5, 9.5, 1)], {"frame": "9.9"}, "CONTOUR_FRAME"),
        ([tilted()], {}, "CONTOUR_UNUSABLE"),
    ],
)
def test_unusable_contours(tmp_path: Path, polygons: list[list[float]], options: dict[str, str], code: str) -> None:
    path = structure_set(tmp_path / "rs.dcm", {"lesion": polygons}, **options)
    with pytest.raises(UnusableScanError, match=code):
        read_rtstruct(path, GEOMETRY)


def test_regions_of_all_files_of_a_scan_are_there(bench: Any) -> None:
    """Acceptance row 59."""
    slices = bench.slices(np.ones((4, 20, 30), np.uint16))
    folder = bench.save(slices)
    volume = read_suv(find_series([folder]).series[0])
    z, frame = volume.geometry.to_mm((1, 0, 0))[2], slices[0].FrameOfReferenceUID

    def draw(name: str, regions: dict[str, list[np.ndarray]]) -> Path:
        path = structure_set(folder / name, regions, frame=frame)
        dataset = pydicom.dcmread(path)
        dataset.PatientID, dataset.StudyInstanceUID = slices[0].PatientID, slices[0].StudyInstanceUID
        dataset.SeriesInstanceUID = pydicom.uid.generate_uid()
        reference = pydicom.Dataset()
        reference.FrameOfReferenceUID = frame
        dataset.ReferencedFrameOfReferenceSequence = [reference]
        dataset.save_as(path)
        return path

    def block(low: int, high: int) -> list[np.ndarray]:
        corners = [(1, low, low), (1, low, high), (1, high, high), (1, high, low)]
        return [volume.geometry.to_mm(corners)]

    draw("1.dcm", {"Lesion 1": block(1, 3), "both": block(5, 6)})
    draw("2.dcm", {"Lesion 2": block(8, 11), "both": block(6, 7)})
    (series,) = find_series([folder]).series
    assert len(series.contours) == 2

    def voxels(roi: Sequence[str] = ()) -> tuple[int, set[str]]:
        mask = contour_mask(series, volume, roi=roi)
        assert mask is not None
        return int(mask.array.sum()), {note for note in mask.notes if "single planes" not in note}

    both = "CONTOUR_OVERLAP: region 'both' is drawn in 2 files, which are united"
    assert voxels() == (9 + 16 + 4 + 4 - 1, {both})
    assert voxels(["lesion 1", "LESION 2"]) == (25, set())
    assert voxels(["both"]) == (7, {both})
    assert voxels(["Lesion 2"]) == (16, {"CONTOUR_UNUSED: 1 of 2 files hold no region that was asked for"})
    with pytest.raises(UnusableScanError, match=r"no region 'Lesion 3'; there are: Lesion [12], both, Lesion [12] "):
        voxels(["Lesion 1", "Lesion 3"])
    draw("3.dcm", {"far": [np.array([(500.0, 0, z), (510, 0, z), (510, 10, z)])]})
    draw("4.dcm", {"nothing": []})
    (series,) = find_series([folder]).series
    assert voxels() == (32, {
        both,
        "CONTOUR_UNUSED: 1 of 4 files: CONTOUR_OUTSIDE: no voxel of the scan lies inside 'far'",
        "CONTOUR_UNUSED: 1 of 4 files: CONTOUR_EMPTY: no closed contour is drawn",
    })  # fmt: skip
    for name in ("1.dcm", "2.dcm"):
        (folder / name).unlink()
    (series,) = find_series([folder]).series
    with pytest.raises(UnusableScanError, match=r"CONTOUR_(EMPTY|OUTSIDE)"):
        voxels()


def test_a_region_in_another_spelling_of_another_file_is_the_same_one(bench: Any, tmp_path: Path) -> None:
    regions = [("GTV", 0, {"gtv": [square(12.5, 14.5, 0)]}), ("gtv", 1, {}), ("ＧＴＶ 1", 2, {}), ("node", 3, {})]
    paths = [
        structure_set(tmp_path / f"{z}.dcm", {name: [square(4.5, 9.5, z)], **others}) for name, z, others in regions
    ]
    series = replace(find_series([bench.save(bench.slices())]).series[0], contours=tuple(paths))
    volume = SUVVolume(np.zeros(GEOMETRY.shape, np.float32), GEOMETRY, SUVCalibration("bw", "GML_BW", 1, 1))
    mask = contour_mask(series, volume, roi=["GTV"])
    assert mask is not None
    assert (mask.array.sum(axis=(1, 2)).tolist(), mask.name) == ([25, 25, 0, 0], "GTV + gtv")
    overlap = [note for note in mask.notes if "single planes" not in note]
    assert overlap == [
        "CONTOUR_OVERLAP: region 'GTV', 'gtv' is drawn in 2 files, which are united",
        "CONTOUR_UNUSED: 2 of 4 files hold no region that was asked for",
    ]
    (found,) = {contour_mask(series, volume, roi=[name]).array[2].sum() for name in ("gtv 1", "GTV1")}
    assert found == 25


def test_thresholds() -> None:
    array = np.zeros(GEOMETRY.shape, np.float32)
    array[1, 2, 3:7] = 4.0, 4.1, 9.99, 10.0
    volume = SUVVolume(array, GEOMETRY, SUVCalibration("bw", "GML_BW", 1, 1))
    assert np.argwhere(threshold_mask(volume, suv=4.0).array)[:, 2].tolist() == [4, 5, 6]
    assert np.argwhere(relative_threshold_mask(volume).array)[:, 2].tolist() == [4, 5, 6]
    assert relative_threshold_mask(volume, fraction=1.0).array.sum() == 1
    assert threshold_mask(volume, suv=4.0).name == "SUV>4.0"
