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
from functools import lru_cache
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
_UNDEFINED = 0xFFFFFFFF
_CHARACTER_SET = 0x00080005
_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE0DD
_PIXEL_DATA, _END_OF_ITEM = 0x7FE00010, bytes.fromhex("FEFF0DE0")
_MAX_DEPTH = 32
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_implicit = struct.Struct("<HHL").unpack_from
_explicit = struct.Struct("<HH2sH").unpack_from
_length = struct.Struct("<L").unpack_from


class Skim(NamedTuple):
    """What was cut out of a file: the elements wanted, and the number of bytes before the first one after them."""

    dataset: pydicom.Dataset
    size: int


class _Element(NamedTuple):
    tag: int
    vr: str | None
    start: int
    value: int
    end: int
    closed: bool


class Odd(Exception):  # noqa: N818  no error: pydicom shall read this file
    """Not a plain file."""


def skim(
    content: bytes, tags: Collection[int], groups: Collection[int] = (), *, last: int = 0, whole: bool = True
) -> Skim | None:
    """Some elements of a DICOM file; None where only pydicom can tell, or where more of the file is needed.

    Wanted are ``tags``, and ``groups`` as a whole. ``content`` is the file, or its beginning unless ``whole``; it is
    stepped through up to the tag ``last``, whether that is wanted or not.
    """
    try:
        meta, start = read_file_meta(content)
        syntax = meta.get("TransferSyntaxUID")
        if str(syntax) not in _PLAIN:  # a damaged one may be a list
            return None
        wanted = frozenset((_CHARACTER_SET, *tags))
        last = max((last, *wanted, *((group << 16) + 0xFFFF for group in groups)))
        implicit = syntax == ImplicitVRLittleEndian
        elements, size = _find_elements(content, start, implicit, wanted, frozenset(groups), last)
    except (Odd, struct.error):
        return None
    if size == len(content) and not whole:
        return None
    dataset = _parse(content, elements, implicit)
    dataset.file_meta = meta
    return Skim(dataset, size)


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
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
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


def is_vr(value: bytes) -> bool:
    """Whether two bytes are a value representation (DICOM PS3.5 6.2)."""
    return value in _SHORT or value in _LONG


def read_file_meta(content: bytes, position: int | None = None) -> tuple[FileMetaDataset, int]:
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
        if vr in _LONG:
            (length,) = _length(content, value)
            value += 4
        elif vr not in _SHORT:
            raise Odd
        position = value + length
        if position > len(content):
            raise Odd
        if element in uids:
            uids[element] = content[value:position].decode("ascii", "replace").strip(" \0")
    return _meta(uids[0x0002], uids[0x0010], uids[IMPLEMENTATION]), position


@lru_cache(maxsize=64)
def _meta(sop_class: str, syntax: str, implementation: str) -> FileMetaDataset:
    """One for all files of a kind, to be read only."""
    meta = FileMetaDataset()
    if sop_class:
        meta.MediaStorageSOPClassUID = UID(sop_class)
    if syntax:
        meta.TransferSyntaxUID = UID(syntax)
    if implementation:
        meta.ImplementationVersionName = implementation
    return meta


def _find_elements(
    content: bytes, position: int, implicit: bool, tags: Collection[int], groups: frozenset[int], last: int
) -> tuple[list[_Element], int]:
    """The elements wanted, and where the first one after ``last`` begins."""
    found: list[_Element] = []
    previous = 0
    while position < len(content):
        start = position
        tag, vr, value, position, closed = _read_element(content, start, implicit, 0)
        if tag <= previous or tag >> 16 == 0xFFFE:
            raise Odd
        if tag > last:
            return found, start
        if position > len(content):
            raise Odd
        previous = tag
        if tag in tags or tag >> 16 in groups:
            found.append(_Element(tag, None if implicit else vr.decode("ascii"), start, value, position, closed))
    return found, position


def _parse(content: bytes, elements: Sequence[_Element], implicit: bool) -> pydicom.Dataset:
    """What pydicom makes of the elements: values stay raw until somebody asks; open sequences it reads itself."""
    if not all(element.closed for element in elements):
        parts = b"".join(content[element.start : element.end] for element in elements)
        return read_dataset(BytesIO(parts), is_implicit_VR=implicit, is_little_endian=True)
    raw: dict[BaseTag, RawDataElement | DataElement] = {}
    encoding: str | Sequence[str] = default_encoding
    for element in elements:
        tag, value = tag_of(element.tag), content[element.value : element.end]
        raw[tag] = RawDataElement(tag, element.vr, len(value), value, element.value, implicit, True)
        if tag == _CHARACTER_SET:
            encoding = _encodings(value)
    dataset = pydicom.Dataset(raw)
    dataset.set_original_encoding(implicit, True, list(encoding) if not isinstance(encoding, str) else encoding)
    return dataset


@lru_cache(maxsize=64)
def _encodings(value: bytes) -> tuple[str, ...]:
    return tuple(convert_encodings([part.strip(" \0") for part in value.decode("ascii", "replace").split("\\")]))


def _read_element(content: bytes, start: int, implicit: bool, depth: int) -> tuple[int, bytes, int, int, bool]:
    """The element that begins at a place (DICOM PS3.5 7.1): tag, VR, place of value and end, and whether it said so."""
    value, vr = start + 8, b"SQ"
    if implicit:
        group, number, length = _implicit(content, start)
    else:
        group, number, vr, length = _explicit(content, start)
        if vr not in _SHORT:
            if vr not in _LONG or group == 0xFFFE:
                raise Odd
            (length,) = _length(content, value)
            value += 4
    tag = group << 16 | number
    if length != _UNDEFINED:
        return tag, vr, value, value + length, True
    if tag == _PIXEL_DATA:  # encapsulated: for those who stop before it
        return tag, vr, value, len(content) + 1, False
    if vr != b"SQ":
        raise Odd
    return tag, vr, value, _find_sequence_end(content, value, implicit, depth + 1), False


def _find_sequence_end(content: bytes, position: int, implicit: bool, depth: int) -> int:
    """Where a sequence of undefined length ends (DICOM PS3.5 7.5)."""
    if depth > _MAX_DEPTH:
        raise Odd
    while True:
        group, element, length = _implicit(content, position)
        tag, position = group << 16 | element, position + 8
        if tag == _END_OF_SEQUENCE:
            return position
        if tag != _ITEM:
            raise Odd
        if length != _UNDEFINED:
            position += length
            continue
        while content[position : position + 4] != _END_OF_ITEM:
            position = _read_element(content, position, implicit, depth)[3]
        position += 8
