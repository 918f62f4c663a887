"""Models of several folds are compared within the folds, by one metric for all, and the text says which and why."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from twobe3.core.endpoints import Binary
from twobe3.core.outcomes import Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.binary import auc_within_folds, delong
from twobe3.evaluation.compare import compare
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.format import primary_metric_lines
from twobe3.evaluation.primary_metric import choose_primary_metric
from twobe3.evaluation.results import EvaluationResults
from twobe3.evaluation.subgroups import evaluate_subgroups

# Four folds of 20 patients with 4, 8, 12 and 16 events: each event that is tested is one less to learn from.
FOLD = np.repeat(np.arange(4), 20)
EVENT = np.concatenate([np.arange(20) < events for events in (4, 8, 12, 16)])
KNOWS_NOTHING = np.array([1 - (EVENT & (f == FOLD)).sum() / 20 for f in FOLD])  # falls with the fold's events


@pytest.fixture
def folded():
    """A prediction from risks and folds of shape (repeats, n)."""

    def make(risk, fold, model="model", endpoint="endpoint"):
        risk, fold = (np.atleast_2d(values) for values in (risk, fold))
        repeats, n = risk.shape
        patients = tuple(f"p{i:03d}" for i in range(n)) * repeats
        return Prediction(
            model, endpoint, patients, risk.ravel().astype(float), None, np.repeat(np.arange(repeats), n), fold.ravel()
        )

    return make


def kinds(binary, survival):
    """The same patients with a binary endpoint, and with times that end at an event or at 100."""
    time = np.where(EVENT, np.random.default_rng(2).permutation(80) + 1.0, 100.0)
    return (binary(EVENT), "auc"), (survival(time, EVENT), "harrell_c")


def test_a_model_that_knows_nothing_is_one_half_and_no_other_is_better(binary, survival, folded):
    """Pooled it is far below ½, and noise would be called better than it."""
    rng = np.random.default_rng(1)
    models = [folded(rng.normal(size=80), FOLD, "noise"), folded(KNOWS_NOTHING, FOLD, "centre")]
    for outcomes, pooled in kinds(binary, survival):
        centre = evaluate(models[1], outcomes, resamples=200)
        assert centre.metric(pooled).value < 0.35
        assert centre.headline is centre.metric(f"{pooled}_within_folds")
        assert centre.headline.value == 0.5
        (fair,) = compare(models, outcomes)
        assert fair.metric == f"{pooled}_within_folds"
        assert fair.p > 0.05
        assert fair.low < 0 < fair.high
        (unfair,) = compare(models, outcomes, metric=pooled)
        assert unfair.p < 0.05
        assert unfair.reason == "as asked for"


def test_the_difference_is_that_of_the_pairs_tested_in_one_fold_counted_one_by_one(binary, survival, folded):
    rng = np.random.default_rng(3)
    fold = np.stack([rng.permutation(FOLD) for _ in range(3)])
    risks = np.round(0.8 * EVENT + rng.normal(size=(2, 3, 80)), 1)

    def counted(outcomes, risk, here):
        time, event = outcomes.value, outcomes.event
        won = pairs = 0.0
        for i in np.flatnonzero(event):
            for j in range(80):
                later = not event[j] if outcomes.endpoint.kind == "binary" else time[j] > time[i]
                if later and here[i] == here[j]:
                    pairs += 1
                    won += 1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0
        return won / pairs

    for outcomes, _ in kinds(binary, survival):
        expected = 0.0
        for repeat, here in enumerate(fold):
            first, second = (counted(outcomes, risk[repeat], here) for risk in risks)
            expected += (first - second) / 3
        (pair,) = compare([folded(risk, fold, name) for risk, name in zip(risks, "ab", strict=True)], outcomes)
        assert pair.difference == pytest.approx(expected, abs=1e-12)


def test_of_one_part_all_pairs_are_compared(binary, survival, folded):
    rng = np.random.default_rng(4)
    risks = EVENT + rng.normal(size=(2, 2, 80))
    models = [folded(risk, np.zeros((2, 80), dtype=int), name) for risk, name in zip(risks, "ab", strict=True)]
    for outcomes, pooled in kinds(binary, survival):
        (pair,) = compare(models, outcomes, resamples=200)
        (asked,) = compare(models, outcomes, metric=pooled, resamples=200)
        assert pair.reason == "all patients were tested in one part, as far as the predictions tell"
        assert replace(pair, reason="") == replace(asked, reason="")
        (within,) = compare(models, outcomes, metric=f"{pooled}_within_folds", resamples=200)
        assert (within.difference, within.p) == pytest.approx((pair.difference, pair.p))
        assert [test.p for test in within.tests] == pytest.approx([test.p for test in pair.tests])


@pytest.mark.parametrize(
    ("folds", "metric", "reason"),
    [
        ((FOLD, FOLD), "auc_within_folds", "risks of different folds come from different models"),
        ((FOLD, 0 * FOLD), "auc", "1 of 2 models were tested in one part, or don't tell their folds"),
        ((np.arange(80), np.arange(80)), "auc", "the folds of some repeat hold fewer comparable pairs"),
        ((FOLD, np.arange(80) // 2), "auc", "the folds of some repeat hold fewer comparable pairs"),
    ],
    ids=["folds", "one without folds", "leave one out", "one with folds of two"],
)
def test_one_metric_for_all_models_and_why(binary, folded, folds, metric, reason):
    models = [folded(np.arange(80) % 7, fold, name) for fold, name in zip(folds, "ab", strict=True)]
    primary = choose_primary_metric(models, binary(EVENT))
    assert primary.metric == metric
    assert primary.reason.startswith(reason)
    (pair,) = compare(models, binary(EVENT), resamples=50)
    assert (pair.metric, pair.reason) == (primary.metric, primary.reason)


def test_the_rule_is_one_pair_for_two_patients(binary, folded):
    """Ten folds, each with one positive and one negative beside patients of the same class, 10 pairs in all."""
    for n, metric in ((20, "auc_within_folds"), (21, "auc")):
        event = np.append(np.arange(20) % 2 == 0, [True])[:n]
        fold = np.append(np.repeat(np.arange(10), 2), [10])[:n]
        assert choose_primary_metric([folded(np.arange(n), fold)], binary(event)).metric == metric


def test_a_model_that_can_use_few_scans_does_not_decide_how_the_others_are_compared(binary, folded):
    whole = folded(np.arange(80), FOLD, "a")
    for n, metric in ((3, "auc_within_folds"), (39, "auc_within_folds"), (40, "auc")):
        rows = np.arange(80) < n
        few = folded(np.arange(80), np.arange(80), "b").rows(rows)
        assert choose_primary_metric([whole, few], binary(EVENT)).metric == metric


def test_a_number_is_compared_by_its_own_metric(continuous, folded):
    models = [folded(np.arange(80), FOLD)]
    assert choose_primary_metric(models, continuous(np.arange(80))).metric == "spearman"
    assert primary_metric_lines([evaluate(models[0], continuous(np.arange(80)), resamples=20)]) == []


def test_the_document_and_the_text_say_which_and_why(binary, folded):
    evaluation = evaluate(folded(np.arange(80), FOLD), binary(EVENT), resamples=20)
    reason = "risks of different folds come from different models, so only those of one fold are compared"
    (model,) = EvaluationResults((evaluation,)).to_json()["models"]
    assert model["basis"] == {"metric": "auc_within_folds", "reason": reason}
    assert model["metrics"][0]["name"] == "auc"
    assert primary_metric_lines([evaluation]) == [f"models are ranked and compared by auc_within_folds: {reason}"]


def test_parts_of_the_cohort_are_evaluated_by_the_same_metric_with_a_caution_where_pairs_are_few(binary, folded):
    model = folded(KNOWS_NOTHING, FOLD)
    half = {f"p{i:03d}": "even" if i % 2 == 0 else "odd" for i in range(80)}
    for part in evaluate_subgroups([model], binary(EVENT), {"half": half}, resamples=50):
        assert (part.metric, part.value, part.warning) == ("auc_within_folds", 0.5, "")
    # Eleven with the event, one in each fold, and ten without it, all in the first: ten pairs of 21 patients.
    fold = np.repeat(np.arange(11), 20)
    event = np.tile(np.arange(20) < 10, 11)
    model = folded(np.arange(220), fold)
    few = np.append(np.flatnonzero(event)[::10], np.flatnonzero(~event)[:10])
    part = {f"p{i:03d}": "few" if i in few else "many" for i in range(220)}
    (first, _) = evaluate_subgroups([model], binary(event), {"part": part}, resamples=50)
    assert (first.n, first.warning) == (21, "few pairs within the folds")


def numerically(risks, event, folds):
    """Covariance from how each patient's weight moves the AUC, by the metric's own weighted form."""
    m, n = event.sum(), (~event).sum()
    step = 1e-5
    counts = np.concatenate([1 + step * np.eye(len(event)), 1 - step * np.eye(len(event))])
    influence = []
    for risk, fold in zip(risks, folds, strict=True):
        values = auc_within_folds(risk, of_events(event), fold).compute(counts)
        influence.append((values[: len(event)] - values[len(event) :]) / (2 * step))
    influence = np.array(influence)
    positive, negative = influence[:, event], influence[:, ~event]
    return positive @ positive.T * m / (m - 1) + negative @ negative.T * n / (n - 1)


def of_events(event):
    return Outcomes(Binary("y", "y"), tuple(map(str, range(len(event)))), event.astype(float), event)


def test_delongs_covariance_within_folds_is_that_of_the_influence_of_each_patient():
    rng = np.random.default_rng(5)
    folds = np.stack([rng.permutation(FOLD) for _ in range(4)])
    risks = np.round(EVENT + rng.normal(size=(4, 80)), 1)
    areas, covariance = delong(risks, EVENT, folds)
    values = [auc_within_folds(risk, of_events(EVENT), fold).value(80) for risk, fold in zip(risks, folds, strict=True)]
    assert areas == pytest.approx(values, abs=1e-12)
    assert covariance == pytest.approx(numerically(risks, EVENT, folds), rel=1e-6, abs=1e-9)


def test_delong_of_one_fold_is_delong():
    risks = EVENT + np.random.default_rng(6).normal(size=(3, 80))
    for ours, plain in zip(delong(risks, EVENT, np.full((3, 80), 2)), delong(risks, EVENT), strict=True):
        assert ours == pytest.approx(plain, abs=1e-14)


def test_delongs_standard_error_within_folds_is_the_spread_of_studies_and_never_much_less():
    """200 subjects of 120 patients, two equally good models, 2 × 5 folds whose risks have no common origin."""
    rng = np.random.default_rng(7)
    event = np.arange(120) < 40
    contrast = np.array([0.5, 0.5, -0.5, -0.5])
    differences, errors = [], []
    for _ in range(200):
        fold = np.stack([rng.permutation(np.arange(120) % 5) for _ in range(2)])
        risks = [
            event + rng.normal(size=120) + 0.3 * rng.normal(size=(2, 120)) + 9 * rng.normal(size=5)[fold]
            for _ in range(2)
        ]
        areas, covariance = delong(np.concatenate(risks), event, np.concatenate([fold, fold]))
        differences.append(contrast @ areas)
        errors.append(math.sqrt(contrast @ covariance @ contrast))
    assert 0.9 < np.mean(errors) / np.std(differences) < 1.2
    rejected = np.mean(np.abs(differences) > 1.959964 * np.array(errors))
    assert rejected < 0.1  # 5 % and 3 standard errors of 200 subjects
