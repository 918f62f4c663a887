"""The registry of metrics: to add one, write its function and add its row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import FloatArray, Kind, Outcomes
from twobe3.evaluation import binary, bootstrap, calibration, horizons, survival
from twobe3.evaluation.bootstrap import Statistic
from twobe3.evaluation.scores import Scores

HORIZON = "@horizon"


@dataclass(frozen=True)
class Metric:
    """A metric that can be named.

    Attributes
    ----------
    name : str
        Its name in tables and on the command line. One that ends with ``@horizon`` stands for a metric at each
        horizon, named for instance ``brier@365``.
    kind : {"binary", "time-to-event", "continuous"}
        Kind of endpoint that it judges.
    description : str
        One line.
    higher_is_better : bool or None
        None for a metric whose best value lies between, as a calibration slope of 1.
    scores : {"risk", "probability", "survival"}
        What of a prediction it judges.
    statistic : callable
        From the scores of n patients and their outcomes, and the horizon where the name has one, to the statistic.
    stratified : bool
        Whether its interval keeps the number of events, as it may where the metric doesn't depend on their share.
    resampled : bool
        Whether it has an interval; a p-value has none.
    repeats : {"mean", "twice the median"}
        How the values of several repeats become one. The mean of p-values is no p-value: it can be at or below α more
        often than α. Twice their median is one, whatever the dependence of the repeats (Rüger, Metrika 25 (1978)
        171–178; Meinshausen et al., JASA 104 (2009) 1671–1681, section 2, quantile γ = ½).
    needs : {"folds", "competing events"} or None
        What an evaluation must have, else the row is left out.
    bound : callable or None
        From a value of 0 or 1, which every bootstrap sample repeats, and the outcomes to an interval.
    """

    name: str
    kind: Kind
    description: str
    higher_is_better: bool | None
    scores: Literal["risk", "probability", "survival"]
    statistic: Callable[..., Statistic]
    stratified: bool = True
    resampled: bool = True
    repeats: Literal["mean", "twice the median"] = "mean"
    needs: Literal["folds", "competing events"] | None = None
    bound: Callable[[float, Outcomes], bootstrap.Bound] | None = None

    @property
    def per_horizon(self) -> bool:
        """Whether it stands for a metric at each horizon."""
        return self.name.endswith(HORIZON)

    def at(self, horizon: float) -> Metric:
        """The metric at one horizon, of a row that stands for one at each."""
        name = self.name.removesuffix(HORIZON) + f"@{horizons.horizon_name(horizon)}"
        return replace(self, name=name, statistic=partial(self.statistic, horizon=horizon))


def _risk(metric: Callable[[FloatArray, Outcomes], Statistic]) -> Callable[..., Statistic]:
    return lambda scores, outcomes: metric(scores.risk, outcomes)


def _probability(metric: Callable[[FloatArray, Outcomes], Statistic]) -> Callable[..., Statistic]:
    return lambda scores, outcomes: metric(scores.probability, outcomes)


def _called(metric: Callable[[FloatArray, Outcomes, FloatArray | None], Statistic]) -> Callable[..., Statistic]:
    return lambda scores, outcomes: metric(scores.probability, outcomes, scores.threshold)


def _auc_within_folds(scores: Scores, outcomes: Outcomes) -> Statistic:
    return binary.auc_within_folds(scores.risk, outcomes, scores.fold)


def _harrell_c_within_folds(scores: Scores, outcomes: Outcomes) -> Statistic:
    return survival.harrell_c_within_folds(scores.risk, outcomes, scores.fold)


def _mean_cumulative_auc(scores: Scores, outcomes: Outcomes) -> Statistic:
    return horizons.mean_cumulative_auc(scores.risk, scores.follow_up, scores.horizons.at)


def _cumulative_auc(scores: Scores, outcomes: Outcomes, horizon: float) -> Statistic:
    return horizons.cumulative_auc(scores.risk, scores.follow_up, horizon)


def _integrated_brier(scores: Scores, outcomes: Outcomes) -> Statistic:
    assert scores.curves is not None  # a prediction without survival has no such row
    return horizons.integrated_brier(scores.curves, scores.follow_up, scores.horizons.grid)


def _brier(scores: Scores, outcomes: Outcomes, horizon: float) -> Statistic:
    assert scores.curves is not None
    return horizons.brier_at(scores.curves, scores.follow_up, horizon)


def _observed_expected(scores: Scores, outcomes: Outcomes, horizon: float) -> Statistic:
    assert scores.curves is not None
    return horizons.observed_expected(scores.curves, scores.follow_up, horizon)


def _d_calibration(scores: Scores, outcomes: Outcomes) -> Statistic:
    assert scores.curves is not None
    return calibration.d_calibration(scores.curves, outcomes)


# The first row of a kind is its primary metric.
_ROWS = (
    Metric(
        "auc", "binary", "area under the ROC curve", True, "risk", _risk(binary.auc), bound=bootstrap.auc_bound
    ),
    Metric(
        "average_precision", "binary", "mean precision over recall", True, "risk", _risk(binary.average_precision),
        stratified=False,
    ),
    Metric(
        "auc_within_folds", "binary", "area under the ROC curve, pairs tested in one fold only", True, "risk",
        _auc_within_folds, needs="folds",
    ),
    Metric(
        "balanced_accuracy", "binary", "mean of sensitivity and specificity", True, "probability",
        _called(binary.balanced_accuracy), bound=bootstrap.balanced_accuracy_bound,
    ),
    Metric(
        "sensitivity", "binary", "positives found at the threshold of their fold, else at probability 0.5", True,
        "probability", _called(binary.sensitivity), bound=bootstrap.sensitivity_bound,
    ),
    Metric(
        "specificity", "binary", "negatives spared at the threshold of their fold, else at probability 0.5", True,
        "probability", _called(binary.specificity), bound=bootstrap.specificity_bound,
    ),
    Metric(
        "brier", "binary", "mean squared error of the probability", False, "probability", _probability(binary.brier),
        stratified=False,
    ),
    Metric(
        "log_loss", "binary", "mean negative log-likelihood", False, "probability", _probability(binary.log_loss),
        stratified=False,
    ),
    Metric(
        "calibration_slope", "binary", "slope of the logistic recalibration, best 1", None, "probability",
        _probability(calibration.calibration_slope),
    ),
    Metric(
        "calibration_intercept", "binary", "calibration in the large, best 0", None, "probability",
        _probability(calibration.calibration_intercept), stratified=False,
    ),
    # The influence of a patient on a censored concordance has another mean with the event than without it, so keeping
    # the number of events would make the interval about 5 % too short (benchmarks/coverage.py); not so for the AUC.
    Metric(
        "harrell_c", "time-to-event", "Harrell's concordance", True, "risk", _risk(survival.harrell_c),
        stratified=False,
    ),
    Metric(
        "uno_c", "time-to-event", "Uno's concordance, weighted for censoring, truncated", True, "risk",
        _risk(survival.uno_c), stratified=False,
    ),
    Metric(
        "harrell_c_within_folds", "time-to-event", "Harrell's concordance, pairs tested in one fold only", True, "risk",
        _harrell_c_within_folds, stratified=False, needs="folds",
    ),
    Metric(
        "cause_specific_c", "time-to-event", "concordance with competing events (Wolbers)", True, "risk",
        _risk(survival.cause_specific_c), stratified=False, needs="competing events",
    ),
    Metric(
        "cumulative_auc", "time-to-event", "cumulative/dynamic AUC, mean over the horizons", True, "risk",
        _mean_cumulative_auc,
    ),
    Metric(
        "cumulative_auc@horizon", "time-to-event", "cumulative/dynamic AUC at a horizon, weighted for censoring", True,
        "risk", _cumulative_auc,
    ),
    Metric(
        "integrated_brier", "time-to-event", "mean over time of the Brier score of predicted survival", False,
        "survival", _integrated_brier, stratified=False,
    ),
    Metric(
        "brier@horizon", "time-to-event", "Brier score of predicted survival at a horizon", False, "survival", _brier,
        stratified=False,
    ),
    Metric(
        "observed_expected@horizon", "time-to-event",
        "observed over predicted probability of the event by a horizon, best 1", None, "survival", _observed_expected,
        stratified=False,
    ),
    Metric(
        "d_calibration", "time-to-event", "p-value of D-calibration; small: the predicted survival is wrong", None,
        "survival", _d_calibration, resampled=False, repeats="twice the median",
    ),
    Metric(
        "spearman", "continuous", "Spearman's rank correlation", True, "risk", _risk(binary.spearman)
    ),
    Metric(
        "mae", "continuous", "mean absolute error", False, "risk", _risk(binary.mean_absolute_error)
    ),
    Metric(
        "r2", "continuous", "coefficient of determination", True, "risk", _risk(binary.r2)
    ),
)  # fmt: skip
METRICS = {row.name: row for row in _ROWS}
# The same concordance of the pairs tested in one fold, see twobe3.evaluation.primary_metric.
WITHIN_FOLDS = {"auc": "auc_within_folds", "harrell_c": "harrell_c_within_folds"}


def metrics_of(kind: Kind) -> tuple[Metric, ...]:
    """The metrics of a kind of endpoint, the primary one first."""
    return tuple(row for row in _ROWS if row.kind == kind)


def find_metric(name: str | None, kind: Kind) -> Metric:
    """The metric of this name, or the primary metric of the kind of endpoint.

    Parameters
    ----------
    name : str or None
        One that stands for a metric at each horizon is asked for with the horizon: ``brier@365``.
    kind : {"binary", "time-to-event", "continuous"}

    Raises
    ------
    ConfigurationError
        ``UNKNOWN_NAME``: the kind of endpoint has no such metric.
    """
    rows = {row.name: row for row in metrics_of(kind)}
    if name is None:
        return next(iter(rows.values()))
    if name in rows and not rows[name].per_horizon:
        return rows[name]
    family, _, horizon = name.partition("@")
    if family + HORIZON in rows and _is_time(horizon):
        return rows[family + HORIZON].at(float(horizon))
    raise ConfigurationError(
        Code.UNKNOWN_NAME, f"no metric {name!r} for a {kind} endpoint", remedy=f"choose one of {', '.join(rows)}"
    )


def _is_time(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False
