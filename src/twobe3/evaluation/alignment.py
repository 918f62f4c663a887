"""Predictions and outcomes aligned: one column for each patient, one row for each repeat."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import BoolArray, FloatArray, IntArray, Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.horizons import Horizons, SurvivalCurves
from twobe3.evaluation.kaplan_meier import SharedFollowUp
from twobe3.io.pseudonym import pseudonym

RISE = 1e-6  # how much predicted survival may rise with time by rounding


@dataclass(frozen=True, eq=False)
class Scores:
    """Predictions of one repeat, shape (n,); those of a patient who was not predicted in it are 0 and are not counted.

    ``fold`` says in which fold the patient was tested, ``threshold`` from which probability on that fold says yes.
    ``follow_up`` and ``horizons``, when the metrics of a time to an event look at the patients, are the same for all
    repeats.
    """

    risk: FloatArray
    fold: IntArray
    follow_up: SharedFollowUp
    horizons: Horizons
    probability: FloatArray | None = None
    threshold: FloatArray | None = None
    survival: SurvivalCurves | None = None


@dataclass(frozen=True, eq=False)
class AlignedPredictions:
    """What one model predicted for the n patients with an outcome.

    Arrays have the shape (repeats, n); they are 0 where the patient was not predicted in the repeat.
    """

    model: str
    outcomes: Outcomes  # of these patients, in the order of the outcomes given, whatever that of the predictions
    risk: FloatArray
    probability: FloatArray | None  # None where the model gives none, as the cut-off
    present: BoolArray  # whether the patient was predicted in the repeat
    cutoff: FloatArray | None  # the risk above which the patient's fold takes a patient for one of high risk
    scores: tuple[Scores, ...]  # the same and all else that was predicted, repeat by repeat

    @classmethod
    def of(
        cls,
        prediction: Prediction,
        outcomes: Outcomes,
        among: Collection[str] | None = None,
        horizons: Sequence[float] | None = None,
    ) -> AlignedPredictions:
        """Bring a prediction and the outcomes together, on the patients ``among`` or on all that were predicted.

        ``horizons`` as of :meth:`~twobe3.evaluation.horizons.Horizons.of`, which looks at all the outcomes.

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
        repeats, repeat = np.unique(prediction.repeat[rows], return_inverse=True)
        shape = len(repeats), len(kept)

        def place(values: FloatArray | None) -> FloatArray | None:
            if values is None:
                return None
            table = np.zeros((*shape, *values.shape[1:]))
            table[repeat, columns] = values[rows]
            return table

        present, fold = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.int64)
        risk = np.zeros(shape)
        present[repeat, columns] = True
        fold[repeat, columns] = prediction.fold[rows]
        risk[repeat, columns] = prediction.risk[rows]
        probability, cutoff = place(prediction.probability), place(prediction.cutoff)
        threshold, survival = place(prediction.threshold), place(prediction.survival)
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

    def mean_over_repeats(self, scores: FloatArray) -> FloatArray:
        """One score for each patient, shape (n,): the mean of the repeats in which it was predicted."""
        return np.asarray(scores.sum(axis=0) / self.present.sum(axis=0))


def _check(prediction: Prediction, outcomes: Outcomes) -> None:
    if not len(prediction):
        raise ConfigurationError(Code.PREDICTION_INVALID, f"model {prediction.model!r}: there is no prediction")
    known = set(outcomes.patients)
    _refuse(prediction, "no outcome for the predicted", [patient not in known for patient in prediction.patients])
    first: dict[tuple[int, str], int] = {}
    rows = enumerate(zip(prediction.repeat.tolist(), prediction.patients, strict=True))
    _refuse(prediction, "more than one row in a repeat for", [first.setdefault(row, i) != i for i, row in rows])
    if prediction.probability is not None:
        outside = (prediction.probability < 0) | (prediction.probability > 1) | np.isnan(prediction.probability)
        _refuse(prediction, "a probability that is not between 0 and 1 for", outside)
    if prediction.threshold is not None:
        _refuse(prediction, "a threshold that is not a number for", ~np.isfinite(prediction.threshold))
    if prediction.survival is not None and prediction.times is not None:
        if not (prediction.times[-1:] > 0).all() or not (np.diff(prediction.times, prepend=-1.0) > 0).all():
            raise ConfigurationError(
                Code.PREDICTION_INVALID, f"model {prediction.model!r}: the times of the survival must ascend from 0"
            )
        values = prediction.survival
        within, falling = (values >= 0) & (values <= 1), np.diff(values, axis=1) <= RISE
        _refuse(prediction, "survival that is not between 0 and 1 for", ~np.all(within, axis=1))
        _refuse(prediction, "survival that rises with time for", ~np.all(falling, axis=1))


def _refuse(prediction: Prediction, what: str, wrong: Sequence[bool] | BoolArray) -> None:
    """Refuse a prediction with wrong rows, naming the pseudonyms of their patients."""
    patients = list(dict.fromkeys(p for p, is_wrong in zip(prediction.patients, wrong, strict=True) if is_wrong))
    if patients:
        more = f" and {len(patients) - 5} more" if len(patients) > 5 else ""
        named = ", ".join(pseudonym("patient", patient) for patient in patients[:5])
        raise ConfigurationError(Code.PREDICTION_INVALID, f"model {prediction.model!r}: {what} patients {named}{more}")
