"""One deterministic training procedure for every network: batches, schedule, early stopping, ensembles."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from twobe3.core.outcomes import BoolArray, IntArray, Outcomes
from twobe3.io.model_file import unnest
from twobe3.models.nn.heads import Head, RiskHead
from twobe3.models.nn.inputs import ModelInput
from twobe3.runtime.device import CPU, Device, enough_memory

if TYPE_CHECKING:
    from lightning_fabric import Fabric


MakeNetwork = Callable[[], nn.Module]
ParameterGroups = Callable[[nn.Module], Iterable[Any]]
SLICES = -3  # the axis of every picture along which slices follow each other


@dataclass(frozen=True)
class TrainingParameters:
    """How an ensemble is trained and asked; :class:`~twobe3.models.nn.neural_model.NeuralModel` explains them."""

    epochs: int | Literal["auto"] = "auto"
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    ensemble_size: int = 3
    batches: Literal["shuffled", "stratified"] = "shuffled"
    stopping_share: float = 0.0
    patience: int = 5
    test_time: Literal["single", "average"] = "single"
    fewest_steps: int = 400
    fewest_epochs: int = 20
    shift_share: float = 0.0

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
    *,
    resume: bool = False,
) -> list[nn.Module]:
    """Train networks from several seeds, and give them in evaluation mode, on the CPU.

    Parameters
    ----------
    make : callable or sequence of callable
        Gives a fresh network that maps a sequence of tensors to what the head takes; several where each member starts
        from a network of its own.
    inputs, outcomes, how
        The training patients, and how they are learnt from.
    seed : int
        Member ``m`` uses ``1000 · seed + m``.
    head : Head, optional
        One risk a patient by default.
    device : Device
        Draws and starting values are the same everywhere, but for dropout, which is drawn where the network is.
    groups : callable
        The parameters of a network that are trained, those with a rate of their own as groups of AdamW.
    resume : bool
        Whether the last layers were trained with the same outcomes before, and go on from there.

    Raises
    ------
    EnvironmentFailure
        ``GPU_MEMORY``.
    """
    head, fabric = head or RiskHead(outcomes), device.fabric()
    makes = [make] * how.ensemble_size if callable(make) else make
    with enough_memory():
        training = _Training(preload(inputs, fabric.device), outcomes, how, head, fabric, groups, resume)
        return [training.run(one, 1000 * seed + member) for member, one in enumerate(makes)]


def ensemble_outputs(
    networks: Sequence[nn.Module], inputs: Sequence[ModelInput], how: TrainingParameters, device: Device = CPU
) -> torch.Tensor:
    """Outputs of each network for each view of each patient, float64, shape (networks · views, n, outputs)."""
    target, outputs = device.torch_device(), []
    with torch.inference_mode(), enough_memory():
        here = [network if target.type == "cpu" else copy.deepcopy(network).to(target) for network in networks]
        everybody = torch.arange(len(inputs[0].values))
        for version, mirrored in tta_views(inputs, how.test_time):
            view = [stack.versions[version] if stack.augmented else stack.values for stack in inputs]
            axes = [stack.left_right_axis if mirrored else None for stack in inputs]
            outputs += [_predict(one, view, everybody, how.batch_size, target, axes).double() for one in here]
    views = torch.stack(outputs)
    return views if views.dim() == 3 else views.unsqueeze(2)


def _predict(
    network: nn.Module,
    inputs: Sequence[torch.Tensor],
    rows: torch.Tensor,
    batch_size: int,
    device: torch.device,
    mirrored: Sequence[int | None] = (),
) -> torch.Tensor:
    """Outputs of a network on a device for some patients, on the CPU; ``mirrored``: along which axis each input is."""
    outputs = []
    for batch in torch.split(rows, batch_size):
        shown = [values[batch] for values in inputs]
        for place, axis in enumerate(mirrored):
            shown[place] = shown[place] if axis is None else shown[place].flip(axis)
        outputs.append(network(to_device(shown, device)))
    return torch.cat(outputs).cpu()


def members_to_arrays(networks: Sequence[nn.Module]) -> dict[str, npt.NDArray[Any]]:
    """Parameters and buffers of an ensemble as arrays named ``member0.…``."""
    return {
        f"member{number}.{key}": value.numpy()
        for number, network in enumerate(networks)
        for key, value in network.state_dict().items()
    }


def require_shapes(planned: Mapping[str, torch.Tensor], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse arrays of :func:`members_to_arrays` in which the planned network, or a part of one, is not; ValueError."""
    found = unnest("member0.", arrays)
    if any(name not in found or found[name].shape != tuple(value.shape) for name, value in planned.items()):
        raise ValueError("the arrays are those of another network")


def member_from_arrays(network: nn.Module, arrays: Mapping[str, npt.NDArray[Any]], number: int) -> nn.Module:
    """Fill a fresh network with one member of :func:`members_to_arrays`; in evaluation mode."""
    state = {key: torch.from_numpy(array) for key, array in unnest(f"member{number}.", arrays).items()}
    network.load_state_dict(state)
    return network.eval()


@dataclass(frozen=True, eq=False)
class _Training:
    """What the members of an ensemble share while they are trained; see :func:`train_ensemble`."""

    inputs: Sequence[ModelInput]
    outcomes: Outcomes
    how: TrainingParameters
    head: Head
    fabric: Fabric
    groups: ParameterGroups
    resume: bool

    def run(self, make: MakeNetwork, seed: int) -> nn.Module:
        """Train one member."""
        how, head, fabric, device = self.how, self.head, self.fabric, self.fabric.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            network = make()
            last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
            (head.resume if self.resume else head.start)(last)
            shuffle = np.random.default_rng(seed)
            training, held_out = hold_out(self.outcomes, how.stopping_share, seed)
            optimiser = torch.optim.AdamW(self.groups(network), lr=how.learning_rate, weight_decay=how.weight_decay)
            batches = max(1, math.ceil(len(training) / how.batch_size))
            epochs = how.epochs_of(batches)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, warmup_cosine(epochs * batches))
            stopper = EarlyStopping(how.patience, warmup=math.ceil(warmup_steps(epochs * batches) / batches))
            wrapped, stepper = fabric.setup(network, optimiser)
            for _ in range(epochs):
                network.train()
                stratified = how.batches == "stratified"
                for rows in epoch_batches(shuffle, training, self.outcomes.event, batches, stratified=stratified):
                    index = torch.from_numpy(rows)
                    batch = draw_batch(self.inputs, index, shuffle, how.shift_share)
                    # A few numbers in double precision: the CPU has it at full speed, whatever the device is.
                    loss = head.loss(wrapped(to_device(batch, device)).cpu(), index)
                    stepper.zero_grad()
                    fabric.backward(loss)
                    fabric.clip_gradients(wrapped, stepper, max_norm=1.0, error_if_nonfinite=False)
                    stepper.step()
                    schedule.step()
                if len(held_out) and stopper.update(network, self._stopping_loss(network, torch.from_numpy(held_out))):
                    break
            stopper.restore(network)
            network.cpu()
            head.finish(last)
        return network.eval()

    @torch.no_grad()
    def _stopping_loss(self, network: nn.Module, held_out: torch.Tensor) -> float:
        """Loss of patients who do not train, of all of them together: Cox's likelihood compares them."""
        values = [stack.values for stack in self.inputs]
        outputs = _predict(network.eval(), values, held_out, self.how.batch_size, self.fabric.device)
        return float(self.head.stopping_loss(outputs, held_out))


class EarlyStopping:
    """Remembers the best epoch, and says when it is long past; while the rate still rises, no epoch counts."""

    def __init__(self, patience: int, *, warmup: int) -> None:
        self.patience, self.best, self.since = patience, math.inf, -warmup
        self.state: dict[str, Any] | None = None

    def update(self, network: nn.Module, loss: float) -> bool:
        """Take an epoch into account; gives whether training should stop."""
        self.since += 1
        if loss < self.best:
            self.best, self.since, self.state = loss, min(self.since, 0), copy.deepcopy(network.state_dict())
        return self.since >= self.patience

    def restore(self, network: nn.Module) -> None:
        """Bring the network back to the best epoch."""
        if self.state is not None:
            network.load_state_dict(self.state)


def warmup_steps(steps: int) -> int:
    """In how many of so many steps the rate rises: a tenth."""
    return max(1, steps // 10)


def warmup_cosine(steps: int) -> Callable[[int], float]:
    """The rate at a step as a share of the highest: it rises over the first tenth and falls along a cosine to 0."""
    warm = warmup_steps(steps)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return factor


def preload(inputs: Sequence[ModelInput], device: torch.device) -> Sequence[ModelInput]:
    """The inputs on a GPU where they take less than a quarter of its free memory; otherwise batch by batch."""
    if device.type == "cpu":
        return inputs
    size = sum(version.nbytes for stack in inputs for version in stack.versions)
    if size > torch.cuda.mem_get_info(device)[0] / 4:
        return inputs
    return [stack.to(device) for stack in inputs]


def to_device(batch: Sequence[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
    """A batch on a device, copied from pinned memory while the device still computes."""
    return [
        values if values.device == device else values.pin_memory().to(device, non_blocking=True) for values in batch
    ]


def hold_out(outcomes: Outcomes, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """Who trains, and who tells when to stop: a share of those with the event and of those without."""
    everybody = np.arange(len(outcomes))
    if share == 0:
        return everybody, everybody[:0]
    draw = np.random.default_rng([seed, 1])
    groups = (np.flatnonzero(outcomes.event), np.flatnonzero(~outcomes.event))
    aside = np.concatenate([draw.permutation(group)[: math.ceil(share * len(group))] for group in groups])
    return np.setdiff1d(everybody, aside), np.sort(aside)


def epoch_batches(
    shuffle: np.random.Generator, patients: IntArray, event: BoolArray, count: int, *, stratified: bool
) -> list[IntArray]:
    """The patients of one epoch in ``count`` batches, drawn anew; stratified, events are dealt out like cards."""
    if not stratified:
        return list(np.array_split(patients[shuffle.permutation(len(patients))], count))
    groups = (patients[event[patients]], patients[~event[patients]])
    cards = np.concatenate([shuffle.permutation(group) for group in groups])
    return [cards[first::count] for first in range(count)]


def draw_batch(
    inputs: Sequence[ModelInput], index: torch.Tensor, shuffle: np.random.Generator, shift_share: float = 0.0
) -> list[torch.Tensor]:
    """For each patient the scan or one of its augmentations, half mirrored, all shifted; in all inputs alike.

    Each input is shifted along its own slices: stacks of several planes along an axis of the body each.
    """
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


def tta_views(inputs: Sequence[ModelInput], test_time: str) -> Iterator[tuple[int, bool]]:
    """Which version of a scan a prediction sees, and whether mirrored, one view after another."""
    if test_time == "single":
        yield 0, False
        return
    for version in range(len(inputs[0].versions)):
        yield version, False
        yield version, True
