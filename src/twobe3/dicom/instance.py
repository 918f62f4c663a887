"""Where one file belongs: the few header elements by which files are grouped into series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from sys import intern
from typing import Literal

import numpy as np
import pydicom
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
    PositronEmissionTomographyImageStorage,
)

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.dicom import enhanced
from twobe3.dicom.archive import find_container, read_file_names
from twobe3.dicom.geometry import normal_of
from twobe3.dicom.reader import describe_missing, items, numbers, quietly, read_dataset, read_header, text, texts

Frames = Literal["static", "dynamic", "gated", "multi-frame"]

DRAWN = ("RTSTRUCT", "SEG")
"""Modalities that hold contours; of two for one series, the first here goes first."""

_ENHANCED_CT = {EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}
_CT_CLASSES = {CTImageStorage, *_ENHANCED_CT}
_NO_SLICES = {"LOCALIZER", "MIP", "MINIP", "PROJECTION IMAGE", "VRT", "SSD"}
_PET_CLASSES = {PositronEmissionTomographyImageStorage, *enhanced.CLASSES, ""}
_TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"),
    *("Modality", "ImageType", "SeriesType", "NumberOfFrames", "ImageOrientationPatient", "ImagePositionPatient"),
    *("ReferencedSeriesSequence", "ReferencedFrameOfReferenceSequence"),
)
_KINDS: dict[str, Frames] = {"DYNAMIC": "dynamic", "GATED": "gated"}


@dataclass(frozen=True, slots=True)
class Instance:
    """What one file's header says of where it belongs; there may be a million of them at once.

    Attributes
    ----------
    path : Path
        The file.
    digest : str
        Of its header: of everything before the pixels.
    uid : str
        SOPInstanceUID (0008,0018), or the digest where there is none; the same for copies of an image.
    patient, study, series, frame_of_reference : str
        Real identifiers; the study's stands in for a missing PatientID.
    modality : str
        Modality (0008,0060).
    is_pet : bool
        Whether it is an image of a PET class; a screenshot of modality PT is not.
    is_ct : bool
        Whether it is a slice of a CT: of a CT image class, and by ImageType (0008,0008) no localiser and no projection.
    frames : {"static", "dynamic", "gated", "multi-frame"}
        By its class and SeriesType (0054,1000); ``"multi-frame"`` where the frames are not described.
    places_mm : tuple of float or None
        Position of each slice along the normal, to a hundredth; None where the header has none.
    referenced : frozenset of str
        Series and frames of reference that a structure set or a segmentation names.
    """

    path: Path
    digest: str
    uid: str
    patient: str
    study: str
    series: str
    frame_of_reference: str
    modality: str
    is_pet: bool
    is_ct: bool
    frames: Frames
    places_mm: tuple[float | None, ...]
    referenced: frozenset[str]


def read_instance(path: Path) -> Instance | None:
    """Where a file belongs; None when it is no DICOM image.

    Raises ``CORRUPT_FILE``: it passes itself off as DICOM and cannot be read, or it is a directory of media that
    names files outside its folder.
    """
    with quietly():
        found = read_header(path, _TAGS)
        if found is None:
            return None
        dataset = found.dataset
        sop_class, modality = text(dataset, "SOPClassUID"), text(dataset, "Modality")
        if text(dataset.file_meta, "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            read_file_names(path)  # refused if one lies outside its folder
            return None
        study, series = text(dataset, "StudyInstanceUID"), text(dataset, "SeriesInstanceUID")
        if not (modality and series):
            lacks = "SeriesInstanceUID" if modality else "Modality"
            raise UnusableScanError(Code.CORRUPT_FILE, describe_missing(path, lacks))
        patient = text(dataset, "PatientID") or study
        is_pet = modality == "PT" and sop_class in _PET_CLASSES
        is_ct = modality == "CT" and sop_class in _CT_CLASSES and not _NO_SLICES & set(texts(dataset, "ImageType"))
        frames: Frames = "multi-frame" if sop_class in _ENHANCED_CT else "static"
        places_mm: tuple[float | None, ...] = (_place_mm(dataset),) if is_ct else ()
        if is_pet:
            frames, places_mm = _describe_frames(path, dataset)
        return Instance(
            path,
            found.digest,
            text(dataset, "SOPInstanceUID") or found.digest,
            intern(patient),
            intern(study),
            intern(series),
            intern(text(dataset, "FrameOfReferenceUID")),
            intern(modality),
            is_pet,
            is_ct,
            frames,
            places_mm,
            _list_referenced(dataset) if modality in DRAWN else frozenset(),
        )


def separate_copies(group: Sequence[Instance]) -> tuple[list[Instance], dict[Path, tuple[Path, ...]]]:
    """Each image of a series once, and the paths of its copies.

    Of several files with one SOPInstanceUID that one is taken which lies where most images of the series are.
    """
    containers: defaultdict[Path, list[Instance]] = defaultdict(list)
    for one in group:
        containers[find_container(one.path)].append(one)
    fullest = sorted(containers.values(), key=lambda found: (-len({one.uid for one in found}), found[0].digest))
    by_uid: defaultdict[str, list[Instance]] = defaultdict(list)
    for one in (one for found in fullest for one in found):
        by_uid[one.uid].append(one)
    originals = sorted((found[0] for found in by_uid.values()), key=lambda one: one.digest)
    copies = {found[0].path: tuple(one.path for one in found[1:]) for found in by_uid.values() if found[1:]}
    return originals, copies


def _describe_frames(path: Path, dataset: pydicom.Dataset) -> tuple[Frames, tuple[float | None, ...]]:
    """Kind of the file's frames, and where each lies."""
    try:
        singles = enhanced.split_frames(read_dataset(path) if enhanced.is_multi_frame(dataset) else dataset)
    except UnusableScanError:
        return "multi-frame", (None,)
    return _KINDS.get("".join(texts(singles[0], "SeriesType")[:1]), "static"), tuple(_place_mm(one) for one in singles)


def _place_mm(dataset: pydicom.Dataset) -> float | None:
    orientation, position_mm = numbers(dataset, "ImageOrientationPatient"), numbers(dataset, "ImagePositionPatient")
    normal = _normal(orientation)
    if len(position_mm) != 3 or normal is None:
        return None
    return round(sum(p * n for p, n in zip(position_mm, normal, strict=True)), 2)


@lru_cache(maxsize=256)
def _normal(orientation: tuple[float, ...]) -> tuple[float, ...] | None:
    """Computed once for a series: its slices share it."""
    if len(orientation) != 6 or not np.cross(orientation[:3], orientation[3:]).any():
        return None
    return tuple(normal_of(orientation).tolist())


def _list_referenced(dataset: pydicom.Dataset) -> frozenset[str]:
    """Series and frames of reference that a structure set or a segmentation names (DICOM PS3.3 C.8.8.5, A.51)."""
    found = {text(dataset, "FrameOfReferenceUID")}
    found |= {text(series, "SeriesInstanceUID") for series in items(dataset, "ReferencedSeriesSequence")}
    for frame in items(dataset, "ReferencedFrameOfReferenceSequence"):
        found.add(text(frame, "FrameOfReferenceUID"))
        for study in items(frame, "RTReferencedStudySequence"):
            found |= {text(series, "SeriesInstanceUID") for series in items(study, "RTReferencedSeriesSequence")}
    return frozenset(found - {""})
