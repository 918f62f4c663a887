"""Further tests of the difference of two models, and how many patients it would take to see one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from twobe3.evaluation.aligned import Aligned
from twobe3.evaluation.binary import delong
from twobe3.evaluation.intervals import LEVEL
from twobe3.evaluation.results import Comparison, Evaluation

POWER = 0.8
DIFFERENCE = 0.05


def delong_p(a: Aligned, b: Aligned, *, within_folds: bool = False) -> float | None:
    """Two-sided p of the hypothesis that two models have the same AUC (DeLong et al., Biometrics 44 (1988) 837–845).

    With several repeats the AUC of a model is the mean over its repeats, and the covariance of all of them together
    counts: repeats of one cross-validation judge the same patients.

    Parameters
    ----------
    a, b : Aligned
        Of the same patients, for a binary endpoint.
    within_folds : bool
        Whether the AUC is that of the pairs tested in one fold, see :func:`~twobe3.evaluation.binary.delong`.

    Returns
    -------
    float or None
        None when a class has fewer than two patients, a repeat lacks a patient or has no pair in a fold, or the
        difference doesn't vary. 1 for models that order the patients alike.
    """
    event = a.outcomes.event
    if min(event.sum(), (~event).sum()) < 2 or not (a.present.all() and b.present.all()):
        return None
    folds = np.stack([scores.fold for one in (a, b) for scores in one.scores]) if within_folds else None
    try:
        areas, covariance = delong(np.concatenate([a.risk, b.risk]), event, folds)
    except ValueError:
        return None  # the folds of a repeat hold no pair
    weights = np.concatenate([np.full(a.repeats, 1 / a.repeats), np.full(b.repeats, -1 / b.repeats)])
    difference, variance = float(weights @ areas), float(weights @ covariance @ weights)
    if variance <= np.finfo(float).eps:
        return 1.0 if abs(difference) <= np.finfo(float).eps else None
    return 2 * float(norm.sf(abs(difference) / math.sqrt(variance)))


@dataclass(frozen=True)
class FoldValue:
    """A metric of one model in one fold.

    Attributes
    ----------
    value : float
        NaN where the fold doesn't allow an estimate.
    tested, trained : int
        Patients tested in the fold, and those of the repeat's other folds, with whom the model was trained.
    """

    value: float
    tested: int
    trained: int


def corrected_t(
    a: Mapping[tuple[int, int], FoldValue], b: Mapping[tuple[int, int], FoldValue]
) -> tuple[float | None, str]:
    """The corrected resampled t-test of two models across the folds of a (repeated) cross-validation.

    The J differences d of the folds are not independent: their training parts overlap. So the variance of their mean
    is taken as (1/J + n_test/n_train) s², and t has J − 1 degrees of freedom (Nadeau & Bengio, Machine Learning 52
    (2003) 239–281; for repeated cross-validation Bouckaert & Frank, PAKDD 2004, LNCS 3056, 3–12). n_test/n_train is
    its mean over the folds.

    Parameters
    ----------
    a, b : mapping
        From (repeat, fold) to the metric there.

    Returns
    -------
    p : float or None
        Two-sided. None when fewer than two folds allow an estimate, the folds of the two differ, or all differences
        are the same, unless they are 0: then 1.
    method : str
        What was done, or why nothing could be.
    """
    if {key: (f.tested, f.trained) for key, f in a.items()} != {key: (f.tested, f.trained) for key, f in b.items()}:
        return None, "the models were not tested in the same folds"
    estimable = [key for key in sorted(a) if math.isfinite(a[key].value - b[key].value) and a[key].trained]
    if len(estimable) < 2:
        return None, "fewer than two folds allow an estimate"
    differences = np.array([a[key].value - b[key].value for key in estimable])
    share = float(np.mean([a[key].tested / a[key].trained for key in estimable]))
    method = f"corrected resampled t-test across {len(estimable)} of {len(a)} folds, n_test/n_train = {share:.3g}"
    mean, variance = float(differences.mean()), float(differences.var(ddof=1))
    if variance <= np.finfo(float).eps ** 2:
        return (1.0 if abs(mean) <= np.finfo(float).eps else None), method
    t = mean / math.sqrt((1 / len(differences) + share) * variance)
    return 2 * float(student.sf(abs(t), df=len(differences) - 1)), method


def patients_needed(n: int, standard_error: float | None, difference: float = DIFFERENCE) -> int | None:
    """Patients with whom a true difference of two models would be seen (p < 0.05) with a power of 0.8.

    N = n ((z₀.₉₇₅ + z₀.₈) s / Δ)²: the standard error s of the paired difference, seen with n patients, falls as
    1/√n (the normal approximation of Obuchowski & McClish, Statistics in Medicine 16 (1997) 1529–1542, its variance
    taken from the bootstrap). Of patients like these, and of these models as they stand: that models trained with
    more patients become better is not counted.

    Parameters
    ----------
    n : int
        Patients on whom both were judged.
    standard_error : float or None
        Of their difference.
    difference : float
        Δ, in the metric's unit.

    Returns
    -------
    int or None
        None where the standard error is not known, or 0: models that order the patients alike never differ.
    """
    if not standard_error:
        return None
    quantiles = float(norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER))
    return math.ceil(n * (quantiles * standard_error / difference) ** 2)


def basis_text(evaluations: Iterable[Evaluation]) -> list[str]:
    """A line that says by which metric the models of each endpoint are ranked and compared, and why."""
    said = {evaluation.endpoint: evaluation.basis for evaluation in evaluations if evaluation.kind != "continuous"}
    bases = dict.fromkeys(basis for basis in said.values() if basis is not None)
    return [f"models are ranked and compared by {basis.metric}: {basis.reason}" for basis in bases]


def needed_text(comparisons: Iterable[Comparison]) -> list[str]:
    """A line that says how many patients a comparison takes: the median over the pairs, for each metric compared."""
    needed: dict[str, list[int]] = {}
    for pair in comparisons:
        if pair.patients_needed is not None:
            needed.setdefault(pair.metric, []).append(pair.patients_needed)
    return [
        f"to see a difference of {DIFFERENCE:g} in {metric} with a power of {POWER:.0%}: about "
        f"{float(f'{median(counts):.1e}'):.0f} patients like these (median of {len(counts)} pairs)"
        for metric, counts in needed.items()
    ]
