"""Metrics at horizons: against Kaplan–Meier, the definition, the whole truth, and every bootstrap sample.

``test_oracles.py`` compares them with R's.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.duration.survfunc import SurvfuncRight

from twobe3.core.codes import Code
from twobe3.core.endpoints import TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.evaluation import horizons as metrics
from twobe3.evaluation.bootstrap import PatientBootstrap
from twobe3.evaluation.compare import compare
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.horizons import SurvivalCurves
from twobe3.evaluation.kaplan_meier import SharedFollowUp

TIMES = np.array([5.0, 10.0, 20.0, 40.0])
HORIZONS = np.array([6.0, 11.0, 18.0])


@pytest.fixture
def case(survival):
    """60 patients with ties, their risk and their predicted survival."""
    rng = np.random.default_rng(3)
    risk = np.round(rng.normal(size=60), 1)
    latent, censoring = rng.exponential(20 * np.exp(-risk)), rng.uniform(5, 60, 60)
    outcomes = survival(np.ceil(np.minimum(latent, censoring)), latent <= censoring)
    return outcomes, risk, np.exp(-np.outer(np.exp(risk), TIMES / 25))


@pytest.fixture
def rivalled(case):
    """The same, where a third of those without the event had a competing one."""
    outcomes, risk, predicted = case
    competing = ~outcomes.event & (np.random.default_rng(4).random(60) < 0.5)
    return replace(outcomes, competing=competing), risk, predicted


def test_every_sample_equals_the_resampled_table(case):
    outcomes, risk, predicted = case
    counts = PatientBootstrap.draw(outcomes.event, resamples=15, seed=1).counts
    grid = np.linspace(4.0, 20.0, 9)

    def statistics(rows):
        follow_up, curves = SharedFollowUp(outcomes.subset(rows)), SurvivalCurves(predicted[rows], TIMES)
        yield metrics.mean_cumulative_auc(risk[rows], follow_up, HORIZONS)
        yield metrics.integrated_brier(curves, follow_up, grid)
        for horizon in HORIZONS:
            yield metrics.cumulative_auc(risk[rows], follow_up, horizon)
            yield metrics.brier_at(curves, follow_up, horizon)
            yield metrics.observed_expected(curves, follow_up, horizon)

    found = [statistic.compute(counts) for statistic in statistics(np.arange(60))]
    for s, row in enumerate(counts.astype(int)):
        alone = [statistic.value(60) for statistic in statistics(np.repeat(np.arange(60), row))]
        assert [values[s] for values in found] == pytest.approx(alone, abs=1e-12)


def test_the_observed_probability_is_the_kaplan_meier_estimate(case):
    outcomes, _, predicted = case
    follow_up, curves = SharedFollowUp(outcomes), SurvivalCurves(predicted, TIMES)
    free = SurvfuncRight(outcomes.value, outcomes.event.astype(int))
    for horizon, own in zip(HORIZONS, curves.at(HORIZONS).T, strict=True):
        observed = 1 - free.surv_prob[free.surv_times <= horizon][-1]
        found = metrics.observed_expected(curves, follow_up, horizon).value(60)
        assert found == pytest.approx(observed / (1 - own).mean(), abs=1e-12)


def incidence(time, status, horizon):
    """Aalen–Johansen in fractions, 1 − Kaplan–Meier where no event competes."""
    free, found = Fraction(1), Fraction(0)
    for t in np.unique(time[time <= horizon]):
        at_risk = int((time >= t).sum())
        found += free * Fraction(int(((time == t) & (status == 1)).sum()), at_risk)
        free *= 1 - Fraction(int(((time == t) & (status > 0)).sum()), at_risk)
    return float(found)


FOLLOW_UPS = st.lists(
    st.tuples(st.sampled_from([0.5, 1.0, 2.0, 3.0, 4.0, 5.0]), st.sampled_from([0, 1, 2])), min_size=3, max_size=40
)


@given(FOLLOW_UPS, st.booleans(), st.integers(0, 99), st.sampled_from([0.25, 1.0, 2.5, 3.0, 4.0]))
def test_brier_of_survival_1_is_the_observed_incidence_whatever_is_tied(pairs, competing, seed, horizon):
    """Acceptance row 67: weights 1/G(T−) of the events by t sum to n F(t), and 1/G(t) of the others to n (1 − F(t))."""
    time, status = np.array(pairs).T
    status = status if competing else np.minimum(status, 1)
    n, follow_up = len(time), SharedFollowUp(TimeToEvent.from_arrays(time, status))
    counts = np.vstack([np.ones(n), PatientBootstrap.draw(status == 1, resamples=5, seed=seed).counts])
    alive, dead, coin = (
        metrics.brier_at(SurvivalCurves(np.full((n, 2), s), np.array([0.0, 9.0])), follow_up, horizon).compute(counts)
        for s in (1.0, 0.0, 0.5)
    )
    for i, row in enumerate(counts.astype(int)):
        t, ended = np.repeat(time, row), np.repeat(status, row)
        if t.max() <= horizon and (ended[t == t.max()] == 0).any():
            assert np.isnan([alive[i], dead[i]]).all()  # the last ones were censored by then
            continue
        observed = incidence(t, ended, horizon)
        assert (alive[i], dead[i], coin[i]) == pytest.approx((observed, 1 - observed, 0.25), abs=1e-12)


@pytest.mark.parametrize(
    ("leaves", "lost", "horizon"), [(0.2, 0.15, 3), (0.2, 0.3, 3), (0.05, 0.03, 6)], ids=["years", "lossy", "months"]
)
def test_in_whole_years_it_is_what_all_outcomes_would_give(survival, leaves, lost, horizon):
    """Brier score and AUC of 20,000 patients, and of the same patients as far as they were followed."""
    rng = np.random.default_rng(1)
    n, at = 20_000, np.arange(1.0, horizon + 1)
    risk = np.round(rng.normal(scale=0.5, size=n), 1)
    leave = leaves * np.exp(risk) / (1 - leaves + leaves * np.exp(risk))
    known, censored = rng.geometric(leave), np.minimum(rng.geometric(lost, n), 8)
    curves = SurvivalCurves((1 - leave[:, None]) ** at, at)
    everything, seen = (
        SharedFollowUp(survival(np.minimum(known, until), known <= until)) for until in (np.full(n, 999), censored)
    )
    brier, truth = (metrics.brier_at(curves, one, float(horizon)).value(n) for one in (seen, everything))
    assert brier == pytest.approx(truth, abs=0.005)
    area, truth = (metrics.cumulative_auc(risk, one, float(horizon)).value(n) for one in (seen, everything))
    assert area == pytest.approx(truth, abs=0.01)


def _not_censored_before(outcomes, at):
    """Kaplan–Meier of the censorings before a time, the event first where both come together."""
    left, ended = 1.0, outcomes.event | outcomes.competing
    for time in np.unique(outcomes.value[~ended & (outcomes.value < at)]):
        here = outcomes.value == time
        left *= 1 - (here & ~ended).sum() / ((outcomes.value >= time).sum() - (here & ended).sum())
    return left


@pytest.mark.parametrize("horizon", HORIZONS)
def test_a_competing_event_is_no_event_and_no_censoring(rivalled, horizon):
    """Blanche et al. 2013 and Graf et al. 1999, patient by patient."""
    outcomes, risk, predicted = rivalled
    follow_up, curves = SharedFollowUp(outcomes), SurvivalCurves(predicted, TIMES)
    time, free = outcomes.value, curves.at(np.array([horizon]))[:, 0]
    cases, controls, score = [], [], 0.0
    for i in range(60):
        known = outcomes.event[i] or outcomes.competing[i]
        if time[i] > horizon or known:
            until = time[i] if time[i] <= horizon else np.nextafter(horizon, np.inf)
            weight = 1 / _not_censored_before(outcomes, until)
            had_it = outcomes.event[i] and time[i] <= horizon
            (cases if had_it else controls).append((weight, risk[i]))
            score += weight * (free[i] - (not had_it)) ** 2 / 60
    won = sum(w * v * (1.0 if a > b else 0.5 if a == b else 0.0) for w, a in cases for v, b in controls)
    every = sum(w * v for w, _ in cases for v, _ in controls)
    assert metrics.cumulative_auc(risk, follow_up, horizon).value(60) == pytest.approx(won / every, abs=1e-12)
    assert metrics.brier_at(curves, follow_up, horizon).value(60) == pytest.approx(score, abs=1e-12)


def test_without_censoring_a_competing_event_lowers_the_observed_probability_to_its_share(rivalled):
    outcomes, _, predicted = rivalled
    complete = outcomes.subset(np.flatnonzero(outcomes.event | outcomes.competing))
    follow_up = SharedFollowUp(complete)
    curves = SurvivalCurves(predicted[: len(complete)], TIMES)
    share = (complete.event & (complete.value <= 11)).mean() / (1 - curves.at(HORIZONS)[:, 1]).mean()
    assert metrics.observed_expected(curves, follow_up, 11.0).value(len(complete)) == pytest.approx(share)


def test_a_perfect_prediction_scores_zero_and_a_coin_a_quarter(survival):
    outcomes = survival([2, 4, 30, 40], [1, 1, 0, 0])
    follow_up = SharedFollowUp(outcomes)
    perfect = SurvivalCurves(np.array([[0.0], [0], [1], [1]]), np.array([10.0]))
    coin = SurvivalCurves(np.full((4, 1), 0.5), np.array([10.0]))
    assert metrics.brier_at(perfect, follow_up, 10.0).value(4) == 0
    assert metrics.brier_at(coin, follow_up, 10.0).value(4) == 0.25


def test_survival_is_linear_between_predicted_times_and_unknown_beyond_them():
    curves = SurvivalCurves(np.array([[0.8, 0.4], [0.6, 0.6]]), np.array([10.0, 20.0]))
    found = curves.at(np.array([0.0, 5.0, 10.0, 15.0, 20.0, 20.5]))
    np.testing.assert_allclose(found, [[1, 0.9, 0.8, 0.6, 0.4, np.nan], [1, 0.8, 0.6, 0.6, 0.6, np.nan]])
    np.testing.assert_allclose(curves.at_own(np.array([15.0, 21.0])), [0.6, np.nan])


def test_what_lies_beyond_the_predicted_times_is_not_estimable(case, predict):
    """Acceptance row 43."""
    outcomes, risk, predicted = case
    prediction = replace(predict(risk), survival=predicted[:, :2], times=TIMES[:2])
    found = evaluate(prediction, outcomes, horizons=[9, 15], resamples=50)
    assert found.metric("brier@9").value is not None
    assert (found.metric("brier@15").value, found.metric("brier@15").low) == (None, None)
    assert found.metric("observed_expected@15").value is None
    assert found.metric("cumulative_auc@15").value is not None  # it looks at the risk alone
    assert "from 1 to 9.889 months" in found.metric("integrated_brier").estimator


@pytest.mark.parametrize(
    ("time", "event"),
    [([1, 2, 3, 4], [0, 0, 0, 0]), ([3, 4, 5, 6], [1, 1, 0, 0]), ([1, 1, 2, 2], [1, 1, 0, 0])],
    ids=["no event", "no event by then", "all censored by then"],
)
def test_without_both_groups_at_the_horizon_it_is_not_estimable(survival, time, event):
    """Acceptance row 42."""
    follow_up = SharedFollowUp(survival(time, event))
    assert np.isnan(metrics.cumulative_auc(np.arange(4.0), follow_up, 2.0).value(4))


def test_after_the_last_censoring_nothing_is_known(survival):
    """Acceptance row 42."""
    follow_up = SharedFollowUp(survival([1, 2, 3, 3], [1, 1, 0, 0]))
    coin = SurvivalCurves(np.full((4, 1), 0.5), np.array([9.0]))
    assert np.isnan(metrics.brier_at(coin, follow_up, 5.0).value(4))
    assert np.isnan(metrics.observed_expected(coin, follow_up, 5.0).value(4))


def test_the_default_horizons_are_the_quartiles_of_the_event_times(survival):
    outcomes = survival([1, 2, 3, 4, 5, 6, 7, 8, 9, 9], [1, 0, 1, 0, 1, 0, 1, 0, 0, 0])
    assert metrics.Horizons.of(outcomes).at.tolist() == [1, 3, 5]
    assert metrics.Horizons.of(outcomes, [8, 2]).at.tolist() == [2, 8]
    nobody = survival([1, 2, 3], [0, 0, 0])
    assert metrics.Horizons.of(nobody).at.tolist() == []


def test_all_models_are_evaluated_at_the_same_horizons(case, predict):
    outcomes, risk, _ = case
    part = predict(risk[:30], model="part")
    names = [[m.name for m in evaluate(p, outcomes, resamples=10).metrics] for p in (predict(risk), part)]
    assert names[0] == names[1]


def test_the_integration_ends_where_a_tenth_is_still_observed(survival):
    outcomes = survival(np.arange(1.0, 41.0), np.arange(40) % 2 == 0)
    grid = metrics.Horizons.of(outcomes).grid
    assert (grid[0], len(grid)) == (1, metrics.GRID_POINTS)
    assert (outcomes.value >= grid[-1]).mean() >= 0.1
    assert metrics.Horizons.of(survival([5.0, 5.0], [1, 0])).grid.tolist() == []


@pytest.mark.parametrize("horizons", [[0.0], [-3], [float("nan")], [float("inf")]])
def test_a_horizon_must_be_a_time(case, predict, horizons):
    outcomes, risk, _ = case
    with pytest.raises(ConfigurationError, match="times above 0") as caught:
        evaluate(predict(risk), outcomes, horizons=horizons)
    assert caught.value.code is Code.HORIZON_INVALID


def test_only_a_time_to_an_event_has_horizons(binary, predict):
    with pytest.raises(ConfigurationError, match="not a time to an event"):
        evaluate(predict(np.arange(4)), binary([0, 1, 0, 1]), horizons=[3])


@pytest.mark.parametrize(
    ("survival_at", "times", "says"),
    [
        ([0.9, 0.95], [1, 2], "rises with time"),
        ([0.9, 1.5], [1, 2], "not between 0 and 1"),
        ([0.9, float("nan")], [1, 2], "not between 0 and 1"),
        ([0.9, 0.8], [2, 1], "must ascend"),
        ([0.9, 0.8], [-1, 1], "must ascend"),
    ],
)
def test_impossible_survival_is_refused(survival, predict, survival_at, times, says):
    outcomes = survival([1, 2, 3], [1, 0, 1])
    values, at = np.tile(np.array(survival_at), (3, 1)), np.array(times, dtype=float)
    with pytest.raises(ConfigurationError, match=says) as caught:
        evaluate(replace(predict(np.arange(3)), survival=values, times=at), outcomes)
    assert caught.value.code is Code.PREDICTION_INVALID


def test_models_are_compared_at_a_horizon_by_name(case, predict):
    outcomes, risk, _ = case
    pair = [predict(risk, model="a"), predict(-risk, model="b")]
    (found,) = compare(pair, outcomes, metric="cumulative_auc@11", resamples=50)
    areas = [evaluate(p, outcomes, horizons=[11], resamples=10).metric("cumulative_auc@11").value for p in pair]
    assert found.difference == pytest.approx(areas[0] - areas[1])


def test_models_are_compared_over_the_horizons_that_they_are_evaluated_at(case, predict):
    outcomes, risk, _ = case
    pair = [predict(risk, model="a"), predict(np.sin(risk), model="b")]
    (found,) = compare(pair, outcomes, metric="cumulative_auc", horizons=[4, 30], resamples=50)
    means = [evaluate(p, outcomes, horizons=[4, 30], resamples=10).metric("cumulative_auc").value for p in pair]
    assert found.difference == pytest.approx(means[0] - means[1])
    assert "the horizons 4, 30 months" in found.estimator


def test_a_horizon_without_events_has_no_weight_in_the_mean(survival):
    follow_up, risk = SharedFollowUp(survival([3, 4, 5, 6], [1, 0, 1, 0])), np.array([4.0, 1.0, 3.0, 2.0])
    alone, both = (metrics.mean_cumulative_auc(risk, follow_up, np.array(at)) for at in ([5.0], [1.0, 5.0]))
    assert np.isnan(metrics.cumulative_auc(risk, follow_up, 1.0).value(4))
    assert both.value(4) == alone.value(4)
    assert both.value(4) == pytest.approx(1)


@pytest.mark.parametrize(
    ("metric", "code"),
    [
        ("brier@11", Code.PREDICTION_INVALID),
        ("cumulative_auc@horizon", Code.UNKNOWN_NAME),
        ("cumulative_auc@-1", Code.UNKNOWN_NAME),
        ("harrell_c@11", Code.UNKNOWN_NAME),
    ],
)
def test_a_metric_that_cannot_be_compared_is_refused(case, predict, metric, code):
    outcomes, risk, _ = case
    with pytest.raises(ConfigurationError) as caught:
        compare([predict(risk, model="a"), predict(-risk, model="b")], outcomes, metric=metric)
    assert caught.value.code is code


def test_a_p_value_is_no_measure_to_compare_models_by(case, predict):
    outcomes, risk, predicted = case
    pair = [replace(predict(risk, model=m), survival=predicted, times=TIMES) for m in "ab"]
    with pytest.raises(ConfigurationError, match="can't be compared by 'd_calibration'"):
        compare(pair, outcomes, metric="d_calibration")


def test_horizons_beyond_all_observation_and_of_other_endpoints_are_refused_beforehand(case, binary):
    outcomes, *_ = case
    last = outcomes.value.max()
    metrics.check_horizons(outcomes, ())
    metrics.check_horizons(outcomes, [1.0, last - 1])
    metrics.check_horizons(binary([0, 1]), ())
    refused = [
        (outcomes, [5.0, last], f"nobody is observed beyond {last:g} months, so it can't be evaluated at {last:g}"),
        (outcomes, [-5.0], "above 0"),
        (binary([0, 1]), [5.0], "not a time to an event"),
    ]
    for what, horizons, says in refused:
        with pytest.raises(ConfigurationError, match=says) as caught:
            metrics.check_horizons(what, horizons)
        assert caught.value.code is Code.HORIZON_INVALID
