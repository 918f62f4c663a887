"""Workers as jobs of a cluster's queue: SLURM, PBS or LSF, by dask-jobqueue.

The scheduler runs in this process. It and the workers know each other by a certificate made for this run, so that
nobody else can send tasks, or read what travels.
"""

from __future__ import annotations

import logging
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.core.extras import import_optional
from twobe3.runtime.cluster import POLL_S, Cluster, import_distributed
from twobe3.runtime.cluster_worker import WITHOUT_SPILLING

log = logging.getLogger("twobe3")
Queue = Literal["slurm", "pbs", "lsf"]
ROLES = ("client", "scheduler", "worker")
SUBMIT = {"slurm": "sbatch", "pbs": "qsub", "lsf": "bsub"}
# Nothing of a worker's memory on its disk, no pause that waits for room which only its task could free, no web page.
SETTINGS = (
    *(f"export DASK_{name}=False" for name in (*WITHOUT_SPILLING, "DISTRIBUTED__WORKER__MEMORY__PAUSE")),
    "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES=[]",
)


@dataclass(frozen=True)
class Jobs:
    """What is asked of a queue; what is empty is as dask-jobqueue's own configuration says.

    Parameters
    ----------
    cluster : {"slurm", "pbs", "lsf"}
        Whose queue it is.
    jobs : int
        How many jobs; one that ends early is asked for again.
    cores : int
        Of each job, and so many workers has it.
    memory : str
        Of each job, such as ``"16 GB"``.
    walltime, queue, account : str
        As the queue writes them.
    interface : str
        Network interface by which workers and this process reach each other, such as ``"ib0"``.
    directives : tuple of str
        Further ones, such as ``"--gres=gpu:1"``.
    """

    cluster: Queue
    jobs: int
    cores: int
    memory: str
    walltime: str = ""
    queue: str = ""
    account: str = ""
    interface: str = ""
    directives: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """As dask-jobqueue calls them."""
        given = {
            "walltime": self.walltime,
            "queue": self.queue,
            ("project" if self.cluster == "lsf" else "account"): self.account,
            "interface": self.interface,
            "job_extra_directives": [*self.directives],
        }
        return {
            "cores": self.cores,
            "processes": self.cores,
            "memory": self.memory,
            **{name: value for name, value in given.items() if value},
        }


@contextmanager
def start_jobs(asked: Jobs, logs: Path, seen: Path, **how: Any) -> Iterator[Cluster]:
    """The workers of jobs, which end with the block, and by themselves a minute after this process.

    Parameters
    ----------
    asked : Jobs
        What is asked of the queue.
    logs : Path
        Folder for what the jobs print, and while they run for the key of the connections, which only its owner may
        read.
    seen, how
        As for :class:`~twobe3.runtime.cluster.Cluster`.

    Raises
    ------
    EnvironmentFailure
        ``CLUSTER_LOST``: the queue does not take jobs; ``EXTRA_MISSING``.
    """
    distributed = import_distributed()
    import_optional("cryptography", "an encrypted connection", extra="cluster")
    if shutil.which(SUBMIT[asked.cluster]) is None:
        raise _refuse(asked, f"{SUBMIT[asked.cluster]} is not installed here")
    if " " in str(logs.absolute()):
        raise _refuse(asked, "scripts of dask-jobqueue cannot name an output folder with a space in its path")
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".keys-", dir=logs.absolute()) as keys:
        refused: list[str] = []
        cluster = make_cluster(asked, logs.absolute(), Path(keys), refused)
        try:
            _submit(asked, cluster)
            if refused:
                raise _refuse(asked, refused[0])
            client = distributed.Client(cluster, set_as_default=False)
            try:
                yield Cluster(client, seen, **how)
            finally:
                client.close(timeout=POLL_S)
        finally:
            cluster.close()


def make_cluster(asked: Jobs, logs: Path, keys: Path, refused: list[str]) -> Any:
    """A cluster of dask-jobqueue, its scheduler in this process, that has no jobs yet.

    ``keys`` is a private folder; why the queue does not take a job is added to ``refused``.

    Raises EnvironmentFailure ``CLUSTER_LOST``, ``EXTRA_MISSING``.
    """
    make = getattr(import_jobqueue(), f"{asked.cluster.upper()}Cluster")
    own = {**_own_options(asked, logs), "security": _make_certificate(keys), "job_cls": _tell(make.job_cls, refused)}
    try:
        return make(**asked.options(), **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise _refuse(asked, _last_line(error)) from None


def import_jobqueue() -> Any:
    """Import dask-jobqueue, which sets a handler by which Ctrl-C would end the program as if it were done.

    Raises EnvironmentFailure ``EXTRA_MISSING``.
    """
    before = signal.getsignal(signal.SIGINT)
    package = import_optional("dask_jobqueue", "a queue of jobs", extra="cluster")
    if signal.getsignal(signal.SIGINT) is not before:
        signal.signal(signal.SIGINT, before)
    return package


def _tell(job: Any, refused: list[str]) -> type:
    """A kind of jobs that tells why it was not taken; dask cannot close a cluster one of whose jobs raised that."""
    from distributed.deploy.spec import ProcessInterface

    async def start(self: Any) -> None:
        try:
            await job.start(self)
        except (OSError, RuntimeError, ValueError) as error:
            refused.append(_last_line(error))
            log.warning("CLUSTER_LOST: the queue does not take a job: %s", refused[-1])
            await ProcessInterface.start(self)

    return type(job.__name__, (job,), {"start": start})


def _make_certificate(folder: Path) -> Any:
    """A certificate for this run, in a folder that only its owner may enter, as dask takes it."""
    from distributed.security import Security

    made = Security.temporary()
    files = {"ca_file": made.tls_ca_file, "cert": made.tls_client_cert, "key": made.tls_client_key}
    for name, content in files.items():
        (folder / name).write_text(content)
    paths = {f"tls_{role}_{name}": str(folder / name) for role in ROLES for name in ("cert", "key")}
    return Security(require_encryption=True, tls_ca_file=str(folder / "ca_file"), **paths)


def _own_options(asked: Jobs, logs: Path) -> dict[str, Any]:
    """Options that are not the user's, on top of dask-jobqueue's own configuration."""
    import dask

    def setting(name: str, otherwise: Any) -> Any:
        return dask.config.get(f"jobqueue.{asked.cluster}.{name}", None) or otherwise

    local = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
    return {
        "job_name": "twobe3",
        "log_directory": str(logs),
        "scheduler_options": {**setting("scheduler-options", {}), **local},
        "job_script_prologue": [*setting("job-script-prologue", []), *SETTINGS],
        "worker_extra_args": [
            *setting("worker-extra-args", []),
            "--no-dashboard",
            "--dashboard-address",
            "127.0.0.1:0",
        ],
    }


def _submit(asked: Jobs, cluster: Any) -> None:
    """Ask for the jobs, and for others where some end early."""

    async def submit() -> None:
        await cluster

    cluster.scale(jobs=asked.jobs)
    cluster.sync(submit)
    cluster.adapt(minimum_jobs=asked.jobs, maximum_jobs=asked.jobs)


def _refuse(asked: Jobs, what: str) -> EnvironmentFailure:
    return EnvironmentFailure(
        Code.CLUSTER_LOST,
        f"{asked.cluster.upper()} takes no job: {what}",
        remedy="run where jobs can be submitted, or correct [compute]; what was computed is kept",
    )


def _last_line(error: Exception) -> str:
    """What the queue said, without the path of the script."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
