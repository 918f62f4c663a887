"""The phantom's solids against geometry that anyone can work out."""

from __future__ import annotations

import numpy as np
import pytest

from twobe3.core.volume import Geometry
from twobe3.phantom.shapes import Ellipsoid, Tube, VoxelGrid, paint, paint_exactly

GEOMETRY = Geometry(
    (40, 50, 60), np.array([[0, 0, 3.0, -90], [0, 4.0, 0, -100], [5.0, 0, 0, -100], [0, 0, 0, 1]], dtype=float)
)
VOXEL_ML = GEOMETRY.voxel_volume_ml


def test_grid_has_the_voxel_centres_of_its_geometry() -> None:
    grid = VoxelGrid.from_geometry(GEOMETRY)
    np.testing.assert_allclose((grid.x[7], grid.y[5], grid.z[3]), GEOMETRY.to_mm((3, 5, 7)))
    assert (len(grid.z), len(grid.y), len(grid.x)) == GEOMETRY.shape


@pytest.mark.parametrize("tilt", [0.0, 30.0, -75.0])
def test_painting_exactly_keeps_the_activity(tilt: float) -> None:
    image = np.zeros(GEOMETRY.shape, dtype=np.float32)
    paint_exactly(image, VoxelGrid.from_geometry(GEOMETRY), Ellipsoid((1.0, -2.0, 3.0), (22.0, 17.0, 31.0), tilt), 8.0)
    volume_ml = 4 / 3 * np.pi * 22.0 * 17.0 * 31.0 / 1000.0
    assert image.sum() * VOXEL_ML == pytest.approx(8.0 * volume_ml, rel=0.01)
    assert image.max() == 8.0


def test_painting_smoothly_keeps_the_activity_nearly() -> None:
    image = np.zeros(GEOMETRY.shape, dtype=np.float32)
    paint(image, VoxelGrid.from_geometry(GEOMETRY), Ellipsoid((0.0, 0.0, 0.0), (30.0, 30.0, 30.0)), 1.0, edge_mm=5.0)
    assert image.sum() * VOXEL_ML == pytest.approx(4 / 3 * np.pi * 27.0, rel=0.03)


def test_painting_outside_the_image_changes_nothing() -> None:
    image = np.zeros(GEOMETRY.shape, dtype=np.float32)
    far = Ellipsoid((900.0, 0.0, 0.0), (10.0, 10.0, 10.0))
    paint(image, VoxelGrid.from_geometry(GEOMETRY), far, 1.0, edge_mm=5.0)
    paint_exactly(image, VoxelGrid.from_geometry(GEOMETRY), far, 1.0)
    assert not image.any()


def test_a_positive_tilt_turns_the_upper_end_to_the_left() -> None:
    solid = Ellipsoid((0.0, 0.0, 0.0), (5.0, 5.0, 50.0), 45.0)
    upper_left, upper_right = (np.array([[v]], dtype=np.float32) for v in (30.0, -30.0))
    zero, up = np.zeros((1, 1), dtype=np.float32), np.full((1, 1), 30.0, dtype=np.float32)
    assert solid.contains(upper_left, zero, up).all()
    assert not solid.contains(upper_right, zero, up).any()


@pytest.mark.parametrize("tilt", [0.0, 50.0])
def test_points_drawn_inside_are_inside_and_uniform(tilt: float) -> None:
    solid, rng = Ellipsoid((10.0, -20.0, 30.0), (4.0, 9.0, 25.0), tilt), np.random.default_rng(0)
    x, y, z = np.array([solid.draw_inside(rng) for _ in range(4000)], dtype=np.float32).T
    assert solid.contains(x, y, z).all()
    low, high = solid.bounds_mm()
    assert (np.array([x, y, z]).min(1) >= low).all()
    assert (np.array([x, y, z]).max(1) <= high).all()
    assert y.var() == pytest.approx(9.0**2 / 5, rel=0.1)  # a uniform ball has variance r²/5 along each axis


def test_distance_to_a_sphere_and_to_a_cylinder() -> None:
    x, zero = np.array([0.5, 3.0, 10.0, 14.0], dtype=np.float32), np.zeros(4, dtype=np.float32)
    np.testing.assert_allclose(Ellipsoid((0, 0, 0), (10, 10, 10)).distance_mm(x, zero, zero), x - 10.0, atol=1e-4)
    cylinder = Tube(((-50, 0, 0, 10, 10), (50, 0, 0, 10, 10)))
    np.testing.assert_allclose(cylinder.distance_mm(x, zero, zero), x - 10.0, atol=1e-4)
    above = cylinder.distance_mm(zero, zero, np.full(4, 57.0, dtype=np.float32))
    np.testing.assert_allclose(above, 7.0, atol=1e-4)
