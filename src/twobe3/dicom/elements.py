"""Where the elements of a file lie: header by header, or a group at once that is laid out as one was before.

A program that writes a series gives the same lengths to nearly all elements of all its files. What stepping through a
group of elements finds depends on nothing but the bytes of their headers. So where an earlier file had the same bytes
at the same places, the elements lie at the same places again: one comparison stands for all the steps.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence

_UNDEFINED = 0xFFFFFFFF
_ITEM, _END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE0DD
_PIXEL_DATA, _END_OF_ITEM = 0x7FE00010, bytes.fromhex("FEFF0DE0")
_MAX_DEPTH = 32
_MAX_PIECES, _MAX_LAYOUTS, _MAX_GROUPS = 128, 32, 64  # tens of megabytes at worst
LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
SHORT = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
_implicit = struct.Struct("<HHL").unpack_from
_explicit = struct.Struct("<HH2sH").unpack_from
_length = struct.Struct("<L").unpack_from

Element = tuple[int, str | None, int, int, int, bool]
"""Tag, VR where it is explicit, where header, value and what follows begin, and whether the length is defined."""


class Wanted:
    """Which elements are wanted, by their tags or as whole groups, and up to which tag a file is stepped through."""

    def __init__(self, tags: Collection[int], groups: Collection[int] = (), last: int = 0) -> None:
        self.tags, self.groups = frozenset(tags), frozenset(groups)
        self.last = max((last, *tags, *((group << 16) + 0xFFFF for group in groups)))


Pieces = list[tuple[int, int]]
"""Place and number of the bytes on which depends where elements lie."""


class Odd(Exception):  # noqa: N818  no error: pydicom shall read this file
    """Not a plain file."""


class _Layout:
    """Some elements of one group as a file had them, with places counted from the begin of the first."""

    def __init__(self, content: bytes, start: int, elements: Sequence[Element], pieces: Pieces) -> None:
        pattern, position = "<", start
        for place, n in pieces:
            pattern += f"{place - position}x{n}s"
            position = place + n
        self.headers = struct.Struct(pattern).unpack_from
        self.expected = self.headers(content, start)
        self.first, self.last, self.size = elements[0][0], elements[-1][0], elements[-1][4] - start
        self._elements = [
            (tag, vr, at - start, value - start, end - start, closed) for tag, vr, at, value, end, closed in elements
        ]
        self._selected: dict[Wanted, list[Element]] = {}

    def select(self, wanted: Wanted) -> list[Element]:
        """Those of its elements that are wanted."""
        found = self._selected.get(wanted)
        if found is None:
            found = self._selected[wanted] = [
                one for one in self._elements if one[0] in wanted.tags or one[0] >> 16 in wanted.groups
            ]
        return found


_known: dict[tuple[bytes, bool], list[_Layout]] = {}  # of each group, explicit or implicit
_NONE: list[_Layout] = []


def is_vr(value: bytes) -> bool:
    """Whether two bytes are a value representation (DICOM PS3.5 6.2)."""
    return value in SHORT or value in LONG


def find_elements(content: bytes, position: int, implicit: bool, wanted: Wanted) -> tuple[list[Element], int]:
    """The elements wanted, and where the first one after the last tag begins.

    Raises :class:`Odd` or ``struct.error``: the elements aren't in order, do not end, or cannot be stepped through.
    """
    found: list[Element] = []
    previous, last, size = 0, wanted.last, len(content)
    while position < size:
        known = _known.get((content[position : position + 2], implicit), _NONE)
        for i, layout in enumerate(known):
            if (
                position + layout.size <= size
                and layout.last <= last
                and layout.headers(content, position) == layout.expected
            ):
                if i:
                    known[i], known[i // 2] = known[i // 2], layout  # what is met often is found soon
                break
        else:
            read = _read_group(content, position, implicit, last)
            if read is None:
                return found, position
            layout = read
        if layout.first <= previous:
            raise Odd
        previous = layout.last
        for tag, vr, start, value, end, closed in layout.select(wanted):
            found.append((tag, vr, position + start, position + value, position + end, closed))
        position += layout.size
    return found, position


def _read_group(content: bytes, start: int, implicit: bool, last: int) -> _Layout | None:
    """The elements from a place on that are of one group, up to a tag; None where there is none of them."""
    elements: list[Element] = []
    pieces: Pieces = []
    position, previous, group = start, 0, content[start : start + 2]
    while position < len(content) and content[position : position + 2] == group:
        before = len(pieces)
        element = read_element(content, position, implicit, 0, pieces)
        tag, end = element[0], element[4]
        if tag <= previous or tag >> 16 == 0xFFFE:
            raise Odd
        if tag > last:
            del pieces[before:]
            break
        if end > len(content):
            raise Odd
        elements.append(element)
        previous, position = tag, end
    if not elements:
        return None
    layout = _Layout(content, start, elements, pieces)
    if len(pieces) <= _MAX_PIECES:
        if len(_known) > _MAX_GROUPS:
            _known.clear()
        known = _known.setdefault((group, implicit), [])
        if len(known) < _MAX_LAYOUTS:
            known.append(layout)
        else:
            known[-1] = layout
    return layout


def read_element(content: bytes, start: int, implicit: bool, depth: int, pieces: Pieces) -> Element:
    """The element that begins at a place (DICOM PS3.5 7.1); what says where it ends is added to ``pieces``."""
    value, vr = start + 8, b"SQ"
    if implicit:
        group, number, length = _implicit(content, start)
    else:
        group, number, vr, length = _explicit(content, start)
        if vr not in SHORT:
            if vr not in LONG or group == 0xFFFE:
                raise Odd
            (length,) = _length(content, value)
            value += 4
    pieces.append((start, value - start))
    tag, stated = group << 16 | number, None if implicit else vr.decode("ascii")
    if length != _UNDEFINED:
        return tag, stated, start, value, value + length, True
    if tag == _PIXEL_DATA:  # encapsulated: for those who stop before it
        return tag, stated, start, value, len(content) + 1, False
    if vr != b"SQ":
        raise Odd
    return tag, stated, start, value, _find_sequence_end(content, value, implicit, depth + 1, pieces), False


def _find_sequence_end(content: bytes, position: int, implicit: bool, depth: int, pieces: Pieces) -> int:
    """Where a sequence of undefined length ends (DICOM PS3.5 7.5)."""
    if depth > _MAX_DEPTH:
        raise Odd
    while True:
        group, element, length = _implicit(content, position)
        pieces.append((position, 8))
        tag, position = group << 16 | element, position + 8
        if tag == _END_OF_SEQUENCE:
            return position
        if tag != _ITEM:
            raise Odd
        if length != _UNDEFINED:
            position += length
            continue
        while content[position : position + 4] != _END_OF_ITEM:
            position = read_element(content, position, implicit, depth, pieces)[4]
        pieces.append((position, 4))
        position += 8
