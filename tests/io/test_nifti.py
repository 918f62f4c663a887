"""NIfTI against the reference implementation, nibabel, and against ITK, whose world is LPS as ours."""

import gzip
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK

from twobe3.core.errors import EnvironmentFailure, UnusableScanError
from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.io.nifti import read_geometry, read_nifti, write_nifti


def oblique() -> SUVVolume:
    """Anisotropic, rotated about two axes, every voxel another value."""
    a, b = 0.3, 0.2
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    columns = (about_z @ about_x)[:, [2, 1, 0]] * np.array([3.0, 2.0, 4.0])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns, (-12.5, 30.0, -801.0)
    array = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    return SUVVolume(array, Geometry((4, 5, 6), affine), SUVCalibration("bw", "GML_BW", 1, 1))


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_what_is_written_is_read_back(tmp_path: Path, name: str) -> None:
    volume = oblique()
    write_nifti(tmp_path / "deep" / name, volume)
    array, geometry = read_nifti(tmp_path / "deep" / name)
    np.testing.assert_array_equal(array, volume.array)
    assert geometry.same_as(volume.geometry, 1e-3)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]


def test_nibabel_sees_every_voxel_at_its_place_in_ras(tmp_path: Path) -> None:
    volume = oblique()
    write_nifti(tmp_path / "a.nii.gz", volume)
    image = nibabel.load(tmp_path / "a.nii.gz")
    data = np.asarray(image.dataobj)
    assert data.shape == (6, 5, 4)
    for index in ((0, 0, 0), (3, 1, 2), (1, 4, 5)):
        slice_, row, column = index
        x, y, z = volume.geometry.to_mm(index)
        np.testing.assert_allclose(image.affine @ (column, row, slice_, 1), (-x, -y, z, 1), atol=1e-3)
        assert data[column, row, slice_] == volume.array[index]


def test_the_same_volume_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, oblique())
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_itk_sees_the_same_image(tmp_path: Path) -> None:
    volume = oblique()
    write_nifti(tmp_path / "a.nii.gz", volume)
    image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), volume.array)
    for slice_, row, column in ((0, 0, 0), (3, 1, 2), (1, 4, 5)):
        there = image.TransformIndexToPhysicalPoint((column, row, slice_))
        np.testing.assert_allclose(there, volume.geometry.to_mm((slice_, row, column)), atol=1e-3)


def test_what_itk_wrote_is_read(tmp_path: Path) -> None:
    volume = oblique()
    image = SimpleITK.GetImageFromArray(volume.array)
    spacing = np.array(volume.geometry.spacing_mm)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetDirection((volume.geometry.affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    image.SetOrigin(volume.geometry.origin_mm)
    SimpleITK.WriteImage(image, str(tmp_path / "a.nii.gz"))
    array, geometry = read_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(array, volume.array)
    assert geometry.same_as(volume.geometry, 1e-3)


def test_a_region_is_written_as_0_and_1(tmp_path: Path) -> None:
    inside = oblique().array > 50
    write_nifti(tmp_path / "a.nii", Mask(inside, oblique().geometry))
    image = nibabel.load(tmp_path / "a.nii")
    assert image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, inside)


def file(path: Path, **changes: Any) -> Path:
    """Integers of 3 columns, 4 rows, 5 slices, with a scale; then fields of the header are set, and bytes cut off."""
    affine = changes.pop("affine", np.diag([-2.0, -3.0, 4.0, 1.0]))
    shape, cut, dim = changes.pop("shape", (3, 4, 5)), changes.pop("cut", 0), changes.pop("dim", None)
    image = nibabel.Nifti1Image(np.arange(np.prod(shape)).reshape(shape).astype(changes.pop("dtype", np.int16)), None)
    image.header.set_sform(affine, code=1)
    for name, value in changes.items():
        image.header[name] = value
    content = image.to_bytes()
    if "scl_slope" in changes:
        content = content[:112] + struct.pack("<ff", changes["scl_slope"], 1.0) + content[120:]
    if dim:
        content = content[:40] + struct.pack("<8h", *dim) + content[56:]
    content = content[: len(content) - cut]
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_stored_integers_are_scaled_and_metres_become_millimetres(tmp_path: Path) -> None:
    path = file(tmp_path / "a.nii", scl_slope=0.5, xyzt_units=1)
    array, geometry = read_nifti(path)
    np.testing.assert_array_equal(array, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))
    assert array.max() == 59 * 0.5 + 1
    assert geometry.spacing_mm == (4000.0, 3000.0, 2000.0)


def test_a_fourth_dimension_of_one_is_none(tmp_path: Path) -> None:
    array, geometry = read_nifti(file(tmp_path / "a.nii", shape=(3, 4, 5, 1)))
    assert array.shape == geometry.shape == (5, 4, 3)


SHEARED = np.array([[-2.0, 1.5, 0, 0], [0, -3, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"shape": (3, 4, 5, 2)}, "NOT_STATIC: a NIfTI file has 4 dimensions: 3 × 4 × 5 × 2"),
        ({"shape": (3, 4)}, "CORRUPT_FILE"),
        ({"affine": SHEARED}, "SHEARED"),
        ({"affine": np.diag([0.0, 0, 0, 1])}, "AFFINE_INVALID"),
        ({"affine": np.diag([-2.0, -3, np.nan, 1])}, "AFFINE_INVALID"),
        ({"sform_code": 0}, "AFFINE_INVALID: a NIfTI file has neither an sform nor a qform"),
        ({"dim": [3, 30000, 30000, 30000, 1, 1, 1, 1]}, "TOO_LARGE"),
        ({"dim": [3, -3, 4, 5, 1, 1, 1, 1]}, "CORRUPT_FILE"),
        ({"dtype": np.complex64}, "CORRUPT_FILE"),
        ({"cut": 1}, "CORRUPT_FILE"),
        ({"cut": 119}, "CORRUPT_FILE"),
        ({"cut": 300}, "CORRUPT_FILE"),
    ],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_what_cannot_be_trusted_is_refused(tmp_path: Path, name: str, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(UnusableScanError, match=code):
        read_nifti(file(tmp_path / name, **changes))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("content", [b"", b"nothing", b"\x1f\x8b\x08" + bytes(40)])
def test_a_file_that_is_no_nifti(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnusableScanError, match="CORRUPT_FILE"):
        read_geometry(tmp_path / name)


def test_a_damaged_header_gives_an_image_or_a_coded_refusal(tmp_path: Path) -> None:
    whole, rng = file(tmp_path / "a.nii").read_bytes(), np.random.default_rng(0)
    outcomes = []
    for _ in range(400):
        content = bytearray(whole)
        for place in rng.integers(0, 352, rng.integers(1, 6)):
            content[place] = rng.integers(256)
        (tmp_path / "b.nii").write_bytes(content)
        try:
            array, geometry = read_nifti(tmp_path / "b.nii")
        except UnusableScanError as refusal:
            outcomes.append(refusal.code.name)
        else:
            outcomes.append("read")
            assert array.shape == geometry.shape
    assert {"read", "CORRUPT_FILE", "AFFINE_INVALID"} <= set(outcomes)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match="WRITE_FAILED"):
        write_nifti(tmp_path / "file" / "a.nii.gz", oblique())


def test_a_volume_writes_what_write_nifti_writes(tmp_path: Path) -> None:
    volume = oblique()
    np.testing.assert_array_equal(volume.affine, volume.geometry.affine)
    volume.to_nifti(tmp_path / "a.nii")
    write_nifti(tmp_path / "b.nii", volume)
    assert (tmp_path / "a.nii").read_bytes() == (tmp_path / "b.nii").read_bytes()
    region = Mask(volume.array > 50, volume.geometry).to_nifti()
    assert region.get_data_dtype() == np.uint8
    assert float(np.asarray(region.dataobj).sum()) == (volume.array > 50).sum()
