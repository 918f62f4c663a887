"""What only PET has, on regions whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.features.lesions import PEAK_RADIUS_MM, SMALLEST_LESION_ML, lesion_centroids_mm, measure_lesions, suv_peak


def scan(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], value: float = 1.0) -> SUVVolume:
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.eye(3)) * np.array(spacing_mm)
    return SUVVolume(np.full(shape, value, np.float32), Geometry(shape, affine), SUVCalibration("bw", "TEST", 1, 1))


def two_cubes(volume: SUVVolume, offset: tuple[int, int, int]) -> Mask:
    inside = np.zeros(volume.array.shape, np.bool_)
    inside[2:5, 2:5, 2:5] = True
    a, b, c = offset
    inside[2 + a : 5 + a, 2 + b : 5 + b, 2 + c : 5 + c] = True
    return Mask(inside, volume.geometry, "two")


def test_volume_and_glycolysis_of_an_even_region_are_products() -> None:
    volume = scan((20, 20, 20), (5.0, 4.0, 4.0), value=3.0)
    found = measure_lesions(volume, two_cubes(volume, (10, 10, 10)))
    assert found.mtv_ml == pytest.approx(2 * 27 * 0.08)
    assert found.tlg_ml == pytest.approx(3.0 * found.mtv_ml)
    assert (found.suv_max, found.suv_mean) == (3.0, 3.0)
    assert found.suv_peak == pytest.approx(3.0)


def test_distance_and_spread_of_two_lesions_are_those_of_their_centres() -> None:
    volume = scan((30, 20, 20), (5.0, 4.0, 3.0))
    found = measure_lesions(volume, two_cubes(volume, (12, 10, 8)))
    apart_mm = np.linalg.norm([60.0, 40.0, 24.0])
    assert found.lesions == 2
    assert found.dmax_mm == pytest.approx(apart_mm)
    assert found.spread_mm == pytest.approx(apart_mm / 2)


def test_one_lesion_has_no_distance() -> None:
    volume = scan((20, 20, 20), (4.0, 4.0, 4.0))
    found = measure_lesions(volume, two_cubes(volume, (0, 0, 0)))
    assert (found.lesions, found.dmax_mm, found.spread_mm) == (1, 0.0, 0.0)


def test_voxels_that_touch_at_a_corner_are_one_lesion() -> None:
    volume = scan((20, 20, 20), (4.0, 4.0, 4.0))
    assert measure_lesions(volume, two_cubes(volume, (3, 3, 3))).lesions == 1
    assert measure_lesions(volume, two_cubes(volume, (4, 3, 3))).lesions == 2


def test_a_speck_is_no_lesion_beside_a_larger_one_but_is_one_alone() -> None:
    volume = scan((20, 20, 20), (4.0, 4.0, 4.0))
    inside = np.zeros(volume.array.shape, np.bool_)
    inside[15, 15, 15] = True
    speck = Mask(inside.copy(), volume.geometry)
    assert speck.volume_ml < SMALLEST_LESION_ML
    np.testing.assert_allclose(lesion_centroids_mm(speck), [[60.0, 60.0, 60.0]])
    inside[2:5, 2:5, 2:5] = True
    np.testing.assert_allclose(lesion_centroids_mm(Mask(inside, volume.geometry)), [[12.0, 12.0, 12.0]])


def test_the_peak_of_a_wide_hot_sphere_is_its_plateau_and_of_a_point_its_share_of_one_millilitre() -> None:
    assert 4 / 3 * np.pi * PEAK_RADIUS_MM**3 == pytest.approx(1000.0)
    point = scan((41, 41, 41), (1.0, 1.0, 1.0), value=0.0)
    point.array[20, 20, 20] = 1000.0
    inside = np.zeros(point.array.shape, np.bool_)
    inside[18:23, 18:23, 18:23] = True
    # 1000 SUV · mm³ within a sphere of 1000 mm³, as far as voxels of 1 mm³ can draw one.
    assert suv_peak(point, Mask(inside, point.geometry)) == pytest.approx(1.0, rel=0.03)


def test_the_peak_looks_beyond_the_region_and_not_beyond_the_image() -> None:
    volume = scan((9, 9, 9), (4.0, 4.0, 4.0), value=2.0)
    inside = np.zeros(volume.array.shape, np.bool_)
    inside[0, 0, 0] = True
    assert suv_peak(volume, Mask(inside, volume.geometry)) == pytest.approx(2.0)
    volume.array[0, 0, 1] = 20.0
    assert suv_peak(volume, Mask(inside, volume.geometry)) > 2.0
