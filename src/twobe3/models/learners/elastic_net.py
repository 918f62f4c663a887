"""Elastic-net regression for every endpoint kind, a ridge that can also leave features out; and one without signs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.models.learners.linear import RidgeModel, RidgeObjective, moments


def fit_elastic_path(
    x: FloatArray, outcomes: Outcomes, penalties: Sequence[float], l1_share: float
) -> dict[float, RidgeModel]:
    r"""Minimise the mean loss plus an elastic net on the standardised weights, for several penalties.

    .. math:: L(\beta) + \lambda \big( \alpha \|\beta\|_1 + \tfrac{1 - \alpha}{2} \|\beta\|_2^2 \big)

    (Zou & Hastie, J R Stat Soc B 2005;67:301). Each penalty starts from the solution of the next larger one.

    Parameters
    ----------
    x, outcomes
        Training patients, as of :func:`~twobe3.models.learners.linear.fit_ridge`. The mean of a time-to-event loss is
        over events; that of a squared error is halved.
    penalties : sequence of float
        λ, not negative; the result has a linear risk for each, with weights that may be 0.
    l1_share : float
        α, from 0 (ridge) to 1 (lasso).
    """
    mean, scale = moments(x)
    standard = (x - mean) / scale
    theta, path = np.zeros(x.shape[1] + 1), {}
    for penalty in sorted(penalties, reverse=True):
        smooth = _smooth_part(standard, outcomes, penalty * (1.0 - l1_share))
        theta = _minimise(smooth, penalty * l1_share, theta)
        path[penalty] = RidgeModel(mean, scale, theta[:-1], float(theta[-1]), penalty)
    return path


def fit_nonnegative(x: FloatArray, outcomes: Outcomes, penalty: float) -> tuple[FloatArray, float]:
    """Ridge regression whose weights are not negative: the summed loss plus ``penalty / 2`` times their squared length.

    Of standardised columns ``x``, shape (n, p), and losses as of :func:`fit_elastic_path`. Gives the weights, shape
    (p,), 0 where a column is related to the outcome the other way round or not at all, and the bias, 0 for
    time-to-event.
    """
    terms = outcomes.endpoint.loss_terms(outcomes)
    start = np.append(np.zeros(x.shape[1]), outcomes.endpoint.constant_risk(outcomes))
    bounds = [(0.0, None)] * x.shape[1] + [(None, None)]
    tight = {"maxiter": 2000, "maxfun": 20_000, "gtol": 1e-8, "ftol": 1e-15}
    smooth = _smooth_part(x, outcomes, penalty / max(terms, 1))
    found = scipy.optimize.minimize(smooth, start, jac=True, method="L-BFGS-B", bounds=bounds, options=tight).x
    return np.asarray(found[:-1]), float(found[-1])


def largest_penalty(x: FloatArray, outcomes: Outcomes, l1_share: float) -> float:
    """The smallest penalty under which every weight is 0, where a path begins; ``l1_share`` above 0."""
    mean, scale = moments(x)
    _, gradient = _smooth_part((x - mean) / scale, outcomes, 0.0)(
        np.append(np.zeros(x.shape[1]), outcomes.endpoint.constant_risk(outcomes))
    )
    return float(np.abs(gradient[:-1]).max() / l1_share)


def _smooth_part(x: FloatArray, outcomes: Outcomes, ridge: float) -> RidgeObjective:
    return RidgeObjective(x, outcomes, ridge, 0.5 if outcomes.endpoint.loss == "squared-error" else 1.0)


def _minimise(smooth: RidgeObjective, penalty: float, start: FloatArray) -> FloatArray:
    """Weights as differences of two parts that are not negative: their sum is the lasso's term, and is smooth."""

    def objective(parts: FloatArray) -> tuple[float, FloatArray]:
        up, down, bias = np.split(parts, [p, 2 * p])
        value, gradient = smooth(np.append(up - down, bias))
        slopes = np.concatenate([gradient[:-1] + penalty, penalty - gradient[:-1], gradient[-1:]])
        return value + penalty * float(parts[: 2 * p].sum()), slopes

    p = len(start) - 1
    parts = np.concatenate([np.maximum(start[:-1], 0.0), np.maximum(-start[:-1], 0.0), start[-1:]])
    bounds = [(0.0, None)] * (2 * p) + [(None, None)]
    tight = {"maxiter": 2000, "maxfun": 20_000, "gtol": 1e-7, "ftol": 1e-14, "maxls": 50}
    found = scipy.optimize.minimize(objective, parts, jac=True, method="L-BFGS-B", bounds=bounds, options=tight).x
    return np.append(found[:p] - found[p : 2 * p], found[-1])
