"""An interruption is one line and an exit status; nothing here is slow to import."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def interruptible() -> Iterator[None]:
    """Let signals end what is inside with a line and status 130 or 143; outside they do what they did before."""
    before = {number: signal.signal(number, _exit_interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _exit_interrupted(number: int, frame: FrameType | None) -> NoReturn:
    print("twobe3: interrupted; the same command goes on where it stopped", file=sys.stderr)
    sys.exit(128 + number)
