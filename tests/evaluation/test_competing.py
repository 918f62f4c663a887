"""Competing risks: by hand, against Kaplan–Meier, and against scikit-survival on resampled tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sksurv.metrics import concordance_index_censored
from sksurv.nonparametric import cumulative_incidence_competing_risks

from twobe3.evaluation import survival as metrics
from twobe3.evaluation.bootstrap import PatientBootstrap
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.kaplan_meier import FollowUp, cumulative_incidence


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
