"""Tables as text: what spreadsheets and statistics programs save."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError

_SEPARATORS = ",;\t"
_SEPARATOR_LINE = re.compile(r"sep=(.)")
_BYTE_ORDER_MARKS = {  # the longer first: that of UTF-32 begins as that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32", codecs.BOM_UTF8: "UTF-8",
    codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16",
}  # fmt: skip
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_ONLY_WINDOWS = re.compile(rb"[\x80-\x9f]")
# A spreadsheet takes a cell that begins so for a formula. Leading quotes are counted, so that reading is exact.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NEUTRALISED = re.compile(r"'+[=+\-@\t\r]")


@dataclass(frozen=True)
class Delimited:
    """A table as text: what separates its cells, and each line with content, by its number, from 1.

    The number is that of the last line where a quoted cell goes over several.
    """

    separator: str
    encoding: str
    lines: list[tuple[int, list[str]]]


def split_lines(path: Path, code: Code, encoding: str = "") -> Delimited:
    """Read a table as text; its separator is the one of ``,``, ``;`` and tab that the first line has most of.

    A line ``sep=;`` before it, as Excel writes it, names the separator. Without an encoding, a text with a byte order
    mark is what that says, UTF-16 is known by its zeros, what is valid UTF-8 is UTF-8, and everything else is
    Windows-1252, or Latin-1 where the two are the same.

    Raises
    ------
    ConfigurationError
        With ``code``: the file can't be read, is no text, or is empty.
    """
    try:
        text, encoding = _decode(path.read_bytes(), encoding)
        first = re.split("[\r\n]", text, maxsplit=1)[0]
        named = _SEPARATOR_LINE.fullmatch(first)
        separator = named[1] if named else max(_SEPARATORS, key=first.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        lines = [(reader.line_num, cells) for cells in reader if any(map(str.strip, cells))]
    except OSError as error:
        reason = f"{path.name or path} can't be read: {error.strerror}"
        raise ConfigurationError(code, reason, remedy="give the path of a table") from None
    except (UnicodeError, LookupError, csv.Error, ValueError) as error:
        reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
        raise ConfigurationError(
            code, f"{path.name} is not a table as text: {reason}", remedy="save it as comma-separated text in UTF-8"
        ) from None
    lines = lines[1:] if named else lines
    if not lines:
        raise ConfigurationError(code, f"{path.name} is empty", remedy="give a table with a header line")
    return Delimited(separator, encoding, lines)


def escape_formula(text: str) -> str:
    """Put a quote before a text that a spreadsheet would take for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def to_csv(
    rows: Iterable[Iterable[object]],
    *,
    quote_all: bool = False,
    line_end: str = "\n",
    escape: Callable[[str], str] = escape_formula,
) -> bytes:
    """Write rows as comma-separated text; ``escape`` is applied to every cell that is a text."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator=line_end, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL)
    writer.writerows([escape(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return stream.getvalue().encode()


def unescape_formula(text: str) -> str:
    """A text as it was before :func:`escape_formula`."""
    return text[1:] if _NEUTRALISED.match(text) else text


def _decode(content: bytes, encoding: str) -> tuple[str, str]:
    """The text, and its encoding."""
    if encoding:
        return content.decode(encoding).removeprefix("\ufeff"), encoding
    for mark, name in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return content.decode(name).removeprefix("\ufeff"), name
    even, odd = content[:4096:2].count(0), content[1:4096:2].count(0)
    if max(even, odd) > len(content[:4096]) // 4 and min(even, odd) == 0:
        return content.decode("UTF-16-LE" if odd else "UTF-16-BE"), "UTF-16"
    try:
        return content.decode("UTF-8"), "UTF-8"
    except UnicodeDecodeError:
        if _CONTROL.search(content):
            raise
        return content.decode("cp1252"), "Windows-1252" if _ONLY_WINDOWS.search(content) else "Latin-1"
