"""One training loop for both stages; the state after each epoch is kept, so that it resumes where it stopped.

Every epoch draws its random numbers from a seed of its own, and the rate is a function of the step, so a resumed run
is an uninterrupted one to the bit.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import torch
from torch import nn

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.io.cache import Arrays, Cache
from twobe3.io.model_file import nest, unnest
from twobe3.models.nn.training import to_device, warmup_cosine
from twobe3.runtime.device import enough_memory
from twobe3.runtime.process import one_thread
from twobe3.runtime.progress import track

if TYPE_CHECKING:
    from lightning_fabric import Fabric


SHUFFLED_SCANS = 64  # whose slices are in memory at a time, and mixed
log = logging.getLogger("twobe3")


@dataclass(frozen=True, eq=False)
class Batch:
    """Base of batches: dataclasses of tensors, mappings of tensors and batches, with a row for each scan or slice."""

    def share(self, rank: int, processes: int, device: torch.device) -> Self:
        """The rows of one of several processes, on its device; what is no tensor stays that of the whole batch."""

        def rows(value: Any) -> Any:
            if isinstance(value, Batch):
                return value.share(rank, processes, device)
            if isinstance(value, Mapping):
                return {name: rows(one) for name, one in value.items()}
            return to_device([value[rank::processes]], device)[0] if isinstance(value, torch.Tensor) else value

        return replace(self, **{item.name: rows(getattr(self, item.name)) for item in fields(self)})


B = TypeVar("B", bound=Batch)


def count_steps(scans: int, slices: int, batch_size: int) -> int:
    """Steps of an epoch over so many scans, of each so many slices; batches do not go beyond :data:`SHUFFLED_SCANS`."""
    groups = [min(SHUFFLED_SCANS, scans - start) for start in range(0, scans, SHUFFLED_SCANS)]
    return sum(-(-group * slices // batch_size) for group in groups)


@dataclass(frozen=True)
class Schedule:
    """Name of a stage, its epochs, the steps of each, and the seed of its batches."""

    stage: str
    epochs: int
    steps: int
    seed: int


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a stage is kept: the cache, and a digest of everything that the stage depends on."""

    cache: Cache
    key: str


def train(
    fabric: Fabric,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Callable[[np.random.Generator], Iterable[B]],
    loss: Callable[[nn.Module, B], torch.Tensor],
    schedule: Schedule,
    checkpoint: Checkpoint,
) -> dict[str, torch.Tensor]:
    """Train a network from the last epoch that was kept, and return its state on the CPU.

    Several processes draw the same batches, and each learns from its share of them. The rate of each parameter group
    rises to its value in the optimiser over the first tenth of the steps and falls along a cosine to 0.

    Parameters
    ----------
    fabric : Fabric
        Launched.
    network, optimiser
        The network in the mode in which it is trained.
    batches : callable
        Gives the batches of an epoch.
    loss : callable
        Of the wrapped network and a share of a batch: that share's part of the batch's loss.
    schedule, checkpoint
        How long it is trained, and where its state is kept.

    Raises
    ------
    ConfigurationError
        ``STUDY_FILE_INVALID``: the loss is not finite any more.
    EnvironmentFailure
        ``GPU_MEMORY``.
    """
    device, first = fabric.device, fabric.global_rank == 0
    highest = [group["lr"] for group in optimiser.param_groups]
    factor = warmup_cosine(schedule.epochs * schedule.steps)
    with one_thread(), enough_memory():
        wrapped, stepper = fabric.setup(network, optimiser)
        done = _restore(network, optimiser, checkpoint)
        if done and first:
            log.info("%s: %d of %d epochs were there from an earlier run", schedule.stage, done, schedule.epochs)
        epochs = range(done, schedule.epochs)
        for epoch in track(epochs, schedule.stage) if first else epochs:
            losses = []
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(1_000_000 * schedule.seed + epoch)
                for number, batch in enumerate(batches(np.random.default_rng([schedule.seed, epoch]))):
                    for group, rate in zip(optimiser.param_groups, highest, strict=True):
                        group["lr"] = rate * factor(epoch * schedule.steps + number)
                    part = loss(wrapped, batch.share(fabric.global_rank, fabric.world_size, device))
                    stepper.zero_grad()
                    fabric.backward(part * fabric.world_size)  # gradients are averaged over the processes
                    fabric.clip_gradients(wrapped, stepper, max_norm=1.0, error_if_nonfinite=False)
                    stepper.step()
                    losses.append(float(part.detach()))
            share = torch.tensor(sum(losses) / len(losses), device=device)
            mean = float(torch.as_tensor(fabric.all_reduce(share, reduce_op="sum")))
            if not math.isfinite(mean):
                raise ConfigurationError(
                    Code.STUDY_FILE_INVALID,
                    f"[{schedule.stage}]: the loss is not finite in epoch {epoch + 1}",
                    remedy="lower its `learning_rate`",
                )
            if first:
                log.info("%s: epoch %d of %d, loss %.4f", schedule.stage, epoch + 1, schedule.epochs, mean)
                checkpoint.cache.put(checkpoint.key, _state(network, optimiser, epoch + 1))
        return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _state(network: nn.Module, optimiser: torch.optim.Optimizer, epochs: int) -> Arrays:
    arrays = {"epochs": np.array([epochs])}
    arrays |= {f"network.{name}": value.cpu().numpy() for name, value in network.state_dict().items()}
    for number, moments in optimiser.state_dict()["state"].items():
        arrays |= nest(f"optimiser.{number}.", {name: value.cpu().numpy() for name, value in moments.items()})
    return {name: array.copy() for name, array in arrays.items()}


def _restore(network: nn.Module, optimiser: torch.optim.Optimizer, checkpoint: Checkpoint) -> int:
    """Load the state that was kept, if any; returns the number of epochs done."""
    arrays = checkpoint.cache.get(checkpoint.key)
    if arrays is None:
        return 0
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    state = {name: tensors[f"network.{name}"] for name in unnest("network.", arrays)}
    wanted = network.state_dict()
    if {name: value.shape for name, value in state.items()} != {name: value.shape for name, value in wanted.items()}:
        log.warning("what was kept of an earlier training is that of another network: it begins anew")
        return 0
    network.load_state_dict(state)
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name in unnest("optimiser.", arrays):
        number, moment = name.split(".")
        moments.setdefault(int(number), {})[moment] = tensors[f"optimiser.{name}"]
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(tensors["epochs"][0])
