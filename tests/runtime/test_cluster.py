"""Tasks on the workers of a dask scheduler: the same results, errors whole, nobody blamed for others."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
import torch
from distributed import LocalCluster
from tests.runtime.test_parallel import die, reduced, scaled, threads

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.runtime import process
from twobe3.runtime.cluster import Cluster, connect
from twobe3.runtime.parallel import run_tasks

WITHOUT_SPILLING = {"distributed.worker.memory.target": False, "distributed.worker.memory.spill": False}


@pytest.fixture(scope="module")
def scheduler() -> Iterator[LocalCluster]:
    with dask.config.set(WITHOUT_SPILLING):
        local = LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=60
        )
        with local:
            yield local


@pytest.fixture
def cluster(scheduler: LocalCluster, tmp_path: Path) -> Iterator[Cluster]:
    (tmp_path / "seen").touch()
    with connect(scheduler.scheduler_address, tmp_path / "seen") as connected:
        yield connected


def test_every_task_is_done_once(cluster: Cluster) -> None:
    t=time.time()
    done = list(run_tasks(scaled, range(7), shared=3.0, workers=cluster, description="scaling"))
    print(time.time()-t)
    assert sorted(done) == [(task, 3.0 * task) for task in range(7)]
    t=time.time()
    done = list(run_tasks(scaled, range(7), shared=3.0, workers=cluster, description="scaling"))
    print(time.time()-t)


def test_killed(cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    done: list[tuple[int, int]] = []
    running = run_tasks(
        die, range(5), shared=tmp_path, workers=cluster, description="dying", name=lambda task: f"fold {task}"
    )
    with pytest.raises(EnvironmentFailure, match="“dying”: fold 0 ") as caught:
        done.extend(running)
    assert caught.value.code is Code.WORKER_DIED
    assert dict(done) == {task: 10 * task for task in range(1, 5)}
    print(caplog.text)
