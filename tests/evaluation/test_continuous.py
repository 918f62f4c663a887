"""Metrics of a number against scipy and scikit-learn, on the cohort and on resampled tables."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as oracle
from scipy.stats import spearmanr

from twobe3.evaluation import binary as metrics
from twobe3.evaluation.bootstrap import PatientBootstrap

ORACLES = {
    metrics.spearman: lambda y, x: spearmanr(x, y).statistic,
    metrics.mean_absolute_error: oracle.mean_absolute_error,
    metrics.r2: oracle.r2_score,
}


@pytest.mark.parametrize("metric", ORACLES, ids=lambda m: m.__name__)
def test_equals_the_oracle_on_the_cohort_and_on_every_sample(continuous, metric):
    rng = np.random.default_rng(0)
    outcomes = continuous(np.round(rng.normal(60, 10, 45)))
    predicted = np.round(outcomes.value + rng.normal(0, 8, 45))
    counts = np.vstack([np.ones(45), PatientBootstrap.draw(outcomes.event, resamples=40).counts])
    for row, found in zip(counts.astype(int), metric(predicted, outcomes).compute(counts), strict=True):
        rows = np.repeat(np.arange(45), row)
        assert found == pytest.approx(ORACLES[metric](outcomes.value[rows], predicted[rows]), abs=1e-10)


def test_a_constant_has_no_rank_correlation_and_no_share_of_variance(continuous):
    varied, constant = np.arange(7.0), np.full(7, 0.1)
    assert np.isnan(metrics.spearman(constant, continuous(varied)).value(7))
    assert np.isnan(metrics.spearman(varied, continuous(constant)).value(7))
    assert np.isnan(metrics.r2(varied, continuous(constant)).value(7))
