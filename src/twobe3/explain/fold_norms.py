"""Normalisations of a frozen 2D network as part of its convolutions: the same maps, and gradients in less time."""

from __future__ import annotations

import copy
from functools import lru_cache

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from twobe3.features.backbones import intermediates
from twobe3.features.maps import show
from twobe3.features.slices import SliceSpec

KEPT = 2
CLOSE = 1e-3  # of the largest value, by which maps may differ


@lru_cache(maxsize=KEPT)
def fold_norms(network: nn.Module, layers: tuple[int, ...], slices: SliceSpec) -> nn.Module:
    """A copy of a 2D network whose batch normalisations are part of the convolutions before them.

    Activations do not overwrite their input, which would have to be copied for gradients. The maps of the layers
    differ by rounding; a network of which that is not true is given back as it is.
    """
    noise = torch.rand(1, slices.size, slices.size, generator=torch.Generator().manual_seed(0))
    picture = show(network, 10 * noise, slices)
    folded = copy.deepcopy(network)
    convolutions = _find_convolutions(folded, picture, layers)
    for parent in list(folded.modules()):
        if getattr(parent, "inplace", False):
            parent.inplace = False  # type: ignore[assignment]
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and child in convolutions:
                _fold(convolutions[child], child)
                setattr(parent, name, nn.Sequential(*child.children()))  # timm's hold the activation
    with torch.no_grad():
        before, after = (intermediates(one, picture, layers) for one in (network, folded))
    close = all((a - b).abs().max() <= CLOSE * a.abs().max() for a, b in zip(before, after, strict=True))
    return folded if close else network


def _find_convolutions(
    network: nn.Module, picture: torch.Tensor, layers: tuple[int, ...]
) -> dict[nn.Module, nn.Conv2d]:
    """The convolution whose output each batch normalisation is given, where there is one."""
    made: list[tuple[nn.Conv2d, torch.Tensor]] = []
    found: dict[nn.Module, nn.Conv2d] = {}

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made.append((module, output))
        elif isinstance(module, nn.BatchNorm2d):
            for convolution, given in made:
                if given is inputs[0]:
                    found[module] = convolution

    kinds = (nn.Conv2d, nn.BatchNorm2d)
    hooks = [module.register_forward_hook(look) for module in network.modules() if isinstance(module, kinds)]
    with torch.no_grad():
        intermediates(network, picture, layers)
    for hook in hooks:
        hook.remove()
    return found


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Give a convolution the scale and shift of the normalisation that follows it."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
