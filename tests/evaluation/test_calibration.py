"""Recalibration against statsmodels, the curve against counting."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit
from sksurv.nonparametric import kaplan_meier_estimator

from twobe3.evaluation import calibration as metrics
from twobe3.evaluation.bootstrap import PatientBootstrap


@pytest.fixture
def cohort(binary):
    rng = np.random.default_rng(2)
    truth = rng.normal(-0.5, 1.2, size=80)
    return binary(rng.random(80) < expit(truth)), expit(0.4 + 1.7 * truth)


def _slope(event, probability):
    return sm.Logit(event, sm.add_constant(logit(probability))).fit(disp=0).params[1]


def _intercept(event, probability):
    model = sm.GLM(event, np.ones(len(event)), family=sm.families.Binomial(), offset=logit(probability))
    return model.fit().params[0]


@pytest.mark.parametrize(
    ("metric", "oracle"), [(metrics.calibration_slope, _slope), (metrics.calibration_intercept, _intercept)]
)
def test_equals_statsmodels_on_the_cohort_and_on_every_sample(cohort, metric, oracle):
    outcomes, probability = cohort
    counts = np.vstack([np.ones(80), PatientBootstrap.draw(outcomes.event, stratified=False, resamples=20).counts])
    for row, found in zip(counts.astype(int), metric(probability, outcomes).compute(counts), strict=True):
        rows = np.repeat(np.arange(80), row)
        assert found == pytest.approx(oracle(outcomes.event[rows].astype(float), probability[rows]), abs=1e-6)


def test_a_recalibrated_probability_is_calibrated(cohort):
    outcomes, probability = cohort
    fit = sm.Logit(outcomes.event.astype(float), sm.add_constant(logit(probability))).fit(disp=0)
    mended = fit.predict()
    assert metrics.calibration_slope(mended, outcomes).value(80) == pytest.approx(1, abs=1e-6)
    assert metrics.calibration_intercept(mended, outcomes).value(80) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("event", "probability"),
    [
        ([0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.7, 1.0]),
        ([0, 1, 0, 1, 0, 1], [0.4] * 6),
        ([0, 0, 0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
    ],
    ids=["separated", "constant", "one class"],
)
def test_the_slope_is_not_estimable(binary, event, probability):
    assert np.isnan(metrics.calibration_slope(np.array(probability), binary(event)).value(6))


def test_the_intercept_of_one_class_is_not_estimable(binary):
    assert np.isnan(metrics.calibration_intercept(np.linspace(0, 1, 6), binary([1] * 6)).value(6))


def test_the_curve_counts_every_patient_once(cohort):
    outcomes, probability = cohort
    curve = metrics.calibration_curve(probability, outcomes)
    assert len(curve.x) == 8
    assert curve.y.mean() == pytest.approx(outcomes.event.mean(), abs=1e-12)  # groups of ten each
    assert curve.x.mean() == pytest.approx(probability.mean(), abs=1e-12)
    assert (curve.low <= curve.y).all()
    assert (curve.y <= curve.high).all()


def test_equal_probabilities_stay_in_one_group(binary):
    curve = metrics.calibration_curve(np.repeat([0.2, 0.7], [25, 15]), binary(np.arange(40) % 2))
    np.testing.assert_allclose(curve.x, [0.2, 0.7])
    # Wilson 1927, by hand for 12 of 25 and z = 1.959964.
    assert (curve.low[0], curve.high[0]) == pytest.approx((0.3003, 0.6650), abs=5e-5)


def samples(outcomes, n=200):
    return PatientBootstrap.draw(outcomes.event, stratified=False, resamples=n).counts


def test_the_smooth_curve_is_a_line_through_the_tricube_neighbours(cohort):
    """Cleveland 1979, at single points by weighted least squares of statsmodels."""
    outcomes, probability = cohort
    curve = metrics.smooth_calibration(probability, outcomes, samples(outcomes))
    for point in (5, 20, 33):
        x = curve.x[point]
        distance = np.abs(probability - x)
        reach = np.sort(distance)[60 - 1]  # three quarters of the 80 patients
        weight = np.clip(1 - (distance / reach) ** 3, 0, 1) ** 3
        fit = sm.WLS(outcomes.event.astype(float), sm.add_constant(probability), weights=weight).fit()
        assert curve.y[point] == pytest.approx(np.clip(fit.params @ [1, x], 0, 1), abs=2e-3)
    assert (curve.x[0], curve.x[-1]) == (probability.min(), probability.max())
    assert ((curve.low <= curve.y) & (curve.y <= curve.high)).mean() > 0.9


def test_the_smooth_curve_of_right_probabilities_is_the_diagonal(binary):
    rng = np.random.default_rng(4)
    probability = rng.uniform(0.05, 0.95, 3000)
    outcomes = binary(rng.random(3000) < probability)
    curve = metrics.smooth_calibration(probability, outcomes, samples(outcomes, 40))
    assert np.abs(curve.y - curve.x).max() < 0.05
    assert (curve.high - curve.low).max() < 0.15


@pytest.mark.parametrize(
    "probability",
    [
        np.linspace(0.1, 0.9, 19),
        np.repeat([0.1, 0.4, 0.8], 20),
        np.concatenate([np.linspace(0.1, 0.2, 30), np.linspace(0.7, 0.8, 30)]),
    ],
    ids=["few patients", "few probabilities", "a wide gap"],
)
def test_where_it_says_nothing_there_is_no_smooth_curve(binary, probability):
    outcomes = binary(np.arange(len(probability)) % 2)
    assert metrics.smooth_calibration(probability, outcomes, samples(outcomes)) is None


def test_calibration_at_a_horizon_is_the_kaplan_meier_estimate_of_each_group(survival):
    rng = np.random.default_rng(6)
    risk = rng.normal(size=60)
    latent, censoring = rng.exponential(30 * np.exp(-risk)), rng.uniform(10, 70, 60)
    outcomes = survival(np.ceil(np.minimum(latent, censoring)), latent <= censoring)
    probability = 1 - np.exp(-24 / (30 * np.exp(-risk)))
    curve = metrics.calibration_at(probability, outcomes, 24.0, samples(outcomes))
    assert len(curve.x) == 6
    for i, members in enumerate(np.array_split(np.argsort(probability), 6)):
        times, free = kaplan_meier_estimator(outcomes.event[members], outcomes.value[members])
        assert curve.y[i] == pytest.approx(1 - free[np.searchsorted(times, 24.0, side="right") - 1], abs=1e-12)
        assert curve.x[i] == pytest.approx(probability[members].mean(), abs=1e-12)
    inside = (curve.y > 0) & (curve.y < 1)
    assert ((curve.low <= curve.y) & (curve.y <= curve.high))[inside].all()
    assert inside.sum() >= 4
    assert "by 24 months in 6 groups" in curve.label


def test_a_group_in_which_everybody_has_the_event_has_no_limits(survival):
    outcomes = survival(np.arange(1.0, 21.0), [1] * 10 + [0] * 10)
    probability = np.repeat([0.9, 0.1], 10)
    curve = metrics.calibration_at(probability, outcomes, 15.0, samples(outcomes))
    np.testing.assert_allclose(curve.y, [0, 1], atol=1e-12)
    assert np.isnan(curve.low).all()
