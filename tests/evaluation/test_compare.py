"""Paired comparisons: signs, pairs, Holm, common patients."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.prediction import Prediction
from twobe3.evaluation.compare import compare, holm
from twobe3.evaluation.evaluate import evaluate


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
