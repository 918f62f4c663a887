from __future__ import annotations

import pytest

from twobe3.report.charts import BOTTOM, FOREST_MARGIN, FOREST_WIDTH, LEFT, RIGHT, TOP, Axis, figures, forest
from twobe3.report.records import Curve, Metric, ModelResult


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((0.0, 1.0), (0.0, 0.5, 1.0)),
        ((0.47, 0.93), (0.4, 0.6, 0.8, 1.0)),
        ((-0.12, 0.21), (-0.2, 0.0, 0.2, 0.4)),
        ((0.0, 2738.0), (0.0, 1000.0, 2000.0, 3000.0)),
        ((3.0, 3.0), (3.0, 3.5)),
    ],
)
def test_axis_has_round_ticks_around_the_values(values: tuple[float, float], ticks: tuple[float, ...]) -> None:
    axis = Axis.over(values, about=3)
    assert axis.ticks == pytest.approx(ticks)
    assert axis.low <= min(values) <= max(values) <= axis.high


def test_forest_keeps_order_and_leaves_out_what_is_not_estimable() -> None:
    drawn = forest([(0.8, 0.7, 0.9), (None, None, None)], neutral=0.5)
    first, second = drawn.rows
    assert first.low is not None
    assert first.value is not None
    assert first.high is not None
    assert FOREST_MARGIN <= drawn.neutral < first.low < first.value < first.high <= FOREST_WIDTH - FOREST_MARGIN
    assert (second.value, second.low, second.high) == (None, None, None)


def result(*curves: Curve, kind: str = "binary") -> ModelResult:
    metric = Metric(name="auc" if kind == "binary" else "harrell_c", value=0.75, low=0.6, high=0.9)
    return ModelResult.model_validate(
        {"endpoint": "e", "kind": kind, "model": "m", "n": 9, "repeats": 1, "metrics": [metric], "curves": curves}
    )


def test_roc_curve_runs_from_corner_to_corner() -> None:
    curve = Curve(name="roc", label="m", x=(0.0, 0.5, 1.0), y=(0.0, 1.0, 1.0))
    (figure,) = figures([result(curve)], "")
    (chart,) = figure.charts
    assert chart.lines[0].path == f"M{LEFT:g} {BOTTOM:g}L{(LEFT + RIGHT) / 2:g} {TOP:g}L{RIGHT:g} {TOP:g}"
    assert chart.lines[0].band == ""
    assert chart.diagonal
    assert "0.75 (0.60–0.90)" in chart.description


def test_survival_falls_in_steps_and_stops_where_unknown() -> None:
    curve = Curve(name="kaplan_meier", label="all", x=(0.0, 5.0, 10.0), y=(1.0, 0.5, None))
    (figure,) = figures([result(curve, kind="time-to-event")], "day")
    (chart,) = figure.charts
    middle, half = (LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2
    assert chart.lines[0].path == f"M{LEFT:g} {TOP:g}L{middle:g} {TOP:g}L{middle:g} {half:g}"
    assert chart.x_label == "Time (days)"


def test_others_are_ghosts_of_a_roc_curve() -> None:
    curve = Curve(name="roc", label="m", x=(0.0, 1.0), y=(0.0, 1.0))
    results = [result(curve).model_copy(update={"model": name}) for name in "abc"]
    (figure,) = figures(results, "")
    assert [len(chart.ghosts) for chart in figure.charts] == [2, 2, 2]


def test_no_curves_no_figures() -> None:
    assert figures([result()], "") == ()
