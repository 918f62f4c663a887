"""The page under load: many uploads at once, the memory of its processes, and a kill in the middle.

A model is fitted on phantoms; scans of other phantoms, coarse and under new ids, are uploaded as zip files to a server
in a process of its own, several at a time. Once it is let work; once it is killed (SIGKILL) when half of the uploads
were accepted, while others come, and started again: uploads that were not answered are sent again. Every risk is
compared with that of ``tb.predict``. Run::

    python benchmarks/load_page.py FOLDER [--uploads 100] [--at-once 8]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import httpx2

import twobe3 as tb
from load_phantoms import DIFFERENT, MEMORY_AT, fit_model, write_scans

MOST_WAITING, BOUND_S = 10, 3600.0


@dataclass
class Scan:
    """A scan as a zip file, and the risk that it must get."""

    content: bytes
    risk: float


def zip_scans(folder: Path, model: Path, uploads: int) -> list[Scan]:
    """Few phantoms, each under many ids."""
    scans: list[Scan] = []
    for number, files in enumerate(write_scans(folder, uploads)):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in files:
                archive.write(file, file.name)
        if number < DIFFERENT:
            (predicted,) = tb.predict(model, files, force=True).predictions
            assert predicted.risk is not None
        scans.append(Scan(content.getvalue(), predicted.risk if number < DIFFERENT else scans[number % DIFFERENT].risk))
    return scans


@dataclass
class Sent:
    """What the clients know: the job of each upload that was accepted, and how often they were told to wait."""

    jobs: dict[int, str] = field(default_factory=dict)
    waits: int = 0


@contextmanager
def serve(model: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server, and its address."""
    command = [sys.executable, "-m", "twobe3", "serve", str(model), "--out", str(folder), "--port", "0"]
    command += ["--most-waiting", str(MOST_WAITING)]
    log = folder.with_suffix(".log")
    with log.open("w") as stream, subprocess.Popen(command, stderr=stream, text=True) as started:
        try:
            while not (found := re.search(r"the page is at (\S+)/\n", log.read_text())):
                assert started.poll() is None, log.read_text()
                time.sleep(0.1)
            yield started, found[1]
        finally:
            started.kill()


def send(address: str, model: str, scans: Sequence[Scan], number: int, sent: Sent, stopped: Event) -> None:
    """Upload a scan, as often as the server says to wait, unless it is gone."""
    with httpx2.Client(base_url=address, timeout=120) as client:
        while not stopped.is_set():
            try:
                answer = client.post(
                    "/api/jobs",
                    data={"model": model, "force": "true"},
                    files={"files": ("a.zip", scans[number].content)},
                )
            except httpx2.HTTPError:
                return
            if answer.status_code == 202:
                sent.jobs[number] = answer.json()["id"]
                return
            assert answer.status_code == 429, answer.text
            sent.waits += 1
            time.sleep(int(answer.headers["Retry-After"]))


def read_jobs(folder: Path) -> dict[str, dict[str, Any]]:
    """Every job on disk."""
    found = {}
    for path in (folder / "jobs").glob("*/job.json"):
        found[path.parent.name] = json.loads(path.read_text())
    return found


def count_ended(folder: Path) -> int:
    return sum(job["finished"] is not None for job in read_jobs(folder).values())


def read_memory_mb(process: int, name: str) -> float:
    """Resident memory (``VmRSS``), or the most that there was (``VmHWM``)."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) / 1024


def find_worker(server: int) -> int:
    """The process that predicts: the largest of the server's children."""
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    for thread in Path(f"/proc/{server}/task").iterdir():
        children += (thread / "children").read_text().split()
    return max(map(int, children), key=lambda child: read_memory_mb(child, "VmRSS"))


def run_through(model: Path, folder: Path, scans: Sequence[Scan], at_once: int) -> None:
    """All uploads, and how much memory the processes had at most after some of them."""
    sent, memory, began = Sent(), dict[int, tuple[float, float]](), time.monotonic()
    model_id = tb.models.read_card(model)[1]
    with serve(model, folder) as (process, address), ThreadPoolExecutor(at_once) as pool:
        first = read_memory_mb(process.pid, "VmRSS")
        tasks = [pool.submit(send, address, model_id, scans, n, sent, Event()) for n in range(len(scans))]
        while (ended := count_ended(folder)) < len(scans):
            assert time.monotonic() - began < BOUND_S, "the server does not come to an end"
            for at in MEMORY_AT:
                if at <= ended and at not in memory:
                    memory[at] = measure(process.pid)
            time.sleep(0.1)
        memory.setdefault(len(scans), measure(process.pid))
        for task in tasks:
            task.result()
    describe("one run", folder, scans, sent)
    print(f"server before the first upload: {first:.0f} MB")
    for at, (server, worker) in memory.items():
        print(f"peak after {at}: server {server:.0f} MB, worker {worker:.0f} MB")
    print(f"told to wait {sent.waits} times; {time.monotonic() - began:.0f} s")


def measure(server: int) -> tuple[float, float]:
    return read_memory_mb(server, "VmHWM"), read_memory_mb(find_worker(server), "VmHWM")


def run_killed(model: Path, folder: Path, scans: Sequence[Scan], at_once: int) -> None:
    """All uploads, to a server that is killed in the middle and started again."""
    sent, stopped, model_id = Sent(), Event(), tb.models.read_card(model)[1]
    with serve(model, folder) as (process, address), ThreadPoolExecutor(at_once) as pool:
        for number in range(len(scans)):
            pool.submit(send, address, model_id, scans, number, sent, stopped)
        while len(sent.jobs) < len(scans) // 2:
            time.sleep(0.01)
        worker = find_worker(process.pid)
        process.kill()
        stopped.set()
        process.wait()
    accepted = set(sent.jobs.values())
    kept = read_jobs(folder)
    ended = sum(job["finished"] is not None for job in kept.values())
    print(f"\nkilled: {len(accepted)} uploads accepted, {ended} predicted")
    print("accepted and not on disk:", len(accepted - set(kept)))
    print("on disk and not answered:", len(set(kept) - accepted))
    began = time.monotonic()
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() - began < 60, "the worker outlives the server"
        time.sleep(0.01)
    with serve(model, folder) as (process, address), ThreadPoolExecutor(at_once) as pool:
        for number in sorted(set(range(len(scans))) - set(sent.jobs)):
            pool.submit(send, address, model_id, scans, number, sent, Event())
        while len(sent.jobs) < len(scans) or count_ended(folder) < len(read_jobs(folder)):
            assert time.monotonic() - began < BOUND_S, "the server does not come to an end"
            time.sleep(0.1)
    describe("killed and started again", folder, scans, sent)


def describe(what: str, folder: Path, scans: Sequence[Scan], sent: Sent) -> None:
    """Print what became of the uploads, and what is left of them."""
    jobs = read_jobs(folder)
    states = Counter(f"{job['state']} {job['code'] or ''}".strip() for job in jobs.values())
    answered = {number: jobs[job] for number, job in sent.jobs.items() if job in jobs}
    right = sum([one["risk"] for one in job["predictions"]] == [scans[number].risk] for number, job in answered.items())
    left = [path for path in folder.rglob("*") if path.is_file() and {"input", "work", "incoming"} & set(path.parts)]
    print(f"\n{what}: {len(scans)} uploads of {sum(len(scan.content) for scan in scans) / len(scans) / 1e6:.1f} MB")
    print(f"accepted {len(sent.jobs)}; jobs {dict(states)}; with the risk of tb.predict {right}")
    print(f"more than one prediction begun: {sum(job['attempts'] > 1 for job in jobs.values())}")
    print(f"files of uploads left on disk: {len(left)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="new or empty; keeps the model, and what the servers wrote")
    parser.add_argument("--uploads", type=int, default=100)
    parser.add_argument("--at-once", type=int, default=8)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TWOBE3_KEY_FILE", str(arguments.folder / "pseudonym.key"))
    model = fit_model(arguments.folder)
    scans = zip_scans(arguments.folder / "scans", model, arguments.uploads)
    run_through(model, arguments.folder / "through", scans, arguments.at_once)
    run_killed(model, arguments.folder / "killed", scans, arguments.at_once)


if __name__ == "__main__":
    main()
