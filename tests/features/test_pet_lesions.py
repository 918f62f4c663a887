"""The network that knows PET: its maps are cells of its dense outputs, and its packaged weights see lesions."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from twobe3.features.backbones import load_backbone
from twobe3.features.pet_lesions import OUTPUTS, PETLesionNetwork
from twobe3.features.weights import WeightsSource


@pytest.fixture
def network() -> PETLesionNetwork:
    torch.manual_seed(3)
    return PETLesionNetwork().eval()


@pytest.mark.parametrize(("layer", "cell"), [(1, 2), (2, 4), (3, 8)])
def test_maps_are_averages_and_maxima_of_the_dense_outputs_over_cells(
    network: PETLesionNetwork, layer: int, cell: int
) -> None:
    suv = torch.rand(2, 1, 32, 48, generator=torch.Generator().manual_seed(0)) * 8
    with torch.inference_mode():
        (maps,), dense = network.maps(suv, [layer]), network(suv)
    expected = np.concatenate(
        [
            1 / (1 + np.exp(-dense["lesion"].numpy())),
            1 / (1 + np.exp(-dense["centre"].numpy())),
            dense["excess"].numpy().clip(0),
        ],
        axis=1,
    )
    blocks = expected.reshape(2, 3, 32 // cell, cell // 2, 48 // cell, cell // 2)
    np.testing.assert_allclose(maps[:, :3], blocks.mean(axis=(3, 5)), atol=1e-6)
    np.testing.assert_allclose(maps[:, 3:], blocks.max(axis=(3, 5)), atol=1e-6)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (16, 100), (5, 7)])
def test_a_slice_of_any_size_has_a_position_for_each_cell_that_begins_in_it(
    network: PETLesionNetwork, size: tuple[int, int]
) -> None:
    with torch.inference_mode():
        found = network.maps(torch.ones(1, 1, *size), [0, 1, 2, 3])
    for maps, cell in zip(found, (2, 2, 4, 8), strict=True):
        assert maps.shape[-2:] == tuple(-(-length // cell) for length in size)


def test_what_moves_by_the_deepest_stride_moves_in_every_map(network: PETLesionNetwork) -> None:
    # Far from the edges of the slice: what the network sees there reaches 64 voxels at most.
    suv = torch.full((1, 1, 320, 320), 1.0)
    suv[..., 150:160, 140:147] = 6.0
    with torch.inference_mode():
        here, there = (network.maps(one, [3])[0] for one in (suv, suv.roll((16, 32), (-2, -1))))
    torch.testing.assert_close(here[..., 14:24, 14:24], there[..., 16:26, 18:28], rtol=1e-4, atol=1e-5)


def test_outputs_have_the_channels_that_the_table_says_at_half_the_voxels(network: PETLesionNetwork) -> None:
    with torch.inference_mode():
        dense = network(torch.zeros(3, 1, 64, 32))
    assert {name: tuple(value.shape) for name, value in dense.items()} == {
        name: (3, channels, 32, 16) for name, channels in OUTPUTS.items()
    }


def test_the_packaged_weights_say_how_well_they_do_and_are_small() -> None:
    backbone = load_backbone("pet-lesions")
    state, notes = WeightsSource.parse("package:pet_lesions.safetensors").read("pet-lesions")
    assert sum(value.numel() for value in state.values()) * 2 < 2_000_000
    assert set(json.loads(notes["held_out"])) == {"slices", "phantoms", "generic"}
    assert backbone.layers == 4


@pytest.mark.parametrize("spacing", [3.0, 4.0, 6.0])
def test_the_packaged_network_finds_a_hot_ball_at_any_voxel_size(spacing: float) -> None:
    backbone = load_backbone("pet-lesions")
    rng = np.random.default_rng(5)
    side, at = 64, np.array([24.0, 40.0])
    rows, columns = np.ogrid[:side, :side]
    ball = np.hypot(rows - at[0], columns - at[1]) * spacing < 12.0
    suv = (1.0 + 4.0 * ball + rng.normal(0, 0.1, (side, side))).clip(0).astype(np.float32)
    maps = backbone.maps(torch.from_numpy(suv)[None, None], 3)[0]
    for channel in (3, 4, 5):  # the maxima of lesion, centre and excess
        hottest = np.unravel_index(int(maps[channel].argmax()), maps[channel].shape)
        assert hottest == (3, 5)
