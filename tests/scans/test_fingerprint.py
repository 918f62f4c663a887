"""Landmarks stay what they are when a scan is cropped, scaled or on other voxels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from twobe3.scans import fingerprint as landmarks
from twobe3.scans.fingerprint import (
    Landmarks,
    _find_peaks,
    compare_landmarks,
    find_landmarks,
    match_landmarks,
    no_landmarks,
)

SPACING_MM = (4.0, 4.0, 4.0)
Volume = npt.NDArray[np.float32]


def body(seed: int, shape: tuple[int, int, int] = (64, 48, 48)) -> Volume:
    """Noise smoothed to blobs of about 25 mm."""
    noise = np.random.default_rng(seed).gamma(1.0, 1.0, shape)
    return ndimage.gaussian_filter(noise, 2.5).astype(np.float32)


def marks(volume: Volume) -> Landmarks:
    return find_landmarks(volume, SPACING_MM)


def test_a_crop_shares_landmarks_at_the_offset_of_the_crop() -> None:
    whole = body(0)
    found = compare_landmarks([marks(whole), marks(whole[8:60, 4:44, 2:46])], 0, 1)
    assert found.shared >= 5
    assert found.offset_mm == pytest.approx((32.0, 16.0, 8.0), abs=0.5)


def test_a_scale_changes_no_landmark() -> None:
    one, other = marks(body(0)), marks(7.3 * body(0))
    assert np.array_equal(one.places_mm, other.places_mm)
    assert np.allclose(one.patches, other.patches, atol=1e-5)


def test_landmarks_lie_where_they_lie_on_finer_voxels_too() -> None:
    coarse = body(0)
    fine = ndimage.zoom(coarse, 2, order=1, grid_mode=False)
    spacing = tuple(4.0 * (n - 1) / (2 * n - 1) for n in coarse.shape)
    found = compare_landmarks([marks(coarse), find_landmarks(fine, (spacing[0], spacing[1], spacing[2]))], 0, 1)
    assert found.shared >= 10
    assert found.offset_mm == pytest.approx((0.0, 0.0, 0.0), abs=2.0)


def test_patches_are_of_length_one_and_hotter_ones_come_first() -> None:
    volume = body(1)
    found = marks(volume)
    assert np.allclose(np.linalg.norm(found.patches, axis=1), 1.0, atol=1e-5)
    assert np.allclose(found.patches.mean(axis=1), 0.0, atol=1e-6)
    assert 1 <= len(found.places_mm) <= landmarks.MOST
    smooth = ndimage.gaussian_filter(np.sqrt(volume), landmarks.SMOOTHING_MM / 4.0)
    heat = smooth[tuple((found.places_mm / 4.0).astype(int).T)]
    assert np.all(np.diff(heat) <= 0)


def test_an_empty_or_flat_volume_has_no_landmark() -> None:
    for value in (0.0, 3.0):
        flat = np.full((32, 32, 32), value, np.float32)
        assert len(marks(flat).patches) in (0, len(marks(flat).places_mm))
    assert match_landmarks([marks(np.zeros((32, 32, 32), np.float32)), no_landmarks()]) == []


def test_only_scans_of_one_content_are_found_whatever_the_size_of_the_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = [marks(body(seed)) for seed in range(6)]
    scans += [marks(body(4)[6:]), marks(body(1)[:, 5:])]
    found = match_landmarks(scans)
    assert {(one.first, one.second) for one in found} == {(4, 6), (1, 7)}
    monkeypatch.setattr(landmarks, "_ROWS", 7)
    monkeypatch.setattr(landmarks, "_COLUMNS", 14)
    assert match_landmarks(scans) == found
    monkeypatch.setattr(landmarks, "_ROWS", 10)  # tiles that don't fit each other
    monkeypatch.setattr(landmarks, "_COLUMNS", 14)
    assert match_landmarks(scans) == found


@pytest.mark.parametrize("levels", [4, 1000], ids=["plateaus", "hardly any ties"])
@pytest.mark.parametrize("reach", [(1, 1, 1), (2, 3, 1)])
def test_peaks_are_the_voxels_that_a_filter_of_the_maximum_leaves_as_they_are(
    levels: int, reach: tuple[int, int, int]
) -> None:
    values = np.random.default_rng(0).integers(0, levels, (9, 11, 7)).astype(np.float32)
    size = tuple(2 * one + 1 for one in reach)
    expected = np.argwhere((values == ndimage.maximum_filter(values, size=size)) & (values > 0))
    found = _find_peaks(values, np.array(reach))
    assert len(expected) > 3
    np.testing.assert_array_equal(found, expected)
    assert _find_peaks(np.zeros_like(values), np.array(reach)).shape == (0, 3)
