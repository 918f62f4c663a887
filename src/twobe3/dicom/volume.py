"""One PET series from its files to SUV."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import MAX_VOXELS, SUVVolume
from twobe3.dicom import enhanced, geometry, header
from twobe3.dicom.attributes import Policy, Repair, apply_policy
from twobe3.dicom.file_meta import lacks_file_meta
from twobe3.dicom.frames import require_choice
from twobe3.dicom.geometry import Plane
from twobe3.dicom.pixels import PIXEL_DATA, decode_pixels
from twobe3.dicom.reader import number, numbers, quietly, read_dataset, text, value_of
from twobe3.dicom.series import PETSeries
from twobe3.dicom.suv import calibrate
from twobe3.dicom.walk import map_files

_SLICE_TAGS = (
    *("SOPClassUID", "Rows", "Columns", "NumberOfFrames", "FrameOfReferenceUID", "Manufacturer", "NumberOfSlices"),
    *("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "RescaleSlope", "RescaleIntercept"),
    *("Units", "DecayCorrection", "SUVType", "FrameReferenceTime", "ActualFrameDuration", "DecayFactor"),
    *("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime"),
)
_PHILIPS_GROUP = 0x7053


@dataclass(frozen=True, eq=False)
class _File:
    path: Path
    dataset: pydicom.Dataset
    shape: tuple[int, int, int]

    @cached_property
    def decoded(self) -> npt.NDArray[Any]:
        """Stored values, shape (frames, rows, columns)."""
        return decode_pixels(self.dataset, self.shape)


@dataclass(frozen=True, eq=False)
class _Slice:
    dataset: pydicom.Dataset
    plane: Plane
    file: _File
    frame: int = 0
    along_mm: float = 0.0

    @property
    def stored(self) -> npt.NDArray[Any]:
        """Stored values, shape (rows, columns); a file of several frames is decoded once."""
        several = self.file.shape[0] > 1
        decoded = self.file.decoded if several else decode_pixels(self.file.dataset, self.file.shape)
        values: npt.NDArray[Any] = decoded[self.frame]
        return values

    @property
    def image(self) -> tuple[object, float | None]:
        """What is the same for a copy."""
        several = self.file.shape[0] > 1
        content = self.stored.tobytes() if several else value_of(self.dataset, PIXEL_DATA)
        return content, number(self.dataset, "RescaleSlope")


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
        ``SHEARED``, ``NOT_STATIC``, ``CODEC_MISSING``, or the code of the SUV rule that fails.
    """
    require_choice(series)
    chosen = series.chosen
    with quietly(), closing(map_files(_read_slices, series.files)) as files:
        slices = [one for slices_of_file in files for one in slices_of_file]
        slices = [one for one in slices if not chosen or (one.file.path, one.frame) in chosen.slices]
        planes = [slice_.plane for slice_ in slices]
        geometry.require_one_grid(planes)
        along_mm = geometry.positions_mm(planes).tolist()
        slices = sorted(
            (replace(slice_, along_mm=mm) for slice_, mm in zip(slices, along_mm, strict=True)),
            key=lambda slice_: slice_.along_mm,
        )
        slices, repairs = _drop_copies(slices)
        space = geometry.stack_planes([slice_.plane for slice_ in slices])
        repairs += _check_ends(slices) + _note_bare_files(slices)
        first = slices[0]
        whole = first.dataset if enhanced.is_multi_frame(first.file.dataset) else read_dataset(first.file.path)
        attributes = header.read_series_attributes([whole, *(slice_.dataset for slice_ in slices[1:])])
        if chosen:
            attributes = replace(attributes, series_type=(), whole_series=chosen.ends)
        _require_one_unit(slices)
        factors = calibrate(attributes, policy=policy, repair_dates=repair_dates)
        warnings = apply_policy(repairs, policy)
        array = _allocate(space.shape)
        scales = factors.per_slice * np.array([one.slope for one in attributes.slices], dtype=np.float64)
        for i, (slice_, scale) in enumerate(zip(slices, scales, strict=True)):
            stored = slice_.stored
            enhanced.require_mapped(slice_.dataset, stored)
            array[i] = stored.astype(np.float64) * scale
    if not np.isfinite(array).all():
        raise UnusableScanError(Code.RESCALE_INVALID, "stored value × slope × factor exceeds what a float32 holds")
    calibration = replace(factors.calibration, warnings=warnings + factors.calibration.warnings)
    history = (f"read {len(slices)} slices as {calibration.rule}", *((chosen.text,) if chosen else ()))
    return SUVVolume(array, space, calibration, series.series, history)


def _allocate(shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    try:
        return np.empty(shape, dtype=np.float32)
    except MemoryError:
        reason = f"there is no memory for {shape[0]} × {shape[1]} × {shape[2]} voxels"
        raise UnusableScanError(Code.TOO_LARGE, reason) from None


def _read_slices(path: Path) -> list[_Slice]:
    """The slices of a file, with what may differ between them; the rest of the header is read once."""
    dataset = read_dataset(path, tags=_SLICE_TAGS, groups=(_PHILIPS_GROUP,), pixels=True)
    if enhanced.is_multi_frame(dataset):
        dataset = read_dataset(path, pixels=True)
    rows, columns = int(number(dataset, "Rows") or 0), int(number(dataset, "Columns") or 0)
    n_frames = max(1, int(number(dataset, "NumberOfFrames") or 1))
    if rows * columns * n_frames > MAX_VOXELS:
        raise UnusableScanError(Code.TOO_LARGE, f"one file announces {rows} × {columns} × {n_frames} voxels")
    if (number(dataset, "SamplesPerPixel") or 1) != 1:
        raise UnusableScanError(Code.CORRUPT_FILE, "a slice has colours: SamplesPerPixel (0028,0002) is not 1")
    file = _File(path, dataset, (n_frames, rows, columns))
    return [
        _Slice(frame, _read_plane(frame, rows, columns), file, i)
        for i, frame in enumerate(enhanced.split_frames(dataset))
    ]


def _read_plane(frame: pydicom.Dataset, rows: int, columns: int) -> Plane:
    return Plane(
        rows,
        columns,
        numbers(frame, "PixelSpacing"),
        numbers(frame, "ImageOrientationPatient"),
        numbers(frame, "ImagePositionPatient"),
        number(frame, "SliceThickness"),
        text(frame, "FrameOfReferenceUID"),
    )


def _drop_copies(slices: Sequence[_Slice]) -> tuple[list[_Slice], tuple[Repair, ...]]:
    """Keep one of slices that stand twice with the same pixels; refuse different ones at one position (rule 20)."""
    kept: list[_Slice] = []
    copies, conflicts = 0, []
    for slice_ in slices:
        if not kept or not geometry.same_position(kept[-1].along_mm, slice_.along_mm):
            kept.append(slice_)
        elif slice_.image == kept[-1].image:
            copies += 1
        else:
            conflicts.append(slice_.along_mm)
    if conflicts:
        places = len({round(mm, 1) for mm in conflicts})
        text_ = f"{places} of {len(kept)} positions hold different slices, the first at {conflicts[0]:.2f} mm"
        raise UnusableScanError(Code.NOT_STATIC if places == len(kept) else Code.SLICE_DUPLICATE, text_)
    repair = Repair(Code.SLICE_DUPLICATE, f"{copies} slices stood twice with the same pixels; one of each was used")
    return kept, (repair,) if copies else ()


def _check_ends(slices: Sequence[_Slice]) -> tuple[Repair, ...]:
    """A gap shows itself; slices missing at an end show only in NumberOfSlices (0054,0081)."""
    announced = number(slices[0].dataset, "NumberOfSlices")
    if announced is None or announced <= len(slices):
        return ()
    text_ = f"{len(slices)} of {announced:.0f} announced slices are there; the ends are missing"
    return (Repair(Code.SLICE_GAP, text_),)


def _note_bare_files(slices: Sequence[_Slice]) -> tuple[Repair, ...]:
    """Say of files without file meta information what was recognised as their transfer syntax."""
    files = {slice_.file.path: slice_.file.dataset for slice_ in slices}
    bare = [dataset.file_meta.TransferSyntaxUID.name for dataset in files.values() if lacks_file_meta(dataset)]
    if not bare:
        return ()
    text_ = f"{len(bare)} of {len(files)} files have none; they were read as {', '.join(sorted(set(bare)))}"
    return (Repair(Code.FILE_META_MISSING, text_, changes_value=False),)


def _require_one_unit(slices: Sequence[_Slice]) -> None:
    for keyword in ("Units", "DecayCorrection", "SUVType"):
        values = {text(slice_.dataset, keyword) for slice_ in slices}
        if len(values) > 1:
            reason = f"{keyword} differs within the series: {', '.join(sorted(values))}"
            raise UnusableScanError(Code.UNITS_UNSUPPORTED, reason)
