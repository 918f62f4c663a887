"""The only place where pydicom opens files.

Real-world headers break the standard in harmless ways (a date with dots, a UID with a blank). pydicom warns
about each, and its warnings quote the value, which may identify a patient. Every rule of ours checks the values
that it uses, so pydicom's checks are switched off here, around reading and around each access.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.table import parse_number
from twobe3.core.volume import FloatArray
from twobe3.dicom.fast_parser import BEFORE_PIXELS, Skim, require_bounded, skim, tag_of
from twobe3.dicom.file_meta import complete_file_meta

_SUFFIXES = {".dcm", ".dicom", ".ima"}
_FIRST_BYTES, _GROWTH = 2**13, 4  # most headers of PET end within the first step


@dataclass(frozen=True, eq=False)
class Header:
    """What stands before the pixels of a file: the elements wanted, perhaps others too, and a digest.

    The digest is the SHA-256 of all its bytes up to the pixels, the same for copies of an image. Of a deflated, big
    endian or damaged file, where only reading all of it tells where the pixels begin: of all bytes.
    """

    dataset: pydicom.Dataset
    digest: str


@contextmanager
def quietly() -> Iterator[None]:
    """Read and convert header values without pydicom's warnings.

    The switches are those of the whole process: of several threads the first one in turns them, the last one out
    turns them back.
    """
    global _n_quiet
    with _turning:
        _n_quiet += 1
        if _n_quiet == 1:
            _switches.enter_context(warnings.catch_warnings())
            _switches.enter_context(disable_value_validation())
            warnings.simplefilter("ignore")
    try:
        yield
    finally:
        with _turning:
            _n_quiet -= 1
            if _n_quiet == 0:
                _switches.close()


_turning, _switches, _n_quiet = Lock(), ExitStack(), 0


def read_header(path: Path, tags: Sequence[str]) -> Header | None:
    """Read a file up to its pixels; None when it is no DICOM. Call it, and use what it returns, within :func:`quietly`.

    ``tags`` are the keywords of the elements wanted. Raises what :func:`read_dataset` raises.
    """
    with _open(path, _FIRST_BYTES) as (start, stream):
        if not _claims_dicom(path, start):
            return None
        content, found = _skim_stream(stream, start, tags, last=BEFORE_PIXELS)
        if found is None:
            return Header(_parse(content, tags=tags), hashlib.sha256(content).hexdigest())
        return Header(found.dataset, hashlib.sha256(memoryview(content)[: found.size]).hexdigest())


def read_dataset(
    path: Path, *, tags: Sequence[str] | None = None, groups: Sequence[int] = (), pixels: bool = False
) -> pydicom.Dataset:
    """Read a DICOM file; call it, and use what it returns, within :func:`quietly`.

    Parameters
    ----------
    path : Path
    tags : sequence of str, optional
        Keywords of the elements wanted; all by default. There may be others in what is returned.
    groups : sequence of int
        With ``tags``: groups that are wanted whole.
    pixels : bool
        Whether the pixel data, still encoded, are read too.

    Raises
    ------
    UnusableScanError
        ``CORRUPT_FILE``; ``TOO_LARGE``: a deflated file that inflates beyond any image.
    """
    with _open(path, -1 if pixels else _FIRST_BYTES) as (content, stream):
        if pixels:
            found = None if tags is None else skim(content, _numbers_of((*tags, *_PIXELS)), groups)
        else:
            last = BEFORE_PIXELS if tags is None else 0
            content, found = _skim_stream(stream, content, tags or (), groups, last=last)
        if found is not None and tags is not None:
            return found.dataset
        if found is not None:
            content = content[: found.size]
        return _parse(content, tags=None if groups or pixels else tags, pixels=pixels)


def describe_missing(path: Path, keyword: str) -> str:
    """Why a file lacks an element that every image has: it ends before it, or is whole and has none."""
    tag = int(_vr_of(keyword)[0])
    dataset = read_dataset(path)
    if max(map(int, dataset.keys()), default=0) < tag:
        return f"a file ends before its {keyword}"
    return f"a file has no {keyword} ({tag >> 16:04x},{tag & 0xFFFF:04x})"


@contextmanager
def refuse_errors(what: str) -> Iterator[None]:
    """Make ``CORRUPT_FILE`` of whatever goes wrong: parsers of foreign bytes have no closed set of errors."""
    try:
        yield
    except UnusableScanError:
        raise
    except Exception as error:
        raise UnusableScanError(Code.CORRUPT_FILE, f"{what} ({type(error).__name__})") from None


@contextmanager
def _open(path: Path, size: int = -1) -> Iterator[tuple[bytes, BinaryIO]]:
    """The first bytes of a file, and where the others are read from; all bytes where the beginning was completed."""
    try:
        with path.open("rb") as stream:
            start = stream.read(size)
            completed = complete_file_meta(start)
            if completed is not None:
                beginning, replaced = completed
                start = beginning + (start + stream.read())[replaced:]
            yield start, stream
    except UnusableScanError:
        raise
    except OSError as error:
        raise UnusableScanError(Code.CORRUPT_FILE, f"a file cannot be opened ({type(error).__name__})") from None
    except Exception as error:  # as in refuse_errors
        reason = f"a file cannot be read as DICOM ({type(error).__name__})"
        raise UnusableScanError(Code.CORRUPT_FILE, reason) from None


def _skim_stream(
    stream: BinaryIO, content: bytes, tags: Sequence[str], groups: Sequence[int] = (), *, last: int
) -> tuple[bytes, Skim | None]:
    """As much of a file as it takes to skim it, read in growing steps: all of it where only pydicom can tell."""
    wanted, size = _numbers_of(tuple(tags)), _FIRST_BYTES
    while True:
        whole = len(content) < size
        found = skim(content, wanted, groups, last=last, whole=whole)
        if found is not None or whole:
            return content, found
        size *= _GROWTH
        content += stream.read(size - len(content))


def _parse(content: bytes, *, tags: Sequence[str] | None, pixels: bool = False) -> pydicom.Dataset:
    """What pydicom makes of a file."""
    require_bounded(content)
    wanted = None if tags is None else list(tags)
    return pydicom.dcmread(BytesIO(content), stop_before_pixels=not pixels, specific_tags=wanted)


def _claims_dicom(path: Path, start: bytes) -> bool:
    """Whether a file is DICOM or passes itself off as it: by its preamble, which may be ours, or its name.

    DICOM PS3.10 7.1: 128 bytes, then ``DICM``. An empty file without a suffix is an image whose export failed.
    """
    if start[128:132] == b"DICM" or path.suffix.lower() in _SUFFIXES:
        return True
    return not start and not path.suffix


@cache
def _vr_of(keyword: str) -> tuple[BaseTag, str]:
    """Tag and value representation of a keyword."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"no element of DICOM has the keyword {keyword!r}")
    return tag_of(tag), dictionary_VR(tag)


@cache
def _numbers_of(keywords: tuple[str, ...]) -> frozenset[int]:
    return frozenset(int(_vr_of(keyword)[0]) for keyword in keywords)


_PIXELS = ("FloatPixelData", "DoubleFloatPixelData", "PixelData")
# Values that need no help from pydicom (DICOM PS3.5 6.2): text that is ASCII whatever the character set, text that is
# where its bytes are and no escape sequence changes the set, and numbers of two bytes.
_ASCII = frozenset(("AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"))
_TEXT = frozenset(("LO", "SH"))


def text(dataset: pydicom.Dataset, keyword: str) -> str:
    """A header value as stripped text; empty where it is absent or cannot be read."""
    parts = _parts(dataset, keyword)
    return parts[0] if parts else ""


def texts(dataset: pydicom.Dataset, keyword: str) -> tuple[str, ...]:
    """A header value of several parts."""
    return tuple(filter(None, _parts(dataset, keyword)))


def plain_text(value: Any) -> str:
    """Text of a value of any type; bytes of unknown representation as ASCII."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return str(value).strip(" \0")


def number(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """A header value as a number; None where it is absent or none."""
    return parse_number(text(dataset, keyword))


def plain_number(value: Any) -> float | None:
    """A finite number from a value of any type, None where there is none."""
    return parse_number(plain_text(value))


def numbers(dataset: pydicom.Dataset, keyword: str) -> tuple[float, ...]:
    """A header value of several numbers; empty where one of them is none."""
    found = [parse_number(part) for part in texts(dataset, keyword)]
    return tuple(n for n in found if n is not None) if None not in found else ()


def coordinates(dataset: pydicom.Dataset, keyword: str) -> FloatArray:
    """A long list of decimal strings, parsed at once: contours have millions; empty where one of them is no number."""
    element = dataset.get_item(keyword)
    value = b"" if element is None else element.value
    try:
        parts = value.strip(b" \0").split(b"\\") if isinstance(value, bytes) else list(value)
        return np.array(parts).astype(np.float64)
    except (TypeError, ValueError):
        return np.empty(0)


def items(dataset: pydicom.Dataset, keyword: str) -> tuple[pydicom.Dataset, ...]:
    """Items of a sequence; empty where it is absent or no sequence."""
    try:
        value = dataset.get(keyword)
    except Exception:  # conversion of foreign bytes, as in _parts
        return ()
    return tuple(value) if isinstance(value, pydicom.Sequence) else ()


def first_item(dataset: pydicom.Dataset, keyword: str) -> pydicom.Dataset:
    """The first item of a sequence; an empty data set where there is none."""
    found = items(dataset, keyword)
    return found[0] if found else pydicom.Dataset()


def private(dataset: pydicom.Dataset, group: int, creator: str, element: int) -> Any:
    """Value of a private element under its creator, None where it is absent (DICOM PS3.5 7.8.1)."""
    try:
        return dataset.private_block(group, creator)[element].value
    except Exception:  # conversion of foreign bytes, as in _parts
        return None


def value_of(dataset: pydicom.Dataset, tag: tuple[int, int] | int) -> Any:
    """Value of an element by its number, None where it is absent or cannot be read."""
    try:
        return dataset[tag].value
    except Exception:  # conversion of foreign bytes, as in _parts
        return None


def _parts(dataset: pydicom.Dataset, keyword: str) -> tuple[str, ...]:
    """The parts of a value as stripped texts; none where it is absent or cannot be read."""
    try:
        tag, vr = _vr_of(keyword)
        raw = dataset.get_item(tag)
        if raw is None:
            return ()
        if isinstance(raw, RawDataElement) and raw.VR in (None, vr) and isinstance(raw.value, bytes):
            parts = _split(raw.value, vr, raw.is_little_endian)
            if parts is not None:
                return parts
        value = raw.value if isinstance(raw, DataElement) else dataset.get(keyword)
    except Exception:  # conversion of foreign bytes, as above; every rule knows what to do without a value
        return ()
    return tuple(map(plain_text, value)) if isinstance(value, MultiValue) else (plain_text(value),)


@lru_cache(maxsize=4096)  # the slices of a series share most of their values
def _split(value: bytes, vr: str, is_little_endian: bool) -> tuple[str, ...] | None:
    """The parts of a value that needs no help from pydicom, None of another."""
    if vr == "US" and len(value) == 2:
        return (str(int.from_bytes(value, "little" if is_little_endian else "big")),)
    if vr in _ASCII or (vr in _TEXT and value.isascii() and b"\x1b" not in value):
        return tuple(part.strip(" \0") for part in value.decode("ascii", "replace").split("\\"))
    return None
