"""Maximum-intensity projections as PET readers know them, inverted grey, SUV 0 to 7, and outlines of contours."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.core.mip import DEPTH, View, mip, png
from twobe3.evaluation.explanations import EXPLANATIONS
from twobe3.io.cache import is_whole
from twobe3.report.faces import hide_face

TOWARDS, AWAY = (230, 97, 1), (33, 102, 172)  # orange and blue, which the colour-blind tell apart
OPAQUE = 0.85  # of a map where it is largest
_REMEDY = "run the study again: `twobe3 run` makes again what is missing or damaged, and nothing else"


@dataclass(frozen=True)
class StoredScan:
    """A scan on the study's grid.

    Attributes
    ----------
    suv : ndarray of float32, shape (slices, rows, columns)
        Slices increase towards the head, rows towards the back, columns towards the patient's left.
    spacing_mm : tuple of float
        Along slices, rows, columns.
    contour : ndarray of bool, same shape, or None
        What was drawn; None where nothing was, or nothing that can be used.
    """

    suv: npt.NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    contour: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Picture:
    """A picture to inline, its true size in the patient, and the outline of the contour as an SVG path in mm.

    ``map_uri`` is a map in colour to lay over it; empty without one.
    """

    view: View
    data_uri: str
    width_mm: float
    height_mm: float
    outline: str
    map_uri: str = ""

    @property
    def ends(self) -> tuple[str, str]:
        """What is on the left and on the right of the picture."""
        return ("R", "L") if self.view == "front" else ("A", "P")


def read_scan(folder: Path, name: str, *, show_faces: bool = False) -> StoredScan:
    """Read a scan of a study folder, and its contour.

    Parameters
    ----------
    folder : Path
        With ``volumes/`` and ``contours/``.
    name : str
        Of the file, in both.
    show_faces : bool
        Whether the face stays, see :mod:`twobe3.report.faces`.

    Raises
    ------
    ConfigurationError
        ``ARTEFACT_MISSING``: the volume is not in the folder.
    EnvironmentFailure
        ``ARTEFACT_DAMAGED``: volume or contour cannot be read, or its checksum does not hold.
    """
    name = Path(name).name
    suv, spacing_mm = _read_tensor(folder, f"volumes/{name}", "suv")
    contour = None
    if (folder / "contours" / name).exists():
        contour = _read_tensor(folder, f"contours/{name}", "contour")[0] > 0
        if contour.shape != suv.shape:
            reason = f"contours/{name} has shape {contour.shape}, the volume {suv.shape}"
            raise EnvironmentFailure(Code.ARTEFACT_DAMAGED, reason)
    contour = contour if contour is not None and contour.any() else None
    return StoredScan(suv if show_faces else hide_face(suv, spacing_mm, keep=contour), spacing_mm, contour)


def read_map(folder: Path, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Read what each voxel adds to a risk, from ``explanations/`` of a study folder.

    Raises
    ------
    ConfigurationError
        ``ARTEFACT_MISSING``.
    EnvironmentFailure
        ``ARTEFACT_DAMAGED``: the file cannot be read, its checksum does not hold, or the map has another shape than the
        volume.
    """
    name = f"{EXPLANATIONS}/{Path(name).name}"
    relevance: npt.NDArray[np.float32] = _read_entry(folder, name, "map")[0]
    if relevance.shape != shape:
        reason = f"{name} has shape {relevance.shape}, the volume {shape}"
        raise EnvironmentFailure(Code.ARTEFACT_DAMAGED, reason)
    return relevance


def _read_tensor(folder: Path, name: str, key: str) -> tuple[npt.NDArray[Any], tuple[float, float, float]]:
    array, metadata = _read_entry(folder, name, key)
    try:
        slice_mm, row_mm, column_mm = json.loads(metadata["spacing_mm"])
        return array, (float(slice_mm), float(row_mm), float(column_mm))
    except (KeyError, TypeError, ValueError) as error:
        raise _error_of_damage(f"{name} cannot be read: {type(error).__name__}") from error


def _read_entry(folder: Path, name: str, key: str) -> tuple[npt.NDArray[Any], dict[str, str]]:
    """An array of a stored entry, and what is said beside it; an entry of another version can't be checked."""
    try:
        with safe_open(folder / name, framework="numpy") as stream:
            arrays = {one: stream.get_tensor(one) for one in stream.keys()}  # noqa: SIM118  not a mapping
            metadata: dict[str, str] = stream.metadata() or {}
        if is_whole(folder / name, arrays, metadata) is False:
            raise _error_of_damage(f"the checksum of {name} does not hold")
        return arrays[key], metadata
    except FileNotFoundError:
        reason = f"{name} is not in the study folder"
        raise ConfigurationError(Code.ARTEFACT_MISSING, reason, remedy=_REMEDY) from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _error_of_damage(f"{name} cannot be read: {type(error).__name__}") from error


def _error_of_damage(reason: str) -> EnvironmentFailure:
    return EnvironmentFailure(Code.ARTEFACT_DAMAGED, reason, remedy=_REMEDY)


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
    depth = DEPTH[view]
    farthest = project_farthest(relevance, depth)[::-1]
    most = np.abs(relevance).max(initial=0.0)
    opacity = 255 * OPAQUE * np.abs(farthest) / most if most else np.zeros(farthest.shape)
    colours = np.where(farthest[..., None] >= 0, np.array(TOWARDS), np.array(AWAY))
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
