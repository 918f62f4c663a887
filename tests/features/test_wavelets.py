"""The bank of wavelets against scipy, plane waves, and what must hold of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate, gaussian_filter

from twobe3.features.stacks import POSITIONS, pool_image, pool_wavelets
from twobe3.features.wavelets import LEVELS, ORIENTATIONS, RESPONSES, filter_slices

SPOTS, HOLES = ORIENTATIONS, ORIENTATIONS + 1


def respond(picture: np.ndarray) -> list[np.ndarray]:
    """The responses at each level, (6, height, width)."""
    return [level[0].numpy() for level in filter_slices(torch.from_numpy(picture.astype(np.float32))[None, None])]


def wave(angle: float, wavelength: float, size: int = 128) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.cos(2 * np.pi / wavelength * (x * math.cos(angle) + y * math.sin(angle)))


def test_shapes_are_those_of_a_pyramid() -> None:
    levels = [level.shape for level in filter_slices(torch.rand(5, 2, 37, 50))]
    assert levels == [(5, 2 * RESPONSES, -(-37 // 2**level), -(-50 // 2**level)) for level in range(LEVELS)]


def test_what_is_everywhere_the_same_gives_nothing() -> None:
    for level in respond(np.full((40, 40), 0.7)):
        assert np.abs(level).max() < 1e-5


@pytest.mark.parametrize("level", range(LEVELS))
@pytest.mark.parametrize("orientation", range(ORIENTATIONS))
def test_a_plane_wave_is_told_by_its_orientation_and_its_size(level: int, orientation: int) -> None:
    found = respond(wave(orientation * math.pi / ORIENTATIONS, 4.0 * 2**level))
    middle = [one[:ORIENTATIONS, one.shape[1] // 2, one.shape[2] // 2] for one in found]
    assert np.unravel_index(np.argmax(middle), np.shape(middle)) == (level, orientation)


def test_the_modulus_of_a_wave_does_not_depend_on_its_phase() -> None:
    (first, *_) = respond(wave(0.0, 4.0))
    inside = first[0, 20:-20, 20:-20]
    assert inside.min() > 0.9 * inside.max()


def test_the_finest_level_is_what_scipy_correlates() -> None:
    picture = np.random.default_rng(0).gamma(0.5, 1.0, (30, 41))
    y, x = np.mgrid[-3:4, -3:4]
    envelope = np.exp(-(x**2 + y**2) / (2 * 1.4**2))
    envelope /= envelope.sum()
    even = envelope * np.cos(np.pi / 2 * y)  # of the orientation along the columns
    even -= envelope * even.sum()
    odd = envelope * np.sin(np.pi / 2 * y)
    parts = [correlate(picture, kernel / np.abs(kernel).sum(), mode="nearest") for kernel in (even, odd)]
    first = respond(picture)[0]
    np.testing.assert_allclose(first[2], np.hypot(*parts), atol=1e-5)
    difference = sum(
        sign * gaussian_filter(picture, width, mode="nearest", radius=3) for sign, width in ((1, 1.0), (-1, 2.0))
    )
    np.testing.assert_allclose(first[SPOTS] - first[HOLES], difference, atol=1e-5)


def test_a_quarter_turn_of_a_slice_turns_the_orientations() -> None:
    picture = np.random.default_rng(1).random((64, 64))
    (before, *_), (after, *_) = respond(picture), respond(np.rot90(picture))
    turned = np.rot90(before, axes=(1, 2))[[2, 3, 0, 1, SPOTS, HOLES]]
    np.testing.assert_allclose(after, turned, atol=1e-5)


def test_a_full_ball_is_a_spot_and_a_hollow_one_has_a_hole() -> None:
    y, x = np.mgrid[-32:32, -32:32]
    radius = np.hypot(x, y)
    full, hollow = (radius < 12) * 1.0, ((radius < 12) & (radius > 7)) * 1.0
    for picture, sign in ((full, 1), (hollow, -1)):
        level = respond(picture)[2]  # of which a voxel is four wide
        assert sign * (level[SPOTS] - level[HOLES])[8, 8] > 0.1


def test_gradients_are_finite_where_nothing_is() -> None:
    windows = torch.zeros(3, 12, 20, 20, requires_grad=True)
    pool_wavelets(windows).sum().backward()
    assert windows.grad is not None
    assert torch.isfinite(windows.grad).all()


@pytest.mark.parametrize("shape", [(48, 16, 24), (192, 40, 40), (5, 4, 4)])
def test_the_last_channels_are_means_and_maxima_of_the_windows(shape: tuple[int, int, int]) -> None:
    volume = np.random.default_rng(2).gamma(0.5, 4.0, shape).astype(np.float32)
    stack = pool_image(volume, "wavelets", (5.0, 10.0, 25.0))
    assert stack.shape == (2 * (RESPONSES * LEVELS + 1), *POSITIONS["wavelets"])
    shown = np.mean([np.clip(volume / upper, 0, 1) for upper in (5, 10, 25)], axis=0)
    assert stack[-1].max() == pytest.approx(shown.max(), abs=1e-3)
    half = len(stack) // 2
    assert (stack[half:] >= stack[:half] - 1e-3).all()
    if shape == (48, 16, 24):
        blocks = shown.reshape(48, 4, 4, 4, 6)
        np.testing.assert_allclose(stack[half - 1], blocks.mean(axis=(2, 4)), atol=1e-3)
        np.testing.assert_allclose(stack[-1], blocks.max(axis=(2, 4)), atol=1e-3)
