"""Moran's I and Geary's C against their definitions, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from twobe3.features.mirp import spatial_autocorrelation

SPACING = (3.0, 4.0, 5.0)


def region(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    index = np.argwhere(rng.random((7, 6, 5)) < 0.6) + np.array([3, -2, 10])
    return rng.gamma(2.0, 1.0, len(index)), index


@pytest.mark.parametrize("seed", range(3))
def test_every_pair_counts_with_the_inverse_of_its_distance(seed: int) -> None:
    value, index = region(seed)
    weight = 1.0 / pdist(index * np.array(SPACING))
    deviation = value - value.mean()
    first, second = np.triu_indices(len(value), 1)
    scale = weight.sum() * (deviation**2).sum()
    moran = len(value) * (weight * deviation[first] * deviation[second]).sum() / scale
    geary = (len(value) - 1) / 2 * (weight * (deviation[first] - deviation[second]) ** 2).sum() / scale
    assert spatial_autocorrelation(value, index, SPACING) == pytest.approx((moran, geary), rel=1e-9)


def test_a_gradient_is_more_alike_than_a_checkerboard() -> None:
    index = np.argwhere(np.ones((8, 8, 8)))
    gradient = spatial_autocorrelation(index.sum(axis=1).astype(float), index, SPACING)
    board = spatial_autocorrelation((index.sum(axis=1) % 2).astype(float), index, SPACING)
    assert gradient[0] > 0 > board[0]
    assert gradient[1] < 1 < board[1]


def test_where_nothing_varies_both_are_one() -> None:
    index = np.argwhere(np.ones((3, 3, 3)))
    assert spatial_autocorrelation(np.full(27, 2.0), index, SPACING) == (1.0, 1.0)
