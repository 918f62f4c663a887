"""Which curves are drawn of a model."""

from __future__ import annotations

import numpy as np

from twobe3.evaluation.aligned import Aligned
from twobe3.evaluation.binary import roc_curve
from twobe3.evaluation.calibration import calibration_at, calibration_curve, smooth_calibration
from twobe3.evaluation.decision import decision_curves
from twobe3.evaluation.groups import Split, kaplan_meier
from twobe3.evaluation.results import Curve
from twobe3.outcome import FloatArray


def binary_curves(aligned: Aligned, counts: FloatArray) -> tuple[Curve, ...]:
    """ROC curve and, of a model that gives probabilities, calibration and decision curves.

    Parameters
    ----------
    aligned : Aligned
        For a binary endpoint.
    counts : ndarray, shape (samples, n)
        Bootstrap samples of its patients, not stratified by event.
    """
    roc = roc_curve(aligned.risk, aligned.present, aligned.outcomes.event)
    curves = [] if roc is None else [roc]
    if aligned.probability is not None:
        mean = aligned.mean_over_repeats(aligned.probability)
        curves.append(calibration_curve(mean, aligned.outcomes))
        smooth = smooth_calibration(mean, aligned.outcomes, counts)
        curves += [] if smooth is None else [smooth]
        curves += decision_curves(aligned.probability, aligned.present, aligned.outcomes, counts)
    return tuple(curves)


def survival_curves(aligned: Aligned, split: Split, counts: FloatArray) -> tuple[Curve, ...]:
    """Kaplan–Meier curves and, of a model that gives survival, calibration and decision curves at one horizon.

    Parameters
    ----------
    aligned : Aligned
        For a time to an event.
    split : Split
        Of its patients.
    counts : ndarray, shape (samples, n)
        Bootstrap samples of the same patients, not stratified by event.
    """
    curves = kaplan_meier(split, aligned.outcomes)
    horizon = curve_horizon(aligned)
    if horizon is None:
        return curves
    at_horizon = [scores.curves.at(np.array([horizon]))[:, 0] for scores in aligned.scores if scores.curves is not None]
    probability = np.where(aligned.present, np.clip(1 - np.stack(at_horizon), 0.0, 1.0), 0.0)
    return (
        *curves,
        calibration_at(aligned.mean_over_repeats(probability), aligned.outcomes, horizon, counts),
        *decision_curves(probability, aligned.present, aligned.outcomes, counts, horizon),
    )


def curve_horizon(aligned: Aligned) -> float | None:
    """The horizon that is drawn: the middle one of those that were predicted and that the cohort can judge.

    The cohort can judge a time by which somebody had the event, and after which somebody is still observed.
    """
    outcomes, curves = aligned.outcomes, aligned.scores[0].curves
    if curves is None or not outcomes.n_events:
        return None
    first, last = outcomes.value[outcomes.event].min(), outcomes.value.max()
    judged = [h for h in aligned.scores[0].horizons.at.tolist() if first <= h < last and h <= curves.last]
    return judged[(len(judged) - 1) // 2] if judged else None
