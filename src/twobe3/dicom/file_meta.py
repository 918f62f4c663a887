"""Files without a preamble or without file meta information (DICOM PS3.10 7.1): what they lack is put before them.

Old archives and some tools store the bare data set, as it goes over the network. Its transfer syntax then shows in its
first element, which is of group 0002 or 0008 in every object.
"""

from __future__ import annotations

import struct

import pydicom
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from twobe3.dicom.elements import Odd, is_vr
from twobe3.dicom.fast_parser import IMPLEMENTATION, read_file_meta

_COMPLETED = "TWOBE3_COMPLETED"


def complete_file_meta(start: bytes) -> tuple[bytes, int] | None:
    """What stands for the beginning of a file, and how many bytes of it that replaces; None where it needs nothing.

    ``start`` holds at least the file meta information, if there is any.
    """
    position = _find_first_element(start)
    sop_class = syntax = ""
    if start[position : position + 2] == b"\x02\x00" and start[position + 3 : position + 4] == b"\x00":
        try:
            meta, end = read_file_meta(start, position)
        except (Odd, struct.error):
            return None
        sop_class, syntax = meta.sop_class, meta.syntax
        if start[128:132] == b"DICM" and syntax:
            return None
        position = end
    syntax = syntax or _recognise_syntax(start[position : position + 6])
    if not syntax:
        return None
    uids = [(0x0002, b"UI", sop_class), (0x0010, b"UI", syntax), (IMPLEMENTATION, b"SH", _COMPLETED)]
    return b"\0" * 128 + b"DICM" + b"".join(_encode(*one) for one in uids if one[2]), position


def _find_first_element(start: bytes) -> int:
    """Where the elements begin: behind the preamble and ``DICM``, or one of the two, or at once."""
    if start[128:132] == b"DICM":
        return 132
    if start[:4] == b"DICM":
        return 4
    return 0 if start[:128].strip(b"\0") else 128


def lacks_file_meta(dataset: pydicom.Dataset) -> bool:
    """Whether a data set was read from a file that :func:`complete_file_meta` had to complete."""
    return bool(dataset.file_meta.get("ImplementationVersionName") == _COMPLETED)


def _recognise_syntax(start: bytes) -> str:
    """Transfer syntax of a data set by its first element; empty where that is none of group 0008."""
    if start[:2] == b"\x08\x00" and start[3:4] == b"\x00":
        return ExplicitVRLittleEndian if is_vr(start[4:6]) else ImplicitVRLittleEndian
    if start[:3] == b"\x00\x08\x00" and is_vr(start[4:6]):
        return ExplicitVRBigEndian
    return ""


def _encode(element: int, vr: bytes, value: str) -> bytes:
    """An element of the file meta information, which is explicit VR little endian."""
    encoded = value.encode("ascii", "replace")
    encoded += (b"\0" if vr == b"UI" else b" ") * (len(encoded) % 2)
    return struct.pack("<HH2sH", 0x0002, element, vr, len(encoded)) + encoded
