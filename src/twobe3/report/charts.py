"""Geometry of the figures, which the template writes as inline SVG: no script, and the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

from twobe3.report.records import Curve, ModelResult
from twobe3.report.wording import endpoint_metric, measure, metric_label, number

# The drawing's own units; the page scales the whole.
WIDTH, HEIGHT = 248.0, 226.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 234.0, 8.0, 188.0
FOREST_WIDTH = 190.0
FOREST_MARGIN = 10.0

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A linear axis from ``low`` to ``high`` with ticks at round numbers."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, values: Iterable[float], about: int = 4) -> Axis:
        """An axis that holds every value, beginning and ending at a tick, with about so many intervals."""
        values = list(values)
        low, high = min(values), max(values)
        span = high - low or 1.0
        magnitude = 10.0 ** math.floor(math.log10(span / about))
        step = next(step for m in (1, 2, 5, 10) if (step := m * magnitude) * about >= span * (1 - 1e-9))
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        last = max(last, first + 1)
        ticks = tuple(round(i * step, 10) for i in range(first, last + 1))
        return cls(ticks[0], ticks[-1], ticks)

    def between(self, value: float, start: float, end: float) -> float:
        """Where the value lies when the axis is drawn from ``start`` to ``end``."""
        return round(start + (value - self.low) / (self.high - self.low) * (end - start), 1)


UNIT = Axis.over((0.0, 1.0), about=5)


@dataclass(frozen=True)
class ForestRow:
    """One value with its interval; positions along the drawing, None where not estimable."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Forest:
    """Values and intervals under one another on a common axis."""

    ticks: tuple[tuple[float, str], ...]
    neutral: float
    rows: tuple[ForestRow, ...]
    width: float = FOREST_WIDTH


def forest(values: Sequence[tuple[float | None, float | None, float | None]], neutral: float) -> Forest:
    """Lay out a forest plot.

    Parameters
    ----------
    values : sequence of (value, low, high)
        One for each row; None where not estimable.
    neutral : float
        The value that means nothing, drawn as a vertical line: 0.5 for an AUC, 0 for a difference.
    """
    axis = Axis.over([neutral, *(v for row in values for v in row if v is not None)], about=3)

    def place(value: float | None) -> float | None:
        return None if value is None else axis.between(value, FOREST_MARGIN, FOREST_WIDTH - FOREST_MARGIN)

    return Forest(
        tuple((axis.between(t, FOREST_MARGIN, FOREST_WIDTH - FOREST_MARGIN), number(t, 1)) for t in axis.ticks),
        axis.between(neutral, FOREST_MARGIN, FOREST_WIDTH - FOREST_MARGIN),
        tuple(ForestRow(place(value), place(low), place(high)) for value, low, high in values),
    )


@dataclass(frozen=True)
class Line:
    """A drawn curve: SVG path data, an optional band, and dots with their intervals."""

    label: str
    path: str
    band: str = ""
    dots: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True)
class Chart:
    """One figure of one model."""

    title: str
    subtitle: str
    description: str
    x_label: str
    y_label: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    lines: tuple[Line, ...]
    ghosts: tuple[str, ...] = ()
    diagonal: bool = False


@dataclass(frozen=True)
class Figure:
    """The charts of one kind, one for each model."""

    heading: str
    caption: str
    charts: tuple[Chart, ...]


def figures(results: Sequence[ModelResult], unit: str) -> tuple[Figure, ...]:
    """The figures of one endpoint: those of ROC, Kaplan–Meier and calibration that its curves allow.

    Parameters
    ----------
    results : sequence of ModelResult
        The models of one endpoint, in the order to show.
    unit : str
        Unit of the time axis.
    """
    made = (
        Figure(
            "ROC curves",
            "Sensitivity against 1 − specificity, each model in colour and the others in grey. The diagonal is chance.",
            _roc_charts(results),
        ),
        Figure(
            "Kaplan–Meier curves by predicted risk",
            "Estimated proportion without the event in the groups that each model’s risk forms, with 95 % bands.",
            tuple(_kaplan_meier(result, unit) for result in results if _curves(result, "kaplan_meier")),
        ),
        Figure(
            "Calibration",
            "Observed proportion against predicted probability, in groups of patients with similar predictions, with "
            "95 % intervals. On the diagonal, predictions are right on average.",
            tuple(_calibration(result) for result in results if _curves(result, "calibration")),
        ),
    )
    return tuple(figure for figure in made if figure.charts)


def _curves(result: ModelResult, name: str) -> tuple[Curve, ...]:
    """The curves of one kind; a Kaplan–Meier curve may be named after its group as well."""
    return tuple(curve for curve in result.curves if curve.name == name or curve.name.startswith(f"{name}_"))


def _roc_charts(results: Sequence[ModelResult]) -> tuple[Chart, ...]:
    drawn = {r.model: [_line(c, UNIT) for c in _curves(r, "roc")] for r in results if _curves(r, "roc")}
    return tuple(
        Chart(
            title=result.model,
            subtitle=_primary(result),
            description=f"ROC curve of {result.model}, {_primary(result)}; the other models in grey.",
            x_label="1 − specificity",
            y_label="Sensitivity",
            x_ticks=_x_ticks(UNIT),
            y_ticks=_y_ticks(),
            lines=tuple(drawn[result.model]),
            ghosts=tuple(line.path for model, lines in drawn.items() if model != result.model for line in lines),
            diagonal=True,
        )
        for result in results
        if result.model in drawn
    )


def _kaplan_meier(result: ModelResult, unit: str) -> Chart:
    curves = _curves(result, "kaplan_meier")
    time = Axis.over([0.0, *(x for curve in curves for x in curve.x if x is not None)])
    ends = ", ".join(f"{c.label} {number(next((y for y in reversed(c.y) if y is not None), None))}" for c in curves)
    return Chart(
        title=result.model,
        subtitle=_primary(result),
        description=f"Kaplan–Meier curves of {result.model}, {_primary(result)}; at the end: {ends}.",
        x_label=f"Time ({unit}s)" if unit else "Time",
        y_label="Without the event",
        x_ticks=_x_ticks(time),
        y_ticks=_y_ticks(),
        lines=tuple(_line(curve, time, step=True) for curve in curves),
    )


def _calibration(result: ModelResult) -> Chart:
    curves = _curves(result, "calibration")
    points = "; ".join(
        f"{number(x)} predicted, {number(y)} observed"
        for curve in curves
        for x, y in zip(curve.x, curve.y, strict=True)
    )
    return Chart(
        title=result.model,
        subtitle=next((f"Brier score {measure(m)}" for m in result.metrics if m.name == "brier"), ""),
        description=f"Calibration of {result.model}: {points}.",
        x_label="Predicted probability",
        y_label="Observed proportion",
        x_ticks=_x_ticks(UNIT),
        y_ticks=_y_ticks(),
        lines=tuple(_line(curve, UNIT, dots=True) for curve in curves),
        diagonal=True,
    )


def _primary(result: ModelResult) -> str:
    metric = endpoint_metric(result)
    return f"{metric_label(metric.name)} {measure(metric)}"


def _x_ticks(axis: Axis) -> tuple[tuple[float, str], ...]:
    return tuple((axis.between(tick, LEFT, RIGHT), f"{tick:g}") for tick in axis.ticks)


def _y_ticks() -> tuple[tuple[float, str], ...]:
    return tuple((UNIT.between(tick, BOTTOM, TOP), f"{tick:g}") for tick in UNIT.ticks)


def _line(curve: Curve, x_axis: Axis, *, step: bool = False, dots: bool = False) -> Line:
    def place(x: float, y: float) -> Point:
        return x_axis.between(x, LEFT, RIGHT), UNIT.between(min(max(y, 0.0), 1.0), BOTTOM, TOP)

    middle = [place(x, y) for x, y in zip(curve.x, curve.y, strict=True) if x is not None and y is not None]
    interval = [
        (place(x, low), place(x, high))
        for x, low, high in zip(curve.x, curve.low or (), curve.high or (), strict=False)
        if x is not None and low is not None and high is not None
    ]
    if dots:
        spread = {lower[0]: (lower[1], upper[1]) for lower, upper in interval}
        return Line(curve.label, _path(middle), dots=tuple((x, y, *spread.get(x, (y, y))) for x, y in middle))
    band = ""
    if interval:
        lower = _corners([low for low, _ in interval], step)
        upper = _corners([high for _, high in interval], step)
        band = _path([*upper, *reversed(lower)]) + "Z"
    return Line(curve.label, _path(_corners(middle, step)), band)


def _corners(points: Sequence[Point], step: bool) -> list[Point]:
    """The points themselves or, for a step function, with the corner before each fall."""
    if not step:
        return list(points)
    falls = [((x, y_before), (x, y)) for (_, y_before), (x, y) in pairwise(points)]
    return [*points[:1], *chain.from_iterable(falls)]


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) if points else ""
