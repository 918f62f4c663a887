"""Stacks of the image against numpy's own means and maxima, and what must hold of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from twobe3.cohort.cohort import Cohort
from twobe3.features.augment import Augmentation
from twobe3.features.stacks import FLOOR_SUV, POSITIONS, ImageStack, ImageStacks, pool_image
from twobe3.io.cache import Cache

WINDOWS = (5.0, 10.0, 25.0)
STACKS: tuple[ImageStack, ...] = ("image", "profile", "image-coronal", "image-sagittal", "wavelets")


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).gamma(0.5, 4.0, (48, 16, 24)).astype(np.float32)


def test_an_image_holds_means_and_maxima_of_each_window_over_blocks(volume: np.ndarray) -> None:
    stack = pool_image(volume, "image", WINDOWS)
    blocks = volume.reshape(24, 2, 8, 2, 8, 3)
    for channel, upper in enumerate(WINDOWS):
        shown = np.clip(blocks / upper, 0, 1)
        np.testing.assert_allclose(stack[channel], shown.mean(axis=(1, 3, 5)), atol=1e-3)
        np.testing.assert_allclose(stack[3 + channel], shown.max(axis=(1, 3, 5)), atol=1e-3)


def test_a_profile_holds_means_and_maxima_of_each_slice(volume: np.ndarray) -> None:
    stack = pool_image(volume, "profile", WINDOWS)
    assert stack.shape == (8, 48, 1, 1)
    logarithm = np.log(volume + FLOOR_SUV)
    np.testing.assert_allclose(stack[3, :, 0, 0], logarithm.mean(axis=(1, 2)), atol=2e-3)
    np.testing.assert_allclose(stack[7, :, 0, 0], logarithm.max(axis=(1, 2)), atol=2e-3)
    np.testing.assert_allclose(stack[6, :, 0, 0], np.clip(volume / 25, 0, 1).max(axis=(1, 2)), atol=1e-3)


def test_projections_hold_means_and_maxima_from_the_front_and_from_the_side(volume: np.ndarray) -> None:
    shown = np.clip(volume / 5, 0, 1)
    front, side = (pool_image(volume, name, WINDOWS) for name in ("image-coronal", "image-sagittal"))
    np.testing.assert_allclose(front[0, :, 0], shown.mean(axis=1), atol=1e-3)
    np.testing.assert_allclose(front[3, :, 0], shown.max(axis=1), atol=1e-3)
    assert side.shape == (6, 48, 24, 1)  # 16 rows, which positions share
    np.testing.assert_allclose(side[3, :, [0, -1], 0].T, shown.max(axis=2)[:, [0, -1]], atol=1e-3)


@pytest.mark.parametrize("stack", STACKS[:4])
@pytest.mark.parametrize("shape", [(5, 4, 4), (48, 48, 48), (301, 7, 90)])
def test_every_volume_gives_the_same_positions_and_no_maximum_is_lost(
    stack: ImageStack, shape: tuple[int, int, int]
) -> None:
    volume = np.random.default_rng(1).gamma(0.5, 2.0, shape).astype(np.float32)
    pooled = pool_image(volume, stack, WINDOWS)
    assert pooled.shape[1:] == POSITIONS[stack]
    half = len(pooled) // 2
    assert pooled[half + 2].max() == pytest.approx(min(volume.max() / 25, 1), abs=1e-3)
    assert (pooled[half:] >= pooled[:half] - 1e-3).all()


@pytest.mark.parametrize("stack", STACKS)
def test_values_below_0_count_as_0(stack: ImageStack, volume: np.ndarray) -> None:
    below = np.where(volume < 0.5, -volume, volume)
    np.testing.assert_array_equal(pool_image(below, stack, WINDOWS), pool_image(np.maximum(below, 0), stack, WINDOWS))


def test_stacks_are_kept_and_those_of_an_augmented_scan_are_those_of_its_volume(
    make_cohort: Callable[..., Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = make_cohort(2)
    stacks, subject, version = ImageStacks(STACKS, WINDOWS, Cache()), cohort.subjects[0], Augmentation(1)
    changed = version(cohort.volume(subject), cohort.grid.spacing_mm)
    for name, values in stacks.extract(cohort, subject, version):
        np.testing.assert_array_equal(values, pool_image(changed, name, WINDOWS))  # type: ignore[arg-type]
    before = dict(stacks.extract(cohort, subject))
    monkeypatch.setattr("twobe3.features.stacks.pool_image", None)  # from here on nothing is computed
    for name, values in stacks.extract(cohort, subject):
        np.testing.assert_array_equal(values, before[name])
