"""From an SUV volume to the pictures that a 2D network sees: planes, and SUV windows as colour channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

LARGEST_SIZE = 2048  # no scanner has so many rows
Plane = Literal["axial", "coronal", "sagittal"]

# The axis of (slices, rows, columns) along which each plane's slices follow each other.
AXIS: dict[Plane, int] = {"axial": 0, "coronal": 1, "sagittal": 2}

# The axis of a plane's slices (…, n, height, width) that runs from the patient's right to the left.
LEFT_RIGHT_AXIS: dict[Plane, int] = {"axial": -1, "coronal": -1, "sagittal": -3}


@dataclass(frozen=True)
class SliceSpec:
    """How slices are cut and shown to the 2D network.

    Parameters
    ----------
    windows_suv : tuple of float
        Upper ends of one or three SUV windows, 0 to this SUV mapped to 0 to 1: the colour channels. A physical
        window keeps an SUV of 10 the same grey in every patient, which scaling each image by itself would not.
    size : int
        Rows and columns of the picture that the network sees, 16 to 2048; slices are resized to it bilinearly.
    """

    windows_suv: tuple[float, ...] = (5.0, 10.0, 25.0)
    size: int = 128

    def __post_init__(self) -> None:
        if len(self.windows_suv) not in (1, 3):
            raise ValueError(f"a 2D network takes one SUV window or three, got {self.windows_suv}")
        if min(self.windows_suv) <= 0:
            raise ValueError(f"every SUV window must end above 0, got {self.windows_suv}")
        if self.size < 16:
            raise ValueError(f"slices of {self.size} pixels are too small for a 2D network; at least 16")
        if self.size > LARGEST_SIZE:
            raise ValueError(f"slices of {self.size} pixels are larger than any scan's; at most {LARGEST_SIZE}")


def cut(volume: npt.NDArray[np.float32], plane: Plane) -> npt.NDArray[np.float32]:
    """Cut an SUV volume, (slices, rows, columns) from feet to head, into the slices of a plane, (n, height, width).

    Axial slices run from feet to head, the patient's back at the bottom; coronal ones from front to back and
    sagittal ones from right to left, the head at the top.
    """
    slices = np.moveaxis(volume, AXIS[plane], 0)
    return slices if plane == "axial" else slices[:, ::-1]


def apply_windows(suv: torch.Tensor, windows_suv: tuple[float, ...]) -> torch.Tensor:
    """Map SUV windows to channels between 0 and 1: (n, height, width) to (n, channels, height, width)."""
    return torch.stack([(suv / upper).clamp(0.0, 1.0) for upper in windows_suv], dim=1)
