"""What is shown of a CT: windows of Hounsfield units as channels, and SUV told apart by the tissue that they lie in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from twobe3.core.mip import BONE_HU, LUNG_HU, SOFT_TISSUE_HU, THIN_HU
from twobe3.core.volume import AIR_HU
from twobe3.features.augment import Augmentation

Window = tuple[float, float]

WINDOWS_HU: tuple[Window, ...] = (SOFT_TISSUE_HU, LUNG_HU, BONE_HU)
"""From and to which HU."""

TISSUES_HU = (THIN_HU, 150.0)
"""Below is lung or gas, above bone, calcification or contrast, between them soft tissue."""


def require_windows(windows_hu: tuple[Window, ...]) -> None:
    """Raise ValueError for a window that does not rise."""
    for low, high in windows_hu:
        if not low < high:
            raise ValueError(f"every window of `windows_hu` must rise, got [{low:g}, {high:g}]")


def apply_hu_windows(hu: torch.Tensor, windows_hu: tuple[Window, ...]) -> list[torch.Tensor]:
    """Map windows of HU to channels between 0 and 1, one after another."""
    return [((hu - low) / (high - low)).clamp(0.0, 1.0) for low, high in windows_hu]


def split_by_tissue(suv: torch.Tensor, hu: torch.Tensor) -> list[torch.Tensor]:
    """SUV where the CT shows lung or gas, where soft tissue and where dense tissue, 0 elsewhere."""
    low, high = TISSUES_HU
    return [suv * where for where in (hu < low, (hu >= low) & (hu < high), hu >= high)]


def augment_ct(
    hu: npt.NDArray[np.float32], augmentation: Augmentation | None, spacing_mm: tuple[float, float, float]
) -> npt.NDArray[np.float32]:
    """A version of a CT, moved as its PET is, with air beyond it."""
    if augmentation is None:
        return hu
    return augmentation(hu - np.float32(AIR_HU), spacing_mm) + np.float32(AIR_HU)
