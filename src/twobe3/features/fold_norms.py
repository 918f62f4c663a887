"""Normalisations of a frozen 2D network as part of its convolutions: the same maps in less time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

CLOSE = 1e-3  # of the largest value, by which maps may differ


def fold_norms(network: nn.Module, run: Callable[[nn.Module], Sequence[torch.Tensor]]) -> nn.Module:
    """A copy of a network in evaluation mode whose batch normalisations are part of the convolutions before them.

    Its weights lie in memory as those of pictures do, channels last, which convolutions on the CPU like best.

    Parameters
    ----------
    network : Module
        Stays as it is.
    run : callable
        Gives the maps that the network, or its copy, makes of some picture; these differ by rounding. Where they do
        not, since something else reads what a convolution gives, the copy is one of the network as it is.
    """
    folded = copy.deepcopy(network)
    convolutions = _find_convolutions(folded, run)
    for parent in list(folded.modules()):
        if isinstance(parent, nn.Hardtanh):
            parent.inplace = False  # for its gradient the input would have to be copied
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d) and child in convolutions:
                _fold(convolutions[child], child)
                setattr(parent, name, nn.Sequential(*child.children()))  # timm's hold the activation
    folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with torch.no_grad():
        close = all(
            (a - b).abs().max() <= CLOSE * a.abs().max() for a, b in zip(run(network), run(folded), strict=True)
        )
    return folded if close else copy.deepcopy(network)


def _find_convolutions(
    network: nn.Module, run: Callable[[nn.Module], Sequence[torch.Tensor]]
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
        run(network)
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
