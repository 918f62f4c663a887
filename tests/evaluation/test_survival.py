"""Concordance against scikit-survival; Uno's, weighted for censoring, against its definition and the whole truth.

``test_oracles.py`` compares it with R's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sksurv.metrics import concordance_index_censored
from sksurv.nonparametric import CensoringDistributionEstimator
from sksurv.util import Surv

from twobe3.evaluation import survival as metrics
from twobe3.evaluation.bootstrap import PatientBootstrap


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


def not_censored_before(outcomes, at):
    """Kaplan–Meier of the censorings before a time, an event first where both come together."""
    share = 1.0
    for time in np.unique(outcomes.value[~outcomes.event & (outcomes.value < at)]):
        here = outcomes.value == time
        share *= 1 - (here & ~outcomes.event).sum() / ((outcomes.value > time) | (here & ~outcomes.event)).sum()
    return share


@pytest.mark.parametrize("quantile", [None, 0.5, 0.8])
def test_uno_is_its_definition_pair_by_pair(case, quantile):
    outcomes, risk = case
    given = None if quantile is None else float(np.quantile(outcomes.value, quantile))
    tau = metrics.truncation_time(outcomes) if given is None else given
    won = pairs = 0.0
    for i in np.flatnonzero(outcomes.event & (outcomes.value < tau)):
        weight = not_censored_before(outcomes, outcomes.value[i]) ** -2
        for j in range(len(risk)):
            same = outcomes.value[j] == outcomes.value[i] and not outcomes.event[j]
            if outcomes.value[j] > outcomes.value[i] or same:
                pairs += weight
                won += weight * (1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0)
    assert metrics.uno_c(risk, outcomes, given).value(len(risk)) == pytest.approx(won / pairs, abs=1e-12)


def test_uno_in_whole_years_is_harrells_of_patients_who_all_stay(survival):
    """Most are lost in the first year, in which the risk matters most: Harrell's C is far off, Uno's is not."""
    rng = np.random.default_rng(1)
    n = 4000
    risk, onset, lost = rng.normal(size=n), np.full(n, 7.0), np.full(n, 8.0)
    for year in range(6, 0, -1):
        onset[rng.random(n) < 1 / (1 + np.exp(1.6 - (1.6 if year == 1 else 0.2) * risk))] = year
        lost[rng.random(n) < (0.45 if year == 1 else 0.05)] = year
    seen = survival(np.minimum(onset, lost), (onset <= lost) & (onset < 7))
    truth = concordance_index_censored(onset < 7, onset, risk)[0]
    assert metrics.uno_c(risk, seen).value(n) == pytest.approx(truth, abs=0.01)
    assert abs(metrics.harrell_c(risk, seen).value(n) - truth) > 0.03


def test_counted_samples_equal_the_resampled_table(case):
    outcomes, risk = case
    counts = PatientBootstrap.draw(outcomes.event, resamples=30, seed=1).counts
    tau = float(np.quantile(outcomes.value, 0.7))
    harrell = metrics.harrell_c(risk, outcomes).compute(counts)
    uno = metrics.uno_c(risk, outcomes, tau).compute(counts)
    for row, h, u in zip(counts.astype(int), harrell, uno, strict=True):
        rows = np.repeat(np.arange(len(risk)), row)
        sample = outcomes.subset(rows)
        assert h == pytest.approx(concordance_index_censored(sample.event, sample.value, risk[rows])[0], abs=1e-12)
        assert u == pytest.approx(metrics.uno_c(risk[rows], sample, tau).value(len(rows)), abs=1e-12, nan_ok=True)


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


def test_pairs_within_folds_equal_scikit_survival_fold_by_fold(case):
    outcomes, risk = case
    fold = np.random.default_rng(1).integers(0, 3, len(risk))
    won = pairs = 0.0
    for one in range(3):
        of = fold == one
        if outcomes.event[of].any():
            _, concordant, discordant, tied, _ = concordance_index_censored(
                outcomes.event[of], outcomes.value[of], risk[of]
            )
            won, pairs = won + concordant + tied / 2, pairs + concordant + discordant + tied
    found = metrics.harrell_c_within_folds(risk, outcomes, fold).value(len(risk))
    assert found == pytest.approx(won / pairs, abs=1e-12)


def test_folds_without_a_comparable_pair_are_not_estimable(survival):
    """Acceptance row 42."""
    outcomes, risk = survival([1, 2, 3, 4], [1, 0, 1, 0]), np.array([4.0, 3.0, 2.0, 1.0])
    assert np.isnan(metrics.harrell_c_within_folds(risk, outcomes, np.arange(4)).value(4))
    assert metrics.harrell_c_within_folds(risk, outcomes, np.array([0, 0, 1, 1])).value(4) == 1


@pytest.mark.parametrize("metric", [metrics.harrell_c, metrics.uno_c])
def test_the_estimator_says_what_becomes_of_ties_and_of_competing_events(survival, metric):
    """Acceptance row 43."""
    outcomes, risk = survival([1, 2, 3, 4], [1, 0, 1, 0]), np.arange(4.0)
    assert "ties in risk count ½" in metric(risk, outcomes).estimator
    assert "competing" not in metric(risk, outcomes).estimator
    rivalled = replace(outcomes, competing=~outcomes.event)
    assert "a competing event counts as a censoring" in metric(risk, rivalled).estimator
    assert metric(risk, rivalled).value(4) == metric(risk, outcomes).value(4)
