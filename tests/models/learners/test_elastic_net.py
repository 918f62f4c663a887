"""Elastic nets against scikit-learn and scikit-survival."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import ElasticNet, LogisticRegression
from sksurv.linear_model import CoxnetSurvivalAnalysis

from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.outcomes import Kind, Outcomes
from twobe3.models.learners.elastic_net import fit_elastic_path, largest_penalty

FloatArray = npt.NDArray[np.float64]
KINDS: tuple[Kind, ...] = ("binary", "time-to-event", "continuous")
SHARES = (0.5, 1.0)


def drawn(kind: Kind, n: int = 70, p: int = 12) -> tuple[FloatArray, Outcomes]:
    rng = np.random.default_rng(1)
    x = rng.normal(0.0, 1.0, (n, p))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    true, patients = x[:, 0] - 0.8 * x[:, 1], tuple(f"p{i}" for i in range(n))
    if kind == "binary":
        event = true + rng.logistic(size=n) > 0
        return x, Outcomes(Binary("y", "y"), patients, event.astype(float), event)
    if kind == "continuous":
        return x, Outcomes(Continuous("y", "y"), patients, 40.0 + true + rng.normal(size=n), np.ones(n, np.bool_))
    time = rng.exponential(np.exp(-true))
    return x, Outcomes(TimeToEvent("y", "t", "e"), patients, np.minimum(time, 2.0), time <= 2.0)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.filterwarnings("ignore:'penalty' was deprecated:FutureWarning")
def test_binary_is_the_elastic_net_of_scikit_learn(share: float) -> None:
    x, outcomes = drawn("binary")
    model = fit_elastic_path(x, outcomes, [0.05], share)[0.05]
    reference = LogisticRegression(
        C=1.0 / (0.05 * len(x)), l1_ratio=share, penalty="elasticnet", solver="saga", tol=1e-9, max_iter=50_000
    ).fit(x, outcomes.event)
    np.testing.assert_allclose(model.weights, reference.coef_[0], atol=1e-4)
    assert model.bias == pytest.approx(reference.intercept_[0], abs=1e-4)
    assert 0 < (model.weights == 0).sum() < len(model.weights)


@pytest.mark.parametrize("share", SHARES)
def test_continuous_is_the_elastic_net_of_scikit_learn(share: float) -> None:
    x, outcomes = drawn("continuous")
    model = fit_elastic_path(x, outcomes, [0.1], share)[0.1]
    reference = ElasticNet(alpha=0.1, l1_ratio=share, tol=1e-10, max_iter=50_000).fit(x, outcomes.value)
    np.testing.assert_allclose(model.weights, reference.coef_, atol=1e-4)
    np.testing.assert_allclose(model.risk(x), reference.predict(x), atol=1e-3)


@pytest.mark.parametrize("share", SHARES)
def test_time_to_event_is_the_elastic_net_of_scikit_survival(share: float) -> None:
    x, outcomes = drawn("time-to-event")
    # Their loss is a mean over patients, ours over events.
    theirs = 0.1 * outcomes.n_events / len(outcomes)
    observed = np.array(list(zip(outcomes.event, outcomes.value, strict=True)), dtype=[("e", bool), ("t", float)])
    reference = CoxnetSurvivalAnalysis(l1_ratio=share, alphas=[theirs], tol=1e-12, max_iter=1_000_000).fit(x, observed)
    model = fit_elastic_path(x, outcomes, [0.1], share)[0.1]
    np.testing.assert_allclose(model.weights, reference.coef_[:, 0], atol=1e-3)
    assert model.bias == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_penalty_leaves_no_feature_and_a_little_less_leaves_one(kind: Kind) -> None:
    x, outcomes = drawn(kind)
    largest = largest_penalty(x, outcomes, 0.5)
    path = fit_elastic_path(x, outcomes, [1.001 * largest, 0.97 * largest], 0.5)
    assert (path[1.001 * largest].weights == 0).all()
    assert (path[0.97 * largest].weights != 0).sum() >= 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_path_gives_what_each_penalty_alone_gives_and_leaves_constants_out(kind: Kind) -> None:
    x, outcomes = drawn(kind)
    x = 30.0 * x + 5.0
    x[:, 3] = 2.0
    path = fit_elastic_path(x, outcomes, [0.2, 0.05, 0.02], 0.5)
    for penalty, model in path.items():
        alone = fit_elastic_path(x, outcomes, [penalty], 0.5)[penalty]
        np.testing.assert_allclose(model.weights, alone.weights, atol=1e-3)
        assert model.weights[3] == 0.0
