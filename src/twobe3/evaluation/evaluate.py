"""Evaluate one model: every metric with its interval, and the curves of the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.alignment import AlignedPredictions
from twobe3.evaluation.binary import roc_curve
from twobe3.evaluation.bootstrap import RESAMPLES, PatientBootstrap
from twobe3.evaluation.calibration import calibration_at, calibration_curve, smooth_calibration
from twobe3.evaluation.decision_curve import decision_curves
from twobe3.evaluation.kaplan_meier import Split, cumulative_incidence, kaplan_meier, risk_groups, split_by_risk
from twobe3.evaluation.metrics import Metric, metrics_of
from twobe3.evaluation.primary_metric import choose_primary_metric
from twobe3.evaluation.results import Curve, Evaluation, PrimaryMetric


def evaluate(
    prediction: Prediction,
    outcomes: Outcomes,
    *,
    risk_cutoff: float | None = None,
    horizons: Sequence[float] | None = None,
    primary_metric: PrimaryMetric | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a prediction by the outcomes: every metric of the endpoint's kind with its interval, and the curves.

    Parameters
    ----------
    prediction : Prediction
        Of one model. With several repeats a metric is the mean of the repeats' metrics.
    outcomes : Outcomes
        Of all patients predicted; those that were not are counted as missing.
    risk_cutoff : float, optional
        For a time to an event, the risk above which a patient is in the high-risk group; by default the cut-off that
        the training patients of each fold chose, or the median of the out-of-fold risks.
    horizons : sequence of float, optional
        For a time to an event, the times at which it is evaluated, in the endpoint's unit; the quartiles of the
        observed event times by default.
    primary_metric : PrimaryMetric, optional
        By which this model and others are compared; by default the one that suits this prediction alone, see
        :func:`~twobe3.evaluation.primary_metric.choose_primary_metric`.
    resamples, seed : int
        Number of bootstrap samples of patients, and the seed of their generator; the same input and seed give the same
        figures.

    Returns
    -------
    Evaluation
        A metric is absent when the model doesn't give what it evaluates, when it is of folds or competing events and
        there are none; its value is None when it is not estimable.

    Raises
    ------
    ConfigurationError
        ``PREDICTION_INVALID``: there is no prediction, a predicted patient has no outcome or stands twice in a
        repeat, a probability is not between 0 and 1, or predicted survival rises with time; ``HORIZON_INVALID``.
    """
    aligned = AlignedPredictions.of(prediction, outcomes, horizons=horizons)
    kind = outcomes.endpoint.kind
    bootstraps = {
        stratified: PatientBootstrap.draw(aligned.outcomes.event, stratified=stratified, resamples=resamples, seed=seed)
        for stratified in (True, False)
    }
    curves: tuple[Curve, ...] = ()
    groups = None
    if kind == "binary":
        curves = binary_curves(aligned, bootstraps[False].counts)
    elif kind == "time-to-event":
        split = split_by_risk(aligned.risk, aligned.present, aligned.cutoff, risk_cutoff)
        curves = survival_curves(aligned, split, bootstraps[False].counts)
        groups = risk_groups(split, aligned.outcomes)
        if aligned.outcomes.competing.any():
            curves += cumulative_incidence(aligned.outcomes, split)
    metrics = (row.estimate(aligned, bootstraps[row.stratified]) for row in _rows(aligned))
    return Evaluation(
        outcomes.endpoint.name,
        kind,
        prediction.model,
        len(aligned.outcomes),
        aligned.outcomes.n_events,
        len(outcomes) - len(aligned.outcomes),
        aligned.repeats,
        primary_metric or choose_primary_metric([prediction], outcomes),
        tuple(metric for metric in metrics if metric is not None),
        curves,
        groups,
        outcomes.endpoint.event_definition,
    )


def _rows(aligned: AlignedPredictions) -> Iterator[Metric]:
    """The metrics that can be asked of it, at each horizon where the name has one."""
    there = {"folds": aligned.has_folds, "competing events": bool(aligned.outcomes.competing.any())}
    for row in metrics_of(aligned.outcomes.endpoint.kind):
        if row.per_horizon:
            yield from (row.at(float(horizon)) for horizon in aligned.scores[0].horizons.at)
        elif row.needs is None or there[row.needs]:
            yield row


def binary_curves(aligned: AlignedPredictions, counts: FloatArray) -> tuple[Curve, ...]:
    """ROC curve and, of a model that gives probabilities, calibration and decision curves.

    ``counts`` are bootstrap samples of the patients, not stratified by event.
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


def survival_curves(aligned: AlignedPredictions, split: Split, counts: FloatArray) -> tuple[Curve, ...]:
    """Kaplan–Meier curves and, of a model that gives survival, calibration and decision curves at one horizon."""
    curves = kaplan_meier(split, aligned.outcomes)
    horizon = curve_horizon(aligned)
    if horizon is None:
        return curves
    at_horizon = [
        scores.survival.at(np.array([horizon]))[:, 0] for scores in aligned.scores if scores.survival is not None
    ]
    probability = np.where(aligned.present, np.clip(1 - np.stack(at_horizon), 0.0, 1.0), 0.0)
    return (
        *curves,
        calibration_at(aligned.mean_over_repeats(probability), aligned.outcomes, horizon, counts),
        *decision_curves(probability, aligned.present, aligned.outcomes, counts, horizon),
    )


def curve_horizon(aligned: AlignedPredictions) -> float | None:
    """The horizon that is drawn: the middle one of those that were predicted and that the cohort can evaluate.

    The cohort can evaluate a time by which somebody had the event, and after which somebody is still observed.
    """
    outcomes, curves = aligned.outcomes, aligned.scores[0].survival
    if curves is None or not outcomes.n_events:
        return None
    first, last = outcomes.value[outcomes.event].min(), outcomes.value.max()
    usable = [h for h in aligned.scores[0].horizons.at.tolist() if first <= h < last and h <= curves.last]
    return usable[(len(usable) - 1) // 2] if usable else None
