"""Tests of how a training scan is known again: under another id, cut, scaled; and that others are not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from twobe3.io.cache import Cache
from twobe3.io.files import digest
from twobe3.models.known_scans import KnownScans
from twobe3.scans.fingerprint import (
    ALIKE,
    Fingerprint,
    Picture,
    cache_fingerprint,
    coarsen_patches,
    expand_patches,
)

SPACING_MM = (4.0, 4.0, 4.0)
Suv = npt.NDArray[np.float32]


def texture(seed: int) -> Suv:
    """A volume of warm and hot places of 10 to 20 mm, as irregular as those of a body."""
    noise = np.random.default_rng(seed).gamma(0.5, 1.0, (48, 40, 40))
    return np.asarray(20.0 * ndimage.gaussian_filter(noise, 2.5) ** 2, dtype=np.float32)


def fingerprint(suv: Suv) -> Fingerprint:
    return cache_fingerprint(Cache(), digest([suv.tobytes()]), lambda: Picture(suv, SPACING_MM))


@pytest.fixture(scope="module")
def known() -> KnownScans:
    return KnownScans.of([fingerprint(texture(seed)) for seed in range(5)])


def test_the_same_voxels_are_known_again(known: KnownScans) -> None:
    assert known.recognise(fingerprint(texture(3))) == "its voxels are those of a training scan"


@pytest.mark.parametrize("change", ["cut", "scaled", "noisy"])
def test_the_same_picture_is_known_again(known: KnownScans, change: str) -> None:
    suv = texture(2)
    noise = np.random.default_rng(9).normal(1.0, 0.03, suv.shape).astype(np.float32)
    changed = {"cut": suv[3:-3], "scaled": np.float32(1.7) * suv, "noisy": suv * noise}[change]
    assert "hot points with a training scan" in known.recognise(fingerprint(changed))


@pytest.mark.parametrize("seed", range(20, 26))
def test_another_picture_is_not(known: KnownScans, seed: int) -> None:
    assert known.recognise(fingerprint(texture(seed))) == ""


def test_it_survives_the_file_and_forgets_the_order(known: KnownScans) -> None:
    again = KnownScans.from_arrays(known.arrays())
    assert again.recognise(fingerprint(texture(1)[3:-3])) == known.recognise(fingerprint(texture(1)[3:-3]))
    reverse = KnownScans.of([fingerprint(texture(seed)) for seed in reversed(range(5))])
    np.testing.assert_array_equal(reverse.patches, known.patches)
    with pytest.raises(ValueError, match="do not fit"):
        KnownScans.from_arrays({**known.arrays(), "owners": known.owners[1:]})


def test_a_grid_too_coarse_for_landmarks_still_knows_the_same_voxels() -> None:
    small = [np.random.default_rng(seed).gamma(2, 1, (12, 10, 10)).astype(np.float32) for seed in range(3)]
    known = KnownScans.of([fingerprint(one) for one in small[:2]])
    assert known.recognise(fingerprint(small[1]))
    assert known.recognise(fingerprint(small[2])) == ""


def test_coarse_patches_keep_how_alike_two_patches_are() -> None:
    """Of the squared distance 2 (1 − r) of two unit vectors a projection keeps a factor of 1 ± √(4 / 32).

    The squared lengths of a projected vector and of the difference vary by √(2 / 32) each, and one is divided by the
    other.
    """
    rng = np.random.default_rng(0)
    one = rng.normal(size=(500, 123))
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    other = one + rng.normal(scale=0.2 / np.sqrt(123), size=one.shape)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    true = 2 - 2 * (one * other).sum(axis=1)
    coarse = [expand_patches(coarsen_patches(patches.astype(np.float32))) for patches in (one, other)]
    ratio = (2 - 2 * (coarse[0] * coarse[1]).sum(axis=1)) / true
    assert abs(ratio.mean() - 1) < 0.05
    assert ratio.std() == pytest.approx(np.sqrt(4 / 32), rel=0.2)
    assert np.median(1 - true / 2) == pytest.approx(ALIKE, abs=0.005)
