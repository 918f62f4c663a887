"""Concordance against scikit-learn, SciPy and scikit-survival; what the two kinds of selection keep."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import roc_auc_score
from sksurv.metrics import concordance_index_censored

from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.outcomes import Kind, Outcomes
from twobe3.models.learners.selection import (
    agreement,
    concordance,
    minimum_redundancy,
    most_relevant,
    spearman,
    without_redundancy,
)

FloatArray = npt.NDArray[np.float64]


def drawn(kind: Kind, n: int = 60, p: int = 5) -> tuple[FloatArray, Outcomes]:
    """Features with ties; whole times, so that some are tied too."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 12, (n, p)).astype(float)
    patients, event = tuple(f"p{i}" for i in range(n)), rng.random(n) < 0.5
    if kind == "binary":
        return x, Outcomes(Binary("y", "y"), patients, event.astype(float), event)
    if kind == "continuous":
        return x, Outcomes(Continuous("y", "y"), patients, rng.permutation(n).astype(float), np.ones(n, np.bool_))
    return x, Outcomes(TimeToEvent("y", "t", "e"), patients, np.ceil(rng.exponential(10.0, n)), event)


def test_binary_concordance_is_the_area_under_the_curve() -> None:
    x, outcomes = drawn("binary")
    expected = [roc_auc_score(outcomes.event, column) for column in x.T]
    np.testing.assert_allclose(concordance(x, outcomes), expected)


def test_time_to_event_concordance_is_harrells() -> None:
    x, outcomes = drawn("time-to-event")
    # A distance below any other makes theirs count the pairs of equal times that ours counts.
    expected = [concordance_index_censored(outcomes.event, outcomes.value, column)[0] for column in x.T]
    np.testing.assert_allclose(concordance(x, outcomes), expected)


def test_continuous_concordance_is_kendalls_tau_without_its_correction_for_ties() -> None:
    x, outcomes = drawn("continuous")
    x = np.argsort(np.argsort(x + np.arange(len(x))[:, None] * 1e-6, axis=0), axis=0).astype(float)
    expected = [0.5 + kendalltau(column, outcomes.value).statistic / 2 for column in x.T]
    np.testing.assert_allclose(concordance(x, outcomes), expected)


def test_without_a_comparable_pair_every_feature_is_as_good_as_chance() -> None:
    x, outcomes = drawn("binary")
    assert (concordance(x[~outcomes.event], outcomes.subset(np.flatnonzero(~outcomes.event))) == 0.5).all()


def test_rank_correlation_is_scipys_and_zero_for_a_constant() -> None:
    x, _ = drawn("binary")
    np.testing.assert_allclose(spearman(x), spearmanr(x).statistic, atol=1e-12)
    x[:, 2] = 1.0
    assert (spearman(x)[2] == 0.0).all()


def test_of_features_that_say_the_same_the_preferred_one_stays() -> None:
    correlation = np.array([[1.0, 0.95, 0.1], [0.95, 1.0, -0.2], [0.1, -0.2, 1.0]])
    assert without_redundancy(correlation, np.array([1, 0, 2]), 0.9).tolist() == [1, 2]
    assert without_redundancy(correlation, np.array([0, 2, 1]), 0.9).tolist() == [0, 2]
    assert without_redundancy(correlation, np.array([0, 1, 2]), 0.99).tolist() == [0, 1, 2]
    assert without_redundancy(-correlation, np.array([1, 0, 2]), 0.9).tolist() == [1, 2]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_minimum_redundancy_prefers_the_new_to_the_second_best_copy(count: int) -> None:
    relevance = np.array([0.40, 0.39, 0.20])
    correlation = np.array([[1.0, 0.98, 0.05], [0.98, 1.0, 0.05], [0.05, 0.05, 1.0]])
    assert minimum_redundancy(relevance, correlation, count).tolist() == [0, 2, 1][:count]
    assert most_relevant(relevance, count).tolist() == [0, 1, 2][:count]


def test_agreement_is_that_of_shrout_and_fleiss_on_their_own_table() -> None:
    """Psychol Bull 1979;86:420, table 2: four judges rate six targets, ICC(2,1) = 0.29."""
    table = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    ratings = np.array(table, float)[:, :, None]
    same, constant = np.repeat(ratings[:, :1], 4, axis=1), np.ones_like(ratings)
    found = agreement(np.concatenate([ratings, same, constant], axis=2))
    assert found.round(2).tolist() == [0.29, 1.0, 1.0]
