"""Fine-tuning: the 2D network trained together with the network on its maps, from the SUV volume to the risk."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, Self

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from twobe3.features.backbones import Backbone, intermediates, normalise
from twobe3.features.ct import Window
from twobe3.features.maps import show
from twobe3.features.slices import AXIS, Plane, SliceSpec
from twobe3.models.nn.networks import PlanesNetwork
from twobe3.models.nn.pca import Projection

Finetune = Literal["none", "low-rank", "last-stage", "all"]
NETWORK = "maps.network."  # where the parameters of the 2D network are in an `EndToEnd`
CHUNK = 32  # slices whose activations are in memory at once


class FixedProjection(nn.Module):
    """A :class:`Projection` as a 1×1 convolution that is not trained: what is on top of it can learn any other."""

    mean: torch.Tensor
    matrix: torch.Tensor

    def __init__(self, projection: Projection) -> None:
        super().__init__()
        # Not persistent: the model file has them once, in double precision.
        mean, matrix = torch.from_numpy(projection.mean).float(), torch.from_numpy(projection.matrix).float()
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("matrix", matrix[:, :, None, None], persistent=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width) to (n, components, height, width)."""
        return functional.conv2d(maps - self.mean, self.matrix)


class SliceMaps(nn.Module):
    """The stacks of :class:`~twobe3.models.nn.inputs.StackInputs`, with gradients.

    The 2D network becomes a part of this one. It stays in evaluation mode: neighbouring slices of a few patients are no
    sample from which a batch normalisation could learn its statistics. There is a projection for each layer, in it for
    each plane. With ``windows_hu`` the volumes are shown in these windows and not as SUV.
    """

    def __init__(
        self,
        backbone: Backbone,
        layers: Sequence[int],
        planes: Sequence[Plane],
        slices: SliceSpec,
        projections: Sequence[Projection],
        windows_hu: tuple[Window, ...] = (),
    ) -> None:
        super().__init__()
        self.made_of = (backbone, tuple(layers), tuple(planes), slices, tuple(projections), windows_hu)
        self.layers, self.planes, self.slices, self.windows_hu = tuple(layers), tuple(planes), slices, windows_hu
        self.network = backbone.network
        self.see = partial(normalise, mean=backbone.mean, std=backbone.std)
        self.projections = nn.ModuleList(map(FixedProjection, projections))
        self.recomputes = True  # on the way back, activations, of which one chunk is then kept at a time

    def __reduce__(self) -> tuple[Any, ...]:
        return SliceMaps, self.made_of  # networks of timm travel as a `Backbone` does

    def train(self, mode: bool = True) -> Self:
        """Evaluation mode, whatever is asked for."""
        return super().train(False)

    def forward(self, suv: torch.Tensor) -> list[torch.Tensor]:
        """SUV, (n, 1, slices, rows, columns), to the stacks, each (n, components, n_slices, height, width)."""
        patients = [[self._stack(volume, number) for number in range(len(self.planes))] for volume in suv[:, 0]]
        return [
            torch.stack([planes[number][layer] for planes in patients])
            for layer in range(len(self.layers))
            for number in range(len(self.planes))
        ]

    def _stack(self, volume: torch.Tensor, plane: int) -> list[torch.Tensor]:
        """One patient's stack of one plane for each layer; as in the extractor, slices of padding are seen once."""
        slices = _cut(volume, self.planes[plane])
        if torch.compiler.is_exporting():  # the graph must be the same whatever is padding
            return [layer.transpose(0, 1) for layer in self._project(slices, plane)]
        filled = (slices != 0).flatten(1).any(dim=1)
        different = torch.cat([torch.zeros_like(slices[:1]), slices[filled]])
        parts = [self._chunk(some, plane) for some in torch.split(different, CHUNK)]
        position = filled.cumsum(0) * filled
        return [torch.cat(layer)[position].transpose(0, 1) for layer in zip(*parts, strict=True)]

    def _chunk(self, slices: torch.Tensor, plane: int) -> list[torch.Tensor]:
        if not (torch.is_grad_enabled() and self.recomputes):
            return self._project(slices, plane)
        maps: list[torch.Tensor] = checkpoint(
            self._project, slices, plane, use_reentrant=False, preserve_rng_state=False
        )
        return maps

    def _project(self, slices: torch.Tensor, plane: int) -> list[torch.Tensor]:
        maps = intermediates(
            self.network, self.see(show(self.network, slices, self.slices, self.windows_hu)), self.layers
        )
        return [self.projections[layer * len(self.planes) + plane](maps[layer]) for layer in range(len(self.layers))]


class EndToEnd(nn.Module):
    """From the SUV volume to the risk: the 2D network, its maps stacked, and the network on top of them."""

    def __init__(self, maps: SliceMaps, top: PlanesNetwork) -> None:
        super().__init__()
        self.maps, self.top = maps, top

    def forward(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """SUV, (n, 1, slices, rows, columns), and covariates, if any, to what :class:`PlanesNetwork` gives."""
        suv, *covariates = inputs
        outputs: torch.Tensor = self.top([*self.maps(suv.float()), *covariates])
        return outputs


class LoRALayer(nn.Module):
    """A weight W plus a trained product B A of low rank (LoRA; Hu et al., ICLR 2022, equation 3, with α = r).

    Of a convolution A is a convolution of the same kernel to ``rank`` channels, and B one of 1×1. B starts at 0.
    """

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        super().__init__()
        outputs, inputs = weight.flatten(1).shape
        self.a = nn.Parameter(torch.empty(rank, inputs))
        self.b = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.a, math.sqrt(5))  # as linear layers and convolutions start

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """W + B A, of the shape of W."""
        return weight + (self.b @ self.a).view_as(weight)


def unfreeze(
    backbone: Backbone, layers: Sequence[int], finetune: Finetune, *, rank: int, picture_size: int
) -> Backbone:
    """A copy of a frozen 2D network, of which the parameters to be fine-tuned can be trained, and no other.

    Parameters
    ----------
    backbone, layers
        The 2D network, which stays as it is, and whose maps are used.
    finetune : {"low-rank", "last-stage", "all"}
        ``"all"``: whatever the maps depend on. ``"last-stage"``: of that, what the layer before the deepest one does
        not depend on; layers that only pool others, as those of ``"pet-lesions"`` do, count as one. Scale and shift of
        batch normalisations are among them. ``"low-rank"``: :class:`LoRALayer` on the convolutions (but grouped ones,
        whose rank is low already) and linear layers that the maps depend on.
    rank, picture_size : int
        Of the low-rank products; rows and columns of a picture.
    """
    network = copy.deepcopy(backbone.network)
    tuned = find_parameters_behind(network, layers, picture_size)
    if finetune == "low-rank":
        for name, module in list(network.named_modules()):
            full = isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
            if full and f"{name}.weight" in tuned:
                parametrize.register_parametrization(module, "weight", LoRALayer(module.weight, rank))
        return replace(backbone, network=network)
    if finetune == "last-stage":
        before = (find_parameters_behind(network, [layer], picture_size) for layer in reversed(range(max(layers))))
        tuned = next(filter(None, (tuned - behind for behind in before)), tuned)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in tuned)
    return replace(backbone, network=network)


def find_parameters_behind(network: nn.Module, layers: Sequence[int], picture_size: int) -> set[str]:
    """Names of the parameters of a 2D network that its maps depend on: automatic differentiation tells of each."""
    probe = copy.deepcopy(network).requires_grad_(True)
    parameters = dict(probe.named_parameters())
    with torch.enable_grad():
        blank = show(probe, torch.zeros(1, picture_size, picture_size), SliceSpec())
        maps = intermediates(probe, blank, layers)
        total = torch.stack([one.sum() for one in maps]).sum()
    gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    return {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is not None}


def merge_lora(network: nn.Module) -> nn.Module:
    """A trained :class:`EndToEnd` as an ordinary one: low-rank products become part of the weights."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return network.requires_grad_(False)


def parameter_groups(network: nn.Module, learning_rate: float) -> Iterable[Mapping[str, Any]]:
    """What is trained of an :class:`EndToEnd`, for AdamW: the 2D network at a learning rate of its own.

    Its weights do not decay: they come from elsewhere, and 0 is not where they should go.
    """
    assert isinstance(network, EndToEnd)
    tuned = [parameter for parameter in network.maps.parameters() if parameter.requires_grad]
    return [{"params": network.top.parameters()}, {"params": tuned, "lr": learning_rate, "weight_decay": 0.0}]


def _cut(volume: torch.Tensor, plane: Plane) -> torch.Tensor:
    """As :func:`twobe3.features.slices.cut`, of a tensor."""
    slices = volume.movedim(AXIS[plane], 0)
    return slices if plane == "axial" else slices.flip(1)
