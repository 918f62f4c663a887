"""Intervals of a share that came out as 0 or 1, where every bootstrap sample says the same."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from twobe3.evaluation.intervals import LEVEL
from twobe3.outcome import Outcomes


class Bound(NamedTuple):
    """An interval of a value of 0 or 1, which is one of its ends, and how it was made."""

    low: float
    high: float
    method: str


def auc_bound(area: float, outcomes: Outcomes) -> Bound:
    """Interval of an AUC of 0 or 1 (Newcombe, Statistics in Medicine 25 (2006) 559–573, method 5).

    As Wilson's of a share, it holds the areas A that are at most z √V(A) away from the one observed, where

    V(A) = A (1 − A) / (m n) · (1 + (N − 1) ((1 − A) / (2 − A) + A / (1 + A))), N = (m + n) / 2,

    is Hanley & McNeil's variance (Radiology 143 (1982) 29–36) with both sizes, m and n, at their mean.

    Parameters
    ----------
    area : {0.0, 1.0}
        The AUC observed.
    outcomes : Outcomes
        Of m positives and n negatives.
    """
    positives, negatives = _sizes(outcomes)
    z, size = float(norm.ppf((1 + LEVEL) / 2)), (positives + negatives) / 2

    def excess(miss: float) -> float:
        # The equation of the limit A = 1 − miss (by symmetry also A = miss), divided by its other root, miss = 0.
        spread = 1 + (size - 1) * (miss / (1 + miss) + (1 - miss) / (2 - miss))
        return miss - z**2 * (1 - miss) / (positives * negatives) * spread

    miss = float(brentq(excess, 0.0, 1.0))
    low, high = (1 - miss, 1.0) if area == 1 else (0.0, miss)
    return Bound(low, high, "Newcombe's interval, method 5")


def sensitivity_bound(share: float, outcomes: Outcomes) -> Bound:
    """Wilson's interval of a share of the positives."""
    return Bound(*_wilson(share, _sizes(outcomes)[0]), "Wilson's interval")


def specificity_bound(share: float, outcomes: Outcomes) -> Bound:
    """Wilson's interval of a share of the negatives."""
    return Bound(*_wilson(share, _sizes(outcomes)[1]), "Wilson's interval")


def balanced_accuracy_bound(mean: float, outcomes: Outcomes) -> Bound:
    """Interval of the mean of sensitivity and specificity, both 0 or both 1, from Wilson's intervals of the two.

    Their distances from the mean are squared and added (Zou & Donner, Statistics in Medicine 27 (2008) 1693–1702).
    """
    limits = np.array([_wilson(mean, n) for n in _sizes(outcomes)])
    below, above = (float(np.linalg.norm(limits[:, side] - mean)) / 2 for side in (0, 1))
    return Bound(mean - below, mean + above, "Wilson's intervals, squared and added")


def _sizes(outcomes: Outcomes) -> tuple[int, int]:
    """Positives and negatives."""
    return outcomes.n_events, len(outcomes) - outcomes.n_events


def _wilson(share: float, n: int) -> tuple[float, float]:
    """Of a share of 0 or 1: Wilson, Journal of the American Statistical Association 22 (1927) 209–212."""
    low, high = proportion_confint(share * n, n, alpha=1 - LEVEL, method="wilson")
    return (float(low), 1.0) if share == 1 else (0.0, float(high))
