"""Work in this process or in several: the same results, errors whole, nobody left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure, UnusableScanError
from twobe3.runtime import parallel as worker
from twobe3.runtime.parallel import available_cores, one_thread, run_tasks


def scaled(factor: float, task: int) -> float:
    return factor * task


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Outside of a task, here and in what a process starts."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def reduced(size: int, seed: int) -> bytes:
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32))
    return (values @ values).sum().numpy().tobytes()


def threads(_: None, task: int) -> int:
    return torch.get_num_threads()


def numbered(_: None, task: int) -> tuple[int, int]:
    time.sleep(0.1)
    return os.getpid(), worker.worker_number()


def refuse(_: None, task: int) -> None:
    if task == 1:
        raise UnusableScanError(Code.SLICE_GAP, "a slice is missing at 12.0 mm")
    time.sleep(60)


def die(_: None, task: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done_once_and_comes_with_its_result(workers: int) -> None:
    done = list(run_tasks(scaled, range(7), shared=3.0, workers=workers, description="scaling"))
    assert sorted(done) == [(task, 3.0 * task) for task in range(7)]


def test_results_are_the_same_bits_with_one_worker_and_with_two() -> None:
    alone, together = (
        dict(run_tasks(reduced, range(4), shared=400, workers=workers, description="products")) for workers in (1, 2)
    )
    assert alone == together


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_has_one_thread(workers: int) -> None:
    before = torch.get_num_threads()
    assert {n for _, n in run_tasks(threads, range(3), shared=None, workers=workers, description="threads")} == {1}
    assert torch.get_num_threads() == before


def test_workers_have_numbers_by_which_they_share_the_gpus() -> None:
    done = list(run_tasks(numbered, range(6), shared=None, workers=2, description="numbers"))
    processes = {pid for _, (pid, _) in done}
    found = {number for _, (_, number) in done}
    assert len(found) == len(processes) == len({result for _, result in done})
    assert found <= {0, 1}
    assert {number for _, (_, number) in run_tasks(numbered, [0], shared=None, workers=1, description="one")} == {0}


def test_an_error_in_a_worker_arrives_whole_and_ends_the_others() -> None:
    with pytest.raises(UnusableScanError) as caught:
        list(run_tasks(refuse, [0, 1], shared=None, workers=2, description="refusing"))
    assert (caught.value.code, caught.value.reason) == (Code.SLICE_GAP, "a slice is missing at 12.0 mm")
    assert not multiprocessing.active_children()


def test_a_worker_that_is_killed_is_an_error_and_no_hang() -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        list(run_tasks(die, [0, 1], shared=None, workers=2, description="dying"))
    assert caught.value.code is Code.WORKER_DIED


class Treacherous:
    """Too large for a pipe, and an error for whoever unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return _fail, (bytes(10_000_000),)


def _fail(_: bytes) -> None:
    raise RuntimeError("cannot be unpickled here")


def test_workers_that_cannot_take_the_shared_object_are_an_error_and_no_hang() -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        list(run_tasks(scaled, [0, 1], shared=Treacherous(), workers=2, description="starting"))  # type: ignore[arg-type]
    assert caught.value.code is Code.WORKER_DIED


def test_no_task_needs_no_worker() -> None:
    assert list(run_tasks(scaled, [], shared=1.0, workers=2, description="nothing")) == []


def test_one_thread_is_left_as_it_was_found_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == before


def test_at_least_one_core_is_available() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
