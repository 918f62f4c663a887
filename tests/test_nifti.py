from pathlib import Path

import nibabel
import numpy as np
import pytest

from twobe3.errors import ToolError
from twobe3.nifti import read_nifti, write_nifti
from twobe3.volume import Geometry, SUVCalibration, SUVVolume


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


def test_a_file_that_is_no_nifti(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"nothing")
    with pytest.raises(ToolError, match="ARTEFACT_DAMAGED"):
        read_nifti(tmp_path / "a.nii")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ToolError, match="WRITE_FAILED"):
        write_nifti(tmp_path / "file" / "a.nii.gz", oblique())
