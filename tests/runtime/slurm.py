"""A SLURM of a test's own, on this machine's loopback alone, in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue", "sinfo", "scontrol")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
SchedulerParameters=sched_interval=2
{nodes}
PartitionName=test Nodes=ALL Default=YES State=UP
"""


def find_missing() -> list[str]:
    """Programs of SLURM and munge that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]


@contextmanager
def start_slurm(folder: Path, nodes: int = 2, cpus: int = 2) -> Iterator[dict[str, str]]:
    """Run a controller and nodes; gives the environment in which its commands find it."""
    environment = {**os.environ, "PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}
    for name in ("state", *(f"spool.node{n}" for n in range(nodes))):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    host = socket.gethostname()
    controller, *ports = free_ports(1 + nodes)
    lines = [
        f"NodeName=node{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=8000 State=UNKNOWN"
        for n, port in enumerate(ports)
    ]
    user = pwd.getpwuid(os.getuid()).pw_name
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(host=host, controller=controller, user=user, folder=folder, nodes="\n".join(lines))
    )
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    munge = ["munged", "--foreground", "--force", f"--key-file={key}"]
    munge += [f"--{what}-file={folder}/munge.{what}" for what in ("log", "pid", "seed")]
    commands = [
        [*munge, f"--socket={folder}/munge.socket"],
        ["slurmctld", "-D", "-f", folder / "slurm.conf"],
        *(["slurmd", "-D", "-N", f"node{n}", "-f", folder / "slurm.conf"] for n in range(nodes)),
    ]
    with ExitStack() as stack:
        for command in commands:
            stack.enter_context(keep_running([str(part) for part in command], folder, environment))
            if command[0] == "munged":
                wait_until(lambda: (folder / "munge.socket").exists())
        wait_until(lambda: count_idle(environment) == nodes)
        yield environment


@contextmanager
def keep_running(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    with (folder / f"{command[0]}.out").open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def count_idle(environment: dict[str, str]) -> int:
    return ask(["sinfo", "-h", "-N", "-o", "%T"], environment).split().count("idle")


def ask(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def wait_until(condition: Callable[[], bool], limit_s: float = 500) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
