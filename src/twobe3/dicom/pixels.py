"""Stored values of images, decoded: uncompressed ones by numpy, the others by what pydicom finds installed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.dicom.reader import number, refuse_errors, text

PIXEL_DATA = BaseTag(0x7FE00010)
_LITTLE_ENDIAN = {ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian}


def decode_pixels(dataset: pydicom.Dataset, shape: tuple[int, int, int]) -> npt.NDArray[Any]:
    """Decode the stored values of every frame, before any slope, to shape (frames, rows, columns), integer or floating.

    Raises
    ------
    UnusableScanError
        ``CODEC_MISSING``; ``CORRUPT_FILE``: too short, undecodable, or of another shape.
    """
    plain = _view_uncompressed(dataset, shape)
    if plain is not None:
        return plain
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    try:
        decoder = get_decoder(syntax)
    except Exception:  # refused, not swallowed: of a damaged file the syntax may be a list, or any text
        remedy = "export the series uncompressed"
        raise UnusableScanError(Code.CODEC_MISSING, f"transfer syntax {syntax} has no decoder", remedy=remedy) from None
    if not decoder.is_available:
        reason = f"{syntax.name} needs one of {'; '.join(decoder.missing_dependencies)}"
        raise UnusableScanError(Code.CODEC_MISSING, reason)
    with refuse_errors("the pixel data of a file cannot be decoded"):
        values: npt.NDArray[Any] = pixel_array(dataset)
    if values.shape != (shape if shape[0] > 1 else shape[1:]):
        raise UnusableScanError(Code.CORRUPT_FILE, f"a file decodes to shape {values.shape}, not {shape}")
    return values.reshape(shape)


def _view_uncompressed(dataset: pydicom.Dataset, shape: tuple[int, int, int]) -> npt.NDArray[Any] | None:
    """The common case, a view of the bytes: sixteen whole bits, little endian, of the right length (PS3.5 8.1.1)."""
    if str(dataset.file_meta.get("TransferSyntaxUID")) not in _LITTLE_ENDIAN:  # a damaged one may be a list
        return None
    bits = tuple(number(dataset, keyword) for keyword in ("BitsAllocated", "BitsStored", "HighBit"))
    sign, pixels = number(dataset, "PixelRepresentation"), dataset.get_item(PIXEL_DATA)
    content = None if pixels is None else pixels.value
    if bits != (16, 16, 15) or sign not in (0, 1) or text(dataset, "PhotometricInterpretation") != "MONOCHROME2":
        return None
    if not isinstance(content, bytes) or len(content) != 2 * math.prod(shape):
        return None
    return np.frombuffer(content, dtype="<i2" if sign else "<u2").reshape(shape)
