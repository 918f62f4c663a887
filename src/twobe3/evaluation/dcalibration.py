"""D-calibration: do predicted survival curves come true over the whole of time?"""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from twobe3.evaluation.intervals import Statistic
from twobe3.evaluation.predicted import SurvivalCurves
from twobe3.outcome import FloatArray, Outcomes

BINS = 10


def d_calibration(curves: SurvivalCurves, outcomes: Outcomes) -> Statistic:
    """p-value of the hypothesis that the predicted survival at the own event time is uniform between 0 and 1.

    Pearson's χ² of ten equal bins, nine degrees of freedom (Haider et al., Journal of Machine Learning Research 21
    (2020) 85, section 3.3). A small p says that the curves are wrong; a large one, with few patients, says little.

    Parameters
    ----------
    curves : SurvivalCurves
        Of n patients.
    outcomes : Outcomes
        Of the same n patients, in the same order. Censored ones are shared out over the bins that are left to them;
        so are those with a competing event, and those whose follow-up outlasts the predicted times, from then on.
    """
    shares = bin_shares(curves, outcomes)

    def compute(counts: FloatArray) -> FloatArray:
        expected = counts.sum(axis=1, keepdims=True) / BINS
        statistic = ((counts @ shares - expected) ** 2 / expected).sum(axis=1)
        p: FloatArray = chi2.sf(statistic, df=BINS - 1)
        return p

    censored = " and competing events" if outcomes.competing.any() else ""
    return Statistic(
        compute,
        f"D-calibration, p of Pearson's χ² of {BINS} bins of the predicted survival, {BINS - 1} degrees of freedom,"
        f" censorings{censored} shared out",
    )


def bin_shares(curves: SurvivalCurves, outcomes: Outcomes) -> FloatArray:
    """How much each patient adds to each bin of predicted survival; shape (n, 10), rows sum to 1.

    A patient with the event adds 1 to the bin of S(T). One censored there could still have the event at any lower
    survival: to a bin from a to b it adds the share of [0, S(T)] that lies in it (Haider et al. 2020, eq. 9).
    """
    time = np.minimum(outcomes.value, curves.last)
    observed = outcomes.event & (outcomes.value <= curves.last)
    survival = curves.at_own(time)
    bin_of = np.minimum((survival * BINS).astype(np.int64), BINS - 1)
    exactly = (bin_of[:, None] == np.arange(BINS)).astype(np.float64)
    edges = np.arange(BINS) / BINS
    spread = np.clip(survival[:, None] - edges, 0.0, 1 / BINS)
    total = survival[:, None]
    shared = np.where(total > 0, spread / np.where(total > 0, total, 1.0), exactly)
    return np.where(observed[:, None], exactly, shared)
