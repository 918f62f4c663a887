"""What is truncated is not whole, wherever it ends and however it was encoded."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    RTStructureSetStorage,
)
from tests.conftest import TinyCohort

from twobe3.core.errors import UnusableScanError
from twobe3.dicom.integrity import read_whole


@pytest.fixture
def image(tiny_cohort: TinyCohort) -> pydicom.Dataset:
    return pydicom.dcmread(next(tiny_cohort.scan("P1").iterdir()))


def encode(dataset: pydicom.Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    stream = BytesIO()
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
    little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(stream, dataset, little_endian=little, implicit_vr=implicit, force_encoding=True)
    return stream.getvalue()


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_no_beginning_of_an_image_is_whole(image: pydicom.Dataset, syntax: str) -> None:
    content = encode(image, syntax)
    assert read_whole(content).SOPInstanceUID == image.SOPInstanceUID
    for end in (*range(128, len(content) - 300, 5), *range(len(content) - 300, len(content))):
        with pytest.raises(UnusableScanError, match="CORRUPT_FILE"):
            read_whole(content[:end])


def test_pixels_that_do_not_fit_the_header(image: pydicom.Dataset) -> None:
    image.Rows += 1
    with pytest.raises(UnusableScanError, match="200 bytes of pixels where 220 belong"):
        read_whole(encode(image))


def test_an_odd_number_of_pixels_has_its_padding(image: pydicom.Dataset) -> None:
    image.Rows, image.Columns, image.BitsAllocated, image.BitsStored, image.HighBit = 3, 3, 8, 8, 7
    image.PixelData = np.zeros(9, np.uint8).tobytes() + b"\0"
    image["PixelData"].VR = "OB"
    assert len(read_whole(encode(image)).PixelData) == 10


def test_a_structure_set_without_regions(image: pydicom.Dataset) -> None:
    del image.PixelData
    image.SOPClassUID = RTStructureSetStorage
    with pytest.raises(UnusableScanError, match="lists no region"):
        read_whole(encode(image))


def test_what_is_no_dicom() -> None:
    for content in (b"", b"x" * 500, b"\0" * 128 + b"DICM"):
        with pytest.raises(UnusableScanError, match="CORRUPT_FILE"):
            read_whole(content)
