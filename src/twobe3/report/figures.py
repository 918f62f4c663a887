"""Which charts an endpoint gets, from its models' curves."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from twobe3.core.counts import format_count
from twobe3.evaluation.results import Curve, Evaluation, RiskGroups
from twobe3.report import charts
from twobe3.report.charts import Axis, Chart, Line, Row
from twobe3.report.wording import measure, metric_label, model_label, number, p_value

SPOKEN = (0.1, 0.2, 0.3, 0.4, 0.5)
COLOURS, DASHES = 8, 4  # of the style sheet
HARM = 0.25  # how far below 0 a decision curve is drawn, of its greatest height


@dataclass(frozen=True)
class Figure:
    """The charts of one kind: an overlay of all models, or one for each model."""

    heading: str
    caption: str
    charts: tuple[Chart, ...]


def figures(results: Sequence[Evaluation], unit: str, baselines: Collection[str] = ()) -> tuple[Figure, ...]:
    """The figures of one endpoint that its curves allow, from its models in the order to show.

    ROC, calibration and decision curves are one overlay each, in which the place of a model in ``results`` is its
    series, and those of ``baselines`` are dashed; curves by groups of risk are a chart for each model.
    """
    smooth = any(_curves(result, "calibration_smooth") for result in results)
    smoothed = ", and smoothed, with a 95 % band" if smooth else ""
    made = (
        Figure(
            "ROC curves",
            "Sensitivity against 1 − specificity. The diagonal is chance. The area under a curve is the AUC of all "
            "pairs of patients.",
            _overlay_roc(results, baselines),
        ),
        Figure(
            "Calibration",
            "Observed proportion against predicted probability, in groups of patients with similar predictions, with "
            f"95 % intervals{smoothed}. On the diagonal, predictions are right on average.",
            _overlay_calibration(results, baselines),
        ),
        Figure(
            "Decision curves",
            "Net benefit of acting on the patients whose probability reaches the threshold: true positives per "
            "patient, less the false ones times the odds of the threshold, with a 95 % band. A model is of use where "
            "its curve lies above both acting on all (grey) and acting on none (0).",
            _overlay_decision(results, baselines),
        ),
        Figure(
            "Kaplan–Meier curves by predicted risk",
            "Estimated proportion without the event in the groups that each model’s risk forms, with 95 % bands. "
            + _cutoffs(results),
            tuple(_kaplan_meier(result, unit) for result in results if _curves(result, "kaplan_meier")),
        ),
        Figure(
            "Cumulative incidence by predicted risk",
            "Estimated probability of the event by each time, beside competing events (Aalen–Johansen), in the same "
            "groups, with 95 % bands.",
            tuple(_incidence(result, unit) for result in results if _curves(result, "cumulative_incidence")),
        ),
    )
    return tuple(figure for figure in made if figure.charts)


def series_dash(index: int, is_baseline: bool) -> int:
    """How the lines of the model at this place are drawn: dashed for a baseline, and otherwise where colours repeat."""
    return is_baseline + 2 * (index // COLOURS % 2)


def _curves(result: Evaluation, name: str) -> tuple[Curve, ...]:
    """The curves of one kind; a curve may be named after its group or its making as well."""
    return tuple(curve for curve in result.curves if curve.name == name or curve.name.startswith(f"{name}_"))


def _select_curves(results: Sequence[Evaluation], name: str) -> list[tuple[int, Evaluation, dict[str, Curve]]]:
    """The models that have curves of a kind: place, model, and curves by name."""
    return [
        (i, result, {curve.name: curve for curve in curves})
        for i, result in enumerate(results)
        if (curves := _curves(result, name))
    ]


def _overlay_roc(results: Sequence[Evaluation], baselines: Collection[str]) -> tuple[Chart, ...]:
    there = _select_curves(results, "roc")
    if not there:
        return ()
    chart = Chart(
        title="ROC curves",
        subtitle="",
        description="ROC curves. "
        + "; ".join(f"{model_label(one.model)}: {_pooled(one)}" for _, one, _ in there)
        + ".",
        x_label="1 − specificity",
        y_label="Sensitivity",
        lines=tuple(
            _of_model(charts.line(curve, charts.UNIT, label=model_label(one.model)), i, one.model in baselines)
            for i, one, curves in there
            for curve in curves.values()
        ),
        overlay=True,
        diagonal=True,
    )
    return (chart,)


def _of_model(line: Line, index: int, is_baseline: bool) -> Line:
    return replace(line, series=index, dash=series_dash(index, is_baseline))


def _kaplan_meier(result: Evaluation, unit: str) -> Chart:
    curves, groups = _curves(result, "kaplan_meier"), result.risk_groups
    latest = _latest(curves)
    time = Axis.over([0.0, latest]) if groups is None else Axis(0.0, max(latest, groups.times[-1]), groups.times)
    below = () if groups is None else _at_risk(groups, time)
    name = model_label(result.model)
    spoken = "".join(f"; at risk, {row.label}: {', '.join(text for _, text in row.numbers)}" for row in below)
    return Chart(
        title=name,
        subtitle=_primary(result) if groups is None else f"{_primary(result)}; log-rank p {_p(groups.p)}",
        description=f"Kaplan–Meier curves of {name}, {_primary(result)}; at the end: {_ends(curves)}{spoken}.",
        x_label=_time_label(unit),
        y_label="Without the event",
        x_ticks=charts.x_ticks(time),
        lines=_steps(curves, time, groups),
        below=below,
    )


def _incidence(result: Evaluation, unit: str) -> Chart:
    curves = _curves(result, "cumulative_incidence")
    time = Axis.over([0.0, _latest(curves)])
    return Chart(
        title=model_label(result.model),
        subtitle=_primary(result),
        description=f"Cumulative incidence by the risk of {model_label(result.model)}; at the end: {_ends(curves)}.",
        x_label=_time_label(unit),
        y_label="With the event",
        x_ticks=charts.x_ticks(time),
        lines=_steps(curves, time, result.risk_groups),
    )


def _time_label(unit: str) -> str:
    return f"Time ({unit}s)" if unit else "Time"


def _steps(curves: Sequence[Curve], time: Axis, groups: RiskGroups | None) -> tuple[Line, ...]:
    """Step curves over the follow-up."""
    return tuple(
        replace(charts.line(curve, time, label=_group_label(curve, groups), step=True), series=i, dash=i % DASHES)
        for i, curve in enumerate(curves)
    )


def _latest(curves: Sequence[Curve]) -> float:
    return max(float(curve.x.max()) for curve in curves)


def _ends(curves: Sequence[Curve]) -> str:
    """Each curve's label and the last value that is known."""
    last = [(curve.label, curve.y[~np.isnan(curve.y)][-1:]) for curve in curves]
    return ", ".join(f"{label} {number(float(y[0]) if len(y) else None)}" for label, y in last)


def _p(p: float | None) -> str:
    text = p_value(p)
    return text if text[0] == "<" or p is None else f"= {text}"


def _group_label(curve: Curve, groups: RiskGroups | None) -> str:
    """What a legend says of a group; its own label, where only the curve is known."""
    for group in () if groups is None else groups.groups:
        if curve.name.endswith(f"_{group.name}"):
            return f"{group.name} risk: {format_count(group.n, 'patient')}, {group.events} with the event"
    return curve.label


def _at_risk(groups: RiskGroups, time: Axis) -> tuple[Row, ...]:
    places = [time.between(t, charts.LEFT, charts.RIGHT) for t in groups.times]
    return tuple(
        Row(group.name, tuple((x, str(count)) for x, count in zip(places, group.at_risk, strict=True)))
        for group in groups.groups
    )


def _cutoffs(results: Sequence[Evaluation]) -> str:
    """Where the groups were divided: once, where all models say the same."""
    said = list(dict.fromkeys(result.risk_groups.cutoff for result in results if result.risk_groups is not None))
    if not said:
        return ""
    if len(said) == 1:
        return f"Divided at: {said[0]}."
    if all("which these patients chose" in cutoff for cutoff in said):
        return "Divided at the median of each model’s out-of-fold risks, which these patients chose."
    return f"Divided at: {'; '.join(said)}."


def _overlay_calibration(results: Sequence[Evaluation], baselines: Collection[str]) -> tuple[Chart, ...]:
    there = _select_curves(results, "calibration")
    if not there:
        return ()
    lines = []
    for i, one, curves in there:
        name, is_baseline = model_label(one.model), one.model in baselines
        if (smooth := curves.get("calibration_smooth")) is not None:
            lines.append(_of_model(charts.line(smooth, charts.UNIT, label=name), i, is_baseline))
        if (groups := curves.get("calibration")) is not None:
            lines.append(_of_model(charts.line(groups, charts.UNIT, label=name, dots=True), i, is_baseline))
    chart = Chart(
        title="Calibration",
        subtitle=_by(next((curves["calibration"] for _, _, curves in there if "calibration" in curves), None)),
        description="Calibration. " + " ".join(_speak_calibration(one, curves) for _, one, curves in there),
        x_label="Predicted probability",
        y_label="Observed proportion",
        lines=tuple(lines),
        overlay=True,
        diagonal=True,
    )
    return (chart,)


def _speak_calibration(result: Evaluation, curves: Mapping[str, Curve]) -> str:
    groups = curves.get("calibration")
    points = () if groups is None else zip(groups.x, groups.y, strict=True)
    said = "; ".join(f"{number(x)} predicted, {number(y)} observed" for x, y in points)
    return f"{model_label(result.model)}: {said}."


def _by(groups: Curve | None) -> str:
    """For a time to an event: by when it is predicted, which the curve's label says."""
    _, by, rest = ("", "", "") if groups is None else groups.label.partition(" by ")
    return f"Event by {rest.partition(' in ')[0]}" if by else ""


def _overlay_decision(results: Sequence[Evaluation], baselines: Collection[str]) -> tuple[Chart, ...]:
    there = [row for row in _select_curves(results, "net_benefit") if "net_benefit" in row[2]]
    if not there:
        return ()
    known = [y for _, _, curves in there for curve in curves.values() for y in curve.y[~np.isnan(curve.y)].tolist()]
    benefit = Axis.over([-HARM * max(0.01, *known), max(0.01, *known)], about=4)
    everybody = next((curves["net_benefit_all"] for _, _, curves in there if "net_benefit_all" in curves), None)
    reference = [] if everybody is None else [charts.line(everybody, charts.UNIT, benefit)]
    lines = [
        _of_model(
            charts.line(curves["net_benefit"], charts.UNIT, benefit, label=model_label(one.model)),
            i,
            one.model in baselines,
        )
        for i, one, curves in there
    ]
    chart = Chart(
        title="Decision curves",
        subtitle="",
        description="Decision curves, net benefit. "
        + " ".join(_speak_decision(one, curves) for _, one, curves in there),
        x_label="Threshold probability",
        y_label="Net benefit",
        y_ticks=charts.y_ticks(benefit),
        lines=(*reference, *lines),
        overlay=True,
        level=benefit.between(0.0, charts.BOTTOM, charts.TOP),
    )
    return (chart,)


def _speak_decision(result: Evaluation, curves: Mapping[str, Curve]) -> str:
    model, everybody = curves["net_benefit"], curves.get("net_benefit_all")
    said = "; ".join(
        f"at {x:g} {number(model.y[i])}{f' (all {number(everybody.y[i])})' if everybody else ''}"
        for i, x in enumerate(model.x)
        if x in SPOKEN
    )
    return f"{model_label(result.model)}: {said}."


def _primary(result: Evaluation) -> str:
    return f"{metric_label(result.primary_metric.metric)} {measure(result.headline)}"


def _pooled(result: Evaluation) -> str:
    name = result.endpoint_class.primary_metric
    return f"{metric_label(name)} {measure(result.get(name))}"
