"""Workers on other machines: those of a dask scheduler.

A worker has one task at a time, which is chosen here and not by the scheduler: dask would blame what waits beside a
task that ends its worker, and would try each four times. Tasks are named by numbers.
"""

from __future__ import annotations

import logging
import secrets
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.core.extras import import_optional
from twobe3.runtime.cluster_worker import Requirements, Taken, do_task, read_versions
from twobe3.runtime.outcome import Report

log = logging.getLogger("twobe3")
CONNECT_S = 60.0
POLL_S = 1.0  # between two looks at which workers there are
FETCH_S = 30.0  # for an outcome to arrive before its worker is looked for again
TELL_S = 60.0  # between two lines that say that there is no worker yet
MOST_STILLBORN = 4  # workers that end before their first task, where none has begun one


class Cluster:
    """The workers of a dask scheduler, which may come and go.

    Parameters
    ----------
    client : distributed.Client
        Connected to the scheduler.
    seen : Path
        A file that every worker must see, under the same path: results are written beside it.
    gpu : bool
        Whether every worker must have a GPU.
    environment : mapping
        Environment variables that tasks get, since workers that somebody else started lack them.
    patience_min : float
        Minutes without any worker after which it is given up.
    """

    def __init__(
        self,
        client: Any,
        seen: Path,
        *,
        gpu: bool = False,
        environment: Mapping[str, str] | None = None,
        patience_min: float = 60.0,
    ) -> None:
        self.client, self.patience_min = client, patience_min
        self.required = Requirements(read_versions(), str(seen.absolute()), gpu, dict(environment or {}))

    @contextmanager
    def start(self, function: Callable[..., Any], shared: object, most: int, description: str) -> Iterator[ClusterPool]:
        """Workers for the tasks of one function; they forget it, and what tasks share, with the block."""
        pool = ClusterPool(self, function, shared, description)
        try:
            yield pool
        finally:
            pool.end()


@contextmanager
def connect(address: str, seen: Path, **how: Any) -> Iterator[Cluster]:
    """The workers of the scheduler at an address.

    Parameters
    ----------
    address : str
        Such as ``"tls://scheduler:8786"``; the keys of an encrypted connection are those of dask's own configuration.
    seen, how
        As for :class:`Cluster`.

    Raises
    ------
    EnvironmentFailure
        ``CLUSTER_LOST``: nobody answers; ``EXTRA_MISSING``.
    """
    distributed = import_distributed()
    try:
        client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        reason = f"the scheduler at {address} cannot be reached ({type(error).__name__})"
        remedy = "start it, or correct `compute.address`; for tls:// dask's own configuration names the keys"
        raise EnvironmentFailure(Code.CLUSTER_LOST, reason, remedy=remedy) from None
    try:
        yield Cluster(client, seen, **how)
    finally:
        client.close(timeout=POLL_S)


def import_distributed() -> Any:
    """Import ``distributed``, silent: what it says of a worker or a scheduler is said here, under a code.

    Raises EnvironmentFailure ``EXTRA_MISSING``.
    """
    package = import_optional("distributed", "a cluster", extra="cluster")
    for name in ("distributed", "distributed.client", "distributed.scheduler"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return package


@contextmanager
def _ask_scheduler() -> Iterator[None]:
    """Say under our code that the scheduler is gone, whatever dask raises then; a TimeoutError comes as such."""
    from distributed import CancelledError
    from distributed.client import ClosedClientError

    try:
        yield
    except TimeoutError:
        raise
    except (CancelledError, ClosedClientError, OSError, RuntimeError) as error:
        raise EnvironmentFailure(Code.CLUSTER_LOST, f"the scheduler is gone ({type(error).__name__})") from None


@dataclass
class _Worker:
    """A worker as it is known here: what it has, and what it does now."""

    number: int  # among those of its machine
    taken: Any  # future of what tasks share, which stays there
    future: Any = None  # of its task
    position: int | None = None  # of its task
    ready: bool = False

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a task."""
        return self.ready and self.future is None


class ClusterPool:
    """The workers of a cluster, and what the tasks of one function share; see :meth:`Cluster.start`."""

    def __init__(self, cluster: Cluster, function: Callable[..., Any], shared: object, description: str) -> None:
        import cloudpickle

        self._client, self._required, self._patience_s = cluster.client, cluster.required, 60 * cluster.patience_min
        self._description, self._token = description, secrets.token_hex(8)
        # Compressed: the scheduler keeps it for every worker, and most of a cohort are paths that resemble each other.
        self._content = zlib.compress(cloudpickle.dumps((function, shared)), level=1)
        self._workers: dict[str, _Worker] = {}
        self._submitted = self._stillborn = 0
        self._looked, self._alone_since = float("-inf"), time.monotonic()
        self._told = self._alone_since

    @property
    def is_busy(self) -> bool:
        """Whether a worker has a task."""
        return any(worker.position is not None for worker in self._workers.values())

    def start(self, position: int, task: object) -> bool:
        """Give a task to an idle worker; False where there is none."""
        import cloudpickle

        for address, worker in self._workers.items():
            if worker.is_idle:
                which = (worker.taken, worker.number, cloudpickle.dumps(task))
                worker.position, worker.future = position, self._submit(address, do_task, *which)
                return True
        return False

    def wait(self) -> Iterator[Report]:
        """What became of tasks since; waits for something to happen, or a second.

        Raises
        ------
        EnvironmentFailure
            ``CLUSTER_LOST``: the scheduler is gone, or no worker came; ``CLUSTER_UNFIT``: workers cannot do tasks;
            ``WORKER_DIED``: no worker could start.
        """
        from distributed import wait

        yield from self._look()
        running = [one.future if one.ready else one.taken for one in self._workers.values() if not one.is_idle]
        if running:
            with suppress(TimeoutError), _ask_scheduler(), self._client.as_current():
                wait(running, timeout=POLL_S, return_when="FIRST_COMPLETED")
        else:
            time.sleep(POLL_S)
        for address, worker in list(self._workers.items()):
            yield from self._collect(address, worker)

    def end(self) -> None:
        """Give up what is not done, and what workers have."""
        for worker in self._workers.values():
            for future in filter(None, (worker.future, worker.taken)):
                future.release()
        self._workers.clear()

    def _submit(self, address: str, function: Callable[..., Any], *arguments: Any) -> Any:
        import dask

        self._submitted += 1
        with _ask_scheduler(), dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):
            return self._client.submit(
                function, *arguments, key=f"twobe3-{self._token}-{self._submitted}", workers=[address], pure=False
            )

    def _look(self) -> Iterator[Report]:
        """Notice which workers came and went, at most once a second."""
        if time.monotonic() < self._looked + POLL_S:
            return
        with _ask_scheduler():
            if self._client.status != "running":
                raise ConnectionError
            there = self._client.nthreads()
        self._looked = time.monotonic()
        for address in [*self._workers]:
            if address not in there:
                yield from self._lose(address, "it is gone from the cluster")
        for address in there:
            if address not in self._workers:
                self._add(address)
        if self._workers:
            self._alone_since = self._told = self._looked
        else:
            self._complain()

    def _add(self, address: str) -> None:
        """Give a new worker what tasks share."""
        host = urlsplit(address).hostname
        taken = {one.number for other, one in self._workers.items() if urlsplit(other).hostname == host}
        number = next(n for n in range(len(taken) + 1) if n not in taken)
        self._workers[address] = _Worker(number, self._submit(address, Taken, self._content, self._required))

    def _complain(self) -> None:
        """Say from time to time that there is no worker, and give up in the end."""
        waited_s = self._looked - self._alone_since
        if waited_s > self._patience_s:
            reason = f"no worker came in {self._patience_s / 60:g} minutes"
            remedy = "see what the queue and the logs of the jobs say, or wait longer: `compute.patience_min`"
            raise EnvironmentFailure(Code.CLUSTER_LOST, reason, remedy=remedy)
        if self._looked - self._told > TELL_S:
            self._told = self._looked
            log.info("“%s” waits for a worker of the cluster, since %.0f minutes", self._description, waited_s / 60)

    def _lose(self, address: str, how: str) -> Iterator[Report]:
        """Forget a worker that is gone."""
        worker = self._workers.pop(address)
        if worker.position is not None:
            yield Report(worker.position, None, how)
        elif not worker.ready:
            text = "WORKER_DIED: a worker for “%s” ended before its first task, see what it printed: %s"
            log.warning(text, self._description, how)
            self._stillborn += 1
            if self._stillborn >= MOST_STILLBORN and not any(one.ready for one in self._workers.values()):
                raise EnvironmentFailure(Code.WORKER_DIED, f"no worker for “{self._description}” could start")

    def _collect(self, address: str, worker: _Worker) -> Iterator[Report]:
        """What a worker gave, where it has ended something."""
        from distributed import KilledWorker

        future = worker.future if worker.ready else worker.taken
        if future is None or not future.done():
            return
        if future.status == "error":
            error = future.exception()
            if isinstance(error, KilledWorker):  # where workers that start again have the same address
                yield from self._lose(address, "dask gave it up")
                return
            reason = f"the cluster cannot do what this process asks ({type(error).__name__})"
            raise EnvironmentFailure(Code.CLUSTER_UNFIT, reason)
        if not worker.ready:
            worker.ready, self._stillborn = True, 0
            return
        try:
            with _ask_scheduler():
                outcome = future.result(timeout=FETCH_S)
        except TimeoutError:
            return  # lost on its way: if the worker is gone, the next look shows it
        position, worker.position, worker.future = worker.position, None, None
        assert position is not None
        yield Report(position, outcome)
