"""One PET series from its files to SUV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import Geometry, SUVVolume
from twobe3.dicom import enhanced, geometry, header
from twobe3.dicom.acquisition import read_acquisition
from twobe3.dicom.attributes import Policy, Repair, apply_policy
from twobe3.dicom.file_meta import lacks_file_meta
from twobe3.dicom.frames import require_choice
from twobe3.dicom.geometry import Plane
from twobe3.dicom.reader import number, quietly, text
from twobe3.dicom.series import PETSeries
from twobe3.dicom.slices import Image, Slice, compare_copies, read_copies, refuse_copies
from twobe3.dicom.suv import calibrate
from twobe3.dicom.walk import map_files


def read_suv(series: PETSeries, *, policy: Policy = "lenient", repair_dates: bool = False) -> SUVVolume:
    """Read a series and convert it to SUV by body weight.

    Slices are ordered by increasing position along the normal of the image plane, which for an axial scan is
    from the feet to the head; each is decoded with its own rescale slope.

    Parameters
    ----------
    series : PETSeries
        One of ``find_series(...).series``, or a frame of one by ``choose_frame``.
    policy : {"lenient", "strict"}
        Whether plausible repairs are made and recorded in the calibration's ``warnings``, or refused.
    repair_dates : bool
        Whether, under the lenient policy, an injection whose date contradicts the scan's is taken at its time of day.

    Returns
    -------
    SUVVolume
        Geometry in LPS; ``source`` is the series' pseudonym.

    Raises
    ------
    UnusableScanError
        ``CORRUPT_FILE``, ``MULTI_FRAME``, ``TOO_LARGE``, ``GEOMETRY_MIXED``, ``SLICE_GAP``, ``SLICE_DUPLICATE``,
        ``INSTANCE_CONFLICT``, ``SHEARED``, ``NOT_STATIC``, ``CODEC_MISSING``, or the code of the SUV rule that fails.
    """
    require_choice(series)
    chosen = series.chosen
    with quietly(), closing(map_files(partial(_read_image, series), series.files)) as files:
        images = list(files)
        slices = [one for image in images for one in image.slices]
        slices = [one for one in slices if not chosen or (one.file.path, one.frame) in chosen.slices]
        planes = [slice_.plane for slice_ in slices]
        geometry.require_one_grid(planes)
        along_mm = geometry.positions_mm(planes).tolist()
        slices = sorted(
            (replace(slice_, along_mm=mm) for slice_, mm in zip(slices, along_mm, strict=True)),
            key=lambda slice_: slice_.along_mm,
        )
        slices, repairs = _drop_copies(slices)
        repairs += _note_copies(series, images, alone=len(slices) == 1)
        planes = [slice_.plane for slice_ in slices]
        space = geometry.stack_planes(planes)
        repairs += (*_note_misplacement(planes, space), *_check_ends(slices), *_note_bare_files(slices))
        first = slices[0]
        datasets = [first.read_whole_header(), *(slice_.dataset for slice_ in slices[1:])]
        attributes = header.read_series_attributes(datasets)
        if chosen:
            attributes = replace(attributes, series_type=(), whole_series=chosen.ends)
        _require_one_unit(slices)
        factors = calibrate(attributes, policy=policy, repair_dates=repair_dates)
        warnings, acquisition = apply_policy(repairs, policy), read_acquisition(datasets[0], attributes)
        array = _allocate(space.shape)
        scales = factors.per_slice * np.array([one.slope for one in attributes.slices], dtype=np.float64)
        for i, (slice_, scale) in enumerate(zip(slices, scales, strict=True)):
            stored = slice_.stored
            enhanced.require_mapped(slice_.dataset, stored)
            np.multiply(stored, scale, out=array[i], dtype=np.float64, casting="unsafe")  # rounded once, at the end
    calibration = replace(factors.calibration, warnings=warnings + factors.calibration.warnings)
    history = (f"read {len(slices)} slices as {calibration.rule}", *((chosen.text,) if chosen else ()))
    try:
        return SUVVolume(array, space, calibration, series.series, history, acquisition)
    except ValueError:  # not finite
        reason = "stored value × slope × factor exceeds what a float32 holds"
        raise UnusableScanError(Code.RESCALE_INVALID, reason) from None


def _allocate(shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    try:
        return np.empty(shape, dtype=np.float32)
    except MemoryError:
        reason = f"there is no memory for {shape[0]} × {shape[1]} × {shape[2]} voxels"
        raise UnusableScanError(Code.TOO_LARGE, reason) from None


def _read_image(series: PETSeries, path: Path) -> Image:
    return read_copies((path, *series.copies.get(path, ())))


def _note_copies(series: PETSeries, images: Sequence[Image], *, alone: bool) -> tuple[Repair, ...]:
    """Say which files lie there again; refuse copies of a slice that is alone and reaches as far as it is thick."""
    n, n_unreadable = sum(path in series.copies for path in series.files), sum(one.n_unreadable for one in images)
    differ = tuple(dict.fromkeys(name for one in images for name in one.differ))
    if alone and "thickness" in differ:
        raise refuse_copies(["thickness"])
    if not n:
        return ()
    text_ = f"{n} of {len(series.files)} files lie there again, with their SOPInstanceUID and their voxels: used once"
    text_ += f"; {format_count(n_unreadable, 'copy', 'copies')} cannot be read" if n_unreadable else ""
    return (Repair(Code.SLICE_DUPLICATE, text_ + _say_differences(differ), changes_value=False),)


def _drop_copies(slices: Sequence[Slice]) -> tuple[list[Slice], tuple[Repair, ...]]:
    """Keep one of slices that stand twice with the same pixels; refuse different ones at one position (rule 20)."""
    kept: list[Slice] = []
    copies, conflicts, differ = 0, [], dict[str, None]()
    for slice_ in slices:
        if not kept or not geometry.same_position(kept[-1].along_mm, slice_.along_mm):
            kept.append(slice_)
        elif slice_.compare(kept[-1]):
            conflicts.append(slice_.along_mm)
        else:
            copies += 1
            deciding, rest = compare_copies([kept[-1]], [slice_])
            deciding += [name for name in rest if name == "thickness" and len(slices) - copies == 1]
            if deciding:
                text_ = f"two slices at {slice_.along_mm:.2f} mm have the same voxels and differ: {', '.join(deciding)}"
                raise UnusableScanError(Code.SLICE_DUPLICATE, text_, remedy="keep the right one")
            differ.update(dict.fromkeys(rest))
    if conflicts:
        places = len({round(mm, 1) for mm in conflicts})
        text_ = f"{places} of {len(kept)} positions hold different slices, the first at {conflicts[0]:.2f} mm"
        raise UnusableScanError(Code.NOT_STATIC if places == len(kept) else Code.SLICE_DUPLICATE, text_)
    text_ = f"{format_count(copies, 'slice')} stood twice with the same pixels; one of each was used"
    text_ += _say_differences(differ)
    return kept, (Repair(Code.SLICE_DUPLICATE, text_),) if copies else ()


def _say_differences(names: Iterable[str]) -> str:
    """What copies differ in that the SUV do not depend on."""
    listed = " and ".join(names)
    return f"; copies differ in {listed}, which this SUV does not depend on" if listed else ""


def _note_misplacement(planes: Sequence[Plane], space: Geometry) -> tuple[Repair, ...]:
    off = geometry.find_misplacement(planes, space)
    if off.voxels <= geometry.NOTABLE_MISPLACEMENT:
        return ()
    text_ = f"slices were placed at equal steps of {space.spacing_mm[0]:.3f} mm; their positions are off by up to {off}"
    return (Repair(Code.GEOMETRY_MIXED, text_),)


def _check_ends(slices: Sequence[Slice]) -> tuple[Repair, ...]:
    """A gap shows itself; slices missing at an end show only in NumberOfSlices (0054,0081)."""
    announced = number(slices[0].dataset, "NumberOfSlices")
    if announced is None or announced <= len(slices):
        return ()
    text_ = f"{len(slices)} of {announced:.0f} announced slices are there; the ends are missing"
    return (Repair(Code.SLICE_GAP, text_),)


def _note_bare_files(slices: Sequence[Slice]) -> tuple[Repair, ...]:
    """Say of files without file meta information what was recognised as their transfer syntax."""
    files = {slice_.file.path: slice_.file.dataset for slice_ in slices}
    bare = [dataset.file_meta.TransferSyntaxUID.name for dataset in files.values() if lacks_file_meta(dataset)]
    if not bare:
        return ()
    text_ = f"{len(bare)} of {len(files)} files have none; they were read as {', '.join(sorted(set(bare)))}"
    return (Repair(Code.FILE_META_MISSING, text_, changes_value=False),)


def _require_one_unit(slices: Sequence[Slice]) -> None:
    for keyword in ("Units", "DecayCorrection", "SUVType"):
        values = {text(slice_.dataset, keyword) for slice_ in slices}
        if len(values) > 1:
            reason = f"{keyword} differs within the series: {', '.join(sorted(values))}"
            raise UnusableScanError(Code.UNITS_UNSUPPORTED, reason)
