"""The spatial model: ridge regression on what is known of each scan, and a label that lies in the order of slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from twobe3.cohort.cohort import Cohort
from twobe3.features.correlograms import PARTS, spatial_features
from twobe3.io.cache import Cache
from twobe3.models import Baseline, SpatialModel
from twobe3.scans.scan import ArrayScan

MakeCohort = Callable[..., Cohort]


@pytest.fixture(scope="module")
def cohort(make_cohort: MakeCohort) -> Cohort:
    return make_cohort(40)


def features(cohort: Cohort) -> np.ndarray:
    return np.stack([spatial_features(cohort.volume(one), cohort.grid.spacing_mm) for one in cohort.subjects])


def test_it_is_scikit_learns_ridge_logistic_regression_of_the_features(cohort: Cohort) -> None:
    model = SpatialModel(penalties=(10.0,)).fit(cohort)
    x = features(cohort)
    spread = x.std(axis=0)
    z = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    reference = LogisticRegression(C=1 / 10.0, tol=1e-10, max_iter=10_000).fit(z, cohort.outcomes.event)
    np.testing.assert_allclose(model.predict(cohort).risk, reference.decision_function(z), atol=1e-4)
    shares = z * reference.coef_[0]
    ends = np.cumsum([0, *PARTS.values()])
    assert list(model.contributions(cohort)) == list(PARTS)
    for part, first, last in zip(model.contributions(cohort).values(), ends[:-1], ends[1:], strict=True):
        np.testing.assert_allclose(part, shares[:, first:last].sum(axis=1), atol=1e-4)


def test_features_are_computed_once_and_their_number_is_reported(cohort: Cohort) -> None:
    cache = Cache()
    model = SpatialModel(cache=cache)
    model.precompute(cohort)
    model.fit(cohort).predict(cohort)
    assert cache.computed == len(cohort)
    assert model.report(cohort).n_parameters == features(cohort).shape[1]
    assert model.report(cohort).exclusions == ()


def arranged(cohort: Cohort) -> Cohort:
    """A mild organ and a hot lesion in every scan: headwards of the organ in those who have the event."""
    rng = np.random.default_rng(3)
    subjects = []
    for subject, event in zip(cohort.subjects, cohort.outcomes.event, strict=True):
        assert isinstance(subject.scan, ArrayScan)
        volume = subject.scan.volume
        suv = rng.gamma(16.0, 1 / 16, volume.array.shape)
        organ = int(rng.integers(7, 10))
        suv[organ - 1 : organ + 2] += 1.0
        row, column = rng.integers(2, 14, size=2)
        suv[organ + (5 if event else -5), row, column] += rng.uniform(6.0, 12.0)
        subjects.append(replace(subject, scan=ArrayScan(replace(volume, array=suv.astype(np.float32)))))
    return replace(cohort, subjects=tuple(subjects))


def test_it_learns_on_which_side_of_an_organ_a_lesion_lies(cohort: Cohort) -> None:
    told = arranged(cohort)
    training, tested = told.subset(range(20)), told.subset(range(20, 40))
    risks = [
        model.fit(training).predict(tested).risk
        for model in (SpatialModel(), Baseline("suvmax", region="threshold", threshold_suv=4.0))
    ]
    found, by_chance = (roc_auc_score(tested.outcomes.event, risk) for risk in risks)
    assert found > 0.95
    assert 0.2 < by_chance < 0.8


def test_empty_scans_and_scans_of_one_value_are_predicted(cohort: Cohort) -> None:
    model = SpatialModel().fit(cohort)
    subject = cohort.subjects[0]
    assert isinstance(subject.scan, ArrayScan)
    volume = subject.scan.volume
    for value in (0.0, 0.3, 1.0):
        flat = replace(volume, array=np.full(volume.array.shape, value, np.float32))
        (risk,) = model.predict(replace(cohort.subset([0]), subjects=(replace(subject, scan=ArrayScan(flat)),))).risk
        assert np.isfinite(risk)
