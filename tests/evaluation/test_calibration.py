"""Recalibration against statsmodels, the curve against counting."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit

from twobe3.evaluation import calibration as metrics
from twobe3.evaluation.intervals import PatientBootstrap


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
