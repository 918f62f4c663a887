"""The one schema of results: what an evaluation writes to ``evaluation.json`` and the report reads from it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PlainSerializer, PlainValidator, TypeAdapter

from twobe3.core.endpoints import KINDS
from twobe3.core.errors import Exclusion
from twobe3.core.html import html_table
from twobe3.core.outcomes import Endpoint, FloatArray, Kind
from twobe3.io.artefact import read_artefact

NOT_ESTIMABLE = "not estimable"


def interval_text(value: float | None, low: float | None, high: float | None) -> str:
    """A figure with its interval, as far as they can be estimated."""
    if value is None:
        return NOT_ESTIMABLE
    return f"{value:.3f}" + ("" if low is None or high is None else f" ({low:.3f} to {high:.3f})")


def none_if_nan(value: float) -> float | None:
    """The number as a plain float; None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def _read_points(values: Any) -> FloatArray:
    points = np.array(values, dtype=np.float64)  # None becomes NaN
    if points.ndim != 1:
        raise ValueError("a curve must be a list of numbers")
    return points


def _write_points(points: FloatArray) -> list[float | None]:
    return [none_if_nan(value) for value in points]


# NaN, at a point that has no limit, is null in JSON.
Points = Annotated[FloatArray, PlainValidator(_read_points), PlainSerializer(_write_points)]


@dataclass(frozen=True)
class MetricValue:
    """One figure about one model.

    Attributes
    ----------
    value, low, high : float or None
        The mean over repeats and its 95 % interval; None where it cannot be estimated.
    n, events : int
        Patients evaluated, and how many of them have the event.
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
    label : str
        What the line is, for a legend.
    x, y, low, high : ndarray of float64, shape (points,)
        The vertices, and the pointwise 95 % limits where there are any; NaN at a point that has none.
    """

    name: str
    label: str
    x: Points
    y: Points
    low: Points | None = None
    high: Points | None = None


@dataclass(frozen=True)
class Group:
    """Patients of low or high risk: how many, with the event, and at risk at each time of the :class:`RiskGroups`."""

    name: str
    n: int
    events: int
    at_risk: tuple[int, ...]


@dataclass(frozen=True)
class RiskGroups:
    """The groups that a model's risk forms, for a time to an event."""

    cutoff: str  # where they were divided, and who chose that
    p: float | None  # of the log-rank test
    times: tuple[float, ...]  # in the endpoint's unit
    groups: tuple[Group, ...]  # those that have patients


@dataclass(frozen=True)
class PrimaryMetric:
    """Name of the metric by which all models of an endpoint are ranked and compared, and half a sentence why."""

    metric: str
    reason: str


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How good one model's prediction of one endpoint is.

    Attributes
    ----------
    n, events : int
        Patients with a prediction and an outcome, and how many of them have the event.
    missing : int
        Patients with an outcome and no prediction; they are in no figure.
    repeats : int
        Repeats of the cross-validation; a metric is the mean over them.
    primary_metric : PrimaryMetric
        By which of the metrics the model is ranked and compared; ``basis`` in JSON.
    metrics : tuple of MetricValue
        That of all pairs of patients first; none where no patient was predicted.
    curves : tuple of Curve
        Curves of the kind of endpoint.
    risk_groups : RiskGroups or None
        For a time to an event.
    event_definition : str
        Which value of which column of the table is the event, for instance ``"status = 2"``; empty where no table was
        read, or where nobody has an event.
    """

    endpoint: str
    kind: Kind
    model: str
    n: int
    events: int
    missing: int
    repeats: int
    primary_metric: Annotated[PrimaryMetric, Field(alias="basis")]
    metrics: tuple[MetricValue, ...]
    curves: tuple[Curve, ...]
    risk_groups: RiskGroups | None = None
    event_definition: str = ""

    def metric(self, name: str) -> MetricValue:
        """The metric of this name; a KeyError where the evaluation has none."""
        metric = self.get(name)
        if metric is None:
            raise KeyError(name)
        return metric

    def get(self, name: str) -> MetricValue | None:
        """The metric of this name, None where the evaluation has none."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    def _repr_html_(self) -> str:
        rows = [(m.name, interval_text(m.value, m.low, m.high), f"{m.n}", f"{m.events}") for m in self.metrics]
        head = ("metric", "value (95 %)", "n", "events")
        return html_table(rows, head=head, caption=f"{self.model or 'model'}: {self.endpoint}")

    @property
    def endpoint_class(self) -> type[Endpoint]:
        """What answers for the kind of endpoint: its primary metric of all pairs, the level of chance."""
        return KINDS[self.kind]

    @property
    def headline(self) -> MetricValue | None:
        """The metric by which the model is ranked and compared; None where it is not there."""
        return self.get(self.primary_metric.metric)


@dataclass(frozen=True)
class DifferenceTest:
    """One more test of the difference of two models: ``"delong"`` (of two AUCs) or ``"corrected_t"`` (across folds).

    ``p`` is two-sided, ``p_holm`` adjusted for all comparisons made together; None where it cannot be estimated.
    """

    name: str
    p: float | None
    p_holm: float | None
    method: str


@dataclass(frozen=True)
class Comparison:
    """Two models on the ``n`` patients that both predicted.

    Attributes
    ----------
    difference, low, high : float or None
        Metric of ``model_a`` minus metric of ``model_b``, and its 95 % interval.
    p, p_holm : float or None
        Two-sided p-value, and the same adjusted for all comparisons made together.
    estimator : str
        How difference, interval and p were made.
    tests : tuple of DifferenceTest
        Further tests of the same difference.
    patients_needed : int or None
        See :func:`~twobe3.evaluation.compare.patients_needed`.
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

    def test(self, name: str) -> DifferenceTest | None:
        """A further test of the pair."""
        return next((test for test in self.tests if test.name == name), None)


@dataclass(frozen=True)
class Subgroup:
    """The primary metric, with its 95 % interval, of one model in one part of the cohort."""

    endpoint: str
    model: str
    metric: str
    factor: str  # for instance "sex"
    level: str  # for instance "F"
    n: int  # patients
    events: int  # how many of them have the event
    value: float | None  # None where it cannot be estimated, as its limits
    low: float | None
    high: float | None
    warning: str  # why not much can be said; empty where there are enough patients


@dataclass(frozen=True)
class Missing:
    """For how many of ``n`` patients something (a scan, an outcome, a covariate) is not known."""

    what: str
    missing: int
    n: int

    @property
    def share(self) -> float:
        """Of the patients, between 0 and 1; 0 of nobody."""
        return self.missing / self.n if self.n else 0.0


@dataclass(frozen=True)
class ModelSize:
    """A model's parameters beside what the cohort offers."""

    model: str
    parameters: int  # candidates: what could get a coefficient, before any selection
    events_per_parameter: float  # patients with the event, of a binary endpoint of the rarer class, for each of them
    patients_needed: int  # by the strictest criterion of twobe3.evaluation.cohort_summary.patients_for


@dataclass(frozen=True)
class SampleSize:
    """What a cohort is enough for."""

    endpoint: str
    n: int  # patients
    events: int  # patients with the event, of a binary endpoint of the rarer class
    r2: float  # the Cox–Snell R² assumed: 15 % of the largest possible
    parameters: int  # candidates with which an unpenalised model would still need no more shrinkage than 0.9
    models: tuple[ModelSize, ...]  # of the models whose candidate parameters are known


@dataclass(frozen=True)
class CohortSummary:
    """The patients behind the evaluations: parts of the cohort, what is missing of them, and sample sizes."""

    subgroups: tuple[Subgroup, ...] = ()
    missing: tuple[Missing, ...] = ()
    sample_sizes: tuple[SampleSize, ...] = ()


@dataclass(frozen=True)
class ModelExclusion(Exclusion):
    """A scan that a model cannot use, or, without a patient, a feature that it leaves out."""

    model: str


@dataclass(frozen=True)
class EvaluationResults:
    """All results of a study or of a file of predictions; the fields are the keys of ``evaluation.json``."""

    models: tuple[Evaluation, ...]
    comparisons: tuple[Comparison, ...] = ()
    subgroups: tuple[Subgroup, ...] = ()
    missing: tuple[Missing, ...] = ()
    sample_sizes: tuple[SampleSize, ...] = ()
    exclusions: tuple[ModelExclusion, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a JSON document, which never holds NaN: what cannot be estimated is None."""
        absent = set() if self.exclusions else {"exclusions"}
        document: dict[str, Any] = json.loads(_SCHEMA.dump_json(self, by_alias=True, exclude=absent))
        return document

    @classmethod
    def read(cls, path: Path) -> EvaluationResults:
        """Read ``evaluation.json``; raises as :func:`~twobe3.io.artefact.read_artefact`."""
        return read_artefact(path, _SCHEMA)


_SCHEMA = TypeAdapter(EvaluationResults)
