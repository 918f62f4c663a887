"""Pooled features: which statistics of which positions, a random projection, and covariates weighed honestly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from twobe3.cohort.cohort import Cohort
from twobe3.features.slices import Plane
from twobe3.io.cache import Cache
from twobe3.models import PooledModel
from twobe3.models.inner_cv import inner_split
from twobe3.models.learners.linear import fit_ridge
from twobe3.models.pooled import random_directions

STORE = Cache()
SMALL: dict[str, Any] = {"backbone": "resnet18", "weights": "random", "layer": 2, "slice_size": 32, "cache": STORE}
PLANES: tuple[Plane, ...] = ("axial", "sagittal")
CHANNELS = 128


@pytest.fixture(scope="module")
def cohort(make_cohort: Callable[..., Cohort]) -> Cohort:
    made: Cohort = make_cohort(30)
    return made


def test_the_statistics_asked_for_are_taken_in_their_order(cohort: Cohort) -> None:
    few = cohort.subset(range(3))
    whole = PooledModel(**SMALL, planes=PLANES)._pooled(few).reshape(3, 2, 3, CHANNELS)
    some = PooledModel(**SMALL, planes=PLANES, statistics=("std", "mean"))._pooled(few)
    np.testing.assert_array_equal(some.reshape(3, 2, 2, CHANNELS), whole[:, :, [2, 0]])


def test_pooled_over_planes_they_are_those_of_all_positions_each_plane_counting_alike(cohort: Cohort) -> None:
    few = cohort.subset(range(2))
    model = PooledModel(**SMALL, planes=PLANES, pool_planes=True)
    (extractor,) = model.maps.extractors()
    for row, subject in zip(model._pooled(few), few.subjects, strict=True):
        maps = extractor.extract(few, subject)
        # 16 slices of 4 × 4 positions in either plane: as many, so each plane counts alike.
        positions = np.concatenate([maps[plane].reshape(CHANNELS, -1).astype(float) for plane in PLANES], axis=1)
        expected = np.concatenate([positions.mean(1), positions.max(1), positions.std(1)])
        np.testing.assert_allclose(row, expected, rtol=1e-7, atol=1e-12)


def test_several_layers_follow_each_other(cohort: Cohort) -> None:
    few = cohort.subset(range(2))
    both, *single = (PooledModel(**{**SMALL, "layer": layer}, planes=PLANES)._pooled(few) for layer in ((2, 3), 2, 3))
    np.testing.assert_array_equal(both, np.concatenate(single, axis=1))


def test_a_random_projection_keeps_distances_and_is_the_same_for_ever() -> None:
    directions = random_directions(3000, 400, seed=0)
    x = np.random.default_rng(0).normal(0, 1, (20, 3000))
    before, after = (
        np.linalg.norm(y[:, None] - y[None], axis=-1)[~np.eye(20, dtype=bool)] for y in (x, x @ directions)
    )
    # Relative errors of squared distances have standard deviation sqrt(2/k) (Dasgupta & Gupta 2003).
    assert np.abs(after**2 / before**2 - 1).max() < 5 * np.sqrt(2 / 400)
    assert directions[0, 0] * np.sqrt(400) == pytest.approx(1.764052345967664)  # of numpy's frozen generator
    assert np.abs(random_directions(3000, 400, seed=1) - directions).max() > 0


def test_the_model_of_a_projection_is_the_ridge_regression_of_its_columns(cohort: Cohort) -> None:
    model = PooledModel(**SMALL, planes=("axial",), projection=16, penalties=(10.0,)).fit(cohort)
    x = model._pooled(cohort)
    spread = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0) @ random_directions(x.shape[1], 16, 0)
    standard = (z - z.mean(axis=0)) / z.std(axis=0)
    reference = LogisticRegression(C=1 / 10.0, tol=1e-10, max_iter=10_000).fit(standard, cohort.outcomes.event)
    np.testing.assert_allclose(model.predict(cohort).risk, reference.decision_function(standard), atol=1e-4)
    assert model.report(cohort).n_parameters == 16


def test_a_projection_still_finds_the_lesion_in_patients_that_were_not_seen(make_cohort: Callable[..., Cohort]) -> None:
    cohort = make_cohort(40)
    order = np.random.default_rng(0).permutation(40)
    train, test = cohort.subset(order[:24]), cohort.subset(order[24:])
    risk = PooledModel(**SMALL, planes=("axial",), projection=64).fit(train).predict(test).risk
    assert roc_auc_score(test.outcomes.event, risk) > 0.8


def test_inner_risks_are_those_of_models_that_have_not_seen_the_patient(cohort: Cohort) -> None:
    model = PooledModel(**SMALL, planes=("axial",), inner_folds=3)
    x, outcomes = model._pooled(cohort), cohort.outcomes
    model.ridge_ = fit_ridge(x, outcomes, 100.0)
    risk = model._predict_out_of_fold(x, outcomes)
    for fold in inner_split(outcomes, 3, 0):
        train, test = fold.train, fold.test
        np.testing.assert_array_equal(risk[test], fit_ridge(x[train], outcomes.subset(train), 100.0).risk(x[test]))


def test_covariates_of_noise_leave_what_the_images_tell(make_cohort: Callable[..., Cohort]) -> None:
    cohort = make_cohort(40)
    order = np.random.default_rng(0).permutation(40)
    train, test = cohort.subset(order[:24]), cohort.subset(order[24:])
    model = PooledModel(**SMALL, planes=("axial",), covariates=("age_years", "sex"))
    assert roc_auc_score(test.outcomes.event, model.fit(train).predict(test).risk) > 0.75
    assert model.report(train).n_parameters == 3 * CHANNELS + 2


def test_a_statistic_may_stand_once_and_must_be_known() -> None:
    with pytest.raises(ValueError, match="once"):
        PooledModel(statistics=("mean", "mean"))
    with pytest.raises(ValueError, match="statistics"):
        replace(PooledModel(), statistics=("median",))  # type: ignore[arg-type]
