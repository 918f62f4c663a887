"""Cross-validation inside the training patients."""

from __future__ import annotations

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import CrossValidation, Fold
from twobe3.core.outcomes import IntArray, Outcomes


def inner_split(training: Cohort, folds: int, seed: int, *, min_patients: int = 1) -> tuple[Fold, ...]:
    """The folds of an inner cross-validation; none where the training patients are too few to split.

    Parameters
    ----------
    training : Cohort
        With one endpoint.
    folds, seed : int
        Fewer folds where fewer patients are of the rarer class, or have the event.
    min_patients : int
        Patients that must be left to learn from.
    """
    outcomes = training.outcomes
    groups = len({subject.group for subject in training.subjects})
    rarer = {"binary": min(outcomes.n_events, len(outcomes) - outcomes.n_events), "time-to-event": outcomes.n_events}
    folds = min(folds, groups, rarer.get(outcomes.endpoint.kind, groups))
    split = CrossValidation(folds, 1, seed).split(training.sample) if folds >= 2 else ()
    return split if all(len(fold.train) >= min_patients for fold in split) else ()


def inner_splits(outcomes: Outcomes, inner_folds: int, seed: int) -> list[tuple[IntArray, IntArray]]:
    """Who trains and who is tested in each part of an inner cross-validation, stratified by event.

    There are fewer parts where the rarer class has fewer patients, and none where it has but one.
    """
    rarer = min(outcomes.n_events, len(outcomes) - outcomes.n_events)
    folds = min(inner_folds, rarer if outcomes.endpoint.kind == "binary" else outcomes.n_events)
    if folds < 2:
        return []
    splitter = (StratifiedKFold if rarer >= folds else KFold)(folds, shuffle=True, random_state=seed)
    return list(splitter.split(np.zeros(len(outcomes)), outcomes.event))
