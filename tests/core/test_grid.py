import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK
from scipy import ndimage
from scipy.spatial.transform import Rotation

from twobe3.core.grid import Grid, place_grid, resample, uptake_outside
from twobe3.core.volume import Geometry, SUVCalibration, SUVVolume

CALIBRATION = SUVCalibration("bw", "test", 1.0, 1.0)
AXIAL = np.fliplr(np.eye(3))


def image(
    array: npt.ArrayLike,
    spacing_mm: tuple[float, float, float] = (3.0, 2.5, 2.0),
    *,
    axes: npt.NDArray[np.float64] = AXIAL,
    centre_mm: tuple[float, float, float] = (10.0, -20.0, -700.0),
) -> SUVVolume:
    """A volume centred on a point; ``axes`` holds the directions of slices, rows, columns as columns."""
    array = np.asarray(array, np.float32)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing_mm
    affine[:3, 3] = np.array(centre_mm) - affine[:3, :3] @ ((np.array(array.shape) - 1) / 2)
    return SUVVolume(array, Geometry(array.shape, affine, "1.2.3"), CALIBRATION, "se-1", ("read",))


def blob(geometry: Geometry, centre_mm: tuple[float, float, float], fwhm_mm: float) -> npt.NDArray[np.float64]:
    """A Gaussian in space, sampled on a grid."""
    position = geometry.to_mm(np.stack(np.indices(geometry.shape), -1))
    distance2 = ((position - centre_mm) ** 2).sum(-1)
    return np.exp(-distance2 * 4 * np.log(2) / fwhm_mm**2)


def on_simpleitk(volume: SUVVolume, target: Geometry) -> npt.NDArray[np.float32]:
    moving = SimpleITK.GetImageFromArray(volume.array)
    geometry = volume.geometry
    moving.SetSpacing(geometry.spacing_mm[::-1])
    moving.SetOrigin(geometry.origin_mm)
    moving.SetDirection((geometry.affine[:3, 2::-1] / geometry.spacing_mm[::-1]).ravel().tolist())
    filter_ = SimpleITK.ResampleImageFilter()
    filter_.SetSize(target.shape[::-1])
    filter_.SetOutputSpacing(target.spacing_mm[::-1])
    filter_.SetOutputOrigin(target.origin_mm)
    filter_.SetInterpolator(SimpleITK.sitkLinear)
    return np.asarray(SimpleITK.GetArrayFromImage(filter_.Execute(moving)))


OBLIQUE = Rotation.from_euler("xyz", [8, -12, 20], degrees=True).as_matrix() @ AXIAL


@pytest.mark.parametrize("axes", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_within_the_image_it_is_simpleitk(axes: npt.NDArray[np.float64]) -> None:
    volume = image(np.random.default_rng(0).gamma(2, 2, (20, 24, 28)), axes=axes)
    grid = Grid((3.1, 2.6, 2.9), (40.3, 41.6, 40.6))
    result = resample(volume, grid)
    expected = on_simpleitk(volume, result.geometry)
    index = volume.geometry.to_index(result.geometry.to_mm(np.stack(np.indices(grid.shape), -1)))
    within = ((index >= 0) & (index <= np.array(volume.geometry.shape) - 1)).all(-1)
    assert within.mean() > 0.9
    np.testing.assert_allclose(result.array[within], expected[within], atol=1e-4)


def test_a_linear_ramp_stays_one() -> None:
    slope = np.array([0.03, -0.02, 0.015])
    base = image(np.zeros((30, 30, 30)))
    ramp = 5 + (base.geometry.to_mm(np.stack(np.indices(base.geometry.shape), -1)) - (10, -20, -700)) @ slope
    result = resample(image(ramp), Grid((2.8, 2.3, 2.9), (50.4, 46.0, 40.6)))
    expected = 5 + (result.geometry.to_mm(np.stack(np.indices(result.geometry.shape), -1)) - (10, -20, -700)) @ slope
    np.testing.assert_allclose(result.array, expected, atol=1e-5)


def test_the_same_grid_gives_the_same_values() -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        spacing = tuple(float(s) for s in rng.uniform(2, 5, 3).round(3))
        array = rng.gamma(2, 2, tuple(rng.integers(8, 13, 3)))
        volume = image(array, spacing, centre_mm=tuple(rng.uniform(-500, 500, 3)))
        grid = Grid(spacing, tuple(n * s for n, s in zip(array.shape, spacing, strict=True)))
        # Up to the border: rounding errors in the grid must not drop the outer voxels.
        np.testing.assert_allclose(resample(volume, grid).array, volume.array, atol=1e-4)


def test_orientation_does_not_matter() -> None:
    array = np.random.default_rng(2).gamma(2, 2, (14, 16, 18)).astype(np.float32)
    grid = Grid((4.0, 4.0, 4.0), (48.0, 48.0, 48.0))
    straight = image(array)
    expected = resample(straight, grid).array
    flipped = image(array[::-1, :, ::-1], axes=AXIAL @ np.diag([-1.0, 1, -1]))
    # Stored as sagittal slices: slices to the left, rows down, columns to the back.
    sagittal = image(
        array.transpose(2, 0, 1)[:, ::-1],
        (2.0, 3.0, 2.5),
        axes=np.column_stack([AXIAL[:, 2], -AXIAL[:, 0], AXIAL[:, 1]]),
    )
    for volume in (flipped, sagittal):
        np.testing.assert_allclose(resample(volume, grid).array, expected, atol=1e-4)


@pytest.mark.parametrize("spacing_mm", [(3.0, 3.0, 3.0), (4.0, 4.0, 4.0), (8.0, 6.0, 7.0)])
@pytest.mark.parametrize("axes", [AXIAL, OBLIQUE], ids=["axial", "oblique"])
def test_a_lesion_stays_where_it_is(axes: npt.NDArray[np.float64], spacing_mm: tuple[float, float, float]) -> None:
    at = (20.0, -35.0, -690.0)  # left of, in front of and above the centre
    empty = image(np.zeros((50, 60, 70)), axes=axes)
    volume = replace(empty, array=blob(empty.geometry, at, 18.0).astype(np.float32))
    result = resample(volume, Grid(spacing_mm, (120.0, 120.0, 119.0)))
    weight = result.array.astype(np.float64)
    position = result.geometry.to_mm(np.stack(np.indices(result.geometry.shape), -1))
    np.testing.assert_allclose((position * weight[..., None]).sum((0, 1, 2)) / weight.sum(), at, atol=0.15)
    # Activity is kept: the sum over space is that of the original.
    before = volume.array.sum() * volume.geometry.voxel_volume_ml
    assert weight.sum() * result.geometry.voxel_volume_ml == pytest.approx(before, rel=0.01)


def test_slices_go_to_the_head_rows_to_the_back_columns_to_the_left() -> None:
    result = resample(image(np.zeros((20, 20, 20)), axes=OBLIQUE), Grid((4.0,) * 3, (40.0,) * 3))
    np.testing.assert_array_equal(result.geometry.affine[:3, :3], 4 * AXIAL)
    np.testing.assert_allclose(result.geometry.to_mm((4.5, 4.5, 4.5)), (10.0, -20.0, -700.0))
    assert result.geometry.frame_of_reference == "1.2.3"


@pytest.mark.parametrize("spacing_mm", [2.0, 4.0, 9.0])
def test_a_constant_stays_constant_and_the_rest_is_zero(spacing_mm: float) -> None:
    volume = image(np.full((20, 24, 30), 2.5))  # 60 mm long each way
    grid = Grid((spacing_mm,) * 3, (108.0,) * 3)
    result = resample(volume, grid)
    position = np.abs(result.geometry.to_mm(np.stack(np.indices(grid.shape), -1)) - (10.0, -20.0, -700.0)).max(-1)
    np.testing.assert_allclose(result.array[position <= 28], 2.5, atol=1e-5)
    assert not result.array[position > 32].any()
    assert result.array.min() >= 0
    assert result.array.max() <= 2.5 + 1e-5


def test_coarsening_smooths_before_it_samples() -> None:
    checks = np.indices((40, 40, 40)).sum(0) % 2 * 4.0
    result = resample(image(checks, (1.0, 1.0, 1.0)), Grid((4.0,) * 3, (32.0,) * 3))
    np.testing.assert_allclose(result.array, 2.0, atol=0.02)


def test_a_volume_says_what_was_done_to_it() -> None:
    result = resample(image(np.ones((9, 9, 9))), Grid((4.0,) * 3, (32.0,) * 3))
    assert result.history[0] == "read"
    assert "4.0" in result.history[1]
    assert (result.source, result.calibration) == ("se-1", CALIBRATION)


@pytest.mark.parametrize(
    ("field_of_view_mm", "share"),
    [((60.0, 60.0, 60.0), 0.0), ((30.0, 60.0, 60.0), 0.5), ((30.0, 30.0, 60.0), 0.75), ((30.0, 30.0, 30.0), 0.875)],
)
def test_uptake_outside_is_the_share_that_is_cut_off(
    field_of_view_mm: tuple[float, float, float], share: float
) -> None:
    # 20 voxels of 3, 2.5, 2 mm … in steps whose halves are whole voxels.
    volume = image(np.full((20, 20, 20), 2.0), (3.0, 3.0, 3.0))
    assert uptake_outside(volume, Grid((3.0,) * 3, field_of_view_mm)) == pytest.approx(share)


def test_only_uptake_counts_as_cut_off() -> None:
    array = np.full((20, 20, 20), 0.5)
    assert uptake_outside(image(array), Grid((2.0,) * 3, (16.0,) * 3)) == 0.0
    array[0, 0, 0] = array[10, 10, 10] = 9.0
    assert uptake_outside(image(array), Grid((2.0,) * 3, (16.0,) * 3)) == 0.5


def test_shape_and_identity_of_a_specification() -> None:
    grid = Grid((4.0, 4.0, 2.0), (384.0, 320.0, 320.0))
    assert grid.shape == (96, 80, 160)
    assert place_grid(image(np.ones((9, 9, 9))).geometry, grid).shape == grid.shape
    assert grid.cache_key() != Grid((4.0, 4.0, 4.0), (384.0, 320.0, 320.0)).cache_key()
    assert grid.cache_key() != Grid((4.0, 4.0, 2.0), (384.0, 320.0, 324.0)).cache_key()


@pytest.mark.parametrize(
    ("spacing_mm", "field_of_view_mm"),
    [((4.0, 4.0, 0.0), (400.0,) * 3), ((4.0,) * 3, (400.0, 400.0, -1.0)), ((4.0,) * 3, (400.0, 400.0, 28.0))],
)
def test_a_grid_that_is_none_is_refused(
    spacing_mm: tuple[float, float, float], field_of_view_mm: tuple[float, float, float]
) -> None:
    with pytest.raises(ValueError, match="must hold"):
        Grid(spacing_mm, field_of_view_mm)


def test_one_number_stands_for_three() -> None:
    assert Grid(8.0, 128) == Grid((8.0, 8.0, 8.0), (128.0, 128.0, 128.0))
    assert Grid(8).field_of_view_mm == Grid().field_of_view_mm
    assert Grid(8).cache_key() == Grid((8.0,) * 3).cache_key()
    with pytest.raises(ValueError, match="three positive lengths"):
        Grid(-8.0)
    with pytest.raises(ValueError, match="three positive lengths"):
        Grid((8.0, 8.0))


def test_a_grid_of_more_voxels_than_any_scan_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(ValueError, match="may hold at most"):
        Grid(1.0, 1000.0)
    with pytest.raises(ValueError, match="three positive lengths"):
        Grid(1.0, float("inf"))
    with pytest.raises(ValueError, match="three positive lengths"):
        Grid((1.0, float("nan"), 1.0))


def test_lengths_along_the_patient_do_not_depend_on_the_order_of_the_array() -> None:
    sagittal = np.eye(4)
    sagittal[:3, :3] = [[2.0, 0.0, 0.0], [0.0, 0.0, 3.0], [0.0, -5.0, 0.0]]  # columns of it are x, −z, y
    geometry = Geometry((10, 20, 30), sagittal)
    assert geometry.along_patient(geometry.spacing_mm) == (5.0, 3.0, 2.0)
    assert geometry.along_patient(geometry.extent_mm) == (100.0, 90.0, 20.0)


def on_scipy(volume: SUVVolume, target: Geometry) -> npt.NDArray[np.float64]:
    """Smoothing and interpolation by scipy in double precision, without a look at where the axes point."""
    step = np.linalg.inv(volume.geometry.affine) @ target.affine
    coarsening = np.abs(step[:3, :3]).max(axis=1)
    smooth = ndimage.gaussian_filter(volume.array.astype(np.float64), np.where(coarsening > 1.5, coarsening / 2.355, 0))
    moved = ndimage.affine_transform(
        smooth, step[:3, :3], step[:3, 3], output_shape=target.shape, order=1, mode="grid-constant"
    )
    return np.asarray(moved)


AXES = [
    np.eye(3)[:, list(order)] * signs
    for order in itertools.permutations(range(3))
    for signs in itertools.product([1.0, -1.0], repeat=3)
]


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        ((9, 11, 13), Grid((3.1, 2.6, 2.9), (28.0, 26.0, 32.0))),
        ((9, 11, 13), Grid((5.0, 4.1, 1.3), (120.0, 90.0, 40.0))),  # larger than the scan, two axes smoothed or not
        ((20, 24, 28), Grid((9.0, 7.0, 8.0), (72.0, 56.0, 64.0))),  # smoothed by more than the border is far
        ((30, 28, 26), Grid((2.2, 1.7, 1.9), (18.0, 14.0, 16.0))),  # a small part of the scan
        ((1, 12, 12), Grid((1.0, 2.0, 2.0), (8.0, 16.0, 16.0))),  # one slice between two of the grid's
        ((1, 12, 1), Grid((4.0, 4.0, 4.0), (32.0, 32.0, 32.0))),
    ],
    ids=["as it is", "padded", "smoothed", "cropped", "one slice", "a line"],
)
def test_along_parallel_axes_it_is_scipy(shape: tuple[int, int, int], grid: Grid) -> None:
    rng = np.random.default_rng(len(shape) + shape[0])
    array = rng.gamma(1, 4, shape)
    found = 0.0
    for axes in AXES:
        volume = image(array, tuple(rng.permuted([3.0, 2.5, 2.0])), axes=axes)
        result = resample(volume, grid)
        expected = on_scipy(volume, result.geometry)
        np.testing.assert_allclose(result.array, expected, rtol=0, atol=1e-6 * volume.array.max())
        assert (result.array.dtype, result.array.flags.c_contiguous) == (np.float32, True)
        found += np.abs(expected).sum()
    assert found > 0


def test_of_a_slice_beyond_its_neighbours_on_the_grid_nothing_is_left() -> None:
    result = resample(image(np.ones((1, 9, 9)), (3.0, 3.0, 3.0)), Grid((12.0, 3.0, 3.0), (96.0, 27.0, 27.0)))
    assert result.array.shape == (8, 9, 9)
    assert not result.array.any()


def test_a_hair_of_rotation_gives_what_parallel_axes_give() -> None:
    array = np.random.default_rng(3).gamma(1, 4, (24, 26, 28))
    hair = Rotation.from_euler("xyz", [1e-7, -1e-7, 1e-7]).as_matrix()
    grid = Grid((4.0, 5.0, 6.0), (80.0, 60.0, 60.0))
    straight, turned = (resample(image(array, axes=axes), grid) for axes in (AXIAL, hair @ AXIAL))
    assert np.count_nonzero(turned.geometry.affine[:3, :3]) == 3
    np.testing.assert_allclose(straight.array, turned.array, rtol=0, atol=1e-5 * array.max())
