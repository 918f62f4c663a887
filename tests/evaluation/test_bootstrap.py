"""The bootstrap: what it draws, what its intervals cover, when it says nothing; and intervals of 0 and 1.

Wilson's by statsmodels, Newcombe's by Hanley and McNeil's own formula and by simulation.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import bootstrap, norm, t
from statsmodels.stats.proportion import proportion_confint

from twobe3.evaluation import bootstrap as bounds
from twobe3.evaluation.binary import auc, weighted_mean
from twobe3.evaluation.bootstrap import PatientBootstrap, Replicates, Statistic
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.survival import harrell_c

NO_STRATA = np.zeros(40, dtype=bool)


def mean_of(values):
    return Statistic(weighted_mean(values), "mean")


def test_every_sample_has_as_many_patients_and_events_as_the_cohort():
    event = np.arange(30) < 11
    counts = PatientBootstrap.draw(event, resamples=200).counts
    np.testing.assert_array_equal(counts[:, event].sum(axis=1), 11)
    np.testing.assert_array_equal(counts[:, ~event].sum(axis=1), 19)


def test_without_strata_the_number_of_events_varies():
    event = np.arange(30) < 11
    counts = PatientBootstrap.draw(event, stratified=False, resamples=500).counts
    np.testing.assert_array_equal(counts.sum(axis=1), 30)
    assert counts[:, event].sum(axis=1).std() == pytest.approx(np.sqrt(30 * 11 / 30 * 19 / 30), rel=0.15)


def test_one_seed_one_sample():
    event = np.arange(10) < 4
    first, again, other = (PatientBootstrap.draw(event, resamples=9, seed=seed).counts for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def expanded_level(replicates: Replicates) -> float:
    """The level of the plain BCa interval that reaches as far as the expanded one of 95 %."""
    return 2 * norm.cdf(replicates.reach()) - 1


def test_the_interval_of_a_mean_of_normal_values_reaches_as_far_as_students():
    values = np.random.default_rng(3).normal(size=20)
    replicates = PatientBootstrap.draw(NO_STRATA[:20], resamples=20_000).replicate(mean_of(values))
    kurtosis, skewness = ((((values - values.mean()) / values.std()) ** power).mean() for power in (4, 3))
    quantile = t.ppf(0.975, 2 * 20 / (kurtosis - 1 - skewness**2))
    # Of a mean the bootstrap's variance is s²(n − 1)/n², the jackknife's s²/n.
    assert replicates.reach() == pytest.approx(np.sqrt((1 + 20 / 19) / 2) * quantile, rel=0.01)
    variance = values.var() / 20, values.var(ddof=1) / 20
    assert replicates.reach() * replicates.resampled.std() == pytest.approx(quantile * np.sqrt(np.mean(variance)), 0.01)


def test_the_interval_of_a_share_reaches_as_far_as_the_normal_one():
    share = PatientBootstrap.draw(NO_STRATA, resamples=20_000).replicate(mean_of(np.arange(40.0) < 9))
    assert share.reach() == pytest.approx(np.sqrt((1 + 40 / 39) / 2) * norm.ppf(0.975), rel=0.01)


@pytest.mark.parametrize(("n", "nominal"), [(15, 0.9), (30, 0.92)])
def test_the_expanded_interval_covers_the_mean_of_skewed_values_more_often_than_the_plain_one(n, nominal):
    # Exponential values, mean 1; what plain BCa covers is the reason for expanding it.
    expanded = plain = 0
    for seed in range(300):
        values = np.random.default_rng([seed, n]).exponential(size=n)
        replicates = PatientBootstrap.draw(np.zeros(n, dtype=bool), resamples=400, seed=seed).replicate(mean_of(values))
        (low, high), (plain_low, plain_high) = (
            replicates.interval(level) for level in (0.95, 2 * norm.cdf(1.96**2 / replicates.reach()) - 1)
        )
        expanded += low <= 1 <= high
        plain += plain_low <= 1 <= plain_high
    assert expanded > plain
    assert expanded / 300 >= nominal


def test_bca_of_a_mean_equals_scipy():
    values = np.random.default_rng(0).lognormal(size=40)
    replicates = PatientBootstrap.draw(NO_STRATA, resamples=20_000).replicate(mean_of(values))
    level = expanded_level(replicates)
    expected = bootstrap((values,), np.mean, n_resamples=20_000, confidence_level=level, method="BCa", rng=1)
    limits = expected.confidence_interval
    assert replicates.interval() == pytest.approx((limits.low, limits.high), rel=0.02)


def test_bca_of_two_strata_equals_scipy_with_two_samples():
    rng = np.random.default_rng(1)
    values, event = rng.lognormal(size=40), np.arange(40) < 15
    difference = Statistic(
        lambda counts: (
            counts[:, event] @ values[event] / counts[:, event].sum(axis=1)
            - counts[:, ~event] @ values[~event] / counts[:, ~event].sum(axis=1)
        ),
        "difference of means",
    )
    replicates = PatientBootstrap.draw(event, resamples=20_000).replicate(difference)
    expected = bootstrap(
        (values[event], values[~event]),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        n_resamples=20_000,
        method="BCa",
        confidence_level=expanded_level(replicates),
        vectorized=True,
        rng=1,
    )
    interval = expected.confidence_interval
    assert replicates.interval() == pytest.approx(
        (interval.low, interval.high), abs=0.05 * (interval.high - interval.low)
    )
    assert np.nanstd(replicates.resampled) == pytest.approx(expected.standard_error, rel=0.03)


@pytest.mark.parametrize("true_auc", [0.5, 0.75, 0.9])
def test_the_interval_of_the_auc_covers_a_known_truth(binary, true_auc):
    # Binormal: X ~ N(√2 Φ⁻¹(AUC), 1) among positives, N(0, 1) among negatives.
    rng = np.random.default_rng(11)
    event = np.arange(60) < 22
    outcomes = binary(event)
    covered = 0
    for seed in range(200):
        risk = rng.normal(size=60) + event * np.sqrt(2) * norm.ppf(true_auc)
        low, high = PatientBootstrap.draw(event, resamples=500, seed=seed).replicate(auc(risk, outcomes)).interval()
        covered += low <= true_auc <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_the_interval_of_the_concordance_covers_one_half_when_the_risk_is_noise(survival):
    rng = np.random.default_rng(12)
    covered = 0
    for seed in range(150):
        outcomes = survival(np.ceil(rng.exponential(20, size=60)), rng.random(60) < 0.6)
        replicates = PatientBootstrap.draw(outcomes.event, resamples=500, seed=seed).replicate(
            harrell_c(rng.normal(size=60), outcomes)
        )
        low, high = replicates.interval()
        covered += low <= 0.5 <= high
    assert 0.89 <= covered / 150 <= 0.99


def test_equally_good_models_are_rarely_called_different(binary):
    rng = np.random.default_rng(13)
    event = np.arange(60) < 22
    outcomes = binary(event)
    p_values = []
    for seed in range(300):
        signal = rng.normal(size=60) + event
        draws = PatientBootstrap.draw(event, resamples=400, seed=seed)
        a, b = (draws.replicate(auc(signal + rng.normal(0, 0.8, size=60), outcomes)) for _ in range(2))
        p_values.append((a - b).p_value())
    assert 0.02 <= (np.array(p_values) < 0.05).mean() <= 0.085
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


def test_failed_samples_are_counted_and_left_out_of_the_interval():
    values = np.arange(40.0)
    mean = weighted_mean(values)
    fails = Statistic(lambda counts: np.where(counts[:, 0] > 3, np.nan, mean(counts)), "fails when drawn four times")
    draws = PatientBootstrap.draw(NO_STRATA, resamples=2000)
    replicates = draws.replicate(fails)
    assert replicates.failed == (draws.counts[:, 0] > 3).sum() > 0
    assert replicates.interval() is not None


def test_no_interval_when_more_than_a_tenth_of_the_samples_fail():
    mean = weighted_mean(np.arange(40.0))
    fails = Statistic(lambda counts: np.where(counts[:, 0] > 1, np.nan, mean(counts)), "fails when drawn twice")
    replicates = PatientBootstrap.draw(NO_STRATA, resamples=500).replicate(fails)
    assert replicates.value == 19.5
    assert replicates.failed > 50
    assert replicates.interval() is None
    assert replicates.normal_interval() is None
    assert replicates.p_value() is None


def test_no_interval_when_the_metric_rests_on_one_patient(binary):
    outcomes = binary(np.arange(20) == 3)
    replicates = PatientBootstrap.draw(outcomes.event).replicate(auc(np.sin(np.arange(20.0)), outcomes))
    assert np.isfinite(replicates.value)
    assert replicates.interval() is None


def test_no_interval_when_every_sample_agrees(binary):
    outcomes = binary(np.arange(20) > 13)
    replicates = PatientBootstrap.draw(outcomes.event).replicate(auc(np.arange(20.0), outcomes))
    assert (replicates.value, replicates.interval(), replicates.p_value()) == (1.0, None, None)


def test_a_difference_that_is_always_zero():
    replicates = PatientBootstrap.draw(NO_STRATA).replicate(mean_of(np.arange(40.0)))
    nothing = replicates - replicates
    assert (nothing.value, nothing.normal_interval(), nothing.p_value()) == (0.0, (0.0, 0.0), 1.0)


@pytest.mark.parametrize("shift", [-0.9, -0.3, 0.0, 0.31, 0.7])
def test_p_is_below_five_percent_exactly_when_the_interval_excludes_zero(shift):
    values = np.random.default_rng(0).normal(size=40) + shift
    replicates = PatientBootstrap.draw(NO_STRATA).replicate(mean_of(values))
    low, high = replicates.normal_interval()
    assert (replicates.p_value() < 0.05) == (not low <= 0 <= high)


def test_a_statistic_beyond_all_its_samples_has_a_finite_interval():
    rng = np.random.default_rng(0)
    lopsided = Replicates(5.0, rng.normal(size=1000), rng.normal(5, 0.1, size=40), NO_STRATA)
    low, high = lopsided.interval()
    assert np.isfinite([low, high]).all()
    assert low <= high


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
