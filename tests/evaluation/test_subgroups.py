"""Parts of a cohort: the same metric on fewer patients."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from twobe3.evaluation.cohort_summary import count_missing
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.subgroups import evaluate_subgroups, levels


@pytest.fixture
def case(binary, predict):
    rng = np.random.default_rng(0)
    outcomes = binary(np.arange(60) % 3 == 0)
    return outcomes, predict(outcomes.value + rng.normal(size=(2, 60)))


def test_a_subgroup_is_the_metric_of_its_patients(case):
    outcomes, prediction = case
    sex = {patient: "F" if i < 40 else "M" for i, patient in enumerate(outcomes.patients)}
    female, male = evaluate_subgroups([prediction], outcomes, {"sex": sex}, resamples=300)
    risk = prediction.risk.reshape(2, 60)
    folds = np.arange(40) % 5
    pairs = [(f, outcomes.event[:40][folds == f]) for f in range(5)]
    weights = [event.sum() * (~event).sum() for _, event in pairs]
    areas = [[roc_auc_score(event, r[:40][folds == f]) for f, event in pairs] for r in risk]
    expected = np.mean(np.average(areas, axis=1, weights=weights))
    assert (female.factor, female.level, female.n, female.events) == ("sex", "F", 40, 14)
    assert female.value == pytest.approx(expected, abs=1e-12)
    assert (female.metric, female.warning) == ("auc_within_folds", "")
    assert (male.n, male.events, male.warning) == (20, 6, "only 6 with the event")
    # The same patients evaluated alone have the same figure and interval.
    rows = np.tile(np.arange(60) < 40, 2)
    alone = type(prediction)(
        "model", "e", tuple(np.array(prediction.patients)[rows]), prediction.risk[rows], None,
        prediction.repeat[rows], prediction.fold[rows],
    )  # fmt: skip
    metric = evaluate(alone, outcomes, resamples=300).headline
    assert (female.low, female.high) == (metric.low, metric.high)


def test_a_subgroup_of_one_class_is_not_estimable_and_says_why(case):
    outcomes, prediction = case
    stage = {patient: "I" if event else "II" for patient, event in zip(outcomes.patients, outcomes.event, strict=True)}
    first, second = evaluate_subgroups([prediction], outcomes, {"stage": stage}, resamples=20)
    assert (first.value, first.low, first.warning) == (None, None, "only 0 without the event")
    assert (second.value, second.warning) == (None, "only 0 with the event")


def test_patients_whose_level_is_not_known_stand_last_and_a_constant_factor_is_left_out(case):
    outcomes, prediction = case
    part = dict.fromkeys(outcomes.patients[:30], "zz")
    found = evaluate_subgroups([prediction], outcomes, {"a": part, "b": dict.fromkeys(outcomes.patients, "x")})
    assert [(group.factor, group.level, group.n) for group in found] == [("a", "zz", 30), ("a", "not stated", 30)]


def test_subgroups_of_times_count_events_and_those_of_numbers_patients(survival, continuous, predict):
    names = ("p000", "p001", "p002", "p003")
    factor = {"sex": dict(zip(names, "FFMM", strict=True))}
    (first, _) = evaluate_subgroups([predict(range(4))], survival([1, 2, 3, 4], [1, 1, 1, 0]), factor, resamples=20)
    assert (first.metric, first.warning) == ("harrell_c", "only 2 with the event")
    (first, _) = evaluate_subgroups([predict(range(4))], continuous([1, 2, 3, 4]), factor, resamples=20)
    assert first.warning == "only 2 patients"


def test_numbers_are_cut_at_their_tertiles():
    found = levels({f"p{age}": float(age) for age in range(31, 61)})
    assert list(dict.fromkeys(found.values())) == ["≤ 40", "> 40 to 50", "> 50"]
    assert [list(found.values()).count(level) for level in dict.fromkeys(found.values())] == [10, 10, 10]
    assert (found["p40"], found["p41"], found["p51"]) == ("≤ 40", "> 40 to 50", "> 50")
    assert levels({f"p{age}": f"{age}" for age in range(31, 61)}) == found
    assert set(levels({f"p{age}": f"{age} years" for age in range(31, 35)}).values()) == {
        f"{age} years" for age in range(31, 35)
    }


def test_few_numbers_and_texts_are_their_own_levels_and_the_unknown_have_none():
    assert levels({"a": 2.0, "b": 1.0, "c": None}) == {"b": "1", "a": "2"}
    stages = {f"p{i}": str(1 + i % 4) for i in range(20)}
    assert list(dict.fromkeys(levels(stages).values())) == ["1", "2", "3", "4"]
    assert levels({"a": "II", "b": "", "c": "I"}) == {"c": "I", "a": "II"}


def test_rare_levels_are_joined():
    centres = {f"p{i}": f"centre {i % 7}" for i in range(70)} | {f"q{i}": f"small {i}" for i in range(5)}
    found = levels(centres)
    assert list(dict.fromkeys(found.values())) == [*(f"centre {i}" for i in range(7)), "other"]
    assert list(found.values()).count("other") == 5


def test_missing_values_are_counted_among_the_patients_asked_for():
    sex, scan = count_missing({"sex": {"a", "b", "x"}, "PET scan": {"a", "b", "c", "d"}}, ["a", "b", "c", "d"])
    assert (sex.what, sex.missing, sex.n, sex.share) == ("sex", 2, 4, 0.5)
    assert (scan.missing, scan.share) == (0, 0.0)
    (nobody,) = count_missing({"sex": set()}, [])
    assert nobody.share == 0


def test_a_part_of_one_patient_has_no_figure(binary, survival, continuous, predict):
    rng = np.random.default_rng(0)
    time, event = np.arange(1.0, 13.0), np.arange(12) % 2
    for outcomes in (binary(event), survival(time, event), survival(time, np.zeros(12)), continuous(time)):
        alone = {patient: "b" if i else "a" for i, patient in enumerate(outcomes.patients)}
        first, _ = evaluate_subgroups([predict(rng.normal(size=(2, 12)))], outcomes, {"x": alone}, resamples=20)
        assert (first.n, first.value, first.low, first.high) == (1, None, None, None)
        assert first.warning
