"""Maximum-intensity projections as PET readers know them, inverted grey, SUV 0 to 7, and outlines of contours."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twobe3.core.mip import DEPTH, View, choose_hu_window, mip, png
from twobe3.report.stored_scans import StoredScan

TOWARDS, AWAY = (230, 97, 1), (33, 102, 172)  # orange and blue, which the colour-blind tell apart
OPAQUE = 0.85  # of a map where it is largest


@dataclass(frozen=True)
class Picture:
    """A picture to inline, its true size in the patient, and the outline of the contour as an SVG path in mm.

    ``map_uri`` is a map in colour to lay over it; empty without one. ``kind`` says what is seen.
    """

    view: View
    data_uri: str
    width_mm: float
    height_mm: float
    outline: str
    map_uri: str = ""
    kind: str = "Maximum-intensity projection"

    @property
    def ends(self) -> tuple[str, str]:
        """What is on the left and on the right of the picture."""
        return ("R", "L") if self.view == "front" else ("A", "P")


def draw(scan: StoredScan, view: View, relevance: npt.NDArray[np.float32] | None = None) -> Picture:
    """A projection of a scan, with the outline of the projected contour and a map over it, of the shape of the scan."""
    depth = DEPTH[view]
    slice_mm, column_mm = scan.spacing_mm[0], scan.spacing_mm[3 - depth]
    grey = mip(scan.suv, view)
    return Picture(
        view,
        _to_uri(grey),
        grey.shape[1] * column_mm,
        grey.shape[0] * slice_mm,
        "" if scan.contour is None else outline(scan.contour.max(axis=depth)[::-1], slice_mm, column_mm),
        "" if relevance is None else _to_uri(colour_map(relevance, view)),
    )


def draw_ct(scan: StoredScan, relevance: npt.NDArray[np.float32]) -> list[Picture]:
    """The coronal and the sagittal slice of the CT through the voxel that raises the risk most, with the map over it.

    ``relevance``, of the shape of the scan, is what each voxel of the CT adds. The window is that of lung or of soft
    tissue, see :func:`~twobe3.core.mip.choose_hu_window`.
    """
    assert scan.hu is not None
    at = np.unravel_index(int(relevance.argmax()), relevance.shape)
    low, high = choose_hu_window(scan.hu, [int(i) for i in at])
    strongest = float(np.abs(relevance).max())
    pictures = []
    for view, depth in DEPTH.items():
        cut = (slice(None, None, -1), *(at[axis] if axis == depth else slice(None) for axis in (1, 2)))
        shade = np.clip((scan.hu[cut] - low) / (high - low), 0, 1)
        slice_mm, column_mm = scan.spacing_mm[0], scan.spacing_mm[3 - depth]
        pictures.append(
            Picture(
                "front" if view == "front" else "side",
                _to_uri(np.round(255 * shade).astype(np.uint8)),
                shade.shape[1] * column_mm,
                shade.shape[0] * slice_mm,
                "" if scan.contour is None else outline(scan.contour[cut], slice_mm, column_mm),
                _to_uri(colour_values(relevance[cut], strongest)),
                "Slice of the CT",
            )
        )
    return pictures


def _to_uri(pixels: npt.NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + b64encode(png(pixels)).decode("ascii")


def colour_map(relevance: npt.NDArray[np.float32], view: View) -> npt.NDArray[np.uint8]:
    """A map projected onto the value that is farthest from 0, orange above it and blue below.

    Parameters
    ----------
    relevance : ndarray of float32, shape (slices, rows, columns)
        What each voxel adds to the risk.
    view : {"front", "side"}

    Returns
    -------
    ndarray of uint8, shape (slices, columns, 4) or (slices, rows, 4)
        Red, green, blue and opacity, which is in proportion to the magnitude, in the orientation of :func:`mip`.
    """
    farthest = project_farthest(relevance, DEPTH[view])[::-1]
    return colour_values(farthest, float(np.abs(relevance).max(initial=0.0)))


def colour_values(values: npt.NDArray[np.float32], most: float) -> npt.NDArray[np.uint8]:
    """Colours of a picture of a map, (height, width), whose strongest value is ``most``; see :func:`colour_map`."""
    opacity = 255 * OPAQUE * np.abs(values) / most if most else np.zeros(values.shape)
    colours = np.where(values[..., None] >= 0, np.array(TOWARDS), np.array(AWAY))
    return np.concatenate([colours, np.round(opacity)[..., None]], axis=-1).astype(np.uint8)


def project_farthest(values: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.float32]:
    """Along an axis the value that is farthest from 0."""
    high, low = values.max(axis=axis), values.min(axis=axis)
    return np.asarray(np.where(high >= -low, high, low), dtype=np.float32)


def outline(inside: npt.NDArray[np.bool_], row_mm: float, column_mm: float) -> str:
    """The edges between pixels inside and outside as an SVG path in mm.

    Parameters
    ----------
    inside : ndarray of bool, shape (height, width)
    row_mm, column_mm : float
        Height and width of a pixel.
    """
    padded = np.pad(inside, 1)
    across, down = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1, :].T
    horizontal = [
        f"M{a * column_mm:g} {row * row_mm:g}H{b * column_mm:g}"
        for row, line in enumerate(across)
        for a, b in _runs(line)
    ]
    vertical = [
        f"M{column * column_mm:g} {a * row_mm:g}V{b * row_mm:g}"
        for column, line in enumerate(down)
        for a, b in _runs(line)
    ]
    return "".join(horizontal + vertical)


def _runs(line: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Where runs of True begin and end."""
    edges = np.flatnonzero(np.diff(np.pad(line, 1).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
