"""A few elements out of a file, fast: the others are stepped over, not parsed.

A header of a hundred elements costs pydicom a millisecond, most of it for elements that nobody asked for. Here the
wanted ones are cut out of the bytes and pydicom parses those alone. Only plain files are handled: little endian, not
deflated, in order; of compressed ones all but the pixels. Whatever else is left to pydicom as a whole, odd and damaged
files among it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Sequence
from functools import cache, lru_cache
from io import BytesIO
from typing import NamedTuple

import pydicom
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLETransferSyntaxes,
)

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.dicom.elements import LONG, SHORT, Element, Odd, Wanted, find_elements

MAX_INFLATED_BYTES = 2**30
"""Of one deflated file; a whole body of a thousand slices has half of it."""

BEFORE_PIXELS = 0x7FDFFFFF
"""The last tag of a header: pixels, and the raw data of scanners, are in the groups from (7FE0) on."""

IMPLEMENTATION = 0x0013
"""Element of ImplementationVersionName in group 0002."""

_PLAIN = frozenset(
    (
        *(ImplicitVRLittleEndian, ExplicitVRLittleEndian, *RLETransferSyntaxes),
        *(*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes),
    )
)
_CHARACTER_SET = 0x00080005
_explicit = struct.Struct("<HH2sH").unpack_from
_length = struct.Struct("<L").unpack_from


class FileMeta(NamedTuple):
    """File meta information: what pydicom makes of it, to be read only, its class and its transfer syntax."""

    dataset: FileMetaDataset
    sop_class: str
    syntax: str


class Skim(NamedTuple):
    """What was cut out of a file: the elements wanted, and the number of bytes before the first one after them."""

    dataset: pydicom.Dataset
    size: int


def skim(
    content: bytes, tags: Collection[int], groups: Collection[int] = (), *, last: int = 0, whole: bool = True
) -> Skim | None:
    """Some elements of a DICOM file; None where only pydicom can tell, or where more of the file is needed.

    Wanted are ``tags``, and ``groups`` as a whole. ``content`` is the file, or its beginning unless ``whole``; it is
    stepped through up to the tag ``last``, whether that is wanted or not.
    """
    try:
        meta, start = read_file_meta(content)
        if meta.syntax not in _PLAIN:
            return None
        implicit = meta.syntax == ImplicitVRLittleEndian
        elements, size = find_elements(content, start, implicit, _describe_wanted(frozenset(tags), tuple(groups), last))
    except (Odd, struct.error):
        return None
    if size == len(content) and not whole:
        return None
    dataset = _parse(content, elements, implicit)
    dataset.file_meta = meta.dataset
    return Skim(dataset, size)


@cache
def _describe_wanted(tags: frozenset[int], groups: tuple[int, ...], last: int) -> Wanted:
    return Wanted((_CHARACTER_SET, *tags), groups, last)


@lru_cache(maxsize=4096)
def tag_of(number: int) -> BaseTag:
    """One object for each tag, so that data sets find their elements by identity, which is fast."""
    return BaseTag(number)


def require_bounded(content: bytes) -> None:
    """Refuse a deflated file that inflates beyond :data:`MAX_INFLATED_BYTES`, before it does (DICOM PS3.5 A.5).

    Raises ``TOO_LARGE``; ``CORRUPT_FILE``: it does not inflate.
    """
    try:
        meta, start = read_file_meta(content)
    except (Odd, struct.error):
        return
    if meta.syntax != DeflatedExplicitVRLittleEndian:
        return
    inflater, packed, total = zlib.decompressobj(-zlib.MAX_WBITS), content[start:], 0
    try:
        while packed and not inflater.eof:
            total += len(inflater.decompress(packed, 2**20))
            packed = inflater.unconsumed_tail
            if total > MAX_INFLATED_BYTES:
                reason = f"a deflated file of {len(content)} bytes inflates beyond {total} bytes"
                raise UnusableScanError(Code.TOO_LARGE, reason)
    except zlib.error:
        raise UnusableScanError(Code.CORRUPT_FILE, "a deflated file does not inflate") from None


def read_file_meta(content: bytes, position: int | None = None) -> tuple[FileMeta, int]:
    """Transfer syntax, class and implementation from the file meta information, and where the data set begins.

    The information stands at a position, by default behind the preamble (DICOM PS3.10 7.1). Raises :class:`Odd` or
    ``struct.error``: it is not there, or damaged.
    """
    if position is None:
        if content[128:132] != b"DICM":
            raise Odd
        position = 132
    uids = {0x0002: "", 0x0010: "", IMPLEMENTATION: ""}
    while content[position : position + 2] == b"\x02\x00":
        _, element, vr, length = _explicit(content, position)
        value = position + 8
        if vr in LONG:
            (length,) = _length(content, value)
            value += 4
        elif vr not in SHORT:
            raise Odd
        position = value + length
        if position > len(content):
            raise Odd
        if element in uids:
            uids[element] = content[value:position].decode("ascii", "replace").strip(" \0")
    return _meta(uids[0x0002], uids[0x0010], uids[IMPLEMENTATION]), position


@lru_cache(maxsize=64)
def _meta(sop_class: str, syntax: str, implementation: str) -> FileMeta:
    """One for all files of a kind."""
    meta = FileMetaDataset()
    if sop_class:
        meta.MediaStorageSOPClassUID = UID(sop_class)
    if syntax:
        meta.TransferSyntaxUID = UID(syntax)
    if implementation:
        meta.ImplementationVersionName = implementation
    return FileMeta(meta, sop_class, syntax)


def _parse(content: bytes, elements: Sequence[Element], implicit: bool) -> pydicom.Dataset:
    """What pydicom makes of the elements: values stay raw until somebody asks; open sequences it reads itself."""
    raw: dict[BaseTag, RawDataElement | DataElement] = {}
    encoding: str | Sequence[str] = default_encoding
    for number, vr, _, start, end, closed in elements:
        if not closed:
            parts = b"".join(content[one[2] : one[4]] for one in elements)
            return read_dataset(BytesIO(parts), is_implicit_VR=implicit, is_little_endian=True)
        tag, value = tag_of(number), content[start:end]
        raw[tag] = RawDataElement(tag, vr, end - start, value, start, implicit, True)
        if number == _CHARACTER_SET:
            encoding = _encodings(value)
    dataset = pydicom.Dataset(raw)
    dataset.set_original_encoding(implicit, True, list(encoding) if not isinstance(encoding, str) else encoding)
    return dataset


@lru_cache(maxsize=64)
def _encodings(value: bytes) -> tuple[str, ...]:
    return tuple(convert_encodings([part.strip(" \0") for part in value.decode("ascii", "replace").split("\\")]))
