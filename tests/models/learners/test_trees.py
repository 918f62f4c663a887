"""Forests and boosting as arrays, against scikit-learn and scikit-survival."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import expit
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.metrics import log_loss, roc_auc_score
from sksurv.ensemble import GradientBoostingSurvivalAnalysis
from sksurv.nonparametric import nelson_aalen_estimator

from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.outcomes import Kind, Outcomes
from twobe3.models.learners.selection import concordance
from twobe3.models.learners.trees import Trees, fit_boosting, fit_forest, residuals

FloatArray = npt.NDArray[np.float64]
KINDS: tuple[Kind, ...] = ("binary", "time-to-event", "continuous")


def drawn(kind: Kind, n: int = 90, p: int = 6) -> tuple[FloatArray, Outcomes]:
    rng = np.random.default_rng(5)
    x = rng.normal(0.0, 1.0, (n, p)).astype(np.float32).astype(np.float64)
    true, patients = 2.0 * (x[:, 0] > 0) + x[:, 1], tuple(f"p{i}" for i in range(n))
    if kind == "binary":
        event = true - 1.0 + rng.logistic(size=n) > 0
        return x, Outcomes(Binary("y", "y"), patients, event.astype(float), event)
    if kind == "continuous":
        return x, Outcomes(Continuous("y", "y"), patients, 40.0 + true + rng.normal(size=n), np.ones(n, np.bool_))
    time = rng.exponential(np.exp(-true))
    return x, Outcomes(TimeToEvent("y", "t", "e"), patients, np.minimum(time, 1.0), time <= 1.0)


def boosting(x: FloatArray, outcomes: Outcomes, trees: int = 40) -> Trees:
    return fit_boosting(x, outcomes, trees=trees, depth=2, learning_rate=0.1, share=1.0, seed=0)


def test_a_forest_of_a_number_is_scikit_learns() -> None:
    x, outcomes = drawn("continuous")
    ours = fit_forest(x, outcomes, trees=30, smallest_leaf=3, seed=4)
    theirs = RandomForestRegressor(30, min_samples_leaf=3, max_features="sqrt", random_state=4).fit(x, outcomes.value)
    new = drawn("continuous", n=200)[0]
    np.testing.assert_allclose(ours.risk(new), theirs.predict(new), rtol=1e-12)


def test_a_forest_of_yes_and_no_ranks_as_well_as_scikit_learns_classifier() -> None:
    x, outcomes = drawn("binary", n=300)
    train, test = np.arange(200), np.arange(200, 300)
    ours = fit_forest(x[train], outcomes.subset(train), trees=100, smallest_leaf=3, seed=0).risk(x[test])
    forest = RandomForestClassifier(100, min_samples_leaf=3, max_features="sqrt", random_state=0)
    theirs = forest.fit(x[train], outcomes.event[train]).predict_proba(x[test])[:, 1]
    np.testing.assert_allclose(expit(ours), theirs, atol=0.1)
    assert roc_auc_score(outcomes.event[test], ours) == pytest.approx(
        roc_auc_score(outcomes.event[test], theirs), abs=0.02
    )


def test_residuals_of_times_without_features_are_those_of_nelson_and_aalen() -> None:
    x, outcomes = drawn("time-to-event")
    times, hazard = nelson_aalen_estimator(outcomes.event, outcomes.value)
    expected = outcomes.event - hazard[np.searchsorted(times, outcomes.value)]
    np.testing.assert_allclose(residuals(np.zeros(len(x)), outcomes), expected, atol=1e-12)


def test_boosting_of_a_number_is_scikit_learns() -> None:
    x, outcomes = drawn("continuous")
    reference = GradientBoostingRegressor(n_estimators=40, max_depth=2, learning_rate=0.1, random_state=0).fit(
        x, outcomes.value
    )
    np.testing.assert_allclose(boosting(x, outcomes).risk(x), reference.predict(x), rtol=1e-8)


def test_boosting_of_times_is_scikit_survivals() -> None:
    x, outcomes = drawn("time-to-event")
    events = outcomes.value[outcomes.event]
    assert len(set(events)) == len(events)  # they have Breslow's ties, we Efron's
    observed = np.array(list(zip(outcomes.event, outcomes.value, strict=True)), dtype=[("e", bool), ("t", float)])
    reference = GradientBoostingSurvivalAnalysis(n_estimators=40, max_depth=2, learning_rate=0.1, random_state=0).fit(
        x, observed
    )
    ours, theirs = boosting(x, outcomes).risk(x), reference.predict(x)
    np.testing.assert_allclose(ours - ours.mean(), theirs - theirs.mean(), atol=1e-6)


def test_boosting_of_yes_and_no_lowers_the_log_loss_with_every_tree() -> None:
    x, outcomes = drawn("binary")
    losses = [log_loss(outcomes.event, expit(boosting(x, outcomes, trees).risk(x))) for trees in (1, 10, 80)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_trees_come_back_from_their_arrays_and_rank_better_than_chance(kind: Kind) -> None:
    x, outcomes = drawn(kind)
    for model in (fit_forest(x, outcomes, trees=20, smallest_leaf=3, seed=1), boosting(x, outcomes)):
        again = Trees.from_arrays(model.arrays())
        assert (again.risk(x) == model.risk(x)).all()
        assert np.isfinite(model.risk(x)).all()
        assert concordance(model.risk(x)[:, None], outcomes)[0] > 0.75


def test_a_random_share_of_patients_depends_on_the_seed_alone() -> None:
    x, outcomes = drawn("binary")

    def fitted(seed: int) -> FloatArray:
        model = fit_boosting(x, outcomes, trees=10, depth=2, learning_rate=0.1, share=0.6, seed=seed)
        return model.risk(x)

    assert (fitted(1) == fitted(1)).all()
    assert (fitted(1) != fitted(2)).any()
