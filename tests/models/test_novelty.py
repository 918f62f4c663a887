"""Tests of the distance from the training scans: by hand, by scikit-learn, and how often it flags what is alike."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import RobustScaler

from twobe3.features.descriptors import DESCRIPTORS
from twobe3.models.novelty import NARROWEST, Novelty

P = len(DESCRIPTORS)


def draw(rng: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    """Descriptors of scans that depend on each other, as those of one body do."""
    common = rng.normal(size=(n, 1))
    return np.asarray(np.exp(2.0 + 0.5 * common + 0.4 * rng.normal(size=(n, P))))


def test_distances_are_those_of_scikit_learns_neighbours_after_its_robust_scaler() -> None:
    rng = np.random.default_rng(0)
    training, new = draw(rng, 40), draw(rng, 7)
    novelty = Novelty.fit(training)
    scaler = RobustScaler(unit_variance=True).fit(np.log1p(training))
    neighbours = NearestNeighbors(n_neighbors=5).fit(scaler.transform(np.log1p(training)))
    distances, _ = neighbours.kneighbors(scaler.transform(np.log1p(new)))
    expected = distances.mean(axis=1) / np.sqrt(P)
    np.testing.assert_allclose([novelty.distance(one) for one in new], expected, rtol=1e-3)  # it rounds 1.349
    own, _ = neighbours.kneighbors()  # each without itself
    rank = math.ceil(0.95 * 41)
    assert novelty.threshold == pytest.approx(np.sort(own.mean(axis=1) / np.sqrt(P))[rank - 1], rel=1e-3)


def test_of_fewer_than_19_scans_nothing_is_unusual() -> None:
    """⌈0.95 · 19⌉ = 19 scans would be needed of 18."""
    rng = np.random.default_rng(1)
    few, enough = Novelty.fit(draw(rng, 18)), Novelty.fit(draw(rng, 19))
    assert not few.is_unusual(1e9)
    assert enough.is_unusual(1e9)
    assert not Novelty.fit(draw(rng, 1)).is_unusual(1e9)


def test_at_most_5_percent_of_scans_like_those_of_the_training_are_flagged() -> None:
    """The guarantee is on average over training sets; 400 of them, a new scan each: 20 flags, give or take 4.4."""
    rng = np.random.default_rng(2)
    flagged = 0
    for _ in range(400):
        scans = draw(rng, 42)
        novelty = Novelty.fit(scans[1:])
        flagged += novelty.is_unusual(novelty.distance(scans[0]))
    assert flagged <= 20 + 3 * 4.4


def test_a_scan_far_from_the_others_is_flagged_whichever_descriptor_it_is() -> None:
    training = draw(np.random.default_rng(3), 40)
    novelty = Novelty.fit(training)
    for column in range(P):
        odd = np.median(training, axis=0)
        assert not novelty.is_unusual(novelty.distance(odd))
        odd[column] *= 1000.0
        assert novelty.is_unusual(novelty.distance(odd))


def test_a_descriptor_that_is_the_same_in_all_training_scans_is_not_divided_by_0() -> None:
    training = draw(np.random.default_rng(4), 30)
    training[:, 2] = 160.0
    novelty = Novelty.fit(training)
    assert novelty.scale[2] == NARROWEST
    odd = np.median(training, axis=0)
    assert not novelty.is_unusual(novelty.distance(odd))
    odd[2] = 40.0
    assert novelty.is_unusual(novelty.distance(odd))


def test_the_order_of_the_training_scans_is_forgotten() -> None:
    training = draw(np.random.default_rng(5), 30)
    one, other = Novelty.fit(training), Novelty.fit(training[::-1])
    np.testing.assert_array_equal(one.points, other.points)


def test_what_does_not_fit_is_no_novelty() -> None:
    made = Novelty.fit(draw(np.random.default_rng(6), 30)).arrays()
    for name, wrong in (("points", np.zeros((3, 2))), ("scale", np.zeros(P)), ("threshold", np.zeros(2))):
        with pytest.raises(ValueError, match=r"descriptors|scale"):
            Novelty.from_arrays({**made, name: wrong})
