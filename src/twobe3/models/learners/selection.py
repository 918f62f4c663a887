"""Choosing features from training patients: how well each one ranks them, and which ones say the same."""

from __future__ import annotations

import numpy as np

from twobe3.core.outcomes import FloatArray, IntArray, Outcomes


def concordance(x: FloatArray, outcomes: Outcomes) -> FloatArray:
    """Share of the comparable pairs of patients that each feature puts in order, ties counting half.

    Binary: the area under the ROC curve. Time-to-event: Harrell's C, where of two patients the one with the observed
    event comes first, and a patient censored at that time counts as later (Harrell, JAMA 1982;247:2543). Continuous:
    pairs of different values. ``x``, finite, has the shape (n, p), the result (p,): 0.5 where no pair can be compared.
    """
    first, second = comparable_pairs(outcomes)
    if len(first) == 0:
        return np.full(x.shape[1], 0.5)
    columns = (np.sign(column[first] - column[second]).mean() for column in x.T)
    return 0.5 + 0.5 * np.fromiter(columns, np.float64, x.shape[1])


def comparable_pairs(outcomes: Outcomes) -> tuple[IntArray, IntArray]:
    """Positions of the patient at higher risk and of the other one, for each pair that can be compared."""
    value, event = outcomes.value, outcomes.event
    if outcomes.endpoint.has_times:
        later = (value[:, None] < value[None, :]) | ((value[:, None] == value[None, :]) & ~event[None, :])
        comparable = event[:, None] & later
    else:
        comparable = value[:, None] > value[None, :]
    first, second = np.nonzero(comparable)
    return first, second


def spearman(x: FloatArray) -> FloatArray:
    """Rank correlation of each two columns, shape (p, p); 0 where a column is constant."""
    from scipy.stats import rankdata  # slow to import, and for fits alone

    ranks = rankdata(x, axis=0)
    ranks -= ranks.mean(axis=0)
    length = np.sqrt((ranks**2).sum(axis=0))
    scaled = np.divide(ranks, length, out=np.zeros_like(ranks), where=length > 0)
    return np.asarray(scaled.T @ scaled)


def without_redundancy(correlation: FloatArray, order: IntArray, limit: float) -> IntArray:
    """Walk features in an order, the preferred first, and keep each that no kept one resembles.

    ``correlation`` between features has the shape (p, p); two that are kept correlate absolutely by at most ``limit``.
    """
    kept: list[int] = []
    for feature in order:
        if not (np.abs(correlation[feature, kept]) > limit).any():
            kept.append(int(feature))
    return np.array(kept, np.int64)


def most_relevant(relevance: FloatArray, count: int) -> IntArray:
    """The features of highest relevance, best first; ties in their order."""
    return np.argsort(-relevance, kind="stable")[:count]


def minimum_redundancy(relevance: FloatArray, correlation: FloatArray, count: int) -> IntArray:
    """The ``count`` features that are relevant and unlike each other, in the order in which they are chosen.

    Each next one has the largest quotient of its relevance and its mean absolute correlation with those chosen
    (the quotient scheme of Ding & Peng, J Bioinform Comput Biol 2005;3:185, with ranks in place of an F test).
    ``relevance``, not negative, has the shape (p,), ``correlation`` between features (p, p).
    """
    chosen = [int(np.argmax(relevance))]
    while len(chosen) < min(count, len(relevance)):
        redundancy = np.abs(correlation[:, chosen]).mean(axis=1)
        quotient = relevance / np.maximum(redundancy, 1e-3)
        quotient[chosen] = -np.inf
        chosen.append(int(np.argmax(quotient)))
    return np.array(chosen, np.int64)


def agreement(ratings: FloatArray) -> FloatArray:
    """Intraclass correlation ICC(2,1) of each feature: absolute agreement of single ratings, raters drawn at random.

    Shrout PE, Fleiss JL. Psychol Bull 1979;86:420–428. ``ratings`` of n patients by k raters for p features have the
    shape (n, k, p), the result (p,): at most 1; 1 where nothing varies.
    """
    n, k, _ = ratings.shape
    overall, patients, raters = ratings.mean(axis=(0, 1)), ratings.mean(axis=1), ratings.mean(axis=0)
    between = k * ((patients - overall) ** 2).sum(axis=0) / (n - 1)
    judges = n * ((raters - overall) ** 2).sum(axis=0) / (k - 1)
    rest = ratings - patients[:, None] - raters[None] + overall
    error = (rest**2).sum(axis=(0, 1)) / ((n - 1) * (k - 1))
    total = between + (k - 1) * error + k * (judges - error) / n
    return np.asarray(np.divide(between - error, total, out=np.ones_like(total), where=total > 0))
