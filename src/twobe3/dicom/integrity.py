"""Whether a DICOM object is whole: parsers mostly read a truncated one without a word."""

from __future__ import annotations

from io import BytesIO

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.pixels.utils import get_expected_length
from pydicom.uid import UID, ParametricMapStorage, RTStructureSetStorage, SegmentationStorage

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.dicom.fast_parser import require_bounded
from twobe3.dicom.reader import quietly, refuse_errors, text

LARGEST_OBJECT_BYTES = 2**30
"""Of an object that comes over a network."""
_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_UNDEFINED = 0xFFFFFFFF
_SEQUENCE_ENDS = (b"\xfe\xff\xdd\xe0\0\0\0\0", b"\xff\xfe\xe0\xdd\0\0\0\0")  # DICOM PS3.5 7.5, little and big endian
_LONGEST_UID = 64


def read_whole(content: bytes) -> pydicom.Dataset:
    """Read an object of which nothing may lack; use what it returns within :func:`~twobe3.dicom.reader.quietly`.

    Whole is what ends where its last element ends, has the UIDs of object, series, and study, and, of images, as many
    bytes of pixels as rows, columns, frames, samples, and bits ask for (DICOM PS3.5 8.1.1); encapsulated pixels must
    have their end, and are not decoded.

    Parameters
    ----------
    content : bytes
        A file.

    Raises
    ------
    UnusableScanError
        ``CORRUPT_FILE``; ``TOO_LARGE``: a deflated file that inflates beyond any image.
    """
    with quietly(), refuse_errors("an object cannot be read"):
        require_bounded(content)
        dataset = pydicom.dcmread(BytesIO(content))
        if not _ends(dataset, content):
            raise UnusableScanError(Code.CORRUPT_FILE, "an object ends before its last element does")
        for keyword in _UIDS:
            if not 0 < len(text(dataset, keyword)) <= _LONGEST_UID:
                raise UnusableScanError(Code.CORRUPT_FILE, f"an object has no {keyword}")
        _require_content(dataset)
    return dataset


def _ends(dataset: pydicom.Dataset, content: bytes) -> bool:
    """Whether the last element that was read is the end of the file."""
    *_, last = (None, *dataset.keys())
    if last is None:
        return False
    element = dataset.get_item(last)
    if isinstance(element, RawDataElement) and element.length != _UNDEFINED:
        return element.value_tell + element.length == len(content)
    return content.endswith(_SEQUENCE_ENDS)


def _require_content(dataset: pydicom.Dataset) -> None:
    sop_class = UID(text(dataset, "SOPClassUID"))
    pixels = next((keyword for keyword in _PIXELS if keyword in dataset), None)
    if pixels is None:
        if "Image Storage" in sop_class.name or sop_class in (SegmentationStorage, ParametricMapStorage):
            raise UnusableScanError(Code.CORRUPT_FILE, "an image has no pixels")
        if sop_class == RTStructureSetStorage and "StructureSetROISequence" not in dataset:
            raise UnusableScanError(Code.CORRUPT_FILE, "a structure set lists no region")
        return
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    length, expected = len(dataset[pixels].value), get_expected_length(dataset)
    if length != expected + expected % 2:
        raise UnusableScanError(Code.CORRUPT_FILE, f"an image has {length} bytes of pixels where {expected} belong")
