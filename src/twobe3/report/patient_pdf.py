"""The page of one new patient to print: the same content as :mod:`twobe3.report.patient_page`, without the viewer."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from twobe3 import __version__
from twobe3.io.files import write_atomic
from twobe3.report.drawings import COLOURS, GREY, INK, POINTS, Sheet, draw_picture, open_sheet
from twobe3.report.mips import Picture
from twobe3.report.patient_page import PatientPage, draw_scan

WIDTH, HEIGHT, MARGIN = 595 / POINTS, 842 / POINTS, 60.0  # A4, in units of the drawing
LETTERS, LARGE, LINE = 12.0, 20.0, 16.0
LETTERS_ACROSS, VALUES_AT = 112, 270.0  # letters in a line; where the second column begins
LEGEND = (
    "Maximum-intensity projections from the front and from the left, as the model saw the scan, SUV 0 white to SUV 7 "
    "black; R and L are the patient's right and left, A and P front and back; the bar is 10 cm."
)
LEGEND_OF_MAP = (
    "Below: what each voxel adds to the risk, orange raises it, blue lowers it, relative to the largest. The map is "
    "not checked here: `twobe3 explain` does."
)
FOOT = f"Made by twobe3 {__version__} from one scan and one model file alone. For research; not a medical device."


@dataclass(frozen=True)
class _Text:
    """A line of text, or a name and its value."""

    text: str
    value: str = ""
    bold: bool = False
    colour: str = INK
    letters: float = LETTERS


def write_patient_pdf(page: PatientPage, path: Path) -> Path:
    """Write the page as PDF in A4; the same page gives the same bytes.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    from matplotlib.backends.backend_pdf import PdfPages

    about = {"Title": f"{page.patient}: {page.endpoint}", "CreationDate": None, "Creator": None, "Producer": None}
    content = io.BytesIO()
    with open_sheet(WIDTH, HEIGHT) as sheet, PdfPages(content, metadata=about) as pdf:  # closed under the sheet's style
        bottom = _write_lines(sheet, MARGIN, list(_say(page)))
        _draw_pictures(sheet, bottom + LINE, page)
        _finish(sheet)
        pdf.savefig(sheet.figure)
        lines = list(_say_card(page))
        most = int((HEIGHT - 2 * MARGIN) / LINE)
        for first in range(0, len(lines), most):
            with open_sheet(WIDTH, HEIGHT) as following:
                _write_lines(following, MARGIN, lines[first : first + most])
                _finish(following)
                pdf.savefig(following.figure)
    write_atomic(path, content.getvalue())
    return path


def _say(page: PatientPage) -> Iterator[_Text]:
    """What is above the pictures."""
    yield _Text("twobe3 prediction for one patient, research use only", colour=GREY)
    for text in wrap(f"{page.patient}: {page.endpoint}", int(LETTERS_ACROSS * LETTERS / LARGE)):
        yield _Text(text, bold=True, letters=LARGE)
    yield _Text(f"model {page.model}", colour=GREY)
    for code, reason in page.forced:
        text = f"Predicted by force, in spite of {code}: {reason}. Don't trust the numbers."
        yield from (_Text(line, colour=COLOURS[1]) for line in wrap(text, LETTERS_ACROSS))
    yield _Text("")
    for name, value in page.numbers:
        yield _Text(name, value, bold=True, letters=LARGE)
    for code, reason in page.flags:
        yield from (_Text(line) for line in wrap(f"Unusual: {code} {reason}", LETTERS_ACROSS))
    yield _Text("")
    legend = LEGEND if page.relevance is None else f"{LEGEND} {LEGEND_OF_MAP}"
    yield from (_Text(line, colour=GREY) for line in wrap(legend, LETTERS_ACROSS))


def _say_card(page: PatientPage) -> Iterator[_Text]:
    yield _Text(f"The model: {page.model}", bold=True)
    for title, rows in page.card:
        yield _Text("")
        yield _Text(title, bold=True)
        for name, value in rows:
            for i, line in enumerate(wrap(value, int(LETTERS_ACROSS * (1 - VALUES_AT / (WIDTH - 2 * MARGIN)))) or [""]):
                yield _Text("" if i else name, line)


def _write_lines(sheet: Sheet, y: float, lines: Sequence[_Text]) -> float:
    """Write lines from a height on; gives the height below the last."""
    for line in lines:
        y += LINE * line.letters / LETTERS
        if line.value:
            sheet.text(MARGIN, y, line.text, colour=GREY, letters=LETTERS)
            sheet.text(MARGIN + VALUES_AT, y, line.value, bold=line.bold, letters=line.letters)
        else:
            sheet.text(MARGIN, y, line.text, bold=line.bold, colour=line.colour, letters=line.letters)
    return y


def _draw_pictures(sheet: Sheet, y: float, page: PatientPage) -> None:
    """The scan, and below it the scan with the map, as large as there is room."""
    rows = draw_scan(page).rows
    width_mm = max(sum(picture.width_mm for picture in row) for row in rows)
    height_mm = sum(max(picture.height_mm for picture in row) for row in rows)
    room = HEIGHT - MARGIN - y - LINE * (len(rows) + 1)
    unit = min((WIDTH - 2 * MARGIN - LINE) / width_mm, room / height_mm)
    for row in rows:
        _draw_row(sheet.at(MARGIN, y), row, unit)
        y += max(picture.height_mm for picture in row) * unit + LINE


def _draw_row(sheet: Sheet, row: Sequence[Picture], unit: float) -> None:
    for picture in row:
        draw_picture(sheet, picture, unit)
        sheet = sheet.at(picture.width_mm * unit + LINE, 0)


def _finish(sheet: Sheet) -> None:
    sheet.text(MARGIN, HEIGHT - MARGIN / 2, FOOT, colour=GREY)
