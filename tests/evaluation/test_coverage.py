"""The 95 % intervals cover the truth in about 95 % of simulated cohorts; ``benchmarks/coverage.py`` in small."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks import coverage
from scipy.stats import binom
from sklearn.metrics import average_precision_score, balanced_accuracy_score, brier_score_loss, log_loss, roc_auc_score
from sksurv.metrics import brier_score, concordance_index_censored
from statsmodels.api import Logit, add_constant

from twobe3.evaluation.bootstrap import Replicates
from twobe3.evaluation.compare import compare
from twobe3.evaluation.evaluate import evaluate


@pytest.fixture(autouse=True, scope="module")
def _fewer_pairs() -> None:
    truth = coverage.concordance(pairs=1_000_000, block=500_000)
    patch = pytest.MonkeyPatch()
    patch.setattr(coverage, "concordance", lambda: truth)
    yield
    patch.undo()


@pytest.mark.parametrize(
    ("cohort", "simulations"),
    [
        ("binormal", 200),
        ("difference, binormal", 200),
        ("difference, censored", 80),
        ("measured", 80),
        ("calibrated", 80),
        ("censored", 40),
    ],
)
def test_the_intervals_cover(cohort: str, simulations: int) -> None:
    for row in coverage.coverage(cohort, 80, range(simulations), resamples=400):
        assert row.none <= 0.05 * simulations
        least = binom.ppf(0.0005, row.estimable, coverage.LEVEL)
        assert row.covered >= least, row


def test_intervals_of_a_lower_level_do_not_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    interval = Replicates.interval
    monkeypatch.setattr(Replicates, "interval", lambda self: interval(self, level=0.8))
    (row,) = coverage.coverage("binormal", 80, range(200), resamples=400)
    low, high = binom.ppf([0.0005, 0.9995], row.estimable, 0.8)
    assert low <= row.covered <= high
    assert row.covered < binom.ppf(0.0005, row.estimable, coverage.LEVEL)


def test_the_truths_are_those_of_a_large_cohort_by_the_oracles() -> None:
    rng = np.random.default_rng(1)
    (one,), outcomes, truths = coverage.draw_probabilities(200_000, rng)
    event, said = outcomes.event, one.probability
    linear = np.log(said / (1 - said))
    oracle = {
        "balanced_accuracy": balanced_accuracy_score(event, said >= 0.5),
        "sensitivity": (said >= 0.5)[event].mean(),
        "specificity": (said < 0.5)[~event].mean(),
        "brier": brier_score_loss(event, said),
        "log_loss": log_loss(event, said),
        "average_precision": average_precision_score(event, one.risk),
        "calibration_slope": Logit(event.astype(float), add_constant(linear)).fit(disp=0).params[1],
        "calibration_intercept": Logit(event.astype(float), np.ones(len(said)), offset=linear).fit(disp=0).params[0],
    }
    assert truths == pytest.approx(oracle, abs=0.02)
    (one,), outcomes, truths = coverage.draw_binormal(200_000, rng)
    assert truths["auc"] == pytest.approx(roc_auc_score(outcomes.event, one.risk), abs=0.005)


def test_the_truths_of_censored_times_are_those_of_a_large_cohort_by_the_oracles() -> None:
    (one,), outcomes, truths = coverage.draw_times(4_000, np.random.default_rng(1))
    harrell = concordance_index_censored(outcomes.event, outcomes.value, one.risk)[0]
    assert truths["harrell_c"] == pytest.approx(harrell, abs=0.02)
    structured = np.array(list(zip(outcomes.event, outcomes.value, strict=True)), dtype=[("e", bool), ("t", float)])
    at = coverage.predict_survival(one.risk, np.array([coverage.HORIZON]))
    assert truths["brier@500"] == pytest.approx(brier_score(structured, structured, at, [500.0])[1][0], abs=0.01)


@pytest.mark.parametrize("cohort", list(coverage.COHORTS))
def test_the_simulation_makes_its_intervals_as_the_package_does(cohort: str) -> None:
    predictions, outcomes, _ = coverage.COHORTS[cohort](60, np.random.default_rng([3, 60]))
    simulated = {name: (low, high) for name, _, low, high in coverage.simulate(cohort, 60, 3, 200)}
    if len(predictions) == 2:
        (pair,) = compare(predictions, outcomes, resamples=200, seed=3)
        assert simulated == {pair.metric: (pair.low, pair.high)}
        return
    horizons = [coverage.HORIZON] if outcomes.endpoint.kind == "time-to-event" else None
    evaluation = evaluate(predictions[0], outcomes, horizons=horizons, resamples=200, seed=3)
    made = {metric.name: (metric.low, metric.high) for metric in evaluation.metrics}
    assert simulated == {name: made[name] for name in simulated}
