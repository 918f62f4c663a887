"""Groups of risk and competing risks: against scikit-survival, a published trial, and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sksurv.compare import compare_survival
from sksurv.metrics import concordance_index_censored
from sksurv.nonparametric import cumulative_incidence_competing_risks, kaplan_meier_estimator
from sksurv.util import Surv

from twobe3.evaluation import survival as metrics
from twobe3.evaluation.bootstrap import PatientBootstrap
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.kaplan_meier import (
    FollowUp,
    Split,
    cumulative_incidence,
    kaplan_meier,
    logrank_p,
    risk_groups,
    split_by_risk,
)
from twobe3.evaluation.results import EvaluationResults

# Freireich et al., Blood 21 (1963) 699: weeks of remission under 6-mercaptopurine (with its censorings) and placebo.
MERCAPTOPURINE = (
    [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35],
    [1] * 9 + [0] * 12,
)
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def split(high):
    return Split(np.asarray(high, dtype=bool), "chosen by hand")


@pytest.fixture
def trial(survival):
    """The trial, patients on placebo being those of high risk."""
    outcomes = survival(MERCAPTOPURINE[0] + PLACEBO, MERCAPTOPURINE[1] + [1] * 21)
    return outcomes, split(np.repeat([False, True], 21))


@pytest.mark.parametrize("ties", [False, True], ids=["untied", "tied"])
def test_kaplan_meier_equals_scikit_survival(survival, ties):
    rng = np.random.default_rng(4)
    time, event, high = rng.exponential(30, 80) + 0.5, rng.random(80) < 0.6, rng.random(80) < 0.5
    time = np.ceil(time / 4) if ties else time
    for curve, group in zip(kaplan_meier(split(high), survival(time, event)), (~high, high), strict=True):
        times, share, limits = kaplan_meier_estimator(event[group], time[group], conf_type="log-log")
        steps = np.searchsorted(curve.x, times, side="right") - 1
        np.testing.assert_allclose(curve.y[steps], share, atol=1e-12)
        inside = (share > 0) & (share < 1)
        np.testing.assert_allclose(curve.low[steps][inside], limits[0][inside], atol=1e-12)
        np.testing.assert_allclose(curve.high[steps][inside], limits[1][inside], atol=1e-12)


def test_a_group_without_events_stays_at_one(survival):
    low, _ = kaplan_meier(split([0, 0, 1, 1]), survival([1, 2, 3, 4], [0, 0, 1, 1]))
    np.testing.assert_array_equal(low.y, 1.0)


def test_kaplan_meier_of_the_mercaptopurine_trial(trial):
    # Cox & Oakes, Analysis of Survival Data, 1984, table 4.2; log-rank χ² 16.79.
    outcomes, placebo = trial
    low, high = kaplan_meier(placebo, outcomes)
    published = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    assert dict(zip(low.x[1:-1].tolist(), low.y[1:-1].round(3).tolist(), strict=True)) == published
    assert (low.x[-1], low.y[-1].round(3)) == (35, 0.448)
    assert high.y[-1] == 0
    chi_squared, p = compare_survival(Surv.from_arrays(outcomes.event, outcomes.value), placebo.high)
    assert chi_squared == pytest.approx(16.79, abs=0.005)
    assert logrank_p(outcomes, placebo.high) == pytest.approx(p, rel=1e-6)
    assert f"log-rank p = {p:.3g}" in low.label
    assert "low risk (chosen by hand), 21 patients, 9 events" in low.label


def test_numbers_at_risk_of_the_mercaptopurine_trial(trial):
    """Counted in the published table: who is neither in relapse nor censored before the time."""
    outcomes, placebo = trial
    table = risk_groups(placebo, outcomes)
    assert table.times == (0, 6, 12, 18, 24, 30)
    assert [(group.name, group.n, group.events) for group in table.groups] == [("low", 21, 9), ("high", 21, 21)]
    assert [group.at_risk for group in table.groups] == [(21, 21, 12, 9, 5, 4), (21, 12, 6, 2, 0, 0)]
    assert table.p == logrank_p(outcomes, placebo.high)


@pytest.mark.parametrize(
    ("latest", "unit", "expected"),
    [
        (2738.0, "day", (0, 500, 1000, 1500, 2000, 2500)),
        (59.0, "month", (0, 12, 24, 36, 48)),
        (0.7, "year", (0, 0.2, 0.4, 0.6)),
        (5.0, "year", (0, 1, 2, 3, 4, 5)),
    ],
)
def test_the_times_are_round_and_at_most_six(survival, latest, unit, expected):
    outcomes = survival([latest / 2, latest], [1, 0])
    outcomes = replace(outcomes, endpoint=replace(outcomes.endpoint, unit=unit))
    assert risk_groups(split([0, 1]), outcomes).times == pytest.approx(expected)


def test_each_patient_is_grouped_by_the_cut_off_of_its_own_fold():
    risk = np.array([[1.0, 2.0, 30.0, 40.0]])
    found = split_by_risk(risk, np.ones((1, 4), bool), np.array([[1.5, 1.5, 35.0, 35.0]]))
    np.testing.assert_array_equal(found.high, [False, True, False, True])
    assert found.cutoff == "cut-off of the training patients of each fold"


def test_the_group_of_half_of_the_repeats_counts():
    risk = np.array([[1.0, 1, 0, 9], [1, 0, 0, 9], [0, 0, 0, 9]])
    present = np.ones((3, 4), bool)
    present[2, 1] = False
    found = split_by_risk(risk, present, np.full((3, 4), 0.5))
    np.testing.assert_array_equal(found.high, [True, True, False, True])
    assert found.cutoff.endswith("in at least half of 3 repeats")


def test_without_cut_offs_the_median_is_taken_and_said_to_be_chosen_afterwards():
    found = split_by_risk(np.array([[1.0, 2, 3, 4], [3, 2, 3, 4]]), np.ones((2, 4), bool))
    np.testing.assert_array_equal(found.high, [False, False, True, True])
    assert found.cutoff == "2.5, median of the out-of-fold risks, which these patients chose"


def test_a_given_cut_off_takes_precedence():
    found = split_by_risk(np.array([[0.0, 1, 2]]), np.ones((1, 3), bool), np.zeros((1, 3)), given=1.5)
    np.testing.assert_array_equal(found.high, [False, False, True])
    assert found.cutoff == "1.5, given cut-off"


def test_an_evaluation_carries_the_groups_into_its_document(survival, predict):
    rng = np.random.default_rng(0)
    outcomes = survival(np.ceil(rng.exponential(30, 40)), rng.random(40) < 0.7)
    prediction = replace(predict(rng.normal(size=(2, 40))), cutoff=np.repeat([-9.0, 9.0], 40))
    evaluation = evaluate(prediction, outcomes, resamples=20)
    assert "training patients" in evaluation.risk_groups.cutoff
    (group,) = evaluation.risk_groups.groups  # above in one of two repeats: everybody is of high risk
    document = EvaluationResults((evaluation,)).to_json()["models"][0]["risk_groups"]
    assert document["groups"] == [{"name": "high", "n": 40, "events": group.events, "at_risk": list(group.at_risk)}]
    assert document["p"] is None
    assert [curve.name for curve in evaluation.curves if curve.name.startswith("kaplan")] == ["kaplan_meier_high"]


@pytest.mark.parametrize(
    ("time", "event", "group"),
    [
        ([1, 2, 3, 4], [1, 1, 1, 0], [0, 0, 0, 0]),
        ([1, 2, 3, 4], [0, 0, 0, 0], [0, 1, 0, 1]),
        ([1, 2, 3, 4], [0, 0, 1, 1], [0, 0, 1, 1]),
        ([2, 2, 2, 2], [1, 1, 1, 1], [0, 1, 0, 1]),
    ],
    ids=["one group", "no event", "no overlap", "all die at once"],
)
def test_log_rank_is_not_estimable(survival, time, event, group):
    outcomes = survival(time, event)
    assert logrank_p(outcomes, np.array(group, dtype=bool)) is None
    assert kaplan_meier(split(group), outcomes)[0].label.endswith("not estimable")


@pytest.fixture
def rivalled(survival):
    rng = np.random.default_rng(7)
    time, status = np.ceil(rng.exponential(12, 50)), rng.choice([0, 1, 2], 50, p=[0.3, 0.4, 0.3])
    status[time == time.max()] = 0  # an event of all who are left has no variance
    return replace(survival(time, status == 1), competing=status == 2), np.round(rng.normal(size=50), 1)


def test_four_patients_by_hand(survival):
    # At 1 the event: 1/4. At 2 the competing one: S(1) · 1/3 = 1/4. At 3 a censoring. At 4 the event: S(3) · 1/1 = 1/2.
    outcomes = replace(survival([1, 2, 3, 4], [1, 0, 0, 1]), competing=np.array([False, True, False, False]))
    event, competing = cumulative_incidence(outcomes)
    np.testing.assert_array_equal(event.x, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(event.y, [0, 0.25, 0.25, 0.25, 0.75])
    np.testing.assert_allclose(competing.y, [0, 0, 0.25, 0.25, 0.25])
    assert np.isnan([event.low[0], event.low[-1], event.high[-1]]).all()  # nobody is left at the end
    assert (event.name, competing.name) == ("cumulative_incidence_event", "cumulative_incidence_competing")
    assert "4 patients, 2 events" in event.label


def test_curves_and_limits_equal_scikit_survival(rivalled):
    outcomes, _ = rivalled
    status = np.where(outcomes.event, 1, np.where(outcomes.competing, 2, 0))
    x, y, limits = cumulative_incidence_competing_risks(
        status, outcomes.value, conf_type="log-log", var_type="Dinse_Approx"
    )
    for cause, curve in enumerate(cumulative_incidence(outcomes), start=1):
        at = np.searchsorted(curve.x, x)
        np.testing.assert_allclose(curve.y[at], y[cause], atol=1e-12)
        drawn = np.isfinite(curve.low[at])
        assert drawn.sum() > len(x) / 2
        np.testing.assert_allclose(curve.low[at][drawn], limits[cause, 0][drawn], atol=1e-12)
        np.testing.assert_allclose(curve.high[at][drawn], limits[cause, 1][drawn], atol=1e-12)


def test_event_and_competing_event_and_neither_share_out_all_patients(rivalled):
    outcomes, _ = rivalled
    event, competing = cumulative_incidence(outcomes)
    either = replace(outcomes, event=outcomes.event | outcomes.competing, competing=np.zeros(50, dtype=bool))
    free = 1 - FollowUp(either, competing_censors=False).incidence(np.ones((1, 50)))[0]
    np.testing.assert_allclose(event.y[1:] + competing.y[1:] + free, 1.0, atol=1e-12)


def test_every_sample_equals_the_resampled_table(rivalled):
    outcomes, risk = rivalled
    counts = PatientBootstrap.draw(outcomes.event, resamples=25, seed=1).counts
    follow_up = FollowUp(outcomes, competing_censors=False)
    incidence = follow_up.at(follow_up.incidence(counts), 10.0, 0.0)
    concordance = metrics.cause_specific_c(risk, outcomes).compute(counts)
    status = np.where(outcomes.event, 1, np.where(outcomes.competing, 2, 0))
    for row, f, c in zip(counts.astype(int), incidence, concordance, strict=True):
        rows = np.repeat(np.arange(50), row)
        x, y = cumulative_incidence_competing_risks(status[rows], outcomes.value[rows])
        assert f == pytest.approx(y[1][x <= 10][-1], abs=1e-12)
        # Wolbers 2009: who has the competing event never has this one.
        never = np.where(outcomes.competing, 1e6, outcomes.value)[rows]
        assert c == pytest.approx(concordance_index_censored(outcomes.event[rows], never, risk[rows])[0], abs=1e-12)


def test_a_death_without_relapse_stays_comparable(survival):
    outcomes = replace(survival([2, 1], [1, 0]), competing=np.array([False, True]))
    assert metrics.cause_specific_c(np.array([2.0, 1.0]), outcomes).value(2) == 1
    assert np.isnan(metrics.harrell_c(np.array([2.0, 1.0]), outcomes).value(2))


def test_the_rows_and_curves_appear_with_competing_events_only(rivalled, predict):
    outcomes, risk = rivalled
    found = evaluate(predict(risk), outcomes, resamples=30)
    assert "a competing event counts as a censoring" in found.metric("harrell_c").estimator
    assert "Wolbers" in found.metric("cause_specific_c").estimator
    names = [curve.name for curve in found.curves]
    assert {f"cumulative_incidence_{part}" for part in ("event", "competing", "low", "high")} <= set(names)
    alone = evaluate(predict(risk), replace(outcomes, competing=np.zeros(50, dtype=bool)), resamples=30)
    assert "competing" not in alone.metric("harrell_c").estimator
    assert all("incidence" not in curve.name for curve in alone.curves)
    with pytest.raises(KeyError):
        alone.metric("cause_specific_c")


def test_groups_have_their_own_curves(rivalled, predict):
    outcomes, risk = rivalled
    found = evaluate(predict(risk), outcomes, risk_cutoff=0.0, resamples=10)
    status = np.where(outcomes.event, 1, np.where(outcomes.competing, 2, 0))
    for name, members in (("low", risk <= 0), ("high", risk > 0)):
        curve = next(curve for curve in found.curves if curve.name == f"cumulative_incidence_{name}")
        x, y = cumulative_incidence_competing_risks(status[members], outcomes.value[members])
        np.testing.assert_allclose(curve.y[np.searchsorted(curve.x, x)], y[1], atol=1e-12)
