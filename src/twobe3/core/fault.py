"""What is said of an error that nobody foresaw."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure

_PACKAGE = Path(__file__).parents[1]


def internal_error(error: BaseException) -> EnvironmentFailure:
    """An unforeseen error by its kind and its places in the code; its message may quote a patient's name.

    Of one that came from another process it is what was said there, its cause.
    """
    if isinstance(error.__cause__, EnvironmentFailure) and error.__cause__.code is Code.INTERNAL_ERROR:
        return error.__cause__
    detail = f" ({os.strerror(error.errno)})" if isinstance(error, OSError) and error.errno else ""
    stack = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in stack[:-1] if Path(frame.filename).is_relative_to(_PACKAGE)]
    places = [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in (*own, *stack[-1:])]
    where = f" at {', '.join(reversed(places))}" if places else ""
    return EnvironmentFailure(Code.INTERNAL_ERROR, f"{type(error).__name__}{detail}{where}")
