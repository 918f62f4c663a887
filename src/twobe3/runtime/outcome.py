"""What a task gives, as bytes: so any value and any error comes through, whatever carries it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

from twobe3.core.errors import EnvironmentFailure, TwoBe3Error
from twobe3.core.fault import internal_error


class Outcome(NamedTuple):
    """What a task gave: a value, or an error and what is said of it where it does not come through."""

    value: Any = None
    error: BaseException | None = None
    said: EnvironmentFailure | None = None

    def take(self) -> Any:
        """The value; raises the error where there is one."""
        if self.error is not None:
            raise self.error from self.said
        if self.said is not None:
            raise self.said
        return self.value


class Report(NamedTuple):
    """What became of a task: its outcome as bytes; None where the worker ended with it, and how that did."""

    position: int
    outcome: bytes | None
    how: str = ""


def perform(function: Callable[..., Any], *arguments: Any) -> bytes:
    """The outcome of a function, which raises nothing."""
    try:
        return pickle.dumps(Outcome(function(*arguments)))
    except BaseException as error:
        return pickle.dumps(_portable(error))


def _portable(error: BaseException) -> Outcome:
    """An error as it can travel: unpickling finds its class by name and calls it with the error's ``args``."""
    if isinstance(error, TwoBe3Error):
        return Outcome(error=error)
    said = internal_error(error)
    try:
        same = type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # whatever a stranger's class raises
        same = False
    return Outcome(error=error if same else None, said=said)
