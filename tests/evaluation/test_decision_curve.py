"""Net benefit by its definition, and under censoring against scikit-survival's estimates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sksurv.nonparametric import cumulative_incidence_competing_risks, kaplan_meier_estimator

from twobe3.evaluation.bootstrap import PatientBootstrap
from twobe3.evaluation.decision_curve import THRESHOLDS, decision_curves


def curves(probability, outcomes, horizon=None, present=None, samples=50):
    probability = np.atleast_2d(np.asarray(probability, float))
    counts = PatientBootstrap.draw(outcomes.event, stratified=False, resamples=samples).counts
    present = np.ones(probability.shape, bool) if present is None else present
    return decision_curves(probability, present, outcomes, counts, horizon)


def at(curve, threshold):
    return curve.y[np.argmin(np.abs(curve.x - threshold))]


def test_net_benefit_by_hand(binary):
    """Vickers & Elkin 2006: true positives per patient less false ones, weighted by the odds of the threshold."""
    outcomes = binary([1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    probability = [0.9, 0.5, 0.1, 0.6, 0.3, 0.2, 0.1, 0.05, 0.05, 0.01]
    model, everybody = curves(probability, outcomes)
    assert at(model, 0.20) == pytest.approx((2 - 3 * 0.25) / 10)
    assert at(model, 0.50) == pytest.approx((2 - 1 * 1) / 10)
    assert at(model, 0.60) == pytest.approx((1 - 1 * 1.5) / 10)
    assert at(model, 0.90) == pytest.approx(1 / 10)
    assert at(model, 0.92) == 0
    assert at(everybody, 0.20) == pytest.approx(0.3 - 0.7 * 0.25)
    assert at(everybody, 0.50) == pytest.approx(0.3 - 0.7)
    assert (model.name, everybody.name) == ("net_benefit", "net_benefit_all")


def test_acting_on_all_has_no_benefit_at_a_threshold_of_the_prevalence(binary):
    _, everybody = curves(np.full(50, 0.3), binary(np.arange(50) < 12))
    assert at(everybody, 0.24) == pytest.approx(0, abs=1e-12)


def test_a_model_that_knows_the_outcome_has_the_prevalence_everywhere(binary):
    outcomes = binary(np.arange(50) < 12)
    model, _ = curves(outcomes.value, outcomes)
    np.testing.assert_allclose(model.y, 0.24)


def test_a_constant_probability_is_acting_on_all_below_and_on_none_above(binary):
    outcomes = binary(np.arange(50) < 12)
    model, everybody = curves(np.full(50, 0.5), outcomes)
    below = THRESHOLDS <= 0.5
    np.testing.assert_allclose(model.y[below], everybody.y[below])
    np.testing.assert_array_equal(model.y[~below], 0)


def test_repeats_are_averaged_and_the_band_holds_the_curve(binary):
    rng = np.random.default_rng(0)
    outcomes = binary(rng.random(120) < 0.4)
    chance = np.clip(0.2 + 0.4 * outcomes.value + rng.normal(0, 0.15, (3, 120)), 0, 1)
    model, _ = curves(chance, outcomes, samples=200)
    single = [curves(one, outcomes)[0].y for one in chance]
    np.testing.assert_allclose(model.y, np.mean(single, axis=0), atol=1e-12)
    assert "mean of 3 repeats" in model.label
    used = model.low < model.high
    assert used.sum() > 30
    assert ((model.low <= model.y) & (model.y <= model.high))[used].mean() > 0.9


def test_a_repeat_that_lacks_patients_counts_those_it_has(binary):
    outcomes = binary([1, 0, 1, 0])
    present = np.array([[True, True, True, False]])
    model, _ = curves([[0.6, 0.6, 0.2, 0.0]], outcomes, present=present)
    assert at(model, 0.5) == pytest.approx((1 - 1) / 3)
    assert at(model, 0.2) == pytest.approx((2 - 1 * 0.25) / 3)


@pytest.fixture
def followed(survival):
    rng = np.random.default_rng(7)
    risk = rng.normal(size=90)
    latent, censoring = rng.exponential(30 * np.exp(-risk)), rng.uniform(5, 60, 90)
    outcomes = survival(np.ceil(np.minimum(latent, censoring)), latent <= censoring)
    return outcomes, 1 - np.exp(-24 / (30 * np.exp(-risk)))


def test_without_censoring_before_the_horizon_it_is_the_binary_net_benefit(followed, binary, survival):
    _, chance = followed
    rng = np.random.default_rng(1)
    time = np.ceil(rng.exponential(30, 90))
    outcomes = survival(np.minimum(time, 40), time <= 40)  # censored at 40, looked at by 24
    found = curves(chance, outcomes, horizon=24.0)
    expected = curves(chance, binary(time <= 24))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.y, other.y, atol=1e-12)


def test_under_censoring_it_is_vickers_2008_with_scikit_survivals_kaplan_meier(followed):
    outcomes, chance = followed
    model, everybody = curves(chance, outcomes, horizon=24.0)
    for threshold in (0.1, 0.3, 0.5, 0.7):
        for curve, called in ((model, chance >= threshold), (everybody, np.ones(90, bool))):
            times, free = kaplan_meier_estimator(outcomes.event[called], outcomes.value[called])
            by_then = 1 - free[np.searchsorted(times, 24.0, side="right") - 1]
            share = called.mean()
            expected = share * by_then - share * (1 - by_then) * threshold / (1 - threshold)
            assert at(curve, threshold) == pytest.approx(expected, abs=1e-12)
    assert "by 24 months" in model.label


def test_with_competing_events_the_incidence_counts(followed):
    outcomes, chance = followed
    competing = ~outcomes.event & (np.arange(90) % 3 > 0)
    outcomes = replace(outcomes, competing=competing)
    model, _ = curves(chance, outcomes, horizon=24.0)
    called = chance >= 0.4
    status = np.where(outcomes.event, 1, np.where(competing, 2, 0))[called]
    times, incidence = cumulative_incidence_competing_risks(status, outcomes.value[called])
    by_then = incidence[1][np.searchsorted(times, 24.0, side="right") - 1]
    expected = called.mean() * (by_then - (1 - by_then) * 0.4 / 0.6)
    assert at(model, 0.4) == pytest.approx(expected, abs=1e-12)
