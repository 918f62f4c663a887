"""One frame of a dynamic or gated series (rule 20): chosen by its number, never stacked and never guessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import UnusableScanError
from twobe3.dicom import enhanced, geometry, header
from twobe3.dicom.attributes import SeriesAttributes, SliceAttributes
from twobe3.dicom.reader import number, numbers, quietly, read_dataset
from twobe3.dicom.reference import acquisition_times
from twobe3.dicom.series import ChosenFrame, PETSeries
from twobe3.io.files import digest

_TAGS = (
    *("SOPClassUID", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "SeriesDate", "SeriesTime"),
    *("TimezoneOffsetFromUTC", "AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "FrameReferenceTime"),
    *("TriggerTime", "TemporalPositionIdentifier", "ImageIndex", "ActualFrameDuration", "DecayFactor"),
)
_Key = float | None


@dataclass(frozen=True)
class _Slice:
    """A slice of any frame: file, number within the file, place along the normal, and what its frame may go by."""

    path: Path
    index: int
    place_mm: float
    attributes: SliceAttributes
    keys: tuple[_Key, ...] = ()


_ORDERS = (
    "acquisition time (0008,0022), (0008,0032)",
    "FrameReferenceTime (0054,1300)",
    "TriggerTime (0018,1060)",
    "TemporalPositionIdentifier (0020,0100)",
    "ImageIndex (0054,1330)",
)


def choose_frame(series: PETSeries, frame: int) -> PETSeries:
    """One frame of a dynamic or gated series, as a static series that ``read_suv`` converts.

    A frame takes one slice from every position. The slices at a position are put in order by the first of these that
    tells them apart at all positions: acquisition time, FrameReferenceTime (0054,1300), TriggerTime (0018,1060),
    TemporalPositionIdentifier (0020,0100), ImageIndex (0054,1330). In enhanced objects the acquisition time is
    FrameReferenceDateTime where decay is not corrected, the trigger time a nominal trigger delay, and the identifier
    TemporalPositionIndex (0020,9128). Sources: DICOM PS3.3 C.8.9.4, C.7.6.16.2.2.

    Parameters
    ----------
    series : PETSeries
        Dynamic or gated.
    frame : int
        From 1.

    Returns
    -------
    PETSeries
        Under a pseudonym of its own; the choice will stand in the volume's history.

    Raises
    ------
    UnusableScanError
        ``NOT_STATIC``: there is no such frame, the positions have different numbers of slices, or nothing tells which
        slices belong together. ``CORRUPT_FILE``: a slice has no position, or a file cannot be read.
    """
    frames, order, ends = _find_frames(series)
    count = len(frames)
    if not 1 <= frame <= count:
        reason = f"frame {frame} of a {series.frames} series was asked for, which has {format_count(count, 'frame')}"
        raise UnusableScanError(Code.NOT_STATIC, reason, remedy=f"choose one from 1 to {count}")
    slices = frames[frame - 1]
    return replace(
        series,
        series=f"{series.series}-frame-{frame}",
        files=tuple(path for path in series.files if path in {one.path for one in slices}),
        header_digest=digest([series.header_digest, f"frame {frame}"]),
        slices=len(slices),
        frames="static",
        chosen=ChosenFrame(
            f"frame {frame} of {count} of a {series.frames} series" + (f", in the order of {order}" if order else ""),
            frozenset((one.path, one.index) for one in slices),
            ends,
        ),
    )


def require_choice(series: PETSeries) -> None:
    """Rule 20: refuse a dynamic or gated series as a whole, saying how many frames there are to choose from.

    Raises ``NOT_STATIC``; ``CORRUPT_FILE``.
    """
    if series.frames not in ("dynamic", "gated"):
        return
    frames, _, _ = _find_frames(series)
    sizes = f"{format_count(len(frames), 'frame')} of {format_count(len(frames[0]), 'slice')}"
    reason = f"the series is {series.frames}: {sizes}"
    raise UnusableScanError(
        Code.NOT_STATIC, reason, remedy=f"choose one: twobe3 convert --frame N, from 1 to {len(frames)}"
    )


def _find_frames(series: PETSeries) -> tuple[list[tuple[_Slice, ...]], str, tuple[SliceAttributes, ...]]:
    """All frames in order, by what they are in order, and the slices acquired first and last."""
    with quietly():
        slices, ends = _read_slices(series.files)
    positions = _group_by_position(slices)
    counts = sorted({len(position) for position in positions})
    if len(counts) > 1:
        reason = f"the series is {series.frames}, and its positions have from {counts[0]} to {counts[-1]} slices"
        raise UnusableScanError(Code.NOT_STATIC, reason)
    which = _find_order(positions) if counts[0] > 1 else None
    if which is not None:
        positions = [sorted(position, key=lambda one: one.keys[which] or 0.0) for position in positions]
    return list(zip(*positions, strict=True)), "" if which is None else _ORDERS[which], ends


def _find_order(positions: Sequence[Sequence[_Slice]]) -> int:
    """Number of the first key that tells the slices apart at every position."""
    for which in range(len(_ORDERS)):
        keys = [[one.keys[which] for one in position] for position in positions]
        if all(None not in values and len(set(values)) == len(values) for values in keys):
            return which
    n = len(positions[0])
    reason = f"there are {n} slices at each of {len(positions)} positions, and nothing tells which belong together"
    raise UnusableScanError(Code.NOT_STATIC, reason)


def _group_by_position(slices: Sequence[_Slice]) -> list[list[_Slice]]:
    groups: list[list[_Slice]] = []
    for one in sorted(slices, key=lambda one: one.place_mm):
        if groups and geometry.same_position(groups[-1][0].place_mm, one.place_mm):
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def _read_slices(files: Sequence[Path]) -> tuple[list[_Slice], tuple[SliceAttributes, ...]]:
    """Every slice of the files, and those acquired first and last."""
    headers = [(path, i, one) for path in files for i, one in enumerate(_read_frames(path))]
    attributes = header.read_series_attributes([one for *_, one in headers])
    orientation = numbers(headers[0][2], "ImageOrientationPatient")
    if len(orientation) != 6 or not np.cross(orientation[:3], orientation[3:]).any():
        raise UnusableScanError(Code.CORRUPT_FILE, "a slice lacks ImageOrientationPatient (0020,0037)")
    normal = geometry.normal_of(orientation)
    acquired = _seconds(attributes)
    slices = []
    for (path, i, one), seconds, slice_ in zip(headers, acquired, attributes.slices, strict=True):
        position_mm = numbers(one, "ImagePositionPatient")
        if len(position_mm) != 3:
            raise UnusableScanError(Code.CORRUPT_FILE, "a slice lacks ImagePositionPatient (0020,0032)")
        place_mm = float(sum(p * n for p, n in zip(position_mm, normal, strict=True)))
        others = (number(one, name) for name in ("TriggerTime", "TemporalPositionIdentifier", "ImageIndex"))
        slices.append(_Slice(path, i, place_mm, slice_, (seconds, slice_.frame_reference_time_ms, *others)))
    known = sorted(
        (one for one in slices if one.keys[0] is not None), key=lambda one: [key or 0.0 for key in one.keys[:2]]
    )
    return slices, (known[0].attributes, known[-1].attributes) if known else ()


def _read_frames(path: Path) -> Sequence[pydicom.Dataset]:
    dataset = read_dataset(path, tags=_TAGS)
    return enhanced.split_frames(read_dataset(path) if enhanced.is_multi_frame(dataset) else dataset)


def _seconds(attributes: SeriesAttributes) -> list[_Key]:
    """Acquisition times on one scale; none where some have a time zone and others have not."""
    acquired = acquisition_times(attributes)
    if len({instant.tzinfo is None for instant in acquired if instant}) > 1:
        return [None] * len(acquired)
    start = min((instant for instant in acquired if instant), default=None)
    return [None if instant is None or start is None else (instant - start).total_seconds() for instant in acquired]
