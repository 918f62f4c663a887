"""Contours of an RTSTRUCT file, filled on the voxels of a scan."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from skimage.draw import polygon2mask

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import FloatArray, Geometry, Mask
from twobe3.dicom.reader import coordinates, items, quietly, read_dataset, text

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_SAME_PLANE_MM = 0.01


def read_rtstruct(path: Path, geometry: Geometry, *, roi: str | Sequence[str] | None = None) -> Mask:
    """Fill the contours of an RTSTRUCT file on the voxels of a scan.

    A voxel belongs to a region if its centre lies inside. Polygons of one plane are combined by exclusive or, so
    that a keyhole or an inner contour makes a hole; planes that fall on one slice are united.

    Parameters
    ----------
    path : Path
        The file.
    geometry : Geometry
        Of the scan.
    roi : str or sequence of str, optional
        Names of the regions to merge; by default all that have contours.

    Raises
    ------
    UnusableScanError
        ``CORRUPT_FILE``: not readable. ``CONTOUR_EMPTY``: no closed contour. ``CONTOUR_FRAME``: another frame of
        reference. ``CONTOUR_OUTSIDE``: nothing inside the scan. ``CONTOUR_UNUSABLE``: no such region, or contours
        that are not parallel to the slices.
    """
    with quietly():
        dataset = read_dataset(path)
        regions = _list_regions(dataset, to_names(roi))
        mask = np.zeros(geometry.shape, dtype=np.bool_)
        names = []
        for name, frame, contours in regions:
            polygons = _list_polygons(contours)
            if not polygons:
                continue
            _require_frame(name, frame, dataset, geometry)
            mask |= _fill(polygons, geometry)
            names.append(name)
    if not names:
        raise UnusableScanError(Code.CONTOUR_EMPTY, "no closed contour is drawn" + (f" of {roi!r}" if roi else ""))
    if not mask.any():
        raise UnusableScanError(Code.CONTOUR_OUTSIDE, f"no voxel of the scan lies inside {' + '.join(names)!r}")
    return Mask(mask, geometry, " + ".join(names))


def to_names(roi: str | Sequence[str] | None) -> Collection[str] | None:
    """Names of regions as a collection; None stands for all of them."""
    return (roi,) if isinstance(roi, str) else roi


def _list_regions(
    dataset: pydicom.Dataset, roi: Collection[str] | None
) -> list[tuple[str, str, tuple[pydicom.Dataset, ...]]]:
    """Name, frame of reference and contours of each region (DICOM PS3.3 C.8.8.5, C.8.8.6)."""
    drawn = {
        text(item, "ReferencedROINumber"): items(item, "ContourSequence")
        for item in items(dataset, "ROIContourSequence")
    }
    regions = [
        (text(item, "ROIName"), text(item, "ReferencedFrameOfReferenceUID"), drawn.get(text(item, "ROINumber"), ()))
        for item in items(dataset, "StructureSetROISequence")
    ]
    if roi is None:
        return regions
    chosen = _match_names([name for name, _, _ in regions], roi)
    return [region for region in regions if region[0] in chosen]


def _match_names(there: Sequence[str], roi: Collection[str]) -> set[str]:
    """Names as the file spells them; where it has no such name, one that differs in case and blanks alone will do."""
    alike = {"".join(name.casefold().split()): name for name in reversed(there)}
    found = {name: name if name in there else alike.get("".join(name.casefold().split())) for name in roi}
    if missing := sorted(name for name, one in found.items() if one is None):
        names = ", ".join(there) or "none"
        raise UnusableScanError(Code.CONTOUR_UNUSABLE, f"there is no region {missing[0]!r}; there are: {names}")
    return {name for name in found.values() if name is not None}


def _list_polygons(contours: Iterable[pydicom.Dataset]) -> list[FloatArray]:
    """Closed polygons as points in LPS mm, shape (points, 3)."""
    found = []
    for contour in contours:
        values = coordinates(contour, "ContourData")
        whole = len(values) >= 9 and len(values) % 3 == 0 and np.isfinite(values).all()
        if whole and text(contour, "ContourGeometricType") in _CLOSED:
            found.append(values.reshape(-1, 3))
    return found


def _require_frame(name: str, frame: str, dataset: pydicom.Dataset, geometry: Geometry) -> None:
    """The region must lie in the scan's frame of reference.

    A region may name a frame that its own file does not declare (anonymisers do that); if the file declares
    exactly one, this is the one it must mean.
    """
    declared = {text(item, "FrameOfReferenceUID") for item in items(dataset, "ReferencedFrameOfReferenceSequence")}
    declared.discard("")
    if frame not in declared and len(declared) == 1:
        (frame,) = declared
    if geometry.frame_of_reference and frame != geometry.frame_of_reference:
        raise UnusableScanError(Code.CONTOUR_FRAME, f"region {name!r} lies in another frame of reference than the scan")


def _fill(polygons: Iterable[FloatArray], geometry: Geometry) -> npt.NDArray[np.bool_]:
    mask = np.zeros(geometry.shape, dtype=np.bool_)
    same_plane = _SAME_PLANE_MM / geometry.spacing_mm[0]
    planes: list[tuple[float, npt.NDArray[np.bool_]]] = []
    for depth, outline in sorted((_flatten(polygon, geometry) for polygon in polygons), key=lambda one: one[0]):
        inside = polygon2mask(geometry.shape[1:], outline)
        if planes and depth - planes[-1][0] <= same_plane:
            inside ^= planes.pop()[1]
        planes.append((depth, inside))
    for depth, inside in planes:
        if 0 <= round(depth) < geometry.shape[0]:
            mask[round(depth)] |= inside
    return mask


def _flatten(polygon_mm: FloatArray, geometry: Geometry) -> tuple[float, FloatArray]:
    """Slice index of a polygon, and its points as (row, column)."""
    index = geometry.to_index(polygon_mm)
    depth = float(index[:, 0].mean())
    if np.abs(index[:, 0] - depth).max() > 0.5:
        raise UnusableScanError(Code.CONTOUR_UNUSABLE, "a contour is not parallel to the slices of the scan")
    return depth, index[:, 1:]
