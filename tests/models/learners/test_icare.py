"""ICARE: signs only, and what follows from that."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from twobe3.core.endpoints import Binary, TimeToEvent
from twobe3.core.outcomes import Outcomes
from twobe3.models.learners.icare import Icare, fit_icare
from twobe3.models.learners.selection import concordance

FloatArray = npt.NDArray[np.float64]


def drawn(n: int = 120, p: int = 8, seed: int = 0, signal: float = 1.0) -> tuple[FloatArray, Outcomes]:
    """The first feature raises the risk, the second lowers it, the others say nothing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    time = rng.exponential(np.exp(-signal * (x[:, 0] - x[:, 1])))
    outcomes = Outcomes(
        TimeToEvent("y", "t", "e"), tuple(f"p{i}" for i in range(n)), np.minimum(time, 2.0), time <= 2.0
    )
    return x, outcomes


def fitted(x: FloatArray, outcomes: Outcomes, **changed: float) -> Icare:
    constants = {"samples": 100, "rho": 0.7, "least": 0.55, "share": 1.0, "seed": 0} | changed
    return fit_icare(x, outcomes, **constants)  # type: ignore[arg-type]


def test_signs_are_those_of_the_truth_and_noise_weighs_little() -> None:
    x, outcomes = drawn()
    rule = fitted(x, outcomes)
    assert rule.signs[:2].tolist() == [1.0, -1.0]
    assert rule.weights[0] > 0 > rule.weights[1]
    assert np.abs(rule.weights[2:]).max() < 0.5 * np.abs(rule.weights[:2]).min()


def test_new_patients_are_ranked() -> None:
    rule = fitted(*drawn())
    x, outcomes = drawn(seed=1)
    assert concordance(rule.risk(x)[:, None], outcomes)[0] > 0.7


def test_without_bootstrap_variation_it_is_the_mean_of_signed_standardised_features() -> None:
    """A feature so strong that every sample gives it the same sign, and another of another unit."""
    n = 400
    rng = np.random.default_rng(0)
    event = np.arange(n) % 2 == 1
    x = np.column_stack([event + rng.normal(0, 0.3, n), -1000.0 * event + rng.normal(0, 300.0, n)])
    outcomes = Outcomes(Binary("y", "y"), tuple(f"p{i}" for i in range(n)), event.astype(float), event)
    rule = fitted(x, outcomes, rho=1.0)
    expected = ((x - x.mean(axis=0)) / x.std(axis=0)) @ [1.0, -1.0]
    assert np.corrcoef(rule.risk(x), expected)[0, 1] > 0.9999
    assert rule.risk(x).std() == pytest.approx(1.0, abs=0.05)


def test_a_feature_keeps_its_weight_whatever_its_unit() -> None:
    x, outcomes = drawn()
    scaled = x * np.array([1e4, 1e-3, 5.0, 1.0, 1.0, 1.0, 1.0, 1.0]) + 100.0
    np.testing.assert_allclose(fitted(scaled, outcomes).risk(scaled), fitted(x, outcomes).risk(x), atol=1e-6)


def test_of_copies_one_takes_part_in_each_sample() -> None:
    x, outcomes = drawn()
    copied = np.column_stack([x, x[:, 0]])
    once, twice = fitted(x, outcomes), fitted(copied, outcomes)
    assert twice.weights[0] + twice.weights[-1] == pytest.approx(once.weights[0], rel=0.25)


def test_where_no_feature_ranks_well_enough_everybody_has_the_same_risk() -> None:
    x, outcomes = drawn(signal=0.0)
    assert (fitted(x, outcomes, least=0.9).risk(x) == 0.0).all()


def test_it_comes_back_from_its_arrays_and_the_seed_decides() -> None:
    x, outcomes = drawn()
    rule = fitted(x, outcomes, share=0.5)
    assert (Icare.from_arrays(rule.arrays()).risk(x) == rule.risk(x)).all()
    assert (fitted(x, outcomes, share=0.5).weights == rule.weights).all()
    assert (fitted(x, outcomes, share=0.5, seed=1).weights != rule.weights).any()
