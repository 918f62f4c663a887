"""Risks of training patients by models that were fitted without them: the only ones that say how good a model is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twobe3.cohort import Cohort
from twobe3.models.base import Model
from twobe3.models.linear import FloatArray
from twobe3.splits import CrossValidation, Fold


def inner_split(training: Cohort, folds: int, seed: int, *, fewest: int = 1) -> tuple[Fold, ...]:
    """The folds of an inner cross-validation; none where the training patients are too few to split.

    Parameters
    ----------
    training : Cohort
        With one endpoint.
    folds, seed : int
        Fewer folds where fewer patients are of the rarer class, or have the event.
    fewest : int
        Patients that must be left to learn from.
    """
    outcomes = training.outcomes
    persons = len({study.person for study in training.studies})
    rarer = {"binary": min(outcomes.n_events, len(outcomes) - outcomes.n_events), "time-to-event": outcomes.n_events}
    folds = min(folds, persons, rarer.get(outcomes.endpoint.kind, persons))
    split = CrossValidation(folds, 1, seed).split(training.sample) if folds >= 2 else ()
    return split if all(len(fold.train) >= fewest for fold in split) else ()


def held_out_risks(model: Model, training: Cohort, split: Sequence[Fold]) -> FloatArray:
    """Each training patient's risk by the model fitted on the other folds, shape (n,).

    Risks of a time to an event have no origin: each inner model's are counted from the mean of its own patients.

    Parameters
    ----------
    model : Model
        Fitted here, once for each fold.
    training : Cohort
        With one endpoint; scans that the model can use.
    split : sequence of Fold
        See :func:`inner_split`.
    """
    risks, centred = np.zeros(len(training)), training.endpoint.kind == "time-to-event"
    for fold in split:
        part = training.take(fold.train)
        model.fit(part)
        origin = float(model.predict(part).risk.mean()) if centred else 0.0
        risks[fold.test] = model.predict(training.take(fold.test).without_outcomes()).risk - origin
    return risks
