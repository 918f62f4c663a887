"""Masks: regions that somebody drew, in any format, and thresholds on SUV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import Geometry, Mask, SUVVolume
from twobe3.dicom.reader import quietly, read_dataset, text
from twobe3.dicom.rtstruct import read_rtstruct, to_names
from twobe3.dicom.seg import read_seg
from twobe3.dicom.series import PETSeries
from twobe3.dicom.volume import read_suv
from twobe3.io.nifti import is_nifti, read_nifti


def contour_mask(series: PETSeries, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
    """What was drawn on a series: the regions of its first structure set, merged; None without one.

    With ``roi``, names of regions to merge, it is the first structure set that has them all. Raises what
    :func:`read_regions` raises.
    """
    for path in series.contours[:-1] if roi else ():
        try:
            return read_regions(path, volume.geometry, roi=roi)
        except UnusableScanError:
            continue
    last = series.contours[-1 if roi else 0 :][:1]
    return read_regions(last[0], volume.geometry, roi=roi or None) if last else None


def read_regions(
    source: PETSeries | Path | str, geometry: Geometry | None = None, *, roi: str | Sequence[str] | None = None
) -> Mask:
    """Regions that were drawn on a scan, from a file of any of the three formats, on the voxels of the scan.

    Parameters
    ----------
    source : PETSeries or path
        A series, of whose structure sets the first is read, or a file: DICOM RTSTRUCT or SEG, or a NIfTI mask
        (``.nii``, ``.nii.gz``).
    geometry : Geometry, optional
        Of the scan, where a file is given.
    roi : str or sequence of str, optional
        Names of the regions to merge, by union; all by default. A region of a NIfTI mask is named by its label.

    Raises
    ------
    UnusableScanError
        ``CONTOUR_EMPTY``, ``CONTOUR_OUTSIDE``, ``CONTOUR_FRAME``, ``CONTOUR_UNUSABLE``, ``CORRUPT_FILE``,
        ``TOO_LARGE``; of a NIfTI mask also the codes of :func:`~twobe3.io.nifti.read_nifti`; of a series
        ``CONTOUR_MISSING`` without any structure set, and those of :func:`~twobe3.dicom.volume.read_suv`.
    ValueError
        A file without a geometry.
    """
    if isinstance(source, PETSeries):
        mask = contour_mask(source, read_suv(source), roi=tuple(to_names(roi) or ()))
        if mask is None:
            raise UnusableScanError(Code.CONTOUR_MISSING, "no RTSTRUCT or SEG belongs to the series")
        return mask
    if geometry is None:
        raise ValueError("regions of a file need the geometry of the scan: read_regions(path, volume.geometry)")
    path = Path(source)
    if is_nifti(path):
        return read_nifti_mask(path, geometry, roi=roi)
    with quietly():
        modality = text(read_dataset(path, tags=["Modality"]), "Modality")
    if modality == "SEG":
        return read_seg(path, geometry, roi=to_names(roi))
    return read_rtstruct(path, geometry, roi=roi)


def read_nifti_mask(path: Path, geometry: Geometry, *, roi: str | Sequence[str] | None = None) -> Mask:
    """Bring a NIfTI mask onto the voxels of a scan, by the label nearest to each voxel's centre.

    NIfTI knows no frame of reference: the mask must have been drawn on this scan or on an image aligned with it.
    0 is outside, every other integer a label, which ``roi`` names, for instance ``"2"``; all by default.

    Raises
    ------
    UnusableScanError
        ``CONTOUR_UNUSABLE``: no such label. ``CONTOUR_EMPTY``: every label is 0. ``CONTOUR_OUTSIDE``: nothing inside
        the scan. The codes of :func:`~twobe3.io.nifti.read_nifti`.
    """
    labels, source = read_nifti(path)
    wanted = to_names(roi)
    if wanted is None:
        inside = labels > 0
    else:
        known = {f"{label:g}" for label in np.unique(labels) if label > 0}
        if missing := sorted(set(wanted) - known):
            there = ", ".join(sorted(known)) or "none"
            raise UnusableScanError(Code.CONTOUR_UNUSABLE, f"there is no label {missing[0]!r}; there are: {there}")
        inside = np.isin(labels, [float(label) for label in wanted])
    mask = inside if source.same_as(geometry) else _resample_nearest(inside, source, geometry)
    if not inside.any():
        raise UnusableScanError(Code.CONTOUR_EMPTY, "every voxel of the mask is 0")
    if not mask.any():
        raise UnusableScanError(Code.CONTOUR_OUTSIDE, "no voxel of the scan lies inside the mask")
    return Mask(mask, geometry, " + ".join(wanted) if wanted else "mask")


def merge(masks: Sequence[Mask]) -> Mask:
    """The union of regions on one grid. Raises ValueError without one, and for different voxels."""
    if not masks:
        raise ValueError("there is no region to merge")
    first = masks[0]
    if not all(mask.geometry.same_as(first.geometry) for mask in masks):
        raise ValueError("regions on different voxels cannot be merged")
    array = np.logical_or.reduce([mask.array for mask in masks])
    return Mask(array, first.geometry, " + ".join(dict.fromkeys(mask.name for mask in masks)))


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


def _resample_nearest(inside: npt.NDArray[np.bool_], source: Geometry, target: Geometry) -> npt.NDArray[np.bool_]:
    """A mask on another grid: each voxel has the value of the source's voxel that its centre lies in."""
    step = np.linalg.inv(source.affine) @ target.affine
    moved = ndimage.affine_transform(
        inside.astype(np.uint8), step[:3, :3], step[:3, 3], output_shape=target.shape, order=0, mode="grid-constant"
    )
    return np.asarray(moved, dtype=np.bool_)
