"""The first stage: the 2D network learns header labels and the height in the body from single slices."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.outcomes import BoolArray, FloatArray, IntArray
from twobe3.features.backbones import Backbone, build_backbone, intermediates, normalise
from twobe3.features.maps import to_pictures
from twobe3.features.slices import LEFT_RIGHT_AXIS, Plane, SliceSpec, cut
from twobe3.features.weights import State
from twobe3.models.nn.lora import find_parameters_behind
from twobe3.pretraining.config import POSITION, Recipe
from twobe3.pretraining.labels import Labels, Scale, label_loss, label_weights
from twobe3.pretraining.loop import SHUFFLED_SCANS, Batch, Checkpoint, Schedule, count_steps, train
from twobe3.runtime.device import Device
from twobe3.runtime.process import one_thread

if TYPE_CHECKING:
    from lightning_fabric import Fabric


# Relative heights from 0 to 1 are nearly uniform: their mean and standard deviation.
HEIGHT = Scale(POSITION, binary=False, origin=0.5, unit=float(np.sqrt(1 / 12)))
HEAD_RATE = 10.0  # the heads start from nothing, the 2D network where it was trained
SCALING_SLICES = 256
PICTURES_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Slices:
    """Slices, (m, 3, size, size) in half precision, with their labels and whether they are known, (m, labels) each."""

    pictures: torch.Tensor
    values: npt.NDArray[np.float32]
    known: BoolArray

    @classmethod
    def join(cls, parts: Sequence[Slices]) -> Slices:
        """Those of all parts, one after another."""
        values, known = (np.concatenate([getattr(part, name) for part in parts]) for name in ("values", "known"))
        return cls(torch.cat([part.pictures for part in parts]), values, known)

    def subset(self, index: IntArray) -> SliceBatch:
        """Some of them, as a batch."""
        values, weights = self.values[index], label_weights(self.known[index])
        return SliceBatch(self.pictures[index], torch.from_numpy(values), torch.from_numpy(weights))


@dataclass(frozen=True, eq=False)
class SliceBatch(Batch):
    """Slices with their labels and what these count, see :func:`~twobe3.pretraining.labels.label_weights`."""

    pictures: torch.Tensor
    values: torch.Tensor
    weights: torch.Tensor


class SliceNetwork(nn.Module):
    """The 2D network, a copy of the backbone's, and a linear head on the average and maximum of its maps.

    Layers behind the last one of these are not trained. The inputs of the head are standardised by what
    the untrained network gives for ``pictures`` of the training scans.
    """

    def __init__(self, backbone: Backbone, layers: Sequence[int], outputs: int, pictures: torch.Tensor) -> None:
        super().__init__()
        self.network = copy.deepcopy(backbone.network)
        used = find_parameters_behind(self.network, layers, pictures.shape[-1])
        for name, value in self.network.named_parameters():
            value.requires_grad_(name in used)
        self.layers = tuple(layers)
        self.see = partial(normalise, mean=backbone.mean, std=backbone.std)
        with torch.no_grad():
            pooled = torch.cat([self.pool(part) for part in torch.split(pictures, PICTURES_AT_ONCE)])
        self.centre: torch.Tensor
        self.scale: torch.Tensor
        self.register_buffer("centre", pooled.mean(dim=0))
        self.register_buffer("scale", pooled.std(dim=0) + 1e-6)
        self.head = nn.Linear(pooled.shape[1], outputs)

    def pool(self, pictures: torch.Tensor) -> torch.Tensor:
        """Average and maximum of the maps over their positions, (m, 2 · channels of all layers)."""
        seen = self.see(pictures.float())
        positions = [maps.flatten(2) for maps in intermediates(self.network, seen, self.layers)]
        return torch.cat([part for one in positions for part in (one.mean(dim=2), one.amax(dim=2))], dim=1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(m, 3, size, size) to (m, labels)."""
        labels: torch.Tensor = self.head((self.pool(pictures) - self.centre) / self.scale)
        return labels


@dataclass(frozen=True, eq=False)
class SliceStage:
    """The scans of a cohort as slices to learn from: of each plane of a scan ``per_scan`` are drawn for an epoch.

    The last of the labels is the height of an axial slice where that is a task.
    """

    cohort: Cohort
    labels: Labels
    planes: tuple[Plane, ...]
    grid: SliceSpec
    per_scan: int

    @classmethod
    def from_recipe(cls, recipe: Recipe, cohort: Cohort, labels: Labels) -> SliceStage:
        """The stage of a recipe; ``labels`` are those of the patients."""
        section = recipe.pretrain
        labels = labels.add_column(HEIGHT) if POSITION in section.tasks else labels
        grid = SliceSpec(section.windows_suv, section.slice_size)
        return cls(cohort, labels, section.planes, grid, recipe.slices.per_scan)

    def steps(self, scans: int, batch_size: int) -> int:
        """Steps of an epoch over so many scans."""
        return count_steps(scans, self.per_scan * len(self.planes), batch_size)

    def batches(self, rows: IntArray, batch_size: int, rng: np.random.Generator) -> Iterator[SliceBatch]:
        """An epoch over some scans: slices drawn anew, half of them mirrored, in random order."""
        order = rng.permutation(rows)
        for start in range(0, len(order), SHUFFLED_SCANS):
            group = Slices.join([self._sample(int(row), rng) for row in order[start : start + SHUFFLED_SCANS]])
            index = rng.permutation(len(group.pictures))
            for position in range(0, len(index), batch_size):
                yield group.subset(index[position : position + batch_size])

    def sample_evenly(self, row: int) -> Slices:
        """The evenly spaced slices of every plane by which a scan is evaluated."""
        return self._sample(row, None)

    def _sample(self, row: int, rng: np.random.Generator | None) -> Slices:
        """Draw slices of a scan, half of them mirrored; without a generator, evenly spaced ones."""
        parts = []
        for plane in self.planes:
            slices, filled = self._non_empty(self.cohort.subjects[row], plane)
            if rng is None:
                chosen = filled[np.linspace(0, len(filled) - 1, self.per_scan).round().astype(np.int64)]
            else:
                chosen = rng.choice(filled, self.per_scan, replace=len(filled) < self.per_scan)
            seen = to_pictures(torch.from_numpy(slices[chosen]), self.grid)
            if rng is not None and LEFT_RIGHT_AXIS[plane] == -1:
                mirrored = torch.from_numpy(rng.random(self.per_scan) < 0.5).view(-1, 1, 1, 1)
                seen = torch.where(mirrored, seen.flip(-1), seen)
            parts.append(Slices(seen.half(), *self._labels(row, plane, chosen, filled)))
        return Slices.join(parts)

    def _non_empty(self, subject: Subject, plane: Plane) -> tuple[npt.NDArray[np.float32], IntArray]:
        """The slices of a plane, and the positions of those that are not empty."""
        slices = np.ascontiguousarray(cut(self.cohort.volume(subject), plane))
        filled = np.flatnonzero(slices.any(axis=(1, 2)))
        return slices, filled if len(filled) else np.arange(len(slices))

    def _labels(
        self, row: int, plane: Plane, chosen: IntArray, filled: IntArray
    ) -> tuple[npt.NDArray[np.float32], BoolArray]:
        values, known = (np.tile(table[row], (len(chosen), 1)) for table in (self.labels.values, self.labels.known))
        if plane == "axial" and HEIGHT in self.labels.scales:
            height = (chosen - filled[0]) / max(1, filled[-1] - filled[0])
            values[:, -1] = (height - HEIGHT.origin) / HEIGHT.unit
            known[:, -1] = True
        return values, known


def train_slices(
    device: Device, stage: SliceStage, backbone: Backbone, recipe: Recipe, training: IntArray, checkpoint: Checkpoint
) -> tuple[Backbone, SliceNetwork]:
    """Train the 2D network; returns it, frozen, and with its heads in evaluation mode.

    Normalisation by batches keeps the statistics that came with pre-trained weights: a batch has slices of a few
    scans, whose statistics are neither those of the cohort nor those with which the maps are made later. Random
    weights have none to keep.
    """
    network = _network(stage, backbone, recipe, training)
    network.load_state_dict(device.run_distributed(_run_training, stage, backbone, recipe, training, checkpoint))
    tuned = {key: value.detach().clone() for key, value in network.network.state_dict().items()}
    other = build_backbone(backbone.name, tuned, mean=backbone.mean, std=backbone.std, weights=backbone.weights)
    return other, network


def _run_training(
    fabric: Fabric, stage: SliceStage, backbone: Backbone, recipe: Recipe, training: IntArray, checkpoint: Checkpoint
) -> State:
    how, scales = recipe.slices, stage.labels.scales
    network = _network(stage, backbone, recipe, training)
    network.train(backbone.weights == "random")
    parts = ((network.network, how.learning_rate), (network.head, HEAD_RATE * how.learning_rate))
    groups = [{"params": [one for one in part.parameters() if one.requires_grad], "lr": rate} for part, rate in parts]
    return train(
        fabric,
        network,
        torch.optim.AdamW(groups, weight_decay=how.weight_decay),
        lambda rng: stage.batches(training, how.batch_size, rng),
        lambda wrapped, batch: label_loss(wrapped(batch.pictures), batch.values, batch.weights, scales),
        Schedule("slices", how.epochs, stage.steps(len(training), how.batch_size), recipe.pretrain.seed),
        checkpoint,
    )


def _network(stage: SliceStage, backbone: Backbone, recipe: Recipe, training: IntArray) -> SliceNetwork:
    """The network as training starts with it, in evaluation mode."""
    layers = recipe.pretrain.layer if isinstance(recipe.pretrain.layer, tuple) else (recipe.pretrain.layer,)
    few = max(1, SCALING_SLICES // (stage.per_scan * len(stage.planes)))
    seen = torch.cat([stage.sample_evenly(int(row)).pictures for row in training[:few]])
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(recipe.pretrain.seed)
        return SliceNetwork(backbone, layers, len(stage.labels.scales), seen).eval()


def predict_slices(stage: SliceStage, network: SliceNetwork, row: int) -> tuple[FloatArray, Slices]:
    """Predict the labels, shape (m, labels), of the evenly spaced slices of a scan, and return both."""
    slices = stage.sample_evenly(row)
    with torch.inference_mode():
        return network(slices.pictures).double().numpy(), slices
