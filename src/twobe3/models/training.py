"""One training loop for every network: fixed length, deterministic, a small ensemble of seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as validated
from torch import nn

from twobe3.models.base import CONFIG
from twobe3.models.losses import outcome_loss
from twobe3.outcome import Outcomes

MakeNetwork = Callable[[], nn.Module]


@dataclass(frozen=True)
class Stack:
    """One input of a network for all patients.

    Attributes
    ----------
    values : Tensor, shape (n, …)
        A row a patient.
    left_right_axis : int
        The axis, counted from the end, that runs from the patient's right to the left.
    """

    values: torch.Tensor
    left_right_axis: int


@validated(kw_only=True, config=CONFIG)
class TrainingParameters:
    """How a network is trained; the length is fixed beforehand, so no patient is spent on stopping it.

    Parameters
    ----------
    epochs, batch_size : int
        Passes over the training patients, and patients a step.
    learning_rate, weight_decay : float
        Of AdamW; the rate rises over the first tenth of the steps and falls along a cosine to 0.
    dropout : float
        Before the last layer.
    members : int
        Networks trained from different seeds; their risks are averaged.
    """

    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=16, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    members: int = Field(default=3, ge=1)


def train_ensemble(
    make: MakeNetwork, inputs: Sequence[Stack], outcomes: Outcomes, how: TrainingParameters, seed: int
) -> list[nn.Module]:
    """Train networks from several seeds.

    Parameters
    ----------
    make : callable
        Gives a fresh network that maps a sequence of tensors to risks.
    inputs : sequence of Stack
        The training patients.
    outcomes : Outcomes
        Of the same patients.
    how : TrainingParameters
        Length, rate and so on.
    seed : int
        Member ``m`` uses ``1000 · seed + m``.

    Returns
    -------
    list of Module
        In evaluation mode.
    """
    return [_trained(make, inputs, outcomes, how, 1000 * seed + member) for member in range(how.members)]


def ensemble_risk(
    networks: Sequence[nn.Module], inputs: Sequence[Stack], batch_size: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Mean risk of an ensemble, shape (n,)."""
    starts = range(0, len(inputs[0].values), batch_size)
    with torch.inference_mode():
        risks = [
            torch.cat([network([stack.values[i : i + batch_size] for stack in inputs]) for i in starts]).double()
            for network in networks
        ]
    return torch.stack(risks).mean(dim=0).numpy()


def members_to_arrays(networks: Sequence[nn.Module]) -> dict[str, npt.NDArray[Any]]:
    """Parameters and buffers of an ensemble as arrays named ``member0.…``."""
    return {
        f"member{number}.{key}": value.numpy()
        for number, network in enumerate(networks)
        for key, value in network.state_dict().items()
    }


def member_from_arrays(network: nn.Module, arrays: Mapping[str, npt.NDArray[Any]], number: int) -> nn.Module:
    """Fill a fresh network with one member of :func:`members_to_arrays`; in evaluation mode."""
    prefix = f"member{number}."
    state = {
        key.removeprefix(prefix): torch.from_numpy(array) for key, array in arrays.items() if key.startswith(prefix)
    }
    network.load_state_dict(state)
    return network.eval()


def _trained(
    make: MakeNetwork, inputs: Sequence[Stack], outcomes: Outcomes, how: TrainingParameters, seed: int
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        origin, unit = _origin_and_unit(outcomes)
        nn.init.constant_(last.bias, _log_odds(outcomes) if outcomes.endpoint.kind == "binary" else 0.0)
        shuffle = np.random.default_rng(seed)
        value, event = torch.from_numpy((outcomes.value - origin) / unit), torch.from_numpy(outcomes.event)
        optimiser = torch.optim.AdamW(network.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay)
        batches = max(1, math.ceil(len(outcomes) / how.batch_size))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _warm_cosine(how.epochs * batches))
        network.train()
        for _ in range(how.epochs):
            for batch in np.array_split(shuffle.permutation(len(outcomes)), batches):
                index = torch.from_numpy(batch)
                risk = network(_mirrored(inputs, index, shuffle))
                loss = outcome_loss(outcomes.endpoint.kind, risk, value[index], event[index])
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
        with torch.no_grad():
            last.weight *= unit
            last.bias.mul_(unit).add_(origin)
    return network.eval()


def _mirrored(inputs: Sequence[Stack], index: torch.Tensor, shuffle: np.random.Generator) -> list[torch.Tensor]:
    """Mirror half of the patients, left for right, in all their inputs alike."""
    mirrored = torch.from_numpy(shuffle.random(len(index)) < 0.5)
    batch = []
    for stack in inputs:
        values = stack.values[index]
        which = mirrored.view(-1, *[1] * (values.dim() - 1))
        batch.append(torch.where(which, values.flip(stack.left_right_axis), values))
    return batch


def _origin_and_unit(outcomes: Outcomes) -> tuple[float, float]:
    """Mean and standard deviation of a continuous outcome: what a network learns must not depend on its unit."""
    if outcomes.endpoint.kind != "continuous":
        return 0.0, 1.0
    return float(outcomes.value.mean()), float(outcomes.value.std()) or 1.0


def _log_odds(outcomes: Outcomes) -> float:
    """Where the untrained network starts, so that no step is spent on learning the mean outcome."""
    share = outcomes.n_events / len(outcomes)
    return math.log(share / (1 - share)) if 0 < share < 1 else 0.0


def _warm_cosine(steps: int) -> Callable[[int], float]:
    warm = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return factor
