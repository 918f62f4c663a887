"""Where work runs: in this process, or in several. Every task has one thread, so the result is the same bits.

Sums over several threads depend on how many there are; a task that runs on one thread gives the same numbers on a
laptop and on a large machine, alone and beside others. Parallelism comes from running tasks side by side. Workers are
numbered, and share the GPUs by their numbers.

Each worker has a pipe of its own, through which everything travels: nothing of the patients lies on disk, the end of a
worker names its task, and the end of this process ends the workers.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, TypeVar

import torch
from threadpoolctl import threadpool_limits

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure, TwoBe3Error
from twobe3.core.fault import internal_error
from twobe3.runtime.progress import track

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

log = logging.getLogger("twobe3")
STARTED, READY = b"started", b"ready"  # to take what all tasks need; to take tasks
GRACE_S = 10.0  # in which a worker without tasks ends by itself
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
    name: Callable[[Task], str] | None = None,
    instead: Callable[[Task], Outcome] | None = None,
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
        start with ``if __name__ == "__main__"``, since workers import it. A task whose process is killed, for lack of
        memory for instance, is tried a second time, after the others.
    name : callable, optional
        How messages call a task, without patient identity; by default by its place in the sequence.
    instead : callable, optional
        The outcome of a task of which the second process was killed too.

    Raises
    ------
    EnvironmentFailure
        ``WORKER_DIED``: tasks ended two processes each, and there is no outcome ``instead``; the other tasks are done
        first. Or no worker could start.
    Exception
        Whatever the function raises, as it raised it; the other tasks are given up, and no process is left behind.
        An error that cannot be pickled comes as an EnvironmentFailure ``INTERNAL_ERROR``.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        with one_thread():
            for task in track(tasks, description):
                yield task, function(shared, task)
        return
    names = [f"task {i + 1} of {len(tasks)}" if name is None else name(task) for i, task in enumerate(tasks)]
    lost = []
    with _start_workers(function, shared, workers) as pool:
        for position, outcome in track(pool.run(tasks, names, description), description, total=len(tasks)):
            if outcome is not None:
                yield tasks[position], outcome.take()
            elif instead is not None:
                yield tasks[position], instead(tasks[position])
            else:
                lost.append(names[position])
    if lost:
        raise EnvironmentFailure(Code.WORKER_DIED, f"two workers each ended during “{description}”: {', '.join(lost)}")


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


class _Outcome(NamedTuple):
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


class _Worker:
    """A process that does one task after the other."""

    def __init__(self, function: Callable[..., Any], number: int) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process whose libraries have threads can hang
        self.number = number
        self.ready = False
        self.position: int | None = None  # of its task
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, function, number))
        self.process.start()
        theirs.close()  # so that the pipe ends with the process

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a task."""
        return self.ready and self.position is None

    def send(self, content: bytes) -> None:
        """Send it something; that it has ended shows when it is read from."""
        with suppress(OSError):
            self.pipe.send_bytes(content)

    def end(self) -> str:
        """Let it end, or end it where it does not; gives how it ended."""
        self.pipe.close()
        self.process.join(GRACE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        return signal.Signals(-code).name if -code in set(signal.Signals) else f"exit status {code}"


class _Pool:
    """Workers and what they share."""

    def __init__(self, function: Callable[..., Any], shared: bytes) -> None:
        self.function, self.shared = function, shared
        self.workers: list[_Worker] = []

    def add(self, number: int) -> None:
        """Start a worker."""
        self.workers.append(_Worker(self.function, number))

    def run(
        self, tasks: Sequence[Any], names: Sequence[str], description: str
    ) -> Iterator[tuple[int, _Outcome | None]]:
        """The position of each task and its outcome, as they end; None where two workers ended with it."""
        waiting, tried = deque(range(len(tasks))), set()
        while waiting or any(worker.position is not None for worker in self.workers):
            if not self.workers:
                raise EnvironmentFailure(Code.WORKER_DIED, f"no worker for “{description}” could start")
            self._feed(waiting, tasks)
            ready = set(wait([worker.pipe for worker in self.workers]))
            for worker in [one for one in self.workers if one.pipe in ready]:
                position, said = worker.position, _receive(worker.pipe)
                worker.position = None
                if said is None:
                    self.workers.remove(worker)
                    how = worker.end()
                    if position is None:  # one that cannot even start has no successor: it would not start either
                        log.warning("WORKER_DIED: a worker for “%s” ended before its first task: %s", description, how)
                        continue
                    again = position not in tried
                    then = "it is tried once more, after the others" if again else "it is given up"
                    where = f"“{description}”, {names[position]}"
                    log.warning("WORKER_DIED: a worker ended during %s: %s; %s", where, how, then)
                    if again:
                        tried.add(position)
                        waiting.append(position)
                    if waiting and not any(one.is_idle for one in self.workers):
                        self.add(worker.number)
                    if not again:
                        yield position, None
                elif said == STARTED:  # not earlier: what is larger than the pipe has to be read while it is written
                    worker.send(self.shared)
                elif said == READY:
                    worker.ready = True
                else:
                    self._feed(waiting, tasks)  # before the outcome is worked on
                    outcome = pickle.loads(said)
                    if position is None:
                        outcome.take()  # an error: the worker could not take what all need
                    else:
                        yield position, outcome

    def _feed(self, waiting: deque[int], tasks: Sequence[Any]) -> None:
        """Give waiting tasks to workers without one."""
        for worker in self.workers:
            if waiting and worker.is_idle:
                worker.position = waiting.popleft()
                worker.send(pickle.dumps(tasks[worker.position]))


@contextmanager
def _start_workers(function: Callable[..., Any], shared: object, workers: int) -> Iterator[_Pool]:
    """Workers that end with the block, at once where an error ends it."""
    pool = _Pool(function, pickle.dumps(shared))
    try:
        for number in range(workers):
            pool.add(number)
        yield pool
    except BaseException:
        for worker in pool.workers:
            worker.process.terminate()
        raise
    finally:
        for worker in pool.workers:
            worker.end()


def _receive(pipe: Connection) -> bytes | None:
    """What a worker says; None where it has ended."""
    try:
        return pipe.recv_bytes()
    except (EOFError, OSError):
        return None


def _work(pipe: Connection, function: Callable[..., Any], number: int) -> None:
    """Do tasks until there are no more; this is what runs in a worker."""
    global _number
    _number = number
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent ends its workers
    threading.Thread(target=end_with_parent, daemon=True).start()
    threadpool_limits(1)
    torch.set_num_threads(1)
    with suppress(EOFError, OSError):  # the parent has no more tasks, or is gone
        pipe.send_bytes(STARTED)
        content = pipe.recv_bytes()
        try:
            shared = pickle.loads(content)
        except BaseException as error:
            pipe.send_bytes(pickle.dumps(_portable(error)))
            return
        del content
        pipe.send_bytes(READY)
        while True:
            task = pipe.recv_bytes()
            try:
                said = pickle.dumps(_Outcome(function(shared, pickle.loads(task))))
            except BaseException as error:
                said = pickle.dumps(_portable(error))
            pipe.send_bytes(said)


def end_with_parent() -> None:
    """For a thread: end this process when the one that started it is gone, in the middle of a task too."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _portable(error: BaseException) -> _Outcome:
    """An error as it can travel: unpickling finds its class by name and calls it with the error's ``args``."""
    if isinstance(error, TwoBe3Error):
        return _Outcome(error=error)
    said = internal_error(error)
    try:
        same = type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # whatever a stranger's class raises
        same = False
    return _Outcome(error=error if same else None, said=said)
