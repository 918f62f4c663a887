"""Whether a probability of 0.3 comes true in 3 of 10 patients.

Reference: Van Calster et al., Calibration: the Achilles heel of predictive analytics, BMC Medicine 17 (2019) 230.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit
from statsmodels.stats.proportion import proportion_confint

from twobe3.evaluation.intervals import LEVEL, Statistic
from twobe3.evaluation.results import Curve
from twobe3.outcome import FloatArray, Outcomes

CLIP = 1e-6
PATIENTS_PER_BIN = 10
MAX_BINS = 10
_ITERATIONS = 30
_CONVERGED = 1e-9
_STRIDE = 5.0  # longest step, in logits: one sample that separates the classes doesn't overflow


def calibration_slope(probability: FloatArray, outcomes: Outcomes) -> Statistic:
    """Slope b of logit P(event) = a + b logit(p): 1 is right, below 1 the probabilities are too extreme.

    Maximum likelihood. Not estimable with one class, with constant probabilities, or when the classes are separated.

    Parameters
    ----------
    probability : ndarray, shape (n,)
        Clipped to [1e-6, 1 − 1e-6].
    outcomes : Outcomes
        Of the same n patients, in the same order.
    """
    z = _logit(probability)
    scale = float(z.std()) or 1.0
    centred = (z - z.mean()) / scale
    event = outcomes.event.astype(np.float64)

    def compute(counts: FloatArray) -> FloatArray:
        design = np.stack([np.ones_like(centred), centred])
        return _fit(design, event, np.zeros_like(event), counts)[:, 1] / scale

    return Statistic(compute, "slope of the logistic recalibration, maximum likelihood")


def calibration_intercept(probability: FloatArray, outcomes: Outcomes) -> Statistic:
    """Intercept a of logit P(event) = a + logit(p), the slope held at 1: 0 is right, above 0 the risks are too low.

    Maximum likelihood. Not estimable with one class.
    """
    offset = _logit(probability)
    event = outcomes.event.astype(np.float64)

    def compute(counts: FloatArray) -> FloatArray:
        return _fit(np.ones((1, len(event))), event, offset, counts)[:, 0]

    return Statistic(compute, "intercept of the logistic recalibration with slope 1, maximum likelihood")


def calibration_curve(probability: FloatArray, outcomes: Outcomes) -> Curve:
    """Observed share of events against the mean probability, in groups of equal size.

    Parameters
    ----------
    probability : ndarray, shape (n,)
        One for each patient: its mean over repeats.
    outcomes : Outcomes
        Of the same n patients, in the same order.

    Returns
    -------
    Curve
        At most ten groups of about ten patients or more, equal probabilities never split; limits: Wilson's 95 %.
    """
    bins = int(np.clip(len(probability) // PATIENTS_PER_BIN, 1, MAX_BINS))
    edges = np.unique(np.quantile(probability, np.arange(1, bins) / bins))
    _, group = np.unique(np.searchsorted(edges, probability, side="left"), return_inverse=True)
    size = np.bincount(group)
    events = np.bincount(group, weights=outcomes.event)
    low, high = proportion_confint(events, size, alpha=1 - LEVEL, method="wilson")
    label = f"observed share of events in {len(size)} groups of the probability, {size.min()} patients or more in each"
    return Curve("calibration", np.bincount(group, weights=probability) / size, events / size, low, high, label)


def _logit(probability: FloatArray) -> FloatArray:
    clipped: FloatArray = logit(np.clip(probability, CLIP, 1 - CLIP))
    return clipped


def _fit(design: FloatArray, event: FloatArray, offset: FloatArray, counts: FloatArray) -> FloatArray:
    """Logistic regression of every sample at once by Newton's method; NaN where it doesn't converge.

    ``design`` has shape (k, n), ``counts`` (samples, n); the result has shape (samples, k).
    """
    positives = counts @ event
    both = (positives > 0) & (positives < counts.sum(axis=1))
    coefficients = np.zeros((len(counts), len(design)))
    k, n = design.shape
    products = (design[:, None, :] * design[None, :, :]).reshape(k * k, n)
    for _ in range(_ITERATIONS):
        probability = expit(offset + coefficients @ design)
        gradient = (counts * (event - probability)) @ design.T
        information = ((counts * probability * (1 - probability)) @ products.T).reshape(-1, k, k)
        # The pseudo-inverse leaves a direction without information alone; those samples are set aside below.
        step = np.einsum("bij,bj->bi", np.linalg.pinv(information, hermitian=True), gradient).clip(-_STRIDE, _STRIDE)
        coefficients = coefficients + step
        if np.abs(step).max() < _CONVERGED:
            break
    determined = np.linalg.matrix_rank(information, hermitian=True) == k
    converged = both & determined & (np.abs(step).max(axis=1) < _CONVERGED)
    return np.where(converged[:, None], coefficients, np.nan)
