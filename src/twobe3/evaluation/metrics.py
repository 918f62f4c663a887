"""The metrics, each callable by itself: ``metrics.harrell_c(outcomes, risk)`` is a number with its interval.

To add one, write its function of counts and add its row here; the order is that of the tables. Another distribution
adds one by an entry point in the group ``twobe3.metrics``; it stands behind those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.nearest import name_nearest
from twobe3.core.outcomes import FloatArray, Kind, Outcomes
from twobe3.core.plugins import PluginRegistry, require_instance
from twobe3.core.prediction import Prediction
from twobe3.evaluation import binary, bootstrap, calibration, horizons, survival
from twobe3.evaluation.alignment import AlignedPredictions
from twobe3.evaluation.bootstrap import RESAMPLES, PatientBootstrap, Statistic
from twobe3.evaluation.results import MetricValue, none_if_nan

HORIZON = "@horizon"


@dataclass(frozen=True)
class Metric:
    """A metric that can be named, and called.

    Attributes
    ----------
    name : str
        Its name in tables and on the command line. One that ends with ``@horizon`` stands for a metric at each
        horizon, named for instance ``brier@365``.
    kind : {"binary", "time-to-event", "continuous"}
        Kind of endpoint that it evaluates.
    description : str
        One line.
    higher_is_better : bool or None
        None for a metric whose best value lies between, as a calibration slope of 1.
    scores : {"risk", "probability", "survival"}
        What of a prediction it evaluates.
    statistic : callable
        From the scores of one repeat and the outcomes, and the horizon where the name has one, to the statistic.
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

    def over_repeats(self, aligned: AlignedPredictions) -> Statistic | None:
        """The metric over the repeats, their mean if it is no p-value; a patient is drawn with all its repeats.

        A repeat's metric is that of its out-of-fold scores together. None when the model gives no such scores.
        """
        if getattr(aligned.scores[0], self.scores) is None:
            return None

        def compute(counts: FloatArray) -> FloatArray:
            # One repeat after the other: what a metric keeps of all pairs of patients is there once, not repeats times.
            values = np.stack(
                [
                    self.statistic(scores, aligned.outcomes).compute(counts if present.all() else counts * present)
                    for scores, present in zip(aligned.scores, aligned.present, strict=True)
                ]
            )
            if self.repeats == "mean" or len(values) == 1:
                return np.asarray(values.mean(axis=0))
            return np.minimum(2 * np.median(values, axis=0), 1.0)

        estimator = self.statistic(aligned.scores[0], aligned.outcomes).estimator
        return Statistic(
            compute,
            estimator if aligned.repeats == 1 else f"{estimator}; {self.repeats} of {aligned.repeats} repeats",
        )

    def estimate(self, aligned: AlignedPredictions, samples: PatientBootstrap) -> MetricValue | None:
        """The metric with its interval; None when the model gives no such scores."""
        statistic = self.over_repeats(aligned)
        if statistic is None:
            return None
        n, low, high, failed, how = len(aligned.outcomes), None, None, 0, "no interval"
        if self.resampled:
            replicates = samples.replicate(statistic)
            value, failed = replicates.value, replicates.failed
            strata = ", stratified by event" if 0 < samples.strata.sum() < n else ""
            how = f"BCa bootstrap over patients{strata}, {len(samples.counts)} samples"
            low, high = replicates.interval() or (None, None)
            if low is None and self.bound is not None and value in (0.0, 1.0):
                low, high, method = self.bound(value, aligned.outcomes)
                how = f"{method}, since the bootstrap knows no other value"
        else:
            value = statistic.value(n)
        estimator = f"{statistic.estimator}; {how}"
        return MetricValue(self.name, none_if_nan(value), low, high, n, aligned.outcomes.n_events, estimator, failed)

    def __call__(
        self,
        outcomes: Outcomes,
        scores: npt.ArrayLike,
        *,
        times: npt.ArrayLike | None = None,
        horizon: float | None = None,
        fold: npt.ArrayLike | None = None,
        threshold: float | None = None,
        resamples: int = RESAMPLES,
        seed: int = 0,
    ) -> MetricValue:
        """Evaluate the scores of one model, without a cohort.

        Parameters
        ----------
        outcomes : Outcomes
            Of n patients, for instance ``TimeToEvent.from_arrays(time, event)``.
        scores : array_like, shape (n,) or (n, k)
            Of the same patients, in the same order: the risk (higher for an earlier event, the positive class or a
            larger value), the probability of the positive class, or the predicted survival at each of ``times``, as
            the metric's ``scores`` says.
        times : array_like, shape (k,)
            Ascending, in the endpoint's unit; for predicted survival.
        horizon : float
            In the endpoint's unit; for a metric at a horizon.
        fold : array_like of int, shape (n,), optional
            In which fold each patient was tested, for a metric within folds.
        threshold : float, optional
            The probability from which on the model says yes; 0.5 by default.
        resamples, seed : int
            Number of bootstrap samples of patients, and the seed of their generator.

        Returns
        -------
        MetricValue
            The value with its 95 % interval; None where it cannot be estimated.

        Raises
        ------
        ConfigurationError
            ``UNKNOWN_NAME``: the metric is of another kind of endpoint; ``PREDICTION_INVALID``; ``HORIZON_INVALID``.
        ValueError
            The scores have another shape, or a metric at a horizon has none.
        """
        if outcomes.endpoint.kind != self.kind:
            find_metric(self.name, outcomes.endpoint.kind)  # says which there are
        if self.per_horizon and horizon is None:
            raise ValueError(f"{self.name} needs a horizon")
        values, n = np.asarray(scores, dtype=np.float64), len(outcomes)
        prediction = Prediction(
            "",
            outcomes.endpoint.name,
            outcomes.patients,
            np.zeros(n) if self.scores == "survival" else values,
            probability=values if self.scores == "probability" else None,
            fold=np.zeros(n, dtype=np.int64) if fold is None else np.asarray(fold, dtype=np.int64),
            threshold=None if threshold is None else np.full(n, float(threshold)),
            survival=values if self.scores == "survival" else None,
            times=None if times is None else np.asarray(times, dtype=np.float64),
        )
        row = self if horizon is None or not self.per_horizon else self.at(horizon)
        aligned = AlignedPredictions.of(prediction, outcomes, horizons=None if horizon is None else [horizon])
        samples = PatientBootstrap.draw(outcomes.event, stratified=self.stratified, resamples=resamples, seed=seed)
        found = row.estimate(aligned, samples)
        assert found is not None  # its scores were given
        return found


def _risk(metric: Callable[[FloatArray, Outcomes], Statistic]) -> Callable[..., Statistic]:
    return lambda scores, outcomes: metric(scores.risk, outcomes)


def _in_folds(metric: Callable[..., Statistic]) -> Callable[..., Statistic]:
    return lambda scores, outcomes: metric(scores.risk, outcomes, scores.fold)


def _probability(metric: Callable[[FloatArray, Outcomes], Statistic]) -> Callable[..., Statistic]:
    return lambda scores, outcomes: metric(scores.probability, outcomes)


def _threshold(metric: Callable[..., Statistic]) -> Callable[..., Statistic]:
    return lambda scores, outcomes: metric(scores.probability, outcomes, scores.threshold)


def _survival_at(metric: Callable[..., Statistic]) -> Callable[..., Statistic]:
    return lambda scores, outcomes, horizon: metric(scores.survival, scores.follow_up, horizon)


auc = Metric(
    "auc", "binary", "area under the ROC curve", True, "risk", _risk(binary.auc), bound=bootstrap.auc_bound
)  # fmt: skip
average_precision = Metric(
    "average_precision", "binary", "mean precision over recall", True, "risk", _risk(binary.average_precision),
    stratified=False,
)  # fmt: skip
auc_within_folds = Metric(
    "auc_within_folds", "binary", "area under the ROC curve, pairs tested in one fold only", True, "risk",
    _in_folds(binary.auc_within_folds), needs="folds",
)  # fmt: skip
balanced_accuracy = Metric(
    "balanced_accuracy", "binary", "mean of sensitivity and specificity", True, "probability",
    _threshold(binary.balanced_accuracy), bound=bootstrap.balanced_accuracy_bound,
)  # fmt: skip
sensitivity = Metric(
    "sensitivity", "binary", "positives found at the threshold of their fold, else at probability 0.5", True,
    "probability", _threshold(binary.sensitivity), bound=bootstrap.sensitivity_bound,
)  # fmt: skip
specificity = Metric(
    "specificity", "binary", "negatives spared at the threshold of their fold, else at probability 0.5", True,
    "probability", _threshold(binary.specificity), bound=bootstrap.specificity_bound,
)  # fmt: skip
brier = Metric(
    "brier", "binary", "mean squared error of the probability", False, "probability", _probability(binary.brier),
    stratified=False,
)  # fmt: skip
log_loss = Metric(
    "log_loss", "binary", "mean negative log-likelihood", False, "probability", _probability(binary.log_loss),
    stratified=False,
)  # fmt: skip
calibration_slope = Metric(
    "calibration_slope", "binary", "slope of the logistic recalibration, best 1", None, "probability",
    _probability(calibration.calibration_slope),
)  # fmt: skip
recalibration_intercept = Metric(
    "recalibration_intercept", "binary", "intercept of the same fit as the slope, best 0", None, "probability",
    _probability(calibration.recalibration_intercept), stratified=False,
)  # fmt: skip
calibration_intercept = Metric(
    "calibration_intercept", "binary", "intercept with the slope held at 1: calibration in the large, best 0", None,
    "probability", _probability(calibration.calibration_intercept), stratified=False,
)  # fmt: skip
observed_expected = Metric(
    "observed_expected", "binary", "share of events over the mean probability: calibration in the large, best 1", None,
    "probability", _probability(calibration.observed_expected), stratified=False,
)  # fmt: skip
# The influence of a patient on a censored concordance has another mean with the event than without it, so keeping
# the number of events would make the interval about 5 % too short (benchmarks/coverage.py); not so for the AUC.
harrell_c = Metric(
    "harrell_c", "time-to-event", "Harrell's concordance", True, "risk", _risk(survival.harrell_c), stratified=False,
)  # fmt: skip
uno_c = Metric(
    "uno_c", "time-to-event", "Uno's concordance, weighted for censoring, truncated", True, "risk",
    _risk(survival.uno_c), stratified=False,
)  # fmt: skip
harrell_c_within_folds = Metric(
    "harrell_c_within_folds", "time-to-event", "Harrell's concordance, pairs tested in one fold only", True, "risk",
    _in_folds(survival.harrell_c_within_folds), stratified=False, needs="folds",
)  # fmt: skip
cause_specific_c = Metric(
    "cause_specific_c", "time-to-event", "concordance with competing events (Wolbers)", True, "risk",
    _risk(survival.cause_specific_c), stratified=False, needs="competing events",
)  # fmt: skip
cumulative_auc = Metric(
    "cumulative_auc", "time-to-event", "cumulative/dynamic AUC, mean over the horizons", True, "risk",
    lambda scores, outcomes: horizons.mean_cumulative_auc(scores.risk, scores.follow_up, scores.horizons.at),
)  # fmt: skip
cumulative_auc_at = Metric(
    "cumulative_auc@horizon", "time-to-event", "cumulative/dynamic AUC at a horizon, weighted for censoring", True,
    "risk", lambda scores, outcomes, horizon: horizons.cumulative_auc(scores.risk, scores.follow_up, horizon),
)  # fmt: skip
integrated_brier = Metric(
    "integrated_brier", "time-to-event", "mean over time of the Brier score of predicted survival", False, "survival",
    lambda scores, outcomes: horizons.integrated_brier(scores.survival, scores.follow_up, scores.horizons.grid),
    stratified=False,
)  # fmt: skip
brier_at = Metric(
    "brier@horizon", "time-to-event", "Brier score of predicted survival at a horizon", False, "survival",
    _survival_at(horizons.brier_at), stratified=False,
)  # fmt: skip
observed_expected_at = Metric(
    "observed_expected@horizon", "time-to-event",
    "observed over predicted probability of the event by a horizon, best 1", None, "survival",
    _survival_at(horizons.observed_expected), stratified=False,
)  # fmt: skip
d_calibration = Metric(
    "d_calibration", "time-to-event", "p-value of D-calibration; small: the predicted survival is wrong", None,
    "survival", lambda scores, outcomes: calibration.d_calibration(scores.survival, outcomes), resampled=False,
    repeats="twice the median",
)  # fmt: skip
spearman = Metric("spearman", "continuous", "Spearman's rank correlation", True, "risk", _risk(binary.spearman))
mae = Metric("mae", "continuous", "mean absolute error", False, "risk", _risk(binary.mean_absolute_error))
r2 = Metric("r2", "continuous", "coefficient of determination", True, "risk", _risk(binary.r2))

METRICS = PluginRegistry(
    "twobe3.metrics", "metric", require_instance(Metric, named=True),
    {row.name: row for row in list(globals().values()) if isinstance(row, Metric)},
)  # fmt: skip
# The same concordance of the pairs tested in one fold, see twobe3.evaluation.primary_metric.
WITHIN_FOLDS = {"auc": "auc_within_folds", "harrell_c": "harrell_c_within_folds"}


def metrics_of(kind: Kind) -> tuple[Metric, ...]:
    """The metrics of a kind of endpoint, the primary one first."""
    return tuple(row for row in METRICS.values() if row.kind == kind)


def find_metric(name: str, kind: Kind) -> Metric:
    """The metric of this name for a kind of endpoint; one at a horizon is asked for with it: ``brier@365``.

    Raises
    ------
    ConfigurationError
        ``UNKNOWN_NAME``: the kind of endpoint has no such metric.
    """
    rows = {row.name: row for row in metrics_of(kind)}
    if name in rows and not rows[name].per_horizon:
        return rows[name]
    family, _, horizon = name.partition("@")
    if family + HORIZON in rows and _is_time(horizon):
        return rows[family + HORIZON].at(float(horizon))
    reason = f"no metric {name!r} for a {kind} endpoint; {name_nearest(name, rows)}"
    raise ConfigurationError(Code.UNKNOWN_NAME, reason, remedy=f"choose one of {', '.join(rows)}")


def _is_time(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False
