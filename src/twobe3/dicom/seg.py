"""Regions that were stored as DICOM SEG: binary, fractional or labelled images."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.utils import pixel_array

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import MAX_VOXELS, FloatArray, Geometry, Mask
from twobe3.dicom.geometry import Plane
from twobe3.dicom.reader import first_item, items, number, numbers, quietly, read_dataset, refuse_errors, text

INSIDE_FROM = 0.5
"""A voxel of a fractional segment is inside from this probability or occupancy on."""


@dataclass(frozen=True, eq=False)
class _Frame:
    """One plane of a segment: its image, where it lies (LPS mm → mm off the plane, row, column), how thick it is."""

    inside: npt.NDArray[np.bool_]
    to_index: FloatArray
    thickness_mm: float


def read_seg(path: Path, geometry: Geometry, *, roi: Collection[str] | None = None) -> Mask:
    """Bring the segments of a SEG file onto the voxels of a scan.

    A voxel of the scan belongs to a segment if the segment's voxel that its centre lies in does; where both have one
    grid, that is the stored image itself. DICOM PS3.3 A.51 and C.8.20.

    Parameters
    ----------
    path : Path
        The file.
    geometry : Geometry
        Of the scan.
    roi : collection of str, optional
        Labels of the segments to merge; all by default.

    Raises
    ------
    UnusableScanError
        ``CORRUPT_FILE``, ``TOO_LARGE``. ``CONTOUR_UNUSABLE``: no such segment. ``CONTOUR_FRAME``: another frame of
        reference. ``CONTOUR_EMPTY``: no segment. ``CONTOUR_OUTSIDE``: nothing inside the scan.
    """
    with quietly():
        dataset = read_dataset(path, pixels=True)
        frame = text(dataset, "FrameOfReferenceUID")
        if geometry.frame_of_reference and frame != geometry.frame_of_reference:
            raise UnusableScanError(Code.CONTOUR_FRAME, "the segments lie in another frame of reference than the scan")
        labels = {numbers(one, "SegmentNumber"): text(one, "SegmentLabel") for one in items(dataset, "SegmentSequence")}
        labels.pop((0.0,), None)  # the background of a label map, where it is described at all
        wanted = {key: label for key, label in labels.items() if roi is None or label in roi}
        if roi is not None and (missing := sorted(set(roi) - set(wanted.values()))):
            there = ", ".join(labels.values()) or "none"
            raise UnusableScanError(Code.CONTOUR_UNUSABLE, f"there is no segment {missing[0]!r}; there are: {there}")
        mask = np.zeros(geometry.shape, dtype=np.bool_)
        frames = list(_frames(dataset, wanted))
        for one in frames:
            _paint(mask, one, geometry)
    if not frames:
        raise UnusableScanError(Code.CONTOUR_EMPTY, "every voxel of the segmentation is 0")
    if not mask.any():
        raise UnusableScanError(Code.CONTOUR_OUTSIDE, "no voxel of the scan lies inside the segments")
    return Mask(mask, geometry, " + ".join(wanted.values()))


def _frames(dataset: pydicom.Dataset, wanted: Collection[tuple[float, ...]]) -> Iterator[_Frame]:
    """The planes of the wanted segments, those without a voxel inside left out."""
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    groups = items(dataset, "PerFrameFunctionalGroupsSequence")
    stored = _decode(dataset)
    if len(stored) != len(groups):
        reason = f"the segmentation holds {len(stored)} frames and describes {len(groups)}"
        raise UnusableScanError(Code.CORRUPT_FILE, reason)
    kind = text(dataset, "SegmentationType")
    largest = number(dataset, "MaximumFractionalValue") or 255.0
    for image, group in zip(stored, groups, strict=True):
        if kind == "LABELMAP":
            inside = np.isin(image, [n for key in wanted for n in key])
        elif _frame_numbers(group, shared, "SegmentIdentificationSequence", "ReferencedSegmentNumber") not in wanted:
            continue
        else:
            inside = image >= INSIDE_FROM * largest if kind == "FRACTIONAL" else image > 0
        if inside.any():
            yield _place_frame(inside, group, shared)


def _decode(dataset: pydicom.Dataset) -> npt.NDArray[np.generic]:
    rows, columns = number(dataset, "Rows") or 0, number(dataset, "Columns") or 0
    frames = number(dataset, "NumberOfFrames") or 1
    if rows * columns * frames > MAX_VOXELS:
        reason = f"the segmentation announces {rows:.0f} × {columns:.0f} × {frames:.0f} voxels"
        raise UnusableScanError(Code.TOO_LARGE, reason)
    with refuse_errors("the segmentation cannot be decoded"):
        values = pixel_array(dataset)
    return values[None] if values.ndim == 2 else values


def _place_frame(inside: npt.NDArray[np.bool_], group: pydicom.Dataset, shared: pydicom.Dataset) -> _Frame:
    """A plane in space (DICOM PS3.3 C.7.6.2.1.1)."""
    plane = Plane(
        inside.shape[0],
        inside.shape[1],
        _frame_numbers(group, shared, "PixelMeasuresSequence", "PixelSpacing"),
        _frame_numbers(group, shared, "PlaneOrientationSequence", "ImageOrientationPatient"),
        _frame_numbers(group, shared, "PlanePositionSequence", "ImagePositionPatient"),
    )
    thickness = _frame_numbers(group, shared, "PixelMeasuresSequence", "SpacingBetweenSlices")
    thickness = thickness or _frame_numbers(group, shared, "PixelMeasuresSequence", "SliceThickness")
    if len(thickness) != 1 or thickness[0] <= 0:
        reason = "a frame of the segmentation lacks SpacingBetweenSlices and SliceThickness"
        raise UnusableScanError(Code.CORRUPT_FILE, reason)
    to_index = np.asarray(np.linalg.inv(plane.affine(1.0)), dtype=np.float64)
    return _Frame(inside, to_index, thickness[0])


def _frame_numbers(group: pydicom.Dataset, shared: pydicom.Dataset, sequence: str, keyword: str) -> tuple[float, ...]:
    """A value of a functional group: of the frame, else of all frames."""
    for place in (group, shared):
        for item in items(place, sequence):
            if found := numbers(item, keyword):
                return found
    return ()


def _paint(mask: npt.NDArray[np.bool_], frame: _Frame, geometry: Geometry) -> None:
    """Set the voxels of the scan whose centres lie in a voxel of the frame that is inside."""
    step = frame.to_index @ geometry.affine  # (slice, row, column) of the scan → (along mm, row, column) of the frame
    slices, rows, columns = geometry.shape
    plane = np.moveaxis(np.indices((rows, columns)), 0, -1) @ step[:3, 1:3].T + step[:3, 3]
    half = frame.thickness_mm / 2
    for index in range(slices):
        along = plane[..., 0] + index * step[0, 0]
        # a centre on the border between two frames belongs to the further one
        within = (along >= -half - 1e-6) & (along < half - 1e-6)
        if not within.any():
            continue
        place = np.floor(plane[..., 1:] + index * step[1:3, 0] + 0.5 + 1e-6).astype(np.int64)
        within &= (place >= 0).all(axis=-1) & (place < frame.inside.shape).all(axis=-1)
        mask[index][within] |= frame.inside[place[within][:, 0], place[within][:, 1]]
