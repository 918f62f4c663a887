"""Tasks on the workers of a dask scheduler: the same results, errors whole, nobody blamed for others."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
import torch
from distributed import LocalCluster
from tests.runtime.slurm import wait_until
from tests.runtime.test_parallel import Deadly, Treacherous, die, fail, reduced, refuse, scaled, threads

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure, UnusableScanError
from twobe3.runtime import cluster as client_side
from twobe3.runtime import cluster_worker, jobs, process
from twobe3.runtime.cluster import Cluster, connect
from twobe3.runtime.cluster_worker import PACKAGES, WITHOUT_SPILLING
from twobe3.runtime.parallel import run_tasks

KEPT_IN_MEMORY = {name.lower().replace("__", "."): False for name in WITHOUT_SPILLING}
PATIENT = "Mustermann"
HERE: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": 60}


@pytest.fixture(autouse=True, scope="module")
def _no_spilling() -> Iterator[None]:
    with dask.config.set({**KEPT_IN_MEMORY, "distributed.scheduler.http.routes": []}):
        yield


@pytest.fixture(scope="module")
def scheduler() -> Iterator[LocalCluster]:
    """Two processes; where one is killed another comes."""
    with LocalCluster(**{**HERE, "n_workers": 2}, host="127.0.0.1") as local:
        yield local


@pytest.fixture(scope="module")
def thread() -> Iterator[LocalCluster]:
    """One worker, in a thread of this process."""
    with LocalCluster(**HERE, processes=False, host="127.0.0.1", protocol="tcp") as local:
        yield local


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    path = tmp_path / "seen"
    path.touch()
    return path


@pytest.fixture
def cluster(scheduler: LocalCluster, seen: Path) -> Iterator[Cluster]:
    with connect(scheduler.scheduler_address, seen) as connected:
        yield connected


@pytest.fixture
def in_thread(thread: LocalCluster, seen: Path) -> Iterator[Cluster]:
    with connect(thread.scheduler_address, seen) as connected:
        yield connected


def meet(folder: Path, task: int) -> tuple[int, int, str]:
    """Not done before two processes are at it."""
    (folder / str(os.getpid())).touch()
    wait_until(lambda: len(list(folder.iterdir())) == 2, limit_s=120)
    return os.getpid(), process.worker_number(), os.environ.get("TWOBE3_OF_A_TEST", "")


def halved(_: str, task: str) -> torch.Tensor:
    return torch.full((2,), 0.5, dtype=torch.bfloat16)


def lengthen(shared: list[int], task: int) -> int:
    shared.append(task)
    return len(shared)


def test_every_task_is_done_once_with_the_same_bits_as_here(cluster: Cluster) -> None:
    done = list(run_tasks(scaled, range(7), shared=3.0, workers=cluster, description="scaling"))
    assert sorted(done) == [(task, 3.0 * task) for task in range(7)]
    alone, together = (
        dict(run_tasks(reduced, range(4), shared=400, workers=workers, description="products"))
        for workers in (1, cluster)
    )
    assert alone == together
    assert list(run_tasks(scaled, [], shared=1.0, workers=cluster, description="nothing")) == []


def test_a_task_has_one_thread_and_a_worker_a_number_of_its_machine(
    scheduler: LocalCluster, seen: Path, tmp_path: Path
) -> None:
    (folder := tmp_path / "met").mkdir()
    with connect(scheduler.scheduler_address, seen, environment={"TWOBE3_OF_A_TEST": "told"}) as cluster:
        done = dict(run_tasks(meet, range(6), shared=folder, workers=cluster, description="numbers"))
        counts = run_tasks(threads, range(3), shared=None, workers=cluster, description="threads")
        assert {count for _, count in counts} == {1}
    assert {number for _, number, _ in done.values()} == {0, 1}
    assert len({pid for pid, _, _ in done.values()} - {os.getpid()}) == 2
    assert {variable for _, _, variable in done.values()} == {"told"}


def test_a_value_that_dask_itself_cannot_fetch_arrives(cluster: Cluster) -> None:
    ((_, value),) = run_tasks(halved, ["one"], shared="", workers=cluster, description="halves")
    assert value.dtype == torch.bfloat16
    assert value.tolist() == [0.5, 0.5]


def test_errors_arrive_whole(cluster: Cluster) -> None:
    with pytest.raises(UnusableScanError) as caught:
        list(run_tasks(refuse, [1], shared=None, workers=cluster, description="refusing"))
    assert (caught.value.code, caught.value.reason) == (Code.SLICE_GAP, "a slice is missing at 12.0 mm")
    with pytest.raises(SystemExit):
        list(run_tasks(fail, ["the end of the program"], shared=None, workers=cluster, description="failing"))
    with pytest.raises(EnvironmentFailure, match=r"INTERNAL_ERROR: TwoArgumentsError at test_parallel.py:\d+ in fail"):
        list(run_tasks(fail, ["two arguments"], shared=None, workers=cluster, description="failing"))
    with pytest.raises(RuntimeError, match="cannot be unpickled here"):
        list(run_tasks(scaled, [0], shared=Treacherous(), workers=cluster, description="starting"))  # type: ignore[arg-type]


def test_a_task_whose_worker_is_killed_is_tried_once_more_and_no_other_is_blamed(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """dask itself would try it four times, and give up harmless tasks that wait beside it."""
    done: list[tuple[int, int]] = []
    running = run_tasks(
        die, range(12), shared=tmp_path, workers=cluster, description="dying", name=lambda task: f"fold {task}"
    )
    with pytest.raises(EnvironmentFailure, match="“dying”: fold 0 ") as caught:
        done.extend(running)
    assert caught.value.code is Code.WORKER_DIED
    assert dict(done) == {task: 10 * task for task in range(1, 12)}
    ends = [record.getMessage() for record in caplog.records if "fold 0: " in record.getMessage()]
    assert [text.split("; ")[-1] for text in ends] == ["it is tried once more, after the others", "it is given up"]
    how: dict[str, Any] = {"shared": tmp_path, "workers": cluster, "description": "dying"}
    assert dict(run_tasks(die, [0, 2], **how, instead=lambda task: -1)) == {0: -1, 2: 20}


def test_workers_that_cannot_take_what_tasks_share_are_an_error_and_no_hang(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_side, "MOST_STILLBORN", 2)
    with pytest.raises(EnvironmentFailure, match="could start") as caught:
        list(run_tasks(scaled, [0, 1], shared=Deadly(), workers=cluster, description="starting"))  # type: ignore[arg-type]
    assert caught.value.code is Code.WORKER_DIED


def test_dask_sees_and_logs_nothing_of_patients(in_thread: Cluster, tmp_path: Path) -> None:
    """Keys, events and logs of the scheduler and the workers, what it holds after the tasks, and its folder."""
    tasks = [f"{PATIENT} {number}" for number in range(3)]
    client, states = in_thread.client, []
    for _ in run_tasks(halved, tasks, shared=PATIENT, workers=in_thread, description="halves"):
        states.append(client.run_on_scheduler(lambda dask_scheduler: [*dask_scheduler.tasks]))
    with pytest.raises(EnvironmentFailure):
        list(run_tasks(fail, ["unpicklable"], shared=PATIENT, workers=in_thread, description="failing"))
    told = [states, client.get_events(), client.get_task_stream()]
    told += [client.get_scheduler_logs(), client.get_worker_logs()]
    assert [key for keys in states for key in keys]
    assert all(key.startswith("twobe3-") for keys in states for key in keys)
    assert PATIENT not in repr(told)
    wait_until(lambda: not any(client.run(lambda dask_worker: [*dask_worker.data]).values()))
    (folder,) = client.run(lambda dask_worker: dask_worker.local_directory).values()
    assert [path for path in Path(folder).rglob("*") if path.is_file()] == []


def test_studies_that_share_a_worker_take_turns(thread: LocalCluster, in_thread: Cluster, seen: Path) -> None:
    with connect(thread.scheduler_address, seen) as other:
        first, second = (
            run_tasks(scaled, range(4), shared=factor, workers=one, description="scaling")
            for factor, one in ((2.0, in_thread), (3.0, other))
        )
        done = list(zip(first, second, strict=True))
    assert sorted(one for one, _ in done) == [(task, 2.0 * task) for task in range(4)]
    assert sorted(one for _, one in done) == [(task, 3.0 * task) for task in range(4)]


def unfit(settings: dict[str, Any], seen: Path, **how: Any) -> str:
    """What is said of a worker that was started so."""
    spilling = dict.fromkeys(KEPT_IN_MEMORY, 0.6) if settings.pop("spills", False) else {}
    with (
        dask.config.set(spilling),
        LocalCluster(**{**HERE, **settings}, processes=False, host="127.0.0.1", protocol="tcp") as local,
        connect(local.scheduler_address, seen, **how) as cluster,
        pytest.raises(EnvironmentFailure) as caught,
    ):
        list(run_tasks(scaled, [0], shared=1.0, workers=cluster, description="scaling"))
    assert caught.value.code is Code.CLUSTER_UNFIT
    return f"{caught.value.reason}: {caught.value.remedy}"


def test_a_worker_that_may_write_its_memory_to_disk_is_refused(seen: Path) -> None:
    said = unfit({"spills": True, "memory_limit": "8 GB"}, seen)
    assert "to its disk" in said
    assert all(f"DASK_{name}=False" in said for name in WITHOUT_SPILLING)


def test_a_worker_of_several_threads_is_refused(seen: Path) -> None:
    assert unfit({"threads_per_worker": 2}, seen).endswith("has 2 threads: start the workers with --nthreads 1")


def test_a_worker_without_the_file_system_is_refused(seen: Path) -> None:
    assert "does not see the output folder" in unfit({}, seen.parent / "elsewhere")


def test_a_worker_without_the_gpu_of_the_study_is_refused(seen: Path) -> None:
    assert "has no GPU" in unfit({}, seen, gpu=True)


@pytest.mark.parametrize("package", ["python", PACKAGES[0], PACKAGES[1]])
def test_a_worker_of_other_versions_is_refused(package: str, seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = cluster_worker.read_versions()
    monkeypatch.setattr(client_side, "read_versions", lambda: {**own, package: "0.0"})
    assert f"has {package} {own[package]} instead of 0.0: " in unfit({}, seen)


def test_that_no_worker_comes_is_an_error_after_the_time_one_waits(seen: Path) -> None:
    with (
        LocalCluster(**{**HERE, "n_workers": 0}, processes=False, host="127.0.0.1", protocol="tcp") as local,
        connect(local.scheduler_address, seen, patience_min=0.01) as cluster,
        pytest.raises(EnvironmentFailure, match=r"no worker came in 0\.01 minutes") as caught,
    ):
        list(run_tasks(scaled, [0], shared=1.0, workers=cluster, description="scaling"))
    assert caught.value.code is Code.CLUSTER_LOST


def test_that_nobody_answers_is_an_error(seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_side, "CONNECT_S", 1.0)
    with (
        pytest.raises(EnvironmentFailure, match=r"at tcp://127\.0\.0\.1:9 cannot be reached") as caught,
        connect("tcp://127.0.0.1:9", seen),
    ):
        pass
    assert caught.value.code is Code.CLUSTER_LOST


def test_an_encrypted_scheduler_is_reached_with_the_keys_of_dasks_configuration(seen: Path, tmp_path: Path) -> None:
    security = jobs._make_certificate(tmp_path)
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0 or tmp_path.stat().st_mode & 0o077 == 0
    names = {"ca-file": "ca_file", "client.cert": "cert", "client.key": "key"}
    own = {f"distributed.comm.tls.{name}": str(tmp_path / file) for name, file in names.items()}
    with LocalCluster(**HERE, processes=False, host="127.0.0.1", protocol="tls", security=security) as local:
        assert local.scheduler_address.startswith("tls://")
        with dask.config.set(own), connect(local.scheduler_address, seen) as cluster:
            assert dict(run_tasks(scaled, [2], shared=3.0, workers=cluster, description="scaling")) == {2: 6.0}
        with pytest.raises(EnvironmentFailure, match="cannot be reached"), connect(local.scheduler_address, seen):
            pass


@pytest.mark.parametrize("package", ["distributed", "dask_jobqueue", "cryptography"])
def test_without_the_extra_the_error_says_what_to_install(
    package: str, seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    asked = jobs.Jobs("slurm", 1, 1, "1 GB")
    with pytest.raises(EnvironmentFailure) as caught, jobs.start_jobs(asked, seen.parent, seen):
        pass
    assert (caught.value.code, caught.value.remedy) == (Code.EXTRA_MISSING, "pip install 'twobe3[cluster]'")


@pytest.mark.parametrize("queue", ["slurm", "pbs", "lsf"])
def test_a_queue_that_is_not_here_is_an_error(queue: Any, seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(seen.parent))
    with (
        pytest.raises(EnvironmentFailure, match=f"{jobs.SUBMIT[queue]} is not installed here") as caught,
        jobs.start_jobs(jobs.Jobs(queue, 1, 1, "1 GB"), seen.parent, seen),
    ):
        pass
    assert caught.value.code is Code.CLUSTER_LOST


SCRIPTS = {
    "slurm": "-J twobe3; -p long; -A pet; -t 02:00; --cpus-per-task=4; --mem=15G; --exclusive",
    "pbs": "-N twobe3; -q long; -A pet; -l walltime=02:00; -l select=1:ncpus=4:mem=15GB; --exclusive",
    "lsf": '-J twobe3; -q long; -P "pet"; -W 02:00; -n 4; -M 16000; --exclusive',
}
MARKS = {"slurm": "#SBATCH", "pbs": "#PBS", "lsf": "#BSUB"}


@pytest.mark.parametrize("queue", sorted(SCRIPTS))
def test_the_script_of_a_job_says_to_each_queue_what_it_asks_for(
    queue: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the manuals of sbatch, qsub and bsub have it, with one worker a core, encrypted, without a file or a page."""
    asked = jobs.Jobs(queue, 1, 4, "16 GB", "02:00", "long", "pet", "lo", ("--exclusive",))
    for name in [name for name in sys.modules if name.startswith("dask_jobqueue")]:
        monkeypatch.delitem(sys.modules, name)
    before = signal.getsignal(signal.SIGINT)
    jobs.import_jobqueue()
    assert signal.getsignal(signal.SIGINT) is before  # else Ctrl-C would end a run with status 0
    site = {f"jobqueue.{queue}.job-script-prologue": ["module load python"]}
    with (
        dask.config.set({**site, "jobqueue.lsf.use-stdin": True, "jobqueue.lsf.lsf-units": "mb"}),
        jobs.make_cluster(asked, tmp_path, tmp_path, []) as cluster,
    ):
        script, address = cluster.job_script(), cluster.scheduler_address
    lines = [f"{MARKS[queue]} {line}" for line in SCRIPTS[queue].split("; ")]
    assert [line for line in lines if line not in script.splitlines()] == []
    command = script.strip().splitlines()[-1]
    assert address.startswith("tls://127.0.0.1:")
    options = [address, "--nthreads 1", "--nworkers 4", "--interface lo", "--protocol tls://", "--no-dashboard"]
    assert [option for option in options if f" {option} " not in f"{command} "] == []
    assert f"--tls-key {tmp_path}/key" in command
    assert "module load python" in script
    assert all(f"export DASK_{name}=False" in script for name in WITHOUT_SPILLING)
