"""Strides and paddings undone: centres that arithmetic gives, and maps that keep their sum and their place."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from twobe3.explain.positions import Placement, find_centres, place_maps, place_volume_layer
from twobe3.features.slices import SliceSpec, cut
from twobe3.models.nn.feature_maps import FeatureMaps
from twobe3.models.nn.resnet3d import compact_resnet


def same_padding(picture: torch.Tensor) -> torch.Tensor:
    """A 3 × 3 convolution of stride 2 as TensorFlow pads an even length: nothing before, one pixel after."""
    return nn.functional.conv2d(nn.functional.pad(picture, (0, 1, 0, 1)), torch.ones(1, 1, 3, 3), stride=2)


@pytest.mark.parametrize(
    ("network", "stride", "offset"),
    [
        (lambda x: nn.functional.conv2d(x, torch.ones(1, 1, 3, 3), stride=2, padding=1), 2, 0.0),
        (lambda x: nn.functional.avg_pool2d(x, 2), 2, 0.5),
        (same_padding, 2, 1.0),
        (lambda x: same_padding(same_padding(x)), 4, 3.0),
    ],
)
def test_centres_are_those_of_arithmetic(network: nn.Module, stride: int, offset: float) -> None:
    rows, columns = find_centres(network, 1, (64, 64), (5, 7), probe=64)
    np.testing.assert_allclose(rows, offset + stride * np.arange(5), atol=1e-5)
    np.testing.assert_allclose(columns, offset + stride * np.arange(7), atol=1e-5)


def test_resnet_positions_lie_at_multiples_of_the_stride() -> None:
    # Kernels of 7 and 3 with paddings of 3 and 1: output i is centred on input 16 i at layer 3.
    maps = FeatureMaps("phantom-resnet10", "random", 3, ("axial",), SliceSpec(size=64))
    (placement,) = place_maps(maps, (10, 64, 64))
    np.testing.assert_allclose(placement.centres[1], 16.0 * np.arange(4), atol=1e-4)


def test_a_resized_slice_keeps_its_edges() -> None:
    maps = FeatureMaps("phantom-resnet10", "random", 0, ("axial",), SliceSpec(size=64))
    (placement,) = place_maps(maps, (10, 32, 128))
    # Pixel 0 of 64 has its centre at (0 + 0.5) · 32 / 64 − 0.5 voxels of 32, and at 0.5 voxels of 128.
    assert placement.centres[1][0] == pytest.approx(-0.25)
    assert placement.centres[2][0] == pytest.approx(0.5)


def test_cells_of_the_pet_network_start_at_the_first_voxel() -> None:
    maps = FeatureMaps("pet-lesions", "pretrained", 3, ("coronal",), SliceSpec())
    (placement,) = place_maps(maps, (20, 12, 16))
    np.testing.assert_allclose(placement.centres[0], np.arange(12))
    np.testing.assert_allclose(placement.centres[1], [3.5, 11.5, 19.5])
    np.testing.assert_allclose(placement.centres[2], [3.5, 11.5])


def test_3d_networks_with_group_norms_and_pooling() -> None:
    body = compact_resnet(2, depth=10, width=8)
    stem = nn.Sequential(body.conv1, body.bn1, body.act, body.maxpool, body.layer1)
    placement = place_volume_layer(stem, 2, (24, 32, 17))
    for axis, count in enumerate((6, 8, 5)):
        np.testing.assert_allclose(placement.centres[axis], 4.0 * np.arange(count), atol=1e-4)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_voxels_of_every_plane_come_back_where_they_were(plane: str) -> None:
    volume = np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32)
    slices = cut(volume, plane)
    centres = tuple(np.arange(length, dtype=float) for length in slices.shape)
    np.testing.assert_array_equal(Placement(volume.shape, plane, centres).to_voxels(slices.copy()), volume)


def test_a_coarse_map_keeps_its_sum() -> None:
    centres = tuple(2.0 * np.arange(8) + 0.5 for _ in range(3))
    values = np.random.default_rng(0).random((8, 8, 8)).astype(np.float32)
    values[0] = values[-1] = values[:, 0] = values[:, -1] = values[..., 0] = values[..., -1] = 0  # not at the edge
    voxels = Placement((16, 16, 16), "axial", centres).to_voxels(values)
    assert voxels.sum() == pytest.approx(values.sum(), rel=1e-5)
