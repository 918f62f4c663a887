"""Tests of the intervals of a prediction: the members themselves, and the calibrations of bootstrap samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from twobe3.cohort.cohort import Cohort
from twobe3.models import Baseline, TwoBe3Net, load_model
from twobe3.models.model import Model
from twobe3.models.uncertainty import Uncertainty, find_uncertainty
from twobe3.validation.thresholds import ThresholdPolicy, fit_final


@pytest.fixture(scope="module")
def cohort(make_cohort: Callable[..., Cohort]) -> Cohort:
    return make_cohort(24, ("binary",))


@pytest.fixture(scope="module")
def ensemble(cohort: Cohort) -> Model:
    model = TwoBe3Net(
        backbone="resnet18", weights="random", layer=2, slice_size=32, planes=("axial",), components=4, epochs=1,
        ensemble_size=3, inputs=("maps",),
    )  # fmt: skip
    return model.fit(cohort)


def ask(model: Model, cohort: Cohort) -> tuple[float, Uncertainty]:
    alone = cohort.subset([0]).without_outcomes()
    risk = float(model.predict(alone).risk[0])
    return risk, find_uncertainty(model, alone, risk)


def test_the_risk_of_an_ensemble_lies_within_those_of_its_members(ensemble: Model, cohort: Cohort) -> None:
    risk, found = ask(ensemble, cohort)
    members = ensemble._member_risks(cohort)
    assert members is not None
    assert members.shape == (3, 24)
    np.testing.assert_allclose(members.mean(axis=0), ensemble.predict(cohort).risk, rtol=1e-6, atol=1e-9)
    limits = [members[:, 0].min(), members[:, 0].max()]
    assert [found.risk_low, found.risk_high] == pytest.approx(
        limits, rel=1e-4
    )  # alone in its batch, in single precision
    assert found.risk_low is not None
    assert found.risk_high is not None
    assert found.risk_low < risk < found.risk_high
    assert found.probability_low == pytest.approx(expit(found.risk_low))
    assert found.probability_high == pytest.approx(expit(found.risk_high))


def test_a_model_of_one_member_without_recalibration_gives_none(cohort: Cohort) -> None:
    assert ask(Baseline("age").fit(cohort), cohort)[1] == Uncertainty()


def test_a_recalibrated_probability_lies_within_those_of_the_bootstrap(cohort: Cohort, tmp_path: Path) -> None:
    model = fit_final(
        Baseline("suvmax", region="threshold", threshold_suv=3.0), cohort, ThresholdPolicy(recalibrate=True)
    )
    assert model.calibrations_ is not None
    assert model.calibrations_.shape == (200, 2)
    assert (model.calibrations_[:, 0] >= 0).all()  # a calibration never turns the order of patients round
    risk, found = ask(model, cohort)
    chances = np.sort(expit(model.calibrations_ @ [risk, 1.0]))
    assert found.probability_low == pytest.approx(np.quantile(chances, 0.025))
    assert found.probability_high == pytest.approx(np.quantile(chances, 0.975))
    probability = model.predict(cohort.subset([0])).probability
    assert probability is not None
    assert found.probability_low is not None
    assert found.probability_high is not None
    assert found.probability_low <= probability[0] <= found.probability_high
    assert (found.risk_low, found.risk_high) == (None, None)
    assert ask(load_model(model.save(tmp_path)), cohort)[1] == found
    assert model.fit(cohort).calibrations_ is None
