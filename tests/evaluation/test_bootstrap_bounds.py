"""Intervals of 0 and 1: Wilson's by statsmodels, Newcombe's by Hanley and McNeil's own formula and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from twobe3.evaluation import bootstrap as bounds
from twobe3.evaluation.evaluate import evaluate


def classes(binary, positives, negatives):
    return binary(np.arange(positives + negatives) < positives)


def hanley_mcneil(area, m, n):
    """Radiology 143 (1982) 29–36, eq. 1."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    return (area * (1 - area) + (m - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)) / (m * n)


@pytest.mark.parametrize("n", [2, 5, 20, 150])
def test_with_classes_of_one_size_the_limit_is_196_standard_errors_from_one(binary, n):
    bound = bounds.auc_bound(1.0, classes(binary, n, n))
    assert bound.high == 1
    assert 1 - bound.low == pytest.approx(norm.ppf(0.975) * hanley_mcneil(bound.low, n, n) ** 0.5)


def test_one_pair_has_wilsons_interval(binary):
    low, high = proportion_confint(1, 1, method="wilson")
    assert bounds.auc_bound(1.0, classes(binary, 1, 1))[:2] == pytest.approx((low, high))


def test_an_auc_of_zero_is_the_mirror_image(binary):
    one, zero = (bounds.auc_bound(area, classes(binary, 7, 12)) for area in (1.0, 0.0))
    assert (zero.low, zero.high) == pytest.approx((1 - one.high, 1 - one.low))


@pytest.mark.parametrize(("m", "n"), [(3, 10), (5, 5), (10, 10), (19, 32)])
def test_at_the_limit_complete_separation_is_as_rare_as_it_should(binary, m, n):
    area = bounds.auc_bound(1.0, classes(binary, m, n)).low
    rng = np.random.default_rng(0)
    positives = rng.normal(np.sqrt(2) * norm.ppf(area), 1, (20000, m))
    separated = (positives.min(axis=1) > rng.normal(size=(20000, n)).max(axis=1)).mean()
    assert separated <= 0.025


def test_a_perfect_model_has_an_interval_for_every_share(binary, predict):
    """Acceptance row 44."""
    outcomes = classes(binary, 8, 12)
    probability = np.where(outcomes.event, 0.9, 0.2)
    found = evaluate(predict(probability, probability=probability), outcomes, resamples=100)
    for name, n in (("sensitivity", 8), ("specificity", 12)):
        metric = found.metric(name)
        assert (metric.value, metric.low, metric.high) == pytest.approx((1, *proportion_confint(n, n, method="wilson")))
        assert "Wilson" in metric.estimator
        assert "BCa" not in metric.estimator
    auc, both = found.metric("auc"), found.metric("balanced_accuracy")
    assert (auc.value, auc.high) == (1, 1)
    assert 0.7 < auc.low < 1
    assert "Newcombe" in auc.estimator
    misses = [1 - found.metric(name).low for name in ("sensitivity", "specificity")]
    assert both.low == pytest.approx(1 - np.hypot(*misses) / 2)
    assert found.metric("average_precision").low is None


def test_a_model_that_is_always_wrong_has_them_too(binary, predict):
    outcomes = classes(binary, 8, 12)
    probability = np.where(outcomes.event, 0.2, 0.9)
    found = evaluate(predict(probability, probability=probability), outcomes, resamples=100)
    for name in ("auc", "sensitivity", "specificity", "balanced_accuracy"):
        metric = found.metric(name)
        assert (metric.value, metric.low) == (0, 0)
        assert 0 < metric.high < 0.4


def test_any_other_value_keeps_its_bootstrap(binary, predict):
    found = evaluate(predict([1, 2, 3, 4, 5, 6, 7, 8]), binary([0, 0, 1, 0, 1, 0, 1, 1]), resamples=200)
    assert "BCa" in found.metric("auc").estimator
