"""Controls: the one number they are given, through a univariate model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError

from twobe3.cohort import ArrayScan, Cohort
from twobe3.models import Control, load_model
from twobe3.models.controls import Variable

MakeCohort = Callable[..., Cohort]


@pytest.fixture(scope="module")
def cohort(make_cohort: MakeCohort) -> Cohort:
    return make_cohort(16)


def of(cohort: Cohort, **changed: Any) -> Cohort:
    """The cohort, each study changed by what functions of its position give."""
    studies = tuple(
        replace(study, **{key: make(i) for key, make in changed.items()}) for i, study in enumerate(cohort.studies)
    )
    return replace(cohort, studies=studies)


@pytest.mark.parametrize("variable", get_args(Variable))
def test_every_variable_can_be_a_control(variable: Variable, cohort: Cohort) -> None:
    risk = Control(variable).fit(cohort).predict(cohort).risk
    assert np.isfinite(risk).all()


def test_risks_of_suvmax_have_its_order(cohort: Cohort) -> None:
    risk = Control("suvmax").fit(cohort).predict(cohort).risk
    hottest = [
        study.scan.suv().array[study.scan.region.array].max()
        for study in cohort.studies
        if isinstance(study.scan, ArrayScan) and study.scan.region is not None
    ]
    assert (np.argsort(risk) == np.argsort(hottest)).all()
    assert np.corrcoef(risk, np.log1p(hottest))[0, 1] == pytest.approx(1.0)


def test_names_tell_variable_and_region() -> None:
    assert Control("suvmax").name == "suvmax (contour)"
    assert Control("tlg", region="threshold", threshold_suv=2.5).name == "tlg (SUV > 2.5)"
    assert Control("tlg", region="contour", roi="GTV").name == "tlg (contour GTV)"
    assert Control("tumour_volume", region="relative").name == "tumour_volume (41 % of SUVmax)"
    assert Control("suvmax", region="percist").name == "suvmax (PERCIST)"
    assert Control("age").name == "age"
    assert Control("age", name="years").name == "years"


def test_sex_and_age_come_from_the_covariates(cohort: Cohort) -> None:
    event = cohort.outcomes.event
    told = of(cohort, covariates=lambda i: {"sex": "FM"[int(event[i])], "age_years": 50.0 + i})
    risk = Control("sex").fit(told).predict(told).risk
    assert len(set(risk)) == 2
    assert risk[event].min() > risk[~event].max()
    steps = np.diff(Control("age").fit(told).predict(told).risk)
    assert steps == pytest.approx(np.full(15, steps[0]))


@pytest.mark.parametrize("variable", ["suvmax", "age", "sex", "weight"])
def test_the_training_median_stands_in_for_what_is_missing_and_that_is_told(
    variable: Variable, cohort: Cohort, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="twobe3")
    model = Control(variable).fit(cohort)
    bare = of(cohort, covariates=lambda i: {}, scan=lambda i: replace(cohort.studies[i].scan, region=None))  # type: ignore[type-var]
    risk = model.predict(bare).risk
    assert len(set(risk)) == 1
    known = model.predict(cohort).risk
    assert known.min() <= risk[0] <= known.max()
    assert "16 of 16 patients lack it" in caplog.messages[-1]


def test_scans_without_the_region_are_counted_by_the_reason(
    cohort: Cohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="twobe3")
    model = Control("tlg", region="percist").fit(cohort)  # a ball in noise has no liver
    assert model.lacking_ == {"LIVER_NOT_FOUND": 16}
    assert "16 of 16 patients lack it, 16 LIVER_NOT_FOUND" in caplog.messages[-1]
    assert len(set(model.predict(cohort).risk)) == 1
    model.save(tmp_path)
    assert load_model(tmp_path).lacking_ == {"LIVER_NOT_FOUND": 16}  # type: ignore[attr-defined]
    assert Control("tlg").fit(cohort).lacking_ == {}
    assert Control("age").fit(of(cohort, covariates=lambda i: {})).lacking_ == {}


def test_a_variable_that_nobody_has_predicts_the_same_for_all(cohort: Cohort) -> None:
    bare = of(cohort, covariates=lambda i: {})
    risk = Control("age").fit(bare).predict(bare).risk
    assert risk == pytest.approx(np.zeros(16), abs=1e-4)  # 8 of 16 have the event


def test_centres_are_told_apart_and_an_unseen_one_is_none_of_them(cohort: Cohort) -> None:
    event = cohort.outcomes.event
    told = of(cohort, centre=lambda i: "south" if event[i] else "north")
    model = Control("centre").fit(told)
    north, south, west = (
        model.predict(of(cohort, centre=lambda _, where=where: where)).risk[0] for where in ("north", "south", "west")
    )
    assert north < west < south


def test_measuring_beforehand_leaves_nothing_to_compute(cohort: Cohort) -> None:
    model = Control("tlg")
    model.prepare(cohort)
    assert (model.store.computed, model.store.reused) == (16, 0)
    model.fit(cohort).predict(cohort)
    assert model.store.computed == 16


@pytest.mark.parametrize(
    "wrong", [{"variable": "colour"}, {"region": "liver"}, {"threshold_suv": 0.0}, {"fraction": 41}]
)
def test_what_is_no_control_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Control(**wrong)
