"""What a scanner does to a known uptake."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from twobe3.phantom import NORTH, SOUTH, Lesion, Scanner
from twobe3.phantom.scanner import acquire, lesion_mask
from twobe3.phantom.shapes import VoxelGrid, paint_exactly

GEOMETRY = replace(NORTH, matrix=32).geometry(240.0)
CENTRE_MM = (0.0, 0.0, -108.0)


def scan(scanner: Scanner, lesion: Lesion, background: float = 0.0) -> np.ndarray:
    image = np.full(GEOMETRY.shape, background, dtype=np.float32)
    paint_exactly(image, VoxelGrid.from_geometry(GEOMETRY), lesion.solid, lesion.suv)
    return acquire(image, scanner, GEOMETRY, np.random.default_rng(0))


def test_point_spread_keeps_the_activity() -> None:
    image = scan(replace(SOUTH, noise=0.0), Lesion("", CENTRE_MM, 10.0, 8.0))
    activity = float(image.sum()) * GEOMETRY.voxel_volume_ml
    assert activity == pytest.approx(8.0 * 4 / 3 * np.pi, rel=0.01)


def test_point_spread_has_the_width_of_the_scanner() -> None:
    fwhm_mm = 40.0  # wide against the voxel, so that the profile can be measured
    image = scan(replace(NORTH, noise=0.0, fwhm_mm=fwhm_mm), Lesion("", CENTRE_MM, 3.0, 100.0))
    profile = image.sum(axis=(0, 1))
    x = VoxelGrid.from_geometry(GEOMETRY).x
    variance = float((profile * x**2).sum() / profile.sum())
    assert variance == pytest.approx((fwhm_mm / 2.3548) ** 2 + 3.0**2 / 5, rel=0.05)


@pytest.mark.parametrize("scanner", [NORTH, SOUTH])
def test_a_large_lesion_shows_its_uptake_and_a_small_one_much_less(scanner: Scanner) -> None:
    large, small = Lesion("", CENTRE_MM, 20.0, 9.0), Lesion("", CENTRE_MM, 3.0, 9.0)
    core = lesion_mask((replace(large, radius_mm=10.0),), GEOMETRY)
    assert scan(scanner, large, 1.0)[core].mean() == pytest.approx(9.0, rel=0.03)
    assert scan(replace(scanner, noise=0.0), small, 1.0).max() < 0.6 * 9.0


def test_noise_grows_with_the_square_root_of_the_uptake() -> None:
    deviation = [
        acquire(np.full(GEOMETRY.shape, suv, dtype=np.float32), NORTH, GEOMETRY, np.random.default_rng(1)).std()
        for suv in (1.0, 4.0)
    ]
    assert deviation[0] == pytest.approx(NORTH.noise, rel=0.02)
    assert deviation[1] == pytest.approx(2.0 * NORTH.noise, rel=0.02)


def test_mask_holds_the_volume_of_the_lesions() -> None:
    lesion = Lesion("", CENTRE_MM, 20.0, 5.0, (1.2, 1.0, 1.0 / 1.2))
    voxels_ml = lesion_mask((lesion,), GEOMETRY).sum() * GEOMETRY.voxel_volume_ml
    assert voxels_ml == pytest.approx(lesion.volume_ml, rel=0.05)


def test_a_lesion_between_the_voxel_centres_has_one_voxel() -> None:
    centre_mm = tuple(GEOMETRY.to_mm((10.45, 12.45, 14.45)).tolist())
    mask = lesion_mask((Lesion("", centre_mm, 1.0, 5.0),), GEOMETRY)
    assert np.argwhere(mask).tolist() == [[10, 12, 14]]
