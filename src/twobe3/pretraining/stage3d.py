"""The second stage: the 3D head learns header labels and the content of masked slices from stacks of maps."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from twobe3.cohort.cohort import Cohort
from twobe3.core.outcomes import BoolArray, FloatArray, IntArray
from twobe3.features.slices import cut
from twobe3.features.weights import State
from twobe3.models import TwoBe3Net
from twobe3.models.nn.inputs import ModelInput
from twobe3.models.nn.networks import PlanesNetwork, StackBranch
from twobe3.pretraining.config import MASKED, Recipe
from twobe3.pretraining.labels import Labels, label_loss, label_weights
from twobe3.pretraining.loop import Batch, Checkpoint, Schedule, train
from twobe3.runtime.device import Device

if TYPE_CHECKING:
    from lightning_fabric import Fabric


Tensors = Mapping[str, torch.Tensor]
RUN = 4  # neighbouring slices are masked together: one alone is nearly the mean of its neighbours


@dataclass(frozen=True, eq=False)
class StackBatch(Batch):
    """Scans as the 3D head sees them; mappings are by the name of the stack.

    Attributes
    ----------
    stacks : mapping of Tensor, each (m, components, slices, height, width)
    masks : mapping of Tensor of bool, each (m, slices)
        Hidden slices.
    hidden : mapping of int
        Hidden numbers in the whole batch.
    values, weights : Tensor, shape (m, labels)
        Labels and their weights.
    """

    stacks: Tensors
    masks: Tensors
    hidden: Mapping[str, int]
    values: torch.Tensor
    weights: torch.Tensor


class StackNetwork(nn.Module):
    """The branches of a 2Be3-Net with a linear layer for the labels, and a decoder of masked maps for each branch.

    A decoder is a 1×1×1 convolution of what the reduction and every block give, brought to the size of the stack and
    added to the mean map, from which it starts: small, so that what is needed to predict a slice from the others is
    learnt in the branch. Labels are learnt from whole stacks, as they will be seen later.

    ``network`` has an output for each label; ``means`` are the mean maps, (components, height, width), of the stacks
    whose masked maps are a task.
    """

    def __init__(self, network: PlanesNetwork, means: Tensors) -> None:
        super().__init__()
        self.network = network
        self.tokens, self.decoders, self.means = nn.ParameterDict(), nn.ModuleDict(), nn.ParameterDict()
        for stack, mean in means.items():
            components = len(mean)
            self.means[stack] = nn.Parameter(mean.clone(), requires_grad=False)
            branch = _branch(network, stack)
            weights = [next(block.parameters()) for block in (branch.reduction, *branch.blocks)]
            self.tokens[stack] = nn.Parameter(torch.zeros(components))
            decoders = [nn.Conv3d(len(weight), components, 1) for weight in weights]
            for value in (value for one in decoders for value in one.parameters()):
                nn.init.zeros_(value)
            self.decoders[stack] = nn.ModuleList(decoders)

    def forward(self, stacks: Tensors, masks: Tensors) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Predicted labels, (m, labels), and, by stack, the maps with the masked slices reconstructed."""
        labels: torch.Tensor = self.network(list(stacks.values()))
        filled = {stack: self._reconstruct(stack, stacks[stack], masks[stack]) for stack in self.decoders}
        return labels.view(len(labels), -1), filled

    def _reconstruct(self, stack: str, maps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        branch, decoders = _branch(self.network, stack), self.decoders[stack]
        assert isinstance(decoders, nn.ModuleList)
        hidden = torch.where(mask[:, None, :, None, None], self.tokens[stack].view(1, -1, 1, 1, 1), maps)
        level = branch.reduction(hidden)
        total: torch.Tensor = self.means[stack][None, :, None] + decoders[0](level)
        for block, decoder in zip(branch.blocks, list(decoders)[1:], strict=True):
            level = block(level)
            total = total + functional.interpolate(decoder(level), maps.shape[2:], mode="trilinear")
        return total


@dataclass(frozen=True, eq=False)
class StackStage:
    """The scans of a cohort as stacks to learn from; mappings are by the name of the stack.

    Attributes
    ----------
    inputs : mapping
        The projected maps of all scans.
    filled : mapping of bool ndarray, each (n, slices)
        Slices with content.
    reference : mapping of Tensor, each (components, height, width)
        Mean map of the training scans' slices with content, the baseline of the reconstruction.
    """

    inputs: Mapping[str, ModelInput]
    filled: Mapping[str, BoolArray]
    labels: Labels
    masked_share: float
    reference: Tensors

    @classmethod
    def from_cohort(
        cls, model: TwoBe3Net, cohort: Cohort, labels: Labels, training: IntArray, masked_share: float
    ) -> StackStage:
        """The projected maps of all scans; the projections are learnt from the training scans and stay in the model."""
        model.fit_inputs(cohort.subset(training))
        planes = model.maps.stacks
        inputs = dict(zip(planes, model.inputs_.transform(cohort), strict=True))
        shown = {
            plane: np.stack([cut(cohort.volume(subject), plane).any(axis=(1, 2)) for subject in cohort.subjects])
            for plane in model.planes
        }
        filled = {stack: shown[planes[stack]] for stack in inputs}
        reference = {}
        for stack, one in inputs.items():
            there = torch.from_numpy(filled[stack][training])
            reference[stack] = one.values[torch.from_numpy(training)].transpose(1, 2)[there].mean(dim=0)
        return cls(inputs, filled, labels, masked_share, reference)

    def batch(self, rows: IntArray, rng: np.random.Generator, *, mirror: bool) -> StackBatch:
        """Draw the masks of some scans, and which half of the scans is mirrored."""
        mirrored = torch.from_numpy(rng.random(len(rows)) < 0.5) & mirror
        stacks, masks = {}, {}
        for stack, one in self.inputs.items():
            hidden = np.stack([draw_mask(self.filled[stack][row], self.masked_share, rng) for row in rows])
            values, mask = one.values[torch.from_numpy(rows)], torch.from_numpy(hidden)
            axis = one.left_right_axis
            assert axis is not None
            stacks[stack] = torch.where(mirrored.view(-1, 1, 1, 1, 1), values.flip(axis), values)
            # Of sagittal slices mirroring turns the order around.
            masks[stack] = torch.where(mirrored.view(-1, 1), mask.flip(-1), mask) if axis == -3 else mask
        hidden_numbers = {stack: int(mask.sum()) * stacks[stack][0, :, 0].numel() for stack, mask in masks.items()}
        labels = (torch.from_numpy(one) for one in (self.labels.values[rows], label_weights(self.labels.known[rows])))
        return StackBatch(stacks, masks, hidden_numbers, *labels)

    def batches(self, rows: IntArray, batch_size: int, rng: np.random.Generator) -> Iterator[StackBatch]:
        """An epoch over some scans in random order."""
        for part in np.array_split(rng.permutation(rows), self.steps(len(rows), batch_size)):
            yield self.batch(part, rng, mirror=True)

    @staticmethod
    def steps(scans: int, batch_size: int) -> int:
        """Steps of an epoch over so many scans."""
        return -(-scans // batch_size)


def draw_mask(filled: BoolArray, share: float, rng: np.random.Generator) -> BoolArray:
    """Draw the slices to hide: a share of the runs of four neighbouring slices with content, one at least.

    ``filled``, shape (slices,), says which slices have content.
    """
    positions = np.flatnonzero(filled)
    hidden = np.zeros(len(filled), dtype=np.bool_)
    runs = np.split(positions, np.arange(int(rng.integers(1, RUN + 1)), max(len(positions), 1), RUN))
    for number in rng.permutation(len(runs))[: max(1, round(share * len(runs)))]:
        hidden[runs[number]] = True
    return hidden


def train_stacks(
    device: Device, stage: StackStage, model: TwoBe3Net, recipe: Recipe, training: IntArray, checkpoint: Checkpoint
) -> StackNetwork:
    """Train the branches of a model whose projections were learnt; returns them in evaluation mode."""
    network = _network(stage, model, recipe)
    network.load_state_dict(device.run_distributed(_run_training, stage, network, recipe, training, checkpoint))
    return network.eval()


def _network(stage: StackStage, model: TwoBe3Net, recipe: Recipe) -> StackNetwork:
    """The network as training starts with it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.pretrain.seed)
        planes = model.make_network(covariates=0, outputs=max(1, len(stage.labels.scales)))
        network = StackNetwork(planes, stage.reference if MASKED in recipe.pretrain.tasks else {})
    planes.head.requires_grad_(bool(stage.labels.scales))
    return network


def _run_training(
    fabric: Fabric, stage: StackStage, network: StackNetwork, recipe: Recipe, training: IntArray, checkpoint: Checkpoint
) -> State:
    how, scales = recipe.stacks, stage.labels.scales
    network = copy.deepcopy(network).train()
    trained = [value for value in network.parameters() if value.requires_grad]

    def loss(wrapped: nn.Module, batch: StackBatch) -> torch.Tensor:
        labels, filled = wrapped(batch.stacks, batch.masks)
        parts = [how.masked_weight * masked_loss(filled, batch)] if filled else []
        parts += [label_loss(labels, batch.values, batch.weights, scales)] if scales else []
        return torch.stack(parts).sum()

    return train(
        fabric,
        network,
        torch.optim.AdamW(trained, lr=how.learning_rate, weight_decay=how.weight_decay),
        lambda rng: stage.batches(training, how.batch_size, rng),
        loss,
        Schedule("stacks", how.epochs, stage.steps(len(training), how.batch_size), recipe.pretrain.seed),
        checkpoint,
    )


def masked_loss(filled: Tensors, batch: StackBatch) -> torch.Tensor:
    """Mean squared error over the batch's masked slices alone, averaged over the stacks; shape ()."""
    errors = [
        squared_error(maps, batch.stacks[stack], batch.masks[stack]).sum() / max(batch.hidden[stack], 1)
        for stack, maps in filled.items()
    ]
    return torch.stack(errors).mean()


def squared_error(maps: torch.Tensor, true: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sum of squared differences over each scan's masked slices, shape (m,)."""
    return ((maps - true) ** 2 * mask[:, None, :, None, None]).flatten(1).sum(dim=1)


@dataclass(frozen=True, eq=False)
class StackPredictions:
    """Predictions for some scans: raw labels, (m, labels), and sums of squares over the masked slices, (m,).

    The sums are of the differences between the maps and their reconstruction (``error``), the training scans' mean map
    (``spread``), and the straight line between the nearest slices that are shown (``interpolation``).
    """

    labels: FloatArray
    error: FloatArray
    spread: FloatArray
    interpolation: FloatArray


def predict_stacks(stage: StackStage, network: StackNetwork, rows: IntArray, seed: int) -> StackPredictions:
    """Predict some scans, each with masked slices that depend on the scan and the seed alone."""
    labels: list[FloatArray] = []
    sums = []
    with torch.inference_mode():
        for row in rows:
            batch = stage.batch(np.array([row]), np.random.default_rng([seed, 1, int(row)]), mirror=False)
            predicted, filled = network(batch.stacks, batch.masks)
            labels.append(predicted[0].double().numpy())
            total = np.zeros(3)
            for stack in filled:
                maps, mask = batch.stacks[stack], batch.masks[stack]
                line = interpolate_masked(maps, mask[0].numpy(), stage.filled[stack][row])
                guesses = (filled[stack], stage.reference[stack][None, :, None], line)
                total += [float(squared_error(guess, maps, mask)) for guess in guesses]
            sums.append(total)
    return StackPredictions(np.stack(labels), *np.stack(sums, axis=1))


def interpolate_masked(maps: torch.Tensor, mask: BoolArray, filled: BoolArray) -> torch.Tensor:
    """Interpolate the masked slices of one scan linearly between the nearest ones that are shown.

    Maps have the shape (1, components, slices, height, width); ``mask`` and ``filled`` the shape (slices,).
    """
    shown, hidden = np.flatnonzero(filled & ~mask), np.flatnonzero(mask)
    line = maps.clone()
    if len(shown) and len(hidden):
        after = np.searchsorted(shown, hidden)
        low, high = shown[np.maximum(after - 1, 0)], shown[np.minimum(after, len(shown) - 1)]
        share = torch.from_numpy(np.clip((hidden - low) / np.maximum(high - low, 1), 0, 1)).float().view(-1, 1, 1)
        line[:, :, hidden] = maps[:, :, low] * (1 - share) + maps[:, :, high] * share
    return line


def _branch(network: PlanesNetwork, stack: str) -> StackBranch:
    branch = network.branches[stack]
    assert isinstance(branch, StackBranch)
    return branch
