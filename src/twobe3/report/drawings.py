"""The page's figures for print: the same geometry as on the page, drawn by matplotlib as SVG and PDF."""

from __future__ import annotations

import io
import re
import warnings
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from twobe3.report import charts
from twobe3.report.charts import Chart, Forest, Line, Strip
from twobe3.report.mips import Picture
from twobe3.report.patients import Case, CaseGroup

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.path import Path as Outline
    from matplotlib.transforms import Transform

# One unit of the page's drawings is 0.7 points: three charts fill a page of two columns, 183 mm, in 7-point letters.
POINTS = 0.7
LETTERS = 10.0  # height of the letters, in units of the drawing, like all that follows
LINE = 13.0
CHARTS_ACROSS = 3
CASE_WIDTH = 240.0
ROW_HEIGHT, STRIP_HEIGHT = 18.0, 44.0
MARGIN = 8.0
LETTER_WIDTH = 5.6
TITLE_LETTERS, CASE_LETTERS, KEY_LETTERS = 44, 40, 36  # in a line

# Of a series, as in the page's style sheet on white; a reference, such as "act on all", is grey.
COLOURS = ("#0b6392", "#b8480b", "#2f7d4f", "#8a4aa0", "#8a6a00", "#16808f", "#b03a6b", "#59636c")
DASHES: tuple[Any, ...] = ("solid", (0, (5, 3)), (0, (1.5, 2)), (0, (6, 2, 1.5, 2)))
OUTLINE = "#d55e00"  # of a contour
INK, GREY, PALE = "#1a1a1a", "#8c8c8c", "#d9d9d9"
BAR_MM = 100.0  # of the scale in a picture

# Letters stay letters: an author may change them, and journals ask for embedded TrueType fonts.
STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "svg.fonttype": "none",
    "svg.hashsalt": "twobe3",
    "pdf.fonttype": 42,
    "image.composite_image": False,
}


@dataclass(frozen=True)
class Drawing:
    """One figure in both formats; the same figure gives the same bytes."""

    svg: bytes = field(repr=False)
    pdf: bytes = field(repr=False)

    def _repr_svg_(self) -> str:
        """For a notebook, a unit of the drawing as large as a point."""
        return re.sub(r'(width|height)="([\d.]+)pt"', _enlarge, self.svg.decode(), count=2)


def _enlarge(size: re.Match[str]) -> str:
    return f'{size[1]}="{float(size[2]) / POINTS:.1f}pt"'


@dataclass(frozen=True)
class ForestLabel:
    """What stands beside a row of a forest plot."""

    name: str
    value: str
    hollow: bool = False


def draw_charts(title: str, shown: Sequence[Chart]) -> Drawing:
    """Charts beside and below one another, each under its title, with the key of its lines below it."""
    across = min(CHARTS_ACROSS, len(shown))
    rows = [shown[i : i + across] for i in range(0, len(shown), across)]
    heads = [max(len(_title_lines(chart)) for chart in row) * LINE + 4 for row in rows]
    heights = [head + max(map(_height_with_key, row)) + MARGIN for head, row in zip(heads, rows, strict=True)]
    with open_sheet(across * charts.WIDTH, sum(heights)) as sheet:
        top = 0.0
        for row, head, height in zip(rows, heads, heights, strict=True):
            for i, chart in enumerate(row):
                _draw_chart(sheet.at(i * charts.WIDTH, top + head), chart, head)
            top += height
        return sheet.render(title, " ".join(chart.description for chart in shown))


def draw_forest(title: str, forest: Forest, labels: Sequence[ForestLabel]) -> Drawing:
    """A forest plot with a name and a value beside each of its rows."""
    names = max(len(label.name) for label in labels) * LETTER_WIDTH + 2 * MARGIN
    values = max(len(label.value) for label in labels) * LETTER_WIDTH + MARGIN
    height = MARGIN + ROW_HEIGHT * len(labels)
    with open_sheet(names + forest.width + values, height + 3 * LINE) as sheet:
        sheet.text(MARGIN, height + 2.6 * LINE, title, colour=GREY)
        plot = sheet.at(names, MARGIN)
        bottom = ROW_HEIGHT * len(labels)
        plot.line((forest.neutral, forest.neutral), (0, bottom), GREY, dashed=True)
        plot.line((forest.ticks[0][0], forest.ticks[-1][0]), (bottom, bottom), INK)
        for x, text in forest.ticks:
            plot.line((x, x), (bottom, bottom + 4), INK)
            plot.text(x, bottom + 14, text, "center")
        for i, (row, label) in enumerate(zip(forest.rows, labels, strict=True)):
            y = ROW_HEIGHT * (i + 0.5)
            sheet.text(MARGIN, MARGIN + y + 3.5, label.name)
            plot.text(forest.width + MARGIN / 2, y + 3.5, label.value)
            if row.low is not None and row.high is not None:
                plot.line((row.low, row.high), (y, y), INK, thick=True)
            if row.value is not None:
                plot.dot(row.value, y, INK, hollow=label.hollow)
        return sheet.render(title, f"Forest plot: {'; '.join(f'{label.name} {label.value}' for label in labels)}.")


def draw_strips(title: str, strips: Sequence[tuple[str, Strip]]) -> Drawing:
    """Values as dots along axes of their own, each under its name; outliers are hollow, dashed lines are limits."""
    with open_sheet(strips[0][1].width, STRIP_HEIGHT * len(strips) + MARGIN) as sheet:
        for i, (name, strip) in enumerate(strips):
            row = sheet.at(0, STRIP_HEIGHT * i)
            row.text(MARGIN, LINE, name)
            for limit in strip.limits:
                row.line((limit, limit), (LINE + 3, LINE + 15), GREY, dashed=True)
            row.line((strip.ticks[0][0], strip.ticks[-1][0]), (LINE + 15, LINE + 15), INK)
            for x, text in strip.ticks:
                row.text(x, STRIP_HEIGHT - 4, text, "center")
            for x, is_outlier in strip.dots:
                row.dot(x, LINE + 9, COLOURS[0], hollow=is_outlier)
        return sheet.render(title, "; ".join(name for name, _ in strips))


def draw_cases(title: str, groups: Sequence[CaseGroup]) -> Drawing:
    """Patients in groups: projections in a common scale with the outline of the contour, and what is said of each."""
    widths = [sum(p.width_mm for p in case.pictures) for group in groups for case in group.cases]
    unit = (CASE_WIDTH - 3 * MARGIN) / max(widths)
    heights = [max(_case_height(case, unit) for case in group.cases) + 2 * LINE for group in groups]
    across = max(len(group.cases) for group in groups)
    with open_sheet(across * CASE_WIDTH, sum(heights) + MARGIN) as sheet:
        top = 0.0
        for group, height in zip(groups, heights, strict=True):
            sheet.text(2, top + LINE, f"{group.name}: {group.reason}", bold=True)
            for i, case in enumerate(group.cases):
                _draw_case(sheet.at(i * CASE_WIDTH, top + 1.5 * LINE), case, unit)
            top += height
        return sheet.render(title, "Maximum-intensity projections of patients, from the front and from the left.")


@dataclass(frozen=True)
class Sheet:
    """A figure in the units of the page's drawings, y downwards, from an origin of its own.

    What is drawn later lies above: everything has the same ``zorder``.
    """

    figure: Figure
    x: float = 0.0
    y: float = 0.0

    def at(self, x: float, y: float) -> Sheet:
        """The same figure, seen from another origin."""
        return Sheet(self.figure, self.x + x, self.y + y)

    @property
    def transform(self) -> Transform:
        """From the drawing to the figure."""
        from matplotlib.transforms import Affine2D

        return Affine2D().translate(self.x, self.y) + self.figure.axes[0].transData

    def line(
        self, x: Sequence[float], y: Sequence[float], colour: str, *, thick: bool = False, dashed: bool = False
    ) -> None:
        """A straight line."""
        self.figure.axes[0].plot(
            x, y, color=colour, linewidth=1.2 if thick else 0.6, linestyle=(0, (3, 2)) if dashed else "solid",
            transform=self.transform, clip_on=False, solid_capstyle="butt", zorder=1,
        )  # fmt: skip

    def dot(self, x: float, y: float, colour: str, *, hollow: bool = False) -> None:
        """A round mark."""
        self.figure.axes[0].plot(
            [x], [y], marker="o", markersize=4.0, color=colour, markerfacecolor="white" if hollow else colour,
            transform=self.transform, clip_on=False, zorder=1,
        )  # fmt: skip

    def text(
        self, x: float, y: float, text: str, side: str = "left", *, colour: str = INK, bold: bool = False,
        turn: int = 0, letters: float = LETTERS,
    ) -> None:  # fmt: skip
        """Letters on a base line; a text is never read as a formula."""
        self.figure.axes[0].text(
            x, y, text, fontsize=letters * POINTS, ha=side, va="baseline", color=colour, rotation=turn,
            rotation_mode="anchor", fontweight="bold" if bold else "normal", parse_math=False,
            transform=self.transform, clip_on=False, zorder=1,
        )  # fmt: skip

    def path(
        self, data: str, colour: str, *, filled: bool = False, dash: int = 0, width: float = 1.2, scale: float = 1.0
    ) -> None:
        """What the page has as path data: a curve, or, filled, a band."""
        from matplotlib.patches import PathPatch
        from matplotlib.transforms import Affine2D

        style = {"facecolor": colour, "alpha": 0.15, "linewidth": 0.0} if filled else {"facecolor": "none"}
        line = {} if filled else {"edgecolor": colour, "linewidth": width, "linestyle": DASHES[dash]}
        place = Affine2D().scale(scale) + self.transform
        patch = PathPatch(_outline(data), transform=place, clip_on=False, zorder=1, **style, **line)
        self.figure.axes[0].add_artist(patch)

    def image(self, data_uri: str, width: float, height: float) -> None:
        """A PNG picture, its left upper corner at the origin."""
        from matplotlib.image import imread

        pixels = imread(io.BytesIO(b64decode(data_uri.partition(",")[2])), format="png")
        axes = self.figure.axes[0]
        limits = axes.axis()
        axes.imshow(
            pixels, cmap="gray", vmin=0, vmax=1, extent=(self.x, self.x + width, self.y + height, self.y),
            aspect="auto", interpolation="none", zorder=1,
        )  # fmt: skip
        axes.axis(limits)

    def render(self, title: str, description: str) -> Drawing:
        """The figure in both formats, without dates."""
        svg, pdf = io.BytesIO(), io.BytesIO()
        about = {"Title": title, "Description": description, "Date": None, "Creator": None}
        self.figure.savefig(svg, format="svg", metadata=about)
        about = {"Title": title, "Subject": description, "CreationDate": None, "Creator": None, "Producer": None}
        self.figure.savefig(pdf, format="pdf", metadata=about)
        return Drawing(svg.getvalue(), pdf.getvalue())


@contextmanager
def open_sheet(width: float, height: float) -> Iterator[Sheet]:
    """An empty sheet, under this module's style, whatever the user's own is."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)
        # A letter that the font lacks is a box in the PDF; the SVG keeps it.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph .*missing")
        figure = Figure(figsize=(width * POINTS / 72, height * POINTS / 72))
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0.0, width), ylim=(height, 0.0), autoscale_on=False)
        axes.set_axis_off()
        yield Sheet(figure)


def _title_lines(chart: Chart) -> list[str]:
    return [*wrap(chart.title, TITLE_LETTERS), *wrap(chart.subtitle, TITLE_LETTERS)]


def _height_with_key(chart: Chart) -> float:
    return chart.height + LINE * len(_key(chart))


def _key(chart: Chart) -> list[tuple[Line | None, str]]:
    """What stands below the chart, line by line: each name once, none where the title names the only curve.

    A name that is long goes on in lines without a curve.
    """
    if not chart.overlay and len(chart.lines) < 2:
        return []
    named = {line.label: line for line in reversed(chart.lines)}
    return [
        (named[label] if i == 0 else None, text)
        for label in reversed(named)
        for i, text in enumerate(wrap(label, KEY_LETTERS))
    ]


def _draw_chart(sheet: Sheet, chart: Chart, head: float) -> None:
    """The chart as the page's template draws it, with its title above and the key of its lines below."""
    left, right, top, bottom = charts.LEFT, charts.RIGHT, charts.TOP, charts.BOTTOM
    bold = len(wrap(chart.title, TITLE_LETTERS))
    for i, text in enumerate(_title_lines(chart)):
        sheet.text(2, LINE * (i + 1) - head, text, bold=i < bold, colour=INK if i < bold else GREY)
    for y, label in chart.y_ticks:
        sheet.line((left, right), (y, y), PALE)
        sheet.text(left - 6, y + 3.5, label, "right")
    for x, label in chart.x_ticks:
        sheet.line((x, x), (bottom, bottom + 4), INK)
        sheet.text(x, bottom + 15, label, "center")
    sheet.line((left, right), (bottom, bottom), INK)
    if chart.diagonal:
        sheet.line((left, right), (bottom, top), GREY, dashed=True)
    if chart.level is not None:
        sheet.line((left, right), (chart.level, chart.level), GREY, dashed=True)
    for line in chart.lines:
        _draw_line(sheet, line)
    sheet.text((left + right) / 2, charts.HEIGHT - 6, chart.x_label, "center")
    sheet.text(11, (top + bottom) / 2, chart.y_label, "center", turn=90)
    if chart.below:
        sheet.text(2, charts.HEIGHT + 6, "At risk")
    for i, counts in enumerate(chart.below):
        y = charts.HEIGHT + 6 + charts.ROW * (i + 1)
        sheet.text(2, y, counts.label, colour=_colour(i))
        for x, text in counts.numbers:
            sheet.text(x, y, text, "center")
    for i, (named, text) in enumerate(_key(chart)):
        y = chart.height + LINE * (i + 0.7)
        if named is not None:
            sheet.path(f"M{left} {y - 3.5}L{left + 24} {y - 3.5}", _colour(named.series), dash=named.dash)
        sheet.text(left + 30, y, text)


def _draw_line(sheet: Sheet, line: Line) -> None:
    colour = _colour(line.series)
    if line.band:
        sheet.path(line.band, colour, filled=True)
    if line.path:
        sheet.path(line.path, colour, dash=line.dash)
    for x, y, low, high in line.dots:
        sheet.line((x, x), (low, high), colour, thick=True)
        sheet.dot(x, y, colour)


def _colour(series: int | None) -> str:
    return GREY if series is None else COLOURS[series % len(COLOURS)]


@dataclass(frozen=True)
class _Block:
    """Pictures of a patient beside one another, and below them what is said: the first line in bold."""

    pictures: tuple[Picture, ...]
    head: str
    lines: tuple[str, ...]

    def height(self, unit: float) -> float:
        return max(picture.height_mm for picture in self.pictures) * unit + LINE * (len(self.lines) + 1.5)


def _blocks(case: Case) -> list[_Block]:
    """The scan, then each map over it; a map that failed its checks is shown as failed."""
    said = [(case.pictures, case.patient, case.lines)]
    for one in case.maps:
        said.append((one.pictures, one.title if one.passed else f"{one.title}: failed", one.checks))
    return [
        _Block(p, head, tuple(line for text in texts for line in wrap(text, CASE_LETTERS))) for p, head, texts in said
    ]


def _case_height(case: Case, unit: float) -> float:
    return sum(block.height(unit) for block in _blocks(case))


def _draw_case(sheet: Sheet, case: Case, unit: float) -> None:
    for block in _blocks(case):
        x, bottom = MARGIN, max(picture.height_mm for picture in block.pictures) * unit
        for picture in block.pictures:
            draw_picture(sheet.at(x, 0), picture, unit)
            x += picture.width_mm * unit + MARGIN
        for i, text in enumerate((block.head, *block.lines), start=1):
            sheet.text(MARGIN, bottom + LINE * i, text, bold=i == 1)
        sheet = sheet.at(0, block.height(unit))


def draw_picture(sheet: Sheet, picture: Picture, unit: float) -> None:
    """A projection with map, outline and scale; a mm has some units of the sheet."""
    width, height = picture.width_mm * unit, picture.height_mm * unit
    sheet.image(picture.data_uri, width, height)
    if picture.map_uri:
        sheet.image(picture.map_uri, width, height)
    if picture.outline:
        sheet.path(picture.outline, OUTLINE, width=0.8, scale=unit)
    sheet.text(4, LINE, picture.ends[0])
    sheet.text(width - 4, LINE, picture.ends[1], "right")
    sheet.line((6, 6 + BAR_MM * unit), (height - 6, height - 6), INK, thick=True)


def _outline(data: str) -> Outline:
    """Path data of the page, absolute moves, lines and closings, as matplotlib has them."""
    from matplotlib.path import Path as Outline

    x = y = 0.0
    points, codes = [], []
    for mark, text in re.findall(r"([MLHVZ])([-\d.e ]*)", data):
        numbers = [float(number) for number in text.split()]
        x = numbers[0] if mark in "MLH" else x
        y = numbers[-1] if mark in "MLV" else y
        points.append((x, y))
        codes.append({"M": Outline.MOVETO, "Z": Outline.CLOSEPOLY}.get(mark, Outline.LINETO))
    return Outline(points, codes)
