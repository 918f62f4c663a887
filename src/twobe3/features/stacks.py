"""Small stacks of the SUV image itself: a coarse image, and a profile along the body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

ImageStack = Literal["image", "profile"]

POSITIONS: dict[ImageStack, tuple[int, int, int]] = {"image": (24, 8, 8), "profile": (48, 1, 1)}
"""Slices, rows and columns of each stack, whatever the grid is."""

_FLOOR_SUV = 0.1  # added before the logarithm, so that air is no deep hole


@dataclass(frozen=True)
class ImageStackSpec:
    """How a stack of the image is made.

    Parameters
    ----------
    stack : {"image", "profile"}
        Which.
    windows_suv : tuple of float
        Upper ends of the SUV windows, as for the pictures of the 2D network.
    """

    stack: ImageStack
    windows_suv: tuple[float, ...] = (5.0, 10.0, 25.0)

    def cache_key(self) -> str:
        """Text that differs whenever the stack of the same scan may differ."""
        return f"stack {self.stack} {POSITIONS[self.stack]} {self.windows_suv}"

    def compute(self, volume: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
        """Average and maximum of each channel over the voxels of each position.

        Channels are the SUV windows, 0 to the upper end mapped to 0 to 1; a profile has the logarithm of the SUV too.

        Parameters
        ----------
        volume : ndarray, shape (slices, rows, columns)
            SUV.

        Returns
        -------
        ndarray, shape (2 · channels, *POSITIONS[stack])
            The averages of all channels, then the maxima.
        """
        suv = torch.from_numpy(np.maximum(volume, 0.0))
        channels = [(suv / upper).clamp(max=1.0) for upper in self.windows_suv]
        if self.stack == "profile":
            channels.append(torch.log(suv + _FLOOR_SUV))
        stacked, size = torch.stack(channels), POSITIONS[self.stack]
        average = functional.adaptive_avg_pool3d(stacked, size)
        maximum = functional.adaptive_max_pool3d(stacked, size)
        return torch.cat([average, maximum]).half().numpy()
