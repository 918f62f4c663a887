"""The second stage: stacks of maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from twobe3.cohort.cohort import Cohort
from twobe3.io.cache import Cache
from twobe3.models import TwoBe3Net
from twobe3.models.nn.pca import Projection
from twobe3.pretraining import stage3d as stacks
from twobe3.pretraining.config import OF_PATIENTS, Recipe
from twobe3.pretraining.labels import Labels
from twobe3.pretraining.loop import Checkpoint
from twobe3.pretraining.stage3d import (
    StackNetwork,
    StackStage,
    draw_mask,
    interpolate_masked,
    masked_loss,
    predict_stacks,
    squared_error,
    train_stacks,
)
from twobe3.runtime.device import CPU

Make = Callable[..., Recipe]
TRAINING, HELD_OUT = np.arange(9), np.arange(9, 12)
STORE = Cache()


def prepared(recipe: Recipe, cohort: Cohort) -> tuple[StackStage, TwoBe3Net]:
    model = recipe.model(Path(), STORE, CPU)
    names = [task for task in OF_PATIENTS if task in recipe.pretrain.tasks]
    labels = Labels.from_subjects(cohort.subjects, names, TRAINING)
    return StackStage.from_cohort(model, cohort, labels, TRAINING, recipe.stacks.masked_share), model


def learnt(recipe: Recipe, cohort: Cohort) -> tuple[StackStage, StackNetwork]:
    stage, model = prepared(recipe, cohort)
    return stage, train_stacks(CPU, stage, model, recipe, TRAINING, Checkpoint(Cache(), "a"))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.9])
def test_runs_of_four_neighbours_are_hidden_among_the_slices_that_show_anything(share: float) -> None:
    filled = np.zeros(60, dtype=bool)
    filled[5:53] = True
    masks = np.stack([draw_mask(filled, share, np.random.default_rng(seed)) for seed in range(200)])
    assert not masks[:, ~filled].any()
    assert masks.any(axis=1).all()
    assert masks.sum() / 200 / 48 == pytest.approx(share, abs=0.03)
    edges = np.diff(masks[:, 5:53].astype(int), prepend=0, axis=1) == 1
    lengths = masks.sum(axis=1) / edges.sum(axis=1)
    assert lengths.mean() > 3


def test_a_scan_that_shows_nothing_hides_nothing() -> None:
    assert not draw_mask(np.zeros(9, dtype=bool), 0.5, np.random.default_rng(0)).any()


def test_the_loss_looks_at_the_masked_slices_alone(bodies: Cohort, recipe: Make) -> None:
    stage, _ = prepared(recipe(), bodies)
    batch = stage.batch(TRAINING, np.random.default_rng(0), mirror=False)
    maps, mask = batch.stacks["axial"].numpy(), batch.masks["axial"].numpy()
    filled = torch.randn(batch.stacks["axial"].shape, generator=torch.Generator().manual_seed(0))
    loss = float(masked_loss({"axial": filled}, batch))
    hidden = np.broadcast_to(mask[:, None, :, None, None], maps.shape)
    assert loss == pytest.approx(((filled.numpy() - maps)[hidden] ** 2).mean(), rel=1e-5)
    other = torch.where(torch.from_numpy(hidden.copy()), filled, torch.nan_to_num(filled) + 5.0)
    assert float(masked_loss({"axial": other}, batch)) == loss
    shares = [batch.share(rank, 2, torch.device("cpu")) for rank in range(2)]
    parts = [masked_loss({"axial": filled[rank::2]}, share) for rank, share in enumerate(shares)]
    assert float(sum(parts)) == pytest.approx(loss, rel=1e-5)


def test_what_is_masked_is_not_seen(bodies: Cohort, recipe: Make) -> None:
    stage, network = learnt(recipe(), bodies)
    batch = stage.batch(HELD_OUT, np.random.default_rng(0), mirror=False)
    hidden = batch.masks["axial"][:, None, :, None, None]
    other = {"axial": torch.where(hidden, torch.full_like(batch.stacks["axial"], 9.0), batch.stacks["axial"])}
    with torch.inference_mode():
        said, filled = network(batch.stacks, batch.masks)
        of_other, filled_other = network(other, batch.masks)
    assert torch.equal(filled["axial"], filled_other["axial"])
    assert not torch.equal(said, of_other)  # labels are told from whole stacks


def test_masked_maps_are_filled_in_better_than_by_their_mean(bodies: Cohort, recipe: Make) -> None:
    asked = recipe(pretrain={"tasks": ["masked_features"]}, stacks={"epochs": 60, "learning_rate": 1e-2})
    stage, model = prepared(asked, bodies)
    untrained = stacks._network(stage, model, asked).eval()
    said = predict_stacks(stage, untrained, HELD_OUT, 0)
    np.testing.assert_allclose(said.error, said.spread, rtol=1e-6)  # it starts at the mean map
    trained = train_stacks(CPU, stage, model, asked, TRAINING, Checkpoint(Cache(), "a"))
    said = predict_stacks(stage, trained, HELD_OUT, 0)
    assert said.error.sum() < 0.85 * said.spread.sum()


def test_interpolation_is_that_of_another_library_and_knows_what_is_shown_alone() -> None:
    maps = torch.randn(1, 3, 12, 2, 2, generator=torch.Generator().manual_seed(0))
    filled = np.arange(12) > 0
    mask = np.isin(np.arange(12), [1, 2, 5, 6, 7, 11])
    shown = np.flatnonzero(filled & ~mask)
    line = interpolate_masked(maps, mask, filled).numpy().reshape(3, 12, 4)
    for channel in range(3):
        for pixel in range(4):
            true = maps.numpy().reshape(3, 12, 4)[channel, :, pixel]
            np.testing.assert_allclose(
                line[channel, mask, pixel], np.interp(np.flatnonzero(mask), shown, true[shown]), rtol=1e-5, atol=1e-6
            )
    other = torch.where(torch.from_numpy(mask).view(1, 1, -1, 1, 1), torch.tensor(9.0), maps)
    assert (interpolate_masked(other, mask, filled).numpy() == interpolate_masked(maps, mask, filled).numpy()).all()


def test_components_mean_maps_and_units_are_those_of_the_training_scans(bodies: Cohort, recipe: Make) -> None:
    stage, model = prepared(recipe(), bodies)
    (extractor,) = model.maps.extractors()
    maps = [extractor.extract(bodies, bodies.subjects[i])["axial"] for i in TRAINING]
    expected = Projection.fit(maps, 4)
    np.testing.assert_array_equal(model.inputs_.projections["axial"].matrix, expected.matrix)
    mean = np.mean([expected(one)[:, 2:].mean(axis=1) for one in maps], axis=0)  # slices 0 and 1 are empty
    np.testing.assert_allclose(stage.reference["axial"].numpy(), mean, atol=1e-4)


def test_what_held_out_headers_say_changes_nothing(bodies: Cohort, recipe: Make) -> None:
    changed = [replace(bodies.subjects[i], covariates={"sex": "M", "age_years": 1.0}) for i in HELD_OUT]
    other = replace(bodies, subjects=(*bodies.subjects[:9], *changed))
    states = [learnt(recipe(), cohort)[1].state_dict() for cohort in (bodies, other)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_mirroring_turns_pictures_and_the_order_of_sagittal_slices(bodies: Cohort, recipe: Make) -> None:
    stage, _ = prepared(recipe(pretrain={"planes": ["axial", "sagittal"]}), bodies)
    row = np.array([0] * 8)
    seen = stage.batch(row, np.random.default_rng(3), mirror=True)
    for stack, axis in (("axial", -1), ("sagittal", -3)):
        plain = stage.inputs[stack].values[0]
        turned = [torch.equal(one, plain.flip(axis)) for one in seen.stacks[stack]]
        kept = [torch.equal(one, plain) for one in seen.stacks[stack]]
        assert [not one for one in turned] == kept
        assert 0 < sum(turned) < 8
    blank = torch.from_numpy(~stage.filled["sagittal"][0])
    for one, mask in zip(seen.stacks["sagittal"], seen.masks["sagittal"], strict=True):
        mirrored = not torch.equal(one, stage.inputs["sagittal"].values[0])
        assert not (mask & (blank.flip(0) if mirrored else blank)).any()


def test_squared_errors_are_sums_over_each_scan() -> None:
    maps, true = torch.zeros(2, 3, 4, 1, 1), torch.full((2, 3, 4, 1, 1), 2.0)
    mask = torch.tensor([[True, False, False, True], [False, False, False, True]])
    assert squared_error(maps, true, mask).tolist() == [24.0, 12.0]
