"""A DICOM node under load: many studies at once, its memory, and a kill in the middle.

A model is fitted on phantoms; studies of other phantoms, coarse and under new ids, are stored in a node of its own
process over parallel associations of dcmtk's ``storescu``. Once it is let work; once it is killed (SIGKILL) when it has
predicted a part, while it still receives, and started again: studies of which an object was not answered with success
are sent again. Run::

    python benchmarks/load_node.py FOLDER [--studies 100] [--associations 4]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import pydicom

from load_phantoms import MEMORY_AT, fit_model, write_scans

QUIET_S, BOUND_S = 10.0, 3600.0


@dataclass
class Sent:
    """What senders know: the files that were answered with success, and the studies that were as a whole."""

    files: set[Path] = field(default_factory=set)
    studies: set[int] = field(default_factory=set)


def store(files: Sequence[Path], port: int, number: int, sent: Sent, stopped: Event) -> None:
    """Store a study over an association of its own, unless the node is gone."""
    if stopped.is_set():
        return
    command = ["storescu", "-v", "-aec", "TWOBE3", "127.0.0.1", str(port), *map(str, files)]
    at_once = {**os.environ, "TCP_NODELAY": "1"}  # else each object waits 40 ms for Nagle's algorithm
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=at_once)
    sent.files |= set(list_answered(done.stdout + done.stderr))
    if done.returncode == 0 and sent.files >= set(files):
        sent.studies.add(number)


def list_answered(said: str) -> Iterator[Path]:
    """Files that were answered with success, as ``storescu -v`` says."""
    for sending in said.split("I: Sending file: ")[1:]:
        if "I: Received Store Response (Success)" in sending:
            yield Path(sending.splitlines()[0])


@contextmanager
def node(model: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The node, and the port at which it listens."""
    command = [sys.executable, "-m", "twobe3", "node", str(model), "--out", str(folder), "--port", "0"]
    command += ["--quiet-seconds", str(QUIET_S)]
    folder.mkdir(parents=True, exist_ok=True)
    log = folder.with_suffix(".log")
    with log.open("ab") as stream, subprocess.Popen(command, stderr=stream, text=True) as started:
        try:
            start = log.stat().st_size
            while not (lines := [one for one in log.read_bytes()[start:].decode().splitlines() if "listens as" in one]):
                assert started.poll() is None, log.read_text()
                time.sleep(0.1)
            yield started, int(lines[-1].split()[-1])
        finally:
            started.kill()


def read_lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "node.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def memory_mb(process: subprocess.Popen[str]) -> float:
    """Resident memory."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def run_through(model: Path, folder: Path, studies: Sequence[Sequence[Path]], associations: int) -> None:
    """All studies, and how much memory the node has after some of them."""
    sent, memory, began = Sent(), dict[int, float](), time.monotonic()
    with node(model, folder) as (process, port), ThreadPoolExecutor(associations) as pool:
        memory[0] = memory_mb(process)
        jobs = [pool.submit(store, files, port, n, sent, Event()) for n, files in enumerate(studies)]
        while len(read_lines(folder)) < len(studies):
            assert time.monotonic() - began < BOUND_S, "the node does not come to an end"
            done = len(read_lines(folder))
            memory.update({at: memory_mb(process) for at in MEMORY_AT if at <= done and at not in memory})
            time.sleep(0.05)
        memory.setdefault(len(studies), memory_mb(process))
        for job in jobs:
            job.result()
    describe("one run", folder, studies, sent)
    print("memory of the node, MB:", ", ".join(f"{mb:.0f} after {at}" for at, mb in memory.items()))
    print(f"seconds: {time.monotonic() - began:.0f}")


def run_killed(model: Path, folder: Path, studies: Sequence[Sequence[Path]], associations: int) -> None:
    """All studies, to a node that is killed in the middle and started again."""
    sent, stopped = Sent(), Event()
    with node(model, folder) as (process, port), ThreadPoolExecutor(associations) as pool:
        for number, files in enumerate(studies):
            pool.submit(store, files, port, number, sent, stopped)
        while not read_lines(folder) or len(sent.studies) < len(studies) // 2:
            time.sleep(0.01)
        stopped.set()
        process.send_signal(signal.SIGKILL)
        process.wait()
    answered, predicted = {uid_of(file) for file in sent.files}, len(read_lines(folder))
    print(f"\nkilled: {len(answered)} objects and {len(sent.studies)} studies answered, {predicted} predicted")
    print("of these not on disk:", len(answered - {uid_of(path) for path in (folder / "inbox").rglob("*.dcm")}))
    again = Sent(set(sent.files), set(sent.studies))
    with node(model, folder) as (process, port), ThreadPoolExecutor(associations) as pool:
        left = [number for number in range(len(studies)) if number not in sent.studies]
        for number in sorted(
            left, key=lambda number: sent.files.isdisjoint(studies[number])
        ):  # those first that are cut
            pool.submit(store, studies[number], port, number, again, Event())
        wait_until_done(folder, len(studies))
    describe("killed and started again", folder, studies, again)


def uid_of(file: Path) -> str:
    return str(pydicom.dcmread(file, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def wait_until_done(folder: Path, studies: int) -> None:
    """Wait until every study has a line, and then for one that there must not be."""
    began = time.monotonic()
    while len({line["study"] for line in read_lines(folder)}) < studies:
        assert time.monotonic() - began < BOUND_S, "the node does not come to an end"
        time.sleep(0.1)
    time.sleep(2 * QUIET_S)


def describe(what: str, folder: Path, studies: Sequence[Sequence[Path]], sent: Sent) -> None:
    """Print what the senders and the log of the node say."""
    lines = read_lines(folder)
    states = Counter(f"{line['state']} {line['code'] or ''}".strip() for line in lines)
    predicted = Counter(line["study"] for line in lines if line["state"] == "predicted")
    print(f"\n{what}: {len(studies)} studies of {sum(map(len, studies))} objects; answered whole: {len(sent.studies)}")
    print(f"log: {dict(states)}; studies predicted more than once: {sum(n > 1 for n in predicted.values())}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="new or empty; keeps model, studies and what the nodes wrote")
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--associations", type=int, default=4)
    asked = parser.parse_args()
    model, studies = fit_model(asked.folder), list(write_scans(asked.folder / "studies", asked.studies))
    run_through(model, asked.folder / "through", studies, asked.associations)
    run_killed(model, asked.folder / "killed", studies, asked.associations)


if __name__ == "__main__":
    main()
