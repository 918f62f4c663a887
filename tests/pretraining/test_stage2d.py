"""The first stage: single slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from twobe3.cohort.cohort import Cohort
from twobe3.features.backbones import Backbone, load_backbone
from twobe3.io.cache import Cache
from twobe3.pretraining.config import OF_PATIENTS, Recipe
from twobe3.pretraining.labels import Labels
from twobe3.pretraining.loop import Checkpoint
from twobe3.pretraining.stage2d import HEIGHT, SliceNetwork, SliceStage, predict_slices, train_slices
from twobe3.runtime.device import CPU, Device

Make = Callable[..., Recipe]
TRAINING, HELD_OUT = np.arange(9), np.arange(9, 12)
PHANTOM = load_backbone("phantom-resnet10")


def stage_of(recipe: Recipe, cohort: Cohort) -> SliceStage:
    names = [task for task in OF_PATIENTS if task in recipe.pretrain.tasks]
    return SliceStage.from_recipe(recipe, cohort, Labels.from_subjects(cohort.subjects, names, TRAINING))


def learnt(
    recipe: Recipe, cohort: Cohort, backbone: Backbone = PHANTOM, device: Device = CPU
) -> tuple[SliceStage, Backbone, SliceNetwork]:
    stage = stage_of(recipe, cohort)
    return stage, *train_slices(device, stage, backbone, recipe, TRAINING, Checkpoint(Cache(), "a"))


def test_heights_of_slices_are_learnt_better_than_by_their_mean(bodies: Cohort, recipe: Make) -> None:
    asked = recipe(pretrain={"tasks": ["slice_position"]}, slices={"epochs": 12, "per_scan": 8, "learning_rate": 1e-3})
    stage, _, network = learnt(asked, bodies)
    error = spread = 0.0
    for row in HELD_OUT:
        said, slices = predict_slices(stage, network, int(row))
        true = slices.values[:, -1]
        error, spread = error + ((said[:, -1] - true) ** 2).sum(), spread + (true**2).sum()
    assert error < 0.3 * spread


def test_statistics_of_batches_stay_those_of_pre_trained_weights(bodies: Cohort, recipe: Make) -> None:
    before = {name: value.clone() for name, value in PHANTOM.network.state_dict().items()}
    _, tuned, _ = learnt(recipe(), bodies)
    after = tuned.network.state_dict()
    statistics = [name for name in after if "running_" in name]
    assert statistics
    assert all(torch.equal(after[name], before[name]) for name in statistics)
    assert not torch.equal(after["layer2.0.conv1.weight"], before["layer2.0.conv1.weight"])
    # Layers behind the one whose maps are used are as they were, and so is the network that it started from.
    assert torch.equal(after["layer3.0.conv1.weight"], before["layer3.0.conv1.weight"])
    assert all(torch.equal(value, before[name]) for name, value in PHANTOM.network.state_dict().items())


def test_random_weights_learn_their_statistics(bodies: Cohort, recipe: Make) -> None:
    random = load_backbone("phantom-resnet10", "random")
    _, tuned, _ = learnt(recipe(), bodies, random)
    assert not torch.equal(
        tuned.network.state_dict()["bn1.running_mean"], random.network.state_dict()["bn1.running_mean"]
    )


def test_what_held_out_headers_say_changes_nothing(bodies: Cohort, recipe: Make) -> None:
    changed = [replace(bodies.subjects[i], covariates={"sex": "M", "age_years": 1.0}) for i in HELD_OUT]
    other = replace(bodies, subjects=(*bodies.subjects[:9], *changed))
    assert learnt(recipe(), bodies)[1].weights_digest == learnt(recipe(), other)[1].weights_digest


def test_an_epoch_has_the_slices_of_every_training_scan(bodies: Cohort, recipe: Make) -> None:
    stage = stage_of(recipe(pretrain={"planes": ["axial", "coronal"]}), bodies)
    batches = list(stage.batches(TRAINING, 16, np.random.default_rng(0)))
    assert len(batches) == stage.steps(9, 16) == 5
    assert sum(len(batch.pictures) for batch in batches) == 9 * 2 * 4
    again = list(stage.batches(TRAINING, 16, np.random.default_rng(0)))
    assert all(torch.equal(one.pictures, other.pictures) for one, other in zip(batches, again, strict=True))
    assert all(batch.pictures.flatten(1).any(dim=1).all() for batch in batches)  # none is empty


def test_large_cohorts_are_mixed_group_by_group(bodies: Cohort, recipe: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("loop", "stage2d"):
        monkeypatch.setattr(f"twobe3.pretraining.{module}.SHUFFLED_SCANS", 4)
    stage = stage_of(recipe(), bodies)
    batches = list(stage.batches(TRAINING, 5, np.random.default_rng(0)))
    assert len(batches) == stage.steps(9, 5) == 4 + 4 + 1


def test_heights_run_from_0_to_1_over_the_slices_that_show_anything(bodies: Cohort, recipe: Make) -> None:
    stage = stage_of(recipe(pretrain={"planes": ["axial", "coronal"]}), bodies)
    slices = replace(stage, per_scan=5).sample_evenly(0)
    heights = slices.values[:, -1] * HEIGHT.unit + HEIGHT.origin
    # Of slices 2 to 15 those at 2, 5, 8, 12 and 15; a coronal slice has no height.
    np.testing.assert_allclose(heights[:5], np.array([0, 3, 6, 10, 13]) / 13, atol=1e-6)
    assert slices.known[:, -1].tolist() == [True] * 5 + [False] * 5


def test_two_processes_learn_what_one_learns(bodies: Cohort, recipe: Make) -> None:
    asked = recipe(slices={"epochs": 1})
    alone, together = (learnt(asked, bodies, device=Device("cpu", devices=count))[1] for count in (1, 2))
    for one, other in zip(alone.network.parameters(), together.network.parameters(), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-5)
