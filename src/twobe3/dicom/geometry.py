"""From the positions of single slices to the geometry of a volume. DICOM PS3.3 C.7.6.2.1.1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import MAX_VOXELS, FloatArray, Geometry

MOST_MISPLACED = 0.25
"""Of a voxel: half of the way to where a slice would rather belong to the place of its neighbour.

Positions of PET rounded to whole millimetres are read (half a millimetre of a 2 mm step); what adds up, as steps of
3.20 mm followed by steps of 3.33 mm, is not. Of 5 mm steps it is 1.25 mm, a quarter of what PET resolves.
"""

NOTABLE_MISPLACEMENT = 0.05
"""Of a voxel: more is said of the series, and refused by the strict policy."""

SAME_POSITION_MM = 0.01
"""Slices that lie no farther apart are at one place."""

SAME_SPACING = 1e-3
"""By what spacing (mm) and direction cosines of one grid may differ, as they are rounded."""

_SLANT = 1e-3  # as the axes of a Geometry may be off the right angle


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
        if not _is_rotation(self.orientation):
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


@lru_cache(maxsize=256)  # the slices of a series share it
def _is_rotation(orientation: tuple[float, ...]) -> bool:
    """Whether the directions of rows and columns are perpendicular and of length 1, as far as they are rounded."""
    x, y = np.array(orientation[:3]), np.array(orientation[3:])
    return not (abs(x @ x - 1) > 1e-2 or abs(y @ y - 1) > 1e-2 or abs(x @ y) > 1e-3)


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
        if np.abs(table - table[0]).max() > SAME_SPACING:
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
    return abs(a_mm - b_mm) <= SAME_POSITION_MM


@dataclass(frozen=True)
class Misplacement:
    """How far the slices of a stack lie from the places that its geometry gives them, at most.

    Attributes
    ----------
    across_mm, within_mm : float
        Along the normal, and in the plane of the slices.
    voxels : float
        The larger of the two, in steps between slices and in the smaller pixel spacing.
    """

    across_mm: float
    within_mm: float
    voxels: float

    def __str__(self) -> str:
        return f"{self.across_mm:.2f} mm across and {self.within_mm:.2f} mm within the slices"


def find_misplacement(planes: Sequence[Plane], geometry: Geometry) -> Misplacement:
    """Compare the positions of slices, in the order of a geometry, with the geometry."""
    starts_mm = geometry.to_mm([(i, 0, 0) for i in range(len(planes))])
    off_mm = np.array([plane.position_mm for plane in planes]) - starts_mm
    normal = normal_of(planes[0].orientation)
    across_mm = float(np.abs(off_mm @ normal).max())
    within_mm = float(np.linalg.norm(off_mm - np.outer(off_mm @ normal, normal), axis=1).max())
    step_mm, *pixel_mm = geometry.spacing_mm
    return Misplacement(across_mm, within_mm, max(across_mm / step_mm, within_mm / min(pixel_mm)))


def stack_planes(planes: Sequence[Plane]) -> Geometry:
    """Geometry of slices that lie one above the other, in increasing position along the normal.

    They are sorted, on one grid (:func:`require_one_grid`), and no two share a position. They are placed at equal
    steps along the normal: from the first to the last where that fits to a hundredth of a millimetre, else along the
    least-squares line, since positions may be rounded to a tenth of a millimetre or a whole one.

    Raises
    ------
    UnusableScanError
        ``SLICE_GAP`` with the position of the first gap; ``SHEARED``; ``GEOMETRY_MIXED``, with the largest distance,
        where a slice lies further than :data:`MOST_MISPLACED` of a voxel from its place.
    """
    first = planes[0]
    if len(planes) == 1:
        origin_mm, step_mm = np.array(first.position_mm), _read_thickness_mm(first)
    else:
        _require_no_gap(planes)
        origin_mm, step_mm = _fit_stack(planes)
    affine = replace(first, position_mm=tuple(origin_mm.tolist())).affine(step_mm) + 0.0  # no -0.0
    geometry = Geometry((len(planes), first.rows, first.columns), affine, first.frame_of_reference)
    off = find_misplacement(planes, geometry)
    if off.voxels > MOST_MISPLACED:
        reason = f"slices lie off a straight stack of equal steps of {step_mm:.3f} mm, by up to {off}"
        raise UnusableScanError(Code.GEOMETRY_MIXED, reason, remedy="export or reconstruct it with equal steps")
    return geometry


def _read_thickness_mm(plane: Plane) -> float:
    if plane.thickness_mm is None or plane.thickness_mm <= 0:
        raise UnusableScanError(Code.SLICE_GAP, "the series has one slice, and no SliceThickness (0018,0050)")
    return plane.thickness_mm


def _require_no_gap(planes: Sequence[Plane]) -> None:
    """Refuse a step of more than one and a half usual ones.

    The usual step is the median, the lower of two. Steps that were rounded to two and to three units are no gap, and
    two neighbours that are each a quarter of a step from their places aren't either.
    """
    along_mm = positions_mm(planes)
    steps_mm = np.diff(along_mm)
    usual_mm = float(np.percentile(steps_mm, 50, method="lower"))
    wide = np.flatnonzero(steps_mm > 1.5 * usual_mm + SAME_POSITION_MM)
    if wide.size:
        i = int(wide[0])
        missing = max(round(float(steps_mm[wide].sum()) / usual_mm) - wide.size, 1)
        raise UnusableScanError(
            Code.SLICE_GAP,
            f"{format_count(missing, 'slice is', 'slices are')} missing; the first gap lies between {along_mm[i]:.2f} "
            f"and {along_mm[i + 1]:.2f} mm along the normal, where the step is {usual_mm:.2f} mm",
        )


def _fit_stack(planes: Sequence[Plane]) -> tuple[FloatArray, float]:
    """Where the first of several slices lies in LPS mm, and the step along the normal; raises ``SHEARED``."""
    normal = normal_of(planes[0].orientation)
    positions: FloatArray = np.array([plane.position_mm for plane in planes])
    numbers = np.arange(len(planes))
    along_mm = positions_mm(planes)
    step_mm = float(along_mm[-1] - along_mm[0]) / (len(planes) - 1)
    if np.abs(positions[0] + np.outer(numbers, step_mm * normal) - positions).max() <= SAME_POSITION_MM:
        return positions[0], step_mm
    centred = numbers - numbers.mean()
    slope_mm: FloatArray = centred @ positions / (centred @ centred)
    step_mm = float(slope_mm @ normal)
    centre_mm: FloatArray = positions.mean(axis=0)
    _require_perpendicular(positions - centre_mm - np.outer(centred, slope_mm), slope_mm, planes[0])
    return centre_mm + centred[0] * step_mm * normal, step_mm


def _require_perpendicular(residuals_mm: FloatArray, slope_mm: FloatArray, plane: Plane) -> None:
    """Refuse slices whose line, fitted with a slope of any direction, leaves the normal."""
    normal, pixel_mm, steps = normal_of(plane.orientation), min(plane.spacing_mm), len(residuals_mm) - 1
    length_mm = float(slope_mm @ normal) * steps
    drift_mm = float(np.linalg.norm(slope_mm * steps - length_mm * normal))
    if drift_mm <= max(_SLANT * length_mm, 0.1 * pixel_mm):
        return
    within_mm = float(np.linalg.norm(residuals_mm - np.outer(residuals_mm @ normal, normal), axis=1).max())
    if within_mm > MOST_MISPLACED * pixel_mm:
        reason = f"slices are shifted sideways against each other by up to {within_mm:.2f} mm"
        raise UnusableScanError(Code.GEOMETRY_MIXED, reason)
    raise UnusableScanError(Code.SHEARED, f"over {length_mm:.1f} mm the slices drift sideways by {drift_mm:.1f} mm")
