"""Recalibration against statsmodels, the curve against counting; D-calibration by hand, true models, false models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit
from scipy.stats import binom, chisquare, kstest
from sksurv.nonparametric import kaplan_meier_estimator

from twobe3.core.prediction import Prediction
from twobe3.evaluation import calibration as metrics
from twobe3.evaluation.bootstrap import PatientBootstrap
from twobe3.evaluation.calibration import bin_shares, d_calibration, rounding_of_times
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.horizons import SurvivalCurves


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


def _beside(event, probability):
    return sm.Logit(event, sm.add_constant(logit(probability))).fit(disp=0).params[0]


def _ratio(event, probability):
    return event.mean() / probability.mean()


@pytest.mark.parametrize(
    ("metric", "oracle"),
    [
        (metrics.calibration_slope, _slope),
        (metrics.recalibration_intercept, _beside),
        (metrics.calibration_intercept, _intercept),
        (metrics.observed_expected, _ratio),
    ],
)
def test_equals_statsmodels_on_the_cohort_and_on_every_sample(cohort, metric, oracle):
    outcomes, probability = cohort
    counts = np.vstack([np.ones(80), PatientBootstrap.draw(outcomes.event, stratified=False, resamples=20).counts])
    for row, found in zip(counts.astype(int), metric(probability, outcomes).compute(counts), strict=True):
        rows = np.repeat(np.arange(80), row)
        assert found == pytest.approx(oracle(outcomes.event[rows].astype(float), probability[rows]), abs=1e-6)


REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "calibration.json").read_text())


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=lambda case: case["name"])
def test_slope_and_both_intercepts_equal_r(binary, case):
    """Of rms 6.5.0, ``val.prob``, and of ``glm`` with an offset: ``tests/reference/calibration.R``."""
    probability, outcomes = np.array(case["probability"]), binary(case["event"])
    for name in ("calibration_slope", "recalibration_intercept", "calibration_intercept", "observed_expected"):
        found = getattr(metrics, name)(probability, outcomes).value(len(probability))
        assert found == pytest.approx(case[name], rel=1e-6), name


def test_each_intercept_says_which_it_is(cohort, predict):
    outcomes, probability = cohort
    found = evaluate(predict(probability, probability=probability), outcomes, resamples=10)
    assert "with slope 1" in found.metric("calibration_intercept").estimator
    assert "beside its slope" in found.metric("recalibration_intercept").estimator


def test_a_recalibrated_probability_is_calibrated(cohort):
    outcomes, probability = cohort
    fit = sm.Logit(outcomes.event.astype(float), sm.add_constant(logit(probability))).fit(disp=0)
    mended = fit.predict()
    assert metrics.calibration_slope(mended, outcomes).value(80) == pytest.approx(1, abs=1e-6)
    assert metrics.calibration_intercept(mended, outcomes).value(80) == pytest.approx(0, abs=1e-6)
    assert metrics.recalibration_intercept(mended, outcomes).value(80) == pytest.approx(0, abs=1e-6)
    assert metrics.observed_expected(mended, outcomes).value(80) == pytest.approx(1, abs=1e-6)


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
    for metric in (metrics.calibration_slope, metrics.recalibration_intercept):
        assert np.isnan(metric(np.array(probability), binary(event)).value(6))


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


# Whole years and months: the latent time is continuous, the survival is right, what is recorded is rounded up.


def record(survival, n, seed, step, *, lost=0.15, decimals=9, wrong=1.0):
    """Exponential times in years, rounded up to a step; nobody is censored before the end of the step."""
    rng = np.random.default_rng(seed)
    rate, grid = 0.25 * np.exp(rng.normal(0, 0.7, n)), np.arange(step, 12 + step / 2, step)
    onset = np.ceil(rng.exponential(1 / rate) / step)
    left = np.minimum(np.ceil(rng.exponential(1 / lost, n) / step), round(8 / step))
    time = np.round(np.minimum(onset, left) * step, decimals)
    return SurvivalCurves(np.exp(-wrong * np.outer(rate, grid)), grid), survival(time, onset <= left)


@pytest.mark.parametrize(
    ("step", "decimals"),
    [(1, 0), (0.5, 1), (0.25, 2), (1 / 12, 9), (1 / 12, 2)],
    ids=["years", "half years", "quarters", "months", "months as years to 2 decimals"],
)
def test_at_coarse_times_a_right_model_is_called_wrong_no_more_often_than_it_should(survival, step, decimals):
    p = [d_calibration(*record(survival, 300, seed, step, decimals=decimals)).value(300) for seed in range(100)]
    assert np.mean(np.array(p) < 0.05) <= binom.ppf(0.999, 100, 0.05) / 100
    wrong = [d_calibration(*record(survival, 300, seed, step, wrong=1.6)).value(300) for seed in range(20)]
    assert np.mean(np.array(wrong) < 0.05) > 0.8


def test_the_true_curve_of_all_in_whole_years_is_not_called_wrong(survival):
    """At the survival of the recorded year alone it would be: p = 2·10⁻⁹¹."""
    rng = np.random.default_rng(1)
    known, left = rng.geometric(0.2, 1500), np.minimum(rng.geometric(0.15, 1500), 8)
    outcomes, years = survival(np.minimum(known, left), known <= left), np.arange(1.0, 7.0)
    right, wrong = (SurvivalCurves(np.tile(leaves**years, (1500, 1)), years) for leaves in (0.8, 0.76))
    assert d_calibration(right, outcomes).value(1500) > 0.05
    assert d_calibration(wrong, outcomes).value(1500) < 1e-3
    assert "859 of 882 events, at coarse times" in d_calibration(right, outcomes).estimator
    assert "the step before them (1, in months)" in d_calibration(right, outcomes).estimator


def test_an_event_at_a_coarse_time_is_the_mean_of_random_times_within_its_step(survival):
    """Czado et al. 2009: the histogram of S(T) + V (S(T − 1) − S(T)), its mean over V, uniform between 0 and 1."""
    curves, outcomes = record(survival, 50, 3, 1)
    drawn = (np.arange(20_000) + 0.5) / 20_000
    shares = bin_shares(curves, outcomes)
    assert np.count_nonzero(rounding_of_times(outcomes)) > 20
    for i in np.flatnonzero(rounding_of_times(outcomes)):
        low, high = (float(curves.at_own(outcomes.value - step)[i]) for step in (0, 1))
        histogram, _ = np.histogram(low + drawn * (high - low), bins=10, range=(0, 1))
        np.testing.assert_allclose(shares[i], histogram / 20_000, atol=2e-4)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)


@pytest.mark.parametrize(
    ("time", "steps"),
    [
        ([1, 1, 2, 2, 3, 3, 5, 5], [1] * 8),
        ([7, 7, 14, 14, 14, 21, 21, 30], [7] * 7 + [0]),
        ([3.1, 4.7, 2.2, 8.05], [0] * 4),
        ([4, 4, 4], [0] * 3),
        ([1] * 40 + [2] * 30 + [2.5] * 3 + [3] * 20, [1] * 70 + [0] * 3 + [1] * 20),
        ([0.08, 0.08, 0.17, 0.17, 0.25, 0.25], [0.08] * 6),
    ],
    ids=["years", "weeks in days and a day", "exact", "all at once", "a few between whole years", "months as years"],
)
def test_which_times_are_coarse_and_their_step(survival, time, steps):
    np.testing.assert_allclose(rounding_of_times(survival(time, np.ones(len(time)))), steps)
    censored_too = survival([*time, 0.5, 0.5, 0.25, 0.25], [*np.ones(len(time)), 0, 0, 0, 0])
    np.testing.assert_allclose(rounding_of_times(censored_too), [*steps, 0, 0, 0, 0])


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
