"""Tests of the inner cross-validation: a person stays on one side, whoever splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sklearn.model_selection
from tests.models.test_conformance import KINDS, small

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import CrossValidation, Fold, Sample
from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.outcomes import Endpoint, FloatArray, IntArray, Outcomes
from twobe3.models import MODELS
from twobe3.models.inner_cv import Risk, cross_val_predict, inner_split
from twobe3.models.learners.learner import FITTED
from twobe3.models.model import parameter_names
from twobe3.validation.thresholds import ThresholdPolicy, cross_val_risk

TWINS = ("MRN-1000", "MRN-1001")


@pytest.fixture(scope="module")
def twins(make_cohort: Callable[..., Cohort]) -> Cohort:
    """A cohort in which one person stands under two ids."""
    cohort = make_cohort(16, KINDS)
    first, second, *others = cohort.subjects
    return replace(cohort, subjects=(first, replace(second, duplicate_of=first.patient_id), *others))


@pytest.fixture
def splits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Sample, tuple[Fold, ...]]]]:
    """Every split that is made during a test; no splitter that knows no groups may be used."""
    made: list[tuple[Sample, tuple[Fold, ...]]] = []
    split = CrossValidation.split

    def spy(self: CrossValidation, sample: Sample) -> tuple[Fold, ...]:
        made.append((sample, split(self, sample)))
        return made[-1][1]

    def refuse(*arguments: Any, **named: Any) -> None:
        raise AssertionError("a split that knows no groups")

    monkeypatch.setattr(CrossValidation, "split", spy)
    for splitter in ("KFold", "StratifiedKFold", "ShuffleSplit", "StratifiedShuffleSplit"):
        monkeypatch.setattr(getattr(sklearn.model_selection, splitter), "split", refuse)
    yield made
    for sample, folds in made:
        persons = np.array(sample.groups)
        for fold in folds:
            assert not set(persons[fold.train]) & set(persons[fold.test])


def apart(splits: list[tuple[Sample, tuple[Fold, ...]]]) -> list[Sample]:
    """The samples that hold the person under both ids, known as one person."""
    both = [sample for sample, _ in splits if {*TWINS} <= {*sample.patients}]
    for sample in both:
        first, second = (sample.groups[sample.patients.index(patient)] for patient in TWINS)
        assert first == second
    return both


@pytest.mark.parametrize("endpoint", ["relapse", "survival", "uptake"])
@pytest.mark.parametrize("kind", MODELS)
def test_no_model_has_a_person_on_both_sides_of_an_inner_fold(
    kind: str, endpoint: str, twins: Cohort, splits: list[tuple[Sample, tuple[Fold, ...]]]
) -> None:
    names = parameter_names(MODELS[kind])
    covariates = {"covariates": ("age_years",)} if "covariates" in names else {}
    known = {"variable": "clinical", "covariates": ("age_years", "sex")} if kind == "baseline" else covariates
    small(kind, **known).fit(twins.for_endpoint(endpoint))
    assert apart(splits)


@pytest.mark.parametrize("learner", FITTED)
def test_no_learner_has_a_person_on_both_sides_of_an_inner_fold(
    learner: str, twins: Cohort, splits: list[tuple[Sample, tuple[Fold, ...]]]
) -> None:
    if learner == "random-survival-forest":
        pytest.importorskip("sksurv")
    small("radiomics", learner=learner, trees=3).fit(twins.for_endpoint("survival"))
    assert bool(apart(splits)) == (learner in ("elastic-net", "ridge"))  # the others choose nothing by folds


def test_recalibration_has_no_person_on_both_sides(
    twins: Cohort, splits: list[tuple[Sample, tuple[Fold, ...]]]
) -> None:
    cohort = twins.for_endpoint("relapse")
    assert cross_val_risk(small("baseline", variable="age"), cohort, ThresholdPolicy(True, 3)) is not None
    assert apart(splits)


def outcomes_of(endpoint: Endpoint, event: list[int], groups: tuple[str, ...] = ()) -> Outcomes:
    patients = tuple(f"P{i:03d}" for i in range(len(event)))
    return Outcomes(endpoint, patients, np.arange(len(event)) + 1.0, np.array(event, bool), groups=groups)


@pytest.mark.parametrize(
    ("endpoint", "event", "folds"),
    [
        (Binary("y", "y"), [1, 1, 1, 0, 0, 0, 0, 0], 3),
        (Binary("y", "y"), [1, 1, 1, 1, 1, 1, 0, 0], 2),
        (Binary("y", "y"), [1, 0, 0, 0], 0),
        (TimeToEvent("y", "t", "e"), [1, 1, 1, 1, 1, 0], 4),
        (TimeToEvent("y", "t", "e"), [1, 0, 0, 0], 0),
        (Continuous("y", "y"), [1] * 5, 4),
        (Continuous("y", "y"), [1] * 3, 3),
    ],
)
def test_there_are_no_more_folds_than_patients_of_the_rarer_class(
    endpoint: Endpoint, event: list[int], folds: int
) -> None:
    assert len(inner_split(outcomes_of(endpoint, event), 4, 0)) == folds


def test_two_ids_of_one_person_count_once() -> None:
    outcomes = outcomes_of(Binary("y", "y"), [1, 1, 0, 0, 0], ("P000", "P000", "P002", "P003", "P004"))
    assert inner_split(outcomes, 4, 0) == ()


def test_there_is_no_split_where_too_few_would_be_left_to_learn_from() -> None:
    outcomes = outcomes_of(Continuous("y", "y"), [1] * 6)
    assert len(inner_split(outcomes, 2, 0, min_patients=3)) == 2
    assert inner_split(outcomes, 2, 0, min_patients=4) == ()


@pytest.mark.parametrize("endpoint", [Binary("y", "y"), TimeToEvent("y", "t", "e")])
def test_each_risk_is_that_of_a_model_that_has_not_seen_the_patient(endpoint: Endpoint) -> None:
    outcomes = outcomes_of(endpoint, [1, 0] * 6)
    split = inner_split(outcomes, 3, 0)

    def fit(train: IntArray) -> Risk:
        def risk(index: IntArray) -> FloatArray:
            return 100.0 * train.sum() + index

        return risk

    risks = cross_val_predict(fit, outcomes, split)
    for fold in split:
        origin = 0.0 if endpoint.risk_has_origin else 100.0 * fold.train.sum() + fold.train.mean()
        np.testing.assert_allclose(risks[fold.test], 100.0 * fold.train.sum() + fold.test - origin)
