from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobe3.core.dates import parse_dates
from twobe3.core.endpoints import TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.core.table import NumberedTable

APRIL = date(2019, 4, 3)


def parse(*cells: str, date_format: str = "") -> list[date]:
    numbers = {str(i): i for i in range(2, len(cells) + 2)}
    return list(parse_dates(dict(zip(numbers, cells, strict=True)), numbers, "seen", date_format).values())


@pytest.mark.parametrize(
    "cell",
    [
        "2019-04-03", "2019/04/03", "2019-4-3", "20190403", "2019-04-03 00:00:00", "2019-04-03T10:22:00.5+02:00",
        "03.04.2019", "3.4.2019", " 03.04.2019 14:05", "3-Apr-2019", "03APR2019", "3 April 2019", "Apr 3, 2019",
        "April 3 2019", "3. Apr. 2019",
    ],
)  # fmt: skip
def test_what_can_mean_one_day_only(cell: str) -> None:
    """Acceptance row 68."""
    assert parse(cell) == [APRIL]


@pytest.mark.parametrize("separator", ["/", "-"])
def test_another_row_settles_the_order_of_day_and_month(separator: str) -> None:
    """Acceptance row 68."""
    first = f"03{separator}04{separator}2019"
    assert parse(first, f"25{separator}12{separator}2019") == [APRIL, date(2019, 12, 25)]
    assert parse(f"12{separator}25{separator}2019", first) == [date(2019, 12, 25), date(2019, 3, 4)]
    assert parse(f"04{separator}04{separator}2019") == [date(2019, 4, 4)]


@given(
    days=st.lists(st.dates(date(1950, 1, 1), date(2100, 1, 1)), min_size=1, max_size=6),
    form=st.sampled_from(["%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%Y-%m-%d"]),
)
def test_dates_are_read_as_they_were_written_or_refused(days: Sequence[date], form: str) -> None:
    cells = [day.strftime(form) for day in days]
    try:
        assert parse(*cells) == list(days)
    except ConfigurationError:
        # Only where no day says by its number that it is none of a month.
        assert "/" in form or "-" in form
        assert max(day.day for day in days) <= 12
    assert parse(*cells, date_format=form) == list(days)


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (
            ["05.05.2019", "03/04/2019", "01/02/2019"],
            "day and month can't be told apart in rows 3, 4, nor by any other",
        ),
        (["25/12/2019", "12/25/2019"], "written in two ways: the day first in row 2, the month first in row 3"),
        (["2019-04-03", "25/12/2019"], "in two ways: the year first in row 2, the year last in row 3"),
        (["2019-04-03", "03.04.19"], "must hold a date with a year of four digits; row 3"),
        (["2019-04-03", "2019-02-30"], "row 3"),
        (["31.12.2019", "12.31.2018", "soon"], "the day first in row 2, the month first in row 3"),
        (["2019-04-03", "43558"], "row 3"),
        (["2019-04-03", "2019-04"], "row 3"),
        (["3 Ju 2019"], "row 2"),
    ],
)
def test_what_could_mean_two_days_or_none_is_refused_with_its_row(cells: list[str], says: str) -> None:
    """Acceptance row 68."""
    with pytest.raises(ConfigurationError, match="DATE_INVALID") as refused:
        parse(*cells)
    assert says in str(refused.value)
    assert not [cell for cell in cells if cell in refused.value.reason]


@pytest.mark.parametrize(
    ("cell", "date_format"),
    [
        ("03/04/2019", "dd/mm/yyyy"), ("04/03/2019", "MM/DD/YYYY"), ("03.04.19", "dd.mm.yy"), ("3/4/2019", "%d/%m/%Y"),
        ("03-Apr-2019", "dd-mmm-yyyy"), ("43558", "excel"), ("43558.75", "Excel"),
    ],
)  # fmt: skip
def test_how_dates_are_written_can_be_said(cell: str, date_format: str) -> None:
    assert parse(cell, date_format=date_format) == [APRIL]
    with pytest.raises(ConfigurationError, match=f"must hold a date written '{date_format}'; row 3"):
        parse(cell, "x", date_format=date_format)


def table(*rows: tuple[str, str, str]) -> NumberedTable:
    cells = {f"XYZZY{i}": {"pet": pet, "last": last, "dead": dead} for i, (pet, last, dead) in enumerate(rows)}
    return NumberedTable(cells, {patient: i for i, patient in enumerate(cells, start=2)})


def test_two_columns_of_dates_make_a_time() -> None:
    """Acceptance row 68."""
    days = [1, 30, 365, 1461]
    rows = [(str(APRIL), (APRIL + timedelta(days=n)).strftime("%d.%m.%Y"), "1") for n in days]
    rows += [("", "2020-01-01", "1"), ("2019-01-01", "NA", "0"), ("2019-01-01", "2019-05-01", "")]
    outcomes = TimeToEvent("os", "", "dead", start="pet", end="last").outcomes(table(*rows))
    assert outcomes.patients == tuple(f"XYZZY{i}" for i in range(4))
    assert outcomes.value.tolist() == days
    in_years = TimeToEvent("os", "", "dead", "year", start="pet", end="last").outcomes(table(*rows))
    np.testing.assert_allclose(in_years.value, np.array(days) / 365.25)
    in_months = TimeToEvent("os", "", "dead", "month", start="pet", end="last").outcomes(table(*rows))
    assert in_months.value[3] == pytest.approx(48)  # four years and a leap day


def test_an_end_that_is_not_after_its_start_is_refused_with_its_row() -> None:
    rows = [("2019-01-01", "2019-02-01", "1"), ("2019-01-02", "2019-01-01", "1"), ("2019-01-02", "2019-01-02", "0")]
    with pytest.raises(ConfigurationError) as refused:
        TimeToEvent("os", "", "dead", start="pet", end="last").outcomes(table(*rows))
    assert "OUTCOME_INVALID: the date in 'last' must be after that in 'pet'; rows 3, 4" in str(refused.value)
    assert "XYZZY" not in str(refused.value)


@pytest.mark.parametrize("columns", [{}, {"start": "pet"}, {"end": "last"}])
def test_a_time_needs_one_column_or_two(columns: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="needs either a column of times, or two of dates"):
        TimeToEvent("os", "", "dead", **columns)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="needs either a column of times, or two of dates"):
        TimeToEvent("os", "days", "dead", start="pet", end="last")
