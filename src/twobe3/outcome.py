"""What is predicted: endpoints, and the outcomes of patients.

A clinical table is a mapping from the user's patient id to that patient's row, a mapping from column to text.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from twobe3.errors import Code, UsageError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Table = Mapping[str, Mapping[str, str]]
Kind = Literal["binary", "time-to-event", "continuous"]

MISSING = frozenset({"", "na", "n/a", "nan", "none", "null", "?", "-"})


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcome of each patient for one endpoint.

    Attributes
    ----------
    endpoint : Endpoint
        What was observed.
    patients : tuple of str
        The user's patient ids.
    value : ndarray of float64, shape (n,)
        Binary: 1 for the positive class, 0 otherwise. Time-to-event: time from time zero, in the endpoint's unit.
        Continuous: the value.
    event : ndarray of bool, shape (n,)
        Binary: the positive class. Time-to-event: the event was observed (False: censored at ``value``, or a
        competing event came first). Continuous: all True.
    competing : ndarray of bool, shape (n,), optional
        Time-to-event: at ``value`` another event came, after which this one can't happen any more; none by default.
    """

    endpoint: Endpoint
    patients: tuple[str, ...]
    value: FloatArray
    event: BoolArray
    competing: BoolArray = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def __post_init__(self) -> None:
        if not len(self.competing):
            object.__setattr__(self, "competing", np.zeros(len(self.patients), dtype=np.bool_))
        if not len(self.patients) == len(self.value) == len(self.event) == len(self.competing):
            raise ValueError("patients, value, event and competing must have one length")
        if (self.event & self.competing).any():
            raise ValueError("a patient has the event or a competing one, not both")

    def __len__(self) -> int:
        return len(self.patients)

    @property
    def n_events(self) -> int:
        """Number of patients with the event (binary: of the positive class)."""
        return int(self.event.sum())

    def take(self, indices: npt.ArrayLike) -> Outcomes:
        """Outcomes of the patients at these positions, in this order."""
        index = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            patients=tuple(self.patients[i] for i in index),
            value=self.value[index],
            event=self.event[index],
            competing=self.competing[index],
        )

    def of(self, patients: Sequence[str]) -> Outcomes:
        """Outcomes of these patients, in this order.

        Raises
        ------
        KeyError
            A patient has no outcome.
        """
        position = {patient: i for i, patient in enumerate(self.patients)}
        return self.take([position[patient] for patient in patients])


@dataclass(frozen=True)
class Binary:
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

    name: str
    column: str
    positive: str = "1"
    kind: ClassVar[Kind] = "binary"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.column,)

    def outcomes(self, table: Table) -> Outcomes:
        """Outcomes of the patients whose column is filled.

        Raises
        ------
        UsageError
            ``COLUMN_MISSING``; ``OUTCOME_INVALID`` when the column has more than two values or lacks the positive
            one; ``ONE_CLASS``.
        """
        require_columns(table, self.columns)
        raw = {patient: _canonical(row[self.column]) for patient, row in table.items() if not _empty(row, self.columns)}
        values = sorted(set(raw.values()))
        if len(values) > 2:
            raise UsageError(
                Code.OUTCOME_INVALID, f"column {self.column!r} has more than two values: {_rows_of_values(raw)}"
            )
        positive = _canonical(self.positive)
        if len(values) == 2 and positive not in values:
            raise UsageError(
                Code.OUTCOME_INVALID,
                f"column {self.column!r} has the values {values}, not the positive class {self.positive!r}",
                remedy="set `positive` to one of them",
            )
        event = np.array([value == positive for value in raw.values()], dtype=np.bool_)
        outcomes = Outcomes(self, tuple(raw), event.astype(np.float64), event)
        require_both_classes(outcomes)
        return outcomes


@dataclass(frozen=True)
class TimeToEvent:
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

    name: str
    time: str
    event: str
    unit: Literal["day", "week", "month", "year"] = "day"
    competing: str = ""
    time_zero: str = "the scan"
    kind: ClassVar[Kind] = "time-to-event"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.time, self.event)

    def __post_init__(self) -> None:
        if self.competing and (not _is_number(self.competing) or float(self.competing) in (0.0, 1.0)):
            raise UsageError(
                Code.OUTCOME_INVALID,
                f"endpoint {self.name!r}: the competing event {self.competing!r} must be a number other than 0 and 1",
                remedy='set `competing` to the number that stands for it in the event\'s column, for instance "2"',
            )

    def outcomes(self, table: Table) -> Outcomes:
        """Outcomes of the patients whose two columns are filled.

        Raises
        ------
        UsageError
            ``COLUMN_MISSING``; ``OUTCOME_INVALID`` naming the rows whose time is not positive or whose event is
            neither 0 nor 1 nor the competing one; ``ONE_CLASS`` when nobody has the event.
        """
        require_columns(table, self.columns)
        rows = {patient: row for patient, row in table.items() if not _empty(row, self.columns)}
        times = _numbers(rows, self.time, lambda time: time > 0, "a time above 0")
        codes = (0.0, 1.0, float(self.competing)) if self.competing else (0.0, 1.0)
        events = _numbers(rows, self.event, lambda event: event in codes, " or ".join(f"{code:g}" for code in codes))
        outcomes = Outcomes(self, tuple(rows), times, events == 1.0, ~np.isin(events, (0.0, 1.0)))
        if outcomes.n_events == 0:
            raise UsageError(Code.ONE_CLASS, f"endpoint {self.name!r}: none of {len(outcomes)} patients has the event")
        return outcomes


@dataclass(frozen=True)
class Continuous:
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

    name: str
    column: str
    unit: str = ""
    kind: ClassVar[Kind] = "continuous"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.column,)

    def outcomes(self, table: Table) -> Outcomes:
        """Outcomes of the patients whose column is filled.

        Raises
        ------
        UsageError
            ``COLUMN_MISSING``; ``OUTCOME_INVALID`` naming the rows that are not finite numbers.
        """
        require_columns(table, self.columns)
        rows = {patient: row for patient, row in table.items() if not _empty(row, self.columns)}
        values = _numbers(rows, self.column, lambda value: True, "a number")
        return Outcomes(self, tuple(rows), values, np.ones(len(rows), dtype=np.bool_))


Endpoint = Binary | TimeToEvent | Continuous


def require_columns(table: Table, columns: Iterable[str]) -> None:
    """Refuse a table that lacks a column.

    Raises
    ------
    UsageError
        ``COLUMN_MISSING``, naming the columns that are there, and the nearest.
    """
    there = list(next(iter(table.values()), {}))
    for column in columns:
        if column not in there:
            near = difflib.get_close_matches(column, there, n=1)
            hint = f"; the nearest is {near[0]!r}" if near else ""
            reason = f"the clinical table has no column {column!r}; it has {', '.join(there)}{hint}"
            raise UsageError(Code.COLUMN_MISSING, reason)


def require_both_classes(outcomes: Outcomes) -> None:
    """Refuse outcomes without contrast: a binary endpoint of one class, or no event at all.

    Raises
    ------
    UsageError
        ``ONE_CLASS``.
    """
    events, n = outcomes.n_events, len(outcomes)
    one_class = events in (0, n) if outcomes.endpoint.kind == "binary" else events == 0
    if one_class:
        raise UsageError(
            Code.ONE_CLASS,
            f"endpoint {outcomes.endpoint.name!r}: {events} of {n} patients have it, so nothing can be learnt",
        )


def is_missing(text: str | None) -> bool:
    """Whether a cell of a table stands for "not known"."""
    return text is None or text.strip().lower() in MISSING


def _empty(row: Mapping[str, str], columns: Iterable[str]) -> bool:
    return any(is_missing(row[column]) for column in columns)


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


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _numbers(rows: Table, column: str, allowed: Callable[[float], bool], expected: str) -> FloatArray:
    values, bad = [], []
    for patient, row in rows.items():
        try:
            value = float(row[column])
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and allowed(value)):
            bad.append(f"{patient} ({row[column]!r})")
        values.append(value)
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise UsageError(
            Code.OUTCOME_INVALID, f"column {column!r} must hold {expected}; rows {', '.join(bad[:5])}{more}"
        )
    return np.array(values, dtype=np.float64)
