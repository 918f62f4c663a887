"""Which curves a model gets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from twobe3.evaluation.alignment import AlignedPredictions
from twobe3.evaluation.evaluate import curve_horizon, evaluate


def names(evaluation):
    return [curve.name for curve in evaluation.curves]


def test_probabilities_bring_calibration_and_decision_curves(binary, predict):
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.1, 0.9, (2, 60))
    outcomes = binary(rng.random(60) < chance.mean(axis=0))
    found = evaluate(predict(chance, probability=chance), outcomes, resamples=50)
    assert names(found) == ["roc", "calibration", "calibration_smooth", "net_benefit", "net_benefit_all"]
    assert names(evaluate(predict(chance), outcomes, resamples=50)) == ["roc"]


@pytest.fixture
def foreseen(survival, predict):
    """Two repeats whose survival is predicted at four times; nobody is observed until the last."""
    rng = np.random.default_rng(1)
    risk = rng.normal(size=(2, 60))
    latent = rng.exponential(30 * np.exp(-risk.mean(axis=0)))
    outcomes = survival(np.ceil(np.minimum(latent, 50)), latent <= 50)
    times = np.array([6.0, 12.0, 24.0, 60.0])
    free = np.exp(-times / (30 * np.exp(-risk.ravel()[:, None])))
    return replace(predict(risk), survival=free, times=times), outcomes


def test_survival_brings_calibration_and_decision_curves_at_the_middle_horizon(foreseen):
    prediction, outcomes = foreseen
    found = evaluate(prediction, outcomes, horizons=[6, 12, 24, 60], resamples=50)
    assert names(found) == ["kaplan_meier_low", "kaplan_meier_high", "calibration", "net_benefit", "net_benefit_all"]
    calibration, benefit, _ = found.curves[2:]
    assert "by 12 months" in calibration.label
    assert "by 12 months, mean of 2 repeats" in benefit.label
    assert calibration.x.mean() == pytest.approx(1 - prediction.survival[:, 1].mean(), abs=1e-12)  # groups of ten each


def test_without_survival_the_groups_alone_are_drawn(foreseen):
    prediction, outcomes = foreseen
    without = replace(prediction, survival=None, times=None)
    assert names(evaluate(without, outcomes, resamples=50)) == ["kaplan_meier_low", "kaplan_meier_high"]


@pytest.mark.parametrize(
    ("horizons", "expected"), [([0.5, 12, 20, 24, 49], 20), ([0.5], None), ([50, 60], None), ([30, 24], 24)]
)
def test_the_horizon_is_one_that_the_cohort_can_evaluate(foreseen, horizons, expected):
    """The first event came after 1 month, and the last patients left after 50."""
    assert curve_horizon(AlignedPredictions.of(*foreseen, horizons=horizons)) == expected


def test_a_horizon_beyond_what_was_predicted_is_not_drawn(foreseen):
    prediction, outcomes = foreseen
    short = replace(prediction, survival=prediction.survival[:, :2], times=prediction.times[:2])
    assert curve_horizon(AlignedPredictions.of(short, outcomes, horizons=[24])) is None


def test_without_an_event_there_is_no_horizon(foreseen):
    prediction, outcomes = foreseen
    nothing = replace(outcomes, event=np.zeros(60, bool))
    assert curve_horizon(AlignedPredictions.of(prediction, nothing, horizons=[12])) is None
