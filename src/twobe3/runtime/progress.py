"""Progress bars on standard error; standard output stays for results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from twobe3.core.printable import keep_printable

Item = TypeVar("Item")


def track(
    items: Sequence[Item] | Iterable[Item], description: str, *, total: int | None = None, shown: bool = True
) -> Iterator[Item]:
    """Go through items under a progress bar.

    ``total`` is their number where they have no length; with ``shown=False`` there is no bar.
    """
    with _progress(shown) as progress:
        yield from progress.track(items, total=total, description=keep_printable(description))


@contextmanager
def bar(description: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for code that reports ``(done, total)`` to a function."""
    with _progress() as progress:
        task = progress.add_task(keep_printable(description), total=total)
        yield lambda done, _: progress.update(task, completed=done)


def _progress(shown: bool = True) -> Progress:
    columns = (
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=not shown)
