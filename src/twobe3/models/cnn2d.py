"""The ablation of 2Be3-Net: the same feature maps without the order of slices."""

from __future__ import annotations

from typing import ClassVar

from pydantic.dataclasses import dataclass

from twobe3.models.model import CONFIG
from twobe3.models.nn.networks import SliceBranch
from twobe3.models.registry import register
from twobe3.models.stacked_maps import StackedMapsModel


@register
@dataclass(kw_only=True, config=CONFIG)
class CNN2D(StackedMapsModel):
    """The same feature maps, each slice by itself: 2D convolutions, slices pooled as a set without order."""

    kind: ClassVar[str] = "cnn2d"
    summary: ClassVar[str] = "2D CNN on the same feature maps, slices pooled without their order"

    def make_branch(self, stack: str) -> SliceBranch:
        """2D convolutions over the slices of the stack."""
        return SliceBranch(self.inputs_.shapes[stack], reduced=self.size_.reduced_channels, width=self.size_.width)
