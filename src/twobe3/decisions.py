"""What a fold decides with its training patients: thresholds, cut-offs, recalibration, the baseline of survival."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit
from sklearn.metrics import roc_curve

from twobe3.cohort import Cohort
from twobe3.models.base import Model
from twobe3.models.inner import held_out_risks, inner_split
from twobe3.models.losses import cox_loss
from twobe3.outcome import FloatArray, Outcomes
from twobe3.prediction import Prediction

# Bump when the same fit gives other decisions: it is part of the checkpoints' keys.
DECISIONS_VERSION = "1"
MOST_TIMES = 100
STEEPEST = 10.0
log = logging.getLogger("twobe3")


@dataclass(frozen=True)
class Deciding:
    """How a fold decides.

    Attributes
    ----------
    recalibrate : bool
        Whether an inner cross-validation of the model recalibrates its predictions and chooses threshold and cut-off;
        otherwise they come from the fitted model's own training patients.
    inner_folds, seed : int
        Of that cross-validation; fewer folds where the rarer class has fewer patients.
    """

    recalibrate: bool = False
    inner_folds: int = 4
    seed: int = 0

    def identity(self) -> str:
        """Text that differs whenever the decisions may differ; part of the checkpoints' keys."""
        return f"decisions-{DECISIONS_VERSION} {self if self.recalibrate else 'of the training patients'}"


@dataclass(frozen=True, eq=False)
class Baseline:
    """Cumulative baseline hazard, a step function.

    Attributes
    ----------
    times : ndarray, shape (k,)
        Of the events, increasing, in the endpoint's unit.
    log_hazard : ndarray, shape (k,)
        Logarithm of the cumulative baseline hazard from each of them on.
    """

    times: FloatArray
    log_hazard: FloatArray

    def survival(self, risk: FloatArray, times: FloatArray) -> FloatArray:
        """Probability of being free of the event at each time, shape (n, len(times)): exp(−H₀(t) · exp(risk))."""
        steps = np.append(-np.inf, self.log_hazard)[np.searchsorted(self.times, times, side="right")]
        return np.asarray(np.exp(-np.exp(np.minimum(risk[:, None] + steps[None, :], 700.0))))


def predicted(model: Model, training: Cohort, tested: Cohort, times: FloatArray, how: Deciding) -> Prediction:
    """Fit a model on training patients, decide with them, and predict the tested ones, whose outcomes nobody sees.

    Binary: ``threshold`` is the event rate of the training patients, which for calibrated probabilities gives the
    largest sum of sensitivity and specificity. Time-to-event: ``survival`` is the model's own, where it has curves;
    otherwise that of the fitted risks as log hazard ratios over Breslow's baseline of the training patients; competing
    events count as censored, so the hazard is cause-specific. ``cutoff`` is the median risk of the training patients.

    With ``how.recalibrate`` the risks that an inner cross-validation gives the training patients take the place of
    their fitted ones: binary, Platt's scaling of the risk and the threshold of the largest Youden index;
    time-to-event, the slope of a Cox model on the risk, and the baseline that belongs to it; the cut-off is their
    median. The risk itself is never changed, and of a continuous endpoint nothing but the cut-off.

    Scans that the model cannot use neither train, decide, nor have a row in the prediction.

    Parameters
    ----------
    model : Model
        Fitted here.
    training, tested : Cohort
        With one endpoint; no patient in both.
    times : ndarray, shape (k,)
        Where survival is wanted, in the endpoint's unit.
    how : Deciding
        How.
    """
    inner = inner_risks(model, training, how) if how.recalibrate else None
    model.fit(training)
    return decided(model, training, tested, times, inner)


def fitted(model: Model, training: Cohort, how: Deciding) -> Model:
    """The model fitted on the training patients, for patients to come: with the recalibration that a fold would have.

    Platt's scaling of a binary endpoint then is part of the model, see :func:`predicted`. Of other endpoints nothing
    that a model predicts by itself is ever recalibrated.
    """
    inner = inner_risks(model, training, how) if how.recalibrate and training.endpoint.kind == "binary" else None
    model.fit(training)
    if inner is not None:
        model.recalibration_ = platt(inner, model.usable(training).outcomes)
    return model


def decided(
    model: Model, training: Cohort, tested: Cohort, times: FloatArray, inner: FloatArray | None = None
) -> Prediction:
    """What :func:`predicted` does, with a model that is fitted already and the inner risks, if any."""
    training = model.usable(training)
    outcomes = training.outcomes
    prediction = model.predict(tested.without_outcomes())
    n = len(prediction)
    own = model.predict(training.without_outcomes()).risk
    kind = outcomes.endpoint.kind
    origin = float(own.mean()) if kind == "time-to-event" else 0.0
    risks = own - origin if inner is None else inner
    prediction = replace(prediction, cutoff=np.full(n, origin + float(np.median(risks))))
    if kind == "binary":
        threshold = outcomes.n_events / len(outcomes)
        if inner is not None:
            slope, intercept = platt(inner, outcomes)
            prediction = replace(prediction, probability=expit(slope * prediction.risk + intercept))
            threshold = youden(expit(slope * inner + intercept), outcomes)
        return replace(prediction, threshold=np.full(n, threshold))
    if kind == "time-to-event":
        if inner is None and prediction.survival is not None:
            return replace(prediction, survival=survival_at(prediction, times), times=times)
        slope = 1.0 if inner is None else cox_slope(inner, outcomes)
        baseline = breslow(slope * risks, outcomes)
        survival = baseline.survival(slope * (prediction.risk - origin), times)
        return replace(prediction, survival=survival, times=times)
    return prediction


def survival_at(prediction: Prediction, times: FloatArray) -> FloatArray:
    """A model's own survival curves at other times, shape (n, len(times)).

    They begin at 1; between two times the hazard is constant (Kvamme & Borgan, Lifetime Data Anal 2021;27:710, section
    4.2), beyond the last one nothing is known and the curve stays.
    """
    assert prediction.survival is not None
    assert prediction.times is not None
    own = np.concatenate([[0.0], prediction.times])
    hazard = -np.log(np.maximum(prediction.survival, 1e-300))
    return np.exp([-np.interp(times, own, np.concatenate([[0.0], one])) for one in hazard])


def observed_times(outcomes: Outcomes) -> FloatArray:
    """Where survival is predicted: the observed times of an endpoint, at most 100 quantiles of them, increasing."""
    return np.unique(np.quantile(outcomes.value, np.linspace(0, 1, MOST_TIMES), method="inverted_cdf"))


def breslow(risk: FloatArray, outcomes: Outcomes) -> Baseline:
    """Breslow's cumulative baseline hazard: at each event time, events over the summed exp(risk) of those at risk.

    Breslow, discussion of Cox, J R Stat Soc B 1972;34:216. In logarithms, so that risks may have any size.

    Parameters
    ----------
    risk : ndarray, shape (n,)
        Log hazard ratios.
    outcomes : Outcomes
        Of the same n patients, at least one of them with the event.
    """
    order = np.argsort(outcomes.value, kind="stable")
    time, event = outcomes.value[order], outcomes.event[order]
    log_at_risk = np.logaddexp.accumulate(risk[order][::-1])[::-1]
    times, events = np.unique(time[event], return_counts=True)
    first = np.searchsorted(time, times)  # whoever is not before the time is at risk
    return Baseline(times, np.logaddexp.accumulate(np.log(events) - log_at_risk[first]))


def platt(risk: FloatArray, outcomes: Outcomes) -> tuple[float, float]:
    """Slope and intercept of Platt's scaling: logistic regression on the risk, its targets (N₊+1)/(N₊+2), 1/(N₋+2).

    Platt, in: Advances in Large Margin Classifiers (2000) 61, section 2.2. The slope is at least 0, where the risk
    says nothing: a scaling never turns the order of patients round.

    Parameters
    ----------
    risk : ndarray, shape (n,)
        Of patients whom the model was not fitted on.
    outcomes : Outcomes
        Of the same patients.
    """
    n, positive = len(outcomes), outcomes.n_events
    target = np.where(outcomes.event, (positive + 1) / (positive + 2), 1 / (n - positive + 2))
    mean, spread = float(risk.mean()), float(risk.std())
    if spread == 0:
        return 0.0, float(np.log(target.mean() / (1 - target.mean())))
    x = (risk - mean) / spread

    def objective(parameters: FloatArray) -> tuple[float, FloatArray]:
        linear = parameters[0] * x + parameters[1]
        residual = expit(linear) - target
        loss = float(np.sum(np.logaddexp(0.0, linear) - target * linear))
        return loss, np.array([residual @ x, residual.sum()])

    tight = {"maxiter": 1000, "gtol": 1e-8, "ftol": 1e-14}
    bounds = [(0.0, None), (None, None)]
    found = minimize(objective, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds, options=tight)
    slope = float(found.x[0]) / spread
    return slope, float(found.x[1]) - slope * mean


def youden(probability: FloatArray, outcomes: Outcomes) -> float:
    """The probability from which on saying yes gives the largest sensitivity + specificity; the highest of several.

    Youden, Cancer 1950;3:32. The event rate where no threshold does better than chance.
    """
    false, true, thresholds = roc_curve(outcomes.event, probability, drop_intermediate=False)
    best = int(np.argmax(true - false))
    return float(thresholds[best]) if best else outcomes.n_events / len(outcomes)


def cox_slope(risk: FloatArray, outcomes: Outcomes) -> float:
    """Slope of the Cox model on a risk, Efron's ties, between 0 and 10; 1 means that the risk is calibrated.

    van Houwelingen, Stat Med 2000;19:3401.
    """
    inputs, time, event = (torch.from_numpy(values) for values in (risk, outcomes.value, outcomes.event))
    found = minimize_scalar(
        lambda slope: float(cox_loss(slope * inputs, time, event)),
        bounds=(0.0, STEEPEST),
        method="bounded",
        options={"xatol": 1e-8},
    )
    return float(found.x)


def inner_risks(model: Model, training: Cohort, how: Deciding) -> FloatArray | None:
    """Each training patient's risk by a model fitted without the patient; None where there are too few to split.

    Of the training patients whose scans the model can use, in their order. Risks of a time to an event have no
    origin: each inner model's are counted from the mean of its own patients.
    """
    training = model.usable(training)
    split = inner_split(training, how.inner_folds, how.seed, fewest=model.fewest)
    if not split:
        log.info("%s: too few patients to recalibrate", model.name)
        return None
    return held_out_risks(model, training, split)
