from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

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
    found = find_series([real_data / "sts" / "dicom"])
    assert len(found.series) == 51
    for series in found.series:
        path = real_data / "sts" / "nifti" / series.patient_id / "PET_mask.nii.gz"
        expected = nibabel.load(path).get_fdata().transpose(2, 1, 0) > 0
        mask = contour_mask(series, read_suv(series))
        assert mask is not None
        np.testing.assert_array_equal(mask.array, expected, err_msg=series.patient_id)


def square(low: float, high: float, z: int) -> list[float]:
    """Corners of a square between rows and columns ``low`` and ``high`` of slice ``z``, in LPS mm."""
    corners = [(z, low, low), (z, low, high), (z, high, high), (z, high, low)]
    return np.round(GEOMETRY.to_mm(corners), 6).ravel().tolist()


def structure_set(path: Path, regions: dict[str, list[list[float]]], frame: str = FRAME, **changes: Any) -> Path:
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = RTStructureSetStorage, generate_uid(), "RTSTRUCT"
    names, drawn = [], []
    for number, (name, polygons) in enumerate(regions.items(), 1):
        region, contours = Dataset(), Dataset()
        region.ROINumber, region.ROIName, region.ReferencedFrameOfReferenceUID = number, name, frame
        contours.ReferencedROINumber = number
        contours.ContourSequence = Items([_contour(points, **changes) for points in polygons])
        names.append(region)
        drawn.append(contours)
    dataset.StructureSetROISequence, dataset.ROIContourSequence = Items(names), Items(drawn)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def _contour(points: list[float], kind: str = "CLOSED_PLANAR") -> Dataset:
    contour = Dataset()
    contour.ContourGeometricType, contour.ContourData = kind, points
    contour.NumberOfContourPoints = len(points) // 3
    return contour


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


def test_two_planes_on_one_slice_are_united(tmp_path: Path) -> None:
    upper, lower = np.array(square(4.5, 9.5, 2)), np.array(square(4.5, 9.5, 2))
    upper[2::3] += 0.8
    lower[2::3] -= 0.8
    path = structure_set(tmp_path / "rs.dcm", {"drawn on CT": [upper.tolist(), lower.tolist()]})
    assert read_rtstruct(path, GEOMETRY).array.sum() == 25


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


def test_thresholds() -> None:
    array = np.zeros(GEOMETRY.shape, np.float32)
    array[1, 2, 3:7] = 4.0, 4.1, 9.99, 10.0
    volume = SUVVolume(array, GEOMETRY, SUVCalibration("bw", "GML_BW", 1, 1))
    assert np.argwhere(threshold_mask(volume, suv=4.0).array)[:, 2].tolist() == [4, 5, 6]
    assert np.argwhere(relative_threshold_mask(volume).array)[:, 2].tolist() == [4, 5, 6]
    assert relative_threshold_mask(volume, fraction=1.0).array.sum() == 1
    assert threshold_mask(volume, suv=4.0).name == "SUV>4.0"
