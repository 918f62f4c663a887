"""Masks: regions that somebody drew, in any format, and thresholds on SUV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import Geometry, Mask, SUVVolume
from twobe3.dicom.drawn import Drawn, match_names, simplify_name, to_names
from twobe3.dicom.reader import quietly, read_dataset, text
from twobe3.dicom.rtstruct import StructureSet
from twobe3.dicom.seg import Segmentation
from twobe3.dicom.series import PETSeries
from twobe3.dicom.volume import read_suv
from twobe3.io.nifti import is_nifti, read_nifti

_NOTHING_INSIDE = (Code.CONTOUR_EMPTY, Code.CONTOUR_OUTSIDE)


def contour_mask(series: PETSeries, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
    """What was drawn on a series: the regions of all its structure sets and segmentations, merged; None without one.

    With ``roi``, names of regions to merge, each may be in any of them. What is not used, and a region that is drawn in
    several files, the mask's notes say. Raises what :func:`read_regions` raises: without ``roi`` only where no file can
    be used.
    """
    return _read_drawn(series.contours, volume.geometry, roi or None) if series.contours else None


def read_regions(
    source: PETSeries | Path | str, geometry: Geometry | None = None, *, roi: str | Sequence[str] | None = None
) -> Mask:
    """Regions that were drawn on a scan, from a file of any of the three formats, on the voxels of the scan.

    Parameters
    ----------
    source : PETSeries or path
        A series, of which all structure sets and segmentations are read, or a file: DICOM RTSTRUCT or SEG, or a NIfTI
        mask (``.nii``, ``.nii.gz``).
    geometry : Geometry, optional
        Of the scan, where a file is given.
    roi : str or sequence of str, optional
        Names of the regions to merge, by union; all by default. Within a file the very name goes before one that
        differs in case, blanks or compatible characters alone. A region of a NIfTI mask is named by its label.

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
    return _read_drawn([path], geometry, to_names(roi))


def _read_drawn(paths: Sequence[Path], geometry: Geometry, roi: Collection[str] | None) -> Mask:
    """The regions of DICOM files; those that ``roi`` names, whichever files they are in, or all that can be used."""
    files: list[Drawn] = []
    masks: list[Mask] = []
    refused: list[UnusableScanError] = []
    with quietly():
        for path in paths:
            try:
                files.append(_open_drawn(path))
            except UnusableScanError as error:
                refused.append(error)
        if not files:
            raise refused[0]
        matched = zip(files, match_names([one.names for one in files], roi), strict=True)
        asked = [(one, names) for one, names in matched if names or roi is None]
        for one, names in asked:
            try:
                masks.append(one.fill(geometry, names))
            except UnusableScanError as error:
                if roi is not None and error.code not in _NOTHING_INSIDE:
                    raise
                refused.append(error)
    if not masks:
        raise refused[0]
    united = merge(masks)
    return replace(united, notes=(*united.notes, *_say_of_files(masks, refused, len(files) - len(asked), len(paths))))


def _open_drawn(path: Path) -> Drawn:
    modality = text(read_dataset(path, tags=["Modality"]), "Modality")
    return Segmentation.read(path) if modality == "SEG" else StructureSet.read(path)


def _say_of_files(masks: Sequence[Mask], refused: Sequence[UnusableScanError], not_asked: int, n: int) -> list[str]:
    """Notes on the files of a scan: regions that are in several, and files that are not used."""
    named = [mask.name.split(" + ") for mask in masks]
    times = Counter(one for names in named for one in set(map(simplify_name, names)))
    spelled = {one: {name: None for names in named for name in names if simplify_name(name) == one} for one in times}
    notes = [
        f"{Code.CONTOUR_OVERLAP.name}: region {', '.join(map(repr, spelled[one]))} is drawn in {count} files, "
        "which are united"
        for one, count in times.items()
        if count > 1
    ]
    notes += [f"{Code.CONTOUR_UNUSED.name}: 1 of {n} files: {error.code.name}: {error.reason}" for error in refused]
    if not_asked:
        notes.append(f"{Code.CONTOUR_UNUSED.name}: {not_asked} of {n} files hold no region that was asked for")
    return notes


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
    mask = inside if source.same_as(geometry) else resample_nearest(inside, source, geometry)
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
    notes = tuple(dict.fromkeys(note for mask in masks for note in mask.notes))
    names = dict.fromkeys(name for mask in masks for name in mask.name.split(" + "))
    return Mask(array, first.geometry, " + ".join(names), notes)


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


def resample_nearest(inside: npt.NDArray[np.bool_], source: Geometry, target: Geometry) -> npt.NDArray[np.bool_]:
    """A mask on another grid: each voxel has the value of the source's voxel that its centre lies in.

    Parameters
    ----------
    inside : ndarray of bool, shape ``source.shape``
    source, target : Geometry

    Returns
    -------
    ndarray of bool, shape ``target.shape``
        False beyond the source.
    """
    step = np.linalg.inv(source.affine) @ target.affine
    moved = scipy.ndimage.affine_transform(
        inside.astype(np.uint8), step[:3, :3], step[:3, 3], output_shape=target.shape, order=0, mode="grid-constant"
    )
    return np.asarray(moved, dtype=np.bool_)
