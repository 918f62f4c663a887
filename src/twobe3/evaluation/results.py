"""What an evaluation says: metrics, curves, comparisons, and all of them as one JSON document."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from twobe3.core.outcomes import FloatArray, Kind


@dataclass(frozen=True)
class MetricValue:
    """One figure about one model.

    Attributes
    ----------
    name : str
        Name in the registry of metrics.
    value, low, high : float or None
        The mean over repeats and its 95 % interval; None where it cannot be estimated.
    n, events : int
        Patients judged, and how many of them have the event.
    estimator : str
        The estimator with its tie rule, how repeats were joined, how the interval was made.
    failed_resamples : int
        Bootstrap samples in which the metric could not be computed; 0 where ``value`` is None, since none is drawn.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    events: int
    estimator: str
    failed_resamples: int


@dataclass(frozen=True, eq=False)
class Curve:
    """A line to draw.

    Attributes
    ----------
    name : str
        ``"roc"``, ``"calibration"``, ``"calibration_smooth"``, ``"net_benefit"``, ``"net_benefit_all"``,
        ``"kaplan_meier_low"`` or ``"kaplan_meier_high"``; with competing events also ``"cumulative_incidence_event"``,
        ``"cumulative_incidence_competing"``, ``"cumulative_incidence_low"`` and ``"cumulative_incidence_high"``.
    x, y : ndarray of float64, shape (points,)
        The vertices.
    low, high : ndarray of float64, shape (points,), or None
        Pointwise 95 % limits; NaN at a point that has none.
    label : str
        What the line is, for a legend.
    """

    name: str
    x: FloatArray
    y: FloatArray
    low: FloatArray | None
    high: FloatArray | None
    label: str


@dataclass(frozen=True)
class Group:
    """Patients of similar risk.

    Attributes
    ----------
    name : {"low", "high"}
        Their risk.
    n, events : int
        Patients, and how many of them have the event.
    at_risk : tuple of int
        How many are still observed, without the event, at each of the times of the :class:`RiskGroups`.
    """

    name: str
    n: int
    events: int
    at_risk: tuple[int, ...]


@dataclass(frozen=True)
class RiskGroups:
    """The groups that a model's risk forms, for a time to an event.

    Attributes
    ----------
    cutoff : str
        Where they were divided, and who chose that.
    p : float or None
        Of the log-rank test.
    times : tuple of float
        In the endpoint's unit.
    groups : tuple of Group
        Those that have patients.
    """

    cutoff: str
    p: float | None
    times: tuple[float, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class PrimaryMetric:
    """The metric by which all models of an endpoint are ranked and compared.

    Attributes
    ----------
    metric : str
        Its name.
    reason : str
        Why this one; half a sentence.
    """

    metric: str
    reason: str


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good one model's prediction of one endpoint is.

    Attributes
    ----------
    endpoint : str
        Name of the endpoint whose outcomes judged the model.
    kind : {"binary", "time-to-event", "continuous"}
        Kind of the endpoint.
    model : str
        Name of the model.
    n, events : int
        Patients with a prediction and an outcome, and how many of them have the event.
    missing : int
        Patients with an outcome and no prediction; they are in no figure.
    repeats : int
        Repeats of the cross-validation; a metric is the mean over them.
    metrics : tuple of MetricValue
        That of all pairs of patients first; none where no patient was predicted.
    curves : tuple of Curve
        Curves of the kind of endpoint.
    risk_groups : RiskGroups or None
        For a time to an event.
    primary_metric : PrimaryMetric or None
        By which of the metrics the model is ranked and compared.
    """

    endpoint: str
    kind: Kind
    model: str
    n: int
    events: int
    missing: int
    repeats: int
    metrics: tuple[MetricValue, ...]
    curves: tuple[Curve, ...]
    risk_groups: RiskGroups | None = None
    primary_metric: PrimaryMetric | None = None

    def metric(self, name: str) -> MetricValue:
        """The metric of this name; a KeyError where the evaluation has none."""
        metric = self.get(name)
        if metric is None:
            raise KeyError(name)
        return metric

    def get(self, name: str) -> MetricValue | None:
        """The metric of this name, None where the evaluation has none."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    @property
    def headline(self) -> MetricValue | None:
        """The metric by which the model is ranked and compared; None where it is not there."""
        return None if self.primary_metric is None else self.get(self.primary_metric.metric)


@dataclass(frozen=True)
class DifferenceTest:
    """One more test of the difference of two models.

    Attributes
    ----------
    name : {"delong", "corrected_t"}
        DeLong's test of two AUCs, or the corrected resampled t-test across folds.
    p, p_holm : float or None
        Two-sided p-value, and the same adjusted for all comparisons made together; None where it cannot be estimated.
    method : str
        How it was made.
    """

    name: str
    p: float | None
    p_holm: float | None
    method: str


@dataclass(frozen=True)
class Comparison:
    """Two models on the patients that both predicted.

    Attributes
    ----------
    endpoint, metric : str
        What was compared.
    model_a, model_b : str
        The models.
    n : int
        Patients that both predicted.
    difference, low, high : float or None
        Metric of ``model_a`` minus metric of ``model_b``, and its 95 % interval.
    p, p_holm : float or None
        Two-sided p-value, and the same adjusted for all comparisons made together.
    estimator : str
        How difference, interval and p were made.
    tests : tuple of DifferenceTest
        Further tests of the same difference.
    patients_needed : int or None
        Patients with whom a difference of 0.05 would be seen with a power of 0.8, see
        :func:`~twobe3.evaluation.compare.patients_needed`.
    reason : str
        Why this metric was compared.
    """

    endpoint: str
    metric: str
    model_a: str
    model_b: str
    n: int
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    estimator: str
    tests: tuple[DifferenceTest, ...] = ()
    patients_needed: int | None = None
    reason: str = ""


def to_json(evaluations: Iterable[Evaluation], comparisons: Iterable[Comparison] = ()) -> dict[str, Any]:
    """Everything as one JSON document, which never holds NaN: what cannot be estimated is None.

    Returns
    -------
    dict
        ``{"models": [{"endpoint", "kind", "model", "n", "events", "missing", "repeats", "basis", "metrics": [...],
        "curves": [...]}], "comparisons": [...]}``, with the fields of :class:`PrimaryMetric`, :class:`MetricValue`,
        :class:`Curve` and :class:`Comparison`.
    """
    return {
        "models": [_evaluation(evaluation) for evaluation in evaluations],
        "comparisons": [_comparison(comparison) for comparison in comparisons],
    }


def none_if_nan(value: float) -> float | None:
    """The number as a plain float; None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "endpoint": evaluation.endpoint,
        "kind": evaluation.kind,
        "model": evaluation.model,
        "n": evaluation.n,
        "events": evaluation.events,
        "missing": evaluation.missing,
        "repeats": evaluation.repeats,
        "basis": None if evaluation.primary_metric is None else asdict(evaluation.primary_metric),
        "metrics": [_finite(asdict(metric)) for metric in evaluation.metrics],
        "curves": [
            {
                "name": curve.name,
                "label": curve.label,
                "x": _numbers(curve.x),
                "y": _numbers(curve.y),
                "low": _numbers(curve.low),
                "high": _numbers(curve.high),
            }
            for curve in evaluation.curves
        ],
        "risk_groups": None if evaluation.risk_groups is None else _risk_groups(evaluation.risk_groups),
    }


def _risk_groups(groups: RiskGroups) -> dict[str, Any]:
    return {
        **_finite(asdict(groups)),
        "times": list(groups.times),
        "groups": [{**asdict(group), "at_risk": list(group.at_risk)} for group in groups.groups],
    }


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {**_finite(asdict(comparison)), "tests": [_finite(asdict(test)) for test in comparison.tests]}


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: none_if_nan(value) if isinstance(value, float) else value for key, value in fields.items()}


def _numbers(values: FloatArray | Sequence[float] | None) -> list[float | None] | None:
    return None if values is None else [none_if_nan(value) for value in values]
