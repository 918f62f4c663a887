"""Binary and continuous metrics against scikit-learn and scipy, DeLong against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as oracle
from scipy.stats import spearmanr

from twobe3.evaluation import binary as metrics
from twobe3.evaluation.bootstrap import PatientBootstrap

RISK_METRICS = {metrics.auc: oracle.roc_auc_score, metrics.average_precision: oracle.average_precision_score}
PROBABILITY_METRICS = {
    metrics.brier: oracle.brier_score_loss,
    metrics.log_loss: oracle.log_loss,
    metrics.sensitivity: lambda y, p: oracle.recall_score(y, p >= 0.5),
    metrics.specificity: lambda y, p: oracle.recall_score(~y, p < 0.5),
    metrics.balanced_accuracy: lambda y, p: oracle.balanced_accuracy_score(y, p >= 0.5),
}


@pytest.fixture(params=[(20, 1), (20, 6), (51, 19), (300, 40)], ids=lambda p: f"n={p[0]},events={p[1]}")
def cohort(request, binary):
    n, events = request.param
    rng = np.random.default_rng(n + events)
    event = np.arange(n) < events
    rng.shuffle(event)
    probability = np.round(np.clip(rng.normal(0.4 + 0.2 * event, 0.25), 0, 1), 1)  # tied, with 0 and 1 among them
    return binary(event), probability


@pytest.mark.parametrize("metric", [*RISK_METRICS, *PROBABILITY_METRICS], ids=lambda m: m.__name__)
def test_equals_scikit_learn(cohort, metric):
    outcomes, score = cohort
    expected = (RISK_METRICS | PROBABILITY_METRICS)[metric](outcomes.event, score)
    assert metric(score, outcomes).value(len(outcomes)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", [*RISK_METRICS, *PROBABILITY_METRICS], ids=lambda m: m.__name__)
def test_a_counted_sample_equals_the_resampled_table(cohort, metric):
    outcomes, score = cohort
    counts = PatientBootstrap.draw(outcomes.event, resamples=40, seed=1).counts
    found = metric(score, outcomes).compute(counts)
    for row, value in zip(counts.astype(int), found, strict=True):
        rows = np.repeat(np.arange(len(outcomes)), row)
        expected = (RISK_METRICS | PROBABILITY_METRICS)[metric](outcomes.event[rows], score[rows])
        assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("event", [[True] * 5, [False] * 5], ids=["positives only", "negatives only"])
@pytest.mark.parametrize("metric", [metrics.auc, metrics.average_precision, metrics.balanced_accuracy])
def test_one_class_is_not_estimable(binary, metric, event):
    assert np.isnan(metric(np.linspace(0, 1, 5), binary(event)).value(5))


def test_auc_of_a_constant_is_one_half(binary):
    assert metrics.auc(np.zeros(7), binary([1, 0, 0, 1, 0, 1, 0])).value(7) == 0.5


def test_auc_is_unmoved_by_monotone_change_and_mirrored_by_sign(cohort):
    outcomes, risk = cohort
    n, area = len(outcomes), metrics.auc(risk, outcomes).value(len(outcomes))
    assert metrics.auc(np.exp(5 * risk), outcomes).value(n) == area
    assert metrics.auc(-risk, outcomes).value(n) == pytest.approx(1 - area, abs=1e-12)


def _kernel(x, y):
    return 1.0 if x > y else 0.5 if x == y else 0.0


def _components(risk, event):
    """Structural components as DeLong, DeLong & Clarke-Pearson 1988 define them, pair by pair."""
    positives, negatives = risk[event], risk[~event]
    v10 = [sum(_kernel(x, y) for y in negatives) / len(negatives) for x in positives]
    v01 = [sum(_kernel(x, y) for x in positives) / len(positives) for y in negatives]
    return v10, v01


@pytest.mark.parametrize("decimals", [1, 12], ids=["tied", "untied"])
def test_delong_equals_its_definition(decimals):
    rng = np.random.default_rng(3)
    event = rng.random(40) < 0.4
    risks = np.round(rng.normal(size=(3, 40)) + event, decimals)
    areas, covariance = metrics.delong(risks, event)
    components = [_components(risk, event) for risk in risks]
    m, n = int(event.sum()), int((~event).sum())
    for i, (v10, v01) in enumerate(components):
        assert areas[i] == pytest.approx(sum(v10) / m, abs=1e-12)
        for j, (w10, w01) in enumerate(components):
            s10 = sum((a - areas[i]) * (b - areas[j]) for a, b in zip(v10, w10, strict=True)) / (m - 1)
            s01 = sum((a - areas[i]) * (b - areas[j]) for a, b in zip(v01, w01, strict=True)) / (n - 1)
            assert covariance[i, j] == pytest.approx(s10 / m + s01 / n, abs=1e-12)


def test_delong_error_of_one_auc_agrees_with_the_bootstrap(cohort):
    outcomes, risk = cohort
    if outcomes.n_events < 2:
        with pytest.raises(ValueError, match="two patients of each class, got 1 and 19"):
            metrics.delong(risk[None], outcomes.event)
        return
    (area,), ((variance,),) = metrics.delong(risk[None], outcomes.event)
    resampled = metrics.auc(risk, outcomes).compute(PatientBootstrap.draw(outcomes.event).counts)
    assert area == pytest.approx(metrics.auc(risk, outcomes).value(len(outcomes)), abs=1e-12)
    # The bootstrap divides by m where DeLong divides by m − 1.
    assert np.sqrt(variance) == pytest.approx(resampled.std(), rel=0.12)


def test_delong_difference_of_a_model_with_itself_is_zero():
    rng = np.random.default_rng(0)
    event = np.arange(30) < 10
    risk = rng.normal(size=30)
    areas, covariance = metrics.delong(np.stack([risk, risk]), event)
    assert areas[0] - areas[1] == pytest.approx(0)
    assert covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1] == pytest.approx(0)


@pytest.mark.parametrize("repeats", [1, 4])
def test_the_area_under_the_drawn_curve_is_the_auc(cohort, repeats):
    outcomes, risk = cohort
    rng = np.random.default_rng(5)
    risks = np.round(risk + rng.normal(0, 0.1, size=(repeats, len(risk))), 1)
    curve = metrics.roc_curve(risks, np.ones(risks.shape, dtype=bool), outcomes.event)
    expected = np.mean([oracle.roc_auc_score(outcomes.event, r) for r in risks])
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(expected, abs=1e-6)
    assert (curve.y[0], curve.y[-1]) == (0, 1)
    assert (np.diff(curve.x) >= 0).all()
    assert (np.diff(curve.y) >= -1e-12).all()


def test_the_curve_of_one_class_does_not_exist(binary):
    assert metrics.roc_curve(np.zeros((1, 3)), np.ones((1, 3), dtype=bool), np.ones(3, dtype=bool)) is None


def test_pairs_within_folds_equal_scikit_learn_fold_by_fold(cohort):
    outcomes, risk = cohort
    fold = np.random.default_rng(1).integers(0, 4, len(risk))
    counts = np.vstack([np.ones(len(risk)), PatientBootstrap.draw(outcomes.event, resamples=30, seed=1).counts])
    found = metrics.auc_within_folds(risk, outcomes, fold).compute(counts)
    for row, value in zip(counts.astype(int), found, strict=True):
        won = pairs = 0.0
        for one in range(4):
            rows = np.repeat(np.arange(len(risk)), np.where(fold == one, row, 0))
            event = outcomes.event[rows]
            if event.any() and not event.all():
                of_fold = event.sum() * (~event).sum()
                won, pairs = won + of_fold * oracle.roc_auc_score(event, risk[rows]), pairs + of_fold
        assert value == pytest.approx(won / pairs if pairs else np.nan, abs=1e-12, nan_ok=True)


def test_pooling_folds_puts_a_model_that_knows_nothing_below_one_half_and_pairs_within_folds_do_not(binary):
    # Airola et al. 2011: every fold predicts the share of events among its training patients.
    event, fold = np.random.default_rng(0).random(60) < 0.4, np.arange(60) % 10
    risk = np.array([event[fold != one].mean() for one in fold])
    outcomes = binary(event)
    assert metrics.auc(risk, outcomes).value(60) < 0.45
    assert metrics.auc_within_folds(risk, outcomes, fold).value(60) == 0.5


def test_folds_of_one_class_are_not_estimable(binary):
    """Acceptance row 42."""
    outcomes, risk = binary([1, 1, 0, 0]), np.array([4.0, 3.0, 2.0, 1.0])
    assert np.isnan(metrics.auc_within_folds(risk, outcomes, np.array([0, 0, 1, 1])).value(4))
    assert metrics.auc_within_folds(risk, outcomes, np.array([0, 1, 1, 2])).value(4) == 1


def test_each_patient_is_evaluated_at_the_threshold_of_its_fold(cohort):
    outcomes, probability = cohort
    threshold = np.array([0.2, 0.4, 0.7])[np.arange(len(probability)) % 3]
    called, n = probability >= threshold, len(outcomes)
    expected = {
        metrics.sensitivity: oracle.recall_score(outcomes.event, called),
        metrics.specificity: oracle.recall_score(~outcomes.event, ~called),
        metrics.balanced_accuracy: oracle.balanced_accuracy_score(outcomes.event, called),
    }
    for metric, value in expected.items():
        statistic = metric(probability, outcomes, threshold)
        assert statistic.value(n) == pytest.approx(value, abs=1e-12)
        assert "the training patients of the fold chose" in statistic.estimator
        assert "0.5" in metric(probability, outcomes).estimator


ORACLES = {
    metrics.spearman: lambda y, x: spearmanr(x, y).statistic,
    metrics.mean_absolute_error: oracle.mean_absolute_error,
    metrics.r2: oracle.r2_score,
}


@pytest.mark.parametrize("metric", ORACLES, ids=lambda m: m.__name__)
def test_equals_the_oracle_on_the_cohort_and_on_every_sample(continuous, metric):
    rng = np.random.default_rng(0)
    outcomes = continuous(np.round(rng.normal(60, 10, 45)))
    predicted = np.round(outcomes.value + rng.normal(0, 8, 45))
    counts = np.vstack([np.ones(45), PatientBootstrap.draw(outcomes.event, resamples=40).counts])
    for row, found in zip(counts.astype(int), metric(predicted, outcomes).compute(counts), strict=True):
        rows = np.repeat(np.arange(45), row)
        assert found == pytest.approx(ORACLES[metric](outcomes.value[rows], predicted[rows]), abs=1e-10)


def test_a_constant_has_no_rank_correlation_and_no_share_of_variance(continuous):
    varied, constant = np.arange(7.0), np.full(7, 0.1)
    assert np.isnan(metrics.spearman(constant, continuous(varied)).value(7))
    assert np.isnan(metrics.spearman(varied, continuous(constant)).value(7))
    assert np.isnan(metrics.r2(varied, continuous(constant)).value(7))
