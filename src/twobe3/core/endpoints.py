"""The kinds of endpoint: binary, time to event, continuous."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import Endpoint, FloatArray, Kind, Loss, Outcomes
from twobe3.core.table import Table, is_missing, parse_number, require_columns


@dataclass(frozen=True)
class Binary(Endpoint):
    """Yes or no by the end of follow-up.

    Parameters
    ----------
    name : str
        Name of the endpoint, as it appears in tables.
    column : str
        Column of the clinical table.
    positive : str
        The value that means yes; any one other value means no. Numbers compare as numbers.
    """

    column: str
    positive: str = "1"
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
            one; ``ONE_CLASS``.
        """
        raw = {patient: _canonical(row[self.column]) for patient, row in _drop_unknown(table, self).items()}
        values = sorted(set(raw.values()))
        if len(values) > 2:
            reason = f"column {self.column!r} has more than two values: {_rows_of_values(raw)}"
            raise ConfigurationError(Code.OUTCOME_INVALID, reason)
        positive = _canonical(self.positive)
        if len(values) == 2 and positive not in values:
            raise ConfigurationError(
                Code.OUTCOME_INVALID,
                f"column {self.column!r} has the values {values}, not the positive class {self.positive!r}",
                remedy="set `positive` to one of them",
            )
        event = np.array([value == positive for value in raw.values()], dtype=np.bool_)
        outcomes = Outcomes(self, tuple(raw), event.astype(np.float64), event)
        self.check(outcomes)
        return outcomes

    @classmethod
    def from_arrays(cls, event: npt.ArrayLike, *, name: str = "event") -> Outcomes:
        """Outcomes of n patients without a table; ``event``, shape (n,), is 1 or True for the positive class."""
        codes = _codes(event, 1)
        return Outcomes(cls(name, name), _number_patients(codes), codes, codes == 1)

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
        Columns of the clinical table: time from time zero, and whether the event was observed (1) or the patient was
        censored then (0).
    unit : {"day", "week", "month", "year"}
        Unit of the time.
    competing : str
        The value of the event's column that stands for a competing event, for instance ``"2"`` for a death without
        relapse; none by default.
    time_zero : str
        From when the time counts, as the report shall say it.
    """

    time: str
    event: str
    unit: Literal["day", "week", "month", "year"] = "day"
    competing: str = ""
    time_zero: str = "the scan"
    kind: ClassVar[Kind] = "time-to-event"
    loss: ClassVar[Loss] = "cox"
    primary_metric: ClassVar[str] = "harrell_c"
    chance_level: ClassVar[float] = 0.5
    has_times: ClassVar[bool] = True
    risk_has_origin: ClassVar[bool] = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.time, self.event)

    def __post_init__(self) -> None:
        if self.competing and parse_number(self.competing) in (None, 0.0, 1.0):
            raise ConfigurationError(
                Code.OUTCOME_INVALID,
                f"endpoint {self.name!r}: the competing event {self.competing!r} must be a number other than 0 and 1",
                remedy='set `competing` to the number that stands for it in the event\'s column, for instance "2"',
            )

    def outcomes(self, table: Table) -> Outcomes:
        """Outcomes of the patients whose two columns are filled.

        Raises
        ------
        ConfigurationError
            ``COLUMN_MISSING``; ``OUTCOME_INVALID`` naming the rows whose time is not positive or whose event is
            neither 0 nor 1 nor the competing one; ``ONE_CLASS`` when nobody has the event.
        """
        rows = _drop_unknown(table, self)
        times = _numbers(rows, self.time, lambda time: time > 0, "a time above 0")
        codes = (0.0, 1.0, float(self.competing)) if self.competing else (0.0, 1.0)
        events = _numbers(rows, self.event, lambda event: event in codes, " or ".join(f"{code:g}" for code in codes))
        outcomes = Outcomes(self, tuple(rows), times, events == 1.0, ~np.isin(events, (0.0, 1.0)))
        self.check(outcomes)
        return outcomes

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
        return Outcomes(cls(name, "time", name, unit, "2"), _number_patients(times), times, codes == 1, codes == 2)

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
        values = _numbers(rows, self.column, lambda value: True, "a number")
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


def _canonical(text: str) -> str:
    """``"1"``, ``"1.0"`` and ``" 1 "`` are one value."""
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else str(number)


def _rows_of_values(raw: Mapping[str, str]) -> str:
    """The values, the most frequent first, and for the rare ones the rows that have them."""
    rows: dict[str, list[str]] = {}
    for patient, value in raw.items():
        rows.setdefault(value, []).append(patient)
    ranked = sorted(rows.items(), key=lambda item: -len(item[1]))
    said = [f"{value!r} ({len(patients)})" for value, patients in ranked[:2]]
    for value, patients in ranked[2:7]:
        more = f" and {len(patients) - 5} more" if len(patients) > 5 else ""
        said.append(f"{value!r} in rows {', '.join(patients[:5])}{more}")
    return "; ".join(said) + (f"; and {len(ranked) - 7} more values" if len(ranked) > 7 else "")


def _numbers(rows: Table, column: str, allowed: Callable[[float], bool], expected: str) -> FloatArray:
    values, bad = [], []
    for patient, row in rows.items():
        value = parse_number(row[column])
        if value is None or not allowed(value):
            bad.append(f"{patient} ({row[column]!r})")
        values.append(value)
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        reason = f"column {column!r} must hold {expected}; rows {', '.join(bad[:5])}{more}"
        raise ConfigurationError(Code.OUTCOME_INVALID, reason)
    return np.array(values, dtype=np.float64)
