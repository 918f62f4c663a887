"""One training loop for every network: deterministic, the same budget for all, a small ensemble of seeds."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass as validated
from torch import nn

from twobe3.models.base import CONFIG
from twobe3.models.engine import CPU, Engine, enough_memory
from twobe3.models.heads import Head, RiskHead
from twobe3.outcome import BoolArray, IntArray, Outcomes

if TYPE_CHECKING:
    from lightning_fabric import Fabric

SLICES = -3
"""The axis of every picture along which slices follow each other."""

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


@dataclass(frozen=True)
class Stack:
    """One input of a network for all patients.

    Attributes
    ----------
    values : Tensor, shape (n, …)
        A row a patient.
    left_right_axis : int or None
        The axis, counted from the end, that runs from the patient's right to the left; None for what is no picture.
    augmented : tuple of Tensor, each of the shape of ``values``
        The same input of augmented scans, in the same order for every input of a network.
    """

    values: torch.Tensor
    left_right_axis: int | None
    augmented: tuple[torch.Tensor, ...] = ()

    @property
    def versions(self) -> tuple[torch.Tensor, ...]:
        """The scan itself, and its augmentations."""
        return (self.values, *self.augmented)


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
    members : int
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
        Epochs without a better loss of those patients, after which training ends; the best epoch is kept.
    augmentations : int
        Shifted, scaled and mirrored versions of every scan, cached like the scan itself; each step draws one of them
        or the scan for each of its patients.
    augmentation_seed : int
        Of those versions; models that share it share the cache.
    test_time : {"single", "average"}
        Whether a prediction is that of the scan, or the mean over all that training drew from: the scan, its
        augmentations, and the mirror images of them.
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
    members: int = Field(default=3, ge=1)
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
    inputs: Sequence[Stack],
    outcomes: Outcomes,
    how: TrainingParameters,
    seed: int,
    head: Head | None = None,
    engine: Engine = CPU,
    groups: ParameterGroups = nn.Module.parameters,
) -> list[nn.Module]:
    """Train networks from several seeds.

    Parameters
    ----------
    make : callable or sequence of callable
        Gives a fresh network that maps a sequence of tensors to what the head takes; several where each member starts
        from a network of its own.
    inputs : sequence of Stack
        The training patients.
    outcomes : Outcomes
        Of the same patients.
    how : TrainingParameters
        Length, rate and so on.
    seed : int
        Member ``m`` uses ``1000 · seed + m``.
    head : Head, optional
        One risk a patient by default.
    engine : Engine
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
    ToolError
        ``GPU_MEMORY``.
    """
    head, fabric = head or RiskHead(outcomes), engine.fabric()
    makes = [make] * how.members if callable(make) else make
    with enough_memory():
        inputs = placed(inputs, fabric.device)
        seeds = range(1000 * seed, 1000 * seed + how.members)
        return [
            _trained(one, inputs, outcomes, how, member, head, fabric, groups)
            for one, member in zip(makes, seeds, strict=True)
        ]


def ensemble_outputs(
    networks: Sequence[nn.Module], inputs: Sequence[Stack], how: TrainingParameters, engine: Engine = CPU
) -> torch.Tensor:
    """What each network of an ensemble says of each view of each patient.

    Returns
    -------
    Tensor of float64, shape (networks · views, n, outputs)
    """
    starts, device = range(0, len(inputs[0].values), how.batch_size), engine.torch_device()
    said = []
    with torch.inference_mode(), enough_memory():
        here = [network if device.type == "cpu" else copy.deepcopy(network).to(device) for network in networks]
        for view in _views(inputs, how.test_time):
            for network in here:
                parts = [network(moved([values[i : i + how.batch_size] for values in view], device)) for i in starts]
                said.append(torch.cat(parts).cpu().double())
    views = torch.stack(said)
    return views if views.dim() == 3 else views.unsqueeze(2)


def ensemble_risk(
    networks: Sequence[nn.Module], inputs: Sequence[Stack], how: TrainingParameters, engine: Engine = CPU
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The first output as a risk: its mean over networks and views, shape (n,)."""
    return ensemble_outputs(networks, inputs, how, engine)[..., 0].mean(dim=0).numpy()


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
    inputs: Sequence[Stack],
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
        learning, watched = _set_aside(outcomes, how.stopping_share, seed)
        optimiser = torch.optim.AdamW(groups(network), lr=how.learning_rate, weight_decay=how.weight_decay)
        batches = max(1, math.ceil(len(learning) / how.batch_size))
        epochs = how.epochs_of(batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, warm_cosine(epochs * batches))
        stopper = _Stopper(how.patience)
        wrapped, stepper = fabric.setup(network, optimiser)
        for _ in range(epochs):
            network.train()
            for batch in _batches(shuffle, learning, outcomes.event, batches, stratified=how.batches == "stratified"):
                index = torch.from_numpy(batch)
                # A few numbers in double precision: the CPU has it at full speed, whatever the device is.
                loss = head.loss(wrapped(moved(_drawn(inputs, index, shuffle, how.shift_share), device)).cpu(), index)
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


def placed(inputs: Sequence[Stack], device: torch.device) -> Sequence[Stack]:
    """The inputs on a GPU where they take less than a quarter of its free memory; otherwise batch by batch."""
    if device.type == "cpu":
        return inputs
    size = sum(version.nbytes for stack in inputs for version in stack.versions)
    if size > torch.cuda.mem_get_info(device)[0] / 4:
        return inputs
    return [
        Stack(stack.values.to(device), stack.left_right_axis, tuple(version.to(device) for version in stack.augmented))
        for stack in inputs
    ]


def moved(batch: Sequence[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """A batch on a device, copied from pinned memory while the device still computes."""
    return [
        values if values.device == device else values.pin_memory().to(device, non_blocking=True) for values in batch
    ]


class _Stopper:
    """Remembers the best epoch, and says when it is long past."""

    def __init__(self, patience: int) -> None:
        self.patience, self.best, self.since = patience, math.inf, 0
        self.state: dict[str, Any] | None = None

    def done(self, network: nn.Module, loss: float) -> bool:
        self.since += 1
        if loss < self.best:
            self.best, self.since, self.state = loss, 0, copy.deepcopy(network.state_dict())
        return self.since >= self.patience

    def restore(self, network: nn.Module) -> None:
        if self.state is not None:
            network.load_state_dict(self.state)


def _loss_of(network: nn.Module, inputs: Sequence[Stack], patients: IntArray, head: Head, batch_size: int) -> float:
    """Loss of patients who do not train, of all of them together: Cox's likelihood compares them."""
    network.eval()
    index = torch.from_numpy(patients)
    with torch.no_grad():
        device = next(network.parameters()).device
        parts = [
            network(moved([stack.values[part] for stack in inputs], device)) for part in torch.split(index, batch_size)
        ]
        return float(head.stopping_loss(torch.cat(parts).cpu(), index))


def _set_aside(outcomes: Outcomes, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """Who trains, and who tells when to stop: a share of those with the event and of those without."""
    everybody = np.arange(len(outcomes))
    if share == 0:
        return everybody, everybody[:0]
    draw = np.random.default_rng([seed, 1])
    groups = (np.flatnonzero(outcomes.event), np.flatnonzero(~outcomes.event))
    aside = np.concatenate([draw.permutation(group)[: math.ceil(share * len(group))] for group in groups])
    return np.setdiff1d(everybody, aside), np.sort(aside)


def _batches(
    shuffle: np.random.Generator, patients: IntArray, event: BoolArray, count: int, *, stratified: bool
) -> list[IntArray]:
    """The patients of one epoch in ``count`` batches, drawn anew; stratified, events are dealt out like cards."""
    if not stratified:
        return list(np.array_split(patients[shuffle.permutation(len(patients))], count))
    groups = (patients[event[patients]], patients[~event[patients]])
    dealt = np.concatenate([shuffle.permutation(group) for group in groups])
    return [dealt[first::count] for first in range(count)]


def _drawn(
    inputs: Sequence[Stack], index: torch.Tensor, shuffle: np.random.Generator, shift_share: float = 0.0
) -> list[torch.Tensor]:
    """For each patient the scan or one of its augmentations, half mirrored, all shifted; in all inputs alike."""
    versions = len(inputs[0].versions)
    version = torch.from_numpy(shuffle.integers(0, versions, len(index))) if versions > 1 else None
    mirrored = torch.from_numpy(shuffle.random(len(index)) < 0.5)
    shifts = shuffle.uniform(-shift_share, shift_share, len(index)) if shift_share else None
    batch = []
    for stack in inputs:
        values = stack.values[index]
        if version is not None and stack.augmented:
            values = torch.stack([stack.versions[v][i] for v, i in zip(version, index, strict=True)])
        if stack.left_right_axis is not None:
            which = mirrored.view(-1, *[1] * (values.dim() - 1)).to(values.device)
            values = torch.where(which, values.flip(stack.left_right_axis), values)
            if shifts is not None:
                by = np.rint(shifts * values.shape[SLICES]).astype(int).tolist()
                values = torch.stack([one.roll(places, SLICES) for one, places in zip(values, by, strict=True)])
        batch.append(values)
    return batch


def _views(inputs: Sequence[Stack], test_time: str) -> Iterator[list[torch.Tensor]]:
    """The inputs of all patients as a prediction sees them, one view after another."""
    if test_time == "single":
        yield [stack.values for stack in inputs]
        return
    for version in range(len(inputs[0].versions)):
        view = [stack.versions[version] if stack.augmented else stack.values for stack in inputs]
        yield view
        yield [
            values if stack.left_right_axis is None else values.flip(stack.left_right_axis)
            for values, stack in zip(view, inputs, strict=True)
        ]


def warm_cosine(steps: int) -> Callable[[int], float]:
    """The rate at a step as a share of the highest: it rises over the first tenth and falls along a cosine to 0."""
    warm = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return factor
