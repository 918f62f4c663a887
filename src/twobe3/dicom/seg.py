"""Regions that were stored as DICOM SEG: binary, fractional or labelled images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.utils import pixel_array

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import MAX_VOXELS, FloatArray, Geometry, Mask
from twobe3.dicom.drawn import SAME_PLANE_MM, find_extents_mm, find_steps_mm, match_names, merge_planes, to_names
from twobe3.dicom.geometry import Plane, normal_of
from twobe3.dicom.reader import first_item, items, number, numbers, quietly, read_dataset, refuse_errors, text

INSIDE_FROM = 0.5
"""A voxel of a fractional segment is inside from this probability or occupancy on."""

_ON_BORDER = 1e-3  # of a pixel: a centre so near to the border of two pixels belongs to the further one


def read_seg(path: Path, geometry: Geometry, *, roi: str | Sequence[str] | None = None) -> Mask:
    """Bring the segments of a SEG file onto the voxels of a scan.

    A voxel of the scan belongs to a segment if the segment's voxel that its centre lies in does; where both have one
    grid, that is the stored image itself. How far a frame reaches comes from the positions of all frames, never from
    their thickness (:func:`~twobe3.dicom.drawn.find_extents_mm`). DICOM PS3.3 A.51 and C.8.20.

    Parameters
    ----------
    path : Path
        The file.
    geometry : Geometry
        Of the scan.
    roi : str or sequence of str, optional
        Labels of the segments to merge; all by default.

    Raises
    ------
    UnusableScanError
        ``CORRUPT_FILE``, ``TOO_LARGE``. ``CONTOUR_UNUSABLE``: no such segment. ``CONTOUR_FRAME``: another frame of
        reference. ``CONTOUR_EMPTY``: no segment. ``CONTOUR_OUTSIDE``: nothing inside the scan.
    """
    with quietly():
        segmentation = Segmentation.read(path)
        (names,) = match_names([segmentation.names], to_names(roi))
        return segmentation.fill(geometry, names)


@dataclass(frozen=True, eq=False)
class _Frame:
    """Where a frame lies, along its normal too, its segment, and the distance of frames that it states, else 0."""

    plane: Plane
    position_mm: float
    segment: tuple[float, ...]
    spacing_mm: float


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A SEG file; use it within :func:`~twobe3.dicom.reader.quietly`."""

    dataset: pydicom.Dataset
    labels: Mapping[tuple[float, ...], str]

    @classmethod
    def read(cls, path: Path) -> Segmentation:
        """Read the file; raises ``CORRUPT_FILE``."""
        dataset = read_dataset(path, pixels=True)
        labels = {numbers(one, "SegmentNumber"): text(one, "SegmentLabel") for one in items(dataset, "SegmentSequence")}
        labels.pop((0.0,), None)  # the background of a label map, where it is described at all
        return cls(dataset, labels)

    @property
    def names(self) -> tuple[str, ...]:
        """Labels of the segments."""
        return tuple(self.labels.values())

    def fill(self, geometry: Geometry, names: Set[str]) -> Mask:
        """Bring the segments of these names onto a scan; raises what :func:`read_seg` raises."""
        frame = text(self.dataset, "FrameOfReferenceUID")
        if geometry.frame_of_reference and frame != geometry.frame_of_reference:
            raise UnusableScanError(Code.CONTOUR_FRAME, "the segments lie in another frame of reference than the scan")
        wanted = {key: label for key, label in self.labels.items() if label in names}
        mask = np.zeros(geometry.shape, dtype=np.bool_)
        frames = _describe_frames(self.dataset)
        extents_mm, empty = _find_extents_mm(frames, geometry), True
        stored = _decode(self.dataset)
        if len(stored) != len(frames):
            reason = f"the segmentation holds {len(stored)} frames and describes {len(frames)}"
            raise UnusableScanError(Code.CORRUPT_FILE, reason)
        for image, one, extent_mm in zip(stored, frames, extents_mm, strict=True):
            inside = self._find_inside(image, one, wanted)
            if inside.any():
                _paint(mask, inside, one.plane, extent_mm, geometry)
                empty = False
        if empty:
            raise UnusableScanError(Code.CONTOUR_EMPTY, "every voxel of the segmentation is 0")
        if not mask.any():
            raise UnusableScanError(Code.CONTOUR_OUTSIDE, "no voxel of the scan lies inside the segments")
        return Mask(mask, geometry, " + ".join(wanted.values()))

    def _find_inside(
        self, image: npt.NDArray[np.integer], frame: _Frame, wanted: Collection[tuple[float, ...]]
    ) -> npt.NDArray[np.bool_]:
        """Which pixels of a frame belong to the wanted segments."""
        kind = text(self.dataset, "SegmentationType")
        if kind == "LABELMAP":
            return np.isin(image, [n for key in wanted for n in key])
        if frame.segment not in wanted:
            return np.zeros(1, dtype=np.bool_)
        largest = number(self.dataset, "MaximumFractionalValue") or 255.0
        return np.asarray(image >= INSIDE_FROM * largest if kind == "FRACTIONAL" else image > 0)


def _decode(dataset: pydicom.Dataset) -> npt.NDArray[np.integer]:
    rows, columns = number(dataset, "Rows") or 0, number(dataset, "Columns") or 0
    frames = number(dataset, "NumberOfFrames") or 1
    if rows * columns * frames > MAX_VOXELS:
        reason = f"the segmentation announces {rows:.0f} × {columns:.0f} × {frames:.0f} voxels"
        raise UnusableScanError(Code.TOO_LARGE, reason)
    with refuse_errors("the segmentation cannot be decoded"):
        values = pixel_array(dataset)
    return values[None] if values.ndim == 2 else values


def _describe_frames(dataset: pydicom.Dataset) -> list[_Frame]:
    """The frames in space (DICOM PS3.3 C.7.6.16.2, C.7.6.2.1.1)."""
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    rows, columns = round(number(dataset, "Rows") or 0), round(number(dataset, "Columns") or 0)
    frames = []
    for group in items(dataset, "PerFrameFunctionalGroupsSequence"):
        plane = Plane(
            rows,
            columns,
            _frame_numbers(group, shared, "PixelMeasuresSequence", "PixelSpacing"),
            _frame_numbers(group, shared, "PlaneOrientationSequence", "ImageOrientationPatient"),
            _frame_numbers(group, shared, "PlanePositionSequence", "ImagePositionPatient"),
        )
        segment = _frame_numbers(group, shared, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
        stated = _frame_numbers(group, shared, "PixelMeasuresSequence", "SpacingBetweenSlices")
        position_mm = float(normal_of(plane.orientation) @ plane.position_mm)
        frames.append(_Frame(plane, position_mm, segment, abs(stated[0]) if stated else 0.0))
    return frames


def _frame_numbers(group: pydicom.Dataset, shared: pydicom.Dataset, sequence: str, keyword: str) -> tuple[float, ...]:
    """A value of a functional group: of the frame, else of all frames."""
    for place in (group, shared):
        for item in items(place, sequence):
            if found := numbers(item, keyword):
                return found
    return ()


def _find_extents_mm(frames: Sequence[_Frame], geometry: Geometry) -> FloatArray:
    """From where to where each frame reaches along its normal, from its own position, shape (frames, 2)."""
    orientations = np.array([frame.plane.orientation for frame in frames])
    positions_mm = np.array([frame.position_mm for frame in frames])
    extents_mm = np.full((len(frames), 2), np.nan)
    while (left := np.isnan(extents_mm[:, 0])).any():
        alike = left & (np.abs(orientations - orientations[left.argmax()]).max(axis=1) < 1e-3)
        planes_mm = merge_planes(positions_mm[alike])
        step_mm = _find_step_mm([frame for frame, one in zip(frames, alike, strict=True) if one], planes_mm, geometry)
        plane_of = np.searchsorted(planes_mm, positions_mm[alike], side="right") - 1
        reached_mm = find_extents_mm(planes_mm, np.full(len(planes_mm), step_mm))
        extents_mm[alike] = reached_mm[plane_of] - positions_mm[alike, None]
    return extents_mm


def _find_step_mm(frames: Sequence[_Frame], planes_mm: FloatArray, geometry: Geometry) -> float:
    """The distance of parallel frames, of which those without a voxel inside are mostly left out.

    The scan's own where they lie on its grid. Else the smallest step, or SpacingBetweenSlices (0018,0088) where the
    steps are its multiples, not all of them the same one. Without any step, what is stated, else the scan's own.
    """
    if all(_lies_on(frame.plane, geometry) for frame in frames):
        return geometry.spacing_mm[0]
    steps, stated_mm = find_steps_mm(planes_mm), frames[0].spacing_mm
    if not len(steps):
        return stated_mm or geometry.spacing_mm[0]
    if stated_mm:
        multiples = np.rint(steps / stated_mm)
        whole = multiples[0] >= 1 and np.abs(steps - multiples * stated_mm).max() <= SAME_PLANE_MM
        if whole and (len(steps) < 3 or multiples[0] < multiples[-1]):
            return stated_mm
    return float(np.median(steps[steps < 1.5 * steps[0]]))


def _lies_on(plane: Plane, geometry: Geometry) -> bool:
    """Whether the pixels of a plane are voxels of the scan."""
    index = geometry.to_index(plane.position_mm)
    off_mm = np.abs(index - np.rint(index)) * geometry.spacing_mm
    same = np.allclose(plane.affine(1.0)[:3, 1:3], geometry.affine[:3, 1:3], rtol=0, atol=1e-3)
    return bool(same and off_mm.max() <= SAME_PLANE_MM)


def _paint(
    mask: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_], plane: Plane, extent_mm: FloatArray, geometry: Geometry
) -> None:
    """Set the voxels of the scan whose centres lie in a pixel of the frame that is inside."""
    # (slice, row, column) of the scan → (along mm, row, column) of the frame
    step = np.linalg.inv(plane.affine(1.0)) @ geometry.affine
    slices, rows, columns = geometry.shape
    place = np.moveaxis(np.indices((rows, columns)), 0, -1) @ step[:3, 1:3].T + step[:3, 3]
    low_mm, high_mm = extent_mm
    shift_mm = step[0, 0] * np.arange(slices)
    reached = (place[..., 0].max() + shift_mm >= low_mm) & (place[..., 0].min() + shift_mm < high_mm)
    for index in np.flatnonzero(reached):
        along = place[..., 0] + shift_mm[index]
        within = (along >= low_mm) & (along < high_mm)
        pixel = np.floor(place[..., 1:] + index * step[1:3, 0] + 0.5 + _ON_BORDER).astype(np.int64)
        within &= (pixel >= 0).all(axis=-1) & (pixel < inside.shape).all(axis=-1)
        mask[index][within] |= inside[pixel[within][:, 0], pixel[within][:, 1]]
