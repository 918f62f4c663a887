"""The kinds of endpoint: binary, time to event, continuous."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from twobe3.core.codes import Code
from twobe3.core.dates import parse_dates
from twobe3.core.errors import ConfigurationError
from twobe3.core.events import Value, find_events, is_obvious, join_values, spell_as_in, to_values
from twobe3.core.outcomes import Endpoint, FloatArray, Kind, Loss, Outcomes
from twobe3.core.table import Table, is_missing, name_rows, number_rows, parse_number, quote_cell, require_columns

PER_YEAR = {"day": 365.25, "week": 365.25 / 7, "month": 12.0, "year": 1.0}
LONGEST_YEARS = 50.0
"""No PET scan of a patient is older."""
SHORTEST_YEARS = 0.5
"""Of a follow-up in which outcomes are predicted; a shorter one is unusual enough for a word."""


@dataclass(frozen=True)
class Binary(Endpoint):
    """Yes or no by the end of follow-up.

    Parameters
    ----------
    name : str
        Name of the endpoint, as it appears in tables.
    column : str
        Column of the clinical table.
    positive : str or tuple of str
        The value, or values, that mean yes; any one other value means no. Numbers compare as numbers, texts without
        regard to case. It may be left out where the column holds 1 and 0, or true and false.
    """

    column: str
    positive: Value = ""
    kind: ClassVar[Kind] = "binary"
    loss: ClassVar[Loss] = "cross-entropy"
    primary_metric: ClassVar[str] = "auc"
    chance_level: ClassVar[float] = 0.5
    has_classes: ClassVar[bool] = True

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.column,)

    def outcomes(self, table: Table) -> Outcomes:
        """Outcomes of the patients whose column is filled.

        Raises
        ------
        ConfigurationError
            ``COLUMN_MISSING``; ``OUTCOME_INVALID`` when the column has more than two values or lacks the positive
            one, or when which one that is was not said and is not obvious; ``ONE_CLASS``.
        """
        rows = _drop_unknown(table, self)
        cells = {patient: row[self.column] for patient, row in rows.items()}
        event, _, positive = find_events(cells, table, self.column, self.positive)
        outcomes = Outcomes(replace(self, positive=positive), tuple(rows), event.astype(np.float64), event)
        self.check(outcomes)
        return outcomes

    @classmethod
    def from_arrays(cls, event: npt.ArrayLike, *, name: str = "event") -> Outcomes:
        """Outcomes of n patients without a table; ``event``, shape (n,), is 1 or True for the positive class."""
        codes = _codes(event, 1)
        return Outcomes(cls(name, name, "1"), _number_patients(codes), codes, codes == 1)

    @property
    def event_definition(self) -> str:
        """Which value of the column is the event."""
        return f"{self.column} = {join_values(self.positive)}" if self.positive else ""

    def effective_sample_size(self, outcomes: Outcomes) -> int:
        """Number of patients of the rarer class."""
        return min(outcomes.n_events, len(outcomes) - outcomes.n_events)

    def constant_risk(self, outcomes: Outcomes) -> float:
        """Log-odds of the positive class, of half a patient where a class has none."""
        least = 0.5 / len(outcomes)
        return float(logit(np.clip(float(outcomes.value.mean()), least, 1.0 - least)))

    def probability(self, risk: FloatArray) -> FloatArray:
        """Probability of the positive class, shape (n,), from log-odds."""
        return np.asarray(expit(risk))


@dataclass(frozen=True)
class TimeToEvent(Endpoint):
    """Time from time zero to an event, right-censored.

    Parameters
    ----------
    name : str
        Name of the endpoint, as it appears in tables.
    time, event : str
        Columns of the clinical table: time from time zero, and whether the event was observed or the patient was
        censored then.
    unit : {"day", "week", "month", "year"}
        Unit of the time.
    competing : str or tuple of str
        The value, or values, of the event's column that stand for a competing event, for instance ``"2"`` for a death
        without relapse; none by default.
    time_zero : str
        From when the time counts, as the report shall say it.
    positive : str or tuple of str
        The value, or values, of the event's column that mean that it was observed; any one other value means censored.
        It may be left out where the column holds 1 and 0, or true and false.
    start, end : str
        Instead of ``time``, columns with dates: time zero, and the event or the end of follow-up.
    date_format : str
        How these are written, see :func:`~twobe3.core.dates.parse_dates`; found out by default.
    """

    time: str
    event: str
    unit: Literal["day", "week", "month", "year"] = "day"
    competing: Value = ""
    time_zero: str = "the scan"
    positive: Value = field(default="", kw_only=True)
    start: str = field(default="", kw_only=True)
    end: str = field(default="", kw_only=True)
    date_format: str = field(default="", kw_only=True)
    kind: ClassVar[Kind] = "time-to-event"
    loss: ClassVar[Loss] = "cox"
    primary_metric: ClassVar[str] = "harrell_c"
    chance_level: ClassVar[float] = 0.5
    has_times: ClassVar[bool] = True
    risk_has_origin: ClassVar[bool] = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.time, self.event) if self.time else (self.start, self.end, self.event)

    def __post_init__(self) -> None:
        if bool(self.time) == bool(self.start or self.end) or bool(self.start) != bool(self.end):
            raise ConfigurationError(
                Code.OUTCOME_INVALID,
                f"endpoint {self.name!r} needs either a column of times, or two of dates",
                remedy="give `time`, or `start` and `end`",
            )
        values, competing = to_values(self.positive), to_values(self.competing)
        if values & competing or (not values and any(map(is_obvious, competing))):
            raise ConfigurationError(
                Code.OUTCOME_INVALID,
                f"endpoint {self.name!r}: the competing event {join_values(self.competing)!r} must be another value "
                "than those of the event and of a censoring",
                remedy='set `competing` to the value that stands for it in the event\'s column, for instance "2"',
            )

    def outcomes(self, table: Table) -> Outcomes:
        """Outcomes of the patients whose columns are filled.

        Raises
        ------
        ConfigurationError
            ``COLUMN_MISSING``; ``OUTCOME_INVALID`` naming the rows whose time is not positive, or whose event is
            neither 0 nor 1 nor the competing one, or when which value is the event was not said and is not obvious;
            ``DATE_INVALID``; ``ONE_CLASS`` when nobody has the event.
        """
        rows = _drop_unknown(table, self)
        times = (
            _numbers(rows, self.time, table, lambda time: time > 0, "a time above 0")
            if self.time
            else (self._read_dates(rows, number_rows(table)))
        )
        cells = {patient: row[self.event] for patient, row in rows.items()}
        event, competing, positive = find_events(cells, table, self.event, self.positive, self.competing, censored=True)
        endpoint = replace(self, positive=positive, competing=spell_as_in(cells, self.competing))
        outcomes = Outcomes(endpoint, tuple(rows), times, event, competing)
        self.check(outcomes)
        return outcomes

    def _read_dates(self, rows: Table, numbers: Mapping[str, int]) -> FloatArray:
        """Times between two dates, in the unit."""
        first, last = (
            parse_dates({patient: row[column] for patient, row in rows.items()}, numbers, column, self.date_format)
            for column in (self.start, self.end)
        )
        days = {patient: (last[patient] - first[patient]).days for patient in rows}
        if late := [numbers[patient] for patient, n in days.items() if n <= 0]:
            reason = f"the date in {self.end!r} must be after that in {self.start!r}; {name_rows(late)}"
            raise ConfigurationError(Code.OUTCOME_INVALID, reason)
        return np.array(list(days.values()), dtype=np.float64) * (PER_YEAR[self.unit] / PER_YEAR["day"])

    def warn(self, outcomes: Outcomes, table: Table) -> tuple[str, ...]:
        """What is odd about times if they are in the unit: none reaches half a year, or some are over 50 years."""
        years, numbers = outcomes.value / PER_YEAR[self.unit], number_rows(table)
        beyond = [
            numbers[patient] for patient, time in zip(outcomes.patients, years, strict=True) if time > LONGEST_YEARS
        ]
        if beyond:
            return (
                f"{len(beyond)} of {len(outcomes)} times are over {LONGEST_YEARS:g} years if they are in "
                f"{self.unit}s: {name_rows(beyond)} of the clinical table; check the unit",
            )
        if len(outcomes) and years.max() < SHORTEST_YEARS:
            low, high = outcomes.value.min(), outcomes.value.max()
            return (
                f"the {len(outcomes)} times are {low:g} to {high:g}, so that nobody was followed up for half a "
                f"year if they are in {self.unit}s; check the unit",
            )
        return ()

    @property
    def event_definition(self) -> str:
        """Which value of the column is the event, and which a competing one."""
        competing = f", competing = {join_values(self.competing)}" if self.competing else ""
        return f"{self.event} = {join_values(self.positive)}{competing}" if self.positive else ""

    @classmethod
    def from_arrays(
        cls,
        time: npt.ArrayLike,
        event: npt.ArrayLike,
        *,
        unit: Literal["day", "week", "month", "year"] = "day",
        name: str = "event",
    ) -> Outcomes:
        """Outcomes of n patients without a table.

        Parameters
        ----------
        time : array_like, shape (n,)
            Above 0, in the unit.
        event : array_like, shape (n,)
            1 or True where the event was observed, 0 for a censoring, 2 for a competing event.

        Raises
        ------
        ConfigurationError
            ``OUTCOME_INVALID``.
        """
        times, codes = np.asarray(time, dtype=np.float64), _codes(event, 2)
        if not (np.isfinite(times) & (times > 0)).all():
            raise ConfigurationError(Code.OUTCOME_INVALID, "times must be finite numbers above 0")
        endpoint = cls(name, "time", name, unit, "2" if (codes == 2).any() else "", positive="1")
        return Outcomes(endpoint, _number_patients(times), times, codes == 1, codes == 2)

    def effective_sample_size(self, outcomes: Outcomes) -> int:
        """Number of patients with the event."""
        return outcomes.n_events

    def constant_risk(self, outcomes: Outcomes) -> float:
        """0, since log hazard ratios have no origin."""
        return 0.0

    def loss_terms(self, outcomes: Outcomes) -> int:
        """Number of events: the terms of the partial likelihood."""
        return outcomes.n_events


@dataclass(frozen=True)
class Continuous(Endpoint):
    """A number, for instance an age.

    Parameters
    ----------
    name : str
        Name of the endpoint, as it appears in tables.
    column : str
        Column of the clinical table.
    unit : str
        Unit of the number.
    """

    column: str
    unit: str = ""
    kind: ClassVar[Kind] = "continuous"
    loss: ClassVar[Loss] = "squared-error"
    primary_metric: ClassVar[str] = "spearman"
    chance_level: ClassVar[float] = 0.0
    has_events: ClassVar[bool] = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.column,)

    def outcomes(self, table: Table) -> Outcomes:
        """Outcomes of the patients whose column is filled.

        Raises
        ------
        ConfigurationError
            ``COLUMN_MISSING``; ``OUTCOME_INVALID`` naming the rows that are not finite numbers.
        """
        rows = _drop_unknown(table, self)
        values = _numbers(rows, self.column, table, lambda value: True, "a number")
        return Outcomes(self, tuple(rows), values, np.ones(len(rows), dtype=np.bool_))

    @classmethod
    def from_arrays(cls, value: npt.ArrayLike, *, unit: str = "", name: str = "value") -> Outcomes:
        """Outcomes of n patients without a table; ``value`` has shape (n,)."""
        values = np.asarray(value, dtype=np.float64)
        return Outcomes(cls(name, name, unit), _number_patients(values), values, np.ones(len(values), dtype=np.bool_))

    def effective_sample_size(self, outcomes: Outcomes) -> int:
        """Number of patients."""
        return len(outcomes)

    def constant_risk(self, outcomes: Outcomes) -> float:
        """The mean."""
        return float(outcomes.value.mean())

    def has_contrast(self, outcomes: Outcomes) -> bool:
        """Whether there are two patients at least."""
        return len(outcomes) > 1


KINDS: Mapping[Kind, type[Endpoint]] = {one.kind: one for one in (Binary, TimeToEvent, Continuous)}


def _number_patients(values: FloatArray) -> tuple[str, ...]:
    """Ids of patients who have none: their positions."""
    return tuple(str(i) for i in range(len(values)))


def _codes(event: npt.ArrayLike, largest: int) -> FloatArray:
    codes = np.asarray(event, dtype=np.float64)
    if not np.isin(codes, range(largest + 1)).all():
        raise ConfigurationError(Code.OUTCOME_INVALID, f"events must be whole numbers from 0 to {largest}")
    return codes


def _drop_unknown(table: Table, endpoint: Endpoint) -> Table:
    """Rows in which no column of the endpoint is empty. Raises ``COLUMN_MISSING``."""
    columns = endpoint.columns
    require_columns(table, columns)
    return {patient: row for patient, row in table.items() if not any(is_missing(row[column]) for column in columns)}


def _numbers(rows: Table, column: str, table: Table, allowed: Callable[[float], bool], expected: str) -> FloatArray:
    numbers = number_rows(table)
    values, bad = [], []
    for patient, row in rows.items():
        value = parse_number(row[column])
        if value is None or not allowed(value):
            bad.append(f"{numbers[patient]} ({quote_cell(row[column], table)})")
        values.append(value)
    if bad:
        raise ConfigurationError(Code.OUTCOME_INVALID, f"column {column!r} must hold {expected}; {name_rows(bad)}")
    return np.array(values, dtype=np.float64)
