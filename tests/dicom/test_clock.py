from datetime import UTC, date, datetime, time, timedelta, timezone

import pytest

from twobe3.dicom.clock import parse_date, parse_datetime, parse_time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("101530.5", time(10, 15, 30, 500000)),
        ("1015", time(10, 15)),
        ("10:15:30", time(10, 15, 30)),
        ("235960", time(23, 59, 59)),
        ("", None),
        ("99", None),
        ("10153", None),
    ],
)
def test_times(text: str, expected: time | None) -> None:
    assert parse_time(text) == expected


def test_dates() -> None:
    assert parse_date("20240229") == parse_date("2024.02.29") == date(2024, 2, 29)
    assert parse_date("20230229") is None
    assert parse_datetime("20240301103000+0100") == datetime(2024, 3, 1, 9, 30, tzinfo=UTC)
    assert parse_datetime("20240301") is None
    zone = timezone(-timedelta(hours=3, minutes=30))
    assert parse_datetime("20240301100000", zone) == datetime(2024, 3, 1, 13, 30, tzinfo=UTC)
