"""Elastic-net regression for every endpoint kind, a ridge that can also leave features out; and one without signs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.models.learners.linear import ROUNDING, SLOPE_SHARE, TOLERANCE, RidgeModel, RidgeObjective, moments
from twobe3.models.learners.losses import choose_loss

MOST_STEPS = 1000
RIDGE_SHARE = 1e-9  # by which the diagonal of the curvature grows, so that steps are defined without a ridge too


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
    found = _minimise(_smooth_part(x, outcomes, penalty / max(terms, 1)), 0.0, start, signs=np.ones(x.shape[1]))
    return found[:-1], float(found[-1])


def largest_penalty(x: FloatArray, outcomes: Outcomes, l1_share: float) -> float:
    """The smallest penalty under which every weight is 0, where a path begins; ``l1_share`` above 0."""
    mean, scale = moments(x)
    nothing = np.append(np.zeros(x.shape[1]), outcomes.endpoint.constant_risk(outcomes))
    gradient = _smooth_part((x - mean) / scale, outcomes, 0.0).gradient(nothing)
    return float(np.abs(gradient[:-1]).max() / l1_share)


def _smooth_part(x: FloatArray, outcomes: Outcomes, ridge: float) -> RidgeObjective:
    """The mean loss and the part of the penalty that has a slope everywhere."""
    endpoint, terms = outcomes.endpoint, max(outcomes.endpoint.loss_terms(outcomes), 1)
    factor = (0.5 if endpoint.loss == "squared-error" else 1.0) / terms
    return RidgeObjective(x, choose_loss(outcomes), ridge, endpoint.risk_has_origin, factor)


def _minimise(smooth: RidgeObjective, penalty: float, start: FloatArray, signs: FloatArray | None = None) -> FloatArray:
    """Parameters of the minimum of a smooth part plus ``penalty`` times the sum of absolute weights.

    Newton steps for the weights that are not 0 or should not be, cut off where a weight would change its sign
    (Bertsekas, SIAM J Control Optim 1982;20:221, equations 32 to 38). The slope says which sign a weight of 0 takes, or
    ``signs``, shape (p,), which they then keep.
    """
    theta, value = start, smooth.value(start) + penalty * float(np.abs(start[:-1]).sum())
    for _ in range(MOST_STEPS):
        gradient = smooth.gradient(theta)
        sign = np.where(theta != 0.0, np.sign(theta), -np.sign(gradient))[:-1] if signs is None else signs
        gradient[:-1] += penalty * sign
        free = np.append((theta[:-1] != 0.0) | (sign * gradient[:-1] < 0.0), True)
        curvature = smooth.curvature(theta)[np.ix_(free, free)]
        curvature[np.diag_indices_from(curvature)] *= 1.0 + RIDGE_SHARE
        step = np.zeros_like(theta)
        step[free] = np.linalg.solve(curvature, gradient[free])
        if not float(gradient @ step) > TOLERANCE:
            break
        length, new = 1.0, np.inf
        while True:
            candidate = theta - length * step
            candidate[:-1] = np.where(sign * candidate[:-1] > 0.0, candidate[:-1], 0.0)
            new = smooth.value(candidate) + penalty * float(np.abs(candidate[:-1]).sum())
            if new <= value + ROUNDING * abs(value) - SLOPE_SHARE * float(gradient @ (theta - candidate)):
                break
            length /= 2
        theta, value = candidate, new
    return theta
