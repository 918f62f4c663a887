"""Cross-validation inside the training patients, by which a model chooses, weighs and recalibrates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from twobe3.cohort.splits import CrossValidation, Fold, Sample
from twobe3.core.outcomes import FloatArray, IntArray, Outcomes

Risk: TypeAlias = Callable[[IntArray], FloatArray]


def inner_split(
    outcomes: Outcomes, folds: int, seed: int, *, centres: Sequence[str] = (), min_patients: int = 1
) -> tuple[Fold, ...]:
    """The folds of an inner cross-validation, see :class:`~twobe3.cohort.splits.CrossValidation`.

    None where the training patients are too few to split, or the training part of a fold would lack contrast.

    Parameters
    ----------
    outcomes : Outcomes
        Of the n training patients; those of one group stay in one fold.
    folds, seed : int
        At most as many folds as there are persons of the rarer class, or with the event.
    centres : sequence of str, length n, optional
        To be spread evenly.
    min_patients : int
        Patients that must be left to learn from in every fold.
    """
    endpoint = outcomes.endpoint
    persons = outcomes.subset(np.sort(np.unique(outcomes.groups, return_index=True)[1]))
    folds = min(folds, endpoint.effective_sample_size(persons))
    if folds < 2:
        return ()
    split = CrossValidation(folds, 1, seed).split(Sample(outcomes, tuple(centres) or ("",) * len(outcomes)))
    enough = all(
        len(fold.train) >= min_patients and endpoint.has_contrast(outcomes.subset(fold.train)) for fold in split
    )
    return split if enough else ()


def cross_val_predict(fit: Callable[[IntArray], Risk], outcomes: Outcomes, split: Sequence[Fold]) -> FloatArray:
    """Risk of each training patient by a model fitted without the patient's fold of :func:`inner_split`, shape (n,).

    Risks that have no origin are counted from the mean risk of the patients whom the same model was fitted on. ``fit``
    takes positions of training patients and gives a function from positions to risks.
    """
    risks, endpoint = np.zeros(len(outcomes)), outcomes.endpoint
    for fold in split:
        risk = fit(fold.train)
        origin = 0.0 if endpoint.risk_has_origin else endpoint.origin(risk(fold.train))
        risks[fold.test] = risk(fold.test) - origin
    return risks
