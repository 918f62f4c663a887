"""The slices of PET and CT files: header, plane and stored values; and which files are copies of one image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
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
from twobe3.dicom.clock import parse_date, parse_datetime, parse_time
from twobe3.dicom.geometry import SAME_POSITION_MM, SAME_SPACING, Plane
from twobe3.dicom.pixels import decode_pixels
from twobe3.dicom.reader import number, numbers, read_dataset, text

_TAGS = (
    *("SOPClassUID", "Rows", "Columns", "NumberOfFrames", "FrameOfReferenceUID", "Manufacturer", "NumberOfSlices"),
    *("PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "PixelRepresentation"),
    *("BitsAllocated", "BitsStored", "HighBit", "RescaleSlope", "RescaleIntercept"),
    *("RescaleType", "PixelPaddingValue", "PixelPaddingRangeLimit"),
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

    def compare(self, other: Slice) -> list[str]:
        """In what another slice differs of stored values, scale and times, however it is encoded and written."""
        differ = _compare_fields(*(header.read_slice_attributes(one.dataset) for one in (self, other)))
        return differ if np.array_equal(self.stored, other.stored) else ["voxels", *differ]

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


@dataclass(frozen=True, eq=False)
class Image:
    """What some files with one SOPInstanceUID hold.

    Attributes
    ----------
    slices : list of Slice
        Of the first file that can be read.
    n_unreadable : int
        Files that cannot be read.
    differ : tuple of str
        In what the headers of the files differ that decides neither place nor SUV.
    """

    slices: list[Slice]
    n_unreadable: int = 0
    differ: tuple[str, ...] = ()


def read_copies(paths: Sequence[Path]) -> Image:
    """The image that some files with one SOPInstanceUID are copies of.

    An identifier stands for one image (DICOM PS3.5 9). Files that were encoded anew, or whose header was changed where
    it tells neither place nor SUV, are copies of it.

    Raises
    ------
    UnusableScanError
        ``INSTANCE_CONFLICT``: two of the files differ. If none can be read, what :func:`read_slices` or the decoder
        raises.
    """
    if len(paths) == 1:
        return Image(read_slices(paths[0]))
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
    without_effect: list[str] = []
    for other in read[1:]:
        deciding, rest = compare_copies(read[0], other)
        if deciding:
            raise refuse_copies(deciding)
        without_effect += rest
    return Image(read[0], len(failures), tuple(dict.fromkeys(without_effect)))


def compare_copies(original: Sequence[Slice], copy: Sequence[Slice]) -> tuple[list[str], list[str]]:
    """In what two copies of one image differ: what decides place or SUV, and what does not.

    Height and sex decide only SUV that the scanner stored by another norm than the weight, the name of the scanner
    none. The thickness decides the place of a slice that is alone, which whoever stacks them has to ask.
    """
    differ = [] if len(original) == len(copy) else ["number of frames"]
    for one, other in zip(original, copy, strict=False):
        differ += _compare_fields(one.plane, other.plane) + one.compare(other)
    mine, others = (header.read_series_attributes([slices[0].read_whole_header()]) for slices in (original, copy))
    differ += [name for name in _compare_fields(mine, others) if name != "slices"]
    without_effect = {"thickness", "model", "height", "sex"} - mine.norm_fields
    names = list(dict.fromkeys(differ))
    return [one for one in names if one not in without_effect], [one for one in names if one in without_effect]


def refuse_copies(differ: Iterable[str]) -> UnusableScanError:
    """The error of two files of one identifier that differ: ``INSTANCE_CONFLICT``."""
    reason = f"two files with one SOPInstanceUID (0008,0018) differ: {', '.join(differ)}"
    return UnusableScanError(Code.INSTANCE_CONFLICT, reason)


def hold_one_image(slices: Iterable[Sequence[tuple[Path, int]]]) -> bool:
    """Whether all slices of each position, given by file and frame, are one image; files are read until two differ."""
    read = lru_cache(maxsize=4)(read_slices)  # of multi-frame files one after another is asked for
    try:
        for position in slices:
            first, *others = (read(path)[frame] for path, frame in position)
            if any(first.compare(other) for other in others):
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


def _compare_fields(one: Any, other: Any) -> list[str]:
    """Names of the fields in which two objects of a dataclass differ, in what they say and not in how."""
    names = [field.name for field in fields(one)]
    differ = [name for name in names if not _means_same(name, getattr(one, name), getattr(other, name))]
    return [name.removesuffix("_mm").replace("_", " ") for name in differ]


_CLOCKS: Mapping[str, Callable[[str], Any]] = {"_datetime": parse_datetime, "_date": parse_date, "_time": parse_time}
_TOLERANCES = {"position_mm": SAME_POSITION_MM, "spacing_mm": SAME_SPACING, "orientation": SAME_SPACING}


def _means_same(name: str, one: Any, other: Any) -> bool:
    """Whether two values of a field say the same: times as such, and of the corrections those that SUV ask for."""
    if one == other:
        return True
    if name == "corrections":
        return not {"ATTN", "DECY"} & (set(one) ^ set(other))
    if name in _TOLERANCES:
        return len(one) == len(other) and np.allclose(one, other, rtol=0, atol=_TOLERANCES[name])
    if name == "further":
        return len(one) == len(other) and not any(map(_compare_fields, one, other))
    parse = next((parse for ending, parse in _CLOCKS.items() if name.endswith(ending)), None)
    return parse is not None and parse(one) is not None and parse(one) == parse(other)
