"""Where work runs: in this process, in several, or on a cluster. A task has one thread: the result is the same bits.

Sums over several threads depend on how many there are; a task that runs on one thread gives the same numbers on a
laptop and on a large machine, alone and beside others. Parallelism comes from running tasks side by side. Workers are
numbered, and share the GPUs of their machine by their numbers.
"""

from __future__ import annotations

import logging
import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeAlias, TypeVar

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.runtime.cluster import Cluster
from twobe3.runtime.local_pool import LocalWorkers
from twobe3.runtime.outcome import Outcome, Report
from twobe3.runtime.process import one_thread
from twobe3.runtime.progress import track

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Returned = TypeVar("Returned")
Workers: TypeAlias = int | LocalWorkers | Cluster
"""How many processes of this machine work side by side, those that stay for what comes next, or a cluster's workers."""

log = logging.getLogger("twobe3")


def run_tasks(
    function: Callable[[Shared, Task], Returned],
    tasks: Sequence[Task],
    *,
    shared: Shared,
    workers: Workers,
    description: str,
    name: Callable[[Task], str] | None = None,
    instead: Callable[[Task], Returned] | None = None,
) -> Iterator[tuple[Task, Returned]]:
    """Apply a function to tasks under a progress bar; gives each task and its outcome as they end.

    Parameters
    ----------
    function : callable
        Of the shared object and a task; a module-level function where there are several workers.
    tasks : sequence
        Small: they travel to the workers one by one.
    shared : object
        What all tasks need; it travels to each worker once.
    workers : int, LocalWorkers or Cluster
        Processes, which end with the tasks, or stay for others; 1 stays in this one, several end their tasks in any
        order. A script that asks for more must guard its start with ``if __name__ == "__main__"``, since workers import
        it. Or a cluster, see :mod:`twobe3.runtime.cluster`. A task whose process is killed, for lack of memory for
        instance, is tried a second time, after the others.
    name : callable, optional
        How messages call a task, without patient identity; by default by its place in the sequence.
    instead : callable, optional
        The outcome of a task of which the second process was killed too.

    Raises
    ------
    EnvironmentFailure
        ``WORKER_DIED``: tasks ended two processes each, and there is no outcome ``instead``; the other tasks are done
        first. Or no worker could start. ``CLUSTER_LOST``, ``CLUSTER_UNFIT``.
    Exception
        Whatever the function raises, as it raised it; the other tasks are given up, and no process is left behind.
        An error that cannot be pickled comes as an EnvironmentFailure ``INTERNAL_ERROR``.
    """
    count = workers.count if isinstance(workers, LocalWorkers) else workers
    if not tasks:
        return
    if isinstance(count, int) and min(count, len(tasks)) <= 1:
        with one_thread():
            for task in track(tasks, description):
                yield task, function(shared, task)
        return
    names = [f"task {i + 1} of {len(tasks)}" if name is None else name(task) for i, task in enumerate(tasks)]
    lost = []
    with _start(function, shared, workers, len(tasks), description) as pool:
        done = _dispatch(pool, tasks, names, description)
        for position, outcome in track(done, description, total=len(tasks)):
            if outcome is not None:
                yield tasks[position], outcome.take()
            elif instead is not None:
                yield tasks[position], instead(tasks[position])
            else:
                lost.append(names[position])
    if lost:
        raise EnvironmentFailure(Code.WORKER_DIED, f"two workers each ended during “{description}”: {', '.join(lost)}")


class _Pool(Protocol):
    """Workers that do one task at a time each."""

    @property
    def is_busy(self) -> bool: ...
    def start(self, position: int, task: object) -> bool: ...
    def wait(self) -> Iterator[Report]: ...


@contextmanager
def _start(
    function: Callable[..., object], shared: object, workers: Workers, most: int, description: str
) -> Iterator[_Pool]:
    if isinstance(workers, int):
        with LocalWorkers(workers) as own, own.start(function, shared, most, description) as local:
            yield local
    else:
        with workers.start(function, shared, most, description) as pool:
            yield pool


def _dispatch(
    pool: _Pool, tasks: Sequence[object], names: Sequence[str], description: str
) -> Iterator[tuple[int, Outcome | None]]:
    """The position of each task and its outcome, as they end; None where two workers ended with it."""
    waiting, tried = deque(range(len(tasks))), set()

    def feed() -> None:
        while waiting and pool.start(waiting[0], tasks[waiting[0]]):
            waiting.popleft()

    while waiting or pool.is_busy:
        feed()
        for position, outcome, how in pool.wait():
            if outcome is not None:
                feed()  # before the outcome is worked on
                yield position, pickle.loads(outcome)
                continue
            again = position not in tried
            then = "it is tried once more, after the others" if again else "it is given up"
            where = f"“{description}”, {names[position]}"
            log.warning("WORKER_DIED: a worker ended during %s: %s; %s", where, how, then)
            if again:
                tried.add(position)
                waiting.append(position)
            else:
                yield position, None
