"""The registry of metrics: to add one, write its function and add its row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from twobe3.errors import Code, UsageError
from twobe3.evaluation import binary, calibration, continuous, survival
from twobe3.evaluation.intervals import Statistic
from twobe3.outcome import FloatArray, Kind, Outcomes


@dataclass(frozen=True)
class MetricRow:
    """A metric that can be named.

    Attributes
    ----------
    name : str
        Its name in tables and on the command line.
    kind : {"binary", "time-to-event", "continuous"}
        Kind of endpoint that it judges.
    description : str
        One line.
    higher_is_better : bool or None
        None for a metric whose best value lies between, as a calibration slope of 1.
    scores : {"risk", "probability"}
        What of a prediction it judges.
    statistic : callable
        From scores, shape (n,), and the outcomes of the same n patients to the statistic.
    stratified : bool
        Whether its interval keeps the number of events, as it may where the metric doesn't depend on their share.
    """

    name: str
    kind: Kind
    description: str
    higher_is_better: bool | None
    scores: Literal["risk", "probability"]
    statistic: Callable[[FloatArray, Outcomes], Statistic]
    stratified: bool = True


# The first row of a kind is its primary metric.
_ROWS = (
    MetricRow("auc", "binary", "area under the ROC curve", True, "risk", binary.auc),
    MetricRow(
        "average_precision",
        "binary",
        "mean precision over recall",
        True,
        "risk",
        binary.average_precision,
        stratified=False,
    ),
    MetricRow(
        "balanced_accuracy",
        "binary",
        "mean of sensitivity and specificity at probability 0.5",
        True,
        "probability",
        binary.balanced_accuracy,
    ),
    MetricRow("sensitivity", "binary", "positives found at probability 0.5", True, "probability", binary.sensitivity),
    MetricRow("specificity", "binary", "negatives found at probability 0.5", True, "probability", binary.specificity),
    MetricRow(
        "brier",
        "binary",
        "mean squared error of the probability",
        False,
        "probability",
        binary.brier,
        stratified=False,
    ),
    MetricRow(
        "log_loss",
        "binary",
        "mean negative log-likelihood",
        False,
        "probability",
        binary.log_loss,
        stratified=False,
    ),
    MetricRow(
        "calibration_slope",
        "binary",
        "slope of the logistic recalibration, best 1",
        None,
        "probability",
        calibration.calibration_slope,
    ),
    MetricRow(
        "calibration_intercept",
        "binary",
        "calibration in the large, best 0",
        None,
        "probability",
        calibration.calibration_intercept,
        stratified=False,
    ),
    MetricRow("harrell_c", "time-to-event", "Harrell's concordance", True, "risk", survival.harrell_c),
    MetricRow(
        "uno_c", "time-to-event", "Uno's concordance, weighted for censoring, truncated", True, "risk", survival.uno_c
    ),
    MetricRow("spearman", "continuous", "Spearman's rank correlation", True, "risk", continuous.spearman),
    MetricRow("mae", "continuous", "mean absolute error", False, "risk", continuous.mean_absolute_error),
    MetricRow("r2", "continuous", "coefficient of determination", True, "risk", continuous.r2),
)
METRICS = {row.name: row for row in _ROWS}


def metrics_of(kind: Kind) -> tuple[MetricRow, ...]:
    """The metrics of a kind of endpoint, the primary one first."""
    return tuple(row for row in _ROWS if row.kind == kind)


def find_metric(name: str | None, kind: Kind) -> MetricRow:
    """The metric of this name, or the primary metric of the kind of endpoint.

    Raises
    ------
    UsageError
        ``UNKNOWN_NAME``: the kind of endpoint has no such metric.
    """
    rows = {row.name: row for row in metrics_of(kind)}
    if name is None:
        return next(iter(rows.values()))
    if name not in rows:
        raise UsageError(
            Code.UNKNOWN_NAME, f"no metric {name!r} for a {kind} endpoint", remedy=f"choose one of {', '.join(rows)}"
        )
    return rows[name]
