"""Predictions and outcomes aligned: one column for each patient, one row for each repeat."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import BoolArray, FloatArray, IntArray, Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.bootstrap import Statistic
from twobe3.evaluation.horizons import Horizons, SurvivalCurves
from twobe3.evaluation.kaplan_meier import SharedFollowUp
from twobe3.evaluation.metrics import Metric
from twobe3.evaluation.scores import Scores

RISE = 1e-6  # how much predicted survival may rise with time by rounding


@dataclass(frozen=True, eq=False)
class AlignedPredictions:
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
    cutoff : ndarray of float64, shape (repeats, n), or None
        The risk above which the patient's fold takes a patient for one of high risk.
    scores : tuple of Scores, length repeats
        The same and all else that was said of the patients, repeat by repeat.
    """

    model: str
    outcomes: Outcomes
    risk: FloatArray
    probability: FloatArray | None
    present: BoolArray
    cutoff: FloatArray | None
    scores: tuple[Scores, ...]

    @classmethod
    def of(
        cls,
        prediction: Prediction,
        outcomes: Outcomes,
        among: Collection[str] | None = None,
        horizons: Sequence[float] | None = None,
    ) -> AlignedPredictions:
        """Bring a prediction and the outcomes together, on the patients ``among`` or on all that were predicted.

        Parameters
        ----------
        prediction : Prediction
        outcomes : Outcomes
            Of all patients predicted, and of others.
        among : collection of str, optional
            Patients.
        horizons : sequence of float, optional
            See :meth:`~twobe3.evaluation.horizons.Horizons.of`; it looks at all the outcomes.

        Raises
        ------
        ConfigurationError
            ``PREDICTION_INVALID``: there is no prediction, a patient has no outcome or stands twice in a repeat, a
            probability is not between 0 and 1, a threshold is not a number, or predicted survival rises with time.
            ``HORIZON_INVALID``.
        """
        _check(prediction, outcomes)
        wanted = set(prediction.patients) if among is None else set(among)
        kept = outcomes.subset([i for i, patient in enumerate(outcomes.patients) if patient in wanted])
        column_of = {patient: i for i, patient in enumerate(kept.patients)}
        rows = [i for i, patient in enumerate(prediction.patients) if patient in column_of]
        columns = [column_of[prediction.patients[i]] for i in rows]
        repeats, repeat = np.unique(_repeat(prediction)[rows], return_inverse=True)

        present = np.zeros((len(repeats), len(kept)), dtype=np.bool_)
        present[repeat, columns] = True
        risk = np.zeros(present.shape)
        risk[repeat, columns] = prediction.risk[rows]

        def placed(values: FloatArray | None) -> FloatArray | None:
            if values is None:
                return None
            table = np.zeros((*present.shape, *values.shape[1:]))
            table[repeat, columns] = values[rows]
            return table

        fold = np.zeros(present.shape, dtype=np.int64)
        fold[repeat, columns] = _fold(prediction)[rows]
        probability, cutoff = placed(prediction.probability), placed(prediction.cutoff)
        threshold, survival = placed(prediction.threshold), placed(prediction.survival)
        follow_up, look_at = SharedFollowUp(kept), Horizons.of(outcomes, horizons)
        scores = tuple(
            Scores(
                risk[r],
                fold[r],
                follow_up,
                look_at,
                None if probability is None else probability[r],
                None if threshold is None else threshold[r],
                None if survival is None or prediction.times is None else SurvivalCurves(survival[r], prediction.times),
            )
            for r in range(len(repeats))
        )
        return cls(prediction.model, kept, risk, probability, present, cutoff, scores)

    @property
    def repeats(self) -> int:
        """Number of repeats."""
        return len(self.risk)

    @property
    def has_folds(self) -> bool:
        """Whether patients were tested in several folds of a repeat, as far as the prediction tells."""
        parts = zip(self.scores, self.present, strict=True)
        return any(len(np.unique(scores.fold[there])) > 1 for scores, there in parts)

    def statistic(self, row: Metric) -> Statistic | None:
        """A metric over the repeats, their mean if it is no p-value; a patient is drawn with all its repeats.

        A repeat's metric is that of its out-of-fold scores together. None when the model gives no such scores.
        """
        needed = {"risk": self.risk, "probability": self.probability, "survival": self.scores[0].curves}
        if needed[row.scores] is None:
            return None

        def compute(counts: FloatArray) -> FloatArray:
            # One repeat after the other: what a metric keeps of all pairs of patients is there once, not repeats times.
            values = [
                row.statistic(scores, self.outcomes).compute(counts if present.all() else counts * present)
                for scores, present in zip(self.scores, self.present, strict=True)
            ]
            return _combined(np.stack(values), row)

        estimator = row.statistic(self.scores[0], self.outcomes).estimator
        over = "" if self.repeats == 1 else f"; {row.repeats} of {self.repeats} repeats"
        return Statistic(compute, estimator + over)

    def mean_over_repeats(self, scores: FloatArray) -> FloatArray:
        """One score for each patient, shape (n,): the mean of the repeats in which it was predicted."""
        mean: FloatArray = scores.sum(axis=0) / self.present.sum(axis=0)
        return mean


def _combined(values: FloatArray, row: Metric) -> FloatArray:
    """One value for each sample from those of the repeats, shape (repeats, samples)."""
    if row.repeats == "mean" or len(values) == 1:
        return np.asarray(values.mean(axis=0))
    return np.minimum(2 * np.median(values, axis=0), 1.0)


def _repeat(prediction: Prediction) -> IntArray:
    assert prediction.repeat is not None  # filled when the prediction was made
    return prediction.repeat


def _fold(prediction: Prediction) -> IntArray:
    assert prediction.fold is not None  # likewise
    return prediction.fold


def _check(prediction: Prediction, outcomes: Outcomes) -> None:
    if not len(prediction):
        raise ConfigurationError(Code.PREDICTION_INVALID, f"model {prediction.model!r}: there is no prediction")
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
        _require(prediction, allowed, "a probability that is not between 0 and 1 for")
    if prediction.threshold is not None:
        _require(prediction, np.isfinite(prediction.threshold), "a threshold that is not a number for")
    if prediction.survival is not None and prediction.times is not None:
        if not (prediction.times[-1:] > 0).all() or not (np.diff(prediction.times, prepend=-1.0) > 0).all():
            raise ConfigurationError(
                Code.PREDICTION_INVALID, f"model {prediction.model!r}: the times of the survival must ascend from 0"
            )
        values = prediction.survival
        within, falling = (values >= 0) & (values <= 1), np.diff(values, axis=1) <= RISE
        _require(prediction, np.all(within, axis=1), "survival that is not between 0 and 1 for")
        _require(prediction, np.all(falling, axis=1), "survival that rises with time for")


def _require(prediction: Prediction, allowed: npt.NDArray[np.bool_], what: str) -> None:
    _refuse(prediction, what, [patient for patient, ok in zip(prediction.patients, allowed, strict=True) if not ok])


def _refuse(prediction: Prediction, what: str, patients: list[str]) -> None:
    patients = list(dict.fromkeys(patients))
    if patients:
        more = f" and {len(patients) - 5} more" if len(patients) > 5 else ""
        named = ", ".join(map(repr, patients[:5]))
        raise ConfigurationError(Code.PREDICTION_INVALID, f"model {prediction.model!r}: {what} patients {named}{more}")
