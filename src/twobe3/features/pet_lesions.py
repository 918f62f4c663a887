"""A small 2D network that knows PET: it was taught on simulated slices to see lesions, organs and noise.

Its weights are in the package; ``scripts/train_pet_lesions.py`` makes them, see docs/howto/pretraining.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import nn
from torch.nn import functional

FLOOR_SUV = 0.1  # added before the logarithm, so that air is no deep hole
HIGHEST_SUV = 60.0  # above, an SUV says nothing more: bladders
STRIDE = 2  # voxels between two positions of the dense outputs
DEEPEST_STRIDE = 16
WIDTHS = (16, 24, 32, 48, 64)  # channels at strides 1, 2, 4, 8 and 16
FEATURES = 16  # channels of the top-down path

# What it is taught, by name, and how many channels each output has, in their order.
ORGANS: Final = ("air", "soft tissue", "lung", "bone", "brain", "heart and vessels", "liver and spleen", "kidney",
                 "urinary tract", "gut")  # fmt: skip
OUTPUTS: Final[dict[str, int]] = {
    "lesion": 1, "centre": 1, "excess": 1, "denoised": 1, "lesion-free": 1, "depth": 1, "organ": len(ORGANS),
}  # fmt: skip
LESION_MAPS: Final = ("lesion", "centre", "excess")


class PETLesionNetwork(nn.Module):
    """From slices of SUV to dense maps at a stride of two voxels: where lesions are, and how far they stand out.

    Five levels of convolutions, at strides 1 to 16, and a path down from the coarsest (a feature pyramid: Lin et al.,
    CVPR 2017). Slices are seen as they are, on their own voxels; what it was taught covers voxels of 2 to 6.5 mm.

    Layer 0 gives the features of the finest level of that path. Layers 1, 2 and 3 give the lesion maps, which are the
    likelihood of a lesion, of a lesion's centre, and log(1 + 2 · SUV above the surroundings): average and
    maximum over cells of 2, 4 and 8 voxels.
    """

    n_layers: Final = 4

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolve(3, WIDTHS[0], stride=1)
        self.stages = nn.ModuleList(
            nn.Sequential(_convolve(narrow, wide, stride=2), _convolve(wide, wide, stride=1))
            for narrow, wide in pairwise(WIDTHS)
        )
        self.laterals = nn.ModuleList(nn.Conv2d(width, FEATURES, 1) for width in WIDTHS[1:])
        self.merges = nn.ModuleList(_convolve(FEATURES, FEATURES, stride=1) for _ in WIDTHS[1:])
        self.head = nn.Sequential(
            _convolve(FEATURES, FEATURES, stride=1), nn.Conv2d(FEATURES, sum(OUTPUTS.values()), 1)
        )

    def features(self, suv: torch.Tensor) -> torch.Tensor:
        """SUV, (n, 1, height, width), to (n, 16, height / 2, width / 2), rounded up to multiples of 8."""
        suv = suv.clamp(0.0, HIGHEST_SUV)
        height, width = suv.shape[-2:]
        suv = functional.pad(suv, (0, -width % DEEPEST_STRIDE, 0, -height % DEEPEST_STRIDE))
        x = self.stem(torch.cat([torch.log(suv + FLOOR_SUV) / 2, suv / 5, suv / 25], dim=1))
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        down: torch.Tensor = self.merges[-1](self.laterals[-1](levels[-1]))
        for level, lateral, merge in zip(levels[-2::-1], self.laterals[-2::-1], self.merges[-2::-1], strict=True):
            down = merge(lateral(level) + functional.interpolate(down, scale_factor=2.0, mode="nearest"))
        return down

    def forward(self, suv: torch.Tensor) -> dict[str, torch.Tensor]:
        """SUV, (n, 1, height, width), to each output of :data:`OUTPUTS`, (n, channels, height / 2, width / 2).

        ``lesion``, ``centre`` and ``organ`` are logits; ``denoised`` and ``lesion-free`` log(SUV + 0.1); ``depth`` the
        way to the surface of the body in dm; ``excess`` log(1 + 2 · SUV above the surroundings).
        """
        outputs = torch.split(self.head(self.features(suv)), list(OUTPUTS.values()), dim=1)
        return dict(zip(OUTPUTS, outputs, strict=True))

    def maps(self, suv: torch.Tensor, layers: Sequence[int]) -> list[torch.Tensor]:
        """The maps of some layers of SUV, (n, 1, height, width), each (n, channels, rows, columns).

        A position is that of a cell whose first voxel is in the slice; beyond the slice is air.
        """
        features = self.features(suv)
        lesion, centre, excess = torch.split(self.head(features)[:, : len(LESION_MAPS)], 1, dim=1)
        lesions = torch.cat([lesion.sigmoid(), centre.sigmoid(), excess.clamp(min=0.0)], dim=1)
        found = []
        for layer in layers:
            maps = features if layer == 0 else _pool_cells(lesions, 2**layer // STRIDE)
            cell = STRIDE if layer == 0 else 2**layer
            rows, columns = (-(-length // cell) for length in suv.shape[-2:])
            found.append(maps[..., :rows, :columns])
        return found


def _pool_cells(maps: torch.Tensor, cell: int) -> torch.Tensor:
    """Average, then maximum over square cells."""
    return torch.cat([functional.avg_pool2d(maps, cell), functional.max_pool2d(maps, cell)], dim=1)


def _convolve(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
