"""An interruption is one line and an exit status; nothing here is slow to import."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_SIGNALS = signal.SIGINT, signal.SIGTERM
_received: list[int] = []


@contextmanager
def interruptible() -> Iterator[None]:
    """Let signals end what is inside with a line and status 130 or 143; outside they do what they did before."""
    before = {number: signal.signal(number, _exit_interrupted) for number in _SIGNALS}
    if _exit_interrupted not in before.values():
        _received.clear()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _exit_interrupted(number: int, frame: FrameType | None) -> NoReturn:
    _received.append(number)
    if len(_received) == 1:  # a second signal ends what the first one still waits for, and says nothing
        print("twobe3: interrupted; the same command, run again, uses what was kept", file=sys.stderr)
    sys.exit(128 + number)
