"""What is predicted and what was predicted: endpoints, outcomes of patients, predictions.

A clinical table is a mapping from the user's patient id to that patient's row, a mapping from column to text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
        Binary: the positive class. Time-to-event: the event was observed (False: censored at ``value``).
        Continuous: all True.
    """

    endpoint: Endpoint
    patients: tuple[str, ...]
    value: FloatArray
    event: BoolArray

    def __post_init__(self) -> None:
        if not len(self.patients) == len(self.value) == len(self.event):
            raise ValueError("patients, value and event must have one length")

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
            raise UsageError(Code.OUTCOME_INVALID, f"column {self.column!r} has more than two values: {values[:6]}")
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
        Columns of the clinical table: time from time zero (the scan, unless the table says otherwise), and whether
        the event was observed (1) or the patient was censored then (0).
    unit : {"day", "week", "month", "year"}
        Unit of the time.
    """

    name: str
    time: str
    event: str
    unit: Literal["day", "week", "month", "year"] = "day"
    kind: ClassVar[Kind] = "time-to-event"

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return (self.time, self.event)

    def outcomes(self, table: Table) -> Outcomes:
        """Outcomes of the patients whose two columns are filled.

        Raises
        ------
        UsageError
            ``COLUMN_MISSING``; ``OUTCOME_INVALID`` naming the rows whose time is not positive or whose event is
            neither 0 nor 1; ``ONE_CLASS`` when nobody has the event.
        """
        require_columns(table, self.columns)
        rows = {patient: row for patient, row in table.items() if not _empty(row, self.columns)}
        times = _numbers(rows, self.time, lambda time: time > 0, "a time above 0")
        events = _numbers(rows, self.event, lambda event: event in (0.0, 1.0), "0 or 1")
        outcomes = Outcomes(self, tuple(rows), times, events.astype(np.bool_))
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


@dataclass(frozen=True, eq=False)
class Prediction:
    """What one model predicted for one endpoint; a row for each patient and repeat.

    Attributes
    ----------
    model, endpoint : str
        Their names.
    patients : tuple of str, length n
        The user's patient ids; a patient stands once in each repeat.
    risk : ndarray of float64, shape (n,)
        Higher means an earlier event, the positive class, or a larger value.
    probability : ndarray of float64, shape (n,), or None
        Of the positive class, where the model gives it.
    repeat, fold : ndarray of int64, shape (n,)
        Which repeat of the cross-validation, and in which fold the patient was tested; 0 outside of one.
    """

    model: str
    endpoint: str
    patients: tuple[str, ...]
    risk: FloatArray
    probability: FloatArray | None = None
    repeat: IntArray | None = None
    fold: IntArray | None = None

    def __post_init__(self) -> None:
        n = len(self.patients)
        for name in ("repeat", "fold"):
            if getattr(self, name) is None:
                object.__setattr__(self, name, np.zeros(n, dtype=np.int64))
        for name in ("risk", "probability", "repeat", "fold"):
            values = getattr(self, name)
            if values is not None and values.shape != (n,):
                raise ValueError(f"{name} must have shape ({n},), got {values.shape}")
        if not np.isfinite(self.risk).all():
            bad = [p for p, ok in zip(self.patients, np.isfinite(self.risk), strict=True) if not ok]
            raise UsageError(Code.PREDICTION_INVALID, f"model {self.model!r}: risk is not finite for {bad[:5]}")

    def __len__(self) -> int:
        return len(self.patients)

    def in_fold(self, repeat: int, fold: int) -> Prediction:
        """The same prediction, marked as made in this fold of this repeat."""
        n = len(self)
        return replace(self, repeat=np.full(n, repeat), fold=np.full(n, fold))

    @classmethod
    def concatenate(cls, parts: Iterable[Prediction]) -> Prediction:
        """Join predictions of one model for one endpoint, for instance of several folds.

        Raises
        ------
        ValueError
            No part, or parts of different models or endpoints.
        """
        parts = list(parts)
        if len({(part.model, part.endpoint) for part in parts}) != 1:
            raise ValueError("predictions of exactly one model and endpoint can be joined")
        probabilities = [part.probability for part in parts if part.probability is not None]
        return cls(
            parts[0].model,
            parts[0].endpoint,
            tuple(patient for part in parts for patient in part.patients),
            np.concatenate([part.risk for part in parts]),
            np.concatenate(probabilities) if len(probabilities) == len(parts) else None,
            np.concatenate([part.repeat for part in parts if part.repeat is not None]),
            np.concatenate([part.fold for part in parts if part.fold is not None]),
        )


def require_columns(table: Table, columns: Iterable[str]) -> None:
    """Refuse a table that lacks a column.

    Raises
    ------
    UsageError
        ``COLUMN_MISSING``, naming the columns that are there.
    """
    there = list(next(iter(table.values()), {}))
    for column in columns:
        if column not in there:
            raise UsageError(
                Code.COLUMN_MISSING, f"the clinical table has no column {column!r}; it has {', '.join(there)}"
            )


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
