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

from twobe3.report import charts
from twobe3.report.charts import Chart, Line, forest
from twobe3.report.drawings import LINE, POINTS, Drawing, ForestLabel, draw_charts, draw_forest, draw_pictures
from twobe3.report.mips import Picture, png

NAMES = {"svg": "http://www.w3.org/2000/svg", "dc": "http://purl.org/dc/elements/1.1/"}
HOSTILE = "<script>alert('$x^2$ & \"PET\"')</script>"
PATH = f"M{charts.LEFT:g} {charts.BOTTOM:g}L{charts.RIGHT:g} {charts.TOP:g}"
CHART = Chart("model", "AUC 0.80", "a description", "1 − specificity", "Sensitivity", (Line("m", PATH),))


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
    (curve,) = paths(draw_charts("ROC curves", [CHART]), "#0072b2")
    head = 2 * LINE + 4
    expected = [(charts.LEFT, charts.BOTTOM + head), (charts.RIGHT, charts.TOP + head)]
    assert np.array(curve) == pytest.approx(POINTS * np.array(expected), abs=1e-3)


def test_charts_stand_three_in_a_row() -> None:
    one, four = (root(draw_charts("t", [CHART] * n)) for n in (1, 4))
    assert float(four.attrib["width"][:-2]) == pytest.approx(3 * float(one.attrib["width"][:-2]), abs=0.01)
    assert float(four.attrib["height"][:-2]) == pytest.approx(2 * float(one.attrib["height"][:-2]), abs=0.01)


def test_letters_stay_letters_and_are_never_markup_or_formula() -> None:
    chart = replace(CHART, title="t", x_label=HOSTILE, lines=(Line(HOSTILE, PATH), Line("b", PATH)))
    drawing = draw_charts(HOSTILE, [chart])
    assert texts(drawing).count(HOSTILE) == 2  # axis and key
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


def test_pictures_have_one_scale_and_their_own_shades() -> None:
    shades = np.linspace(0, 255, 12, dtype=np.uint8).reshape(3, 4)
    uri = "data:image/png;base64," + base64.b64encode(png(shades)).decode()
    drawing = draw_pictures("Scans", [Picture("wide", uri, 80.0, 40.0), Picture("narrow", uri, 40.0, 40.0)])
    images = root(drawing).findall(".//svg:image", NAMES)
    wide, narrow = (float(image.attrib["transform"].split("(")[1].split()[0]) for image in images)
    assert wide / narrow == pytest.approx(2.0, rel=1e-3)
    data = images[0].attrib["{http://www.w3.org/1999/xlink}href"].partition(",")[2]
    np.testing.assert_array_equal(imread(io.BytesIO(base64.b64decode(data)))[..., 0], shades)
    assert texts(drawing).count("R") == texts(drawing).count("L") == 2
    assert {"wide", "narrow"} <= set(texts(drawing))
