"""Planes keep the patient's orientation, and windows are physical SUV."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from twobe3.features.slices import LEFT_RIGHT_AXIS, Plane, SliceSpec, apply_windows, cut

PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")


@pytest.fixture
def body() -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
    """Slices to the head, rows to the back, columns to the left; four landmarks."""
    volume = np.zeros((8, 6, 4), dtype=np.float32)
    volume[7, 3, 2] = 1.0  # head
    volume[1, 3, 2] = 2.0  # feet
    volume[4, 5, 2] = 3.0  # back
    volume[4, 3, 0] = 4.0  # right
    return volume


def test_axial_slices_go_from_feet_to_head_with_the_back_at_the_bottom(body: np.ndarray) -> None:
    slices = cut(body, "axial")
    assert slices.shape == (8, 6, 4)
    assert (slices[7, 3, 2], slices[1, 3, 2], slices[4, 5, 2], slices[4, 3, 0]) == (1, 2, 3, 4)


def test_coronal_slices_go_from_front_to_back_with_the_head_at_the_top(body: np.ndarray) -> None:
    slices = cut(body, "coronal")
    assert slices.shape == (6, 8, 4)
    assert (slices[3, 0, 2], slices[3, 6, 2], slices[5, 3, 2], slices[3, 3, 0]) == (1, 2, 3, 4)


def test_sagittal_slices_go_from_right_to_left_with_the_head_at_the_top(body: np.ndarray) -> None:
    slices = cut(body, "sagittal")
    assert slices.shape == (4, 8, 6)
    assert (slices[2, 0, 3], slices[2, 6, 3], slices[2, 3, 5], slices[0, 3, 3]) == (1, 2, 3, 4)


@pytest.mark.parametrize("plane", PLANES)
def test_mirroring_the_left_right_axis_of_the_slices_mirrors_the_patient(body: np.ndarray, plane: Plane) -> None:
    np.testing.assert_array_equal(np.flip(cut(body, plane), LEFT_RIGHT_AXIS[plane]), cut(body[:, :, ::-1], plane))


def test_windows_map_0_to_their_end_linearly_to_0_to_1_and_cut_what_is_beyond() -> None:
    suv = np.array([[[-1.0, 0.0, 2.5, 5.0], [7.5, 10.0, 25.0, 100.0]]], dtype=np.float32)
    channels = apply_windows(torch.from_numpy(suv), (5.0, 10.0, 25.0)).numpy()
    assert channels.shape == (1, 3, 2, 4)
    np.testing.assert_allclose(channels[0, 0], [[0, 0, 0.5, 1], [1, 1, 1, 1]])
    np.testing.assert_allclose(channels[0, 1], [[0, 0, 0.25, 0.5], [0.75, 1, 1, 1]])
    np.testing.assert_allclose(channels[0, 2], [[0, 0, 0.1, 0.2], [0.3, 0.4, 1, 1]])


@pytest.mark.parametrize(
    ("windows", "size", "message"),
    [
        ((), 64, "one SUV window or three"),
        ((5.0, 10.0), 64, "one SUV window or three"),
        ((5.0, 0.0, 10.0), 64, "above 0"),
        ((5.0,), 15, "at least 16"),
    ],
)
def test_what_no_2d_network_can_see_is_refused(windows: tuple[float, ...], size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SliceSpec(windows, size)
