"""One deterministic training loop for every network: batches, schedule, early stopping, ensembles."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass as validated
from torch import nn

from twobe3.core.outcomes import IntArray, Outcomes
from twobe3.models.model import CONFIG
from twobe3.models.nn.batches import (
    ModelInput,
    augmented_batch,
    epoch_batches,
    preload,
    set_aside,
    to_device,
    tta_views,
)
from twobe3.models.nn.heads import Head, RiskHead
from twobe3.runtime.device import CPU, Device, enough_memory

if TYPE_CHECKING:
    from lightning_fabric import Fabric


MakeNetwork = Callable[[], nn.Module]
ParameterGroups = Callable[[nn.Module], Iterable[Any]]
# What joined `TrainingParameters` later, at the values that change nothing.
UNCHANGED_TRAINING: Mapping[str, Any] = {
    "head": "risk",
    "intervals": 10,
    "batches": "shuffled",
    "stopping_share": 0.0,
    "patience": 5,
    "augmentations": 0,
    "augmentation_seed": 0,
    "test_time": "single",
    "fewest_steps": 400,
    "fewest_epochs": 20,
    "shift_share": 0.0,
}


@validated(kw_only=True, config=CONFIG)
class TrainingParameters:
    """How a network is trained; by default the length is fixed beforehand, so no patient is spent on stopping it.

    Parameters
    ----------
    epochs : int or "auto"
        Passes over the training patients; ``"auto"``: as many as make ``fewest_steps``, but at least
        ``fewest_epochs``. 40 patients make 3 steps an epoch, too few for any number of epochs that suits 400.
    batch_size : int
        Patients a step.
    learning_rate, weight_decay : float
        Of AdamW; the rate rises over the first tenth of the steps and falls along a cosine to 0.
    dropout : float
        Before the last layer.
    ensemble_size : int
        Networks trained from different seeds; their risks are averaged.
    head : {"risk", "hazard"}
        For a time to an event: ``"risk"``, a log hazard ratio by Cox's partial likelihood, or ``"hazard"``, the
        discrete-time logistic hazard, which gives survival curves. Other endpoints have ``"risk"``.
    intervals : int
        Of the discrete-time hazard, at quantiles of the training patients' event times.
    batches : {"shuffled", "stratified"}
        Whether each batch has its share of the events.
    stopping_share : float
        Share of the training patients, stratified by event and drawn anew for each member, that is set aside to tell
        when to stop; 0 trains for all epochs.
    patience : int
        Epochs without a better loss of those patients, after which training ends; the best epoch is kept. They count
        from when the rate has risen: before, little is learnt, and with few patients that takes many epochs.
    augmentations : int
        Shifted, scaled and mirrored versions of every scan, cached like the scan itself; each step draws one of them
        or the scan for each of its patients.
    augmentation_seed : int
        Of those versions; models that share it share the cache.
    test_time : {"single", "average"}
        Whether a prediction is that of the scan, or the mean over the scan, its augmentations, and the mirror
        images of them, which training drew from; shifts along the slices are not among them.
    fewest_steps, fewest_epochs : int
        See ``epochs``; not looked at where their number is given.
    shift_share : float
        Up to such a share of its length each patient's stack is shifted along its slices in every step; what leaves at
        one end enters at the other. Maps of the shifted scan would be the same, so this costs nothing.
    """

    epochs: PositiveInt | Literal["auto"] = Field(default="auto")
    batch_size: int = Field(default=16, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    ensemble_size: int = Field(default=3, ge=1)
    head: Literal["risk", "hazard"] = Field(default="risk")
    intervals: int = Field(default=10, ge=1)
    batches: Literal["shuffled", "stratified"] = Field(default="shuffled")
    stopping_share: float = Field(default=0.0, ge=0, le=0.5)
    patience: int = Field(default=5, ge=1)
    augmentations: int = Field(default=0, ge=0)
    augmentation_seed: int = Field(default=0, ge=0)
    test_time: Literal["single", "average"] = Field(default="single")
    fewest_steps: int = Field(default=400, ge=1)
    fewest_epochs: int = Field(default=20, ge=1)
    shift_share: float = Field(default=0.0, ge=0, le=0.5)

    def epochs_of(self, steps: int) -> int:
        """How many epochs, of so many steps each."""
        return max(self.fewest_epochs, math.ceil(self.fewest_steps / steps)) if self.epochs == "auto" else self.epochs


def train_ensemble(
    make: MakeNetwork | Sequence[MakeNetwork],
    inputs: Sequence[ModelInput],
    outcomes: Outcomes,
    how: TrainingParameters,
    seed: int,
    head: Head | None = None,
    device: Device = CPU,
    groups: ParameterGroups = nn.Module.parameters,
) -> list[nn.Module]:
    """Train networks from several seeds.

    Parameters
    ----------
    make : callable or sequence of callable
        Gives a fresh network that maps a sequence of tensors to what the head takes; several where each member starts
        from a network of its own.
    inputs : sequence of ModelInput
        The training patients.
    outcomes : Outcomes
        Of the same patients.
    how : TrainingParameters
        Length, rate and so on.
    seed : int
        Member ``m`` uses ``1000 · seed + m``.
    head : Head, optional
        One risk a patient by default.
    device : Device
        Where they are trained. Draws and starting values are the same everywhere, but for dropout, which is drawn
        where the network is.
    groups : callable
        The parameters of a network that are trained, those with a rate of their own as groups of AdamW.

    Returns
    -------
    list of Module
        In evaluation mode, on the CPU.

    Raises
    ------
    EnvironmentFailure
        ``GPU_MEMORY``.
    """
    head, fabric = head or RiskHead(outcomes), device.fabric()
    makes = [make] * how.ensemble_size if callable(make) else make
    with enough_memory():
        inputs = preload(inputs, fabric.device)
        seeds = range(1000 * seed, 1000 * seed + how.ensemble_size)
        return [
            _trained(one, inputs, outcomes, how, member, head, fabric, groups)
            for one, member in zip(makes, seeds, strict=True)
        ]


def ensemble_outputs(
    networks: Sequence[nn.Module], inputs: Sequence[ModelInput], how: TrainingParameters, device: Device = CPU
) -> torch.Tensor:
    """What each network of an ensemble says of each view of each patient.

    Returns
    -------
    Tensor of float64, shape (networks · views, n, outputs)
    """
    starts, target = range(0, len(inputs[0].values), how.batch_size), device.torch_device()
    said = []
    with torch.inference_mode(), enough_memory():
        here = [network if target.type == "cpu" else copy.deepcopy(network).to(target) for network in networks]
        for view in tta_views(inputs, how.test_time):
            for network in here:
                parts = [
                    network(to_device([values[i : i + how.batch_size] for values in view], target)) for i in starts
                ]
                said.append(torch.cat(parts).cpu().double())
    views = torch.stack(said)
    return views if views.dim() == 3 else views.unsqueeze(2)


def ensemble_risk(
    networks: Sequence[nn.Module], inputs: Sequence[ModelInput], how: TrainingParameters, device: Device = CPU
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The first output as a risk: its mean over networks and views, shape (n,)."""
    return ensemble_outputs(networks, inputs, how, device)[..., 0].mean(dim=0).numpy()


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
    make: MakeNetwork,
    inputs: Sequence[ModelInput],
    outcomes: Outcomes,
    how: TrainingParameters,
    seed: int,
    head: Head,
    fabric: Fabric,
    groups: ParameterGroups,
) -> nn.Module:
    device = fabric.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = make()
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        head.start(last)
        shuffle = np.random.default_rng(seed)
        learning, watched = set_aside(outcomes, how.stopping_share, seed)
        optimiser = torch.optim.AdamW(groups(network), lr=how.learning_rate, weight_decay=how.weight_decay)
        batches = max(1, math.ceil(len(learning) / how.batch_size))
        epochs = how.epochs_of(batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, warm_cosine(epochs * batches))
        stopper = _Stopper(how.patience, rising=math.ceil(rising_steps(epochs * batches) / batches))
        wrapped, stepper = fabric.setup(network, optimiser)
        for _ in range(epochs):
            network.train()
            for batch in epoch_batches(
                shuffle, learning, outcomes.event, batches, stratified=how.batches == "stratified"
            ):
                index = torch.from_numpy(batch)
                # A few numbers in double precision: the CPU has it at full speed, whatever the device is.
                loss = head.loss(
                    wrapped(to_device(augmented_batch(inputs, index, shuffle, how.shift_share), device)).cpu(), index
                )
                stepper.zero_grad()
                fabric.backward(loss)
                fabric.clip_gradients(wrapped, stepper, max_norm=1.0, error_if_nonfinite=False)
                stepper.step()
                schedule.step()
            if len(watched) and stopper.done(network, _loss_of(network, inputs, watched, head, how.batch_size)):
                break
        stopper.restore(network)
        network.cpu()
        head.finish(last)
    return network.eval()


class _Stopper:
    """Remembers the best epoch, and says when it is long past; while the rate still rises, no epoch counts."""

    def __init__(self, patience: int, *, rising: int) -> None:
        self.patience, self.best, self.since = patience, math.inf, -rising
        self.state: dict[str, Any] | None = None

    def done(self, network: nn.Module, loss: float) -> bool:
        self.since += 1
        if loss < self.best:
            self.best, self.since, self.state = loss, min(self.since, 0), copy.deepcopy(network.state_dict())
        return self.since >= self.patience

    def restore(self, network: nn.Module) -> None:
        if self.state is not None:
            network.load_state_dict(self.state)


def _loss_of(
    network: nn.Module, inputs: Sequence[ModelInput], patients: IntArray, head: Head, batch_size: int
) -> float:
    """Loss of patients who do not train, of all of them together: Cox's likelihood compares them."""
    network.eval()
    index = torch.from_numpy(patients)
    with torch.no_grad():
        device = next(network.parameters()).device
        parts = [
            network(to_device([stack.values[part] for stack in inputs], device))
            for part in torch.split(index, batch_size)
        ]
        return float(head.stopping_loss(torch.cat(parts).cpu(), index))


def rising_steps(steps: int) -> int:
    """In how many of so many steps the rate rises: a tenth."""
    return max(1, steps // 10)


def warm_cosine(steps: int) -> Callable[[int], float]:
    """The rate at a step as a share of the highest: it rises over the first tenth and falls along a cosine to 0."""
    warm = rising_steps(steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return factor


"""The axis of every picture along which slices follow each other."""
