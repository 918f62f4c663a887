"""Work in this process or in several: the same results, errors whole, nobody left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure, UnusableScanError
from twobe3.core.fault import internal_error
from twobe3.runtime import outcome, process
from twobe3.runtime.local_pool import LocalWorkers
from twobe3.runtime.parallel import run_tasks
from twobe3.runtime.process import available_cores, one_thread


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
    return os.getpid(), process.worker_number()


def refuse(_: None, task: int) -> None:
    if task == 1:
        raise UnusableScanError(Code.SLICE_GAP, "a slice is missing at 12.0 mm")
    time.sleep(60)


def die(folder: Path, task: int) -> int:
    """Task 0 ends its process every time, task 1 the first time."""
    if task == 0 or (task == 1 and not (folder / "once").exists()):
        (folder / "once").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return 10 * task


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


class Shared:
    """Told from everything else in a worker's memory."""


def count_shared(_: None, task: int) -> tuple[int, int]:
    time.sleep(0.2)
    return os.getpid(), sum(isinstance(one, Shared) for one in gc.get_objects())


def tell_process(_: Shared | None, task: int) -> tuple[int, int]:
    return numbered(None, task)


def test_workers_stay_from_one_function_to_the_next_and_forget_what_it_shared() -> None:
    with LocalWorkers(2) as workers:
        first = dict(run_tasks(tell_process, range(4), shared=Shared(), workers=workers, description="first"))
        of_first = {child.pid for child in multiprocessing.active_children()}
        second = dict(run_tasks(count_shared, range(4), shared=None, workers=workers, description="second"))
        here = dict(run_tasks(numbered, [0], shared=None, workers=workers, description="in this process"))
        assert here[0][0] == os.getpid()
        assert {child.pid for child in multiprocessing.active_children()} == of_first
    assert len(of_first) == 2
    assert {pid for pid, _ in (*first.values(), *second.values())} <= of_first
    assert {alive for _, alive in second.values()} == {0}
    assert not multiprocessing.active_children()


def test_a_worker_that_ends_between_two_functions_has_a_successor(caplog: pytest.LogCaptureFixture) -> None:
    with LocalWorkers(2) as workers:
        list(run_tasks(numbered, range(4), shared=None, workers=workers, description="before"))
        gone = multiprocessing.active_children()[0]
        gone.kill()
        gone.join()
        after = dict(run_tasks(numbered, range(4), shared=None, workers=workers, description="after"))
        assert len(multiprocessing.active_children()) == 2
    assert gone.pid not in {pid for pid, _ in after.values()}
    assert not caplog.records


def test_an_error_ends_workers_that_would_stay_and_the_next_function_gets_others() -> None:
    with LocalWorkers(2) as workers:
        with pytest.raises(UnusableScanError):
            list(run_tasks(refuse, [0, 1], shared=None, workers=workers, description="refusing"))
        assert not multiprocessing.active_children()
        assert dict(run_tasks(scaled, range(4), shared=2.0, workers=workers, description="scaling"))[3] == 6.0


def test_what_a_worker_was_given_too_late_for_one_function_does_not_disturb_the_next() -> None:
    """One worker does all tasks of the first function before the other has started."""
    with LocalWorkers(2) as workers:
        for factor in (1.0, 2.0, 3.0):
            done = dict(run_tasks(scaled, range(3), shared=factor, workers=workers, description="scaling"))
            assert done == {task: factor * task for task in range(3)}


def test_an_error_in_a_worker_arrives_whole_and_ends_the_others() -> None:
    with pytest.raises(UnusableScanError) as caught:
        list(run_tasks(refuse, [0, 1], shared=None, workers=2, description="refusing"))
    assert (caught.value.code, caught.value.reason) == (Code.SLICE_GAP, "a slice is missing at 12.0 mm")
    assert not multiprocessing.active_children()


def test_a_task_whose_worker_is_killed_is_tried_again_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[tuple[int, int]] = []
    running = run_tasks(
        die, range(5), shared=tmp_path, workers=2, description="dying", name=lambda task: f"fold {task}"
    )
    with pytest.raises(EnvironmentFailure, match="“dying”: fold 0 ") as caught:
        done.extend(running)
    assert caught.value.code is Code.WORKER_DIED
    assert dict(done) == {task: 10 * task for task in range(1, 5)}
    assert [record.getMessage().split(": ")[-1] for record in caplog.records].count("SIGKILL; it is given up") == 1
    assert not multiprocessing.active_children()


def test_there_can_be_an_outcome_instead_of_a_task_that_kills_its_workers(tmp_path: Path) -> None:
    how = {"shared": tmp_path, "workers": 2, "description": "dying"}
    assert dict(run_tasks(die, [0, 2], **how, instead=lambda task: -1)) == {0: -1, 2: 20}  # type: ignore[arg-type]


class Treacherous:
    """Too large for a pipe, and an error for whoever unpickles it."""

    def __reduce__(self) -> tuple[object, ...]:
        return _fail, (bytes(10_000_000),)


class Deadly(Treacherous):
    """The same, and the end of the process."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (3,)


def _fail(_: bytes) -> None:
    raise RuntimeError("cannot be unpickled here")


def test_workers_that_cannot_take_the_shared_object_are_an_error_and_no_hang() -> None:
    with pytest.raises(RuntimeError, match="cannot be unpickled here"):
        list(run_tasks(scaled, [0, 1], shared=Treacherous(), workers=2, description="starting"))  # type: ignore[arg-type]
    with pytest.raises(EnvironmentFailure) as caught:
        list(run_tasks(scaled, [0, 1], shared=Deadly(), workers=2, description="starting"))  # type: ignore[arg-type]
    assert caught.value.code is Code.WORKER_DIED


UNGUARDED = """
from operator import mul
from twobe3.runtime.parallel import run_tasks
list(run_tasks(mul, [1, 2], shared=3, workers=2, description="unguarded"))
"""


def test_a_script_without_a_guard_is_an_error_and_no_hang(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.rstrip().splitlines()[-1].endswith("with fewer --workers)")


class TwoArgumentsError(Exception):
    """Pickled by its one message, it cannot be called back."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} of Mustermann at {where}")


class UnpicklableError(Exception):
    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("not me")


ERRORS = {
    "two arguments": TwoArgumentsError("slope", "slice 3"),
    "unpicklable": UnpicklableError("Mustermann"),
    "one argument": KeyError("weight"),
    "of the system": FileNotFoundError(2, "No such file", "scan.dcm"),
    "the end of the program": SystemExit(3),
    "of another library": subprocess.CalledProcessError(4, "convert"),
}


def fail(_: None, task: str) -> None:
    raise ERRORS[task]


def on_its_way(error: BaseException) -> None:
    """What a worker does with an error, and the parent with what arrives."""
    try:
        raise error
    except BaseException as raised:
        pickle.loads(pickle.dumps(outcome._portable(raised))).take()


@pytest.mark.parametrize("which", ["two arguments", "unpicklable"])
def test_an_error_that_cannot_travel_is_named_without_its_message(which: str) -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        on_its_way(ERRORS[which])
    assert caught.value.code is Code.INTERNAL_ERROR
    assert caught.value.reason.startswith(f"{type(ERRORS[which]).__name__} at test_parallel.py:")
    assert "Mustermann" not in str(caught.value)


@pytest.mark.parametrize("which", ["one argument", "of the system", "the end of the program", "of another library"])
def test_any_other_error_arrives_as_it_is_and_its_place_is_known(which: str) -> None:
    with pytest.raises(type(ERRORS[which])) as caught:
        on_its_way(ERRORS[which])
    assert repr(caught.value) == repr(ERRORS[which])
    assert " in on_its_way" in internal_error(caught.value).reason


def test_an_error_that_cannot_travel_ends_the_run_under_a_code() -> None:
    with pytest.raises(EnvironmentFailure, match=r"INTERNAL_ERROR: TwoArgumentsError at test_parallel.py:\d+ in fail"):
        list(run_tasks(fail, ["two arguments"] * 2, shared=None, workers=2, description="failing"))


ORPHANS = """
import os, sys, time
from pathlib import Path
from twobe3.runtime.parallel import run_tasks

def work(shared, task):
    Path(sys.argv[1], str(os.getpid())).touch()
    time.sleep(600)

if __name__ == "__main__":
    list(run_tasks(work, range(2), shared=b"patient Mustermann", workers=2, description="orphans"))
"""


def test_workers_end_with_a_parent_that_is_killed_and_leave_nothing_on_disk(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(ORPHANS)
    (work := tmp_path / "work").mkdir()
    (temporary := tmp_path / "tmp").mkdir()
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", work], env={**os.environ, "TMPDIR": str(temporary)}
    )
    until = time.monotonic() + 120
    while len(list(work.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    pids = [int(path.name) for path in work.iterdir()]
    assert [path for path in temporary.rglob("*") if path.is_file()] == []
    parent.kill()
    parent.wait()
    until = time.monotonic() + 10
    while any(map(is_running, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert len(pids) == 2
    assert not any(map(is_running, pids))


def is_running(pid: int) -> bool:
    """Whether the process is there, and not as a zombie that nobody has asked for its end."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return sys.platform != "linux"


def test_no_task_needs_no_worker() -> None:
    assert list(run_tasks(scaled, [], shared=1.0, workers=2, description="nothing")) == []


def test_one_thread_is_left_as_it_was_found_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == before


def test_at_least_one_core_is_available() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
