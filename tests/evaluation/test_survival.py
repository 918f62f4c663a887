"""Concordance against scikit-survival, curves against statsmodels and a published table."""

from __future__ import annotations

import numpy as np
import pytest
from sksurv.compare import compare_survival
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw
from sksurv.nonparametric import CensoringDistributionEstimator, kaplan_meier_estimator
from sksurv.util import Surv

from twobe3.evaluation import survival as metrics
from twobe3.evaluation.intervals import PatientBootstrap

# Freireich et al., Blood 21 (1963) 699: weeks of remission under 6-mercaptopurine (with its censorings) and placebo.
MERCAPTOPURINE = (
    [6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35],
    [1] * 9 + [0] * 12,
)
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def simulate(n, *, seed, ties, last_censored=False):
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    latent, censoring = rng.exponential(30 * np.exp(-risk)), rng.uniform(5, 80, n)
    time, event = np.minimum(latent, censoring) + 0.5, latent <= censoring
    if ties:
        time, risk = np.ceil(time / 4), np.round(risk, 1)
    if last_censored:
        event &= time < np.quantile(time, 0.6)
    return time, event, risk


CASES = {
    "untied": simulate(60, seed=0, ties=False),
    "tied": simulate(60, seed=1, ties=True),
    "n=20": simulate(20, seed=2, ties=True),
    "n=300": simulate(300, seed=3, ties=True),
    "all censored after a time": simulate(60, seed=4, ties=True, last_censored=True),
    "one event": (np.arange(1.0, 21.0), np.arange(20) == 4, np.round(np.sin(np.arange(20)), 1)),
}


@pytest.fixture(params=CASES, ids=str)
def case(request, survival):
    time, event, risk = CASES[request.param]
    return survival(time, event), risk


def test_harrell_equals_scikit_survival(case):
    outcomes, risk = case
    expected = concordance_index_censored(outcomes.event, outcomes.value, risk)[0]
    assert metrics.harrell_c(risk, outcomes).value(len(risk)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("quantile", [None, 0.5, 0.8])
def test_uno_equals_scikit_survival(case, quantile):
    outcomes, risk = case
    tau = metrics.truncation_time(outcomes) if quantile is None else float(np.quantile(outcomes.value, quantile))
    truth = Surv.from_arrays(outcomes.event, outcomes.value)
    expected = concordance_index_ipcw(truth, truth, risk, tau=tau)[0]
    given = None if quantile is None else tau
    assert metrics.uno_c(risk, outcomes, given).value(len(risk)) == pytest.approx(expected, abs=1e-12)


def test_counted_samples_equal_scikit_survival_on_the_resampled_table(case):
    outcomes, risk = case
    counts = PatientBootstrap.draw(outcomes.event, resamples=30, seed=1).counts
    tau = float(np.quantile(outcomes.value, 0.7))
    harrell = metrics.harrell_c(risk, outcomes).compute(counts)
    uno = metrics.uno_c(risk, outcomes, tau).compute(counts)
    for row, h, u in zip(counts.astype(int), harrell, uno, strict=True):
        rows = np.repeat(np.arange(len(risk)), row)
        event, time = outcomes.event[rows], outcomes.value[rows]
        assert h == pytest.approx(concordance_index_censored(event, time, risk[rows])[0], abs=1e-12)
        truth = Surv.from_arrays(event, time)
        try:
            expected = concordance_index_ipcw(truth, truth, risk[rows], tau=tau)[0]
        except ValueError:  # it finds a censoring survival of zero, for which there is no weight
            expected = np.nan
        assert u == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_harrell_by_hand(survival):
    # Pairs: (1, all later three) and, tied at 2, the event against the censored one and against the last.
    outcomes = survival([1, 2, 2, 3], [1, 1, 0, 0])
    assert metrics.harrell_c(np.array([4.0, 3.0, 2.0, 1.0]), outcomes).value(4) == 1.0
    assert metrics.harrell_c(np.array([1.0, 3.0, 3.0, 1.0]), outcomes).value(4) == (0 + 0 + 0.5 + 0.5 + 1) / 5


@pytest.mark.parametrize("metric", [metrics.harrell_c, metrics.uno_c])
@pytest.mark.parametrize(
    ("time", "event"),
    [([1, 2, 3], [0, 0, 0]), ([2, 2, 2], [1, 1, 1]), ([1, 2, 3], [0, 0, 1])],
    ids=["no event", "all events at one time", "the event comes last"],
)
def test_no_comparable_pair_is_not_estimable(survival, metric, time, event):
    assert np.isnan(metric(np.array([1.0, 2.0, 3.0]), survival(time, event)).value(3))


def test_uno_equals_harrell_without_censoring(survival):
    time, _, risk = CASES["tied"]
    outcomes = survival(time, np.ones(len(time)))
    assert metrics.uno_c(risk, outcomes).value(60) == pytest.approx(
        metrics.harrell_c(risk, outcomes).value(60), abs=1e-12
    )


def test_the_truncation_time_bounds_the_weights(case):
    outcomes, _ = case
    tau = metrics.truncation_time(outcomes)
    censoring = CensoringDistributionEstimator().fit(Surv.from_arrays(outcomes.event, outcomes.value))
    before = np.unique(outcomes.value[outcomes.value < tau])
    assert (censoring.predict_proba(before) >= 0.1).all()
    assert tau == outcomes.value.max() or censoring.predict_proba(np.array([tau]))[0] < 0.1


def test_uno_states_its_truncation_time_with_its_unit(survival):
    outcomes = survival([1, 2, 3, 4], [1, 1, 1, 0])
    assert "before 4 months" in metrics.uno_c(np.arange(4.0), outcomes).estimator


def test_kaplan_meier_equals_scikit_survival(case):
    outcomes, risk = case
    for curve, group in zip(metrics.kaplan_meier(risk, outcomes, 0.0), (risk <= 0, risk > 0), strict=True):
        event, time = outcomes.event[group], outcomes.value[group]
        if not event.any():
            np.testing.assert_array_equal(curve.y, 1.0)
            continue
        times, share, limits = kaplan_meier_estimator(event, time, conf_type="log-log")
        steps = np.searchsorted(curve.x, times, side="right") - 1
        np.testing.assert_allclose(curve.y[steps], share, atol=1e-12)
        inside = (share > 0) & (share < 1)
        np.testing.assert_allclose(curve.low[steps][inside], limits[0][inside], atol=1e-12)
        np.testing.assert_allclose(curve.high[steps][inside], limits[1][inside], atol=1e-12)


def test_kaplan_meier_of_the_mercaptopurine_trial(survival):
    # Cox & Oakes, Analysis of Survival Data, 1984, table 4.2; log-rank χ² 16.79.
    outcomes = survival(MERCAPTOPURINE[0] + PLACEBO, MERCAPTOPURINE[1] + [1] * 21)
    placebo = np.repeat([0.0, 1.0], 21)
    low, high = metrics.kaplan_meier(placebo, outcomes, 0.5)
    published = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    assert dict(zip(low.x[1:-1].tolist(), low.y[1:-1].round(3).tolist(), strict=True)) == published
    assert (low.x[-1], low.y[-1].round(3)) == (35, 0.448)
    assert high.y[-1] == 0
    truth = Surv.from_arrays(outcomes.event, outcomes.value)
    chi_squared, p = compare_survival(truth, placebo)
    assert chi_squared == pytest.approx(16.79, abs=0.005)
    assert metrics.logrank_p(outcomes, placebo > 0) == pytest.approx(p, rel=1e-6)
    assert f"log-rank p = {p:.3g}" in low.label
    assert "21 patients, 9 events" in low.label


def test_the_label_says_where_the_cut_off_comes_from(case):
    outcomes, risk = case
    assert all("median of the out-of-fold risks" in curve.label for curve in metrics.kaplan_meier(risk, outcomes))
    assert all("0.25 (given cut-off)" in curve.label for curve in metrics.kaplan_meier(risk, outcomes, 0.25))


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
    assert metrics.logrank_p(outcomes, np.array(group, dtype=bool)) is None
    assert metrics.kaplan_meier(np.array(group, dtype=float), outcomes, 0.5)[0].label.endswith("not estimable")
