"""Dates, times and date-times as DICOM writes them, and when a clock showed one (rules 12 and 14)."""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache

_FIRST_YEAR, _LAST_YEAR = 1800, 2500  # wide enough for birth dates and for dates shifted by de-identification
_TIME = re.compile(r"(\d{2})(?:(\d{2})(?:(\d{2})(?:\.(\d{1,6}))?)?)?")
_DATE_TIME = re.compile(r"(\d{8})(\d{2}[\d.]*)([+-]\d{4})?")


@lru_cache(maxsize=1024)  # the slices of a series share their dates
def parse_date(text: str) -> date | None:
    """DICOM DA, ``YYYYMMDD`` or the old ``YYYY.MM.DD`` (PS3.5 6.2); None where it is neither, or no year of a scan."""
    try:
        found = datetime.strptime(text.strip().replace(".", ""), "%Y%m%d").date()
    except ValueError:
        return None
    return found if _FIRST_YEAR <= found.year <= _LAST_YEAR else None


def parse_time(text: str, zone: timezone | None = None) -> time | None:
    """DICOM TM, ``HHMMSS.FFFFFF`` shortened at will, or the old ``HH:MM:SS`` (PS3.5 6.2)."""
    match = _TIME.fullmatch(text.strip().replace(":", ""))
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups(default="0")
    try:
        # second 60 is a leap second
        return time(int(hours), int(minutes), min(int(seconds), 59), int(fraction.ljust(6, "0")), tzinfo=zone)
    except ValueError:
        return None


def parse_zone(text: str) -> timezone | None:
    """DICOM offset from UTC, ``+0100`` (PS3.3 C.12.1.1.8)."""
    if not re.fullmatch(r"[+-]\d{4}", text.strip()):
        return None
    text = text.strip()
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:]))
    return timezone(-offset if text[0] == "-" else offset) if offset < timedelta(hours=24) else None


def parse_datetime(text: str, zone: timezone | None = None) -> datetime | None:
    """DICOM DT with at least the hour (PS3.5 6.2); its own offset goes before the data set's."""
    match = _DATE_TIME.fullmatch(text.strip())
    if match is None:
        return None
    return combine(match[1], match[2], parse_zone(match[3] or "") or zone)


def find_last_before(reference: datetime, clock: time | None) -> datetime | None:
    """The last moment not after the reference at which the clock showed this time."""
    if clock is None:
        return None
    if reference.tzinfo and clock.tzinfo:
        reference = reference.astimezone(clock.tzinfo)
    instant = datetime.combine(reference.date(), clock)
    return instant - timedelta(days=1) if is_comparable(instant, reference) and instant > reference else instant


@lru_cache(maxsize=4096)  # several rules ask for the time of each slice
def combine(day: str, clock: str, zone: timezone | None) -> datetime | None:
    """A date-time of a DICOM date and a DICOM time; None unless both can be read."""
    parsed_day, parsed_clock = parse_date(day), parse_time(clock, zone)
    return datetime.combine(parsed_day, parsed_clock) if parsed_day and parsed_clock else None


def is_comparable(a: datetime, b: datetime) -> bool:
    """Whether both have a time zone or neither has one (DICOM PS3.5 6.2)."""
    return (a.tzinfo is None) == (b.tzinfo is None)
