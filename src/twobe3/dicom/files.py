"""The only place where pydicom opens files.

Real-world headers break the standard in harmless ways (a date with dots, a UID with a blank). pydicom warns
about each, and its warnings quote the value, which may identify a patient. Every rule of ours checks the values
that it uses, so pydicom's checks are switched off here, around reading and around each access.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue

from twobe3.dicom.skim import require_bounded, skim
from twobe3.errors import Code, Refusal, UsageError
from twobe3.volume import FloatArray

_SUFFIXES = {".dcm", ".dicom", ".ima"}


@dataclass(frozen=True)
class Listing:
    """Files below the paths given.

    Attributes
    ----------
    files : tuple of Path
        Absolute, each once, in an order of no meaning.
    n_links : int
        Symbolic links that lead out of their folder, or to nothing, and were not followed.
    """

    files: tuple[Path, ...]
    n_links: int


@contextmanager
def quietly() -> Iterator[None]:
    """Read and convert header values without pydicom's warnings."""
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def list_files(paths: Sequence[Path]) -> Listing:
    """Every file at or below the paths; symbolic links are followed only to files of the same folder.

    Raises
    ------
    UsageError
        ``NO_PET``: a path does not exist.
    """
    files: dict[Path, None] = {}
    n_links = 0
    for path in paths:
        if not path.exists():
            raise UsageError(Code.NO_PET, f"{path.name!r} does not exist", remedy="check the path")
        root = path.resolve()
        for found in [root] if root.is_file() else _walk(root):
            target = found.resolve() if found.is_symlink() else found
            if target.is_file() and (target == root or target.is_relative_to(root)):
                files[target] = None
            else:
                n_links += 1
    return Listing(tuple(files), n_links)


def claims_dicom(path: Path) -> bool:
    """Whether a file is DICOM or passes itself off as it: by its preamble, its name, or a bare data set.

    DICOM PS3.10 7.1: 128 bytes, then ``DICM``. An empty file without a suffix is an image whose export failed.
    """
    with path.open("rb") as stream:
        start = stream.read(132)
    if start[128:] == b"DICM" or path.suffix.lower() in _SUFFIXES:
        return True
    bare = start[:2] in (b"\x08\x00", b"\x02\x00") and start[3:4] == b"\x00"
    return bare or (not start and not path.suffix)


def read_dataset(
    path: Path, *, tags: Sequence[str] | None = None, groups: Sequence[int] = (), pixels: bool = False
) -> pydicom.Dataset:
    """Read a DICOM file; call it, and use what it returns, within :func:`quietly`.

    Parameters
    ----------
    path : Path
        The file.
    tags : sequence of str, optional
        Keywords of the elements wanted; all by default. There may be others in what is returned.
    groups : sequence of int
        With ``tags``: groups that are wanted whole.
    pixels : bool
        Whether the pixel data, still encoded, are read too.

    Raises
    ------
    Refusal
        ``CORRUPT_FILE``; ``TOO_LARGE``: a deflated file that inflates beyond any image.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_HEADER_BYTES)
            if tags is not None and not pixels and (found := skim(content, _numbers_of(tags), groups)) is not None:
                return found
            content += stream.read()
        if (
            tags is not None
            and (found := skim(content, _numbers_of((*tags, *_PIXELS[: 3 * pixels])), groups)) is not None
        ):
            return found
        require_bounded(content)
        wanted = None if tags is None or groups or pixels else list(tags)
        return pydicom.dcmread(BytesIO(content), stop_before_pixels=not pixels, specific_tags=wanted)
    except Refusal:
        raise
    except Exception as error:  # a parser of foreign bytes has no closed set of errors
        raise Refusal(Code.CORRUPT_FILE, f"a file cannot be read as DICOM ({type(error).__name__})") from None


@cache
def _vr_of(keyword: str) -> tuple[int, bool]:
    """Tag of a keyword, and whether its value is plain ASCII whatever the character set (DICOM PS3.5 6.2)."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise ValueError(f"no element of DICOM has the keyword {keyword!r}")
    return tag, dictionary_VR(tag) in _ASCII


def _numbers_of(keywords: Sequence[str]) -> list[int]:
    return [_vr_of(keyword)[0] for keyword in keywords]


_HEADER_BYTES = 2**16
_PIXELS = ("FloatPixelData", "DoubleFloatPixelData", "PixelData")
_ASCII = ("AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI")


def text(dataset: pydicom.Dataset, keyword: str) -> str:
    """A header value as stripped text; empty where it is absent or cannot be read."""
    value = _value(dataset, keyword)
    if isinstance(value, MultiValue):
        value = value[0] if value else ""
    return plain_text(value)


def texts(dataset: pydicom.Dataset, keyword: str) -> tuple[str, ...]:
    """A header value of several parts."""
    value = _value(dataset, keyword)
    parts = list(value) if isinstance(value, MultiValue) else [value]
    return tuple(part for part in map(plain_text, parts) if part)


def plain_text(value: Any) -> str:
    """Text of a value of any type; bytes of unknown representation as ASCII."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    return str(value).strip(" \0")


def number(dataset: pydicom.Dataset, keyword: str) -> float | None:
    """A header value as a number; None where it is absent or none."""
    return plain_number(text(dataset, keyword))


def plain_number(value: Any) -> float | None:
    """A finite number from a value of any type, None where there is none."""
    try:
        found = float(plain_text(value))
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def numbers(dataset: pydicom.Dataset, keyword: str) -> tuple[float, ...]:
    """A header value of several numbers; empty where one of them is none."""
    found = [plain_number(part) for part in texts(dataset, keyword)]
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
    value = _value(dataset, keyword)
    return tuple(value) if isinstance(value, pydicom.Sequence) else ()


def private(dataset: pydicom.Dataset, group: int, creator: str, element: int) -> Any:
    """Value of a private element under its creator, None where it is absent (DICOM PS3.5 7.8.1)."""
    try:
        return dataset.private_block(group, creator)[element].value
    except Exception:  # conversion of foreign bytes, as in _value
        return None


def value_of(dataset: pydicom.Dataset, tag: tuple[int, int]) -> Any:
    """Value of an element by its number, None where it is absent or cannot be read."""
    try:
        return dataset[tag].value
    except Exception:  # conversion of foreign bytes, as in _value
        return None


def _value(dataset: pydicom.Dataset, keyword: str) -> Any:
    try:
        tag, ascii_ = _vr_of(keyword)
        raw = dataset.get_item(tag) if ascii_ else None
        if isinstance(raw, RawDataElement) and isinstance(raw.value, bytes) and raw.VR in (None, *_ASCII):
            parts = raw.value.decode("ascii", "replace").split("\\")
            return parts[0] if len(parts) == 1 else MultiValue(str, parts)
        return dataset.get(keyword)
    except Exception:  # conversion of foreign bytes, as above; every rule knows what to do without a value
        return None


def _walk(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            yield Path(folder, name)
