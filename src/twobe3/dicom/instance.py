"""Where one file belongs: the few header elements by which files are grouped into series."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
from pydicom.uid import (
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MediaStorageDirectoryStorage,
    PositronEmissionTomographyImageStorage,
)

from twobe3.artefact import digest_file
from twobe3.dicom import header
from twobe3.dicom.files import claims_dicom, items, numbers, quietly, read_dataset, text, texts
from twobe3.dicom.geometry import normal_of
from twobe3.errors import Code, Refusal

Frames = Literal["static", "dynamic", "gated", "multi-frame"]

_PET_CLASSES = {
    PositronEmissionTomographyImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    "",
}
_TAGS = (
    "SOPClassUID",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "SeriesType",
    "NumberOfFrames",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ReferencedFrameOfReferenceSequence",
)


@dataclass(frozen=True)
class Instance:
    """What one file's header says of where it belongs.

    Attributes
    ----------
    path : Path
        The file.
    digest : str
        Of its content, for PET images and structure sets; empty for others.
    patient, study, series, frame_of_reference : str
        Real identifiers; the study's stands in for a missing PatientID.
    modality : str
        Modality (0008,0060).
    is_pet : bool
        Whether it is an image of a PET class; a screenshot of modality PT is not.
    frames : {"static", "dynamic", "gated", "multi-frame"}
        By its class and SeriesType (0054,1000).
    place_mm : float or None
        Position along the normal, to a hundredth; None where the header has none.
    referenced : frozenset of str
        Series and frames of reference that a structure set names.
    """

    path: Path
    digest: str
    patient: str
    study: str
    series: str
    frame_of_reference: str
    modality: str
    is_pet: bool
    frames: Frames
    place_mm: float | None
    referenced: frozenset[str]


def read_instance(path: Path) -> Instance | None:
    """Where a file belongs; None when it is no DICOM image.

    Raises
    ------
    Refusal
        ``CORRUPT_FILE``: it passes itself off as DICOM and cannot be read.
    """
    try:
        if not claims_dicom(path):
            return None
    except OSError as error:
        raise Refusal(Code.CORRUPT_FILE, f"a file cannot be opened ({type(error).__name__})") from None
    with quietly():
        dataset = read_dataset(path, tags=_TAGS)
        sop_class, modality = text(dataset, "SOPClassUID"), text(dataset, "Modality")
        if text(dataset.file_meta, "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            return None
        study, series = text(dataset, "StudyInstanceUID"), text(dataset, "SeriesInstanceUID")
        if not (modality and series):
            raise Refusal(Code.CORRUPT_FILE, "a file ends before its Modality or SeriesInstanceUID")
        is_pet = modality == "PT" and sop_class in _PET_CLASSES
        return Instance(
            path,
            digest_file(path) if is_pet or modality == "RTSTRUCT" else "",
            text(dataset, "PatientID") or study,
            study,
            series,
            text(dataset, "FrameOfReferenceUID"),
            modality,
            is_pet,
            _frames_of_file(dataset),
            _place_mm(numbers(dataset, "ImageOrientationPatient"), numbers(dataset, "ImagePositionPatient")),
            _referenced(dataset),
        )


def _frames_of_file(dataset: pydicom.Dataset) -> Frames:
    if header.is_multi_frame(dataset):
        return "multi-frame"
    match texts(dataset, "SeriesType")[:1]:
        case ("DYNAMIC",):
            return "dynamic"
        case ("GATED",):
            return "gated"
    return "static"


def _place_mm(orientation: tuple[float, ...], position_mm: tuple[float, ...]) -> float | None:
    if len(position_mm) != 3 or len(orientation) != 6 or not np.cross(orientation[:3], orientation[3:]).any():
        return None
    return round(float(np.dot(position_mm, normal_of(orientation))), 2)


def _referenced(dataset: pydicom.Dataset) -> frozenset[str]:
    """Series and frames of reference that a structure set names (DICOM PS3.3 C.8.8.5)."""
    found = set()
    for frame in items(dataset, "ReferencedFrameOfReferenceSequence"):
        found.add(text(frame, "FrameOfReferenceUID"))
        for study in items(frame, "RTReferencedStudySequence"):
            found |= {text(series, "SeriesInstanceUID") for series in items(study, "RTReferencedSeriesSequence")}
    return frozenset(found - {""})
