"""Ridge regression for every endpoint kind, its penalty chosen inside the training patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch

from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.io.model_file import ArrayFields
from twobe3.models.inner_cv import inner_split
from twobe3.models.nn.heads import mean_loss


@dataclass(frozen=True, eq=False)
class RidgeModel(ArrayFields):
    """A fitted linear risk: ``(x − mean) / scale · weights + bias``, the first three of shape (p,).

    ``bias`` is 0 for time-to-event, whose risks have no origin; ``penalty`` is the one it was fitted with.
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
    """:func:`fit_ridge` for several penalties, which gives the model of each; the rows are decomposed once."""
    mean, scale = moments(x)
    left, singular, right = np.linalg.svd((x - mean) / scale, full_matrices=False)
    coordinates = left * singular
    path = {}
    for penalty in penalties:
        weights, bias = _minimise(coordinates, outcomes, penalty)
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
    x, outcomes
        Training patients, as of :func:`fit_ridge`.
    penalties : tuple of float
        Candidates; the largest is taken where the patients cannot be split.
    inner_folds, seed : int
        See :func:`~twobe3.models.inner_cv.inner_split`.
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
                loss[penalty] += sum_loss(model.risk(x), outcomes) - sum_loss(model.risk(x[train]), inner)
            else:
                loss[penalty] += sum_loss(model.risk(x[test]), outcomes.subset(test))
    return min(loss, key=loss.__getitem__)


def moments(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean of each column, and its standard deviation, or 1 where it is constant."""
    spread = x.std(axis=0)
    return x.mean(axis=0), np.where(spread > 0, spread, 1.0)


def sum_loss(risk: FloatArray, outcomes: Outcomes) -> float:
    """The loss of risks, shape (n,), summed over patients (time-to-event: over events)."""
    return outcomes.endpoint.loss_terms(outcomes) * float(mean_loss(torch.from_numpy(risk), outcomes))


@dataclass(frozen=True)
class RidgeObjective:
    """A multiple of the mean loss plus ``penalty / 2`` times the squared length of the weights, and its gradient."""

    x: FloatArray
    outcomes: Outcomes
    penalty: float
    factor: float

    def __call__(self, parameters: FloatArray) -> tuple[float, FloatArray]:
        """Value and gradient at the weights and, as the last parameter, the intercept."""
        theta = torch.tensor(parameters, requires_grad=True)
        risk = torch.from_numpy(self.x) @ theta[:-1] + (theta[-1] if self.outcomes.endpoint.risk_has_origin else 0.0)
        total = self.factor * mean_loss(risk, self.outcomes) + self.penalty / 2 * theta[:-1].square().sum()
        (gradient,) = torch.autograd.grad(total, theta)
        return total.item(), gradient.numpy()


def _minimise(x: FloatArray, outcomes: Outcomes, penalty: float) -> tuple[FloatArray, float]:
    endpoint, start = outcomes.endpoint, np.zeros(x.shape[1] + 1)
    if endpoint.loss == "squared-error":
        start[-1] = outcomes.value.mean()
    objective = RidgeObjective(x, outcomes, penalty, endpoint.loss_terms(outcomes))
    tight = {"maxiter": 1000, "gtol": 1e-7, "ftol": 1e-13}
    found = scipy.optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=tight)
    return found.x[:-1], float(found.x[-1])
