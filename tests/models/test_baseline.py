"""Baselines: the one number they are given, through a univariate model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import Kind
from twobe3.models import Baseline, load_model
from twobe3.models.baseline import Variable
from twobe3.scans.scan import ArrayScan

MakeCohort = Callable[..., Cohort]


@pytest.fixture(scope="module")
def cohort(make_cohort: MakeCohort) -> Cohort:
    return make_cohort(16)


def of(cohort: Cohort, **changed: Any) -> Cohort:
    """The cohort, each study changed by what functions of its position give."""
    subjects = tuple(
        replace(subject, **{key: make(i) for key, make in changed.items()}) for i, subject in enumerate(cohort.subjects)
    )
    return replace(cohort, subjects=subjects)


@pytest.mark.parametrize("variable", get_args(Variable))
def test_every_variable_can_be_a_baseline(variable: Variable, cohort: Cohort) -> None:
    risk = Baseline(variable).fit(cohort).predict(cohort).risk
    assert np.isfinite(risk).all()


def test_risks_of_suvmax_have_its_order(cohort: Cohort) -> None:
    risk = Baseline("suvmax").fit(cohort).predict(cohort).risk
    hottest = [
        subject.scan.suv().array[subject.scan.region.array].max()
        for subject in cohort.subjects
        if isinstance(subject.scan, ArrayScan) and subject.scan.region is not None
    ]
    assert (np.argsort(risk) == np.argsort(hottest)).all()
    assert np.corrcoef(risk, np.log1p(hottest))[0, 1] == pytest.approx(1.0)


def test_names_tell_variable_and_region() -> None:
    assert Baseline("suvmax").name == "suvmax (contour)"
    assert Baseline("tlg", region="threshold", threshold_suv=2.5).name == "tlg (SUV > 2.5)"
    assert Baseline("tlg", region="contour", roi="GTV").name == "tlg (contour GTV)"
    assert Baseline("tumour_volume", region="relative").name == "tumour_volume (41 % of SUVmax)"
    assert Baseline("suvmax", region="percist").name == "suvmax (PERCIST)"
    assert Baseline("age").name == "age"
    assert Baseline("age", name="years").name == "years"


def test_sex_and_age_come_from_the_covariates(cohort: Cohort) -> None:
    event = cohort.outcomes.event
    told = of(cohort, covariates=lambda i: {"sex": "FM"[int(event[i])], "age_years": 50.0 + i})
    risk = Baseline("sex").fit(told).predict(told).risk
    assert len(set(risk)) == 2
    assert risk[event].min() > risk[~event].max()
    steps = np.diff(Baseline("age").fit(told).predict(told).risk)
    assert steps == pytest.approx(np.full(15, steps[0]))


@pytest.mark.parametrize("variable", ["age", "sex", "weight"])
def test_the_training_median_stands_in_for_what_is_missing_and_that_is_told(
    variable: Variable, cohort: Cohort, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="twobe3")
    model = Baseline(variable).fit(cohort)
    bare = of(cohort, covariates=lambda i: {})
    risk = model.predict(bare).risk
    assert len(risk) == 16
    assert len(set(risk)) == 1
    known = model.predict(cohort).risk
    assert known.min() <= risk[0] <= known.max()
    assert "16 of 16 patients lack it" in caplog.messages[-1]


def without_contour(cohort: Cohort, positions: set[int]) -> Cohort:
    def scan(i: int) -> Any:
        bare = cohort.subjects[i].scan
        return replace(bare, region=None) if i in positions else bare  # type: ignore[type-var]

    return of(cohort, scan=scan)


@pytest.mark.parametrize("variable", ["suvmax", "tumour_volume", "tlg"])
def test_a_scan_without_the_region_neither_trains_nor_is_predicted_and_the_reason_is_told(
    variable: Variable, cohort: Cohort
) -> None:
    bare, kept = without_contour(cohort, {2, 9}), [i for i in range(16) if i not in (2, 9)]
    model = Baseline(variable)
    assert [(one.patient, one.code) for one in model.report(bare).exclusions] == [
        (cohort.subjects[i].patient, "CONTOUR_MISSING") for i in (2, 9)
    ]
    prediction = model.fit(bare).predict(bare)
    assert prediction.patients == cohort.subset(kept).patients
    alone = Baseline(variable).fit(cohort.subset(kept)).predict(cohort.subset(kept))
    assert (prediction.risk == alone.risk).all()
    assert len(model.predict(bare.subset([2, 9]))) == 0
    assert (
        model.report(cohort).exclusions
        == Baseline("age").report(bare).exclusions
        == Baseline("image_extent").report(bare).exclusions
        == ()
    )


def test_nothing_above_the_threshold_is_a_volume_of_0_and_not_a_missing_region(cohort: Cohort) -> None:
    model = Baseline("tumour_volume", region="threshold", threshold_suv=12.0)
    volumes = [model._measure(subject).volume_ml for subject in cohort.subjects]
    assert volumes.count(0.0) in range(2, 14)
    assert model.report(cohort).exclusions == ()
    assert len(model.fit(cohort).predict(cohort)) == 16


def test_too_few_scans_with_the_region_are_a_coded_error_with_counts(cohort: Cohort) -> None:
    with pytest.raises(ConfigurationError, match=r"'tlg \(PERCIST\)': 0 of 16 training patients have a scan") as caught:
        Baseline("tlg", region="percist").fit(cohort)  # a ball in noise has no liver
    assert caught.value.code is Code.NOTHING_USABLE
    event = cohort.outcomes.event
    with pytest.raises(
        ConfigurationError, match="8 of 16 training patients have a scan that it can use, 0 of them with"
    ) as two:
        Baseline("tlg").fit(without_contour(cohort, set(np.flatnonzero(event).tolist())))
    assert two.value.code is Code.ONE_CLASS


def test_a_variable_that_nobody_has_predicts_the_same_for_all(cohort: Cohort) -> None:
    bare = of(cohort, covariates=lambda i: {})
    risk = Baseline("age").fit(bare).predict(bare).risk
    assert risk == pytest.approx(np.zeros(16), abs=1e-4)  # 8 of 16 have the event


def test_centres_are_told_apart_and_an_unseen_one_is_none_of_them(cohort: Cohort) -> None:
    event = cohort.outcomes.event
    told = of(cohort, centre=lambda i: "south" if event[i] else "north")
    model = Baseline("centre").fit(told)
    north, south, west = (
        model.predict(of(cohort, centre=lambda _, where=where: where)).risk[0] for where in ("north", "south", "west")
    )
    assert north < west < south


def test_measuring_beforehand_leaves_nothing_to_compute(cohort: Cohort) -> None:
    model = Baseline("tlg")
    model.precompute(cohort)
    assert (model.cache.computed, model.cache.reused) == (16, 0)
    model.fit(cohort).predict(cohort)
    assert model.cache.computed == 16


@pytest.mark.parametrize(
    "wrong", [{"variable": "colour"}, {"region": "liver"}, {"threshold_suv": 0.0}, {"fraction": 41}]
)
def test_what_is_no_baseline_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Baseline(**wrong)


def test_clinical_covariates_predict_what_they_tell(cohort: Cohort) -> None:
    event = cohort.outcomes.event
    told = of(cohort, covariates=lambda i: {"age_years": 60.0, "sex": "FM"[i % 2], "hpv": "ny"[int(event[i])]})
    risk = Baseline("clinical").fit(told).predict(told).risk
    assert risk[event].min() > risk[~event].max()
    without = Baseline("clinical", covariates=("sex",)).fit(told).predict(told).risk
    assert len(set(without)) == 2


def test_one_clinical_number_is_the_baseline_of_that_number(cohort: Cohort) -> None:
    age, clinical = Baseline("age"), Baseline("clinical", covariates=("age",))
    same = age.fit(cohort).predict(cohort).risk
    assert clinical.fit(cohort).predict(cohort).risk == pytest.approx(same, rel=1e-4, abs=1e-5)
    assert (clinical.name, clinical.report(cohort).n_parameters) == ("clinical (age)", 1)


def test_several_clinical_columns_are_a_ridge_whose_penalty_the_training_patients_choose(
    make_cohort: MakeCohort,
) -> None:
    event = make_cohort(40).outcomes.event
    chosen: dict[float, list[float]] = {0.0: [], 2.0: []}
    for seed in range(9):
        for signal, penalties in chosen.items():
            x = np.random.default_rng(seed).normal(size=(40, 8)) + signal * event[:, None]
            noise = of(make_cohort(40), covariates=lambda i, x=x: {f"x{k}": float(x[i, k]) for k in range(8)})
            model = Baseline("clinical").fit(noise)
            assert model.ridge_ is not None
            penalties.append(model.ridge_.penalty)
    assert np.median(chosen[0.0]) >= 30.0 > 3.0 >= np.median(chosen[2.0])  # nothing to learn: little is learnt
    x = np.array([[subject.covariates[f"x{k}"] for k in range(8)] for subject in noise.subjects])
    oracle = LogisticRegression(C=1.0 / model.ridge_.penalty, tol=1e-8).fit(
        (x - x.mean(axis=0)) / x.std(axis=0), noise.outcomes.event
    )
    expected = oracle.decision_function((x - x.mean(axis=0)) / x.std(axis=0))
    assert model.predict(noise).risk == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["binary", "time-to-event", "continuous"])
def test_what_is_missing_is_imputed_with_the_training_patients_and_counted(
    kind: Kind, make_cohort: MakeCohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="twobe3")
    cohort = make_cohort(24, (kind,))
    train, test = cohort.subset(range(16)), cohort.subset(range(16, 24))
    train = of(train, covariates=lambda i: {"n": float(i), **({"stage": "I" if i % 2 else "II"} if i else {})})
    model = Baseline("clinical").fit(train)
    assert model.report(train).imputed == {"stage": 1}
    bare = of(test, covariates=lambda i: {})
    middle = of(test, covariates=lambda i: {"n": 7.5})  # the training median
    risk = model.predict(bare).risk
    assert len(set(risk)) == 1
    np.testing.assert_array_equal(risk, model.predict(middle).risk)
    assert "is missing for 8 of 8 patients: filled in" in caplog.text
    model.save(tmp_path)
    np.testing.assert_array_equal(load_model(tmp_path).predict(bare).risk, risk)


def test_who_lacks_age_sex_or_weight_is_counted_too(cohort: Cohort) -> None:
    some = of(cohort, covariates=lambda i: {"age_years": 5.0, "sex": "O"} if i < 9 else {"weight_kg": 70.0})
    counts = {one: Baseline(one).report(some).imputed for one in ("age", "sex", "weight", "centre", "image_extent")}  # type: ignore[arg-type]
    assert counts == {"age": {"age": 7}, "sex": {"sex": 16}, "weight": {"weight": 9}, "centre": {}, "image_extent": {}}
