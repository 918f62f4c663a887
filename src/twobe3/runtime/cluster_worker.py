"""What a worker of a cluster does. Nothing here imports torch before it is needed: the scheduler imports it too.

Everything that may hold data of patients travels as bytes, which the scheduler does not open, and every error is caught
before dask would log what a task was given.
"""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import platform
import socket
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.runtime.outcome import perform
from twobe3.runtime.process import one_thread, set_worker_number

# What results may depend on, in their last digits.
PACKAGES = ("twobe3", "torch", "numpy", "scipy", "scikit-learn", "scikit-image", "pydicom", "statsmodels", "monai")
WITHOUT_SPILLING = ("DISTRIBUTED__WORKER__MEMORY__TARGET", "DISTRIBUTED__WORKER__MEMORY__SPILL")


@dataclass(frozen=True)
class Requirements:
    """What a worker must have.

    Parameters
    ----------
    versions : mapping
        Of Python and of :data:`PACKAGES`.
    seen : str
        A file that it must see.
    gpu : bool
        Whether it must have a GPU.
    environment : mapping
        Environment variables that tasks get.
    """

    versions: Mapping[str, str]
    seen: str
    gpu: bool
    environment: Mapping[str, str]


def read_versions() -> dict[str, str]:
    """The versions of Python and of :data:`PACKAGES` here."""
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in PACKAGES}}


class Taken:
    """A function and what its tasks share, or why this worker cannot have it: it never leaves the worker.

    dask keeps it as long as the client does that asked for it, or lives.
    """

    def __init__(self, content: bytes, required: Requirements) -> None:
        self.required = required
        self.function: Any = None
        self.shared: Any = None
        self.failure: bytes | None = None
        said = perform(self._unpack, content)
        if self.function is None:
            self.failure = said

    def _unpack(self, content: bytes) -> None:
        _require(self.required)
        os.environ.update(self.required.environment)
        self.function, self.shared = pickle.loads(zlib.decompress(content))

    def __reduce__(self) -> Any:
        raise TypeError("what tasks share stays in the memory of its worker")


def do_task(taken: Taken, number: int, task: bytes) -> bytes:
    """The outcome of a task, for the worker of this number."""
    if taken.failure is not None:
        return taken.failure
    os.environ.update(taken.required.environment)
    set_worker_number(number)
    with one_thread():
        return perform(lambda: taken.function(taken.shared, pickle.loads(task)))


def _require(required: Requirements) -> None:
    """Raises EnvironmentFailure ``CLUSTER_UNFIT``."""
    from distributed import get_worker
    from distributed.spill import SpillBuffer

    worker, versions = get_worker(), read_versions()
    other = {name: version for name, version in required.versions.items() if versions.get(name) != version}
    if other:
        here = ", ".join(f"{name} {versions.get(name)} instead of {version}" for name, version in other.items())
        raise _unfit(f"has {here}", "give workers, scheduler and this process one environment")
    if not Path(required.seen).exists():
        raise _unfit("does not see the output folder", "name a folder on the file system that all of them share")
    if isinstance(worker.data, SpillBuffer):
        settings = " ".join(f"DASK_{name}=False" for name in WITHOUT_SPILLING)
        raise _unfit("may write data of patients to its disk", f"start the workers with {settings}")
    if worker.state.nthreads != 1:
        raise _unfit(f"has {worker.state.nthreads} threads", "start the workers with --nthreads 1")
    if required.gpu:
        import torch

        if not torch.cuda.is_available():
            raise _unfit("has no GPU", 'start the workers where there are GPUs, or set device = "cpu"')


def _unfit(what: str, remedy: str) -> EnvironmentFailure:
    return EnvironmentFailure(Code.CLUSTER_UNFIT, f"a worker on {socket.gethostname()} {what}", remedy=remedy)
