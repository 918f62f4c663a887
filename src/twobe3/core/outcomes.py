"""Outcomes of patients for one endpoint, and what an endpoint must answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import ConfigurationError
from twobe3.core.table import Table

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


Kind = Literal["binary", "time-to-event", "continuous"]
Loss = Literal["cross-entropy", "cox", "squared-error"]


@dataclass(frozen=True)
class Endpoint(ABC):
    """What is predicted; its kinds are in :mod:`twobe3.core.endpoints`.

    Whatever differs between the kinds is answered here, by method, so that nobody has to ask for the kind.

    Parameters
    ----------
    name : str
        Name of the endpoint, as it appears in tables.
    """

    name: str
    kind: ClassVar[Kind]
    loss: ClassVar[Loss]  # that networks and linear models minimise
    primary_metric: ClassVar[str]
    chance_level: ClassVar[float]  # of the primary metric, where the risk says nothing
    has_events: ClassVar[bool] = True  # whether patients have the event or not
    has_classes: ClassVar[bool] = False  # whether that is all, so that there is a probability of the positive class
    has_times: ClassVar[bool] = False  # whether the value is a time, which may be censored
    risk_has_origin: ClassVar[bool] = True  # whether risks of two models can be compared without centring them

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Columns of the clinical table that are read."""

    @abstractmethod
    def outcomes(self, table: Table) -> Outcomes:
        """Outcomes of the patients whose columns are filled."""

    @abstractmethod
    def effective_sample_size(self, outcomes: Outcomes) -> int:
        """Number of patients that limits what can be learnt: of the rarer class, with the event, or all."""

    @abstractmethod
    def constant_risk(self, outcomes: Outcomes) -> float:
        """The risk that fits all patients best: log-odds, 0 for log hazard ratios, or the mean."""

    @property
    def event_definition(self) -> str:
        """Which value of which column is the event, for people; empty where none was read or named."""
        return ""

    def warn(self, outcomes: Outcomes, table: Table) -> tuple[str, ...]:
        """What is odd about outcomes of a table, a sentence each; no patient id."""
        return ()

    def loss_terms(self, outcomes: Outcomes) -> int:
        """Number of terms in the summed loss: patients, or events of a partial likelihood."""
        return len(outcomes)

    def has_contrast(self, outcomes: Outcomes) -> bool:
        """Whether patients differ in their outcome."""
        return self.effective_sample_size(outcomes) > 0

    def check(self, outcomes: Outcomes) -> None:
        """Refuse outcomes without contrast: a binary endpoint of one class, or no event at all.

        Raises
        ------
        ConfigurationError
            ``ONE_CLASS``.
        """
        if self.has_events and not self.has_contrast(outcomes):
            raise ConfigurationError(
                Code.ONE_CLASS,
                f"endpoint {self.name!r}: {outcomes.n_events} of {len(outcomes)} patients have it, so nothing can be "
                "learnt",
            )

    def probability(self, risk: FloatArray) -> FloatArray | None:
        """Probability of the positive class, shape (n,), where the risk is its log-odds; None for other kinds."""
        return None

    def origin(self, risk: FloatArray) -> float:
        """Where risks count from: the mean of these for log hazard ratios, which have no origin; 0 for others."""
        return 0.0 if self.risk_has_origin else float(risk.mean())


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
    groups : tuple of str, length n, optional
        Persons: patients of one group stay on one side of every split; by default each patient is a group.
    """

    endpoint: Endpoint
    patients: tuple[str, ...]
    value: FloatArray
    event: BoolArray
    competing: BoolArray = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.competing):
            object.__setattr__(self, "competing", np.zeros(len(self.patients), dtype=np.bool_))
        object.__setattr__(self, "groups", self.groups or self.patients)
        lengths = {len(item) for item in (self.patients, self.value, self.event, self.competing, self.groups)}
        if len(lengths) > 1:
            raise ValueError("patients, value, event, competing and groups must have one length")
        if (self.event & self.competing).any():
            raise ValueError("a patient has the event or a competing one, not both")

    def __len__(self) -> int:
        return len(self.patients)

    def __repr__(self) -> str:
        sizes = f"{format_count(len(self), 'patient')}, {format_count(self.n_events, 'event')}"
        return f"Outcomes({self.endpoint.name}: {self.endpoint.kind}, {sizes})"

    @property
    def n_events(self) -> int:
        """Number of patients with the event (binary: of the positive class)."""
        return int(self.event.sum())

    def subset(self, indices: npt.ArrayLike) -> Outcomes:
        """Outcomes of the patients at these positions, in this order."""
        index = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            patients=tuple(self.patients[i] for i in index),
            value=self.value[index],
            event=self.event[index],
            competing=self.competing[index],
            groups=tuple(self.groups[i] for i in index),
        )

    def of(self, patients: Sequence[str]) -> Outcomes:
        """Outcomes of these patients, in this order.

        Raises
        ------
        KeyError
            A patient has no outcome.
        """
        position = {patient: i for i, patient in enumerate(self.patients)}
        return self.subset([position[patient] for patient in patients])
