"""The outcomes can be learnt from the lesions, but not with certainty."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sksurv.metrics import concordance_index_censored

from twobe3.phantom import PhantomSubject, draw_phantom_subject
from twobe3.phantom.lesions import total_lesion_glycolysis
from twobe3.phantom.outcome import draw_fate

N = 600


@pytest.fixture(scope="module")
def subjects() -> list[PhantomSubject]:
    return [draw_phantom_subject(np.random.default_rng([2024, number])) for number in range(N)]


def column(subjects: list[PhantomSubject], name: str) -> np.ndarray:
    return np.array([getattr(subject.fate, name) for subject in subjects])


def test_shares_of_events(subjects: list[PhantomSubject]) -> None:
    assert 0.35 < column(subjects, "recurrence").mean() < 0.50
    assert column(subjects, "metastasis").mean() == pytest.approx(0.42, abs=0.06)
    days = column(subjects, "recurrence_days")
    assert days.min() >= 1
    assert days.max() <= 2001


def test_who_knows_the_lesions_predicts_well(subjects: list[PhantomSubject]) -> None:
    metastasis, recurrence = column(subjects, "metastasis"), column(subjects, "recurrence")
    days, latent = column(subjects, "recurrence_days").astype(float), column(subjects, "latent")
    burden = np.array([total_lesion_glycolysis(subject.lesions) for subject in subjects])
    assert roc_auc_score(metastasis, latent) == pytest.approx(0.845, abs=0.05)
    assert roc_auc_score(metastasis, burden) == pytest.approx(0.81, abs=0.05)
    assert concordance_index_censored(recurrence, days, latent)[0] == pytest.approx(0.74, abs=0.04)
    assert concordance_index_censored(recurrence, days, burden)[0] == pytest.approx(0.715, abs=0.04)
    assert roc_auc_score(metastasis, latent) > roc_auc_score(metastasis, burden)  # where they lie matters too


def test_age_alone_predicts_little(subjects: list[PhantomSubject]) -> None:
    age = [subject.age_years for subject in subjects]
    assert 0.48 < roc_auc_score(column(subjects, "metastasis"), age) < 0.62


def test_fate_is_chance_around_the_same_risk(subjects: list[PhantomSubject]) -> None:
    subject, rng = subjects[0], np.random.default_rng(0)
    fates = [draw_fate(subject.lesions, subject.age_years, rng) for _ in range(50)]
    assert len({fate.latent for fate in fates}) == 1
    assert len({fate.recurrence_days for fate in fates}) > 10
