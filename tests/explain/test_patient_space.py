"""From the grid to the voxels of a scan, whatever its orientation."""

from __future__ import annotations

import numpy as np
import pytest

from twobe3.core.grid import Grid, place_grid
from twobe3.core.volume import Geometry
from twobe3.explain.patient_space import to_scan

GRID = Grid(8.0, 128.0)


def oblique(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], degrees: float) -> Geometry:
    turn = np.deg2rad(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ (np.fliplr(np.eye(3)) * np.array(spacing_mm))
    affine[:3, 3] = (-31.0, 17.0, 250.0)
    return Geometry(shape, affine)


@pytest.mark.parametrize("degrees", [0.0, 20.0, 180.0])
def test_the_maximum_lies_where_it_was_in_millimetres(degrees: float) -> None:
    scan = oblique((40, 50, 60), (3.0, 2.5, 2.5), degrees)
    values = np.zeros(GRID.shape, np.float32)
    values[6, 9, 7] = 1.0
    where = np.unravel_index(int(to_scan(values, GRID, scan).argmax()), scan.shape)
    expected = place_grid(scan, GRID).to_mm(np.array([6, 9, 7]))
    assert np.abs(scan.to_mm(np.array(where)) - expected).max() <= 1.6  # half a voxel's diagonal within the slice


def test_the_sum_stays() -> None:
    scan = oblique((60, 70, 70), (2.0, 2.0, 2.0), 15.0)
    values = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
    values[:, :4] = values[:, -4:] = values[:, :, :4] = values[:, :, -4:] = values[:2] = values[-2:] = 0
    assert to_scan(values, GRID, scan).sum() == pytest.approx(values.sum(), rel=1e-3)


def test_beyond_the_field_of_view_there_is_nothing() -> None:
    scan = oblique((100, 100, 100), (4.0, 4.0, 4.0), 0.0)
    moved = to_scan(np.ones(GRID.shape, np.float32), GRID, scan)
    assert not moved[0].any()
    assert not moved[:, 0].any()
    assert moved[50, 50, 50] > 0


def test_a_map_of_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="the map has shape"):
        to_scan(np.ones((4, 4, 4), np.float32), GRID, oblique((8, 8, 8), (4.0, 4.0, 4.0), 0.0))
