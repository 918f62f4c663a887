"""Worker processes on this machine.

Each worker has a pipe of its own, through which everything travels: nothing of the patients lies on disk, the end of a
worker names its task, and the end of this process ends the workers.
"""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.runtime.outcome import Report, perform
from twobe3.runtime.process import end_with_parent, one_thread, set_worker_number

log = logging.getLogger("twobe3")
STARTED, READY = b"started", b"ready"  # to take what all tasks need; to take tasks
GRACE_S = 10.0  # in which a worker without tasks ends by itself


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


class LocalPool:
    """Processes and what they share."""

    def __init__(self, function: Callable[..., Any], shared: object, description: str) -> None:
        self._function, self._shared, self._description = function, pickle.dumps(shared), description
        self._vacant: list[int] = []  # numbers of workers that ended with a task
        self.workers: list[_Worker] = []

    def add(self, number: int) -> None:
        """Start a worker."""
        self.workers.append(_Worker(self._function, number))

    @property
    def is_busy(self) -> bool:
        """Whether a worker has a task."""
        return any(worker.position is not None for worker in self.workers)

    def start(self, position: int, task: object) -> bool:
        """Give a task to an idle worker; False where there is none."""
        worker = next((one for one in self.workers if one.is_idle), None)
        if worker is None:
            if self._vacant:
                self.add(self._vacant.pop())
            return False
        worker.position = position
        worker.send(pickle.dumps(task))
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
            position, said = worker.position, _receive(worker.pipe)
            worker.position = None
            if said is None:
                self.workers.remove(worker)
                how = worker.end()
                if position is None:  # one that cannot even start has no successor: it would not start either
                    text = "WORKER_DIED: a worker for “%s” ended before its first task: %s"
                    log.warning(text, self._description, how)
                else:
                    self._vacant.append(worker.number)
                    yield Report(position, None, how)
            elif said == STARTED:  # not earlier: what is larger than the pipe has to be read while it is written
                worker.send(self._shared)
            elif said == READY:
                worker.ready = True
            elif position is None:
                pickle.loads(said).take()  # an error: the worker could not take what all need
            else:
                yield Report(position, said)


@contextmanager
def start_workers(function: Callable[..., Any], shared: object, workers: int, description: str) -> Iterator[LocalPool]:
    """Workers that end with the block, at once where an error ends it."""
    pool = LocalPool(function, shared, description)
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
    set_worker_number(number)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent ends its workers
    threading.Thread(target=end_with_parent, daemon=True).start()
    shared: list[Any] = []

    def take(content: bytes) -> None:
        shared.append(pickle.loads(content))

    with one_thread(), suppress(EOFError, OSError):  # the parent has no more tasks, or is gone
        pipe.send_bytes(STARTED)
        said = perform(take, pipe.recv_bytes())
        if not shared:
            pipe.send_bytes(said)
            return
        pipe.send_bytes(READY)
        while True:
            task = pipe.recv_bytes()
            pipe.send_bytes(perform(lambda content: function(shared[0], pickle.loads(content)), task))
