"""D-calibration: worked by hand, true models, false models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from twobe3.core.prediction import Prediction
from twobe3.evaluation.calibration import bin_shares, d_calibration
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.horizons import SurvivalCurves

TIMES = np.linspace(0.05, 8.0, 400)


def simulate(survival, n, *, seed, censored=True):
    """Exponential times of different rates, with the true survival of each patient."""
    rng = np.random.default_rng(seed)
    rate = np.exp(rng.normal(0, 0.7, n))
    latent = rng.exponential(1 / rate)
    censoring = rng.exponential(1.5, n) if censored else np.full(n, np.inf)
    outcomes = survival(np.minimum(latent, censoring) + 1e-9, latent <= censoring)
    return outcomes, SurvivalCurves(np.exp(-np.outer(rate, TIMES)), TIMES)


def test_a_patient_with_the_event_is_in_one_bin_and_a_censored_one_is_shared_out(survival):
    # S(T) = 0.75 for both. Censored: 0.05 of the remaining 0.75 lie in [0.7, 0.8), 0.1 in each of the seven below.
    outcomes = survival([5, 5], [1, 0])
    shares = bin_shares(SurvivalCurves(np.full((2, 1), 0.5), np.array([10.0])), outcomes)
    assert shares[0].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0, 0]
    np.testing.assert_allclose(shares[1], [*[0.1 / 0.75] * 7, 0.05 / 0.75, 0, 0])


def test_every_patient_counts_one(survival):
    outcomes, curves = simulate(survival, 200, seed=1)
    np.testing.assert_allclose(bin_shares(curves, outcomes).sum(axis=1), 1.0)


def test_without_censoring_it_is_pearsons_test_of_a_histogram(survival):
    outcomes, curves = simulate(survival, 120, seed=2, censored=False)
    outcomes = outcomes.subset(np.flatnonzero(outcomes.value < 8))
    curves = SurvivalCurves(curves.at(TIMES)[: len(outcomes)], TIMES)
    histogram, _ = np.histogram(curves.at_own(outcomes.value), bins=10, range=(0, 1))
    assert d_calibration(curves, outcomes).value(len(outcomes)) == pytest.approx(chisquare(histogram).pvalue)


@pytest.mark.parametrize("censored", [False, True])
def test_the_true_model_is_called_wrong_no_more_often_than_it_should(survival, censored):
    p = [d_calibration(*simulate(survival, 150, seed=s, censored=censored)[::-1]).value(150) for s in range(150)]
    assert np.mean(np.array(p) < 0.05) <= 0.1  # 0.05 expected; sharing out censored patients makes it less
    if not censored:
        assert kstest(p, "uniform").pvalue > 0.01


def test_doubled_hazards_are_called_wrong(survival):
    outcomes, curves = simulate(survival, 200, seed=3)
    assert d_calibration(SurvivalCurves(curves.at(TIMES) ** 2, TIMES), outcomes).value(200) < 1e-3


def test_follow_up_beyond_the_predicted_times_is_a_censoring_at_their_end(survival):
    """Acceptance row 43."""
    curves = SurvivalCurves(np.full((1, 1), 0.5), np.array([10.0]))
    beyond, at_end = (bin_shares(curves, survival([time], [event])) for time, event in ((30, 1), (10, 0)))
    np.testing.assert_array_equal(beyond, at_end)
    np.testing.assert_allclose(beyond[0], [0.2] * 5 + [0] * 5)


def test_a_competing_event_is_shared_out_as_a_censoring(survival):
    outcomes = survival([5], [0])
    curves = SurvivalCurves(np.full((1, 1), 0.5), np.array([10.0]))
    rivalled = replace(outcomes, competing=np.array([True]))
    np.testing.assert_array_equal(bin_shares(curves, rivalled), bin_shares(curves, outcomes))
    assert "competing events shared out" in d_calibration(curves, rivalled).estimator


def test_survival_of_nothing_or_all_falls_into_the_outer_bins(survival):
    curves = SurvivalCurves(np.array([[0.0], [0.0], [1.0]]), np.array([10.0]))
    shares = bin_shares(curves, survival([10, 10, 10], [1, 0, 1]))
    assert shares[:, 0].tolist() == [1, 1, 0]
    assert shares[2, 9] == 1


def in_repeats(outcomes, survival):
    """A prediction of the same patients in each repeat; ``survival`` has shape (repeats, n, times)."""
    repeats, n, _ = survival.shape
    patients = tuple(outcomes.patients) * repeats
    repeat = np.repeat(np.arange(repeats), n)
    rows = survival.reshape(repeats * n, -1)
    return Prediction("m", "survival", patients, -rows[:, 0], None, repeat, survival=rows, times=TIMES)


def knowing_parts(survival, seed, n=60):
    """Times whose rate depends on two traits; repeats that know one of them, the other, and both: all are right."""
    rng = np.random.default_rng(seed)
    first, second = rng.choice([-1.0, 1.0], (2, n))
    latent = rng.exponential(np.exp(-first - second))
    outcomes = survival(np.minimum(latent, 7.9) + 1e-9, latent < 7.9)

    def curves(log_rate):
        return np.exp(-np.outer(np.exp(log_rate), TIMES))

    either = [(curves(trait - 1) + curves(trait + 1)) / 2 for trait in (first, second)]
    return outcomes, np.stack([*either, curves(first + second)])


def test_over_repeats_it_is_twice_the_median_p_and_of_one_the_p_itself(survival):
    outcomes, curves = knowing_parts(survival, 0)
    each = [d_calibration(SurvivalCurves(of_repeat, TIMES), outcomes).value(60) for of_repeat in curves]
    found = evaluate(in_repeats(outcomes, curves), outcomes, resamples=10).metric("d_calibration")
    assert found.value == pytest.approx(min(1.0, 2 * np.median(each)), rel=1e-12)
    assert found.estimator.endswith("shared out; twice the median of 3 repeats; no interval")
    alone = evaluate(in_repeats(outcomes, curves[:1]), outcomes, resamples=10).metric("d_calibration")
    assert alone.value == pytest.approx(each[0], rel=1e-12)


def test_over_repeats_a_right_model_is_called_wrong_no_more_often_than_it_should(survival):
    """400 cohorts: repeats that differ, and repeats that all say the same."""
    wrong = {"different": 0, "same": 0}
    for seed in range(400):
        outcomes, curves = knowing_parts(survival, seed)
        p = [d_calibration(SurvivalCurves(of_repeat, TIMES), outcomes).value(60) for of_repeat in curves]
        wrong["different"] += min(1.0, 2 * np.median(p)) < 0.05
        wrong["same"] += 2 * p[2] < 0.05
    assert max(wrong.values()) <= 0.05 * 400 + 3 * np.sqrt(0.05 * 0.95 * 400)
    outcomes, curves = knowing_parts(survival, 1, 200)
    assert evaluate(in_repeats(outcomes, curves**2), outcomes, resamples=10).metric("d_calibration").value < 0.01
