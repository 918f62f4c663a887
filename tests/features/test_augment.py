"""Augmented scans: the movement that is drawn, the same for everybody, and SUV left as it is."""

from __future__ import annotations

import numpy as np
import pytest

from twobe3.features.augment import SCALE, SHIFT_MM, Augmentation

SPACING = (4.0, 2.0, 2.0)


def blob(shape: tuple[int, int, int], centre: tuple[float, ...]) -> np.ndarray:  # type: ignore[type-arg]
    distance = (np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))) * np.reshape(SPACING, (3, 1, 1, 1))
    return (5.0 * np.exp(-(distance**2).sum(axis=0) / 2 / 10.0**2)).astype(np.float32)


def centre_of(volume: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([(axis * volume).sum() / volume.sum() for axis in np.indices(volume.shape)])


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_lesion_moves_as_far_as_was_drawn_and_keeps_its_suv(number: int) -> None:
    shape, at = (40, 60, 50), (18.0, 32.0, 21.0)
    augmentation = Augmentation(number, seed=7)
    moved = augmentation(blob(shape, at), SPACING)
    shift_mm, scale = augmentation.draw()
    middle = (np.array(shape) - 1) / 2
    expected = middle + (np.array(at) - middle) * scale + shift_mm / SPACING
    if augmentation.is_mirrored:
        expected[2] = shape[2] - 1 - expected[2]
    assert moved.shape == shape
    assert moved.dtype == np.float32
    assert centre_of(moved) == pytest.approx(expected, abs=0.1)
    assert moved.max() == pytest.approx(5.0, abs=0.2)


def test_shifts_and_scales_are_within_what_is_promised_and_half_the_versions_are_mirrored() -> None:
    versions = [Augmentation(number) for number in range(1, 41)]
    shifts, scales = zip(*(one.draw() for one in versions), strict=True)
    assert np.abs(shifts).max() <= SHIFT_MM
    assert np.abs(np.array(scales) - 1).max() <= SCALE
    assert len({one.tobytes() for one in shifts}) == 40
    assert sum(one.is_mirrored for one in versions) == 20


def test_number_and_seed_are_all_that_a_version_depends_on() -> None:
    volume = blob((20, 20, 20), (9.0, 9.0, 9.0))
    same = [Augmentation(2, 3)(volume, SPACING) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    others = [Augmentation(2, 4), Augmentation(4, 3)]
    assert all(np.abs(one(volume, SPACING) - same[0]).max() > 0.1 for one in others)
    assert len({Augmentation(2, 3).cache_key(), *(one.cache_key() for one in others)}) == 3
