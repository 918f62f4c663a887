"""Ridge regression for every endpoint kind, its penalty chosen inside the training patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize

from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.io.model_file import ArrayFields
from twobe3.models.inner_cv import inner_split
from twobe3.models.nn.heads import outcome_loss


@dataclass(frozen=True, eq=False)
class RidgeModel(ArrayFields):
    """A fitted linear risk: ``(x − mean) / scale · weights + bias``.

    Attributes
    ----------
    mean, scale, weights : ndarray, shape (p,)
        Standardisation and coefficients.
    bias : float
        0 for time-to-event, whose risks have no origin.
    penalty : float
        The one it was fitted with.
    """

    mean: FloatArray
    scale: FloatArray
    weights: FloatArray
    bias: float
    penalty: float

    def risk(self, x: FloatArray) -> FloatArray:
        """Risk of each row of ``x``, shape (n, p)."""
        return np.asarray((x - self.mean) / self.scale @ self.weights + self.bias)


def fit_ridge(x: FloatArray, outcomes: Outcomes, penalty: float) -> RidgeModel:
    """Minimise the summed loss plus ``penalty / 2`` times the squared length of the standardised weights.

    Parameters
    ----------
    x : ndarray, shape (n, p)
        Any number of columns: the fit runs in the at most n dimensions that the rows span, which gives the same
        minimum (Hastie & Tibshirani, Biostatistics 2004;5:329).
    outcomes : Outcomes
        Of the same n patients.
    penalty : float
        Positive. Losses are sums over patients (time-to-event: over events).
    """
    return fit_path(x, outcomes, (penalty,))[penalty]


def fit_path(x: FloatArray, outcomes: Outcomes, penalties: Sequence[float]) -> dict[float, RidgeModel]:
    """:func:`fit_ridge` for several penalties; the rows are decomposed once.

    Returns
    -------
    dict
        The model of each penalty.
    """
    mean, spread = x.mean(axis=0), x.std(axis=0)
    scale = np.where(spread > 0, spread, 1.0)
    left, singular, right = np.linalg.svd((x - mean) / scale, full_matrices=False)
    coordinates = left * singular
    path = {}
    for penalty in penalties:
        weights, bias = _minimum(coordinates, outcomes, penalty)
        path[penalty] = RidgeModel(mean, scale, right.T @ weights, bias, penalty)
    return path


def choose_penalty(
    x: FloatArray,
    outcomes: Outcomes,
    penalties: tuple[float, ...],
    *,
    inner_folds: int,
    seed: int,
    path: Callable[[FloatArray, Outcomes, tuple[float, ...]], dict[float, RidgeModel]] | None = None,
) -> float:
    """The penalty with the smallest summed loss on held-out patients of an inner cross-validation.

    For time-to-event the held-out loss is that of all patients less that of the training part under the same
    weights (Verweij & van Houwelingen, Stat Med 1993;12:2305). Ties go to the larger penalty.

    Parameters
    ----------
    x : ndarray, shape (n, p)
        Training patients only.
    outcomes : Outcomes
        Of the same patients.
    penalties : tuple of float
        Candidates.
    inner_folds : int
        Lowered where the rarer class has fewer patients; with a single one the largest penalty is taken.
    seed : int
        Of the split.
    path : callable, optional
        What fits a model for each penalty; :func:`fit_path` by default.
    """
    split = inner_split(outcomes, inner_folds, seed)
    if not split:
        return max(penalties)
    loss = dict.fromkeys(sorted(penalties, reverse=True), 0.0)
    for fold in split:
        train, test = fold.train, fold.test
        inner = outcomes.subset(train)
        for penalty, model in (path or fit_path)(x[train], inner, tuple(loss)).items():
            if outcomes.endpoint.has_times:
                loss[penalty] += _summed_loss(model.risk(x), outcomes) - _summed_loss(model.risk(x[train]), inner)
            else:
                loss[penalty] += _summed_loss(model.risk(x[test]), outcomes.subset(test))
    return min(loss, key=loss.__getitem__)


def _minimum(x: FloatArray, outcomes: Outcomes, penalty: float) -> tuple[FloatArray, float]:
    endpoint = outcomes.endpoint
    inputs, value = torch.from_numpy(x), torch.from_numpy(outcomes.value)
    event = torch.from_numpy(outcomes.event)
    terms = endpoint.loss_terms(outcomes)

    def objective(parameters: FloatArray) -> tuple[float, FloatArray]:
        theta = torch.tensor(parameters, requires_grad=True)
        risk = inputs @ theta[:-1] + (theta[-1] if endpoint.risk_has_origin else 0.0)
        total = terms * outcome_loss(endpoint.loss, risk, value, event) + penalty / 2 * theta[:-1].square().sum()
        (gradient,) = torch.autograd.grad(total, theta)
        return total.item(), gradient.numpy()

    start = np.zeros(x.shape[1] + 1)
    if endpoint.loss == "squared-error":
        start[-1] = outcomes.value.mean()
    tight = {"maxiter": 1000, "gtol": 1e-7, "ftol": 1e-13}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=tight)
    return found.x[:-1], float(found.x[-1])


def _summed_loss(risk: FloatArray, outcomes: Outcomes) -> float:
    value, event = torch.from_numpy(outcomes.value), torch.from_numpy(outcomes.event)
    mean = outcome_loss(outcomes.endpoint.loss, torch.from_numpy(risk), value, event)
    return outcomes.endpoint.loss_terms(outcomes) * float(mean)
