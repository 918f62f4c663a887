"""Contours of an RTSTRUCT file, filled on the voxels of a scan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import scipy

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import FloatArray, Geometry, Mask
from twobe3.dicom.drawn import (
    GAP_FROM,
    compare_steps,
    find_extents_mm,
    find_steps_mm,
    find_steps_of_blocks_mm,
    match_names,
    merge_planes,
    to_names,
)
from twobe3.dicom.polygons import combine
from twobe3.dicom.reader import coordinates, items, number, quietly, read_dataset, text

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_FARTHEST_MM = 1e4  # no patient reaches so far


def read_rtstruct(path: Path, geometry: Geometry, *, roi: str | Sequence[str] | None = None) -> Mask:
    """Fill the contours of an RTSTRUCT file on the voxels of a scan.

    Planes sample a volume (DICOM PS3.3 C.8.8.6): a slice of the scan takes the contours of the plane in whose extent
    its centre lies, see :func:`~twobe3.dicom.drawn.find_extents_mm`. The usual step is that of a block of equal ones,
    else the median of the region's own, which one gap or one plane too many does not change; a region without any,
    drawn on single planes, stands for its ContourSlabThickness (3006,0044) if it says one, else for one slice of the
    scan. Parts that lie side by side have planes of their own. How the contours of one plane are combined is said in
    :func:`~twobe3.dicom.polygons.combine`. What was combined or is not used, the mask's notes say.

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
        structures = StructureSet.read(path)
        (names,) = match_names([structures.names], to_names(roi))
        return structures.fill(geometry, names)


@dataclass(frozen=True, eq=False)
class _Region:
    """A region of the file; DICOM PS3.3 C.8.8.5, C.8.8.6."""

    name: str
    frame: str
    contours: tuple[pydicom.Dataset, ...]


@dataclass(frozen=True, eq=False)
class _Contour:
    """A closed contour: its points in LPS mm, shape (points, 3), how it is combined, and its slab (0: not said)."""

    points_mm: FloatArray
    exclusive: bool
    slab_mm: float


@dataclass(frozen=True, eq=False)
class StructureSet:
    """An RTSTRUCT file; use it within :func:`~twobe3.dicom.reader.quietly`."""

    dataset: pydicom.Dataset
    regions: tuple[_Region, ...]

    @classmethod
    def read(cls, path: Path) -> StructureSet:
        """Read the file; raises ``CORRUPT_FILE``."""
        dataset = read_dataset(path)
        drawn = {
            text(item, "ReferencedROINumber"): items(item, "ContourSequence")
            for item in items(dataset, "ROIContourSequence")
        }
        regions = [
            _Region(
                text(item, "ROIName"),
                text(item, "ReferencedFrameOfReferenceUID"),
                drawn.get(text(item, "ROINumber"), ()),
            )
            for item in items(dataset, "StructureSetROISequence")
        ]
        return cls(dataset, tuple(regions))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the regions, of those too of which nothing is drawn."""
        return tuple(region.name for region in self.regions)

    def fill(self, geometry: Geometry, names: Set[str]) -> Mask:
        """Fill the regions of these names, as the file spells them; raises what :func:`read_rtstruct` raises."""
        mask = np.zeros(geometry.shape, dtype=np.bool_)
        filled, notes = [], []
        for region in self.regions:
            if region.name not in names:
                continue
            contours = _list_closed(region.contours)
            if (unused := len(region.contours) - len(contours)) or not contours:
                open_ones = f"{format_count(unused, 'contour is', 'contours are')} not closed and not used"
                what = open_ones if unused else "nothing is drawn"
                notes.append(f"{Code.CONTOUR_UNUSED.name}: {what} (region {region.name!r})")
            if not contours:
                continue
            self._require_frame(region, geometry)
            inside, said = _fill(contours, geometry)
            mask |= inside
            notes += [f"{line} (region {region.name!r})" for line in said]
            filled.append(region.name)
        if not filled:
            asked = "" if names >= set(self.names) else f" of {' + '.join(sorted(names & set(self.names)))!r}"
            raise UnusableScanError(Code.CONTOUR_EMPTY, f"no closed contour is drawn{asked}")
        if not mask.any():
            reason = f"no voxel of the scan lies inside {' + '.join(filled)!r}"
            raise UnusableScanError(Code.CONTOUR_OUTSIDE, reason)
        return Mask(mask, geometry, " + ".join(dict.fromkeys(filled)), tuple(notes))

    def _require_frame(self, region: _Region, geometry: Geometry) -> None:
        """The region must lie in the scan's frame of reference.

        A region may name a frame that its own file does not declare (anonymisers do that); if the file declares
        exactly one, this is the one it must mean.
        """
        frames = items(self.dataset, "ReferencedFrameOfReferenceSequence")
        declared = {text(item, "FrameOfReferenceUID") for item in frames} - {""}
        frame = next(iter(declared)) if region.frame not in declared and len(declared) == 1 else region.frame
        if geometry.frame_of_reference and frame != geometry.frame_of_reference:
            reason = f"region {region.name!r} lies in another frame of reference than the scan"
            raise UnusableScanError(Code.CONTOUR_FRAME, reason)


def _list_closed(contours: Iterable[pydicom.Dataset]) -> list[_Contour]:
    found = []
    for contour in contours:
        values, kind = coordinates(contour, "ContourData"), text(contour, "ContourGeometricType")
        whole = len(values) >= 3 and len(values) % 3 == 0 and (np.abs(values) < _FARTHEST_MM).all()
        if whole and kind in _CLOSED:
            slab_mm = max(number(contour, "ContourSlabThickness") or 0.0, 0.0)
            found.append(_Contour(values.reshape(-1, 3), kind == "CLOSEDPLANAR_XOR", slab_mm))
    return found


def _fill(contours: Sequence[_Contour], geometry: Geometry) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """The voxels inside a region, and what is to be said of it."""
    flat = [_flatten(contour.points_mm, geometry) for contour in contours]
    depths_mm, outlines = np.array([depth for depth, _ in flat]), [outline for _, outline in flat]
    parts = _find_parts(outlines)
    planes_mm = [merge_planes(depths_mm[part]) for part in parts]
    usual_mm = _find_usual_step_mm(planes_mm) or _find_usual_step_mm([merge_planes(depths_mm)])
    step_mm = usual_mm or max(contour.slab_mm for contour in contours) or geometry.spacing_mm[0]
    mask = np.zeros(geometry.shape, dtype=np.bool_)
    n: Counter[str] = Counter()
    for part, own_mm in zip(parts, planes_mm, strict=True):
        plane_of = np.searchsorted(own_mm, depths_mm[part], side="right") - 1
        voxels = 0
        steps_mm = find_steps_of_blocks_mm(own_mm, step_mm)
        for plane, slices in enumerate(_find_slices(own_mm, steps_mm, geometry)):
            drawn = part[plane_of == plane] if slices else ()
            if len(drawn):
                exclusive = any(contours[k].exclusive for k in drawn)
                found = combine(
                    [outlines[k] for k in drawn], geometry.shape[1:], geometry.spacing_mm[1:], exclusive=exclusive
                )
                mask[slices.start : slices.stop] |= found.inside
                voxels += int(found.inside.sum())
                n["repeated"] += found.repeated
                n["exclusive" if exclusive else "united"] += found.overlapping
        n["parts without a voxel"] += not voxels
        ratio = compare_steps(own_mm, steps_mm)
        n["wide planes"] += int((steps_mm >= GAP_FROM * step_mm).sum())
        n["planes left out"] += int(((ratio >= GAP_FROM) & (ratio < 2.5)).sum())
    n["single"] = not usual_mm
    return mask, _describe(n, len(parts), step_mm)


def _describe(n: Counter[str], parts: int, step_mm: float) -> list[str]:
    """What was done that somebody should look at, each line with its code; of a region."""
    overlap = "contour overlaps another one in part", "contours overlap another one in part"
    said = {
        "repeated": (
            Code.CONTOUR_OVERLAP,
            format_count(n["repeated"], "contour is stored twice and counts", "contours are stored twice and count")
            + " once",
        ),
        "united": (Code.CONTOUR_OVERLAP, f"{format_count(n['united'], *overlap)}, with which it is united"),
        "exclusive": (
            Code.CONTOUR_OVERLAP,
            f"{format_count(n['exclusive'], *overlap)}, where CLOSEDPLANAR_XOR leaves a hole",
        ),
        "planes left out": (
            Code.CONTOUR_PLANES,
            f"of planes {step_mm:.2f} mm apart {format_count(n['planes left out'], 'seems', 'seem')} to be left out, "
            "and nothing is filled there",
        ),
        "wide planes": (
            Code.CONTOUR_PLANES,
            f"of planes {step_mm:.2f} mm apart {n['wide planes']} lie farther apart in a row: no gap, they are filled",
        ),
        "single": (Code.CONTOUR_PLANES, f"it is drawn on single planes, each of which stands for {step_mm:.2f} mm"),
        "parts without a voxel": (
            Code.CONTOUR_UNUSED,
            f"{n['parts without a voxel']} of its {format_count(parts, 'part')} without a voxel of the scan",
        ),
    }
    return [f"{code.name}: {text}" for key, (code, text) in said.items() if n[key]]


def _flatten(points_mm: FloatArray, geometry: Geometry) -> tuple[float, FloatArray]:
    """How far a contour lies from the first slice, in mm, and its points as (row, column)."""
    index = geometry.to_index(points_mm)
    depth = float(index[:, 0].mean())
    if np.abs(index[:, 0] - depth).max() > 0.5:
        raise UnusableScanError(Code.CONTOUR_UNUSABLE, "a contour is not parallel to the slices of the scan")
    return depth * geometry.spacing_mm[0], index[:, 1:]


def _find_parts(outlines: Sequence[FloatArray]) -> list[npt.NDArray[np.intp]]:
    """Which contours lie side by side, whatever their planes: those whose boxes touch or are linked by others."""
    low = np.array([outline.min(axis=0) for outline in outlines])
    high = np.array([outline.max(axis=0) for outline in outlines])
    touch = (low[:, None] <= high).all(axis=-1)
    n, part = scipy.sparse.csgraph.connected_components(touch & touch.T, directed=False)
    return [np.flatnonzero(part == k) for k in range(n)]


def _find_usual_step_mm(planes_mm: Sequence[FloatArray]) -> float:
    """The median of all steps, of two in the middle the smaller one; 0 where no plane has a neighbour."""
    steps = np.sort(np.concatenate([find_steps_mm(one) for one in planes_mm]))
    return float(steps[(len(steps) - 1) // 2]) if len(steps) else 0.0


def _find_slices(planes_mm: FloatArray, steps_mm: FloatArray, geometry: Geometry) -> list[range]:
    """The slices of the scan whose centres lie in the extent of each plane."""
    slices = np.ceil(find_extents_mm(planes_mm, steps_mm) / geometry.spacing_mm[0])
    return [range(*row) for row in np.clip(slices, 0, geometry.shape[0]).astype(np.int64).tolist()]
