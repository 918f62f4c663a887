"""The face of the evaluation: judge a prediction, compare predictions, write both down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twobe3.evaluation.aligned import Aligned
from twobe3.evaluation.basis import asked_for, choose_basis
from twobe3.evaluation.comparison import compare
from twobe3.evaluation.competing import cumulative_incidence
from twobe3.evaluation.figures import binary_curves, survival_curves
from twobe3.evaluation.groups import risk_groups, split_by_risk
from twobe3.evaluation.intervals import RESAMPLES, PatientBootstrap
from twobe3.evaluation.metrics import METRICS, MetricRow, metrics_of
from twobe3.evaluation.results import Basis, Comparison, Curve, Evaluation, Metric, none_if_nan, to_json
from twobe3.outcome import Outcomes
from twobe3.prediction import Prediction

__all__ = [
    "METRICS",
    "Basis",
    "Comparison",
    "Curve",
    "Evaluation",
    "Metric",
    "MetricRow",
    "asked_for",
    "choose_basis",
    "compare",
    "evaluate",
    "to_json",
]


def evaluate(
    prediction: Prediction,
    outcomes: Outcomes,
    *,
    risk_cutoff: float | None = None,
    horizons: Sequence[float] | None = None,
    basis: Basis | None = None,
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
        For a time to an event, the risk above which a patient is in the high-risk group; by default the cut-off that
        the training patients of each fold chose, and the median of the out-of-fold risks where the prediction has
        none.
    horizons : sequence of float, optional
        For a time to an event, the times at which it is judged, in the endpoint's unit; the quartiles of the observed
        event times by default.
    basis : Basis, optional
        The metric by which this model and others are compared; by default the one that suits this prediction alone,
        see :func:`~twobe3.evaluation.basis.choose_basis`.
    resamples : int
        Number of bootstrap samples of patients.
    seed : int
        Seed of their generator; the same input and seed give the same figures.

    Returns
    -------
    Evaluation
        A metric is absent when the model doesn't give what it judges, when it is of folds or competing events and
        there are none; its value is None when it is not estimable.

    Raises
    ------
    UsageError
        ``PREDICTION_INVALID``: there is no prediction, a predicted patient has no outcome or stands twice in a
        repeat, a probability is not between 0 and 1, or predicted survival rises with time; ``HORIZON_INVALID``.
    """
    aligned = Aligned.of(prediction, outcomes, horizons=horizons)
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
    metrics = (_metric(row, aligned, bootstraps[row.stratified]) for row in _rows(aligned))
    return Evaluation(
        outcomes.endpoint.name,
        kind,
        prediction.model,
        len(aligned.outcomes),
        aligned.outcomes.n_events,
        len(outcomes) - len(aligned.outcomes),
        aligned.repeats,
        tuple(metric for metric in metrics if metric is not None),
        curves,
        groups,
        basis or choose_basis([prediction], outcomes),
    )


def _rows(aligned: Aligned) -> Iterator[MetricRow]:
    """The metrics that can be asked of it, at each horizon where the name has one."""
    there = {"folds": aligned.has_folds, "competing events": bool(aligned.outcomes.competing.any())}
    for row in metrics_of(aligned.outcomes.endpoint.kind):
        if row.per_horizon:
            yield from (row.at(float(horizon)) for horizon in aligned.scores[0].horizons.at)
        elif row.needs is None or there[row.needs]:
            yield row


def _metric(row: MetricRow, aligned: Aligned, bootstrap: PatientBootstrap) -> Metric | None:
    statistic = aligned.statistic(row)
    if statistic is None:
        return None
    n, low, high, failed, how = len(aligned.outcomes), None, None, 0, "no interval"
    if row.resampled:
        replicates = bootstrap.replicate(statistic)
        value, failed = replicates.value, replicates.failed
        strata = ", stratified by event" if 0 < bootstrap.strata.sum() < n else ""
        how = f"BCa bootstrap over patients{strata}, {len(bootstrap.counts)} samples"
        low, high = replicates.interval() or (None, None)
        if low is None and row.bound is not None and value in (0.0, 1.0):
            low, high, method = row.bound(value, aligned.outcomes)
            how = f"{method}, since the bootstrap knows no other value"
    else:
        value = statistic.value(n)
    events, estimator = aligned.outcomes.n_events, f"{statistic.estimator}; {how}"
    return Metric(row.name, none_if_nan(value), low, high, n, events, estimator, failed)
