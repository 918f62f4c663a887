"""A study on the workers of a cluster: the same bytes as in one process, and nothing lost with the cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import LocalCluster
from safetensors import safe_open
from tests.runtime.slurm import ask, find_missing, start_slurm, wait_until

import twobe3 as tb
from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.runtime.cluster_worker import WITHOUT_SPILLING
from twobe3.runtime.jobs import Jobs, start_jobs

MODELS = """
audit = true
permutations = 2
[[model]]
kind = "pooled"
weights = "random"
layer = 2
slice_size = 32
planes = ["axial"]
penalties = [10.0, 1000.0]
[[model]]
kind = "cnn3d"
epochs = 1
fewest_steps = 2
fewest_epochs = 1
width = 4
"""
SLURM = """
cluster = "slurm"
jobs = 2
memory = "2 GB"
walltime = "00:30:00"
queue = "test"
interface = "lo"
directives = ["--comment=study"]
"""
# They tell when something was computed, and how long it took.
OF_THE_RUN = {"run.json", "report.html", "finished.json", "tables/parameters.csv", "tables/parameters.tex"}
PATIENTS = [f"P{i:02d}" for i in range(8)]


@pytest.fixture(scope="module")
def hospital(new_tiny_cohort: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospital")
    new_tiny_cohort(folder).patients(len(PATIENTS)).study(extra=MODELS)
    return folder


@pytest.fixture(scope="module")
def alone(hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    tb.run(hospital / "study.toml", out, workers=1)
    return out


def write_study(hospital: Path, name: str, compute: str) -> Path:
    """The study with other workers, in a file beside it."""
    path = hospital / f"{name}.toml"
    path.write_text(f'{(hospital / "study.toml").read_text()}\n[compute]\nscheduler = "dask"\n{compute}\n')
    return path


def read(out: Path) -> dict[str, object]:
    """The content of every file that does not tell times, arrays by their bytes."""
    found: dict[str, object] = {}
    for path in filter(Path.is_file, out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.suffix == ".safetensors":  # the library writes metadata in any order
            with safe_open(path, framework="numpy") as stored:
                arrays = {key: stored.get_tensor(key) for key in stored.keys() if key != "seconds"}  # noqa: SIM118
                metadata = dict(stored.metadata() or {})
            if name.startswith("folds/"):
                del metadata["checksum"]  # of the seconds too
            found[name] = metadata, {key: (array.dtype, array.shape, array.tobytes()) for key, array in arrays.items()}
        elif name not in OF_THE_RUN and not name.startswith("cluster/"):
            found[name] = path.read_bytes()
    return found


def check_same(out: Path, alone: Path) -> None:
    here, there = read(alone), read(out)
    assert sorted(there) == sorted(here)
    assert [name for name in here if here[name] != there[name]] == []
    assert {"predictions.csv", "evaluation.json", "audit.json", "cohort.json"} < set(here)
    platforms = [json.loads((folder / "run.json").read_text())["configuration"]["compute"] for folder in (out, alone)]
    assert platforms[0] == platforms[1] == {"device": "auto", "precision": "auto", "maps": "auto"}


def test_a_study_on_a_cluster_gives_the_bytes_of_one_process(hospital: Path, alone: Path, tmp_path: Path) -> None:
    settings = {name.lower().replace("__", "."): False for name in WITHOUT_SPILLING}
    local = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with dask.config.set(settings), LocalCluster(**local, silence_logs=60) as cluster:
        study = write_study(hospital, "existing", f'address = "{cluster.scheduler_address}"')
        tb.run(study, tmp_path / "out")
    check_same(tmp_path / "out", alone)
    assert [*(tmp_path / "out" / "cluster").iterdir()] == []


@contextmanager
def start_processes(folder: Path, workers: int = 1) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scheduler and workers as somebody would start them; gives the address, and the scheduler's process."""
    folder.mkdir()
    environment = {**os.environ, **{f"DASK_{name}": "False" for name in WITHOUT_SPILLING}}
    common = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    about = folder / "scheduler.json"
    scheduler = ["dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(about), *common]
    worker = ["dask_worker", "--host", "127.0.0.1", "--nthreads", "1", "--death-timeout", "20", *common]
    worker += ["--local-directory", str(folder)]
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str]) -> None:
        with (folder / "log").open("ab") as output:
            command = [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:]]
            started.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))

    try:
        start(scheduler)
        wait_until(lambda: about.exists() and "address" in about.read_text())
        address = json.loads(about.read_text())["address"]
        for _ in range(workers):
            start([*worker, address])
        yield address, started[0]
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(60)


@contextmanager
def when(condition: Callable[[], bool], action: Callable[[], None]) -> Iterator[None]:
    """Do something once, as soon as a condition holds, beside what is done inside."""
    done = threading.Event()

    def watch() -> None:
        wait_until(condition)
        action()
        done.set()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert done.is_set()


def test_a_study_whose_scheduler_is_lost_says_so_and_goes_on_with_another(
    hospital: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with ExitStack() as stack:
        address, scheduler = stack.enter_context(start_processes(tmp_path / "first"))
        stack.enter_context(when(lambda: len([*out.glob("folds/*")]) > 1, scheduler.kill))
        with pytest.raises(EnvironmentFailure, match="the scheduler is gone") as caught:
            tb.run(write_study(hospital, "lost", f'address = "{address}"'), out)
    assert caught.value.code is Code.CLUSTER_LOST
    before = {path: path.stat().st_mtime_ns for path in out.glob("folds/*.safetensors")}
    assert before
    assert not (out / "predictions.csv").exists()
    with start_processes(tmp_path / "second") as (address, _):
        tb.run(write_study(hospital, "lost", f'address = "{address}"'), out)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    check_same(out, alone)
    for path in (tmp_path / "first", tmp_path / "second"):  # what dask wrote, its logs included
        written = b"".join(file.read_bytes() for file in path.rglob("*") if file.is_file())
        assert b"Registered to" in written
        assert [patient for patient in PATIENTS if patient.encode() in written] == []


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if missing := find_missing():
        pytest.skip(f"SLURM is not installed: {', '.join(missing)}")
    with start_slurm(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


def test_a_queue_that_takes_no_job_says_why(
    slurm: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm[name])
    asked = Jobs("slurm", 1, 1, "1 GB", queue="absent", interface="lo")
    with (
        pytest.raises(EnvironmentFailure, match=r"SLURM takes no job: .*[Ii]nvalid partition") as caught,
        start_jobs(asked, tmp_path, tmp_path),
    ):
        pass
    assert caught.value.code is Code.CLUSTER_LOST
    assert [*tmp_path.iterdir()] == []


def test_a_study_by_jobs_of_slurm_outlives_the_loss_of_one(
    hospital: Path,
    alone: Path,
    slurm: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One job is killed in the middle, as by a node that is lost; another comes in its place."""
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm[name])
    out, seen = tmp_path / "out", []

    def kill_first_job() -> None:
        seen.extend(ask(["squeue", "-h", "-o", "%i %j %T %P %k %M %N"], slurm).splitlines())
        subprocess.run(["scancel", "--signal=KILL", "--full", seen[0].split()[0]], env=slurm, check=True)

    with when(lambda: len([*out.glob("folds/*")]) > 1, kill_first_job):
        tb.run(write_study(hospital, "slurm", SLURM), out)
    check_same(out, alone)
    print("\n".join(seen))
    assert sorted(line.split()[1:5] for line in seen) == [["twobe3", "RUNNING", "test", "study"]] * 2
    ends = [record.getMessage() for record in caplog.records if record.getMessage().startswith("WORKER_DIED")]
    print("\n".join(ends))
    assert ends
    assert not any("given up" in text for text in ends)
    wait_until(lambda: ask(["squeue", "-h"], slurm) == "")
    jobs = (Path(slurm["SLURM_CONF"]).parent / "jobs.txt").read_text().splitlines()
    print("\n".join(jobs))
    assert {path.name for path in (out / "cluster").iterdir()} >= {"twobe3-1.err", "twobe3-2.err"}
    assert not list((out / "cluster").glob(".*"))
