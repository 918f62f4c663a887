"""Where work runs: in this process, or in several. Every task has one thread, so the result is the same bits.

Sums over several threads depend on how many there are; a task that runs on one thread gives the same numbers on a
laptop and on a large machine, alone and beside others. Parallelism comes from running tasks side by side. Workers are
numbered, and share the GPUs by their numbers.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, TypeVar

import torch
from threadpoolctl import threadpool_limits

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.runtime.progress import track

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

SHARED_FILE = "shared.pickle"
_number = 0  # of this worker


def worker_number() -> int:
    """The number of this process among its fellows, from 0; that of the process which started them is 0 too."""
    return _number


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_tasks(
    function: Callable[[Shared, Task], Outcome],
    tasks: Sequence[Task],
    *,
    shared: Shared,
    workers: int,
    description: str,
) -> Iterator[tuple[Task, Outcome]]:
    """Apply a function to tasks under a progress bar; gives each task and its outcome as they end.

    Parameters
    ----------
    function : callable
        Of the shared object and a task; a module-level function where there are several workers.
    tasks : sequence
        Small: they travel to the workers one by one.
    shared : object
        What all tasks need; it travels to each worker once.
    workers : int
        Processes; 1 stays in this one, several end their tasks in any order. A script that asks for more must guard its
        start with ``if __name__ == "__main__"``, since workers import it.

    Raises
    ------
    EnvironmentFailure
        ``WORKER_DIED``.
    Exception
        Whatever the function raises, as it raised it; the other tasks are given up, and no process is left behind.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        with one_thread():
            for task in track(tasks, description):
                yield task, function(shared, task)
        return
    context = multiprocessing.get_context("spawn")  # forking a process whose libraries have threads can hang
    others = set(multiprocessing.active_children())
    with (
        tempfile.TemporaryDirectory(prefix="twobe3-") as folder,
        ProcessPoolExecutor(workers, context, initializer=_start, initargs=(folder, context.Value("i", 0))) as pool,
    ):
        try:
            # Not through the pipe, as an argument: a worker that cannot take it would die while the parent is still
            # writing, and the parent would wait for ever.
            Path(folder, SHARED_FILE).write_bytes(pickle.dumps(shared))
            futures: dict[Future[Outcome], Task] = {pool.submit(_call, function, task): task for task in tasks}
            for future in track(as_completed(futures), description, total=len(futures)):
                yield futures[future], future.result()
        except BaseException as error:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                reason = f"a worker of {workers} ended during “{description}”"
                raise EnvironmentFailure(Code.WORKER_DIED, reason) from None
            raise


@contextmanager
def one_thread() -> Iterator[None]:
    """Let numpy and torch use one thread inside."""
    before = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


_shared: Any = None  # of this worker


def _start(folder: str, started: Synchronized[int]) -> None:
    global _number, _shared
    with started.get_lock():
        _number = started.value
        started.value += 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent ends its workers
    threadpool_limits(1)
    torch.set_num_threads(1)
    _shared = pickle.loads(Path(folder, SHARED_FILE).read_bytes())


def _call(function: Callable[[Any, Task], Outcome], task: Task) -> Outcome:
    return function(_shared, task)
