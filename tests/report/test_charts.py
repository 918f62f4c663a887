from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from twobe3.core.outcomes import Kind
from twobe3.evaluation.results import Curve, Evaluation, Group, MetricValue, PrimaryMetric, RiskGroups
from twobe3.report.charts import BOTTOM, FOREST_MARGIN, FOREST_WIDTH, HEIGHT, LEFT, RIGHT, TOP, Axis, forest
from twobe3.report.figures import COLOURS, DASHES, figures, series_dash


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


def curve(name: str, label: str, x: Sequence[float], y: Sequence[float], *limits: Sequence[float]) -> Curve:
    return Curve(name, label, *(np.array(values, dtype=float) for values in (x, y, *limits)))


def result(*curves: Curve, kind: Kind = "binary") -> Evaluation:
    name = "auc" if kind == "binary" else "harrell_c"
    metric = MetricValue(name, 0.75, 0.6, 0.9, 9, 4, "how", 0)
    return Evaluation("e", kind, "m", 9, 4, 0, 1, PrimaryMetric(name, "why"), (metric,), curves)


def test_roc_curve_runs_from_corner_to_corner() -> None:
    roc = curve("roc", "m", (0.0, 0.5, 1.0), (0.0, 1.0, 1.0))
    (figure,) = figures([result(roc)], "")
    (chart,) = figure.charts
    assert chart.lines[0].path == f"M{LEFT:g} {BOTTOM:g}L{(LEFT + RIGHT) / 2:g} {TOP:g}L{RIGHT:g} {TOP:g}"
    assert chart.lines[0].band == ""
    assert chart.diagonal
    assert "0.75 (0.60–0.90)" in chart.description


def test_survival_falls_in_steps_and_stops_where_unknown() -> None:
    falling = curve("kaplan_meier", "all", (0.0, 5.0, 10.0), (1.0, 0.5, np.nan))
    (figure,) = figures([result(falling, kind="time-to-event")], "day")
    (chart,) = figure.charts
    middle, half = (LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2
    assert chart.lines[0].path == f"M{LEFT:g} {TOP:g}L{middle:g} {TOP:g}L{middle:g} {half:g}"
    assert chart.x_label == "Time (days)"


def test_an_overlay_has_the_curves_of_all_models_and_dashes_those_of_baselines() -> None:
    roc = curve("roc", "m", (0.0, 1.0), (0.0, 1.0))
    results = [replace(result(roc), model=name) for name in ("a", "suvmax (contour)", "c")]
    results[2] = replace(results[2], curves=())
    (figure,) = figures(results, "", {"suvmax (contour)"})
    (chart,) = figure.charts
    assert chart.overlay
    drawn = [(line.label, line.series, line.dash) for line in chart.lines]
    assert drawn == [("a", 0, 0), ("SUVmax in the contour", 1, 1)]
    assert "SUVmax in the contour: AUC 0.75 (0.60–0.90)" in chart.description


def test_where_colours_repeat_the_dashes_differ() -> None:
    looks = {(i % COLOURS, series_dash(i, is_baseline)) for i in range(2 * COLOURS) for is_baseline in (False, True)}
    assert len(looks) == 4 * COLOURS
    assert {dash for _, dash in looks} == set(range(DASHES))


def test_no_curves_no_figures() -> None:
    assert figures([result()], "") == ()


def test_numbers_at_risk_stand_under_their_times() -> None:
    curves = [curve(f"kaplan_meier_{g}", g, (0.0, 10.0), (1.0, 0.5)) for g in ("low", "high")]
    groups = tuple(Group(name, n, 1, (n, 1)) for name, n in (("low", 7), ("high", 5)))
    divided = RiskGroups("c", None, (0.0, 5.0), groups)
    (figure,) = figures([replace(result(*curves, kind="time-to-event"), risk_groups=divided)], "day")
    (chart,) = figure.charts
    middle = (LEFT + RIGHT) / 2
    assert [row.numbers for row in chart.below] == [((LEFT, "7"), (middle, "1")), ((LEFT, "5"), (middle, "1"))]
    assert chart.x_ticks == ((LEFT, "0"), (middle, "5"))
    assert [line.label for line in chart.lines] == [
        "low risk: 7 patients, 1 with the event",
        "high risk: 5 patients, 1 with the event",
    ]
    assert chart.height > HEIGHT
    assert "log-rank p not estimable" in chart.subtitle
    assert "at risk, low: 7, 1" in chart.description


def test_a_decision_curve_stops_where_it_leaves_the_drawing() -> None:
    model = curve("net_benefit", "m", (0.1, 0.5, 0.9), (0.4, -9.0, 0.0), (0.3, -9, 0), (0.4, 0, 0))
    everybody = curve("net_benefit_all", "act on all by 9 days", (0.1, 0.5, 0.9), (0.4, -0.1, -9.0))
    (figure,) = figures([result(model, everybody)], "")
    (chart,) = figure.charts
    of_all, own = chart.lines
    assert (of_all.series, own.series) == (None, 0)
    assert own.path.count("M") == 2  # before and after
    assert of_all.path.count("M") == 1
    assert of_all.label == "act on all by 9 days"
    assert chart.level is not None
    assert TOP < chart.level < BOTTOM
    assert all(TOP <= float(pair.split()[1].rstrip("Z")) <= BOTTOM for pair in own.band[1:].split("L"))
    assert "at 0.1 0.40 (all 0.40)" in chart.description


def test_competing_events_bring_a_figure_of_incidence() -> None:
    incidence = curve("cumulative_incidence_low", "low", (0.0, 5.0), (0.0, 0.3))
    (figure,) = figures([result(incidence, kind="time-to-event")], "day")
    assert figure.heading == "Cumulative incidence by predicted risk"
    assert figure.charts[0].lines[0].label == "low"


def test_a_smooth_calibration_is_a_line_beside_the_dots_of_the_groups() -> None:
    groups = curve("calibration", "g", (0.2, 0.8), (0.1, 0.9), (0.0, 0.6), (0.4, 1.0))
    smooth = curve("calibration_smooth", "s", (0.2, 0.8), (0.2, 0.7))
    (figure,) = figures([result(groups, smooth)], "")
    line, dots = figure.charts[0].lines
    assert (len(dots.dots), dots.path) == (2, "")
    assert (line.dots, line.path.count("L")) == ((), 1)
    assert "smoothed" in figure.caption
    (alone,) = figures([result(replace(groups, label="observed by 24 months in 2 groups"))], "")
    assert "smoothed" not in alone.caption
    assert alone.charts[0].subtitle == "Event by 24 months"
