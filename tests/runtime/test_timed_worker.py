"""A process of its own for a task: its outcome, and every way in which it may fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from twobe3.core.errors import EnvironmentFailure
from twobe3.runtime.timed_worker import Tell, TimedWorker

SECRET = "XYZZY"


def act(task: str, tell: Tell) -> str:
    tell(f"begins {task}")
    print(SECRET)
    os.write(2, SECRET.encode())
    match task:
        case "sleep":
            time.sleep(600)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "fail":
            raise ValueError(SECRET)
    return f"{task} {os.getpid()}"


@pytest.fixture(scope="module")
def worker() -> Iterator[TimedWorker]:
    made = TimedWorker(act)
    yield made
    made.close()


def test_tasks_are_done_in_one_process_that_prints_nothing(
    worker: TimedWorker, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[str] = []
    outcomes = [worker.run(task, 60, told.append).split() for task in ("a", "b")]
    assert [task for task, _ in outcomes] == ["a", "b"]
    assert len({process for _, process in outcomes}) == 1
    assert told == ["begins a", "begins b"]
    assert "".join(capfd.readouterr()) == ""


def test_what_a_task_raises_is_told_by_type_and_place_and_ends_nothing(worker: TimedWorker) -> None:
    with pytest.raises(
        EnvironmentFailure, match=r"INTERNAL_ERROR: ValueError at test_timed_worker.py:\d+ in act"
    ) as failure:
        worker.run("fail", 60, str)
    assert SECRET not in str(failure.value)
    assert worker.run("again", 60, str).startswith("again")


def test_a_process_that_ends_or_takes_too_long_is_replaced(worker: TimedWorker) -> None:
    before = worker.run("a", 60, str)
    with pytest.raises(EnvironmentFailure, match="WORKER_DIED"):
        worker.run("die", 60, str)
    with pytest.raises(EnvironmentFailure, match="TIME_LIMIT"):
        worker.run("sleep", 0.2, str)
    assert worker.run("a", 60, str) != before


def test_a_worker_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys\n"
        "from twobe3.runtime.timed_worker import TimedWorker\n"
        "def act(task, tell):\n"
        "    import time\n"
        "    tell(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "def tell(process):\n"
        "    print(process, flush=True)\n"
        "if __name__ == '__main__':\n"
        "    TimedWorker(act).run('a', 600, tell)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().rpartition(")")[2]:
        assert time.monotonic() < end
        time.sleep(0.05)
