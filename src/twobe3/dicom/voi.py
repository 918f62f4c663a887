"""Volumes of interest: regions that somebody drew, in any format, and thresholds on SUV."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from scipy import ndimage
from skimage.draw import polygon2mask

from twobe3.dicom.files import coordinates, items, quietly, read_dataset, text
from twobe3.dicom.seg import read_seg
from twobe3.dicom.series import PETSeries
from twobe3.errors import Code, Refusal
from twobe3.nifti import is_nifti, read_nifti
from twobe3.volume import FloatArray, Geometry, Mask, SUVVolume

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_SAME_PLANE_MM = 0.01


def contour_mask(series: PETSeries, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
    """What was drawn on a series: the regions of its first structure set, merged; None without one.

    Parameters
    ----------
    series : PETSeries
        The series and its structure sets.
    volume : SUVVolume
        Its voxels.
    roi : sequence of str
        Names of the regions to merge; then it is the first structure set that has them all. All regions by default.

    Raises
    ------
    Refusal
        Those of :func:`read_regions`.
    """
    for path in series.contours[:-1] if roi else ():
        try:
            return read_regions(path, volume.geometry, roi=roi)
        except Refusal:
            continue
    last = series.contours[-1 if roi else 0 :][:1]
    return read_regions(last[0], volume.geometry, roi=roi or None) if last else None


def read_regions(path: Path, geometry: Geometry, *, roi: str | Sequence[str] | None = None) -> Mask:
    """Regions from a file of any of the three formats, on the voxels of a scan.

    Parameters
    ----------
    path : Path
        DICOM RTSTRUCT or SEG, or a NIfTI mask (``.nii``, ``.nii.gz``).
    geometry : Geometry
        Of the scan.
    roi : str or sequence of str, optional
        Names of the regions to merge, by union; all by default. A region of a NIfTI mask is named by its label.

    Raises
    ------
    Refusal
        ``CONTOUR_EMPTY``, ``CONTOUR_OUTSIDE``, ``CONTOUR_FRAME``, ``CONTOUR_UNUSABLE``, ``CORRUPT_FILE``,
        ``TOO_LARGE``; of a NIfTI mask also the codes of :func:`~twobe3.nifti.read_nifti`.
    """
    if is_nifti(path):
        return read_nifti_mask(path, geometry, roi=roi)
    with quietly():
        modality = text(read_dataset(path, tags=["Modality"]), "Modality")
    if modality == "SEG":
        return read_seg(path, geometry, roi=_names(roi))
    return read_rtstruct(path, geometry, roi=roi)


def read_nifti_mask(path: Path, geometry: Geometry, *, roi: str | Sequence[str] | None = None) -> Mask:
    """Bring a NIfTI mask onto the voxels of a scan, by the label nearest to each voxel's centre.

    NIfTI knows no frame of reference: the mask must have been drawn on this scan or on an image aligned with it.

    Parameters
    ----------
    path : Path
        The file; 0 is outside, every other integer a label.
    geometry : Geometry
        Of the scan.
    roi : str or sequence of str, optional
        Labels to merge, for instance ``"2"``; all by default.

    Raises
    ------
    Refusal
        ``CONTOUR_UNUSABLE``: no such label. ``CONTOUR_EMPTY``: every label is 0. ``CONTOUR_OUTSIDE``: nothing inside
        the scan. The codes of :func:`~twobe3.nifti.read_nifti`.
    """
    labels, source = read_nifti(path)
    wanted = _names(roi)
    if wanted is None:
        inside = labels > 0
    else:
        known = {f"{label:g}" for label in np.unique(labels) if label > 0}
        if missing := sorted(set(wanted) - known):
            there = ", ".join(sorted(known)) or "none"
            raise Refusal(Code.CONTOUR_UNUSABLE, f"there is no label {missing[0]!r}; there are: {there}")
        inside = np.isin(labels, [float(label) for label in wanted])
    mask = inside if source.same_as(geometry) else _nearest(inside, source, geometry)
    if not inside.any():
        raise Refusal(Code.CONTOUR_EMPTY, "every voxel of the mask is 0")
    if not mask.any():
        raise Refusal(Code.CONTOUR_OUTSIDE, "no voxel of the scan lies inside the mask")
    return Mask(mask, geometry, " + ".join(wanted) if wanted else "mask")


def merge(masks: Sequence[Mask]) -> Mask:
    """The union of regions on one grid.

    Raises
    ------
    ValueError
        There is none, or two have different voxels.
    """
    if not masks:
        raise ValueError("there is no region to merge")
    first = masks[0]
    if not all(mask.geometry.same_as(first.geometry) for mask in masks):
        raise ValueError("regions on different voxels cannot be merged")
    array = np.logical_or.reduce([mask.array for mask in masks])
    return Mask(array, first.geometry, " + ".join(dict.fromkeys(mask.name for mask in masks)))


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
    Refusal
        ``CORRUPT_FILE``: not readable. ``CONTOUR_EMPTY``: no closed contour. ``CONTOUR_FRAME``: another frame of
        reference. ``CONTOUR_OUTSIDE``: nothing inside the scan. ``CONTOUR_UNUSABLE``: no such region, or contours
        that are not parallel to the slices.
    """
    with quietly():
        dataset = read_dataset(path)
        regions = _regions(dataset, _names(roi))
        mask = np.zeros(geometry.shape, dtype=np.bool_)
        names = []
        for name, frame, contours in regions:
            polygons = _polygons(contours)
            if not polygons:
                continue
            _require_frame(name, frame, dataset, geometry)
            mask |= _fill(polygons, geometry)
            names.append(name)
    if not names:
        raise Refusal(Code.CONTOUR_EMPTY, "no closed contour is drawn" + (f" of {roi!r}" if roi else ""))
    if not mask.any():
        raise Refusal(Code.CONTOUR_OUTSIDE, f"no voxel of the scan lies inside {' + '.join(names)!r}")
    return Mask(mask, geometry, " + ".join(names))


def threshold_mask(volume: SUVVolume, *, suv: float) -> Mask:
    """Voxels whose SUV is above a threshold.

    Parameters
    ----------
    volume : SUVVolume
        The scan.
    suv : float
        The threshold; SUV 4.0 is the usual one for lymphoma (Barrington 2021, doi 10.2967/jnumed.119.238923).
    """
    return Mask(volume.array > suv, volume.geometry, f"SUV>{suv}")


def relative_threshold_mask(volume: SUVVolume, *, fraction: float = 0.41, within: Mask | None = None) -> Mask:
    """Voxels of at least a fraction of SUVmax.

    SUVmax of a whole body is that of the bladder or the brain: give the region that holds the lesion.

    Parameters
    ----------
    volume : SUVVolume
        The scan, or the part of it that holds the lesion.
    fraction : float
        0.41 in the EANM guideline (Boellaard 2015, doi 10.1007/s00259-014-2961-x).
    within : Mask, optional
        Region on the scan's voxels in which SUVmax is taken, and of which the result is a part.
    """
    name = f"SUV>={fraction:.0%} of max"
    if within is None:
        return Mask(volume.array >= fraction * volume.array.max(), volume.geometry, name)
    threshold = fraction * volume.array[within.array].max(initial=-np.inf)
    return Mask(within.array & (volume.array >= threshold), volume.geometry, f"{name} in {within.name}")


def _names(roi: str | Sequence[str] | None) -> Collection[str] | None:
    return (roi,) if isinstance(roi, str) else roi


def _nearest(inside: npt.NDArray[np.bool_], source: Geometry, target: Geometry) -> npt.NDArray[np.bool_]:
    """A mask on another grid: each voxel has the value of the source's voxel that its centre lies in."""
    step = np.linalg.inv(source.affine) @ target.affine
    moved = ndimage.affine_transform(
        inside.astype(np.uint8), step[:3, :3], step[:3, 3], output_shape=target.shape, order=0, mode="grid-constant"
    )
    return np.asarray(moved, dtype=np.bool_)


def _regions(
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
    chosen = _spelt_as([name for name, _, _ in regions], roi)
    return [region for region in regions if region[0] in chosen]


def _spelt_as(there: Sequence[str], roi: Collection[str]) -> set[str]:
    """Names as the file spells them; where it has no such name, one that differs in case and blanks alone will do."""
    alike = {"".join(name.casefold().split()): name for name in reversed(there)}
    found = {name: name if name in there else alike.get("".join(name.casefold().split())) for name in roi}
    if missing := sorted(name for name, one in found.items() if one is None):
        names = ", ".join(there) or "none"
        raise Refusal(Code.CONTOUR_UNUSABLE, f"there is no region {missing[0]!r}; there are: {names}")
    return {name for name in found.values() if name is not None}


def _polygons(contours: Iterable[pydicom.Dataset]) -> list[FloatArray]:
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
        raise Refusal(Code.CONTOUR_FRAME, f"region {name!r} lies in another frame of reference than the scan")


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
        raise Refusal(Code.CONTOUR_UNUSABLE, "a contour is not parallel to the slices of the scan")
    return depth, index[:, 1:]
