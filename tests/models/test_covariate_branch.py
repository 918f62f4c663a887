"""Covariates that join late: what they tell alone, imputed inside the fold, refused where nobody has them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import Kind
from twobe3.io.cache import Cache
from twobe3.models import CNN3D, PooledModel, TwoBe3Net, load_model
from twobe3.models.encoder import INNER_FOLDS, PENALTIES, fit_encoder, initial_weights
from twobe3.models.learners.linear import choose_penalty

STORE = Cache()
QUICK: dict[str, Any] = {"backbone": "resnet18", "weights": "random", "layer": 2, "slice_size": 32, "cache": STORE}
NETWORK: dict[str, Any] = {"epochs": 2, "ensemble_size": 1, "components": 4, "reduced_channels": 4, "width": 4}


def told(cohort: Cohort, *, lost: int = 0) -> Cohort:
    """The cohort with a covariate ``stage`` that tells the outcome nearly, unknown for the first patients."""
    rng = np.random.default_rng(1)
    value = cohort.outcomes.value
    stage = (value > np.median(value)) + rng.normal(0, 0.3, len(value))
    subjects = [
        replace(subject, covariates={**subject.covariates, **({} if i < lost else {"stage": float(stage[i])})})
        for i, subject in enumerate(cohort.subjects)
    ]
    return replace(cohort, subjects=tuple(subjects))


@pytest.fixture(scope="module")
def noise(make_cohort: Callable[..., Cohort]) -> Cohort:
    """Scans that tell nothing."""
    cohort: Cohort = make_cohort(40, ("binary",), signal=False)
    return told(cohort)


def test_alone_they_are_the_ridge_regression_of_scikit_learn(noise: Cohort) -> None:
    x = fit_encoder(noise.subjects, ["stage", "age_years"]).encode(noise.subjects)
    penalty = choose_penalty(x, noise.outcomes, PENALTIES, inner_folds=INNER_FOLDS, seed=0)
    reference = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=1000)
    reference.fit(x, noise.outcomes.event)
    np.testing.assert_allclose(initial_weights(x, noise.outcomes, seed=0), reference.coef_[0], atol=1e-4)


@pytest.mark.parametrize(
    "model",
    [
        TwoBe3Net(**QUICK, **NETWORK, covariates=("stage",)),
        CNN3D(epochs=2, width=4, covariates=("stage",)),
        PooledModel(**QUICK, planes=("axial",), covariates=("stage",), inner_folds=3),
    ],
    ids=lambda model: model.kind,
)
def test_where_the_images_tell_nothing_the_covariates_do_and_a_file_holds_them(
    model: TwoBe3Net | CNN3D | PooledModel, noise: Cohort, tmp_path: Path
) -> None:
    train, test = noise.subset(range(24)), noise.subset(range(24, 40))
    risk = model.fit(train).predict(test).risk
    assert roc_auc_score(test.outcomes.event, risk) > 0.8
    bare = replace(model, covariates=()).fit(train).predict(test).risk
    assert roc_auc_score(test.outcomes.event, bare) < 0.8
    again = load_model(model.save(tmp_path), cache=STORE)
    np.testing.assert_array_equal(again.predict(test).risk, risk)


@pytest.mark.parametrize("kind", ["time-to-event", "continuous"])
def test_every_kind_of_endpoint_takes_covariates(kind: Kind, make_cohort: Callable[..., Cohort]) -> None:
    cohort = told(make_cohort(24, (kind,), signal=False))
    for parameters in ({"head": "risk"}, {"head": "hazard"}):
        model = TwoBe3Net(**QUICK, **NETWORK, **parameters, covariates=("stage", "sex"))
        prediction = model.fit(cohort).predict(cohort)
        high = cohort.outcomes.value > np.median(cohort.outcomes.value)
        auc = roc_auc_score(high, prediction.risk)
        assert auc > 0.8 if kind == "continuous" else auc < 0.2  # high risk: short times


def test_a_missing_covariate_is_filled_in_by_the_training_patients_and_told(
    make_cohort: Callable[..., Cohort], caplog: pytest.LogCaptureFixture
) -> None:
    cohort = told(make_cohort(24, ("binary",)), lost=3)
    train, test = cohort.subset(range(3, 24)), cohort.subset(range(3))
    model = TwoBe3Net(**QUICK, **NETWORK, covariates=("stage",)).fit(train)
    median = float(np.median([subject.covariates["stage"] for subject in train.subjects]))  # type: ignore[arg-type]
    filled = replace(
        test, subjects=tuple(replace(s, covariates={**s.covariates, "stage": median}) for s in test.subjects)
    )
    with caplog.at_level(logging.INFO, "twobe3"):
        risk = model.predict(test).risk
    assert "covariate stage is missing for 3 of 3 patients" in caplog.text
    np.testing.assert_array_equal(risk, model.predict(filled).risk)
    assert np.isfinite(risk).all()


def test_a_covariate_that_is_not_a_number_is_missing(make_cohort: Callable[..., Cohort]) -> None:
    cohort = told(make_cohort(16, ("binary",)))
    broken = replace(cohort.subjects[0], covariates={**cohort.subjects[0].covariates, "stage": float("nan")})
    cohort = replace(cohort, subjects=(broken, *cohort.subjects[1:]))
    encoder = fit_encoder(cohort.subjects, ["stage"])
    assert np.isfinite(encoder.encode(cohort.subjects)).all()
    assert encoder.count_imputed(cohort.subjects) == {"stage": 1}


def test_a_covariate_that_nobody_has_is_refused_with_the_nearest(noise: Cohort) -> None:
    with pytest.raises(ConfigurationError, match=r"'stagee'.*there are stage") as caught:
        TwoBe3Net(**QUICK, **NETWORK, covariates=("stagee",)).fit(noise)
    assert caught.value.code is Code.COLUMN_MISSING


def test_covariates_that_are_the_same_for_all_change_nothing(noise: Cohort) -> None:
    same = replace(noise, subjects=tuple(replace(s, covariates={**s.covariates, "stage": 1.0}) for s in noise.subjects))
    with_it, without = (
        TwoBe3Net(**QUICK, **NETWORK, covariates=names).fit(same).predict(same).risk for names in (("stage",), ())
    )
    np.testing.assert_array_equal(with_it, without)


def test_a_covariate_may_stand_once() -> None:
    with pytest.raises(ValueError, match="covariate"):
        TwoBe3Net(covariates=("sex", "sex"))
