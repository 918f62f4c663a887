"""Every metric called by itself: the value of other libraries, and value and interval of ``evaluate``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn import metrics as sklearn

from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation import metrics
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.metrics import METRICS, Metric

N = 50
RNG = np.random.default_rng(4)
RISK = RNG.normal(size=N)
EVENT = RNG.random(N) < 1 / (1 + np.exp(-RISK))
PROBABILITY = 1 / (1 + np.exp(-RISK))
TIME = np.ceil(RNG.exponential(300 * np.exp(-RISK / 2)))
STATUS = RNG.choice(3, N, p=[0.3, 0.5, 0.2])
TIMES = np.array([50.0, 200.0, 600.0])
SURVIVAL = np.exp(-np.outer(np.exp(RISK), TIMES / 400))
FOLD = np.arange(N) % 3
OUTCOMES: dict[str, Outcomes] = {
    "binary": Binary.from_arrays(EVENT),
    "time-to-event": TimeToEvent.from_arrays(TIME, STATUS),
    "continuous": Continuous.from_arrays(RISK * 2 + RNG.normal(size=N), unit="cm"),
}
SCORES = {"risk": RISK, "probability": PROBABILITY, "survival": SURVIVAL}


def call(metric: Metric, outcomes: Outcomes, **options: Any) -> metrics.MetricValue:
    more = {"fold": FOLD} if metric.needs == "folds" else {"times": TIMES} if metric.scores == "survival" else {}
    more |= {"horizon": 200} if metric.per_horizon else {}
    return metric(outcomes, SCORES[metric.scores], **more, **options)


def test_binary_metrics_are_those_of_scikit_learn() -> None:
    outcomes = OUTCOMES["binary"]
    expected = {
        metrics.auc: sklearn.roc_auc_score(EVENT, RISK),
        metrics.average_precision: sklearn.average_precision_score(EVENT, RISK),
        metrics.balanced_accuracy: sklearn.balanced_accuracy_score(EVENT, PROBABILITY >= 0.5),
        metrics.brier: sklearn.brier_score_loss(EVENT, PROBABILITY),
        metrics.log_loss: sklearn.log_loss(EVENT, PROBABILITY),
    }
    for metric, value in expected.items():
        assert call(metric, outcomes, resamples=100).value == pytest.approx(value, abs=1e-12)
    of_folds = metrics.auc_within_folds(outcomes, RISK, fold=FOLD, resamples=100).value
    pairs = [EVENT[f == FOLD].sum() * (~EVENT[f == FOLD]).sum() for f in range(3)]
    areas = [sklearn.roc_auc_score(EVENT[f == FOLD], RISK[f == FOLD]) for f in range(3)]
    assert of_folds == pytest.approx(np.average(areas, weights=pairs))


def test_survival_metrics_are_those_of_r() -> None:
    """``tests/reference/survival.R``; years, in which events and censorings come together."""
    reference = json.loads((Path(__file__).parents[1] / "reference" / "survival.json").read_text())
    case = next(one for one in reference["cases"] if one["name"] == "gbsg, years")
    outcomes = TimeToEvent.from_arrays(case["time"], case["status"], unit="year")
    risk, times, horizon = np.array(case["risk"]), np.array(case["times"], dtype=float), case["horizons"][0]
    assert metrics.harrell_c(outcomes, risk, resamples=50).value == pytest.approx(case["harrell_c"])
    assert metrics.uno_c(outcomes, risk, resamples=50).value == pytest.approx(case["uno_c"])
    area = metrics.cumulative_auc_at(outcomes, risk, horizon=horizon, resamples=50)
    survival = np.exp(-np.outer(np.exp(risk), case["hazard"]))
    found = metrics.brier_at(outcomes, survival, times=times, horizon=horizon, resamples=50)
    assert (area.name, area.value) == ("cumulative_auc@2", pytest.approx(case["auc"][0]))
    assert (found.name, found.value) == ("brier@2", pytest.approx(case["brier"][0]))


def test_continuous_metrics_are_those_of_scipy_and_scikit_learn() -> None:
    outcomes = OUTCOMES["continuous"]
    assert metrics.spearman(outcomes, RISK, resamples=100).value == pytest.approx(spearmanr(outcomes.value, RISK)[0])
    assert metrics.mae(outcomes, RISK, resamples=100).value == pytest.approx(
        sklearn.mean_absolute_error(outcomes.value, RISK)
    )
    assert metrics.r2(outcomes, RISK, resamples=100).value == pytest.approx(sklearn.r2_score(outcomes.value, RISK))


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_by_itself_is_that_of_the_evaluation(metric: Metric) -> None:
    outcomes = OUTCOMES[metric.kind]
    prediction = Prediction("", outcomes.endpoint.name, outcomes.patients, RISK, PROBABILITY, fold=FOLD)
    horizons = None
    if metric.kind == "time-to-event":
        prediction, horizons = replace(prediction, probability=None, survival=SURVIVAL, times=TIMES), [200.0]
        horizons = horizons if metric.per_horizon else None
    found = call(metric, outcomes, resamples=200, seed=3)
    whole = evaluate(prediction, outcomes, horizons=horizons, resamples=200, seed=3)
    assert found == whole.metric(found.name)
    assert found.n == N
    assert found.events == outcomes.n_events


def test_a_threshold_may_be_given() -> None:
    strict, lax = (
        metrics.sensitivity(OUTCOMES["binary"], PROBABILITY, threshold=t, resamples=50).value for t in (0.9, 0.1)
    )
    assert strict is not None
    assert lax is not None
    assert strict < lax


def test_every_metric_has_its_name_in_the_module() -> None:
    for name, metric in METRICS.items():
        assert getattr(metrics, name.replace("@horizon", "_at")) is metric


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no metric 'harrell_c' for a binary endpoint") as caught:
        metrics.harrell_c(OUTCOMES["binary"], RISK)
    assert caught.value.code is Code.UNKNOWN_NAME
    with pytest.raises(ConfigurationError, match="no metric 'brier@horizon' for a continuous endpoint"):
        metrics.brier_at(OUTCOMES["continuous"], RISK)
    with pytest.raises(ValueError, match="needs a horizon"):
        metrics.brier_at(OUTCOMES["time-to-event"], SURVIVAL, times=TIMES)
    with pytest.raises(ValueError, match="must have shape"):
        metrics.auc(OUTCOMES["binary"], RISK[:-1])


def test_outcomes_without_a_table() -> None:
    outcomes = TimeToEvent.from_arrays([1, 2, 3], [0, 1, 2], unit="month")
    assert outcomes.event.tolist() == [False, True, False]
    assert outcomes.competing.tolist() == [False, False, True]
    assert Binary.from_arrays([True, False]).n_events == 1
    for wrong in (([0, 1], [1, 1]), ([1, np.nan], [1, 1]), ([1, 2], [1, 3])):
        with pytest.raises(ConfigurationError) as caught:
            TimeToEvent.from_arrays(*wrong)
        assert caught.value.code is Code.OUTCOME_INVALID
    with pytest.raises(ConfigurationError):
        Binary.from_arrays([1, 2])
