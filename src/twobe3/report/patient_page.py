"""One page for one new patient: what a model says of the scan, how sure it is, where that comes from, what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from twobe3 import __version__
from twobe3.io.files import write_atomic
from twobe3.report.mips import Picture, draw, draw_ct
from twobe3.report.page import render_template
from twobe3.report.stored_scans import StoredMap, StoredScan
from twobe3.report.viewer import Viewer, ViewerCase, viewer

Rows = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Scale:
    """A number on its axis, from 0 to ``most``, with its limits where it has them."""

    value: float
    most: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class PatientPage:
    """What the page tells.

    Parameters
    ----------
    patient : str
        Pseudonym.
    model, endpoint : str
    numbers : sequence of (str, str)
        Name and value, the most important first.
    forced, flags : sequence of (str, str)
        Code and sentence of each refusal that was overridden, and of what is unusual.
    card : sequence of (str, rows)
        Title and rows of each part of the model's card.
    scan : StoredScan
        As the model saw it.
    relevance : StoredMap, optional
        What each voxel adds to the risk.
    show_faces : bool
    scales : mapping of str to Scale
        Of those numbers, by their names, that have an axis with two ends.
    """

    patient: str
    model: str
    endpoint: str
    numbers: Rows
    forced: Rows
    flags: Rows
    card: Sequence[tuple[str, Rows]]
    scan: StoredScan
    relevance: StoredMap | None = None
    show_faces: bool = False
    scales: Mapping[str, Scale] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class DrawnScan:
    """The pictures of a page: the scan from the front and from the left, with the map if there is one, and the CT's."""

    pictures: list[Picture]
    maps: list[Picture]
    ct_maps: list[Picture]

    @property
    def rows(self) -> list[list[Picture]]:
        """Those that there are, one below the other."""
        return [row for row in (self.pictures, self.maps, self.ct_maps) if row]


def write_patient_page(page: PatientPage, path: Path) -> Path:
    """Write the page as one file that loads nothing from anywhere; gives its path.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    text = render_template(
        "patient.html.jinja",
        sections=[],
        title=f"{page.patient}: {page.endpoint}",
        version=__version__,
        page=page,
        viewer=viewer([_to_case(page)], show_faces=page.show_faces),
        drawn=draw_scan(page),
    )
    write_atomic(path, text.encode())
    return path


def render_patients(pages: Sequence[PatientPage]) -> Viewer:
    """The same of several scans of one model as a part of another page, in one viewer.

    Parameters
    ----------
    pages : sequence of PatientPage
        At least one.

    Returns
    -------
    Viewer
        Sections of HTML, and what the content security policy of the page has to allow.
    """
    show_faces = all(page.show_faces for page in pages)
    shown = viewer([_to_case(page) for page in pages], show_faces=show_faces)
    drawn = [(page, draw_scan(page)) for page in pages]
    html = render_template("patients_part.html.jinja", [], drawn=drawn, viewer=shown)
    return Viewer(Markup(html), shown.script_hashes)


def draw_scan(page: PatientPage) -> DrawnScan:
    """The pictures, without the face unless it is to be shown."""
    scan = page.scan if page.show_faces else page.scan.without_face()
    maps, ct_maps = [], []
    if page.relevance is not None:
        seen = page.relevance.within(scan.suv == page.scan.suv)  # where the face is, nothing at all
        maps = [draw(scan, "front", seen.of_pet), draw(scan, "side", seen.of_pet)]
        if seen.of_ct is not None and scan.hu is not None:
            ct_maps = draw_ct(scan, seen.of_ct)
    return DrawnScan([draw(scan, "front"), draw(scan, "side")], maps, ct_maps)


def _to_case(page: PatientPage) -> ViewerCase:
    return ViewerCase(page.patient, page.scan, page.relevance)
