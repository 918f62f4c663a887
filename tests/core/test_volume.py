import base64
import dataclasses
import io
import re

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from scipy.spatial.transform import Rotation
from skimage.io import imread

from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume

CALIBRATION = SUVCalibration("bw", "test", 1.0, 1.0)


def oriented(
    rotation: npt.NDArray[np.float64],
    spacing_mm: tuple[float, float, float] = (3.0, 2.0, 1.5),
    origin_mm: tuple[float, float, float] = (-12.5, 30.0, -801.0),
    shape: tuple[int, int, int] = (4, 5, 6),
) -> Geometry:
    """Columns, rows, slices along the columns of a rotation."""
    affine = np.eye(4)
    affine[:3, :3] = rotation[:, ::-1] * spacing_mm
    affine[:3, 3] = origin_mm
    return Geometry(shape, affine)


ROTATIONS = {
    "axial": np.eye(3),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "sagittal": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "mirrored": np.diag([1.0, 1.0, -1.0]),
    "oblique": Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix(),
}


@pytest.mark.parametrize("name", ROTATIONS)
def test_positions_are_those_of_simpleitk(name: str) -> None:
    rotation = ROTATIONS[name]
    geometry = oriented(rotation)
    image = SimpleITK.Image(geometry.shape[::-1], SimpleITK.sitkFloat32)
    image.SetSpacing(geometry.spacing_mm[::-1])
    image.SetOrigin(geometry.origin_mm)
    image.SetDirection(rotation.ravel().tolist())
    index = np.random.default_rng(0).uniform(-3, 8, (20, 3))
    expected = [image.TransformContinuousIndexToPhysicalPoint(i[::-1].tolist()) for i in index]
    np.testing.assert_allclose(geometry.to_mm(index), expected, atol=1e-9)
    np.testing.assert_allclose(geometry.to_index(expected), index, atol=1e-9)


def test_the_facts_of_a_grid() -> None:
    geometry = oriented(ROTATIONS["oblique"])
    np.testing.assert_allclose(geometry.spacing_mm, (3.0, 2.0, 1.5))
    np.testing.assert_allclose(geometry.extent_mm, (12.0, 10.0, 9.0))
    assert geometry.origin_mm == (-12.5, 30.0, -801.0)
    assert geometry.voxel_volume_ml == pytest.approx(0.009)


@pytest.mark.parametrize(
    ("affine", "says"),
    [
        (np.eye(3), "finite 4×4"),
        (np.diag([1, np.nan, 1, 1]), "finite 4×4"),
        (np.diag([1.0, 0, 1, 1]), "spacing must be positive"),
        (np.array([[1.0, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "perpendicular"),
    ],
)
def test_an_affine_that_is_none_is_refused(affine: npt.NDArray[np.float64], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Geometry((2, 2, 2), affine)


def test_a_geometry_cannot_be_changed() -> None:
    affine = np.eye(4)
    geometry = Geometry((2, 2, 2), affine)
    affine[0, 3] = 99.0
    assert geometry.origin_mm == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 3] = 99.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        geometry.shape = (1, 1, 1)  # type: ignore[misc]


def test_two_grids_are_the_same_if_their_corners_are() -> None:
    geometry = oriented(ROTATIONS["oblique"])
    shift = np.zeros((4, 4))
    shift[0, 3] = 0.02
    assert geometry.same_as(dataclasses.replace(geometry, affine=geometry.affine + shift / 4))
    assert not geometry.same_as(dataclasses.replace(geometry, affine=geometry.affine + shift))
    assert not geometry.same_as(dataclasses.replace(geometry, shape=(4, 5, 7)))
    # A spacing that differs by a thousandth is seen at the far corner of a long scan only.
    long = Geometry((400, 2, 2), np.eye(4))
    assert not long.same_as(Geometry((400, 2, 2), np.diag([1.001, 1, 1, 1])))


def test_suv_are_finite_float32_on_their_grid() -> None:
    geometry = Geometry((2, 3, 4), np.eye(4))
    volume = SUVVolume(np.asfortranarray(np.ones((2, 3, 4))), geometry, CALIBRATION)  # type: ignore[arg-type]
    assert volume.array.dtype == np.float32
    assert volume.array.flags.c_contiguous
    with pytest.raises(ValueError, match=r"\(2, 3, 5\).*\(2, 3, 4\)"):
        SUVVolume(np.ones((2, 3, 5), np.float32), geometry, CALIBRATION)
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            SUVVolume(np.full((2, 3, 4), bad, np.float32), geometry, CALIBRATION)


def test_the_volume_of_a_mask() -> None:
    array = np.zeros((4, 5, 6), bool)
    array[1:3, 1:4, 2:4] = True
    mask = Mask(array, oriented(ROTATIONS["oblique"]), "lesion")
    assert mask.volume_ml == pytest.approx(12 * 3.0 * 2.0 * 1.5 / 1000)
    with pytest.raises(ValueError, match="shape"):
        Mask(array[:-1], mask.geometry)


def test_a_calibration_is_written_without_the_date_of_the_scan() -> None:
    calibration = SUVCalibration("bw", "BQML_START", 1.0, 2.0, weight_kg=70.0, reference_time="2024-03-01T11:00:00")
    document = calibration.document()
    assert "2024" not in str(document)
    assert (document["rule"], document["weight_kg"]) == ("BQML_START", 70.0)


def test_a_notebook_shows_a_scan_from_the_front_whatever_its_orientation() -> None:
    """Feet first: the slices are stored towards the feet, the columns towards the right."""
    array = np.zeros((4, 5, 6), dtype=np.float32)
    array[0, 2, 0] = 7.0  # the uppermost slice, the patient's left
    html = SUVVolume(array, oriented(ROTATIONS["feet first"]), CALIBRATION, "se-1<b>")._repr_html_()
    assert "se-1&lt;b&gt;" in html
    assert "4 × 5 × 6, 3 × 2 × 1.5 mm" in html
    data = re.search('base64,([^"]+)"', html)
    assert data is not None
    picture = imread(io.BytesIO(base64.b64decode(data[1])))
    assert picture.shape == (4, 6)
    assert np.argwhere(picture == 0).tolist() == [[0, 5]]
