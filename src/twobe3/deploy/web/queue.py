"""Uploads in turn: a bounded line, and threads each of which has a process that predicts."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Condition, Thread

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.core.fault import internal_error
from twobe3.deploy.web.bounds import Bounds
from twobe3.deploy.web.jobs import Job, JobStore
from twobe3.deploy.web.worker import predict_upload
from twobe3.runtime.timed_worker import TimedWorker

log = logging.getLogger("twobe3")
MOST_ATTEMPTS = 3
"""How often a job is predicted that ends the server, or finds no disk."""
RETRY_S = 10.0
SWEEP_S = 60.0


@dataclass(frozen=True)
class Progress:
    """A job as it is now.

    Attributes
    ----------
    job : Job
    position : int, optional
        How many are before it; None where it does not wait.
    step : str, optional
        What is done with it now.
    """

    job: Job
    position: int | None = None
    step: str | None = None


class JobQueue:
    """The line of jobs.

    Parameters
    ----------
    store : JobStore
        Jobs that it holds from before and that did not end are predicted first.
    models : mapping of str to Path
        Digest of each model's file, and the file.
    bounds : Bounds
    workers : int
        Processes that predict.
    device : str
        Where networks compute.
    """

    def __init__(
        self, store: JobStore, models: Mapping[str, Path], bounds: Bounds, *, workers: int = 1, device: str = "auto"
    ) -> None:
        self._store, self._models, self._bounds, self._device = store, models, bounds, device
        self._changed = Condition()
        self._waiting: deque[str] = deque()
        self._receiving = 0
        self._running: dict[str, tuple[TimedWorker, str]] = {}
        self._deleted: set[str] = set()
        self._stopped = False
        for job in store.read_all():
            if job.finished is None:
                self._waiting.append(job.id)
            else:
                store.clear(job.id)
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(workers)]
        self._threads.append(Thread(target=self._sweep, daemon=True))

    def start(self) -> None:
        """Begin to predict."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the predictions that run; they wait for the next start."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            running = [worker for worker, _ in self._running.values()]
        for worker in running:
            worker.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Keep a place for an upload while it comes; raises ConfigurationError ``QUEUE_FULL``."""
        with self._changed:
            full = self._receiving >= self._bounds.receiving
            if full or len(self._waiting) + self._receiving >= self._bounds.waiting:
                what = f"{self._receiving} uploads come in" if full else f"{len(self._waiting)} predictions wait"
                raise ConfigurationError(Code.QUEUE_FULL, what)
            self._receiving += 1
        try:
            yield
        finally:
            with self._changed:
                self._receiving -= 1

    def submit(self, job: Job) -> None:
        """Accept an upload; from here on it outlives the server. Raises EnvironmentFailure ``WRITE_FAILED``."""
        self._store.accept(job)
        with self._changed:
            self._waiting.append(job.id)
            self._changed.notify_all()  # the sweep waits there, too
        log.info("job %s: accepted, %d files", job.id[:6], job.n_files)

    def find(self, job_id: str) -> Progress | None:
        """A job as it is now; None where there is none, or no longer."""
        with self._changed:
            job = None if job_id in self._deleted else self._store.read(job_id)
            if job is None:
                return None
            if job_id in self._running:
                return Progress(replace(job, state="running"), step=self._running[job_id][1])
            return Progress(job, self._waiting.index(job_id) if job_id in self._waiting else None)

    def delete(self, job_id: str) -> bool:
        """Delete a job with all that belongs to it, whatever is done with it; gives whether it was there."""
        with self._changed:
            if job_id in self._deleted or self._store.read(job_id) is None:
                return False
            if job_id in self._waiting:
                self._waiting.remove(job_id)
            if job_id in self._running:
                self._deleted.add(job_id)
                self._running[job_id][0].close()  # and the thread that waits for it deletes the job
            else:
                self._store.delete(job_id)
        log.info("job %s: deleted", job_id[:6])
        return True

    def _work(self) -> None:
        worker = TimedWorker(predict_upload)
        try:
            while (job := self._take(worker)) is not None:
                try:
                    self._process(worker, job)
                except EnvironmentFailure as failure:  # what became of it could not be written
                    log.warning("job %s: %s", job.id[:6], failure)
                    self._put_back(job)
                except Exception as error:  # one job must not end the line; its message may quote a header
                    log.error("job %s: %s", job.id[:6], internal_error(error))
                    self._put_back(job)
        finally:
            worker.close()

    def _take(self, worker: TimedWorker) -> Job | None:
        """The next job, as soon as there is one; None when the line is stopped."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._stopped or self._waiting)
                if self._stopped:
                    return None
                job = self._store.read(self._waiting.popleft())
                if job is not None:
                    self._running[job.id] = worker, "The process of the prediction is started."
                    return job

    def _put_back(self, job: Job) -> None:
        """Let a job wait again, after a time in which disks are freed."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped, RETRY_S)
            self._running.pop(job.id, None)
            self._waiting.append(job.id)

    def _process(self, worker: TimedWorker, job: Job) -> None:
        """Predict a job, and say what became of it; one that was stopped or deleted meanwhile has no outcome."""
        if job.attempts < MOST_ATTEMPTS:
            started = replace(job, attempts=job.attempts + 1)
            self._store.write(started)
            after = self._predict(worker, started)
        else:
            after = _refuse(job, Code.WORKER_DIED, f"the server ended {job.attempts} times while it predicted")
        with self._changed:
            if self._stopped:
                after = job  # that the server was stopped is no fault of the job
            elif job.id in self._deleted:
                self._store.delete(job.id)
                self._deleted.discard(job.id)
                self._running.pop(job.id)
                return
            else:
                self._store.clear(job.id)
                after = replace(after, finished=time.time())
            self._store.write(after)
            self._running.pop(job.id)
        log.info("job %s: %s", job.id[:6], after.code or after.state)

    def _predict(self, worker: TimedWorker, job: Job) -> Job:
        def tell(step: str) -> None:
            with self._changed:
                self._running[job.id] = worker, step
                if job.id in self._deleted or self._stopped:  # before there was a process that could be ended
                    worker.close()

        model = self._models.get(job.model)
        if model is None:
            return _refuse(job, Code.MODEL_INVALID, "the server no longer has the model that was chosen")
        task = {
            "folder": str(self._store.folder(job.id)), "model": str(model), "force": job.force, "device": self._device,
        }  # fmt: skip
        try:
            outcome = json.loads(worker.run(json.dumps(task), self._bounds.predict_s, tell))
        except EnvironmentFailure as failure:
            return replace(_refuse(job, failure.code, failure.reason), remedy=failure.remedy)
        return job.update(outcome)

    def _sweep(self) -> None:
        """Delete results whose time is over."""
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._stopped, SWEEP_S):
                    return
            self.delete_expired()

    def delete_expired(self) -> None:
        """Delete results whose time is over, now."""
        for job_id in self._store.find_expired(self._bounds.keep_s):
            self.delete(job_id)


def _refuse(job: Job, code: Code, reason: str) -> Job:
    return replace(job, state="refused", code=code.name, reason=reason, remedy=code.remedy)
