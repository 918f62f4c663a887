"""Recalibration inside a fold: Platt scaling, the calibration slope, and Breslow's baseline hazard."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit

from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.core.prediction import Prediction
from twobe3.models.nn.heads import cox_loss

MOST_TIMES = 100
SAMPLES = 200
STEEPEST = 10.0


@dataclass(frozen=True, eq=False)
class BaselineHazard:
    """Cumulative baseline hazard, a step function."""

    times: FloatArray  # (k,), of the events, increasing, in the endpoint's unit
    log_hazard: FloatArray  # (k,), logarithm of the cumulative baseline hazard from each of them on

    def survival(self, risk: FloatArray, times: FloatArray) -> FloatArray:
        """Probability of being free of the event at each time, shape (n, len(times)): exp(−H₀(t) · exp(risk))."""
        steps = np.append(-np.inf, self.log_hazard)[np.searchsorted(self.times, times, side="right")]
        return np.asarray(np.exp(-np.exp(np.minimum(risk[:, None] + steps[None, :], 700.0))))


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


def breslow(risk: FloatArray, outcomes: Outcomes) -> BaselineHazard:
    """Breslow's cumulative baseline hazard: at each event time, events over the summed exp(risk) of those at risk.

    ``risk``, shape (n,), are log hazard ratios; at least one of the n patients has the event. In logarithms, so that
    risks may have any size. Breslow, discussion of Cox, J R Stat Soc B 1972;34:216.
    """
    order = np.argsort(outcomes.value, kind="stable")
    time, event = outcomes.value[order], outcomes.event[order]
    log_at_risk = np.logaddexp.accumulate(risk[order][::-1])[::-1]
    times, events = np.unique(time[event], return_counts=True)
    first = np.searchsorted(time, times)  # whoever is not before the time is at risk
    return BaselineHazard(times, np.logaddexp.accumulate(np.log(events) - log_at_risk[first]))


def platt(risk: FloatArray, outcomes: Outcomes) -> tuple[float, float]:
    """Slope and intercept of Platt's scaling: logistic regression on the risk, its targets (N₊+1)/(N₊+2), 1/(N₋+2).

    Platt, in: Advances in Large Margin Classifiers (2000) 61, section 2.2. The slope is at least 0, where the risk,
    shape (n,), says nothing: a scaling never turns the order of patients round. The model was not fitted on them.
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


def bootstrap_platt(risk: FloatArray, outcomes: Outcomes, *, seed: int) -> FloatArray:
    """Slope and intercept of :func:`platt` in each of 200 bootstrap samples of the persons, shape (samples, 2).

    A sample in which all or nobody has the event is drawn anew. How the risks vary with the patients whom the models
    were fitted on is not in it: they are those of the inner cross-validation throughout.
    """
    rng = np.random.default_rng(seed)
    pairs: list[tuple[float, float]] = []
    _, person = np.unique(outcomes.groups, return_inverse=True)
    members = [np.flatnonzero(person == number) for number in range(person.max() + 1)]
    while len(pairs) < SAMPLES:
        index = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        sample = outcomes.subset(index)
        if 0 < sample.n_events < len(sample):
            pairs.append(platt(risk[index], sample))
    return np.array(pairs)


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
