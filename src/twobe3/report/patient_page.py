"""One page for one new patient: what a model says of the scan, how sure it is, where that comes from, what it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twobe3 import __version__
from twobe3.io.files import write_atomic
from twobe3.report.faces import hide_face
from twobe3.report.mips import StoredScan, draw
from twobe3.report.page import render_template
from twobe3.report.viewer import ViewerCase, viewer

Rows = Sequence[tuple[str, str]]


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
    relevance : ndarray of float32, shape of the scan, optional
        What each voxel adds to the risk.
    show_faces : bool
    """

    patient: str
    model: str
    endpoint: str
    numbers: Rows
    forced: Rows
    flags: Rows
    card: Sequence[tuple[str, Rows]]
    scan: StoredScan
    relevance: npt.NDArray[np.float32] | None = None
    show_faces: bool = False


def write_patient_page(page: PatientPage, path: Path) -> Path:
    """Write the page as one file that loads nothing from anywhere; gives its path.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    scan, relevance = page.scan, page.relevance
    shown = scan.suv if page.show_faces else hide_face(scan.suv, scan.spacing_mm, keep=scan.contour)
    if relevance is not None:
        relevance = np.where(shown == scan.suv, relevance, np.float32(0))  # where the face is, nothing at all
    drawn = StoredScan(shown, scan.spacing_mm, scan.contour)
    case = ViewerCase(page.patient, scan.suv, scan.spacing_mm, scan.contour, page.relevance)
    text = render_template(
        "patient.html.jinja",
        sections=[],
        title=f"{page.patient}: {page.endpoint}",
        version=__version__,
        page=page,
        pictures=[draw(drawn, "front"), draw(drawn, "side")],
        maps=[] if relevance is None else [draw(drawn, "front", relevance), draw(drawn, "side", relevance)],
        viewer=viewer([case], show_faces=page.show_faces),
    )
    write_atomic(path, text.encode())
    return path
