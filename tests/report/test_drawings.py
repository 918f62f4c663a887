"""What is drawn, read back from the SVG: a unit of the page's drawings is 0.7 points."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from skimage.io import imread

from twobe3.core.mip import png
from twobe3.report import charts
from twobe3.report.charts import Chart, Line, forest
from twobe3.report.drawings import LINE, POINTS, Drawing, ForestLabel, draw_cases, draw_charts, draw_forest, draw_strips
from twobe3.report.mips import Picture
from twobe3.report.patients import Case, CaseGroup, CaseMap

NAMES = {"svg": "http://www.w3.org/2000/svg", "dc": "http://purl.org/dc/elements/1.1/"}
HOSTILE = "<script>alert('$x^2$ & \"PET\"')</script>"
PATH = f"M{charts.LEFT:g} {charts.BOTTOM:g}L{charts.RIGHT:g} {charts.TOP:g}"
CHART = Chart("model", "AUC 0.80", "a description", "1 − specificity", "Sensitivity", (Line("m", PATH, series=0),))


def texts(drawing: Drawing) -> list[str]:
    return [element.text or "" for element in root(drawing).iterfind(".//svg:text", NAMES)]


def root(drawing: Drawing) -> ElementTree.Element:
    return ElementTree.fromstring(drawing.svg)


def paths(drawing: Drawing, colour: str) -> list[list[tuple[float, float]]]:
    """The vertices of every path that is drawn in this colour."""
    found = [
        p.attrib for p in root(drawing).iterfind(".//svg:path", NAMES) if f"stroke: {colour}" in p.get("style", "")
    ]
    return [[(float(x), float(y)) for x, y in re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path["d"])] for path in found]


def test_a_curve_lies_where_the_page_has_it() -> None:
    (curve,) = paths(draw_charts("ROC curves", [CHART]), "#0b6392")
    head = 2 * LINE + 4
    expected = [(charts.LEFT, charts.BOTTOM + head), (charts.RIGHT, charts.TOP + head)]
    assert np.array(curve) == pytest.approx(POINTS * np.array(expected), abs=1e-3)


def test_charts_stand_three_in_a_row() -> None:
    one, four = (root(draw_charts("t", [CHART] * n)) for n in (1, 4))
    assert float(four.attrib["width"][:-2]) == pytest.approx(3 * float(one.attrib["width"][:-2]), abs=0.01)
    assert float(four.attrib["height"][:-2]) == pytest.approx(2 * float(one.attrib["height"][:-2]), abs=0.01)


def test_letters_stay_letters_and_are_never_markup_or_formula() -> None:
    chart = replace(CHART, title="t", x_label=HOSTILE, lines=(Line("<b>$x$</b>", PATH), Line("b", PATH)))
    drawing = draw_charts(HOSTILE, [chart])
    assert {HOSTILE, "<b>$x$</b>"} <= set(texts(drawing))  # axis and key
    assert root(drawing).findtext(".//dc:title", namespaces=NAMES) == HOSTILE
    assert root(drawing).find(".//svg:script", NAMES) is None
    assert b"<script" not in drawing.svg


def test_numbers_at_risk_and_the_key_are_written() -> None:
    below = (charts.Row("low", ((charts.LEFT, "17"),)), charts.Row("high", ((charts.LEFT, "12"),)))
    chart = replace(CHART, lines=(Line("low risk", PATH), Line("high risk", PATH)), below=below)
    assert {"At risk", "17", "12", "low risk", "high risk"} <= set(texts(draw_charts("t", [chart])))


def test_the_same_figure_gives_the_same_bytes_whatever_the_style_of_the_user() -> None:
    first = draw_charts("t", [CHART])
    before = mpl.rcParams["font.size"]
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "lines.linewidth": 9, "savefig.facecolor": "red"}):
        assert draw_charts("t", [CHART]) == first
        assert mpl.rcParams["font.size"] == 30
    assert mpl.rcParams["font.size"] == before


def test_a_pdf_has_its_fonts_and_no_date() -> None:
    pdf = draw_charts("t", [CHART]).pdf
    assert pdf.startswith(b"%PDF")
    assert b"/FontFile2" in pdf  # an embedded TrueType font
    assert b"/Type3" not in pdf
    assert b"Date" not in pdf


def test_a_letter_that_the_font_lacks_stops_nothing() -> None:
    assert "転移" in texts(draw_charts("t", [replace(CHART, title="転移")]))


def test_a_forest_plot_has_a_line_for_each_interval_that_there_is() -> None:
    rows = forest([(0.8, 0.7, 0.9), (0.6, None, None), (None, None, None)], neutral=0.5)
    labels = [ForestLabel("a", "0.80 (0.70–0.90)"), ForestLabel("b", "0.60", hollow=True), ForestLabel("c", "none")]
    drawing = draw_forest("AUC", rows, labels)
    assert {"a", "b", "c", "0.80 (0.70–0.90)", "AUC"} <= set(texts(drawing))
    lines = [path for path in paths(drawing, "#1a1a1a") if len(path) == 2 and path[0][1] == path[1][1]]
    widths = sorted(path[1][0] - path[0][0] for path in lines)
    interval = rows.rows[0]
    assert interval.low is not None
    assert interval.high is not None
    assert widths[0] == pytest.approx(POINTS * (interval.high - interval.low), abs=1e-3)
    assert len(lines) == 2  # the interval and the axis
    circles = root(drawing).findall(".//svg:use", NAMES)
    assert len(circles) == 2


def test_an_overlay_names_each_curve_once_and_a_reference_is_grey() -> None:
    points = Line("m", "", dots=((100.0, 100.0, 90.0, 110.0),), series=0)
    lines = (Line("m", PATH, series=0), points, Line("act on all", PATH))
    drawing = draw_charts("t", [replace(CHART, overlay=True, lines=lines)])
    assert texts(drawing).count("m") == texts(drawing).count("act on all") == 1
    assert len(paths(drawing, "#8c8c8c")) == 2  # the curve and its sample in the key


def test_series_repeat_colours_after_eight_and_dashes_tell_them_apart() -> None:
    lines = (Line("a", PATH, series=1), Line("b", PATH, series=9, dash=2))
    drawing = draw_charts("t", [replace(CHART, overlay=True, lines=lines)])
    styles = [
        p.get("style", "") for p in root(drawing).iterfind(".//svg:path", NAMES) if "#b8480b" in p.get("style", "")
    ]
    assert len(styles) == 4
    assert sum("dasharray" in style for style in styles) == 2


def test_values_are_dots_along_their_axis_with_outliers_hollow() -> None:
    drawing = draw_strips("Quality", [("Dose (MBq)", charts.strip([1.0, 2.0, 3.0, 9.0], (0.0, 5.0)))])
    marks = root(drawing).findall(".//svg:use", NAMES)
    assert len(marks) == 4
    assert sum("fill: #ffffff" in mark.get("style", "") for mark in marks) == 1
    assert "Dose (MBq)" in texts(drawing)


def test_patients_have_one_scale_their_own_shades_and_the_outline_in_its_place() -> None:
    shades = np.linspace(0, 255, 12, dtype=np.uint8).reshape(3, 4)
    uri = "data:image/png;base64," + base64.b64encode(png(shades)).decode()
    pictures = (Picture("front", uri, 80.0, 40.0, "M20 10H60"), Picture("side", uri, 40.0, 40.0, "M0 10V30"))
    case = Case("pa-1", ("with the event",), pictures)
    drawing = draw_cases("Patients", [CaseGroup("Best", "why", (case,))])
    images = root(drawing).findall(".//svg:image", NAMES)
    wide, narrow = (float(image.attrib["transform"].split("(")[1].split()[0]) for image in images)
    assert wide / narrow == pytest.approx(2.0, rel=1e-3)
    data = images[0].attrib["{http://www.w3.org/1999/xlink}href"].partition(",")[2]
    np.testing.assert_array_equal(imread(io.BytesIO(base64.b64decode(data)))[..., 0], shades)
    assert {"R", "L", "A", "P", "pa-1", "with the event", "Best: why"} <= set(texts(drawing))
    (left, right), (top, bottom) = paths(drawing, "#d55e00")
    unit = (right[0] - left[0]) / 40  # points per mm: the first runs over 40 mm, the second over 20
    assert left[1] == right[1] == top[1]
    assert top[0] == bottom[0]
    assert bottom[1] - top[1] == pytest.approx(20 * unit, rel=1e-3)


def test_a_map_lies_over_its_picture_and_says_that_it_failed() -> None:
    grey = "data:image/png;base64," + base64.b64encode(png(np.zeros((3, 4), dtype=np.uint8))).decode()
    colours = np.zeros((3, 4, 4), dtype=np.uint8)
    colours[1, 2] = (230, 97, 1, 200)
    over = "data:image/png;base64," + base64.b64encode(png(colours)).decode()
    plain, mapped = Picture("front", grey, 40.0, 30.0, ""), Picture("front", grey, 40.0, 30.0, "", over)
    case = Case("pa-1", ("line",), (plain,), (CaseMap("Occlusion of m", False, ("deletion 0.1",), (mapped,)),))
    drawing = draw_cases("Patients", [CaseGroup("Best", "why", (case,))])
    assert {"Occlusion of m: failed", "deletion 0.1"} <= set(texts(drawing))
    images = root(drawing).findall(".//svg:image", NAMES)
    assert len(images) == 3
    data = images[2].attrib["{http://www.w3.org/1999/xlink}href"].partition(",")[2]
    np.testing.assert_array_equal(imread(io.BytesIO(base64.b64decode(data)))[1, 2], colours[1, 2])
