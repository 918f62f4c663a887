"""Metrics of binary and continuous endpoints, DeLong's covariance of AUCs, and the ROC curve.

Each metric takes the risk, probability or predicted value of n patients, and the outcomes of the same patients in the
same order, and gives a :class:`~twobe3.evaluation.bootstrap.Statistic`. ``fold`` says in which fold each patient was
tested, ``threshold`` what the training patients of that fold chose, 0.5 by default.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from twobe3.core.outcomes import BoolArray, FloatArray, IntArray, Outcomes
from twobe3.evaluation.bootstrap import TOLERANCE, Statistic
from twobe3.evaluation.results import Curve
from twobe3.evaluation.survival import RiskOrder, ratio

THRESHOLD = 0.5


def auc(risk: FloatArray, outcomes: Outcomes) -> Statistic:
    """Area under the ROC curve: the share of pairs of a positive and a negative that the risk orders rightly.

    The Mann–Whitney statistic; ties in risk count ½ (Hanley & McNeil, Radiology 143 (1982) 29–36).
    """
    return _share_of_pairs(RiskOrder(risk), outcomes.event, "Mann–Whitney, ties in risk count ½")


def auc_within_folds(risk: FloatArray, outcomes: Outcomes, fold: IntArray) -> Statistic:
    """:func:`auc` of the pairs of patients that were tested in one fold, and so by one model."""
    return _share_of_pairs(
        RiskOrder(risk, fold), outcomes.event, "Mann–Whitney of the pairs tested in one fold, ties in risk count ½"
    )


def average_precision(risk: FloatArray, outcomes: Outcomes) -> Statistic:
    """Average precision: the mean precision at each positive, tied risks being one threshold.

    AP = Σ (Rₖ − Rₖ₋₁) Pₖ over the distinct risks from high to low, R recall and P precision; no interpolation.
    Not estimable with one class only.
    """
    order = np.argsort(-risk, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(risk[order]) != 0, True))
    event = outcomes.event[order]

    def compute(counts: FloatArray) -> FloatArray:
        counts = counts[:, order]
        found = np.cumsum(counts * event, axis=1)[:, ends]
        called = np.cumsum(counts, axis=1)[:, ends]
        gained = np.diff(found, axis=1, prepend=0.0)
        mean = ratio((gained * found / np.maximum(called, 1.0)).sum(axis=1), found[:, -1])
        return np.where(called[:, -1] > found[:, -1], mean, np.nan)

    return Statistic(compute, "average precision, tied risks are one threshold, no interpolation")


def sensitivity(probability: FloatArray, outcomes: Outcomes, threshold: FloatArray | None = None) -> Statistic:
    """Share of the positives whose probability reaches the threshold."""
    called = probability >= (THRESHOLD if threshold is None else threshold)
    return Statistic(
        _share(called, outcomes.event),
        f"positives with a probability of at least {_named(threshold)}, of all positives",
    )


def specificity(probability: FloatArray, outcomes: Outcomes, threshold: FloatArray | None = None) -> Statistic:
    """Share of the negatives whose probability stays below the threshold."""
    spared = probability < (THRESHOLD if threshold is None else threshold)
    return Statistic(
        _share(spared, ~outcomes.event), f"negatives with a probability < {_named(threshold)}, of all negatives"
    )


def balanced_accuracy(probability: FloatArray, outcomes: Outcomes, threshold: FloatArray | None = None) -> Statistic:
    """Mean of sensitivity and specificity."""
    parts = sensitivity(probability, outcomes, threshold), specificity(probability, outcomes, threshold)
    return Statistic(
        lambda counts: (parts[0].compute(counts) + parts[1].compute(counts)) / 2,
        f"mean of sensitivity and specificity at a probability of {_named(threshold)}",
    )


def brier(probability: FloatArray, outcomes: Outcomes) -> Statistic:
    """Mean squared distance of probability and outcome (Brier, Monthly Weather Review 78 (1950) 1–3)."""
    return Statistic(weighted_mean((probability - outcomes.event) ** 2), "mean squared distance")


def log_loss(probability: FloatArray, outcomes: Outcomes) -> Statistic:
    """Mean negative log-likelihood in nats; probabilities are kept off 0 and 1 by the machine epsilon, 2.2e-16."""
    epsilon = np.finfo(np.float64).eps
    probability = np.clip(probability, epsilon, 1 - epsilon)
    loss = -np.where(outcomes.event, np.log(probability), np.log1p(-probability))
    return Statistic(weighted_mean(loss), "mean negative log-likelihood, nats")


def weighted_mean(values: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """From counts to the mean of the values."""
    return lambda counts: ratio(counts @ values, counts.sum(axis=1))


def delong(risks: FloatArray, event: BoolArray, folds: IntArray | None = None) -> tuple[FloatArray, FloatArray]:
    """AUCs of several risks of the same patients, shape (k,), and their covariance, shape (k, k).

    DeLong et al., Biometrics 44 (1988) 837–845, by the ranks of Sun & Xu (IEEE Signal Processing Letters 21 (2014)
    1389–1393). ``risks`` and ``folds``, shape (k, n), have a row for each model, or each repeat of one model.

    With folds, the AUC is that of :func:`auc_within_folds`, A = Σ_f W_f / P, W_f the pairs of fold f that are ordered
    rightly and P = Σ_f m_f n_f all pairs. The structural component of a positive in fold f is m/P times its pairs won
    there, less A times its pairs; of a negative likewise with n/P: the influence of the patient on the ratio. Their
    covariance over the m positives and the n negatives takes the place of that of DeLong's components, which they are
    when there is one fold. Repeats count with their covariance, whatever their folds. Differences between the folds
    count as chance, and the components of small folds are themselves uncertain: the variance is rather too large than
    too small. A ValueError where a class has fewer than two patients, or no fold of a row has patients of both.
    """
    m, n = int(event.sum()), int((~event).sum())
    if min(m, n) < 2:
        raise ValueError(f"DeLong's covariance needs two patients of each class, got {m} and {n}")
    folds = np.zeros(risks.shape, dtype=np.int64) if folds is None else folds
    rows = [_components(risk, event, fold) for risk, fold in zip(risks, folds, strict=True)]
    areas = np.array([area for area, _ in rows])
    components = np.stack([component for _, component in rows])
    of_positives, of_negatives = (np.atleast_2d(np.cov(components[:, among])) for among in (event, ~event))
    return areas, of_positives / m + of_negatives / n


def _components(risk: FloatArray, event: BoolArray, fold: IntArray) -> tuple[float, FloatArray]:
    """The AUC within the folds, and the structural component of each patient; shape (n,)."""
    won, pairs = np.zeros(len(risk)), np.zeros(len(risk))
    for one in np.unique(fold):
        here = fold == one
        positive, negative = here & event, here & ~event
        # Rank among all less rank among one's own class: how many of the other class lie below, ties counting ½.
        rank = rankdata(risk[here])
        won[positive] = rank[event[here]] - rankdata(risk[positive])
        won[negative] = positive.sum() - (rank[~event[here]] - rankdata(risk[negative]))
        pairs[positive], pairs[negative] = negative.sum(), positive.sum()
    total = float(pairs[event].sum())
    if not total:
        raise ValueError("no fold has patients of both classes")
    area = float(won[event].sum()) / total
    size = np.where(event, event.sum(), (~event).sum())
    return area, size / total * (won - area * pairs)


def roc_curve(risks: FloatArray, present: BoolArray, event: BoolArray) -> Curve | None:
    """The ROC curve, averaged vertically over repeats (Fawcett, Pattern Recognition Letters 27 (2006) 861–874, §9.1).

    x is 1 − specificity, y sensitivity. The area under it is the mean of the repeats' AUC, tied risks being joined by a
    slanted line. ``risks`` and ``present``, whether the patient was predicted in the repeat, have the shape
    (repeats, n). None when a repeat has one class only.
    """
    vertices = []
    for risk, there in zip(risks, present, strict=True):
        positive, value = event[there], risk[there]
        if positive.all() or not positive.any():
            return None
        order = np.argsort(-value, kind="stable")
        ends = np.append(np.diff(value[order]) != 0, True)
        vertices.append([np.append(0, np.cumsum(c[order])[ends] / c.sum()) for c in (~positive, positive)])
    grid = np.unique(np.round(np.concatenate([x for x, _ in vertices]), 12))
    # A step is vertical: take the curve just left and just right of it.
    x = np.stack([grid - 1e-9, grid + 1e-9], axis=1).ravel()
    y = np.mean([np.interp(x, fpr, tpr) for fpr, tpr in vertices], axis=0)
    label = "ROC" if len(vertices) == 1 else f"ROC, mean of {len(vertices)} repeats"
    return Curve("roc", label, np.repeat(grid, 2), y)


def _share_of_pairs(order: RiskOrder, event: BoolArray, estimator: str) -> Statistic:
    return Statistic(lambda counts: ratio(*order.pairs(counts * event, counts * ~event)), estimator)


def _named(threshold: FloatArray | None) -> str:
    return f"{THRESHOLD}" if threshold is None else "the threshold that the training patients of the fold chose"


def _share(called: BoolArray, among: BoolArray) -> Callable[[FloatArray], FloatArray]:
    return lambda counts: ratio(counts @ (called & among).astype(float), counts @ among.astype(float))


def spearman(predicted: FloatArray, outcomes: Outcomes) -> Statistic:
    """Spearman's rank correlation, ties at their mean rank; not estimable when either side is constant."""

    def compute(counts: FloatArray) -> FloatArray:
        x, y = _mid_ranks(predicted, counts), _mid_ranks(outcomes.value, counts)
        total = counts.sum(axis=1, keepdims=True)
        x, y = (ranks - ratio((counts * ranks).sum(axis=1, keepdims=True), total) for ranks in (x, y))
        covariance, *variances = ((counts * product).sum(axis=1) for product in (x * y, x * x, y * y))
        # Two different values give ranks at least one apart; what is below is rounding.
        constant = np.minimum(*variances) < 1e-6
        return np.where(constant, np.nan, ratio(covariance, np.sqrt(variances[0] * variances[1])))

    return Statistic(compute, "Spearman's rank correlation, ties at their mean rank")


def mean_absolute_error(predicted: FloatArray, outcomes: Outcomes) -> Statistic:
    """Mean absolute difference of prediction and outcome, in the endpoint's unit."""
    return Statistic(weighted_mean(np.abs(predicted - outcomes.value)), "mean absolute error, in the endpoint's unit")


def r2(predicted: FloatArray, outcomes: Outcomes) -> Statistic:
    """Coefficient of determination: 1 − Σ(y − ŷ)² / Σ(y − ȳ)², below 0 for a prediction worse than the mean."""
    y = outcomes.value
    squares = (y - predicted) ** 2
    centred = y - y.mean()

    def compute(counts: FloatArray) -> FloatArray:
        total = counts.sum(axis=1)
        mean = ratio(counts @ centred, total)
        spread = counts @ centred**2 - total * mean**2
        spread = np.where(spread > TOLERANCE * np.abs(y).max(initial=1.0) ** 2, spread, 0.0)
        return 1 - ratio(counts @ squares, spread)

    return Statistic(compute, "coefficient of determination, 1 − residual / total sum of squares")


def _mid_ranks(values: FloatArray, counts: FloatArray) -> FloatArray:
    """Mean rank of each patient's value in each sample; shape (samples, n)."""
    distinct, position = np.unique(values, return_inverse=True)
    size = counts @ (position[:, None] == np.arange(len(distinct))).astype(np.float64)
    return np.asarray((np.cumsum(size, axis=1) - (size - 1) / 2)[:, position])
