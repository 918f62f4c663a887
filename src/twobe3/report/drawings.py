"""The page's figures for print: the same geometry as on the page, drawn by matplotlib as SVG and PDF."""

from __future__ import annotations

import io
import re
import warnings
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from twobe3.report import charts
from twobe3.report.charts import Chart, Forest, Line
from twobe3.report.mips import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.path import Path as Outline
    from matplotlib.transforms import Transform

# One unit of the page's drawings is 0.7 points: three charts fill a page of two columns, 183 mm, in 7-point letters.
POINTS = 0.7
LETTERS = 10.0  # height of the letters, in units of the drawing, like all that follows
LINE = 13.0
CHARTS_ACROSS = 3
PICTURES_ACROSS = 6
PICTURE_WIDTH = 120.0
ROW_HEIGHT = 18.0
MARGIN = 8.0
LETTER_WIDTH = 5.6
TITLE_LETTERS = 44

# Eight colours that the colour-blind tell apart (Okabe & Ito 2008, Color Universal Design), without black and yellow.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
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

    svg: bytes
    pdf: bytes


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
    with _sheet(across * charts.WIDTH, sum(heights)) as sheet:
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
    with _sheet(names + forest.width + values, height + 2.5 * LINE) as sheet:
        sheet.text(MARGIN, height + 1.6 * LINE, title, colour=GREY)
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


def draw_pictures(title: str, pictures: Sequence[Picture]) -> Drawing:
    """Pictures of scans in a common scale, each over its caption, with right, left and a bar of 10 cm."""
    unit = PICTURE_WIDTH / max(picture.width_mm for picture in pictures)
    across = min(PICTURES_ACROSS, len(pictures))
    rows = [pictures[i : i + across] for i in range(0, len(pictures), across)]
    heights = [max(picture.height_mm for picture in row) * unit + 2 * LINE for row in rows]
    with _sheet(across * (PICTURE_WIDTH + MARGIN) + MARGIN, sum(heights) + MARGIN) as sheet:
        top = MARGIN
        for row, height in zip(rows, heights, strict=True):
            for i, picture in enumerate(row):
                _draw_picture(sheet.at(MARGIN + i * (PICTURE_WIDTH + MARGIN), top), picture, unit)
            top += height
        return sheet.render(title, "Maximum-intensity projections of the scans.")


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
        self, x: float, y: float, text: str, side: str = "left", *, colour: str = INK, bold: bool = False, turn: int = 0
    ) -> None:
        """Letters on a base line; a text is never read as a formula."""
        self.figure.axes[0].text(
            x, y, text, fontsize=LETTERS * POINTS, ha=side, va="baseline", color=colour, rotation=turn,
            rotation_mode="anchor", fontweight="bold" if bold else "normal", parse_math=False,
            transform=self.transform, clip_on=False, zorder=1,
        )  # fmt: skip

    def path(self, data: str, colour: str, *, filled: bool = False, dashed: bool = False, width: float = 1.2) -> None:
        """What the page has as path data: a curve, or, filled, a band."""
        from matplotlib.patches import PathPatch

        style = {"facecolor": colour, "alpha": 0.18, "linewidth": 0.0} if filled else {"facecolor": "none"}
        line = {} if filled else {"edgecolor": colour, "linewidth": width, "linestyle": (0, (4, 2)) if dashed else "-"}
        patch = PathPatch(_outline(data), transform=self.transform, clip_on=False, zorder=1, **style, **line)
        self.figure.axes[0].add_artist(patch)

    def render(self, title: str, description: str) -> Drawing:
        """The figure in both formats, without dates."""
        svg, pdf = io.BytesIO(), io.BytesIO()
        about = {"Title": title, "Description": description, "Date": None, "Creator": None}
        self.figure.savefig(svg, format="svg", metadata=about)
        about = {"Title": title, "Subject": description, "CreationDate": None, "Creator": None, "Producer": None}
        self.figure.savefig(pdf, format="pdf", metadata=about)
        return Drawing(svg.getvalue(), pdf.getvalue())


@contextmanager
def _sheet(width: float, height: float) -> Iterator[Sheet]:
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
    return chart.height + (LINE * len(chart.lines) if len(chart.lines) > 1 else 0.0)


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
    for ghost in chart.ghosts:
        sheet.path(ghost, PALE, width=0.6)
    for i, line in enumerate(chart.lines):
        _draw_line(sheet, line, i)
    sheet.text((left + right) / 2, charts.HEIGHT - 6, chart.x_label, "center")
    sheet.text(11, (top + bottom) / 2, chart.y_label, "center", turn=90)
    if chart.below:
        sheet.text(2, charts.HEIGHT + 6, "At risk")
    for i, counts in enumerate(chart.below):
        y = charts.HEIGHT + 6 + charts.ROW * (i + 1)
        sheet.text(2, y, counts.label, colour=_colour(i))
        for x, text in counts.numbers:
            sheet.text(x, y, text, "center")
    for i, line in enumerate(chart.lines if len(chart.lines) > 1 else ()):
        y = chart.height + LINE * (i + 0.7)
        sheet.path(f"M{left} {y - 3.5}L{left + 18} {y - 3.5}", _colour(i), dashed=_is_dashed(i))
        sheet.text(left + 24, y, line.label)


def _draw_line(sheet: Sheet, line: Line, i: int) -> None:
    if line.band:
        sheet.path(line.band, _colour(i), filled=True)
    if line.path:
        sheet.path(line.path, _colour(i), dashed=_is_dashed(i))
    for x, y, low, high in line.dots:
        sheet.line((x, x), (low, high), _colour(i), thick=True)
        sheet.dot(x, y, _colour(i))


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _is_dashed(i: int) -> bool:
    """Whether a line needs more than its colour to be told from those before it."""
    return i // len(COLOURS) % 2 == 1


def _draw_picture(sheet: Sheet, picture: Picture, unit: float) -> None:
    from matplotlib.image import imread

    grey = imread(io.BytesIO(b64decode(picture.data_uri.partition(",")[2])), format="png")
    width, height = picture.width_mm * unit, picture.height_mm * unit
    extent = (sheet.x, sheet.x + width, sheet.y + height, sheet.y)
    axes = sheet.figure.axes[0]
    limits = axes.axis()
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto", interpolation="none")
    axes.axis(limits)
    sheet.text(4, LINE, "R")
    sheet.text(width - 4, LINE, "L", "right")
    sheet.line((6, 6 + BAR_MM * unit), (height - 6, height - 6), INK, thick=True)
    sheet.text(0, height + LINE, picture.caption)


def _outline(data: str) -> Outline:
    """Path data of the page, absolute moves, lines and closings, as matplotlib has them."""
    from matplotlib.path import Path as Outline

    points, codes = [], []
    for mark, x, y in re.findall(r"([MLZ])(?:([-\d.e]+) ([-\d.e]+))?", data):
        codes.append({"M": Outline.MOVETO, "L": Outline.LINETO, "Z": Outline.CLOSEPOLY}[mark])
        points.append((float(x or 0.0), float(y or 0.0)))
    return Outline(points, codes)
