"""Progress on standard error; standard output stays for results.

On a terminal and in a notebook it is a bar. Where the output goes into a file, a line every :data:`SAID_EVERY_S` says
what is being done, how much of it is done, and the time left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from twobe3.core.printable import keep_printable

Item = TypeVar("Item")
SAID_EVERY_S = 30.0


def track(
    items: Sequence[Item] | Iterable[Item], description: str, *, total: int | None = None, shown: bool = True
) -> Iterator[Item]:
    """Go through items and show how far.

    ``total`` is their number where they have no length; with ``shown=False`` nothing is shown.
    """
    with _show(shown) as progress:
        yield from progress.track(items, total=total, description=keep_printable(description))


@contextmanager
def bar(description: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of code that reports ``(done, total)`` to a function."""
    with _show() as progress:
        task = progress.add_task(keep_printable(description), total=total)
        yield lambda done, _: progress.update(task, completed=done)


@contextmanager
def _show(shown: bool = True) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not shown) as progress:
        if not shown or console.is_terminal or console.is_jupyter:
            yield progress
            return
        ended = threading.Event()
        thread = threading.Thread(target=_say_regularly, args=(progress, ended), daemon=True)
        thread.start()
        try:
            yield progress
        finally:
            ended.set()
            thread.join()


def _say_regularly(progress: Progress, ended: threading.Event) -> None:
    """Write how far the tasks are, until they have ended; for a thread, since a single item may take hours."""
    start = time.monotonic()
    while not ended.wait(SAID_EVERY_S):
        for task in progress.tasks:
            line = _say(task, time.monotonic() - start)
            progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _say(task: Task, elapsed_s: float) -> str:
    """What is being done, how much of it is done, and how long it takes yet at the pace up to now."""
    total = "" if task.total is None else f" of {task.total:.0f}"
    line = f"{task.description}: {task.completed:.0f}{total} done in {_to_clock(elapsed_s)}"
    if not task.completed or task.total is None:
        return line
    return f"{line}, about {_to_clock(elapsed_s / task.completed * (task.total - task.completed))} left"


def _to_clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
