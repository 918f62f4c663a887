"""The kinds of ``[endpoint]`` of a study file, each with the keys that it knows."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.outcomes import Endpoint
from twobe3.study.section import Length, Section

Values = str | int | float | bool | tuple[str | int | float | bool, ...]
"""A value of a column, or several."""

Source = Literal["table", "header"]
"""Where an endpoint comes from: a column of the clinical table, or what every header carries."""


class BinarySection(Section):
    """``[endpoint]`` with ``kind = "binary"``.

    Parameters
    ----------
    kind : {"binary"}
        Yes or no.
    name : str
        How tables and the report call it.
    column : str
        The column of the clinical table; with ``source = "header"`` one of ``sex`` and ``body_region``.
    positive : str, int, float, bool or tuple of them
        The value that means yes, or several. Needed where the column holds something else than 1 and 0, or true and
        false.
    source : {"table", "header"}
        ``"header"``: what every header carries, without a clinical table.
    """

    kind: Literal["binary"]
    name: str
    column: str
    positive: Values = ""
    source: Source = "table"

    def endpoint(self) -> Endpoint:
        """The endpoint that the table describes."""
        return Binary(self.name, self.column, _to_text(self.positive))


class TimeToEventSection(Section):
    """``[endpoint]`` with ``kind = "time-to-event"``.

    Parameters
    ----------
    kind : {"time-to-event"}
        A time that may be censored.
    name : str
        How tables and the report call it.
    time : str
        Column with the time to the event or to censoring; or else ``start`` and ``end``.
    start, end : str
        Columns with dates: from when the time counts, and of the event or the end of follow-up.
    date_format : str
        How these are written, for instance ``"dd/mm/yyyy"``; needed where a date could mean two days.
    event : str
        Column that tells an event from a censoring.
    positive : str, int, float, bool or tuple of them
        The value of ``event`` that means the event, or several; needed as for a binary endpoint.
    unit : {"day", "week", "month", "year"}
        Of the times.
    competing : str, int, float, bool or tuple of them
        The value of ``event`` that means a competing event.
    time_zero : str
        From when the time counts, in words for the report.
    horizons : tuple of float
        Times in that unit at which it is evaluated; by default the quartiles of its event times.
    source : {"table"}
        The clinical table: no header tells a time to an event.
    """

    kind: Literal["time-to-event"]
    name: str
    time: str = ""
    start: str = ""
    end: str = ""
    date_format: str = ""
    event: str
    positive: Values = ""
    unit: Literal["day", "week", "month", "year"] = "day"
    competing: Values = ""
    time_zero: str = "the scan"
    horizons: tuple[Length, ...] = ()
    source: Literal["table"] = "table"

    def endpoint(self) -> Endpoint:
        """The endpoint that the table describes."""
        return TimeToEvent(
            self.name, self.time, self.event, self.unit, _to_text(self.competing), self.time_zero,
            positive=_to_text(self.positive), start=self.start, end=self.end, date_format=self.date_format,
        )  # fmt: skip

    @model_validator(mode="after")
    def _must_have_times(self) -> Self:
        if bool(self.time) == bool(self.start or self.end) or bool(self.start) != bool(self.end):
            raise ValueError("give either `time`, a column of times, or `start` and `end`, columns of dates")
        if self.date_format and self.time:
            raise ValueError("`date_format` is that of `start` and `end`")
        return self


class ContinuousSection(Section):
    """``[endpoint]`` with ``kind = "continuous"``.

    Parameters
    ----------
    kind : {"continuous"}
        A number.
    name : str
        How tables and the report call it.
    column : str
        The column of the clinical table; with ``source = "header"`` one of ``age_years`` and ``weight_kg``.
    unit : str
        Its unit, in words for the report.
    source : {"table", "header"}
        ``"header"``: what every header carries, without a clinical table.
    """

    kind: Literal["continuous"]
    name: str
    column: str
    unit: str = ""
    source: Source = "table"

    def endpoint(self) -> Endpoint:
        """The endpoint that the table describes."""
        return Continuous(self.name, self.column, self.unit)


EndpointSection = Annotated[BinarySection | TimeToEventSection | ContinuousSection, Field(discriminator="kind")]


def _to_text(values: Values) -> str | tuple[str, ...]:
    return tuple(map(str, values)) if isinstance(values, tuple) else str(values)
