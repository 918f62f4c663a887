"""``[compute]``: where networks compute, and which workers do the tasks."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from twobe3.runtime.device import Device, DeviceName, MapsBy, Precision
from twobe3.runtime.jobs import Jobs, Queue
from twobe3.study.section import Length, Section

Directive = Annotated[str, Field(pattern=r"^[^\n\r]*$")]
"""What stands in a line of a job's script."""

QUEUE_KEYS = ("cluster", "jobs", "cores", "memory", "walltime", "queue", "account", "interface", "directives")
WORKER_KEYS = {"scheduler", "address", *QUEUE_KEYS, "patience_min"}


class DeviceSection(Section):
    """Where networks compute, and in which precision they are trained.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        ``"auto"``: a GPU if there is one.
    precision : {"auto", "32", "bf16"}
        On a GPU of training, where ``"bf16"`` is mixed precision; on the CPU of the maps of frozen 2D networks.
    maps : {"auto", "torch", "openvino"}
        What computes the maps of frozen 2D networks on the CPU; ``"auto"``: OpenVINO where it is installed (extra
        ``[fast]``).
    """

    device: DeviceName = "auto"
    precision: Precision = "auto"
    maps: MapsBy = "auto"

    def resolve(self, device: DeviceName | None = None, precision: Precision | None = None) -> Device:
        """The device of the models; what is given goes before the section."""
        return Device(device or self.device, precision or self.precision, maps=self.maps)


class ComputeSection(DeviceSection):
    """``[compute]``: where networks compute, in which precision they are trained, and which workers do the tasks.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        ``"auto"``: a GPU if there is one.
    precision : {"auto", "32", "bf16"}
        On a GPU of training, where ``"bf16"`` is mixed precision; on the CPU of the maps of frozen 2D networks.
    maps : {"auto", "torch", "openvino"}
        What computes the maps of frozen 2D networks on the CPU; ``"auto"``: OpenVINO where it is installed (extra
        ``[fast]``).
    scheduler : {"local", "dask"}
        Who hands out the tasks: the processes of this machine, or a dask scheduler, whose workers may be anywhere
        (extra ``[cluster]``).
    address : str
        Of a dask scheduler that runs already, ``tcp://HOST:PORT`` or ``tls://HOST:PORT``.
    cluster : {"slurm", "pbs", "lsf"}
        The queue to which jobs are submitted, instead of an address.
    jobs, cores : int
        How many jobs, and how many workers, of one thread each, in one.
    memory : str
        Of a job, for instance ``"8 GB"``.
    walltime, queue, account : str
        As the queue calls them.
    interface : str
        The network device by which workers reach this process.
    directives : tuple of str
        Further lines of the job's head.
    patience_min : float
        Minutes without any worker after which the run ends.
    """

    scheduler: Literal["local", "dask"] = "local"
    address: Annotated[str, Field(pattern=r"^(tcp|tls)://[\w.:\[\]-]+:\d+$")] | None = None
    cluster: Queue | None = None
    jobs: int = Field(default=1, ge=1)
    cores: int = Field(default=1, ge=1)
    memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)? ?[kMGT]i?B$")] | None = None
    walltime: Directive = ""
    queue: Directive = ""
    account: Directive = ""
    interface: Annotated[str, Field(pattern=r"^[\w.:-]*$")] = ""
    directives: tuple[Directive, ...] = ()
    patience_min: Length = 60.0

    def to_jobs(self) -> Jobs | None:
        """What is asked of a queue; None without one."""
        if self.cluster is None or self.memory is None:
            return None
        return Jobs(
            self.cluster, self.jobs, self.cores, self.memory, self.walltime, self.queue, self.account, self.interface,
            self.directives,
        )  # fmt: skip

    @model_validator(mode="after")
    def _must_name_its_workers(self) -> Self:
        named = [key for key in QUEUE_KEYS if key in self.model_fields_set]
        if self.scheduler == "local" and self.model_fields_set & (WORKER_KEYS - {"scheduler"}):
            raise ValueError('`address`, `cluster` and what belongs to them need scheduler = "dask"')
        if self.scheduler == "dask" and (self.address is None) == (self.cluster is None):
            raise ValueError('scheduler = "dask" needs either `address`, of a scheduler, or `cluster`, of a queue')
        if self.cluster is None and named:
            raise ValueError(f"`{named[0]}` is asked of a queue, which `cluster` names")
        if self.cluster is not None and self.memory is None:
            raise ValueError("a job needs `memory`")
        return self
