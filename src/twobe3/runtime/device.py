"""Where networks compute: on which device, in which precision, in how many processes; Lightning Fabric does it."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar

import torch
from pydantic import ConfigDict, PositiveInt
from pydantic.dataclasses import dataclass
from torch.multiprocessing.spawn import ProcessExitedException

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure, TwoBe3Error
from twobe3.runtime import process

if TYPE_CHECKING:
    from lightning_fabric import Fabric


DeviceName = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "32", "bf16"]
MapsBy = Literal["auto", "torch", "openvino"]
Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

FABRIC_PRECISION: dict[str, Literal["32-true", "bf16-mixed"]] = {"32": "32-true", "bf16": "bf16-mixed"}
NATIVE_BF16 = (8, 0)  # compute capability from which a GPU multiplies bfloat16 natively (CUDA C++ Programming Guide)
GIB = 2**30
FIT_GIB = 8  # GPU memory that one process which fits or extracts is given


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Device:
    """Where a network is trained and asked, in which precision, and what computes the maps of the 2D network.

    Losses are always in double precision, on the CPU, and predictions in single precision: eight bits would tie risks.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"}
        ``"auto"`` is the GPU where there is one.
    precision : {"auto", "32", "bf16"}
        On a GPU of training; ``"bf16"`` is mixed there: parameters in single precision, products in bfloat16.
        ``"auto"`` is that on GPUs that have it natively, all of them (compute capability 8.0), otherwise single
        precision. On the CPU training is always in single precision; ``"bf16"`` is that of the maps of the frozen 2D
        network, whose keys in the cache say so.
    maps : {"auto", "torch", "openvino"}
        What computes the maps of a frozen 2D network on the CPU. OpenVINO (extra ``[fast]``) takes a quarter of
        torch's time for MobileNetV2, and its maps differ by at most 1e-5 of the largest; ``"auto"`` takes it where it
        is installed.
    devices : int or "auto"
        How many GPUs; all by default. On the CPU, processes of :meth:`run_distributed`, 1 by default.

    Raises
    ------
    EnvironmentFailure
        ``DEVICE_MISSING``: a GPU is asked for and there is none, or more of them than there are; ``EXTRA_MISSING``:
        OpenVINO is asked for and is not installed.
    """

    device: DeviceName = "auto"
    precision: Precision = "auto"
    devices: PositiveInt | Literal["auto"] = "auto"
    maps: MapsBy = "auto"

    def __post_init__(self) -> None:
        if self.device == "cuda" and not _gpus():
            raise EnvironmentFailure(Code.DEVICE_MISSING, f"PyTorch {torch.__version__} finds no CUDA GPU")
        if self.kind == "cuda" and self.count > _gpus():
            raise EnvironmentFailure(Code.DEVICE_MISSING, f"{self.devices} GPUs were asked for, there are {_gpus()}")
        if self.maps == "openvino" and not _openvino_version():
            reason = "the maps of 2D networks are to be computed by OpenVINO, which is not installed"
            raise EnvironmentFailure(Code.EXTRA_MISSING, reason, remedy="pip install 'twobe3[fast]'")

    @property
    def kind(self) -> Literal["cpu", "cuda"]:
        """The kind of device that is used."""
        return "cuda" if self.device != "cpu" and _gpus() else "cpu"

    @property
    def count(self) -> int:
        """How many devices there are to deal tasks out over."""
        if self.devices != "auto":
            return self.devices
        return _gpus() if self.kind == "cuda" else 1

    @property
    def bits(self) -> Literal["32", "bf16"]:
        """The precision of training that is used."""
        if self.kind == "cpu":
            return "32"
        if self.precision != "auto":
            return self.precision
        native = all(torch.cuda.get_device_capability(number) >= NATIVE_BF16 for number in range(self.count))
        return "bf16" if native else "32"

    @property
    def maps_by(self) -> Literal["torch", "openvino"]:
        """What computes the maps of frozen 2D networks."""
        wanted = self.kind == "cpu" and self.maps != "torch" and _openvino_version()
        return "openvino" if wanted else "torch"

    @property
    def maps_bits(self) -> Literal["32", "bf16"]:
        """The precision of the maps of frozen 2D networks."""
        return "bf16" if self.kind == "cpu" and self.precision == "bf16" else "32"

    def pin(self) -> Device:
        """The device and the precision that are used here, by name: on other machines "auto" may mean others."""
        return Device(self.kind, self.maps_bits if self.kind == "cpu" else self.bits, maps=self.maps_by)

    def on_cpu(self) -> Device:
        """The CPU, where maps are computed as they are here if this is it."""
        return self if self.kind == "cpu" else CPU

    def maps_key(self) -> str:
        """Empty for maps by torch, on the CPU, in single precision; otherwise what sets maps apart, for cache keys."""
        where = "" if self.kind == "cpu" else f" on {self.kind}"
        by = f" by OpenVINO {_openvino_version()}" if self.maps_by == "openvino" else ""
        return f"{where}{by}{'' if self.maps_bits == '32' else ' in bf16'}"

    def cache_key(self) -> str:
        """Empty on the CPU; otherwise what sets networks that are trained there apart, for cache keys."""
        return "" if self.kind == "cpu" else f" on {self.kind} in {self.bits}"

    def describe(self) -> dict[str, str]:
        """Device, precision of training, and what computes maps, for records."""
        by = f"OpenVINO {_openvino_version()}" if self.maps_by == "openvino" else "torch"
        return {"device": self.kind, "precision": self.bits, "maps": f"{by}, {self.maps_bits}"}

    def torch_device(self, number: int | None = None) -> torch.device:
        """The device of a task, by default that of this worker's number: the GPUs take tasks in turn."""
        if self.kind == "cpu":
            return torch.device("cpu")
        return torch.device("cuda", (process.worker_number() if number is None else number) % self.count)

    def workers(self, cores: int) -> int:
        """How many processes work side by side unless the user says otherwise: on the CPU one for each core.

        On GPUs as many as there are 8 GiB of free memory, at least one for each GPU and at most one for each core.
        """
        if self.kind == "cpu":
            return cores
        free = [torch.cuda.mem_get_info(number)[0] for number in range(self.count)]
        return min(cores, sum(max(1, bytes_free // (FIT_GIB * GIB)) for bytes_free in free))

    def fabric(self, devices: int = 1) -> Fabric:
        """Fabric for one fit on this worker's device, or for several that train one network together.

        The latter is launched by :meth:`run_distributed`.
        """
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.lightning import LightningEnvironment

        _quiet()
        precision, told = FABRIC_PRECISION[self.bits], os.environ
        if devices > 1 and ("LOCAL_RANK" in told or int(told.get("SLURM_STEP_NUM_TASKS", 1)) > 1):
            # The processes of torchrun or srun are there already.
            nodes = int(told.get("GROUP_WORLD_SIZE") or told.get("SLURM_NNODES") or 1)
            return Fabric(accelerator=self.kind, devices=devices, num_nodes=nodes, precision=precision, strategy="ddp")
        here = self.torch_device()
        return Fabric(
            accelerator=self.kind,
            devices=devices if devices > 1 or here.type == "cpu" else [here.index],
            precision=precision,
            strategy="ddp_spawn" if devices > 1 else "auto",  # spawned processes begin in the middle of a program
            plugins=[LightningEnvironment()],  # whatever a cluster says of processes, they are these
        )

    def run_distributed(
        self,
        function: Callable[Concatenate[Fabric, Arguments], Returned],
        *arguments: Arguments.args,
        **named: Arguments.kwargs,
    ) -> Returned:
        """Run a function in a process for each device, which train one network; gives what that of rank 0 returns.

        The function, at module level since processes import it, takes a launched ``Fabric``, which knows
        ``global_rank`` and ``world_size``, and the arguments, which are pickled. It sets up its network and optimiser
        by ``fabric.setup``; gradients are then averaged over the processes, so that equal shares of a batch give what
        one process gives on the whole batch. What it returns has its tensors on the CPU; processes that torchrun or
        SLURM started get their own each. A script must guard its start with ``if __name__ == "__main__"``.

        Raises
        ------
        EnvironmentFailure
            ``WORKER_DIED``.
        TwoBe3Error
            Whatever the function raises in the process of rank 0.
        """
        if self.count == 1:
            return function(self.fabric(), *arguments, **named)
        with _own_environment(), tempfile.TemporaryDirectory(prefix="twobe3-") as folder:
            call = _Call(pickle.dumps((function, arguments, named)), Path(folder) / "outcome.pickle", os.getpid())
            try:
                said = self.fabric(self.count).launch(call)
                outcome = pickle.loads(said or call.path.read_bytes())
            except ProcessExitedException:
                reason = f"one of {self.count} processes ended while training"
                raise EnvironmentFailure(Code.WORKER_DIED, reason) from None
        if isinstance(outcome, TwoBe3Error):
            raise outcome
        result: Returned = outcome
        return result


@cache
def _openvino_version() -> str:
    """Empty where it is not installed."""
    try:
        return importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _gpus() -> int:
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


CPU = Device("cpu", "32")


@contextmanager
def enough_memory() -> Iterator[None]:
    """Tell of GPU memory that does not suffice under a code of its own. Raises EnvironmentFailure ``GPU_MEMORY``."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise EnvironmentFailure(Code.GPU_MEMORY, "the memory of the GPU does not suffice") from None


@dataclass(frozen=True)
class _Call:
    """A call on its way to other processes and its outcome on the way back, as bytes: tensors that travel as such live
    in memory which their process takes along when it ends. They come back in a file: Fabric's launcher waits for its
    processes before it reads their pipe, whose buffer a network fills."""

    content: bytes
    path: Path
    caller: int

    def __call__(self, fabric: Fabric) -> bytes:
        from lightning_fabric.utilities import move_data_to_device

        function, arguments, named = pickle.loads(self.content)
        try:
            outcome = pickle.dumps(move_data_to_device(function(fabric, *arguments, **named), torch.device("cpu")))
        except TwoBe3Error as error:
            outcome = pickle.dumps(error)
        if os.getpid() == self.caller:
            return outcome
        if fabric.global_rank == 0:
            self.path.write_bytes(outcome)
        return b""

    def __setstate__(self, state: dict[str, Any]) -> None:
        _quiet()  # in the other process, before Fabric connects it
        self.__dict__.update(state)


@contextmanager
def _own_environment() -> Iterator[None]:
    """Leave the environment as it was: the launcher writes its port there, which the next launch would take over."""
    before: dict[str, Any] = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def _quiet() -> None:
    """Fabric tells of its precision and its processes as if somebody had asked."""
    for name in ("lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
