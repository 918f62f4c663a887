"""Folded networks against the ones that they are made of: the same maps, and the same gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from twobe3.features.backbones import BACKBONES, intermediates, load_backbone
from twobe3.features.fold_norms import fold_norms
from twobe3.features.maps import show
from twobe3.features.slices import SliceSpec

SLICES = SliceSpec(size=48)


def draw_statistics(network: nn.Module) -> nn.Module:
    """Normalisations that do something: a network of random weights starts with mean 0, variance 1 and scale 1."""
    draw = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.5, 0.5),
                (module.running_var, 0.5, 2.0),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.5, 0.5),
            ):
                assert values is not None
                values.data.uniform_(low, high, generator=draw)
    return network


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_maps_and_gradients_are_those_of_the_network(name: str) -> None:
    weights = "pretrained" if name == "pet-lesions" else "random"
    backbone = load_backbone(name, weights)
    network = draw_statistics(backbone.network)
    layers = (1, backbone.layers - 1)
    suv = torch.from_numpy(np.random.default_rng(0).gamma(2.0, 1.5, (2, 48, 48)).astype(np.float32))
    folded = backbone.fold(show(network, suv, SLICES).shape[1:], layers)
    found = []
    for one in (network, folded):
        picture = show(one, suv, SLICES).requires_grad_(True)
        maps = intermediates(one, picture, layers)
        (gradient,) = torch.autograd.grad(torch.stack([values.square().mean() for values in maps]).sum(), picture)
        found.append([*maps, gradient])
    for expected, value in zip(*found, strict=True):
        scale = float(expected.detach().abs().max())
        torch.testing.assert_close(value, expected, rtol=0, atol=2e-4 * scale)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    left = [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(left) < len(norms) or not norms


def test_a_network_that_reads_a_convolution_twice_stays_as_it_is() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.conv(x)
            return found + self.bn(found)

    network = draw_statistics(Twice().eval())
    folded = fold_norms(network, lambda one: [one(torch.ones(1, 3, 8, 8))])
    assert [type(module) for module in folded.children()] == [nn.Conv2d, nn.BatchNorm2d]
