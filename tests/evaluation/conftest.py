"""Outcomes and predictions to evaluate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.outcomes import Outcomes
from twobe3.core.prediction import Prediction

MakeOutcomes = Callable[..., Outcomes]


def ids(n: int) -> tuple[str, ...]:
    return tuple(f"p{i:03d}" for i in range(n))


@pytest.fixture
def binary() -> MakeOutcomes:
    def make(event: npt.ArrayLike) -> Outcomes:
        event = np.asarray(event, dtype=np.bool_)
        return Outcomes(Binary("relapse", "relapse"), ids(len(event)), event.astype(float), event)

    return make


@pytest.fixture
def survival() -> MakeOutcomes:
    def make(time: npt.ArrayLike, event: npt.ArrayLike) -> Outcomes:
        time = np.asarray(time, dtype=float)
        endpoint = TimeToEvent("survival", "time", "event", unit="month")
        return Outcomes(endpoint, ids(len(time)), time, np.asarray(event, dtype=np.bool_))

    return make


@pytest.fixture
def continuous() -> MakeOutcomes:
    def make(value: npt.ArrayLike) -> Outcomes:
        value = np.asarray(value, dtype=float)
        return Outcomes(Continuous("age", "age", "year"), ids(len(value)), value, np.ones(len(value), dtype=np.bool_))

    return make


@pytest.fixture
def predict() -> Callable[..., Prediction]:
    """A prediction from risks of shape (n,) or (repeats, n)."""

    def make(risk: npt.ArrayLike, *, model: str = "model", probability: npt.ArrayLike | None = None) -> Prediction:
        risk = np.atleast_2d(np.asarray(risk, dtype=float))
        repeats, n = risk.shape
        return Prediction(
            model,
            "endpoint",
            ids(n) * repeats,
            risk.ravel(),
            None if probability is None else np.asarray(probability, dtype=float).ravel(),
            np.repeat(np.arange(repeats), n),
            np.tile(np.arange(n) % 5, repeats),
        )

    return make
