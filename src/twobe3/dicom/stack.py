"""The slices of a series in order, each once, and where they lie: what PET and CT have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import Geometry
from twobe3.dicom import geometry
from twobe3.dicom.attributes import Repair
from twobe3.dicom.file_meta import lacks_file_meta
from twobe3.dicom.geometry import Plane
from twobe3.dicom.reader import number
from twobe3.dicom.slices import Image, Slice, compare_copies, read_copies, refuse_copies
from twobe3.dicom.walk import map_files


@dataclass(frozen=True, eq=False)
class SliceStack:
    """Slices by increasing position along the normal of the image plane, where they lie, and what was repaired."""

    slices: list[Slice]
    space: Geometry
    repairs: tuple[Repair, ...]


def read_stack(
    files: Sequence[Path],
    copies: Mapping[Path, tuple[Path, ...]],
    chosen: frozenset[tuple[Path, int]] | None = None,
) -> SliceStack:
    """Read the slices of a series and put them in order; call it, and use what it gives, within ``quietly``.

    Parameters
    ----------
    files : sequence of Path
        Its images, each once.
    copies : mapping of Path to tuple of Path
        Other files with the SOPInstanceUID of one of them.
    chosen : frozenset of (Path, int), optional
        The slices of one frame, by file and number in the file; all by default.

    Raises
    ------
    UnusableScanError
        ``CORRUPT_FILE``, ``MULTI_FRAME``, ``TOO_LARGE``, ``GEOMETRY_MIXED``, ``SLICE_GAP``, ``SLICE_DUPLICATE``,
        ``INSTANCE_CONFLICT``, ``SHEARED``, ``NOT_STATIC``, ``CODEC_MISSING``.
    """
    with closing(map_files(partial(_read_image, copies), files)) as read:
        images = list(read)
        slices = [one for image in images for one in image.slices]
        slices = [one for one in slices if not chosen or (one.file.path, one.frame) in chosen]
        planes = [slice_.plane for slice_ in slices]
        geometry.require_one_grid(planes)
        along_mm = geometry.positions_mm(planes).tolist()
        slices = sorted(
            (replace(slice_, along_mm=mm) for slice_, mm in zip(slices, along_mm, strict=True)),
            key=lambda slice_: slice_.along_mm,
        )
        slices, repairs = _drop_copies(slices)
        repairs += _note_copies(files, copies, images, alone=len(slices) == 1)
        planes = [slice_.plane for slice_ in slices]
        space = geometry.stack_planes(planes)
        repairs += (*_note_misplacement(planes, space), *_check_ends(slices), *_note_bare_files(slices))
    return SliceStack(slices, space, repairs)


def allocate(shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Room for the voxels of a volume; ``TOO_LARGE`` where there is none."""
    try:
        return np.empty(shape, dtype=np.float32)
    except MemoryError:
        reason = f"there is no memory for {shape[0]} × {shape[1]} × {shape[2]} voxels"
        raise UnusableScanError(Code.TOO_LARGE, reason) from None


def _read_image(copies: Mapping[Path, tuple[Path, ...]], path: Path) -> Image:
    return read_copies((path, *copies.get(path, ())))


def _note_copies(
    files: Sequence[Path], copies: Mapping[Path, tuple[Path, ...]], images: Sequence[Image], *, alone: bool
) -> tuple[Repair, ...]:
    """Say which files lie there again; refuse copies of a slice that is alone and reaches as far as it is thick."""
    n, n_unreadable = sum(path in copies for path in files), sum(one.n_unreadable for one in images)
    differ = tuple(dict.fromkeys(name for one in images for name in one.differ))
    if alone and "thickness" in differ:
        raise refuse_copies(["thickness"])
    if not n:
        return ()
    text_ = f"{n} of {len(files)} files lie there again, with their SOPInstanceUID and their voxels: used once"
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
    return f"; copies differ in {listed}, which the values do not depend on" if listed else ""


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
