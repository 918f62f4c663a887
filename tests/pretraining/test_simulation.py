"""Simulated slices: their targets say what is in them."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from twobe3.features.pet_lesions import FLOOR_SUV, ORGANS
from twobe3.phantom.anatomy import build_body
from twobe3.pretraining.simulation import (
    ORGAN_OF,
    SIDE,
    UNKNOWN,
    DenseSlices,
    simulate_generic_slices,
    simulate_phantom_slices,
)


@pytest.fixture(scope="module")
def kinds() -> dict[str, DenseSlices]:
    return {"phantom": simulate_phantom_slices([7, 3]), "generic": simulate_generic_slices([8, 3], 48)}


@pytest.mark.parametrize("kind", ["phantom", "generic"])
def test_the_excess_is_what_a_lesion_adds_to_the_slice_without_it(kinds: dict[str, DenseSlices], kind: str) -> None:
    slices = kinds[kind]
    with_lesions, without = (one.exp() - FLOOR_SUV for one in (slices.denoised, slices.lesion_free))
    torch.testing.assert_close((with_lesions - without).clamp(min=0), slices.excess.expm1() / 2, atol=2e-4, rtol=1e-3)
    assert (slices.excess.expm1()[slices.lesion >= 0.5] > 0).all()
    healthy = slices.lesion.flatten(1).amax(dim=1) == 0
    assert healthy.any()
    assert (slices.excess[healthy].flatten(1).amax(dim=1) < 1.0).all()  # at most the edge of a lesion next door


@pytest.mark.parametrize("kind", ["phantom", "generic"])
def test_the_scan_is_the_denoised_slice_and_noise_of_mean_zero(kinds: dict[str, DenseSlices], kind: str) -> None:
    slices = kinds[kind]
    scan, clean = functional.avg_pool2d(slices.suv, 2), slices.denoised.exp() - FLOOR_SUV
    bright = clean > 1.0  # where no noise is cut off at 0
    difference = (scan - clean)[bright]
    assert abs(float(difference.mean())) < 0.02 * float(clean[bright].mean())
    assert 0.005 < float((difference / clean[bright]).std()) < 0.5


@pytest.mark.parametrize("kind", ["phantom", "generic"])
def test_every_lesion_of_some_size_has_one_mark_at_its_centre(kinds: dict[str, DenseSlices], kind: str) -> None:
    slices = kinds[kind]
    counted = 0
    for lesion, centre in zip(slices.lesion[:, 0].numpy(), slices.centre[:, 0].numpy(), strict=True):
        if ndimage.label(lesion > 0)[1] != 1 or lesion.max() < 0.75:
            continue
        counted += 1
        row, column = ndimage.center_of_mass(lesion)
        peak = np.unravel_index(int(centre.argmax()), centre.shape)
        assert np.hypot(peak[0] - row, peak[1] - column) <= 2.0
    assert counted >= 2


def test_depth_is_zero_outside_the_body_and_grows_by_a_voxel_a_voxel(kinds: dict[str, DenseSlices]) -> None:
    slices = kinds["phantom"]
    assert slices.depth_known.all()
    air = slices.organ[:, None] == ORGANS.index("air")
    inside = ~(air[..., 1:, :] | air[..., :-1, :])
    steps = (slices.depth[..., 1:, :] - slices.depth[..., :-1, :]).abs()[inside]
    assert float(steps.max()) <= 2 * 6.5 / 100 + 1e-6  # two voxels of 6.5 mm at most, in dm
    assert float(slices.depth[air].median()) == 0.0


def test_the_organs_are_named_as_the_phantom_names_them_and_unknown_elsewhere(kinds: dict[str, DenseSlices]) -> None:
    assert (kinds["generic"].organ == UNKNOWN).all()
    drawn = {
        organ.name
        for seed in range(4)
        for arms in ("up", "down")
        for organ in build_body(height_m=1.7, weight_kg=70, sex="F", arms=arms, rng=np.random.default_rng(seed)).organs
    }
    assert set(ORGAN_OF) <= drawn
    lung, liver = (ORGANS.index(name) for name in ("lung", "liver and spleen"))
    uptake = kinds["phantom"].lesion_free.exp() - FLOOR_SUV
    organ = kinds["phantom"].organ[:, None]
    if (organ == liver).any():
        assert float(uptake[organ == liver].median()) > 2 * float(uptake[organ == lung].median())


def test_equal_seeds_give_equal_slices_and_others_do_not(kinds: dict[str, DenseSlices]) -> None:
    again, other = simulate_generic_slices([8, 3], 48), simulate_generic_slices([8, 4], 48)
    for item in fields(DenseSlices):
        assert torch.equal(getattr(kinds["generic"], item.name), getattr(again, item.name))
    assert not torch.equal(kinds["generic"].suv, other.suv)


def test_turning_turns_slice_and_targets_alike(kinds: dict[str, DenseSlices]) -> None:
    slices = kinds["phantom"]
    turned = slices.turn(1, mirrored=True)
    for item in fields(DenseSlices):
        before, after = getattr(slices, item.name).numpy(), getattr(turned, item.name).numpy()
        expected = before if before.ndim < 2 else np.rot90(before, axes=(-2, -1))[..., ::-1]
        np.testing.assert_array_equal(after, expected)
    assert turned.suv.shape[-2:] == (SIDE, SIDE)
