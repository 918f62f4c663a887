"""The slices of PET files: header, plane and stored values; and which files are copies of one image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import MAX_VOXELS
from twobe3.dicom import enhanced, header
from twobe3.dicom.clock import parse_datetime, parse_time
from twobe3.dicom.geometry import Plane
from twobe3.dicom.pixels import decode_pixels
from twobe3.dicom.reader import number, numbers, read_dataset, text

_TAGS = (
    *("SOPClassUID", "Rows", "Columns", "NumberOfFrames", "FrameOfReferenceUID", "Manufacturer", "NumberOfSlices"),
    *("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "RescaleSlope", "RescaleIntercept"),
    *("Units", "DecayCorrection", "SUVType", "FrameReferenceTime", "ActualFrameDuration", "DecayFactor"),
    *("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime"),
)
_PHILIPS_GROUP = 0x7053


@dataclass(frozen=True, eq=False)
class ImageFile:
    """A file that was read.

    Attributes
    ----------
    path : Path
    dataset : pydicom.Dataset
        Its header with the pixels, still encoded: of a single-frame file only what may differ between slices.
    shape : tuple of int
        (frames, rows, columns).
    """

    path: Path
    dataset: pydicom.Dataset
    shape: tuple[int, int, int]

    @cached_property
    def decoded(self) -> npt.NDArray[Any]:
        """Stored values, shape (frames, rows, columns)."""
        return decode_pixels(self.dataset, self.shape)


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice of a file: the header of its frame, where it lies, and its position along the normal once known."""

    dataset: pydicom.Dataset
    plane: Plane
    file: ImageFile
    frame: int = 0
    along_mm: float = 0.0

    @property
    def stored(self) -> npt.NDArray[Any]:
        """Stored values, shape (rows, columns); a file of several frames is decoded once."""
        several = self.file.shape[0] > 1
        decoded = self.file.decoded if several else decode_pixels(self.file.dataset, self.file.shape)
        values: npt.NDArray[Any] = decoded[self.frame]
        return values

    def same_image(self, other: Slice) -> bool:
        """Whether another slice has the same stored values, scale and times, however it is encoded."""
        mine, others = (header.read_slice_attributes(one.dataset) for one in (self, other))
        return mine == others and np.array_equal(self.stored, other.stored)

    def read_whole_header(self) -> pydicom.Dataset:
        """Its header with what all slices of a series share."""
        return self.dataset if enhanced.is_multi_frame(self.file.dataset) else read_dataset(self.file.path)


def read_slices(path: Path) -> list[Slice]:
    """The slices of a file, with what may differ between them; the rest of the header is read once.

    Raises ``CORRUPT_FILE``, ``TOO_LARGE``, ``MULTI_FRAME`` and what else
    :func:`~twobe3.dicom.enhanced.split_frames` raises.
    """
    dataset = read_dataset(path, tags=_TAGS, groups=(_PHILIPS_GROUP,), pixels=True)
    if enhanced.is_multi_frame(dataset):
        dataset = read_dataset(path, pixels=True)
    rows, columns = int(number(dataset, "Rows") or 0), int(number(dataset, "Columns") or 0)
    n_frames = max(1, int(number(dataset, "NumberOfFrames") or 1))
    if rows * columns * n_frames > MAX_VOXELS:
        raise UnusableScanError(Code.TOO_LARGE, f"one file announces {rows} × {columns} × {n_frames} voxels")
    if (number(dataset, "SamplesPerPixel") or 1) != 1:
        raise UnusableScanError(Code.CORRUPT_FILE, "a slice has colours: SamplesPerPixel (0028,0002) is not 1")
    file = ImageFile(path, dataset, (n_frames, rows, columns))
    return [
        Slice(frame, _read_plane(frame, rows, columns), file, i)
        for i, frame in enumerate(enhanced.split_frames(dataset))
    ]


def read_copies(paths: Sequence[Path]) -> tuple[list[Slice], int]:
    """The slices of the first of some files with one SOPInstanceUID, and how many of the files cannot be read.

    An identifier stands for one image (DICOM PS3.5 9). Files that were encoded anew, or whose header was changed where
    it tells neither place nor SUV, are copies of it.

    Raises
    ------
    UnusableScanError
        ``INSTANCE_CONFLICT``: two of the files differ. If none can be read, what :func:`read_slices` or the decoder
        raises.
    """
    if len(paths) == 1:
        return read_slices(paths[0]), 0
    read: list[list[Slice]] = []
    failures: list[UnusableScanError] = []
    for path in paths:
        try:
            slices = read_slices(path)
            slices[0].stored  # noqa: B018  decoded: a copy that was cut short does not count
            read.append(slices)
        except UnusableScanError as error:
            failures.append(error)
    if not read:
        raise failures[0]
    for other in read[1:]:
        _require_copy(read[0], other)
    return read[0], len(failures)


def hold_one_image(slices: Iterable[Sequence[tuple[Path, int]]]) -> bool:
    """Whether all slices of each position, given by file and frame, are one image; files are read until two differ."""
    read = lru_cache(maxsize=4)(read_slices)  # of multi-frame files one after another is asked for
    try:
        for position in slices:
            first, *others = (read(path)[frame] for path, frame in position)
            if not all(first.same_image(other) for other in others):
                return False
    except UnusableScanError:
        return False
    return True


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


def _require_copy(original: Sequence[Slice], copy: Sequence[Slice]) -> None:
    """Refuse two files of one identifier that do not hold the same image, or give it another SUV."""
    differ = [] if len(original) == len(copy) else ["number of frames"]
    for one, other in zip(original, copy, strict=False):
        differ += _compare_fields(one.plane, other.plane)
        if not np.array_equal(one.stored, other.stored):
            differ.append("voxels")
    wholes = (
        header.read_series_attributes([slices[0].read_whole_header(), *(one.dataset for one in slices[1:])])
        for slices in (original, copy)
    )
    differ += _compare_fields(*wholes)
    if differ:
        reason = f"two files with one SOPInstanceUID (0008,0018) differ: {', '.join(dict.fromkeys(differ))}"
        raise UnusableScanError(Code.INSTANCE_CONFLICT, reason)


def _compare_fields(one: Any, other: Any) -> list[str]:
    """Names of the fields in which two objects of a dataclass differ, in what they say and not in how."""
    mine, others = _read_fields(one), _read_fields(other)
    names = [name for name in mine if mine[name] != others[name]]
    return [name.removesuffix("_mm").replace("_", " ") for name in names]


def _read_fields(one: Any) -> dict[str, Any]:
    """What the fields of an object of a dataclass say: times as such, and of the corrections those that SUV ask for."""
    return {field.name: _read_field(field.name, getattr(one, field.name)) for field in fields(one)}


def _read_field(name: str, value: Any) -> Any:
    if name.endswith("_datetime"):
        return parse_datetime(value) or value
    if name.endswith("_time"):
        return parse_time(value) or value
    if name == "corrections":
        return {"ATTN", "DECY"}.intersection(value)
    if isinstance(value, tuple):
        return [_read_fields(one) if is_dataclass(one) else one for one in value]
    return value
