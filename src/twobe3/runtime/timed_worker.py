"""A process of its own for tasks that may take too long, too much memory, or end the process."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from threading import Lock, Thread
from typing import Any

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.core.fault import internal_error
from twobe3.runtime.process import end_with_parent, one_thread

Tell = Callable[[str], None]
Function = Callable[[str, Tell], str]


class TimedWorker:
    """A process that does one task after another, and is ended when one takes too long; the next task starts another.

    It ends with the process that made it, even where that is killed, and what it prints goes nowhere.

    Parameters
    ----------
    function : callable
        Of a task and a function that says how far it is; gives the outcome. A module-level function, since the process
        imports it; tasks and outcomes are text, so nothing that comes back is executed.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._process: Any = None
        self._pipe: Connection | None = None
        self._changing = Lock()

    def run(self, task: str, limit_s: float, tell: Tell) -> str:
        """The outcome of a task.

        Parameters
        ----------
        task : str
        limit_s : float
            Seconds that it may take, the start of a process included.
        tell : callable
            Called with what the task says on its way.

        Raises
        ------
        EnvironmentFailure
            ``TIME_LIMIT``; ``WORKER_DIED``; ``INTERNAL_ERROR``: the function raised, of which only type and place are
            told, for the message may quote a patient's name.
        """
        end = time.monotonic() + limit_s
        pipe = self._connect()
        try:
            pipe.send_bytes(task.encode())
            while pipe.poll(max(0.0, end - time.monotonic())):
                kind, text = json.loads(pipe.recv_bytes())
                if kind == "done":
                    return str(text)
                if kind == "failed":
                    raise EnvironmentFailure(Code.INTERNAL_ERROR, str(text))
                tell(str(text))
        except (EOFError, OSError):
            self.close()
            raise EnvironmentFailure(Code.WORKER_DIED, "the process of the prediction ended") from None
        self.close()
        raise EnvironmentFailure(Code.TIME_LIMIT, f"it took longer than {limit_s:g} s")

    def close(self) -> None:
        """End the process, whatever it does."""
        with self._changing:
            if self._process is not None:
                self._process.kill()
                self._process.join()
                self._process = None

    def _connect(self) -> Connection:
        """The pipe to the process, which is started where there is none."""
        with self._changing:
            if self._process is None or self._pipe is None or not self._process.is_alive():
                context = multiprocessing.get_context("spawn")  # forking a process that has threads can hang
                self._pipe, theirs = context.Pipe()
                self._process = context.Process(target=_work, args=(self._function, theirs), daemon=True)
                self._process.start()
                theirs.close()
            return self._pipe


def _work(function: Function, pipe: Connection) -> None:
    """Do tasks until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent ends its worker
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123  what libraries print may quote a header
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    Thread(target=end_with_parent, daemon=True).start()

    def say(kind: str, text: str) -> None:
        pipe.send_bytes(json.dumps([kind, text]).encode())

    with one_thread():
        while True:
            try:
                task = pipe.recv_bytes().decode()
            except EOFError:
                return
            try:
                outcome = function(task, lambda step: say("step", step))
            except Exception as error:  # its message may quote a header
                say("failed", internal_error(error).reason)
            else:
                say("done", outcome)
