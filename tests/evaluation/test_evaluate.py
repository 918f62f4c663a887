"""The evaluation as a whole: repeats, missing patients, refusals, JSON, speed, and which curves a model gets."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.prediction import Prediction
from twobe3.evaluation.alignment import AlignedPredictions
from twobe3.evaluation.cohort_summary import summarize_cohort
from twobe3.evaluation.compare import compare
from twobe3.evaluation.evaluate import curve_horizon, evaluate
from twobe3.evaluation.metrics import METRICS, find_metric, metrics_of
from twobe3.evaluation.results import EvaluationResults, ModelExclusion
from twobe3.io.files import write_artefact
from twobe3.io.pseudonym import pseudonym

PRIMARY = {"binary": "auc", "time-to-event": "harrell_c", "continuous": "spearman"}


@pytest.fixture(params=PRIMARY)
def case(request, binary, survival, continuous):
    rng = np.random.default_rng(0)
    risk = rng.normal(size=40)
    outcomes = {
        "binary": binary(rng.random(40) < 1 / (1 + np.exp(-risk))),
        "time-to-event": survival(np.ceil(rng.exponential(30 * np.exp(-risk))), rng.random(40) < 0.7),
        "continuous": continuous(risk + rng.normal(size=40)),
    }
    return outcomes[request.param], risk


def test_the_primary_metric_stands_first(case, predict):
    outcomes, risk = case
    evaluation = evaluate(predict(risk), outcomes, resamples=100)
    kind = outcomes.endpoint.kind
    assert (evaluation.kind, evaluation.metrics[0].name) == (kind, PRIMARY[kind])
    assert metrics_of(kind)[0].name == outcomes.endpoint.primary_metric == PRIMARY[kind]
    assert evaluation.metrics[0].low < evaluation.metrics[0].value < evaluation.metrics[0].high
    assert "100 samples" in evaluation.metrics[0].estimator


def test_every_metric_has_a_whole_row_and_is_evaluated(case, predict):
    outcomes, risk = case
    times = np.array([5.0, 20.0, 100.0])
    prediction = replace(
        predict(risk, probability=1 / (1 + np.exp(-risk))),
        survival=np.exp(-np.outer(np.exp(risk), times / 30)),
        times=times,
    )
    horizons = [10, 20] if outcomes.endpoint.kind == "time-to-event" else None
    found = evaluate(prediction, outcomes, horizons=horizons, resamples=50)
    rows = [row for row in metrics_of(outcomes.endpoint.kind) if row.needs != "competing events"]
    names = [name for row in rows for name in ([row.at(h).name for h in (10, 20)] if row.per_horizon else [row.name])]
    assert [metric.name for metric in found.metrics] == names
    assert all(METRICS[row.name] is row and row.description for row in rows)
    assert all(find_metric(name, outcomes.endpoint.kind).name == name for name in names)
    resampled = [metric for metric in found.metrics if metric.name != "d_calibration"]
    assert all(metric.value is not None and metric.low <= metric.high for metric in resampled)


def test_without_probabilities_their_metrics_are_absent(binary, predict):
    evaluation = evaluate(predict(np.arange(10)), binary(np.arange(10) % 2), resamples=20)
    assert [metric.name for metric in evaluation.metrics] == ["auc", "average_precision", "auc_within_folds"]
    assert [curve.name for curve in evaluation.curves] == ["roc"]


def test_a_metric_is_the_mean_over_repeats(binary, predict):
    rng = np.random.default_rng(0)
    outcomes = binary(np.arange(30) < 12)
    risk = outcomes.value + rng.normal(size=(4, 30))
    evaluation = evaluate(predict(risk), outcomes, resamples=50)
    expected = np.mean([roc_auc_score(outcomes.event, r) for r in risk])
    assert evaluation.repeats == 4
    assert evaluation.metric("auc").value == pytest.approx(expected, abs=1e-12)
    assert (evaluation.n, evaluation.events) == (30, 12)


def test_repeating_a_prediction_does_not_narrow_its_interval(case, predict):
    outcomes, risk = case
    once, fivefold = (evaluate(predict(np.tile(risk, (r, 1))), outcomes).metrics[0] for r in (1, 5))
    assert (fivefold.value, fivefold.low, fivefold.high) == pytest.approx((once.value, once.low, once.high), abs=1e-12)


def test_a_repeat_that_lacks_a_patient(binary):
    outcomes = binary([1, 0, 1, 0, 0, 1])
    patients, risk = outcomes.patients, np.array([3.0, 1, 2, 2.5, 0, 1])
    prediction = Prediction(
        "m", "e", patients + patients[:4], np.append(risk, risk[:4]), None, np.repeat([0, 1], [6, 4])
    )
    whole, part = roc_auc_score(outcomes.event, risk), roc_auc_score(outcomes.event[:4], risk[:4])
    value = evaluate(prediction, outcomes, resamples=20).metric("auc").value
    assert value == pytest.approx((whole + part) / 2, abs=1e-12)


def test_patients_without_a_prediction_are_counted_as_missing(binary, predict):
    outcomes = binary(np.arange(30) % 3 == 0)
    evaluation = evaluate(predict(np.arange(20)), outcomes, resamples=20)
    assert (evaluation.n, evaluation.events, evaluation.missing) == (20, 7, 10)


def test_same_seed_same_figures_and_order_does_not_matter(case, predict):
    outcomes, risk = case
    prediction = predict(risk)
    order = np.random.default_rng(9).permutation(40)
    shuffled = Prediction(
        "model", "endpoint", tuple(prediction.patients[i] for i in order), risk[order], fold=prediction.fold[order]
    )
    first = evaluate(prediction, outcomes, resamples=200, seed=3)
    assert evaluate(shuffled, outcomes, resamples=200, seed=3).metrics == first.metrics
    assert evaluate(prediction, outcomes, resamples=200, seed=4).metrics != first.metrics


def test_permuted_labels_cover_chance(binary, survival, predict):
    rng = np.random.default_rng(21)
    outside = 0
    for seed in range(40):
        event = rng.permutation(np.arange(50) < 19)
        prediction = predict(rng.normal(size=(3, 50)) + rng.normal(size=50))
        for outcomes in (binary(event), survival(rng.permutation(50) + 1.0, event)):
            metric = evaluate(prediction, outcomes, resamples=400, seed=seed).metrics[0]
            outside += not metric.low <= 0.5 <= metric.high
    assert outside <= 10  # 4 of 80 expected


def test_twenty_patients_have_an_interval_and_their_failed_resamples_are_counted(binary, predict):
    """Acceptance row 44."""
    rng = np.random.default_rng(2)
    outcomes = binary(np.arange(20) < 7)
    risk = outcomes.value + rng.normal(size=20)
    found = evaluate(predict(risk, probability=1 / (1 + np.exp(-risk))), outcomes, resamples=500)
    assert all(m.low < m.value < m.high for m in found.metrics)
    # Not stratified, a sample lacks the one event of three patients in (2/3)³ of the cases.
    few = evaluate(predict([0.3, 0.2, 0.1]), binary([1, 0, 0]), resamples=500).metric("average_precision")
    assert few.failed_resamples / 500 == pytest.approx((2 / 3) ** 3 + (1 / 3) ** 3, abs=0.07)
    assert (few.low, few.high) == (None, None)


def test_folds_that_the_prediction_does_not_tell_are_not_made_up(binary, survival, predict):
    for outcomes in (binary(np.arange(20) % 2), survival(np.arange(1, 21), np.arange(20) % 2)):
        known = predict(np.sin(np.arange(20)))
        name = f"{PRIMARY[outcomes.endpoint.kind]}_within_folds"
        assert evaluate(known, outcomes, resamples=20).metric(name).value is not None
        unknown = evaluate(replace(known, fold=np.zeros(20, dtype=np.int64)), outcomes, resamples=20)
        assert name not in [metric.name for metric in unknown.metrics]


def test_the_threshold_of_the_fold_is_the_one_that_counts(binary, predict):
    outcomes = binary([1, 1, 0, 0])
    prediction = predict([0, 1, 2, 3], probability=[0.3, 0.6, 0.1, 0.4])
    at_half = evaluate(prediction, outcomes, resamples=20)
    own = evaluate(replace(prediction, threshold=np.array([0.2, 0.2, 0.5, 0.5])), outcomes, resamples=20)
    assert (at_half.metric("sensitivity").value, own.metric("sensitivity").value) == (0.5, 1)
    assert "training patients" in own.metric("balanced_accuracy").estimator
    with pytest.raises(
        ConfigurationError, match=f"a threshold that is not a number for patients {pseudonym('patient', 'p001')}"
    ):
        evaluate(replace(prediction, threshold=np.array([0.2, np.nan, 0.5, 0.5])), outcomes)


def test_one_class_is_not_estimable_rather_than_one_half(binary, predict):
    """Acceptance row 42."""
    evaluation = evaluate(predict(np.arange(8), probability=np.linspace(0, 1, 8)), binary([1] * 8), resamples=20)
    metric = evaluation.metric("auc")
    assert (metric.value, metric.low, metric.high, metric.failed_resamples) == (None, None, None, 0)
    assert evaluation.metric("specificity").value is None
    assert evaluation.metric("sensitivity").value == 0.5
    assert [curve.name for curve in evaluation.curves] == ["calibration", "net_benefit", "net_benefit_all"]


def test_no_comparable_pair_is_not_estimable(survival, predict):
    """Acceptance row 42."""
    evaluation = evaluate(predict(np.arange(5)), survival([1, 2, 3, 4, 5], [0] * 5), resamples=20)
    assert {metric.value for metric in evaluation.metrics} == {None}
    assert all(curve.label.endswith("log-rank test not estimable") for curve in evaluation.curves)


def test_twenty_patients_have_an_interval_and_its_failures_counted(binary, predict):
    rng = np.random.default_rng(0)
    outcomes = binary(np.arange(20) < 4)
    evaluation = evaluate(predict(rng.normal(size=20) + outcomes.value), outcomes)
    assert evaluation.metric("auc").failed_resamples == 0  # stratified: a sample always has both classes
    metric = evaluation.metric("average_precision")
    # Without strata a sample lacks an event with probability (16/20)²⁰ = 0.0115.
    assert 5 <= metric.failed_resamples <= 45
    assert 0 <= metric.low < metric.value < metric.high <= 1


def test_an_unknown_metric_of_an_evaluation(binary, predict):
    with pytest.raises(KeyError, match="brier"):
        evaluate(predict(np.arange(4)), binary([0, 1, 0, 1]), resamples=5).metric("brier")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"patients": (), "risk": np.zeros(0)}, "there is no prediction"),
        ({"patients": ("p000", "x1", "x2")}, "no outcome for the predicted patients {x1}, {x2}"),
        ({"patients": ("p000", "p001", "p000")}, "more than one row in a repeat for patients {p000}"),
        ({"probability": np.array([0.1, 1.2, np.nan])}, "not between 0 and 1 for patients {p001}, {p002}"),
    ],
    ids=["empty", "no outcome", "twice", "probability"],
)
def test_refusals(binary, fields, says):
    fields = {"patients": ("p000", "p001", "p002"), "risk": np.arange(3.0), **fields}
    says = says.format(**{one: pseudonym("patient", one) for one in ("p000", "p001", "p002", "x1", "x2")})
    with pytest.raises(ConfigurationError, match=says) as caught:
        evaluate(Prediction("m", "e", **fields), binary([0, 1, 0]))
    assert not [patient for patient in fields["patients"] if patient in str(caught.value)]
    assert caught.value.code is Code.PREDICTION_INVALID


def test_many_patients_are_named_by_five_and_a_count(binary):
    prediction = Prediction("m", "e", tuple(f"x{i}" for i in range(9)), np.arange(9.0))
    with pytest.raises(ConfigurationError, match=f"{pseudonym('patient', 'x4')} and 4 more"):
        evaluate(prediction, binary([0, 1]))


def test_the_document_is_json_without_nan(case, predict):
    outcomes, risk = case
    predictions = [predict(risk, model="a", probability=1 / (1 + np.exp(-risk))), predict(-risk, model="b")]
    evaluations = [evaluate(prediction, outcomes, resamples=30) for prediction in predictions]
    document = EvaluationResults(tuple(evaluations), compare(predictions, outcomes, resamples=30)).to_json()
    again = json.loads(json.dumps(document, allow_nan=False))
    assert again == document
    model = again["models"][0]
    assert list(model) == [
        "endpoint",
        "kind",
        "model",
        "n",
        "events",
        "missing",
        "repeats",
        "basis",
        "metrics",
        "curves",
        "risk_groups",
        "event_definition",
    ]
    assert list(model["metrics"][0]) == ["name", "value", "low", "high", "n", "events", "estimator", "failed_resamples"]
    assert all(list(curve) == ["name", "label", "x", "y", "low", "high"] for curve in model["curves"])
    assert len(again["comparisons"]) == 1
    assert "exclusions" not in again
    assert {"model_a", "model_b", "difference", "low", "high", "p", "p_holm"} <= set(again["comparisons"][0])


def test_what_was_written_is_read_back(case, predict, tmp_path):
    outcomes, risk = case
    predictions = [predict(risk, model="a", probability=1 / (1 + np.exp(-risk))), predict(-risk, model="b")]
    evaluations = tuple(evaluate(prediction, outcomes, resamples=30) for prediction in predictions)
    summary = summarize_cohort(
        predictions,
        [outcomes],
        factors={},
        known=[({"scan": outcomes.patients[:3]}, outcomes.patients)],
        parameters={"a": 2},
        resamples=30,
    )
    exclusion = ModelExclusion("pa-1", "se-1", "CONTOUR_MISSING", "why", "what to do", "a")
    results = EvaluationResults(
        evaluations, compare(predictions, outcomes, resamples=30), **vars(summary), exclusions=(exclusion,)
    )
    write_artefact(tmp_path / "evaluation.json", results.to_json())
    again = EvaluationResults.read(tmp_path / "evaluation.json")
    assert again.to_json() == results.to_json()
    assert again.models[0].metrics == evaluations[0].metrics
    assert again.models[0].primary_metric == evaluations[0].primary_metric
    assert again.exclusions == (exclusion,)
    assert replace(again, models=()) == replace(results, models=())
    for read, drawn in zip(again.models[0].curves, evaluations[0].curves, strict=True):
        np.testing.assert_array_equal(read.y, drawn.y)


def test_undefined_limits_become_null(survival, predict):
    evaluation = evaluate(predict([4, 3, 2, 1]), survival([1, 2, 3, 4], [1, 1, 1, 0]), resamples=20)
    curve = EvaluationResults((evaluation,)).to_json()["models"][0]["curves"][0]
    assert curve["y"][0] == 1.0
    assert curve["low"][0] is None


def test_neither_torch_nor_monai_is_imported():
    program = (
        "import sys, twobe3.evaluation.evaluate, twobe3.evaluation.csv;"
        "print(sorted({'torch', 'monai', 'pydicom'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("seed", range(8))
def test_the_smallest_cohorts_have_figures_or_none(seed, binary, survival, predict):
    """Acceptance rows 42 and 44: few patients, ties everywhere, patients missing in a repeat."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
    status = rng.choice(3, n)
    times = np.unique(rng.integers(1, 7, 3)).astype(float)
    curves = np.sort(np.round(rng.random((2 * n, len(times))), 1), axis=1)[:, ::-1]
    prediction = replace(
        predict(rng.integers(0, 3, (2, n)), probability=np.round(rng.random((2, n)), 1)), survival=curves, times=times
    ).rows(np.append(np.ones(n, dtype=bool), rng.random(n) < 0.8))
    timed = replace(survival(rng.integers(1, 6, n), status == 1), competing=status == 2)
    for outcomes in (binary(status == 1), timed):
        found = evaluate(prediction, outcomes, resamples=20)
        json.dumps(EvaluationResults((found,)).to_json(), allow_nan=False)
        assert all(metric.low <= metric.high for metric in found.metrics if metric.low is not None)
        assert {metric.n for metric in found.metrics} == {n}


def names(evaluation):
    return [curve.name for curve in evaluation.curves]


def test_probabilities_bring_calibration_and_decision_curves(binary, predict):
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.1, 0.9, (2, 60))
    outcomes = binary(rng.random(60) < chance.mean(axis=0))
    found = evaluate(predict(chance, probability=chance), outcomes, resamples=50)
    assert names(found) == ["roc", "calibration", "calibration_smooth", "net_benefit", "net_benefit_all"]
    assert names(evaluate(predict(chance), outcomes, resamples=50)) == ["roc"]


@pytest.fixture
def foreseen(survival, predict):
    """Two repeats whose survival is predicted at four times; nobody is observed until the last."""
    rng = np.random.default_rng(1)
    risk = rng.normal(size=(2, 60))
    latent = rng.exponential(30 * np.exp(-risk.mean(axis=0)))
    outcomes = survival(np.ceil(np.minimum(latent, 50)), latent <= 50)
    times = np.array([6.0, 12.0, 24.0, 60.0])
    free = np.exp(-times / (30 * np.exp(-risk.ravel()[:, None])))
    return replace(predict(risk), survival=free, times=times), outcomes


def test_survival_brings_calibration_and_decision_curves_at_the_middle_horizon(foreseen):
    prediction, outcomes = foreseen
    found = evaluate(prediction, outcomes, horizons=[6, 12, 24, 60], resamples=50)
    assert names(found) == ["kaplan_meier_low", "kaplan_meier_high", "calibration", "net_benefit", "net_benefit_all"]
    calibration, benefit, _ = found.curves[2:]
    assert "by 12 months" in calibration.label
    assert "by 12 months, mean of 2 repeats" in benefit.label
    assert calibration.x.mean() == pytest.approx(1 - prediction.survival[:, 1].mean(), abs=1e-12)  # groups of ten each


def test_without_survival_the_groups_alone_are_drawn(foreseen):
    prediction, outcomes = foreseen
    without = replace(prediction, survival=None, times=None)
    assert names(evaluate(without, outcomes, resamples=50)) == ["kaplan_meier_low", "kaplan_meier_high"]


@pytest.mark.parametrize(
    ("horizons", "expected"), [([0.5, 12, 20, 24, 49], 20), ([0.5], None), ([50, 60], None), ([30, 24], 24)]
)
def test_the_horizon_is_one_that_the_cohort_can_evaluate(foreseen, horizons, expected):
    """The first event came after 1 month, and the last patients left after 50."""
    assert curve_horizon(AlignedPredictions.of(*foreseen, horizons=horizons)) == expected


def test_a_horizon_beyond_what_was_predicted_is_not_drawn(foreseen):
    prediction, outcomes = foreseen
    short = replace(prediction, survival=prediction.survival[:, :2], times=prediction.times[:2])
    assert curve_horizon(AlignedPredictions.of(short, outcomes, horizons=[24])) is None


def test_without_an_event_there_is_no_horizon(foreseen):
    prediction, outcomes = foreseen
    nothing = replace(outcomes, event=np.zeros(60, bool))
    assert curve_horizon(AlignedPredictions.of(prediction, nothing, horizons=[12])) is None
