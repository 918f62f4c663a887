"""The network that knows PET goes on learning from the slices of scans."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.grid import Grid
from twobe3.core.volume import Geometry, SUVCalibration, SUVVolume
from twobe3.features.backbones import load_backbone
from twobe3.features.pet_lesions import FLOOR_SUV
from twobe3.io.cache import Cache
from twobe3.pretraining import dense_stage as module
from twobe3.pretraining.config import Recipe
from twobe3.pretraining.dense import masked_voxel_loss
from twobe3.pretraining.dense_stage import (
    BLOCK,
    GROUP,
    DenseStage,
    Simulated,
    batch_loss,
    draw_blocks,
    hide,
    score_scans,
    score_simulated,
    train_dense,
)
from twobe3.pretraining.loop import Checkpoint
from twobe3.pretraining.scores import compare
from twobe3.pretraining.simulation import simulate_generic_slices
from twobe3.runtime.device import CPU, Device
from twobe3.scans.scan import ArrayScan

Make = Callable[..., Recipe]
GRID = Grid(spacing_mm=(5.0, 5.0, 5.0), field_of_view_mm=(240.0, 240.0, 240.0))
TRAINING, HELD_OUT = np.arange(5), np.arange(5, 9)
SHIPPED = load_backbone("pet-lesions")


def subject(number: int, suv: npt.NDArray[Any]) -> Subject:
    affine = np.eye(4)
    affine[:3, :3] = 5.0 * np.fliplr(np.eye(3))
    geometry = Geometry(GRID.shape, affine)
    volume = SUVVolume(suv.astype(np.float32), geometry, SUVCalibration("bw", "TEST", 1.0, 1.0))
    return Subject(f"MRN-{number}", ArrayScan(volume))


def distance(centre: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    return np.sqrt(sum((axis - at) ** 2 for axis, at in zip(np.indices(GRID.shape), centre, strict=True))) * 5.0


@pytest.fixture(scope="module")
def odd() -> Cohort:
    """Scans of a scanner that the shipped network never saw: a point spread of 22 mm and stripes along the rows."""
    rng = np.random.default_rng(0)
    subjects = []
    for number in range(9):
        body = distance((24, 24, 24)) < 100.0
        suv = body * np.exp(0.5 * ndimage.gaussian_filter(rng.normal(size=GRID.shape), 2.0) * 10)
        for _ in range(2):
            suv += 9.0 * (distance(tuple(rng.uniform(16, 32, 3))) < 14.0)
        blurred = ndimage.gaussian_filter(suv, 22.0 / 2.355 / 5.0)
        stripes = 1.0 + 0.6 * np.sin(np.arange(GRID.shape[2]) * 2.1)
        subjects.append(subject(number, blurred * stripes))
    return Cohort(tuple(subjects), grid=GRID)


@pytest.fixture
def dense(monkeypatch: pytest.MonkeyPatch, recipe: Make) -> Make:
    """A quick recipe of the network that knows PET; phantoms, which take seconds, are replaced by simulated shapes."""
    monkeypatch.setattr(module, "GROUP", 8)
    monkeypatch.setattr(module, "simulate_phantom_slices", lambda seed: simulate_generic_slices(seed, 8))

    def make(**tables: dict[str, Any]) -> Recipe:
        tables["pretrain"] = {"backbone": "pet-lesions", "slice_size": 128, **tables.get("pretrain", {})}
        tables["slices"] = {"simulated_phantoms": 2, **tables.get("slices", {})}
        return recipe(**tables)

    return make


def stage_of(asked: Recipe, cohort: Cohort) -> DenseStage:
    return DenseStage.from_recipe(asked, cohort, Cache(), workers=1)


def test_targets_of_a_ball_are_those_of_its_geometry(dense: Make) -> None:
    far = distance((24, 24, 24))
    suv = np.where(far < 30.0, 8.0, np.where(far < 100.0, 1.0, 0.0))
    stage = stage_of(dense(), Cohort((subject(0, suv),), grid=GRID))
    slices = stage.sample(0, 8, np.random.default_rng(0))
    hot = (slices.suv == 8.0).float()
    assert slices.suv.shape == (8, 1, 64, 64)
    torch.testing.assert_close(slices.lesion, functional.avg_pool2d(hot, 2))
    inner = slices.lesion == 1.0
    assert inner.any()
    torch.testing.assert_close(
        slices.excess[inner], torch.full_like(slices.excess[inner], np.log1p(14.0)), atol=1e-3, rtol=0
    )
    assert (slices.excess[slices.lesion == 0.0] == 0.0).all()
    torch.testing.assert_close(slices.denoised, torch.log(functional.avg_pool2d(slices.suv, 2) + FLOOR_SUV))
    for piece in range(0, 8, 2):  # those about the lesion
        assert slices.lesion[piece].any()
        row, column = ndimage.center_of_mass(slices.lesion[piece, 0].numpy())
        peak = np.unravel_index(int(slices.centre[piece].argmax()), (32, 32))
        assert np.hypot(peak[0] - row, peak[1] - column) <= 1.5


def test_a_hidden_block_is_the_mean_of_its_shown_neighbours_and_nothing_else_changes() -> None:
    suv = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    blocks = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    blocks[..., 5, 6] = blocks[..., 5, 7] = True
    found = hide(suv, blocks)
    means = suv.reshape(16, BLOCK, 16, BLOCK).mean(dim=(1, 3))
    around = [means[i, j] for i in (4, 5, 6) for j in (5, 6, 7) if (i, j) not in ((5, 6), (5, 7))]
    torch.testing.assert_close(found[0, 0, 20:24, 24:28], torch.stack(around).mean().expand(4, 4))
    assert (found != suv).sum() == 2 * BLOCK**2
    level = torch.full((1, 1, 64, 64), 3.0)
    drawn = draw_blocks(level, np.random.default_rng(0))
    assert drawn.any()
    torch.testing.assert_close(hide(level, drawn), level)


def test_only_blocks_that_show_anything_are_hidden() -> None:
    suv = torch.zeros(1, 1, 64, 64)
    suv[..., :32] = 1.0
    drawn = draw_blocks(suv.expand(50, -1, -1, -1), np.random.default_rng(0))
    assert not drawn[..., 8:].any()
    assert 0.12 < float(drawn[..., :8].float().mean()) < 0.18


def test_the_loss_of_masked_voxels_touches_hidden_positions_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    said = torch.randn(2, 1, 32, 32, generator=generator, requires_grad=True)
    true = torch.randn(2, 1, 32, 32, generator=generator)
    hidden = torch.rand(2, 1, 32, 32, generator=generator) < 0.1
    loss = masked_voxel_loss(said, true, hidden)
    torch.testing.assert_close(loss, functional.smooth_l1_loss(said[hidden], true[hidden], beta=0.1))
    loss.backward()
    assert said.grad is not None
    assert torch.equal(said.grad != 0, hidden)
    assert float(masked_voxel_loss(said.detach(), true, hidden & False)) == 0.0


def test_half_of_every_batch_is_simulated_and_an_epoch_has_every_scan(odd: Cohort, dense: Make) -> None:
    stage = stage_of(dense(pretrain={"planes": ["axial", "coronal"]}), odd)
    batches = list(stage.batches(TRAINING, 8, np.random.default_rng(0)))
    assert len(batches) == stage.steps(len(TRAINING), 8) == 10
    assert [len(batch.simulated) for batch in batches] == [4] * 10
    assert sum(len(batch.scans) for batch in batches) == 5 * 2 * 4
    again = list(stage.batches(TRAINING, 8, np.random.default_rng(0)))
    assert all(torch.equal(one.scans.suv, other.scans.suv) for one, other in zip(batches, again, strict=True))
    alone = stage_of(dense(slices={"simulated_share": 0.0}), odd)
    assert not any(len(batch.simulated) for batch in alone.batches(TRAINING, 8, np.random.default_rng(0)))


def test_shares_of_a_batch_are_the_whole_of_it(odd: Cohort, dense: Make) -> None:
    batch = next(stage_of(dense(), odd).batches(TRAINING, 8, np.random.default_rng(0)))
    shares = [batch.share(rank, 2, torch.device("cpu")) for rank in (0, 1)]
    assert [share.size for share in shares] == [8, 8]
    assert [len(share.scans) for share in shares] == [2, 2]
    for item in fields(batch.simulated):
        rows = torch.cat([getattr(share.simulated, item.name) for share in shares])
        assert torch.equal(rows, getattr(batch.simulated, item.name)[torch.tensor([0, 2, 1, 3])])


@pytest.mark.parametrize("task", ["lesions", "masked_voxels"])
def test_a_task_that_is_not_asked_for_is_not_learnt(odd: Cohort, dense: Make, task: str) -> None:
    # On scans alone, whose outputs for other tasks then get no gradient.
    stage = stage_of(dense(slices={"simulated_share": 0.0}), odd)
    batch = next(stage.batches(TRAINING, 8, np.random.default_rng(0)))
    network = load_backbone("pet-lesions").network.requires_grad_(True)
    batch_loss(network, batch, frozenset([task])).backward()
    gradient = network.head[1].bias.grad  # type: ignore[index, union-attr]
    assert isinstance(gradient, torch.Tensor)
    learnt = {
        name: bool(gradient[channel] != 0) for channel, name in enumerate(["lesion", "centre", "excess", "denoised"])
    }
    assert learnt == {name: (name == "denoised") == (task == "masked_voxels") for name in learnt}
    assert not gradient[4:].any()


def test_an_unknown_scanner_is_learnt_and_simulated_slices_are_not_forgotten(odd: Cohort, dense: Make) -> None:
    asked = dense(slices={"epochs": 3, "per_scan": 8, "batch_size": 16, "learning_rate": 1e-3})
    stage = stage_of(asked, odd)
    tuned = train_dense(CPU, stage, SHIPPED, asked, TRAINING, Checkpoint(Cache(), "a"))
    before, after = (score_scans(stage, one.network, HELD_OUT, 0) for one in (SHIPPED, tuned))
    (change,) = compare(
        "scans", *({"masked_error": one["masked_error"]} for one in (before, after)), resamples=200, seed=0
    )
    assert change.verdict == "better"
    held_out = Simulated.make(stage.cache, module.HELD_OUT, 2, workers=1).parts["generic"]
    known = [score_simulated(held_out, one.network)["lesion_auc"].mean() for one in (SHIPPED, tuned)]
    assert known[1] > known[0] - 0.05
    # Statistics of batches stay those that came with the weights, and the network that it started from is as it was.
    states = [one.network.state_dict() for one in (SHIPPED, tuned, load_backbone("pet-lesions"))]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0] if "running_" in name)
    assert all(torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_a_resumed_training_is_an_uninterrupted_one(odd: Cohort, dense: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = dense(slices={"epochs": 2, "per_scan": 2})
    stage = stage_of(asked, odd)
    whole = train_dense(CPU, stage, SHIPPED, asked, TRAINING, Checkpoint(Cache(), "a"))
    cache = Cache()
    put = cache.put

    def interrupt(*args: Any, **how: Any) -> None:
        put(*args, **how)
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "put", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_dense(CPU, stage, SHIPPED, asked, TRAINING, Checkpoint(cache, "a"))
    monkeypatch.setattr(cache, "put", put)
    resumed = train_dense(CPU, stage, SHIPPED, asked, TRAINING, Checkpoint(cache, "a"))
    assert resumed.weights_digest == whole.weights_digest != SHIPPED.weights_digest


def test_two_processes_learn_nearly_what_one_learns(odd: Cohort, dense: Make) -> None:
    # Not the same: each share of a batch has a Dice coefficient of its own.
    asked = dense(slices={"epochs": 1})
    stage = stage_of(asked, odd)
    one, two = (
        train_dense(Device("cpu", devices=count), stage, SHIPPED, asked, TRAINING, Checkpoint(Cache(), "a"))
        for count in (1, 2)
    )
    vectors = [nn.utils.parameters_to_vector(network.network.parameters()) for network in (SHIPPED, one, two)]
    changes = [vector - vectors[0] for vector in vectors[1:]]
    assert float(functional.cosine_similarity(*changes, dim=0)) > 0.8


def test_what_held_out_scans_show_changes_nothing(odd: Cohort, dense: Make) -> None:
    asked = dense(slices={"epochs": 1, "per_scan": 2})
    other = replace(odd, subjects=(*odd.subjects[:5], *(subject(i, np.full(GRID.shape, 7.0)) for i in HELD_OUT)))
    digests = {
        train_dense(CPU, stage_of(asked, one), SHIPPED, asked, TRAINING, Checkpoint(Cache(), "a")).weights_digest
        for one in (odd, other)
    }
    assert len(digests) == 1


def test_simulated_slices_are_kept_and_those_for_evaluation_are_others(
    dense: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache()
    first, held = (Simulated.make(cache, start, 2, workers=1) for start in (0, module.HELD_OUT))
    monkeypatch.setattr(module, "simulate_generic_slices", None)
    again = Simulated.make(cache, 0, 2, workers=1)
    for kind, parts in first.parts.items():
        assert all(torch.equal(one.suv, other.suv) for one, other in zip(parts, again.parts[kind], strict=True))
        assert not any(torch.equal(one.suv, other.suv) for one in parts for other in held.parts[kind])
    assert GROUP > 8  # this module's slices are fewer
    drawn = first.draw(5, np.random.default_rng(0))
    assert len(drawn) == 5
