"""Paired comparisons: signs, pairs, Holm, common patients; and the tests of a difference.

DeLong's test by counting pairs, the corrected t-test against scipy, and the patients needed by simulation.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import norm, ttest_1samp
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.prediction import Prediction
from twobe3.evaluation.alignment import AlignedPredictions
from twobe3.evaluation.binary import delong
from twobe3.evaluation.compare import FoldValue, compare, delong_p, holm, patients_needed, t_test_across_folds
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.format import patients_needed_lines
from twobe3.evaluation.results import Comparison


@pytest.fixture
def cohort(binary):
    return binary(np.arange(60) % 3 == 0)


@pytest.fixture
def models(cohort, predict):
    rng = np.random.default_rng(0)
    signal = cohort.value + rng.normal(0, 0.3, size=60)
    noise = {"good": 0.2, "fair": 1.0, "noise": 50.0}
    return [predict(signal + rng.normal(0, sd, size=(3, 60)), model=name) for name, sd in noise.items()]


def test_every_pair_once_in_order(models, cohort):
    pairs = [(c.model_a, c.model_b) for c in compare(models, cohort, resamples=50)]
    assert pairs == [("good", "fair"), ("good", "noise"), ("fair", "noise")]


def test_every_other_against_the_reference(models, cohort):
    pairs = [(c.model_a, c.model_b) for c in compare(models, cohort, reference="fair", resamples=50)]
    assert pairs == [("good", "fair"), ("noise", "fair")]


def test_the_difference_is_that_of_the_evaluations(models, cohort):
    values = {model.model: evaluate(model, cohort, resamples=50).headline.value for model in models}
    for comparison in compare(models, cohort, resamples=200):
        expected = values[comparison.model_a] - values[comparison.model_b]
        assert comparison.difference == pytest.approx(expected, abs=1e-12)
        assert comparison.low < comparison.difference < comparison.high
        assert (comparison.metric, comparison.n, comparison.endpoint) == ("auc_within_folds", 60, "relapse")


def test_a_good_model_beats_noise_and_reversing_the_pair_reverses_the_sign(models, cohort):
    forth = compare([models[0], models[2]], cohort)[0]
    back = compare([models[2], models[0]], cohort)[0]
    assert forth.p < 0.001
    assert forth.low > 0
    assert (back.difference, back.low, back.high) == (-forth.difference, -forth.high, -forth.low)
    assert back.p == forth.p


def test_holm_by_its_definition(models, cohort):
    comparisons = sorted(compare(models, cohort), key=lambda c: c.p)
    running = 0.0
    for i, comparison in enumerate(comparisons):
        running = max(running, min(1.0, (len(comparisons) - i) * comparison.p))
        assert comparison.p_holm == pytest.approx(running, rel=1e-12)


@pytest.mark.parametrize("n", [0, 1, 2, 30])
def test_holm_is_that_of_statsmodels_whatever_is_unknown(n):
    p = np.random.default_rng(n).beta(0.3, 1.0, n).round(2)  # with ties, and some that come out above 1
    expected = multipletests(p, method="holm")[1].tolist() if n else []
    assert holm([None, *p.tolist(), None]) == [None, *expected, None]


def test_the_further_tests_of_a_pair(models, cohort):
    """Corrected t against scipy, on AUCs that scikit-learn computed fold by fold; each test adjusted by itself."""
    comparisons = compare(models, cohort)
    assert [[test.name for test in c.tests] for c in comparisons] == [["delong", "corrected_t"]] * 3
    first, second = models[:2]

    def areas(model):
        keys = [(model.repeat == r) & (model.fold == f) for r in range(3) for f in range(5)]
        return np.array([roc_auc_score(cohort.of(np.array(model.patients)[k]).event, model.risk[k]) for k in keys])

    d = areas(first) - areas(second)
    t = d.mean() / np.sqrt((1 / 15 + 12 / 48) * d.var(ddof=1))
    assert comparisons[0].tests[1].p == pytest.approx(2 * stats.t.sf(abs(t), 14), rel=1e-9)
    for place in (0, 1):
        p = [c.tests[place].p for c in comparisons]
        adjusted = [c.tests[place].p_holm for c in comparisons]
        assert min(adjusted) == pytest.approx(min(1, 3 * min(p)))
        assert max(adjusted) >= max(p)
    assert all(c.patients_needed > 0 for c in comparisons)


def test_models_tested_in_one_part_have_no_test_across_folds(cohort):
    rng = np.random.default_rng(0)
    pair = [Prediction(name, "endpoint", cohort.patients, rng.normal(size=60)) for name in "ab"]
    (comparison,) = compare(pair, cohort, resamples=50)
    across = comparison.tests[1]
    assert (across.p, across.p_holm, across.method) == (None, None, "fewer than two folds allow an estimate")


def test_the_order_of_rows_does_not_matter(models, cohort):
    def shuffled(p):
        order = np.random.default_rng(1).permutation(len(p))
        patients = tuple(p.patients[i] for i in order)
        return Prediction(p.model, p.endpoint, patients, p.risk[order], None, p.repeat[order], p.fold[order])

    assert compare([shuffled(model) for model in models], cohort) == compare(models, cohort)


def test_only_the_common_patients_count(models, cohort):
    first, second = models[:2]
    rows = [i for i, patient in enumerate(first.patients) if patient >= "p020"]
    part = Prediction(
        "part", "endpoint", tuple(first.patients[i] for i in rows), first.risk[rows], None, first.repeat[rows]
    )
    comparison = compare([part, second], cohort)[0]
    assert comparison.n == 40
    common = Prediction("fair", "endpoint", part.patients, second.risk[rows], None, second.repeat[rows])
    kept = cohort.of(cohort.patients[20:])
    values = [evaluate(p, kept, resamples=10).metric("auc").value for p in (part, common)]
    assert comparison.difference == pytest.approx(values[0] - values[1], abs=1e-12)


def test_no_common_patient_is_said(cohort, predict):
    apart = [
        Prediction(name, "endpoint", cohort.patients[rows], np.arange(30.0))
        for name, rows in (("a", slice(30)), ("b", slice(30, 60)))
    ]
    comparison = compare(apart, cohort)[0]
    assert (comparison.n, comparison.difference, comparison.p, comparison.p_holm) == (0, None, None, None)


def test_models_that_order_alike_are_not_different(models, cohort, predict):
    twin = Prediction("twin", "endpoint", models[0].patients, models[0].risk * 3, None, models[0].repeat)
    comparison = compare([models[0], twin], cohort)[0]
    assert (comparison.difference, comparison.low, comparison.high, comparison.p) == (0, 0, 0, 1)


def test_brier_is_compared_where_all_give_probabilities(cohort, predict):
    rng = np.random.default_rng(0)
    models = [
        predict(p, model=name, probability=p)
        for name, p in (("sharp", 0.1 + 0.8 * cohort.value), ("blunt", rng.uniform(0.3, 0.7, size=60)))
    ]
    comparison = compare(models, cohort, metric="brier")[0]
    expected = 0.01 - np.mean((models[1].probability - cohort.value) ** 2)
    assert comparison.difference == pytest.approx(expected, abs=1e-12)
    assert comparison.high < 0


def test_fewer_than_two_models_compare_with_nothing(models, cohort):
    assert compare([], cohort) == compare(models[:1], cohort) == ()


@pytest.mark.parametrize(
    ("changed", "arguments", "code", "says"),
    [
        (None, {"metric": "harrell_c"}, Code.UNKNOWN_NAME, "no metric 'harrell_c' for a binary endpoint"),
        (None, {"metric": "brier"}, Code.PREDICTION_INVALID, "'fair', 'noise'"),
        (None, {"reference": "best"}, Code.UNKNOWN_NAME, "no model 'best'"),
        ({"model": "good"}, {}, Code.PREDICTION_INVALID, "a model stands twice"),
        ({"model": "new", "endpoint": "other"}, {}, Code.PREDICTION_INVALID, "several endpoints"),
        ({"model": "new", "patients": ("p000", "x")}, {}, Code.PREDICTION_INVALID, "no outcome"),
    ],
)
def test_refusals(models, cohort, changed, arguments, code, says):
    if changed is not None:
        fields = {"endpoint": "endpoint", "patients": ("p000", "p001"), **changed}
        models = [*models, Prediction(risk=np.arange(2.0), **fields)]
    with pytest.raises(ConfigurationError, match=says) as caught:
        compare(models, cohort, **arguments)
    assert caught.value.code is code


@pytest.fixture
def aligned(predict):
    return lambda risk, outcomes: AlignedPredictions.of(predict(risk), outcomes)


def by_pairs(first, second, event):
    """DeLong's p from the structural components, averaged over the repeats of each model; O(m n)."""

    def components(risks):
        pairs = np.mean([np.heaviside(r[event][:, None] - r[~event][None, :], 0.5) for r in np.atleast_2d(risks)], 0)
        return pairs.mean(axis=1), pairs.mean(axis=0)

    (v10, v01), (w10, w01) = components(first), components(second)
    variance = np.var(v10 - w10, ddof=1) / event.sum() + np.var(v01 - w01, ddof=1) / (~event).sum()
    return 2 * norm.sf(abs((v10 - w10).mean()) / math.sqrt(variance))


@pytest.mark.parametrize("repeats", [(1, 1), (3, 3), (2, 5)])
def test_delongs_p_equals_that_of_its_structural_components(binary, aligned, repeats):
    rng = np.random.default_rng(3)
    outcomes = binary(np.arange(70) < 25)
    risks = [np.round(outcomes.value * 0.8 + rng.normal(size=(r, 70)), 1) for r in repeats]
    p = delong_p(*(aligned(risk, outcomes) for risk in risks))
    assert 1e-6 < p < 0.999
    assert p == pytest.approx(by_pairs(*risks, outcomes.event), rel=1e-9)


def test_delong_of_models_that_order_alike_and_of_too_few(binary, aligned):
    outcomes, risk = binary([0, 0, 0, 1, 1]), np.array([0.1, 0.4, 0.2, 0.3, 0.9])
    assert delong_p(aligned(risk, outcomes), aligned(risk * 2, outcomes)) == 1
    single = binary([0, 0, 0, 0, 1])
    assert delong_p(aligned(risk, single), aligned(-risk, single)) is None
    split = binary([0, 0, 1, 1, 1])
    perfect = np.arange(5.0)
    assert delong_p(aligned(perfect, split), aligned(-perfect, split)) is None  # 1 and 0 in every sample


def folds(values, tested=10, trained=40):
    return {divmod(i, 5): FoldValue(value, tested, trained) for i, value in enumerate(values)}


def test_the_corrected_t_is_the_paired_t_with_a_wider_variance():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.75, 0.05, 25), rng.normal(0.72, 0.05, 25)
    p, method = t_test_across_folds(folds(a), folds(b))
    plain = ttest_1samp(a - b, 0)
    shrunk = plain.statistic / math.sqrt(1 + 25 * 10 / 40)
    # scipy's t with the same mean and degrees of freedom, its variance of the mean 1/25 → 1/25 + 10/40
    rescaled = (a - b).mean() + ((a - b) - (a - b).mean()) * math.sqrt(1 + 25 * 10 / 40)
    assert ttest_1samp(rescaled, 0).statistic == pytest.approx(shrunk)
    assert p == pytest.approx(ttest_1samp(rescaled, 0).pvalue, rel=1e-9)
    assert p > plain.pvalue
    assert method == "corrected resampled t-test across 25 of 25 folds, n_test/n_train = 0.25"


def test_a_fold_without_an_estimate_is_left_out_and_counted():
    a, b = [0.8, 0.7, math.nan, 0.9], [0.6, 0.65, 0.5, 0.6]
    p, method = t_test_across_folds(folds(a), folds(b))
    kept = [0, 1, 3]
    assert p == t_test_across_folds(folds([a[i] for i in kept]), folds([b[i] for i in kept]))[0]
    assert "3 of 4 folds" in method


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (folds([0.7, 0.7]), folds([0.7, 0.7]), 1.0),
        (folds([0.75, 1.0]), folds([0.5, 0.75]), None),
        (folds([0.7]), folds([0.6]), None),
        (folds([0.7, math.nan]), folds([0.6, 0.6]), None),
        (folds([0.7, 0.8]), folds([0.6, 0.6], tested=9), None),
    ],
    ids=["alike", "constant", "one fold", "one estimable", "other folds"],
)
def test_where_the_corrected_t_says_nothing(a, b, expected):
    assert t_test_across_folds(a, b)[0] == expected


def test_patients_needed_equal_those_of_statsmodels():
    sd, n = 0.9, 51
    expected = NormalIndPower().solve_power(effect_size=0.05 / sd, alpha=0.05, power=0.8, ratio=0)
    assert patients_needed(n, sd / math.sqrt(n)) == pytest.approx(expected, abs=1)
    assert patients_needed(10 * n, sd / math.sqrt(10 * n)) == patients_needed(n, sd / math.sqrt(n))
    assert patients_needed(n, 0.0) is None
    assert patients_needed(n, None) is None


def test_a_line_tells_the_median_of_the_pairs():
    pairs = [
        Comparison("e", "auc", "a", "b", 50, 0.1, 0.0, 0.2, 0.05, 0.05, "", patients_needed=needed)
        for needed in (812, 1244, None, 90)
    ]
    assert patients_needed_lines(pairs) == [
        "to see a difference of 0.05 in auc with a power of 80%: about 810 patients like these (median of 3 pairs)"
    ]
    assert patients_needed_lines(pairs[2:3]) == []


def test_with_the_patients_needed_four_of_five_studies_see_the_difference():
    """400 subjects of that size, drawn from a truth with AUCs of 0.75 and 0.70 (binormal: Φ(shift/√2))."""
    rng = np.random.default_rng(5)
    shifts = math.sqrt(2) * norm.ppf([0.75, 0.70])

    def study(n):
        """Difference and standard error that a study of n patients finds."""
        event = np.arange(n) < 0.4 * n
        risks = shifts[:, None] * event + 0.8 * rng.normal(size=n) + 0.6 * rng.normal(size=(2, n))
        areas, covariance = delong(risks, event)
        return areas[0] - areas[1], math.sqrt(np.array([1, -1]) @ covariance @ np.array([1, -1]))

    needed = patients_needed(20_000, study(20_000)[1])
    assert 300 < needed < 3000
    found = [study(needed) for _ in range(400)]
    seen = np.mean([abs(difference) > 1.959964 * error for difference, error in found])
    assert seen == pytest.approx(0.8, abs=0.07)  # 3.5 standard errors


def test_the_standard_error_is_that_of_the_bootstrap(binary, predict):
    """DeLong's, of another kind, says nearly the same number of patients."""
    rng = np.random.default_rng(6)
    outcomes = binary(np.arange(300) < 120)
    risks = outcomes.value * 0.9 + rng.normal(size=(2, 300))
    models = [predict(risk, model=name) for risk, name in zip(risks, "ab", strict=True)]
    fold = np.tile(np.arange(300) % 5, (2, 1))
    for metric, folds in (("auc", None), ("auc_within_folds", fold)):
        (pair,) = compare(models, outcomes, metric=metric)
        _, covariance = delong(risks, outcomes.event, folds)
        error = math.sqrt(np.array([1, -1]) @ covariance @ np.array([1, -1]))
        assert pair.patients_needed == pytest.approx(patients_needed(300, error), rel=0.1)
