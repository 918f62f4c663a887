"""Predictions and outcomes brought together: one column for each patient, one row for each repeat."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from twobe3.errors import Code, UsageError
from twobe3.evaluation.intervals import Statistic
from twobe3.evaluation.metrics import MetricRow
from twobe3.outcome import BoolArray, FloatArray, Outcomes
from twobe3.prediction import Prediction


@dataclass(frozen=True, eq=False)
class Aligned:
    """What one model predicted for the patients with an outcome.

    Attributes
    ----------
    model : str
        Its name.
    outcomes : Outcomes
        Of the n patients predicted, in the order of the outcomes given, whatever the order of the predictions.
    risk : ndarray of float64, shape (repeats, n)
        0 where the patient was not predicted in the repeat.
    probability : ndarray of float64, shape (repeats, n), or None
        Likewise.
    present : ndarray of bool, shape (repeats, n)
        Whether the patient was predicted in the repeat.
    """

    model: str
    outcomes: Outcomes
    risk: FloatArray
    probability: FloatArray | None
    present: BoolArray

    @classmethod
    def of(cls, prediction: Prediction, outcomes: Outcomes, among: Collection[str] | None = None) -> Aligned:
        """Bring a prediction and the outcomes together, on the patients ``among`` or on all that were predicted.

        Raises
        ------
        UsageError
            ``PREDICTION_INVALID``: there is no prediction, a patient has no outcome or stands twice in a repeat, or
            a probability is not between 0 and 1.
        """
        _check(prediction, outcomes)
        wanted = set(prediction.patients) if among is None else set(among)
        kept = outcomes.take([i for i, patient in enumerate(outcomes.patients) if patient in wanted])
        column_of = {patient: i for i, patient in enumerate(kept.patients)}
        rows = [i for i, patient in enumerate(prediction.patients) if patient in column_of]
        columns = [column_of[prediction.patients[i]] for i in rows]
        repeats, repeat = np.unique(_repeat(prediction)[rows], return_inverse=True)

        present = np.zeros((len(repeats), len(kept)), dtype=np.bool_)
        present[repeat, columns] = True
        risk = np.zeros(present.shape)
        risk[repeat, columns] = prediction.risk[rows]
        probability = None
        if prediction.probability is not None:
            probability = np.zeros(present.shape)
            probability[repeat, columns] = prediction.probability[rows]
        return cls(prediction.model, kept, risk, probability, present)

    @property
    def repeats(self) -> int:
        """Number of repeats."""
        return len(self.risk)

    def statistic(self, row: MetricRow) -> Statistic | None:
        """The mean over repeats of a metric, a patient being drawn with all its repeats.

        A repeat's metric is that of its out-of-fold scores together. None when the model gives no such scores.
        """
        scores = self.risk if row.scores == "risk" else self.probability
        if scores is None:
            return None
        parts = [row.statistic(repeat, self.outcomes) for repeat in scores]

        def compute(counts: FloatArray) -> FloatArray:
            values = [
                part.compute(counts if present.all() else counts * present)
                for part, present in zip(parts, self.present, strict=True)
            ]
            mean: FloatArray = np.mean(values, axis=0)
            return mean

        joined = parts[0].estimator if len(parts) == 1 else f"{parts[0].estimator}; mean of {len(parts)} repeats"
        return Statistic(compute, joined)

    def mean_over_repeats(self, scores: FloatArray) -> FloatArray:
        """One score for each patient, shape (n,): the mean of the repeats in which it was predicted."""
        mean: FloatArray = scores.sum(axis=0) / self.present.sum(axis=0)
        return mean


def _repeat(prediction: Prediction) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    assert prediction.repeat is not None  # filled when the prediction was made
    return prediction.repeat


def _check(prediction: Prediction, outcomes: Outcomes) -> None:
    if not len(prediction):
        raise UsageError(Code.PREDICTION_INVALID, f"model {prediction.model!r}: there is no prediction")
    known = set(outcomes.patients)
    _refuse(prediction, "no outcome for the predicted", [p for p in prediction.patients if p not in known])
    seen: set[tuple[int, str]] = set()
    twice = []
    for key in zip(_repeat(prediction).tolist(), prediction.patients, strict=True):
        if key in seen:
            twice.append(key[1])
        seen.add(key)
    _refuse(prediction, "more than one row in a repeat for", twice)
    if prediction.probability is not None:
        allowed = (prediction.probability >= 0) & (prediction.probability <= 1)
        bad = [patient for patient, ok in zip(prediction.patients, allowed, strict=True) if not ok]
        _refuse(prediction, "a probability that is not between 0 and 1 for", bad)


def _refuse(prediction: Prediction, what: str, patients: list[str]) -> None:
    patients = list(dict.fromkeys(patients))
    if patients:
        more = f" and {len(patients) - 5} more" if len(patients) > 5 else ""
        named = ", ".join(map(repr, patients[:5]))
        raise UsageError(Code.PREDICTION_INVALID, f"model {prediction.model!r}: {what} patients {named}{more}")
