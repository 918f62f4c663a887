"""The first stage of the network that knows PET: it goes on learning, from scans, without labels, by dense tasks.

On scans it learns lesions by threshold and masked voxels. Simulated slices, with all that it was taught, fill the rest
of every batch, so that it does not forget.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from twobe3 import __version__
from twobe3.cohort.cohort import Cohort
from twobe3.core.outcomes import FloatArray, IntArray
from twobe3.features.backbones import Backbone, build_backbone
from twobe3.features.pet_lesions import STRIDE
from twobe3.features.slices import AXIS, Plane, cut
from twobe3.features.weights import State
from twobe3.io.cache import CACHE_VERSION, Arrays, Cache
from twobe3.io.files import digest
from twobe3.pretraining.config import LESIONS, MASKED_VOXELS, Recipe
from twobe3.pretraining.dense import dense_loss, lesion_loss, masked_voxel_loss, score_dense
from twobe3.pretraining.loop import SHUFFLED_SCANS, Batch, Checkpoint, Schedule, count_steps, train
from twobe3.pretraining.scores import FIGURES
from twobe3.pretraining.simulation import (
    BODY_SUV,
    SIDE,
    UNKNOWN,
    DenseSlices,
    crop,
    draw_places,
    make_targets,
    simulate_generic_slices,
    simulate_phantom_slices,
)
from twobe3.pretraining.threshold import ThresholdLesions
from twobe3.runtime.device import Device
from twobe3.runtime.parallel import run_tasks

if TYPE_CHECKING:
    from lightning_fabric import Fabric


BLOCK = 4  # voxels: the side of what is hidden at once
HIDDEN_SHARE = 0.15  # of the blocks that show anything
EVALUATED = 16  # pieces of slices of each plane by which a scan is evaluated
# Simulated slices by kind: the first number of their seeds, which are not those that the shipped network learnt from.
KINDS = {"phantoms": 42_000_000, "generic": 43_000_000}
HELD_OUT = 1_000_000  # from this number on a seed is for evaluation
GROUP = 48  # simulated slices of one seed


@dataclass(frozen=True, eq=False)
class DenseBatch(Batch):
    """Simulated slices, pieces of slices of scans, and what is hidden of the latter.

    Attributes
    ----------
    simulated, scans : DenseSlices
        Of scans ``denoised`` is what was scanned, and only the lesion targets are known beside it.
    blocks : Tensor of bool, shape (m, 1, 16, 16)
        Hidden blocks of the scans' slices.
    size : int
        Slices in the whole batch.
    """

    simulated: DenseSlices
    scans: DenseSlices
    blocks: torch.Tensor
    size: int


@dataclass(frozen=True, eq=False)
class Simulated:
    """Simulated slices by kind and seed, one part a phantom or so many generic slices."""

    parts: Mapping[str, Sequence[DenseSlices]]

    @classmethod
    def make(cls, cache: Cache, first: int, number: int, workers: int) -> Simulated:
        """Simulate those of the seeds from ``first`` on, or read them from the cache."""
        tasks = [(kind, seed) for kind in KINDS for seed in range(first, first + number)]
        for _ in run_tasks(_simulate, tasks, shared=cache, workers=workers, description="simulated slices"):
            pass
        return cls({kind: [_simulate(cache, task) for task in tasks if task[0] == kind] for kind in KINDS})

    def draw(self, number: int, rng: np.random.Generator) -> DenseSlices:
        """Half of either kind."""
        parts = []
        for kind, count in zip(KINDS, (number // 2, number - number // 2), strict=True):
            some = [self.parts[kind][seed] for seed in rng.integers(len(self.parts[kind]), size=count)]
            parts += [part[torch.tensor([rng.integers(len(part))])] for part in some]
        return DenseSlices.join(parts)


def _simulate(cache: Cache, task: tuple[str, int]) -> DenseSlices:
    kind, seed = task

    def compute() -> Arrays:
        seeds = [KINDS[kind], seed]
        slices = simulate_phantom_slices(seeds) if kind == "phantoms" else simulate_generic_slices(seeds, GROUP)
        return {item.name: getattr(slices, item.name).numpy() for item in fields(slices)}

    key = digest([str(CACHE_VERSION), __version__, "simulated slices", kind, str(seed)])
    return DenseSlices(**{name: torch.from_numpy(array) for name, array in cache.get_or_compute(key, compute).items()})


@dataclass(frozen=True, eq=False)
class DenseStage:
    """The scans of a cohort as pieces of 64 × 64 voxels of their slices, on their own voxels, and simulated slices.

    Of each plane of a scan ``per_scan`` pieces are drawn for an epoch; ``simulated`` slices make up
    ``simulated_share`` of every batch. ``cache`` keeps the lesions of each scan.
    """

    cohort: Cohort
    planes: tuple[Plane, ...]
    per_scan: int
    threshold_suv: float
    simulated_share: float
    tasks: frozenset[str]
    simulated: Simulated
    cache: Cache

    @classmethod
    def from_recipe(cls, recipe: Recipe, cohort: Cohort, cache: Cache, workers: int) -> DenseStage:
        """The stage of a recipe, with the slices to learn from simulated."""
        section, how = recipe.pretrain, recipe.slices
        phantoms = how.simulated_phantoms if how.simulated_share else 0
        return cls(
            cohort, section.planes, how.per_scan, how.threshold_suv, how.simulated_share, frozenset(section.tasks),
            Simulated.make(cache, 0, phantoms, workers), cache,
        )  # fmt: skip

    def steps(self, scans: int, batch_size: int) -> int:
        """Steps of an epoch over so many scans."""
        return count_steps(scans, self.per_scan * len(self.planes), batch_size - self._count_simulated(batch_size))

    def _count_simulated(self, batch_size: int) -> int:
        return min(round(self.simulated_share * batch_size), batch_size - 1)

    def batches(self, rows: IntArray, batch_size: int, rng: np.random.Generator) -> Iterator[DenseBatch]:
        """An epoch over some scans: pieces drawn anew, in random order, turned and mirrored."""
        order = rng.permutation(rows)
        for start in range(0, len(order), SHUFFLED_SCANS):
            some = order[start : start + SHUFFLED_SCANS]
            group = DenseSlices.join([self.sample(int(row), self.per_scan, rng) for row in some])
            for index in np.array_split(rng.permutation(len(group)), self.steps(len(some), batch_size)):
                scans = _turn(group[torch.from_numpy(index)], rng)
                count = self._count_simulated(batch_size)
                simulated = _turn(self.simulated.draw(count, rng), rng) if count else scans[torch.arange(0)]
                yield DenseBatch(simulated, scans, draw_blocks(scans.suv, rng), len(simulated) + len(scans))

    def sample(self, row: int, number: int, rng: np.random.Generator) -> DenseSlices:
        """So many pieces of the slices of each plane of a scan, every other one about a lesion, if it has any."""
        subject, spacing_mm = self.cohort.subjects[row], self.cohort.grid.spacing_mm
        suv = self.cohort.volume(subject)

        def find() -> Arrays:
            lesions = ThresholdLesions.find(suv, spacing_mm, self.threshold_suv)
            return {"mask": lesions.mask, "surroundings_suv": lesions.surroundings_suv}

        key = digest(["lesions", __version__, self.cohort.volume_key(subject), str(self.threshold_suv)])
        lesions = self.cache.get_or_compute(key, find)
        unknown, depth = np.full((SIDE, SIDE), UNKNOWN), np.zeros((SIDE, SIDE), np.float32)
        parts = []
        for plane in self.planes:
            scan, free, mask = (
                cut(one.astype(np.float32), plane) for one in (suv, lesions["surroundings_suv"], lesions["mask"])
            )
            body = scan > BODY_SUV
            along, across = (step for axis, step in enumerate(spacing_mm) if axis != AXIS[plane])
            for at, middle in draw_places(mask, body if body.any() else np.ones_like(body), number, rng):
                here, without, ill = (crop(one[at], middle) for one in (scan, free, mask))
                parts.append(make_targets(here, here, without, ill, depth, unknown, (along, across), known=False))
        return DenseSlices.join(parts)


def _turn(slices: DenseSlices, rng: np.random.Generator) -> DenseSlices:
    return slices.turn(turns=int(rng.integers(4)), mirrored=bool(rng.integers(2)))


def draw_blocks(suv: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Draw the blocks of 4 × 4 voxels to hide: each that shows anything with the same likelihood.

    SUV has the shape (m, 1, 64, 64), what is drawn (m, 1, 16, 16).
    """
    shows = functional.avg_pool2d(suv, BLOCK) > BODY_SUV
    return shows & torch.from_numpy(rng.random(shows.shape) < HIDDEN_SHARE)


def hide(suv: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """Put in every hidden block the mean SUV of those of its eight neighbours that are shown; 0 where none is.

    SUV has the shape (m, 1, 64, 64), ``blocks`` (m, 1, 16, 16).
    """
    shown = (~blocks).float()
    mean, share = (functional.avg_pool2d(one, 3, 1, 1) for one in (functional.avg_pool2d(suv, BLOCK) * shown, shown))
    background = _enlarge(mean / share.clamp(min=1e-6), BLOCK)
    return torch.where(_enlarge(blocks, BLOCK), background, suv)


def _enlarge(values: torch.Tensor, times: int) -> torch.Tensor:
    return values.repeat_interleave(times, dim=-2).repeat_interleave(times, dim=-1)


def batch_loss(network: nn.Module, batch: DenseBatch, tasks: frozenset[str]) -> torch.Tensor:
    """Mean loss of the slices of a batch: all tasks for simulated ones, for those of scans the ones asked for.

    Of a share of a batch it is that share's part. Slices of scans are seen whole to find lesions in them, and with
    blocks hidden to say what was there.
    """
    scans, here = batch.scans, {LESIONS: batch.scans.suv, MASKED_VOXELS: hide(batch.scans.suv, batch.blocks)}
    seen = [batch.simulated.suv, *(suv for task, suv in here.items() if task in tasks)]
    outputs = network(torch.cat(seen))
    split = [value.split([len(one) for one in seen]) for value in outputs.values()]
    simulated, *others = (dict(zip(outputs, values, strict=True)) for values in zip(*split, strict=True))
    found = dict(zip([task for task in here if task in tasks], others, strict=True))
    total = outputs["lesion"].sum() * 0.0  # a share may be empty
    if len(batch.simulated):
        total = total + len(batch.simulated) * dense_loss(simulated, batch.simulated)
    if len(scans) and LESIONS in tasks:
        total = total + len(scans) * lesion_loss(found[LESIONS], scans)
    if len(scans) and MASKED_VOXELS in tasks:
        hidden = _enlarge(batch.blocks, BLOCK // STRIDE)
        total = total + len(scans) * masked_voxel_loss(found[MASKED_VOXELS]["denoised"], scans.denoised, hidden)
    mean: torch.Tensor = total / batch.size
    return mean


def train_dense(
    device: Device, stage: DenseStage, backbone: Backbone, recipe: Recipe, training: IntArray, checkpoint: Checkpoint
) -> Backbone:
    """Continue the training of the network that knows PET; returns it, frozen.

    As :func:`~twobe3.pretraining.stage2d.train_slices`, it keeps the statistics of its normalisation by batches unless
    its weights are random.
    """
    state = device.run_distributed(_run_training, stage, backbone, recipe, training, checkpoint)
    return build_backbone(backbone.name, state, mean=backbone.mean, std=backbone.std, weights=backbone.weights)


def _run_training(
    fabric: Fabric, stage: DenseStage, backbone: Backbone, recipe: Recipe, training: IntArray, checkpoint: Checkpoint
) -> State:
    how = recipe.slices
    network = copy.deepcopy(backbone.network).requires_grad_(True).train(backbone.weights == "random")
    return train(
        fabric,
        network,
        torch.optim.AdamW(network.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay),
        lambda rng: stage.batches(training, how.batch_size, rng),
        partial(batch_loss, tasks=stage.tasks),
        Schedule("slices", how.epochs, stage.steps(len(training), how.batch_size), recipe.pretrain.seed),
        checkpoint,
    )


def score_scans(stage: DenseStage, network: nn.Module, rows: IntArray, seed: int) -> dict[str, FloatArray]:
    """The figures of each scan, (n,): the same pieces and hidden blocks for every network.

    ``masked_error``: mean absolute error of log(SUV + 0.1) at hidden positions. ``lesion_dice``, ``lesion_auc``: see
    :func:`~twobe3.pretraining.dense.score_dense`, against the lesions by threshold.
    """
    found = []
    for row in rows:
        rng = np.random.default_rng([seed, 1, int(row)])
        slices = stage.sample(int(row), EVALUATED, rng)
        blocks = draw_blocks(slices.suv, rng)
        hidden = _enlarge(blocks, BLOCK // STRIDE)
        with torch.inference_mode():
            said = network(hide(slices.suv, blocks))["denoised"]
        error = float((said - slices.denoised).abs()[hidden].mean())
        found.append({**score_dense(network, slices), "masked_error": error})
    return _columns(found, tuple(FIGURES))


def score_simulated(parts: Sequence[DenseSlices], network: nn.Module) -> dict[str, FloatArray]:
    """The figures of lesions of each part, (n,)."""
    return _columns([score_dense(network, slices) for slices in parts], tuple(FIGURES)[1:])


def _columns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, FloatArray]:
    return {name: np.array([row[name] for row in rows]) for name in names}
