"""What a fold decides with its training patients, against other libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.linear_model.coxph import BreslowEstimator
from sksurv.util import Surv
from statsmodels.duration.hazard_regression import PHReg

from twobe3.cohort.cohort import Cohort
from twobe3.core.endpoints import Binary, TimeToEvent
from twobe3.core.outcomes import Outcomes
from twobe3.models import Baseline
from twobe3.models.model import Model
from twobe3.models.registry import load_model
from twobe3.validation.recalibration import breslow, cox_slope, observed_times, platt
from twobe3.validation.thresholds import ThresholdPolicy, fit_final, fit_predict, youden

MakeCohort = Callable[..., Cohort]


def survival_outcomes(n: int = 80, *, seed: int = 0, ties: bool = True, strength: float = 1.0) -> tuple[Any, Outcomes]:
    rng = np.random.default_rng(seed)
    risk = rng.normal(0, 1, n)
    time = rng.exponential(np.exp(-strength * risk)) * 20 + 0.5
    time = np.ceil(time) if ties else time
    event = rng.random(n) < 0.6
    patients = tuple(str(i) for i in range(n))
    return risk, Outcomes(TimeToEvent("survival", "t", "e"), patients, time, event)


def binary_outcomes(n: int = 60, *, seed: int = 0) -> tuple[Any, Outcomes]:
    rng = np.random.default_rng(seed)
    risk = rng.normal(0, 3, n)
    event = rng.random(n) < 1 / (1 + np.exp(-0.4 * risk - 0.5))
    return risk, Outcomes(Binary("y", "y"), tuple(map(str, range(n))), event.astype(float), event)


@pytest.mark.parametrize("ties", [True, False])
def test_the_baseline_is_breslows(ties: bool) -> None:
    risk, outcomes = survival_outcomes(ties=ties)
    baseline = breslow(risk, outcomes)
    oracle = BreslowEstimator().fit(risk, outcomes.event, outcomes.value)
    times = np.unique(outcomes.value)
    new = np.array([-2.0, 0.0, 1.5])
    expected = [[function(t) for t in times] for function in oracle.get_survival_function(new)]
    np.testing.assert_allclose(baseline.survival(new, times), expected, rtol=1e-10)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_baseline_is_that_of_statsmodels() -> None:
    risk, outcomes = survival_outcomes(ties=False)
    fitted = PHReg(outcomes.value, risk[:, None], status=outcomes.event.astype(int)).fit()
    time, hazard, _ = fitted.baseline_cumulative_hazard[0]
    baseline = breslow(risk * fitted.params[0], outcomes)
    # statsmodels counts an event from just after its own time on.
    before = np.searchsorted(baseline.times, time, side="left")
    np.testing.assert_allclose(np.append(0.0, np.exp(baseline.log_hazard))[before], hazard, rtol=1e-10)


def test_survival_is_one_before_the_first_event_never_rises_and_stands_risks_of_any_size() -> None:
    risk, outcomes = survival_outcomes()
    for scale in (1.0, 1e3):
        baseline = breslow(scale * risk, outcomes)
        survival = baseline.survival(scale * risk, observed_times(outcomes))
        assert np.isfinite(survival).all()
        assert (np.diff(survival, axis=1) <= 0).all()
        assert (baseline.survival(scale * risk, baseline.times[:1] / 2) == 1).all()
    shifted = breslow(risk + 500.0, outcomes).survival(risk + 500.0, baseline.times)
    np.testing.assert_allclose(shifted, breslow(risk, outcomes).survival(risk, baseline.times), rtol=1e-9)


def test_times_are_observed_ones_increasing_and_at_most_a_hundred() -> None:
    _, outcomes = survival_outcomes(400, ties=False)
    times = observed_times(outcomes)
    assert len(times) <= 100
    assert (np.diff(times) > 0).all()
    assert set(times) <= set(outcomes.value)
    assert (times[0], times[-1]) == (outcomes.value.min(), outcomes.value.max())


class _Score(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier whose score is its only column."""

    def fit(self, x: Any, y: Any) -> _Score:
        self.classes_ = np.unique(y)
        return self

    def predict(self, x: Any) -> Any:
        return self.classes_[(self.decision_function(x) > 0).astype(int)]

    def decision_function(self, x: Any) -> Any:
        return np.asarray(x)[:, 0]


@pytest.mark.parametrize("seed", range(3))
def test_the_scaling_is_platts(seed: int) -> None:
    risk, outcomes = binary_outcomes(seed=seed)
    x, y = risk[:, None], outcomes.event.astype(int)
    oracle = CalibratedClassifierCV(FrozenEstimator(_Score().fit(x, y)), method="sigmoid", ensemble=False).fit(x, y)
    slope, intercept = platt(risk, outcomes)
    ours = 1 / (1 + np.exp(-slope * risk - intercept))
    np.testing.assert_allclose(ours, oracle.predict_proba(x)[:, 1], atol=2e-5)


def test_a_scaling_never_turns_the_order_round() -> None:
    risk, outcomes = binary_outcomes()
    slope, intercept = platt(-risk, outcomes)
    n, events = len(outcomes), outcomes.n_events
    mean = (events * (events + 1) / (events + 2) + (n - events) / (n - events + 2)) / n
    assert slope == 0
    assert 1 / (1 + np.exp(-intercept)) == pytest.approx(mean, abs=1e-6)
    assert platt(np.ones(n), outcomes)[0] == 0
    survival_risk, observed = survival_outcomes()
    assert cox_slope(-survival_risk, observed) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_slope_is_that_of_a_cox_model(seed: int) -> None:
    risk, outcomes = survival_outcomes(seed=seed)
    observed = Surv.from_arrays(outcomes.event, outcomes.value)
    oracle = CoxPHSurvivalAnalysis(ties="efron").fit(risk[:, None], observed)
    assert cox_slope(risk, outcomes) == pytest.approx(float(oracle.coef_[0]), abs=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_beats_youdens(seed: int) -> None:
    risk, outcomes = binary_outcomes(seed=seed)
    chance = 1 / (1 + np.exp(-risk))
    threshold = youden(chance, outcomes)
    reached = balanced_accuracy_score(outcomes.event, chance >= threshold)
    assert reached == max(balanced_accuracy_score(outcomes.event, chance >= other) for other in chance)
    assert threshold in chance


def test_without_a_threshold_better_than_chance_it_is_the_event_rate() -> None:
    _, outcomes = binary_outcomes()
    assert youden(np.full(len(outcomes), 0.3), outcomes) == outcomes.n_events / len(outcomes)


def test_the_event_rate_is_the_best_threshold_of_calibrated_probabilities() -> None:
    rng = np.random.default_rng(0)
    chance = rng.beta(1, 3, 200_000)
    event = rng.random(len(chance)) < chance
    grid = np.linspace(0.05, 0.6, 56)
    reached = [balanced_accuracy_score(event, chance >= threshold) for threshold in grid]
    assert grid[int(np.argmax(reached))] == pytest.approx(event.mean(), abs=0.03)


# -- in a fold


class _Known(Baseline):
    """A model whose risk is known: the patient's age."""

    def _fit(self, cohort: Cohort) -> None:
        pass

    def _risk(self, cohort: Cohort) -> Any:
        return np.array([float(subject.covariates["age_years"]) / 10 for subject in cohort.subjects])


def parts(make_cohort: MakeCohort, kind: str) -> tuple[Cohort, Cohort]:
    cohort = make_cohort(24, (kind,))
    return cohort.subset(range(16)), cohort.subset(range(16, 24))


def test_a_fold_decides_by_its_training_patients_alone(make_cohort: MakeCohort) -> None:
    for kind in ("binary", "time-to-event", "continuous"):
        training, tested = parts(make_cohort, kind)
        times = observed_times(training.outcomes)
        prediction = fit_predict(_Known("age"), training, tested, times, ThresholdPolicy())
        ages = [float(subject.covariates["age_years"]) / 10 for subject in training.subjects]
        np.testing.assert_allclose(prediction.cutoff, np.median(ages))
        if kind == "binary":
            assert prediction.threshold is not None
            assert (prediction.threshold == training.outcomes.event.mean()).all()
        elif kind == "time-to-event":
            estimator = BreslowEstimator().fit(ages, training.outcomes.event, training.outcomes.value)
            expected = [[f(t) for t in times] for f in estimator.get_survival_function(prediction.risk)]
            np.testing.assert_allclose(prediction.survival, expected, rtol=1e-9)
        else:
            assert prediction.threshold is prediction.survival is None


def test_competing_events_count_as_censored_in_the_baseline(make_cohort: MakeCohort) -> None:
    training, tested = parts(make_cohort, "time-to-event")
    outcomes = training.outcomes
    competing = replace(training, endpoints=(replace(outcomes, competing=~outcomes.event),))
    times = observed_times(outcomes)
    one, other = (fit_predict(_Known("age"), part, tested, times, ThresholdPolicy()) for part in (training, competing))
    np.testing.assert_array_equal(one.survival, other.survival)


@pytest.mark.parametrize("kind", ["binary", "time-to-event"])
def test_recalibration_uses_models_that_have_not_seen_the_patient(
    kind: str, make_cohort: MakeCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, tested = parts(make_cohort, kind)
    fitted: list[set[str]] = []
    fit = Model.fit
    monkeypatch.setattr(Model, "fit", lambda self, part: (fitted.append(set(part.patients)), fit(self, part))[1])
    times = observed_times(training.outcomes)
    prediction = fit_predict(_Known("age"), training, tested, times, ThresholdPolicy(True, 3))
    everyone = set(training.patients)
    assert len(fitted) == 4
    assert fitted[-1] == everyone
    assert all(part < everyone for part in fitted[:-1])
    left_out = [patient for part in fitted[:-1] for patient in everyone - part]
    assert sorted(left_out) == sorted(everyone)
    ages = np.array([float(subject.covariates["age_years"]) / 10 for subject in training.subjects])
    if kind == "binary":
        slope, intercept = platt(ages, training.outcomes)
        np.testing.assert_allclose(prediction.probability, 1 / (1 + np.exp(-slope * prediction.risk - intercept)))
        chance = 1 / (1 + np.exp(-slope * ages - intercept))
        np.testing.assert_allclose(prediction.threshold, youden(chance, training.outcomes))
        np.testing.assert_allclose(prediction.cutoff, np.median(ages))
    else:
        assert prediction.survival is not None
        assert (np.diff(prediction.survival, axis=1) <= 0).all()


def test_recalibrated_survival_does_not_depend_on_the_origin_of_risks(make_cohort: MakeCohort) -> None:
    # A network's log hazard ratio has an arbitrary origin, another one in every inner fold.
    class Drifting(_Known):
        count = 0

        def _fit(self, cohort: Cohort) -> None:
            self.count += 1

        def _risk(self, cohort: Cohort) -> Any:
            return super()._risk(cohort) + 7.0 * self.count

    training, tested = parts(make_cohort, "time-to-event")
    times = observed_times(training.outcomes)
    still, drifting = (
        fit_predict(kind("age"), training, tested, times, ThresholdPolicy(True, 3)) for kind in (_Known, Drifting)
    )
    np.testing.assert_allclose(drifting.survival, still.survival, atol=1e-9)
    assert still.cutoff is not None
    assert drifting.cutoff is not None
    np.testing.assert_allclose(drifting.cutoff - drifting.risk, still.cutoff - still.risk, atol=1e-9)


def test_too_few_patients_are_not_recalibrated(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(12)
    event = cohort.outcomes.event
    one_event = [int(np.flatnonzero(event)[0]), *np.flatnonzero(~event)[:4]]
    training, tested = cohort.subset(one_event), cohort.subset(np.flatnonzero(~event)[4:])
    times = observed_times(training.outcomes)
    plain, asked = (fit_predict(_Known("age"), training, tested, times, ThresholdPolicy(yes)) for yes in (False, True))
    np.testing.assert_array_equal(plain.probability, asked.probability)
    np.testing.assert_array_equal(plain.threshold, asked.threshold)


def test_the_model_for_patients_to_come_says_what_a_recalibrated_fold_says(
    make_cohort: MakeCohort, tmp_path: Path
) -> None:
    training, tested = parts(make_cohort, "binary")
    how, times = ThresholdPolicy(True, 3), observed_times(training.outcomes)
    of_fold = fit_predict(Baseline("suvmax", region="threshold"), training, tested, times, how)
    model = fit_final(Baseline("suvmax", region="threshold"), training, how)
    loaded = load_model(model.save(tmp_path / "recalibrated.safetensors"))
    for one in (model, loaded):
        np.testing.assert_array_equal(one.predict(tested).probability, of_fold.probability)
        np.testing.assert_array_equal(one.predict(tested).risk, of_fold.risk)
    plain = load_model(fit_final(model, training, ThresholdPolicy()).save(tmp_path / "plain.safetensors"))
    assert plain.recalibration_ is None
    np.testing.assert_array_equal(plain.predict(tested).risk, of_fold.risk)
    assert np.abs(plain.predict(tested).probability - of_fold.probability).max() > 0.01
    assert b"recalibration" not in (tmp_path / "plain.safetensors").read_bytes()


def test_of_times_the_model_for_patients_to_come_is_not_recalibrated(make_cohort: MakeCohort) -> None:
    """It predicts a risk alone, which recalibration never changes."""
    training, _ = parts(make_cohort, "time-to-event")
    assert fit_final(_Known("age"), training, ThresholdPolicy(True, 3)).recalibration_ is None
