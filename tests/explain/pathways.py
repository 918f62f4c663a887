"""A pathway whose risk lies in a known place."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from twobe3.explain.pathway import Pathway
from twobe3.explain.positions import Placement


class Corner(Pathway):
    """The mean of the voxels of one corner."""

    def look(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [images[:1]]

    def place(self) -> list[Placement]:
        return [Placement.of_voxels((8, 8, 8))]

    def judge(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        return layers[0][0, :2, :2, :2].mean()
