"""The face of the evaluation: judge a prediction, compare predictions, write both down."""

from __future__ import annotations

from twobe3.evaluation.aligned import Aligned
from twobe3.evaluation.binary import roc_curve
from twobe3.evaluation.calibration import calibration_curve
from twobe3.evaluation.comparison import compare
from twobe3.evaluation.intervals import RESAMPLES, PatientBootstrap
from twobe3.evaluation.metrics import METRICS, MetricRow, metrics_of
from twobe3.evaluation.results import Comparison, Curve, Evaluation, Metric, none_if_nan, to_json
from twobe3.evaluation.survival import kaplan_meier
from twobe3.outcome import Outcomes
from twobe3.prediction import Prediction

__all__ = [
    "METRICS",
    "Comparison",
    "Curve",
    "Evaluation",
    "Metric",
    "MetricRow",
    "compare",
    "evaluate",
    "to_json",
]


def evaluate(
    prediction: Prediction,
    outcomes: Outcomes,
    *,
    risk_cutoff: float | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Judge a prediction by the outcomes: every metric of the endpoint's kind with its interval, and the curves.

    Parameters
    ----------
    prediction : Prediction
        Of one model. With several repeats a metric is the mean of the repeats' metrics.
    outcomes : Outcomes
        Of all patients predicted; those that were not are counted as missing.
    risk_cutoff : float, optional
        For a time to an event, the risk above which a patient is in the high-risk group; the median of the
        out-of-fold risks by default.
    resamples : int
        Number of bootstrap samples of patients.
    seed : int
        Seed of their generator; the same input and seed give the same figures.

    Returns
    -------
    Evaluation
        A metric of probabilities is absent when the model gives none, and None when it is not estimable.

    Raises
    ------
    UsageError
        ``PREDICTION_INVALID``: there is no prediction, a predicted patient has no outcome or stands twice in a
        repeat, or a probability is not between 0 and 1.
    """
    aligned = Aligned.of(prediction, outcomes)
    kind = outcomes.endpoint.kind
    bootstraps = {
        stratified: PatientBootstrap.draw(aligned.outcomes.event, stratified=stratified, resamples=resamples, seed=seed)
        for stratified in (True, False)
    }
    metrics = (_metric(row, aligned, bootstraps[row.stratified]) for row in metrics_of(kind))
    return Evaluation(
        outcomes.endpoint.name,
        kind,
        prediction.model,
        len(aligned.outcomes),
        aligned.outcomes.n_events,
        len(outcomes) - len(aligned.outcomes),
        aligned.repeats,
        tuple(metric for metric in metrics if metric is not None),
        _curves(aligned, risk_cutoff),
    )


def _metric(row: MetricRow, aligned: Aligned, bootstrap: PatientBootstrap) -> Metric | None:
    statistic = aligned.statistic(row)
    if statistic is None:
        return None
    replicates = bootstrap.replicate(statistic)
    low, high = replicates.interval() or (None, None)
    strata = ", stratified by event" if bootstrap.strata.any() else ""
    how = f"BCa bootstrap over patients{strata}, {len(bootstrap.counts)} samples"
    return Metric(
        row.name,
        none_if_nan(replicates.value),
        low,
        high,
        len(aligned.outcomes),
        aligned.outcomes.n_events,
        f"{statistic.estimator}; {how}",
        replicates.failed,
    )


def _curves(aligned: Aligned, risk_cutoff: float | None) -> tuple[Curve, ...]:
    kind = aligned.outcomes.endpoint.kind
    if kind == "time-to-event":
        return kaplan_meier(aligned.mean_over_repeats(aligned.risk), aligned.outcomes, risk_cutoff)
    if kind == "continuous":
        return ()
    roc = roc_curve(aligned.risk, aligned.present, aligned.outcomes.event)
    curves = [] if roc is None else [roc]
    if aligned.probability is not None:
        curves.append(calibration_curve(aligned.mean_over_repeats(aligned.probability), aligned.outcomes))
    return tuple(curves)
