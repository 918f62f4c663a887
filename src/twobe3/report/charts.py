"""Geometry of the figures, which the template writes as inline SVG: no script, and the page's own colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, pairwise
from math import isnan

from twobe3.core.outcomes import FloatArray
from twobe3.evaluation.results import Curve
from twobe3.report.wording import number

# The drawing's own units; the page scales the whole.
WIDTH, HEIGHT = 248.0, 226.0
LEFT, RIGHT, TOP, BOTTOM = 40.0, 234.0, 8.0, 188.0
ROW = 13.0
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


Ticks = tuple[tuple[float, str], ...]


def x_ticks(axis: Axis) -> Ticks:
    """Places and labels along the time or the probability."""
    return _ticks(axis, LEFT, RIGHT)


def y_ticks(axis: Axis) -> Ticks:
    """Places and labels up the side."""
    return _ticks(axis, BOTTOM, TOP)


def _ticks(axis: Axis, start: float, end: float) -> Ticks:
    return tuple((axis.between(tick, start, end), f"{tick:g}".replace("-", "−")) for tick in axis.ticks)


UNIT_X, UNIT_Y = x_ticks(UNIT), y_ticks(UNIT)


@dataclass(frozen=True)
class ForestRow:
    """One value with its interval; positions along the drawing, None where not estimable."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Forest:
    """Values and intervals under one another on a common axis."""

    ticks: Ticks
    neutral: float
    rows: tuple[ForestRow, ...]
    width: float = FOREST_WIDTH


def forest(values: Sequence[tuple[float | None, float | None, float | None]], neutral: float) -> Forest:
    """Lay out a forest plot of (value, low, high), None where not estimable.

    ``neutral`` is the value that means nothing, drawn as a vertical line: 0.5 for an AUC, 0 for a difference.
    """
    axis = Axis.over([neutral, *(v for row in values for v in row if v is not None)], about=3)

    def place(value: float) -> float:
        return axis.between(value, FOREST_MARGIN, FOREST_WIDTH - FOREST_MARGIN)

    rows = (ForestRow(*(None if value is None else place(value) for value in row)) for row in values)
    return Forest(tuple((place(tick), number(tick, 1)) for tick in axis.ticks), place(neutral), tuple(rows))


@dataclass(frozen=True)
class Strip:
    """Values as dots along an axis, (place, whether it is an outlier), and the places of two limits."""

    ticks: Ticks
    dots: tuple[tuple[float, bool], ...]
    limits: tuple[float, ...]
    width: float = FOREST_WIDTH


def strip(values: Sequence[float], limits: tuple[float, float] | None) -> Strip:
    """Lay out values along an axis that holds them; those beyond the limits are outliers."""
    axis = Axis.over(values, about=3)

    def place(value: float) -> float:
        return axis.between(value, FOREST_MARGIN, FOREST_WIDTH - FOREST_MARGIN)

    low, high = (-math.inf, math.inf) if limits is None else limits
    return Strip(
        tuple((place(tick), f"{tick:g}") for tick in axis.ticks),
        tuple((place(value), not low <= value <= high) for value in sorted(values)),
        tuple(place(limit) for limit in (low, high) if axis.low < limit < axis.high),
    )


@dataclass(frozen=True)
class Line:
    """A drawn curve: SVG path data, an optional band, and dots with their intervals.

    ``series`` chooses its colour and, in an overlay, says of which model it is, None of none; ``dash`` how it is drawn:
    0 whole, then three patterns.
    """

    label: str
    path: str
    band: str = ""
    dots: tuple[tuple[float, float, float, float], ...] = ()
    series: int | None = None
    dash: int = 0


@dataclass(frozen=True)
class Row:
    """Numbers under the time axis, and their places along it."""

    label: str
    numbers: Ticks


@dataclass(frozen=True)
class Chart:
    """One figure, of one model or an overlay of several; ``level`` is the height of a line that means nothing."""

    title: str
    subtitle: str
    description: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_ticks: Ticks = UNIT_X
    y_ticks: Ticks = UNIT_Y
    overlay: bool = False
    diagonal: bool = False
    level: float | None = None
    below: tuple[Row, ...] = ()

    @property
    def height(self) -> float:
        """Of the drawing, with the rows of numbers below it."""
        return HEIGHT + (ROW * (len(self.below) + 1) if self.below else 0.0)


def line(
    curve: Curve, x_axis: Axis, y_axis: Axis = UNIT, *, label: str | None = None, step: bool = False, dots: bool = False
) -> Line:
    """Lay out a curve with its band, or with ``dots`` as points with intervals.

    Where a curve lies below the y axis it is not drawn; bands and dots end at it. The label is the curve's own by
    default.
    """
    label = curve.label if label is None else label

    def place(x: float, y: float) -> Point:
        return x_axis.between(x, LEFT, RIGHT), y_axis.between(min(max(y, y_axis.low), y_axis.high), BOTTOM, TOP)

    known = _complete_points(curve.x, curve.y)
    limits = () if curve.low is None or curve.high is None else _complete_points(curve.x, curve.low, curve.high)
    interval = [(place(x, low), place(x, high)) for x, low, high in limits]
    if dots:
        spread = {lower[0]: (lower[1], upper[1]) for lower, upper in interval}
        middle = [place(x, y) for x, y in known]
        return Line(label, "", dots=tuple((x, y, *spread.get(x, (y, y))) for x, y in middle))
    band = ""
    if interval:
        lower = _corners([low for low, _ in interval], step)
        upper = _corners([high for _, high in interval], step)
        band = _path([*upper, *reversed(lower)]) + "Z"
    drawn = groupby(known, key=lambda point: point[1] >= y_axis.low)
    runs = [[place(x, y) for x, y in run] for inside, run in drawn if inside]
    return Line(label, "".join(_path(_corners(run, step)) for run in runs), band)


def _complete_points(*columns: FloatArray) -> list[tuple[float, ...]]:
    """The points at which every column has a number."""
    return [point for point in zip(*(column.tolist() for column in columns), strict=True) if not any(map(isnan, point))]


def _corners(points: Sequence[Point], step: bool) -> list[Point]:
    """The points themselves or, for a step function, with the corner before each fall."""
    if not step:
        return list(points)
    falls = [((x, y_before), (x, y)) for (_, y_before), (x, y) in pairwise(points)]
    return [*points[:1], *chain.from_iterable(falls)]


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) if points else ""
