"""From the positions of single slices to the geometry of a volume. DICOM PS3.3 C.7.6.2.1.1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import MAX_VOXELS, FloatArray, Geometry

_SAME_POSITION_MM = 0.01
_SAME_SPACING = 1e-3
_EVEN = 0.05


@dataclass(frozen=True)
class Plane:
    """Where one slice lies.

    Attributes
    ----------
    rows, columns : int
        Its size.
    spacing_mm : tuple of float
        Between rows, between columns: PixelSpacing (0028,0030).
    orientation : tuple of 6 float
        ImageOrientationPatient (0020,0037).
    position_mm : tuple of 3 float
        ImagePositionPatient (0020,0032).
    thickness_mm : float or None
        SliceThickness (0018,0050); used for a single slice only.
    frame_of_reference : str
        FrameOfReferenceUID (0020,0052).
    """

    rows: int
    columns: int
    spacing_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    position_mm: tuple[float, ...]
    thickness_mm: float | None = None
    frame_of_reference: str = ""

    def __post_init__(self) -> None:
        lengths = (len(self.spacing_mm), len(self.orientation), len(self.position_mm))
        if lengths != (2, 6, 3) or min(self.spacing_mm) <= 0 or self.rows < 1 or self.columns < 1:
            raise UnusableScanError(
                Code.CORRUPT_FILE,
                "a slice lacks Rows, Columns, PixelSpacing (0028,0030), ImageOrientationPatient (0020,0037) or "
                "ImagePositionPatient (0020,0032)",
            )
        x, y = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        if abs(x @ x - 1) > 1e-2 or abs(y @ y - 1) > 1e-2 or abs(x @ y) > 1e-3:
            reason = f"ImageOrientationPatient (0020,0037) {self.orientation} is no rotation"
            raise UnusableScanError(Code.CORRUPT_FILE, reason)

    def affine(self, step_mm: float) -> FloatArray:
        """From (step, row, column, 1) to LPS mm, where steps go along the normal; shape (4, 4)."""
        x, y = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        affine = np.eye(4)
        affine[:3, :3] = np.column_stack(
            [normal_of(self.orientation) * step_mm, y * self.spacing_mm[0], x * self.spacing_mm[1]]
        )
        affine[:3, 3] = self.position_mm
        return affine


def normal_of(orientation: Sequence[float]) -> FloatArray:
    """Unit vector across the slices: rows' direction × columns' direction."""
    normal = np.cross(orientation[:3], orientation[3:])
    unit: FloatArray = normal / np.linalg.norm(normal)
    return unit


def require_one_grid(planes: Sequence[Plane]) -> None:
    """Refuse slices that differ in size, spacing, orientation or frame of reference.

    Raises ``GEOMETRY_MIXED``, naming what differs; ``TOO_LARGE``.
    """
    first = planes[0]
    for name in ("rows", "columns", "frame_of_reference"):
        values = {getattr(plane, name) for plane in planes}
        if len(values) > 1:
            raise UnusableScanError(Code.GEOMETRY_MIXED, f"{len(values)} different values of {name.replace('_', ' ')}")
    for name in ("spacing_mm", "orientation"):
        table = np.array([getattr(plane, name) for plane in planes])
        if np.abs(table - table[0]).max() > _SAME_SPACING:
            raise UnusableScanError(Code.GEOMETRY_MIXED, f"{name.removesuffix('_mm')} differs between the slices")
    voxels = first.rows * first.columns * len(planes)
    if voxels > MAX_VOXELS:
        reason = f"{len(planes)} slices of {first.rows} × {first.columns}: {voxels:.2g} voxels"
        raise UnusableScanError(Code.TOO_LARGE, reason)


def positions_mm(planes: Sequence[Plane]) -> FloatArray:
    """Distance of each slice from the origin along the normal, shape (slices,)."""
    positions: FloatArray = np.array([plane.position_mm for plane in planes]) @ normal_of(planes[0].orientation)
    return positions


def same_position(a_mm: float, b_mm: float) -> bool:
    """Whether two slices lie at one place."""
    return abs(a_mm - b_mm) <= _SAME_POSITION_MM


def stack_planes(planes: Sequence[Plane]) -> Geometry:
    """Geometry of slices that lie one above the other, in increasing position along the normal.

    They are sorted, on one grid (:func:`require_one_grid`), and no two share a position.

    Raises
    ------
    UnusableScanError
        ``SLICE_GAP`` with the position of the first gap; ``SHEARED``; ``GEOMETRY_MIXED`` for uneven steps or
        slices that are shifted against each other.
    """
    first = planes[0]
    affine = first.affine(_find_step_mm(planes)) + 0.0  # no -0.0
    _require_perpendicular(planes)
    return Geometry((len(planes), first.rows, first.columns), affine, first.frame_of_reference)


def _find_step_mm(planes: Sequence[Plane]) -> float:
    if len(planes) == 1:
        thickness_mm = planes[0].thickness_mm
        if thickness_mm is None or thickness_mm <= 0:
            raise UnusableScanError(Code.SLICE_GAP, "the series has one slice, and no SliceThickness (0018,0050)")
        return thickness_mm
    along = positions_mm(planes)
    steps = np.diff(along)
    step_mm = float(np.median(steps[steps < 1.5 * steps.min()]))
    wide = np.flatnonzero(steps > 1.5 * step_mm)
    if wide.size:
        i = int(wide[0])
        missing = round(float(steps[wide].sum()) / step_mm) - wide.size
        raise UnusableScanError(
            Code.SLICE_GAP,
            f"{missing} slices are missing; the first gap lies between {along[i]:.2f} and {along[i + 1]:.2f} mm "
            f"along the normal, where the step is {step_mm:.2f} mm",
        )
    if np.abs(steps - step_mm).max() > _EVEN * step_mm:
        reason = f"steps between slices run from {steps.min():.3f} to {steps.max():.3f} mm"
        raise UnusableScanError(Code.GEOMETRY_MIXED, reason)
    return float(along[-1] - along[0]) / (len(planes) - 1)


def _require_perpendicular(planes: Sequence[Plane]) -> None:
    normal = normal_of(planes[0].orientation)
    corners = np.array([plane.position_mm for plane in planes])
    lateral = corners - np.outer(corners @ normal, normal)
    drift_mm = float(np.linalg.norm(lateral[-1] - lateral[0]))
    length_mm = float((corners[-1] - corners[0]) @ normal)
    if len(planes) > 1 and drift_mm > 1e-3 * length_mm:
        raise UnusableScanError(Code.SHEARED, f"over {length_mm:.1f} mm the slices drift sideways by {drift_mm:.1f} mm")
    shift_mm = float(np.linalg.norm(lateral - lateral[0], axis=1).max())
    if shift_mm > 0.1 * min(planes[0].spacing_mm) + drift_mm:
        reason = f"slices are shifted sideways against each other by up to {shift_mm:.1f} mm"
        raise UnusableScanError(Code.GEOMETRY_MIXED, reason)
