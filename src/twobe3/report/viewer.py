"""An interactive viewer of chosen scans for the report: NiiVue and the voxels inside the page, no request to anywhere.

The page starts it when the reader asks. A content security policy that allows scripts by their digest alone is enough:
``script-src`` with :attr:`Viewer.script_hashes`, and ``img-src data:`` for the letters that NiiVue draws.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from gzip import compress
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from twobe3.core.mip import BONE_HU, LUNG_HU, SOFT_TISSUE_HU, SUV_WINDOW
from twobe3.report.environment import make_environment
from twobe3.report.niivue import find_niivue, hash_script
from twobe3.report.stored_scans import StoredMap, StoredScan

MAX_BYTES = 12_000_000  # of all scans together as they stand in the page
STEP_HU = 5.0
STEPS_SUV = (0.01, 0.02, 0.05, 0.1)  # voxels are rounded to the finest of these with which all scans have room
# Of the strongest voxel of a map: what is weaker than the one has no colour, and values are rounded to the other.
LEAST_SHARE, MAP_SHARE = 0.1, 0.05
_HIGHEST = np.iinfo(np.uint16).max


@dataclass(frozen=True, eq=False)
class ViewerCase:
    """A scan to look at, with what is drawn on it.

    Parameters
    ----------
    label : str
        By which the reader chooses it; names no patient.
    scan : StoredScan
        The contour is drawn as an outline.
    relevance : StoredMap, optional
        What each voxel adds to the risk, below 0 where it lowers it.

    Raises
    ------
    ValueError
        Contour, CT or map has another shape than the scan.
    """

    label: str
    scan: StoredScan
    relevance: StoredMap | None = None

    def __post_init__(self) -> None:
        seen = self.relevance or StoredMap(self.scan.suv)
        others = {"contour": self.scan.contour, "CT": self.scan.hu, "map": seen.of_pet, "map of the CT": seen.of_ct}
        for name, array in others.items():
            if array is not None and array.shape != self.scan.suv.shape:
                raise ValueError(f"{name} has shape {array.shape}, the scan {self.scan.suv.shape}")


@dataclass(frozen=True)
class Viewer:
    """The viewer's part of a page.

    Parameters
    ----------
    html : Markup
        A section, or one sentence where there is nothing to show or NiiVue is not installed.
    script_hashes : tuple of str
        What ``script-src`` of the page's content security policy has to allow, in single quotes each.
    """

    html: Markup
    script_hashes: tuple[str, ...] = ()


def viewer(cases: Sequence[ViewerCase], *, show_faces: bool = False) -> Viewer:
    """A viewer of scans, for a page of the report.

    SUV and maps are rounded to steps that the page states, and SUV below 0 becomes 0. Scans for which ``MAX_BYTES``
    have no room even with the coarsest step are left out from the end of the list, and the page counts them.

    Parameters
    ----------
    cases : sequence of ViewerCase
        In the order in which the reader may choose them, the most important first.
    show_faces : bool
        Leave the face in, see :mod:`twobe3.report.faces`; a contour and what lies in it is shown anyway.

    Returns
    -------
    Viewer
        The same bytes for the same cases.
    """
    niivue = find_niivue()
    if not cases or niivue is None:
        return Viewer(_render(niivue=niivue, cases=()))
    shown = cases if show_faces else [_without_face(case) for case in cases]
    step_suv, records = _encode_all(shown)
    script = files("twobe3.report").joinpath("templates", "viewer.js").read_text(encoding="utf-8")
    html = _render(
        niivue=niivue,
        cases=[(case.label, Markup(record)) for case, record in zip(cases, records, strict=False)],
        n_left_out=len(cases) - len(records),
        step_suv=step_suv,
        window=SUV_WINDOW,
        show_faces=show_faces,
        has_contour=any(case.scan.contour is not None for case in cases),
        has_map=any(case.relevance is not None for case in cases),
        has_ct=any(case.scan.hu is not None for case in cases),
        windows_hu={"soft tissue": SOFT_TISSUE_HU, "lung": LUNG_HU, "bone": BONE_HU},
        step_hu=STEP_HU,
        least_share=LEAST_SHARE,
        map_share=MAP_SHARE,
        script=Markup(script),  # our own file
    )
    return Viewer(html, (hash_script(script), niivue.script_hash))


def _render(**shown: Any) -> Markup:
    return Markup(make_environment().get_template("viewer.html.jinja").render(**shown))


def _without_face(case: ViewerCase) -> ViewerCase:
    """The scan without the face, and no map there either, for a map may show what the scan does not."""
    scan = case.scan.without_face()
    relevance = case.relevance and case.relevance.within(scan.suv == case.scan.suv)
    return replace(case, scan=scan, relevance=relevance)


def _encode_all(cases: Sequence[ViewerCase]) -> tuple[float, list[str]]:
    """The step in SUV, and the scans that have room as JSON in the order given."""
    overlays = [_encode_overlays(case) for case in cases]
    for step_suv in STEPS_SUV:
        records = list(_while_room(cases, overlays, step_suv))
        if len(records) == len(cases):
            break
    return step_suv, records


def _while_room(cases: Sequence[ViewerCase], overlays: Sequence[dict[str, Any]], step_suv: float) -> Iterator[str]:
    size = 0
    for case, overlay in zip(cases, overlays, strict=True):
        record = json.dumps({"pet": _encode_pet(case, step_suv), **overlay})
        size += len(record)
        if size > MAX_BYTES:
            return
        yield record


def _encode_pet(case: ViewerCase, step_suv: float) -> str:
    stored = np.round(case.scan.suv.clip(0, step_suv * _HIGHEST) / step_suv).astype(np.uint16)
    return _nifti(stored, step_suv, case.scan.spacing_mm)


def _encode_overlays(case: ViewerCase) -> dict[str, Any]:
    """What the script needs besides the scan: numbers and base64, no text of anybody's."""
    scan, spacing_mm = case.scan, case.scan.spacing_mm
    sought = scan.suv if scan.contour is None or not scan.contour.any() else np.where(scan.contour, scan.suv, -np.inf)
    slice_, row, column = (int(i) for i in np.unravel_index(sought.argmax(), sought.shape))
    # The cross starts at the hottest voxel; NiiVue counts to the right, the front and the head.
    record: dict[str, Any] = {"start": [sought.shape[2] - 1 - column, sought.shape[1] - 1 - row, slice_]}
    if scan.contour is not None:
        record["contour"] = _nifti(scan.contour.astype(np.uint8), 1.0, spacing_mm)
    if scan.hu is not None:
        record["ct"] = _nifti(np.round(scan.hu / STEP_HU).astype(np.int16), STEP_HU, spacing_mm)
    maps = {} if case.relevance is None else {"map": case.relevance.of_pet, "ct_map": case.relevance.of_ct}
    for name, relevance in maps.items():
        if relevance is not None and (strongest := float(np.abs(relevance).max())) > 0:
            step = strongest * MAP_SHARE
            seen = np.where(np.abs(relevance) < LEAST_SHARE * strongest, 0, relevance)
            record[name] = _nifti(np.round(seen / step).astype(np.int8), step, spacing_mm)
            record[f"{name}_max"] = strongest
    return record


def _nifti(array: npt.NDArray[Any], slope: float, spacing_mm: tuple[float, float, float]) -> str:
    """A compressed NIfTI file in base64; the origin is the middle of the volume, whatever the scanner said."""
    from nibabel.nifti1 import Nifti1Header

    header = Nifti1Header()
    header.set_data_shape(array.shape[::-1])  # NIfTI counts (column, row, slice)
    header.set_data_dtype(array.dtype)
    header.set_slope_inter(slope, 0.0)
    header.set_xyzt_units("mm")
    affine = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1.0])  # to the right, to the front, to the head
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(array.shape[::-1]) - 1) / 2)
    header.set_sform(affine, code="aligned")
    header.set_qform(affine, code="aligned")
    header["vox_offset"] = 352
    content = header.binaryblock + bytes(4) + np.ascontiguousarray(array).tobytes()
    return b64encode(compress(content, compresslevel=6, mtime=0)).decode("ascii")
