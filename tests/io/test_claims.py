"""Of several runs on one folder one computes an entry, whatever becomes of the others."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from filelock import UnixFileLock

from twobe3.io import claims
from twobe3.io.cache import Arrays, Cache
from twobe3.io.claims import claim, remove_claims
from twobe3.io.files import digest

KEYS = [digest([str(number)]) for number in range(12)]
RUN = """
import sys, time
from pathlib import Path
import numpy as np
from twobe3.io.cache import Cache
folder, *keys = sys.argv[1:]
cache = Cache(Path(folder))
print("ready", flush=True)
sys.stdin.readline()
for key in keys:
    def compute():
        print(key, flush=True)
        time.sleep(0.02)
        return {"x": np.arange(5)}
    assert cache.get_or_compute(key, compute)["x"].tolist() == [0, 1, 2, 3, 4]
"""
HOLD = """
import sys, time
from pathlib import Path
from twobe3.io.claims import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.fixture
def holder(file: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the file."""
    with start(HOLD, file) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("orders", [(1, 1, 1, 1), (1, -1, 1, -1)], ids=["one order", "two orders"])
def test_several_processes_compute_every_entry_once(tmp_path: Path, orders: tuple[int, ...]) -> None:
    runs = [start(RUN, tmp_path, *KEYS[::order]) for order in orders]
    for run in runs:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
    computed = []
    for run in runs:
        assert run.stdin is not None
        run.stdin.write("\n")
        run.stdin.flush()
    for run in runs:
        computed += run.communicate()[0].split()
        assert run.returncode == 0
    assert sorted(computed) == sorted(KEYS)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{key}.safetensors" for key in KEYS)


def test_several_threads_compute_every_entry_once(tmp_path: Path) -> None:
    computed = []

    def run(number: int) -> None:
        cache = Cache(tmp_path)
        for key in KEYS:

            def compute(key: str = key) -> Arrays:
                computed.append(key)
                time.sleep(0.01)
                return {"x": np.arange(number + 1)}

            cache.get_or_compute(key, compute)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(run, range(4)))
    assert sorted(computed) == sorted(KEYS)


def test_what_is_claimed_together_is_taken_in_one_order(tmp_path: Path) -> None:
    files, taken = [tmp_path / name for name in "abc"], []

    def take(number: int) -> None:
        for _ in range(20):
            with claim(*(files if number % 2 else files[::-1])):
                taken.append(number)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(take, range(4)))
    assert len(taken) == 80
    assert list(tmp_path.iterdir()) == []


def test_the_claim_of_a_killed_process_is_given_back(
    file: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(claims, "SILENT_S", 0.2)
    with ThreadPoolExecutor(1) as thread, caplog.at_level(logging.INFO, "twobe3"):

        def wait() -> float:
            with claim(file):
                return time.monotonic()

        given = thread.submit(wait)
        time.sleep(0.5)
        assert not given.done()
        killed = time.monotonic()
        os.kill(holder.pid, signal.SIGKILL)
        assert given.result(60) >= killed
    assert caplog.messages == ["another run makes file: waiting for it (if none is alive, delete .file.claim)"]
    assert list(file.parent.iterdir()) == []


def test_claims_of_the_dead_are_removed_and_no_others(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    claimed = tmp_path / ".file.claim"
    (tmp_path / "features").mkdir()
    dead = tmp_path / "features" / ".other.claim"
    dead.touch()
    remove_claims(tmp_path)
    assert claimed.exists()
    assert not dead.exists()
    holder.kill()
    holder.wait()
    remove_claims(tmp_path)
    assert not claimed.exists()


def test_a_file_system_without_locks_does_without_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(lock: UnixFileLock) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(UnixFileLock, "_acquire", refuse)
    cache = Cache(tmp_path)
    assert cache.get_or_compute(KEYS[0], lambda: {"x": np.arange(3)})["x"].tolist() == [0, 1, 2]
    assert cache.get(KEYS[0]) is not None


def test_an_error_while_computing_gives_the_claim_back(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(ZeroDivisionError):
        cache.get_or_compute(KEYS[0], lambda: {"x": np.zeros(1 // 0)})
    assert list(tmp_path.iterdir()) == []
    assert cache.get_or_compute(KEYS[0], lambda: {"x": np.arange(3)})["x"].tolist() == [0, 1, 2]
