"""The maps of a frozen 2D network of one patient, with gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from twobe3.core.volume import AIR_HU
from twobe3.explain.positions import Placement, place_maps
from twobe3.features.backbones import intermediates, normalise
from twobe3.features.maps import show
from twobe3.features.pet_lesions import PETLesionNetwork
from twobe3.features.slices import AXIS
from twobe3.models.nn.feature_maps import FeatureMaps
from twobe3.models.nn.lora import SliceMaps

MOST_KEPT_BYTES = 2**30
"""Of activations of the 2D network that are kept for the way back; where they are more, they are computed again."""


class MapSource:
    """The maps of a frozen 2D network, with gradients, all their channels: of SUV, or of HU above air."""

    def __init__(self, maps: FeatureMaps, shape: tuple[int, ...]) -> None:
        self.source, self.shape = maps, shape
        backbone, size = maps.backbone, maps.slices.size
        windows = tuple((low - AIR_HU, high - AIR_HU) for low, high in maps.windows_hu)
        noise = torch.rand(1, size, size, generator=torch.Generator().manual_seed(0))
        picture = normalise(show(backbone.network, 10 * noise, maps.slices, windows), backbone.mean, backbone.std)
        folded = backbone.fold(picture.shape[1:], maps.layers)
        self.maps = SliceMaps(replace(backbone, network=folded), maps.layers, maps.planes, maps.slices, (), windows)
        self.maps.projections = nn.ModuleList(nn.Identity() for _ in maps.stacks)
        self.bytes_per_pixel = _measure_activations(folded, picture, maps.layers) / size**2
        self.size = None if isinstance(folded, PETLesionNetwork) else size  # of its pictures; else that of the slices

    def __call__(self, image: torch.Tensor) -> list[torch.Tensor]:
        """From an image, (slices, rows, columns), to each stack of maps, (channels, slices, height, width)."""
        slices = [image.shape[AXIS[plane]] for plane in self.maps.planes]
        pixels = sum(n * self.size**2 if self.size else image.numel() for n in slices)
        self.maps.recomputes = pixels * self.bytes_per_pixel > MOST_KEPT_BYTES
        return [one[0] for one in self.maps(image[None, None])]

    def place(self) -> list[Placement]:
        """Where on the grid the positions of each stack lie."""
        return place_maps(self.source, self.shape)


def _measure_activations(network: nn.Module, picture: torch.Tensor, layers: Sequence[int]) -> int:
    """Bytes of what a network keeps for the gradient of the maps of one picture, besides its weights."""
    weights = {one.data_ptr() for one in network.parameters()}
    kept: dict[int, int] = {}

    def keep(values: torch.Tensor) -> torch.Tensor:
        if values.data_ptr() not in weights:
            kept[values.data_ptr()] = values.nbytes
        return values

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
        intermediates(network, picture.clone().requires_grad_(True), layers)
    return sum(kept.values())
