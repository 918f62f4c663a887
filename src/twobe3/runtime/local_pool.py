"""Worker processes on this machine, which stay from one stage of a study to the next.

Each worker has a pipe of its own, through which everything travels: nothing of the patients lies on disk, the end of a
worker names its task, and the end of this process ends the workers.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Self

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.runtime.outcome import Report, perform
from twobe3.runtime.process import end_with_parent, one_thread, set_worker_number

log = logging.getLogger("twobe3")
STARTED, READY = b"started", b"ready"  # a worker: to take a function; to take tasks
TAKE, FORGET, DO = b"take", b"forget", b"do"  # to a worker: the function and what its tasks need; both; a task
GRACE_S = 10.0  # in which a worker without tasks ends by itself


class _Worker:
    """A process that does one task after the other."""

    def __init__(self, number: int) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process whose libraries have threads can hang
        self.number = number
        self.started = False
        self.taking = 0  # functions that were sent, and of which it has not said that it has them
        self.position: int | None = None  # of its task
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, number))
        self.process.start()
        theirs.close()  # so that the pipe ends with the process

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a task."""
        return self.started and not self.taking and self.position is None

    def send(self, kind: bytes, content: bytes = b"") -> None:
        """Send it something; that it has ended shows when it is read from."""
        with suppress(OSError):
            self.pipe.send_bytes(kind)
            if kind is not FORGET:
                self.pipe.send_bytes(content)

    def give(self, content: bytes) -> None:
        """Give it a function, and what the tasks of that share."""
        self.taking += 1
        self.send(TAKE, content)

    def end(self) -> str:
        """Let it end, or end it where it does not; gives how it ended."""
        self.pipe.close()
        self.process.join(GRACE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        return signal.Signals(-code).name if -code in set(signal.Signals) else f"exit status {code}"


class LocalPool:
    """The workers of one function, and what its tasks share; see :meth:`LocalWorkers.start`."""

    def __init__(self, content: bytes, description: str) -> None:
        self._content, self._description = content, description
        self._vacant: list[int] = []  # numbers of workers that ended with a task
        self.workers: list[_Worker] = []

    def add(self, worker: _Worker) -> None:
        """Take in a worker, which may be just about to start."""
        self.workers.append(worker)
        if worker.started:
            worker.give(self._content)

    @property
    def is_busy(self) -> bool:
        """Whether a worker has a task."""
        return any(worker.position is not None for worker in self.workers)

    def start(self, position: int, task: object) -> bool:
        """Give a task to an idle worker; False where there is none."""
        worker = next((one for one in self.workers if one.is_idle), None)
        if worker is None:
            if self._vacant:
                self.add(_Worker(self._vacant.pop()))
            return False
        worker.position = position
        worker.send(DO, pickle.dumps(task))
        return True

    def wait(self) -> Iterator[Report]:
        """What became of tasks since; waits for something to happen.

        Raises
        ------
        EnvironmentFailure
            ``WORKER_DIED``: no worker could start.
        Exception
            Whatever the workers raised when they took what all tasks need.
        """
        if not self.workers:
            raise EnvironmentFailure(Code.WORKER_DIED, f"no worker for “{self._description}” could start")
        ready = set(wait([worker.pipe for worker in self.workers]))
        for worker in [one for one in self.workers if one.pipe in ready]:
            said = _receive(worker.pipe)
            if said is None:
                yield from self._lose(worker)
            elif not worker.started:  # what is larger than the pipe has to be read while it is written
                worker.started = True
                worker.give(self._content)
            elif worker.taking:
                worker.taking -= 1
                if said != READY and not worker.taking:
                    pickle.loads(said).take()  # an error: the worker could not take what all need
            else:
                position, worker.position = worker.position, None
                assert position is not None
                yield Report(position, said)

    def _lose(self, worker: _Worker) -> Iterator[Report]:
        """Forget a worker that has ended."""
        self.workers.remove(worker)
        how = worker.end()
        if worker.position is None:  # one that cannot even start has no successor: it would not start either
            text = "WORKER_DIED: a worker for “%s” ended before its first task: %s"
            log.warning(text, self._description, how)
        else:
            self._vacant.append(worker.number)
            yield Report(worker.position, None, how)


class LocalWorkers:
    """Processes of this machine, started when they are needed; they end with the block.

    Parameters
    ----------
    count : int
        How many at most. With 1 there is none: tasks are done in this process.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._resting: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._resting:
            self._resting.pop().end()

    @contextmanager
    def start(self, function: Callable[..., Any], shared: object, most: int, description: str) -> Iterator[LocalPool]:
        """As many workers as there are tasks for one function, or fewer.

        They forget the function, and what its tasks share, with the block; where an error ends that, they end at once.
        """
        pool = LocalPool(pickle.dumps((function, shared)), description)
        try:
            for number in range(min(self.count, most)):
                pool.add(self._find(number) or _Worker(number))
            yield pool
        except BaseException:
            for worker in pool.workers:
                worker.process.terminate()
            for worker in pool.workers:
                worker.end()
            raise
        for worker in pool.workers:
            worker.send(FORGET)
        self._resting += pool.workers

    def _find(self, number: int) -> _Worker | None:
        """The resting worker of this number, which rests no more, if there is one and it lives."""
        worker = next((one for one in self._resting if one.number == number), None)
        if worker is not None:
            self._resting.remove(worker)
            if worker.process.is_alive():
                return worker
            worker.end()
        return None


def _receive(pipe: Connection) -> bytes | None:
    """What a worker says; None where it has ended."""
    try:
        return pipe.recv_bytes()
    except (EOFError, OSError):
        return None


def _work(pipe: Connection, number: int) -> None:
    """Do tasks until there are no more; this is what runs in a worker."""
    set_worker_number(number)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent ends its workers
    threading.Thread(target=end_with_parent, daemon=True).start()
    taken: list[Any] = []  # a function and what its tasks share

    def take(content: bytes) -> None:
        taken.append(pickle.loads(content))

    def do(content: bytes) -> Any:
        function, shared = taken[0]
        return function(shared, pickle.loads(content))

    with one_thread(), suppress(EOFError, OSError):  # the parent has no more tasks, or is gone
        pipe.send_bytes(STARTED)
        while True:
            kind = pipe.recv_bytes()
            if kind == DO:
                pipe.send_bytes(perform(do, pipe.recv_bytes()))
                continue
            _forget(taken)
            if kind == TAKE:
                said = perform(take, pipe.recv_bytes())
                pipe.send_bytes(READY if taken else said)


def _forget(taken: list[Any]) -> None:
    """Give back the memory that a function and its tasks had, on a GPU too, where others may need it."""
    if taken:
        taken.clear()
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
