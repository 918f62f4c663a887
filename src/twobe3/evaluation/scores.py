"""Predictions of one repeat: the material of every metric."""

from __future__ import annotations

from dataclasses import dataclass

from twobe3.core.outcomes import FloatArray, IntArray
from twobe3.evaluation.horizons import Horizons, SurvivalCurves
from twobe3.evaluation.kaplan_meier import SharedFollowUp


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of n patients; those of a patient who was not predicted in this repeat are 0 and are not counted.

    Attributes
    ----------
    risk : ndarray of float64, shape (n,)
    fold : ndarray of int64, shape (n,)
        In which fold the patient was tested.
    follow_up : SharedFollowUp
        Of the same patients; one for all repeats.
    horizons : Horizons
        When the metrics of a time to an event look at the patients.
    probability : ndarray of float64, shape (n,), or None
        Of the positive class.
    threshold : ndarray of float64, shape (n,), or None
        The probability from which on the patient's fold says yes.
    curves : SurvivalCurves or None
        The predicted survival.
    """

    risk: FloatArray
    fold: IntArray
    follow_up: SharedFollowUp
    horizons: Horizons
    probability: FloatArray | None = None
    threshold: FloatArray | None = None
    curves: SurvivalCurves | None = None
