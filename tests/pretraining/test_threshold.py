"""Lesions by threshold: balls whose every voxel is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from twobe3.pretraining.threshold import ThresholdLesions

SPACING = (5.0, 4.0, 4.0)


def ball(centre: tuple[int, int, int], radius_mm: float) -> npt.NDArray[np.bool_]:
    grid = np.indices((24, 30, 30)).reshape(3, -1).T
    distance = np.linalg.norm((grid - centre) * SPACING, axis=1)
    return (distance <= radius_mm).reshape(24, 30, 30)


def test_a_ball_is_found_voxel_by_voxel_and_its_surroundings_are_the_background() -> None:
    hot = ball((12, 15, 15), 17.0)
    suv = np.where(hot, 8.0, 1.0).astype(np.float32)
    lesions = ThresholdLesions.find(suv, SPACING, 4.0)
    np.testing.assert_array_equal(lesions.mask, hot)
    np.testing.assert_allclose(lesions.surroundings_suv, 1.0, atol=1e-4)


def test_each_component_is_cut_at_41_percent_of_its_own_maximum() -> None:
    bright, faint = ball((6, 8, 8), 15.0), ball((17, 22, 22), 12.0)
    suv = np.where(bright, 5.0, np.where(faint, 5.0, 0.5)).astype(np.float32)
    suv[6, 8, 8], suv[17, 22, 22] = 20.0, 12.0  # 41 % are 8.2 and 4.92
    mask = ThresholdLesions.find(suv, SPACING, 4.0).mask
    assert mask[bright].sum() == 1
    assert mask[faint].all()
    assert not mask[~(bright | faint)].any()


@pytest.mark.parametrize("level", [0.5, 30.0])
def test_where_nothing_stands_out_there_is_no_lesion(level: float) -> None:
    suv = np.full((4, 5, 6), level, dtype=np.float32)
    lesions = ThresholdLesions.find(suv, SPACING, 4.0)
    assert not lesions.mask.any()
    np.testing.assert_array_equal(lesions.surroundings_suv, suv)


def test_surroundings_are_never_above_the_scan() -> None:
    suv = np.random.default_rng(3).gamma(1.0, 2.0, (10, 12, 12)).astype(np.float32)
    lesions = ThresholdLesions.find(suv, SPACING, 4.0)
    assert lesions.mask.any()
    assert (lesions.surroundings_suv <= suv).all()
    np.testing.assert_array_equal(lesions.surroundings_suv[~lesions.mask], suv[~lesions.mask])
