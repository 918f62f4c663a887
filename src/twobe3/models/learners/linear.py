"""Ridge regression for every endpoint kind, its penalty chosen inside the training patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.io.model_file import ArrayFields
from twobe3.models.inner_cv import inner_split
from twobe3.models.learners.losses import SummedLoss, choose_loss

MOST_STEPS = 100
TOLERANCE = 1e-16  # of the decrement: twice what a Newton step would take from the objective
SLOPE_SHARE = 1e-4  # of what the slope promises, that a step must take at least
ROUNDING = 1e-12  # of the objective


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
    """:func:`fit_ridge` for several penalties, which gives the model of each; the rows are decomposed once.

    Each penalty starts from the minimum of the next larger one.
    """
    mean, scale = moments(x)
    left, singular, right = np.linalg.svd((x - mean) / scale, full_matrices=False)
    coordinates, loss, path = left * singular, choose_loss(outcomes), {}
    theta = np.append(np.zeros(len(singular)), outcomes.endpoint.constant_risk(outcomes))
    for penalty in sorted(penalties, reverse=True):
        theta = minimise(RidgeObjective(coordinates, loss, penalty, outcomes.endpoint.risk_has_origin), theta)
        path[penalty] = RidgeModel(mean, scale, right.T @ theta[:-1], float(theta[-1]), penalty)
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
    loss, everyone = dict.fromkeys(sorted(penalties, reverse=True), 0.0), choose_loss(outcomes)
    for fold in split:
        train, test = fold.train, fold.test
        inner = outcomes.subset(train)
        inside, outside = choose_loss(inner), choose_loss(outcomes.subset(test))
        for penalty, model in (path or fit_path)(x[train], inner, tuple(loss)).items():
            if outcomes.endpoint.has_times:
                loss[penalty] += everyone.value(model.risk(x)) - inside.value(model.risk(x[train]))
            else:
                loss[penalty] += outside.value(model.risk(x[test]))
    return min(loss, key=loss.__getitem__)


def moments(x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean of each column, and its standard deviation, or 1 where it is constant."""
    spread = x.std(axis=0)
    return x.mean(axis=0), np.where(spread > 0, spread, 1.0)


def sum_loss(risk: FloatArray, outcomes: Outcomes) -> float:
    """The loss of risks, shape (n,), summed over patients (time-to-event: over events)."""
    return choose_loss(outcomes).value(risk)


@dataclass(frozen=True, eq=False)
class RidgeObjective:
    """A multiple of a summed loss plus ``penalty / 2`` times the squared length of the weights.

    Parameters are the weights of the columns of ``x``, shape (n, p), and as the last one the bias; without an origin
    of the risks nothing depends on that.
    """

    x: FloatArray
    loss: SummedLoss
    penalty: float
    has_bias: bool
    factor: float = 1.0

    def value(self, theta: FloatArray) -> float:
        """At parameters of shape (p + 1,)."""
        weights = theta[:-1]
        return self.factor * self.loss.value(self._risk(theta)) + self.penalty / 2 * float(weights @ weights)

    def gradient(self, theta: FloatArray) -> FloatArray:
        """Shape (p + 1,)."""
        slope = self.factor * self.loss.gradient(self._risk(theta))
        return np.append(slope @ self.x + self.penalty * theta[:-1], slope.sum() if self.has_bias else 0.0)

    def curvature(self, theta: FloatArray) -> FloatArray:
        """Shape (p + 1, p + 1)."""
        columns = np.column_stack([self.x, np.full(len(self.x), float(self.has_bias))])
        curvature = self.factor * self.loss.curvature(self._risk(theta), columns)
        curvature[np.diag_indices_from(curvature)] += np.append(
            np.full(len(theta) - 1, self.penalty), float(not self.has_bias)
        )
        return curvature

    def _risk(self, theta: FloatArray) -> FloatArray:
        return np.asarray(self.x @ theta[:-1] + (theta[-1] if self.has_bias else 0.0))


def minimise(objective: RidgeObjective, start: FloatArray) -> FloatArray:
    """The parameters of the minimum, by Newton steps that are halved where they go too far.

    Boyd & Vandenberghe, Convex Optimization, 2004, algorithm 9.5. The penalty is positive.
    """
    theta, value = start, objective.value(start)
    for _ in range(MOST_STEPS):
        gradient = objective.gradient(theta)
        step = np.linalg.solve(objective.curvature(theta), gradient)
        decrement = float(gradient @ step)
        if not decrement > TOLERANCE:
            break
        length, allowed = 1.0, value + ROUNDING * abs(value)
        while not (new := objective.value(theta - length * step)) <= allowed - SLOPE_SHARE * length * decrement:
            length /= 2
        theta, value = theta - length * step, new
    return theta
