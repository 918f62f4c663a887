"""Metrics of a number: the risk is the number predicted."""

from __future__ import annotations

import numpy as np

from twobe3.evaluation.binary import ratio, weighted_mean
from twobe3.evaluation.intervals import TOLERANCE, Statistic
from twobe3.outcome import FloatArray, Outcomes


def spearman(predicted: FloatArray, outcomes: Outcomes) -> Statistic:
    """Spearman's rank correlation, ties at their mean rank; not estimable when either side is constant."""

    def compute(counts: FloatArray) -> FloatArray:
        x, y = _mid_ranks(predicted, counts), _mid_ranks(outcomes.value, counts)
        total = counts.sum(axis=1, keepdims=True)
        x, y = (ranks - ratio((counts * ranks).sum(axis=1, keepdims=True), total) for ranks in (x, y))
        covariance, *variances = ((counts * product).sum(axis=1) for product in (x * y, x * x, y * y))
        # Two different values give ranks at least one apart; what is below is rounding.
        constant = np.minimum(*variances) < 1e-6
        return np.where(constant, np.nan, ratio(covariance, np.sqrt(variances[0] * variances[1])))

    return Statistic(compute, "Spearman's rank correlation, ties at their mean rank")


def mean_absolute_error(predicted: FloatArray, outcomes: Outcomes) -> Statistic:
    """Mean absolute difference of prediction and outcome, in the endpoint's unit."""
    return Statistic(weighted_mean(np.abs(predicted - outcomes.value)), "mean absolute error, in the endpoint's unit")


def r2(predicted: FloatArray, outcomes: Outcomes) -> Statistic:
    """Coefficient of determination: 1 − Σ(y − ŷ)² / Σ(y − ȳ)², below 0 for a prediction worse than the mean."""
    y = outcomes.value
    squares = (y - predicted) ** 2
    centred = y - y.mean()

    def compute(counts: FloatArray) -> FloatArray:
        total = counts.sum(axis=1)
        mean = ratio(counts @ centred, total)
        spread = counts @ centred**2 - total * mean**2
        spread = np.where(spread > TOLERANCE * np.abs(y).max(initial=1.0) ** 2, spread, 0.0)
        return 1 - ratio(counts @ squares, spread)

    return Statistic(compute, "coefficient of determination, 1 − residual / total sum of squares")


def _mid_ranks(values: FloatArray, counts: FloatArray) -> FloatArray:
    """Mean rank of each patient's value in each sample; shape (samples, n)."""
    distinct, position = np.unique(values, return_inverse=True)
    size = counts @ (position[:, None] == np.arange(len(distinct))).astype(np.float64)
    ranks: FloatArray = (np.cumsum(size, axis=1) - (size - 1) / 2)[:, position]
    return ranks
