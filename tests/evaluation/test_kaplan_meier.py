"""Groups of risk: curves against scikit-survival and a published trial, cut-offs fold by fold, numbers at risk."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sksurv.compare import compare_survival
from sksurv.nonparametric import kaplan_meier_estimator
from sksurv.util import Surv

from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.kaplan_meier import Split, kaplan_meier, logrank_p, risk_groups, split_by_risk
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
