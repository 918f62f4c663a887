"""Results as rows for tables, and as text and HTML: the one place where figures become words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from math import inf
from statistics import median

from twobe3.core.counts import format_count
from twobe3.core.html import html_table
from twobe3.core.outcomes import Outcomes
from twobe3.evaluation.compare import DIFFERENCE, POWER
from twobe3.evaluation.metrics import METRICS, WITHIN_FOLDS
from twobe3.evaluation.results import (
    NOT_ESTIMABLE,
    CohortSummary,
    Comparison,
    Evaluation,
    MetricValue,
    Subgroup,
    interval_text,
)

Row = dict[str, str | int | float | bool | None]


def evaluation_rows(evaluations: Iterable[Evaluation]) -> list[Row]:
    """A row for each model and metric; ``primary`` marks the metric by which models are ranked and compared."""
    return [
        {
            "endpoint": one.endpoint,
            "model": one.model,
            "metric": metric.name,
            **{name: getattr(metric, name) for name in ("value", "low", "high", "n", "events")},
            "primary": metric == one.headline,
        }
        for one in evaluations
        for metric in one.metrics
    ]


def primary_rows(evaluations: Iterable[Evaluation]) -> list[Row]:
    """A row for each model with its primary metric, the best model of each endpoint first."""
    by_endpoint: dict[str, list[Evaluation]] = {}
    for one in evaluations:
        by_endpoint.setdefault(one.endpoint, []).append(one)
    return [
        {
            "endpoint": one.endpoint,
            "model": one.model,
            "metric": one.primary_metric.metric,
            **{name: getattr(one.headline, name, None) for name in ("value", "low", "high")},
            "n": one.n,
            "events": one.events,
        }
        for of_endpoint in by_endpoint.values()
        for one in sorted(of_endpoint, key=lambda one: _rank(one.headline))
    ]


def comparison_rows(comparisons: Iterable[Comparison]) -> list[Row]:
    """A row for each pair of models; the difference is that of ``model_a`` minus ``model_b``."""
    names = ("endpoint", "metric", "model_a", "model_b", "difference", "low", "high", "p", "p_holm", "n")
    return [{name: getattr(pair, name) for name in names} for pair in comparisons]


def render_html(rows: Sequence[Row], caption: str = "") -> str:
    """Rows as an HTML table, every text escaped, a value and its interval in one cell; empty without rows."""
    if not rows:
        return ""
    shown = [name for name in rows[0] if name not in ("low", "high")]
    head = [f"{name} (95 %)" if name in ("value", "difference") else name for name in shown]
    return html_table([[_cell(row, name) for name in shown] for row in rows], head=head, caption=caption)


def _cell(row: Row, name: str) -> str:
    value = row[name]
    if name in ("value", "difference"):
        low, high = row["low"], row["high"]
        return interval_text(*(float(one) if isinstance(one, float | int) else None for one in (value, low, high)))
    if value is None:
        return NOT_ESTIMABLE
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def ranking_lines(
    outcomes: Outcomes,
    evaluations: Iterable[Evaluation],
    comparisons: Iterable[Comparison] = (),
    baselines: Collection[str] = (),
) -> list[str]:
    """The models of one endpoint with the metric by which they are compared, the best first, a line each.

    Where that is a metric within folds, the one of all pairs stands beside it; models named in ``baselines`` are
    marked. Below it whether the best of them is ahead of the best other model, why this metric was taken, on whom the
    models are compared, and how many patients a comparison
    takes. Evaluations and comparisons of other endpoints are passed over.
    """
    endpoint = outcomes.endpoint
    evaluations = [one for one in evaluations if one.endpoint == endpoint.name]
    comparisons = [pair for pair in comparisons if pair.endpoint == endpoint.name]
    primary = next((one.primary_metric.metric for one in evaluations), endpoint.primary_metric)
    names = list(dict.fromkeys((primary, endpoint.primary_metric)))
    width = max((len(one.model) for one in evaluations), default=0)
    event = f" ({endpoint.event_definition})" if endpoint.event_definition else ""
    lines = [f"{endpoint.name}: {primary}, {_sample(len(outcomes), outcomes.n_events)}{event}"]
    if len(names) > 1:
        lines.append(f"  {'':<{width}}  {primary:<22}  {endpoint.primary_metric}, all pairs")
    for one in sorted(evaluations, key=lambda one: _rank(one.get(primary))):
        cells = "  ".join(f"{_measure(one.get(name)):<22}" for name in names)
        lines.append(f"  {one.model:<{width}}  {cells}  n {one.n}{', baseline' if one.model in baselines else ''}")
    notes = (
        _leader_lines(evaluations, primary, baselines),
        primary_metric_lines(evaluations),
        _comparison_patients_lines(comparisons),
        patients_needed_lines(comparisons),
    )
    return [*lines, *(f"  {line}" for part in notes for line in part)]


def _leader_lines(evaluations: Iterable[Evaluation], metric: str, baselines: Collection[str]) -> list[str]:
    """The best baseline and the best model that is none, the better one first; nothing where one is missing."""
    ranked = sorted((one for one in evaluations if one.get(metric)), key=lambda one: _rank(one.get(metric)))
    best = [next((one for one in ranked if (one.model in baselines) == simple), None) for simple in (False, True)]
    if None in best:
        return []
    first, second = sorted((one for one in best if one), key=lambda one: _rank(one.get(metric)))
    what = "model that is no baseline" if first.model in baselines else "baseline"
    ahead, behind = (f"{one.model}, {_measure(one.get(metric))}" for one in (first, second))
    return [f"ahead is {ahead}; the best {what} is {behind}"]


def results_lines(
    evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison], summary: CohortSummary
) -> list[str]:
    """Every metric of every model, the differences, parts of the cohort, what is missing, and how all was estimated."""
    lines = [f"the event is {event}" for event in _list_definitions(evaluations)]
    for one in evaluations:
        missing = f", {one.missing} not predicted" if one.missing else ""
        lines.append(f"{one.model or 'model'}: {_sample(one.n, one.events)}{missing}")
        for metric in one.metrics:
            failed = f", {format_count(metric.failed_resamples, 'resample')} failed" if metric.failed_resamples else ""
            lines.append(f"  {metric.name:<22}  {_measure(metric)}{failed}")
    lines += primary_metric_lines(evaluations)
    for pair in comparisons:
        p = "" if pair.p_holm is None else f", p {pair.p_holm:.3g} (Holm)"
        difference = interval_text(pair.difference, pair.low, pair.high)
        lines.append(f"{pair.model_a} − {pair.model_b}: {difference} {pair.metric}{p}")
    lines += patients_needed_lines(comparisons)
    for part in summary.subgroups:
        who = f"{part.model or 'model'}, {part.factor} {part.level}: {_sample(part.n, part.events)}"
        lines.append(f"{who}: {part.metric} {_measure(part)}{f' ({part.warning})' if part.warning else ''}")
    for row in summary.missing:
        if row.missing:
            of = format_count(row.n, "patient")
            lines.append(f"{row.what}: missing for {row.missing} of {of} ({row.share:.0%})")
    how = dict.fromkeys((metric.name, metric.estimator) for one in evaluations for metric in one.metrics)
    return [*lines, "how the figures were made:", *(f"  {name:<22}  {estimator}" for name, estimator in how)]


def _sample(patients: int, events: int) -> str:
    return f"{format_count(patients, 'patient')}, {format_count(events, 'event')}"


def _list_definitions(evaluations: Iterable[Evaluation]) -> list[str]:
    """Which values of the table are events, each once."""
    return [event for event in dict.fromkeys(one.event_definition for one in evaluations) if event]


def primary_metric_lines(evaluations: Iterable[Evaluation]) -> list[str]:
    """By which metric the models of each endpoint are ranked and compared, and why; nothing where none is chosen."""
    choice = [one.primary_metric for one in evaluations if one.endpoint_class.primary_metric in WITHIN_FOLDS]
    return [f"models are ranked and compared by {one.metric}: {one.reason}" for one in dict.fromkeys(choice)]


def patients_needed_lines(comparisons: Iterable[Comparison]) -> list[str]:
    """How many patients a comparison takes: the median over the pairs, for each metric compared."""
    needed: dict[str, list[int]] = {}
    for pair in comparisons:
        if pair.patients_needed is not None:
            needed.setdefault(pair.metric, []).append(pair.patients_needed)
    return [
        f"to see a difference of {DIFFERENCE:g} in {metric} with a power of {POWER:.0%}: about "
        f"{float(f'{median(counts):.1e}'):.0f} patients like these (median of {len(counts)} pairs)"
        for metric, counts in needed.items()
    ]


def _comparison_patients_lines(comparisons: Iterable[Comparison]) -> list[str]:
    """On whom the models are compared, where that is not the same for all pairs."""
    counts = {pair.n for pair in comparisons}
    if len(counts) < 2:
        return []
    return [f"models are compared on the patients that both predicted: {min(counts)} to {max(counts)}"]


def _measure(metric: MetricValue | Subgroup | None) -> str:
    return NOT_ESTIMABLE if metric is None else interval_text(metric.value, metric.low, metric.high)


def _rank(metric: MetricValue | None) -> float:
    """The better the lower; what could not be estimated comes last."""
    if metric is None or metric.value is None:
        return inf
    row = METRICS.get(metric.name)
    return metric.value if row is not None and row.higher_is_better is False else -metric.value
