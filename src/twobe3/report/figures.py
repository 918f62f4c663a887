"""Which charts an endpoint gets, from its models' curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twobe3.core.counts import format_count
from twobe3.evaluation.results import Curve, Evaluation, RiskGroups
from twobe3.report import charts
from twobe3.report.charts import Axis, Chart, Line, Row
from twobe3.report.wording import measure, metric_label, number, p_value

SPOKEN = (0.1, 0.2, 0.3, 0.4, 0.5)
HARM = 0.25  # how far below 0 a decision curve is drawn, of its greatest height


@dataclass(frozen=True)
class Figure:
    """The charts of one kind, one for each model."""

    heading: str
    caption: str
    charts: tuple[Chart, ...]


def figures(results: Sequence[Evaluation], unit: str) -> tuple[Figure, ...]:
    """The figures of one endpoint that its curves allow, from its models in the order to show."""
    smooth = any(_curves(result, "calibration_smooth") for result in results)
    smoothed = ", and smoothed, with a 95 % band" if smooth else ""
    made = (
        Figure(
            "ROC curves",
            "Sensitivity against 1 − specificity, each model in colour and the others in grey. The diagonal is chance. "
            "The area under a curve is the AUC of all pairs of patients.",
            _roc_charts(results),
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
        Figure(
            "Calibration",
            "Observed proportion against predicted probability, in groups of patients with similar predictions, with "
            f"95 % intervals{smoothed}. On the diagonal, predictions are right on average.",
            tuple(_calibration(result) for result in results if _curves(result, "calibration")),
        ),
        Figure(
            "Decision curves",
            "Net benefit of acting on the patients whose probability reaches the threshold: true positives per "
            "patient, less the false ones times the odds of the threshold, with a 95 % band. The model is of use where "
            "its curve lies above both acting on all and acting on none (0).",
            tuple(_decision(result) for result in results if _curves(result, "net_benefit")),
        ),
    )
    return tuple(figure for figure in made if figure.charts)


def _curves(result: Evaluation, name: str) -> tuple[Curve, ...]:
    """The curves of one kind; a curve may be named after its group or its making as well."""
    return tuple(curve for curve in result.curves if curve.name == name or curve.name.startswith(f"{name}_"))


def _roc_charts(results: Sequence[Evaluation]) -> tuple[Chart, ...]:
    drawn = {r.model: [charts.line(c, charts.UNIT) for c in _curves(r, "roc")] for r in results if _curves(r, "roc")}
    return tuple(
        Chart(
            title=result.model,
            subtitle=_pooled(result),
            description=f"ROC curve of {result.model}, {_pooled(result)}; the other models in grey.",
            x_label="1 − specificity",
            y_label="Sensitivity",
            lines=tuple(drawn[result.model]),
            ghosts=tuple(line.path for model, lines in drawn.items() if model != result.model for line in lines),
            diagonal=True,
        )
        for result in results
        if result.model in drawn
    )


def _kaplan_meier(result: Evaluation, unit: str) -> Chart:
    curves, groups = _curves(result, "kaplan_meier"), result.risk_groups
    latest = _latest(curves)
    time = Axis.over([0.0, latest]) if groups is None else Axis(0.0, max(latest, groups.times[-1]), groups.times)
    below = () if groups is None else _at_risk(groups, time)
    spoken = "".join(f"; at risk, {row.label}: {', '.join(text for _, text in row.numbers)}" for row in below)
    return Chart(
        title=result.model,
        subtitle=_primary(result) if groups is None else f"{_primary(result)}; log-rank p {_p(groups.p)}",
        description=f"Kaplan–Meier curves of {result.model}, {_primary(result)}; at the end: {_ends(curves)}{spoken}.",
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
        title=result.model,
        subtitle=_primary(result),
        description=f"Cumulative incidence by the risk of {result.model}; at the end: {_ends(curves)}.",
        x_label=_time_label(unit),
        y_label="With the event",
        x_ticks=charts.x_ticks(time),
        lines=_steps(curves, time, result.risk_groups),
    )


def _time_label(unit: str) -> str:
    return f"Time ({unit}s)" if unit else "Time"


def _steps(curves: Sequence[Curve], time: Axis, groups: RiskGroups | None) -> tuple[Line, ...]:
    """Step curves over the follow-up."""
    return tuple(charts.line(curve, time, label=_group_label(curve, groups), step=True) for curve in curves)


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


def _calibration(result: Evaluation) -> Chart:
    curves = {curve.name: curve for curve in _curves(result, "calibration")}
    groups, smooth = curves.get("calibration"), curves.get("calibration_smooth")
    points = "; ".join(
        f"{number(x)} predicted, {number(y)} observed"
        for x, y in (zip(groups.x, groups.y, strict=True) if groups else ())
    )
    lines = [charts.line(groups, charts.UNIT, label="groups", dots=True)] if groups else []
    lines += [charts.line(smooth, charts.UNIT, label="smoothed")] if smooth else []
    return Chart(
        title=result.model,
        subtitle=f"Brier score {measure(brier)}" if (brier := result.get("brier")) else _by(groups),
        description=f"Calibration of {result.model}: {points}.",
        x_label="Predicted probability",
        y_label="Observed proportion",
        lines=tuple(lines),
        diagonal=True,
    )


def _by(groups: Curve | None) -> str:
    """For a time to an event: by when it is predicted, which the curve's label says."""
    _, by, rest = ("", "", "") if groups is None else groups.label.partition(" by ")
    return f"Event by {rest.partition(' in ')[0]}" if by else ""


def _decision(result: Evaluation) -> Chart:
    curves = {curve.name: curve for curve in _curves(result, "net_benefit")}
    model, everybody = curves["net_benefit"], curves.get("net_benefit_all")
    highest = max([0.01, *(y for curve in curves.values() for y in curve.y[~np.isnan(curve.y)].tolist())])
    benefit = Axis.over([-HARM * highest, highest], about=4)
    named = [(model, "act on the model"), *([(everybody, everybody.label)] if everybody else [])]
    values = "; ".join(
        f"at {x:g} {number(model.y[i])}{f' (all {number(everybody.y[i])})' if everybody else ''}"
        for i, x in enumerate(model.x)
        if x in SPOKEN
    )
    return Chart(
        title=result.model,
        subtitle=_primary(result),
        description=f"Decision curve of {result.model}: net benefit {values}.",
        x_label="Threshold probability",
        y_label="Net benefit",
        y_ticks=charts.y_ticks(benefit),
        lines=tuple(charts.line(curve, charts.UNIT, benefit, label=label) for curve, label in named),
        level=benefit.between(0.0, charts.BOTTOM, charts.TOP),
    )


def _primary(result: Evaluation) -> str:
    return f"{metric_label(result.primary_metric.metric)} {measure(result.headline)}"


def _pooled(result: Evaluation) -> str:
    name = result.endpoint_class.primary_metric
    return f"{metric_label(name)} {measure(result.get(name))}"
