"""Dates in a column of a table: read where they mean one day, refused where they could mean two."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.table import name_rows

EXCEL = "excel"
"""The ``date_format`` of numbers that count days as Excel does: 1 is 1 January 1900."""

_EXCEL_EPOCH = date(1899, 12, 30)  # Excel has a 29 February 1900, so that the two agree from March on
_TIME_OF_DAY = re.compile(r"[T ]+\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[AaPp][Mm])?(Z|[+-]\d{2}:?\d{2})?$")
_YEAR_FIRST = re.compile(r"(\d{4})([-/.]?)(\d{1,2})\2(\d{1,2})")
_YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})")
_DAY_NAME = re.compile(r"(\d{1,2})[-. ]*([A-Za-z]{3,9})\.?[-, ]*(\d{4})")
_NAME_DAY = re.compile(r"([A-Za-z]{3,9})\.?[- ]*(\d{1,2}),? +(\d{4})")
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
           "november", "december")  # fmt: skip
_WORDS = (("yyyy", "%Y"), ("yy", "%y"), ("mmm", "%b"), ("mm", "%m"), ("dd", "%d"))

Parse = Callable[[str], "date | None"]


def parse_dates(
    cells: Mapping[str, str], numbers: Mapping[str, int], column: str, date_format: str = ""
) -> dict[str, date]:
    """Read the dates of a column; a time of day behind a date is passed over.

    Without a format a date is year first (``2019-04-03``, ``20190403``), has its month in English letters
    (``3-Apr-2019``), or has the year last, in four digits. There the order of day and month is what the column shows: a
    number above 12 can be no month. Where no row shows it, points mean the day first (``03.04.2019``), and between
    slashes or hyphens a date of two readings is refused.

    Parameters
    ----------
    cells : mapping
        From the patient to the cell.
    numbers : mapping
        From the patient to the number of the row, which refusals name.
    column : str
        The column, as refusals call it.
    date_format : str
        How every date of the column is written, in words (``"dd/mm/yyyy"``) or in the codes of :func:`time.strftime`
        (``"%d/%m/%Y"``); :data:`EXCEL` for numbers that count days as Excel does.

    Raises
    ------
    ConfigurationError
        ``DATE_INVALID``, naming the rows.
    """
    texts = {patient: _TIME_OF_DAY.sub("", cell.strip()) for patient, cell in cells.items()}
    parse = _parser_of(date_format) if date_format else _find_parser(texts, numbers, column)
    found = {patient: parse(text) for patient, text in texts.items()}
    bad = [numbers[patient] for patient, day in found.items() if day is None]
    if bad:
        kind = f"a date written {date_format!r}" if date_format else "a date with a year of four digits"
        raise ConfigurationError(Code.DATE_INVALID, f"column {column!r} must hold {kind}; {name_rows(bad)}")
    return {patient: day for patient, day in found.items() if day is not None}


def _find_parser(texts: Mapping[str, str], numbers: Mapping[str, int], column: str) -> Parse:
    """The parser of a column whose format nobody told, from what its rows show."""
    year_last = {patient: match for patient, text in texts.items() if (match := _YEAR_LAST.fullmatch(text))}
    day_first = [numbers[patient] for patient, match in year_last.items() if int(match[1]) > 12]
    month_first = [numbers[patient] for patient, match in year_last.items() if int(match[3]) > 12]
    if day_first and month_first:
        raise _refuse(column, f"the day first in {name_rows(day_first)}, the month first in {name_rows(month_first)}")
    slashed = [numbers[patient] for patient, match in year_last.items() if match[2] != "."]
    iso = [numbers[patient] for patient, text in texts.items() if _YEAR_FIRST.fullmatch(text)]
    if slashed and iso:
        # A spreadsheet that expects the other order makes dates of 03/04/2019 and leaves 25/12/2019 as a text.
        raise _refuse(column, f"the year first in {name_rows(iso)}, the year last in {name_rows(slashed)}")
    ambiguous = [numbers[p] for p, match in year_last.items() if match[2] != "." and int(match[1]) != int(match[3])]
    if ambiguous and not day_first and not month_first:
        reason = f"column {column!r}: day and month can't be told apart in {name_rows(ambiguous)}, nor by any other row"
        remedy = 'write `date_format = "dd/mm/yyyy"` or "mm/dd/yyyy" in [endpoint], or dates as 2019-12-31'
        raise ConfigurationError(Code.DATE_INVALID, reason, remedy=remedy)
    return lambda text: _parse(text, month_first=bool(month_first))


def _refuse(column: str, ways: str) -> ConfigurationError:
    return ConfigurationError(Code.DATE_INVALID, f"column {column!r} has dates written in two ways: {ways}")


def _parse(text: str, *, month_first: bool) -> date | None:
    if match := _YEAR_FIRST.fullmatch(text):
        year, _, month, day = match.groups()
        return _make_date(year, month, day) if match[2] or len(text) == 8 else None
    if match := _YEAR_LAST.fullmatch(text):
        first, _, second, year = match.groups()
        return _make_date(year, first, second) if month_first else _make_date(year, second, first)
    if match := _DAY_NAME.fullmatch(text):
        day, name, year = match.groups()
    elif match := _NAME_DAY.fullmatch(text):
        name, day, year = match.groups()
    else:
        return None
    months = [i for i, month in enumerate(_MONTHS, start=1) if month.startswith(name.lower())]
    return _make_date(year, str(months[0]), day) if len(months) == 1 else None


def _make_date(year: str, month: str, day: str) -> date | None:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None


def _parser_of(date_format: str) -> Parse:
    if date_format.strip().lower() == EXCEL:
        return _parse_serial
    form = date_format
    if "%" not in form:
        for word, code in _WORDS:
            form = re.sub(word, code, form, flags=re.IGNORECASE)

    def parse(text: str) -> date | None:
        try:
            return datetime.strptime(text, form).date()
        except ValueError:
            return None

    return parse


def _parse_serial(text: str) -> date | None:
    try:
        return _EXCEL_EPOCH + timedelta(days=int(float(text)))
    except (ValueError, OverflowError):
        return None
