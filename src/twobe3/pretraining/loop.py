"""One loop for both stages; what it has learnt after each epoch is kept, so that it goes on where it stopped.

Every epoch draws its random numbers from a seed of its own, and the rate is a function of the step, so a resumed run
is an uninterrupted one to the bit.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from twobe3.errors import Code, UsageError
from twobe3.models.training import warm_cosine
from twobe3.progress import track
from twobe3.store import Arrays, ArrayStore

Batch = TypeVar("Batch")
log = logging.getLogger("twobe3")


@dataclass(frozen=True)
class Schedule:
    """How long a stage lasts.

    Attributes
    ----------
    stage : str
        Its name, for progress and messages.
    epochs, steps : int
        Epochs, and steps in each.
    seed : int
        Of what is drawn.
    """

    stage: str
    epochs: int
    steps: int
    seed: int


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a stage is kept: a store, and the digest of everything that the stage depends on."""

    store: ArrayStore
    key: str


def train(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Callable[[np.random.Generator], Iterable[Batch]],
    loss: Callable[[Batch], torch.Tensor],
    schedule: Schedule,
    checkpoint: Checkpoint,
) -> None:
    """Train a network in place, from the last epoch that was kept.

    Parameters
    ----------
    network : Module
        In the mode in which it is to be trained.
    optimiser : Optimizer
        With the highest rate of each of its groups; it rises over the first tenth of the steps and falls along a
        cosine to 0.
    batches : callable
        Gives the batches of an epoch.
    loss : callable
        Of a batch.
    schedule : Schedule
        How long.
    checkpoint : Checkpoint
        Where its state is kept.

    Raises
    ------
    UsageError
        ``STUDY_FILE_INVALID``: the loss is not finite any more.
    """
    begun = _restored(network, optimiser, checkpoint)
    if begun:
        log.info("%s: %d of %d epochs were there from an earlier run", schedule.stage, begun, schedule.epochs)
    highest = [group["lr"] for group in optimiser.param_groups]
    factor = warm_cosine(schedule.epochs * schedule.steps)
    for epoch in track(range(begun, schedule.epochs), schedule.stage):
        losses = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1_000_000 * schedule.seed + epoch)
            for number, batch in enumerate(batches(np.random.default_rng([schedule.seed, epoch]))):
                for group, rate in zip(optimiser.param_groups, highest, strict=True):
                    group["lr"] = rate * factor(epoch * schedule.steps + number)
                losses.append(_step(network, optimiser, loss(batch)))
        mean = sum(losses) / len(losses)
        if not math.isfinite(mean):
            raise UsageError(
                Code.STUDY_FILE_INVALID,
                f"[{schedule.stage}]: the loss is not finite in epoch {epoch + 1}",
                remedy="lower its `learning_rate`",
            )
        log.info("%s: epoch %d of %d, loss %.4f", schedule.stage, epoch + 1, schedule.epochs, mean)
        checkpoint.store.put(checkpoint.key, _state(network, optimiser, epoch + 1))
    for group, rate in zip(optimiser.param_groups, highest, strict=True):
        group["lr"] = rate


def _step(network: nn.Module, optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> float:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def _state(network: nn.Module, optimiser: torch.optim.Optimizer, epochs: int) -> Arrays:
    arrays: dict[str, npt.NDArray[Any]] = {"epochs": np.array([epochs])}
    arrays |= {f"network.{name}": value.numpy() for name, value in network.state_dict().items()}
    for number, moments in optimiser.state_dict()["state"].items():
        arrays |= {f"optimiser.{number}.{name}": value.numpy() for name, value in moments.items()}
    return {name: array.copy() for name, array in arrays.items()}


def _restored(network: nn.Module, optimiser: torch.optim.Optimizer, checkpoint: Checkpoint) -> int:
    """Take back the state that was kept, if any; gives the number of epochs done."""
    arrays = checkpoint.store.get(checkpoint.key)
    if arrays is None:
        return 0
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    network.load_state_dict(
        {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
    )
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser."):
            _, number, moment = name.split(".")
            moments.setdefault(int(number), {})[moment] = value
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(tensors["epochs"][0])
