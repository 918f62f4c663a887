"""Augmented versions of a scan, few and fixed, so that their feature maps can be kept like those of the scan itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

SHIFT_MM = 8.0
SCALE = 0.05


@dataclass(frozen=True)
class Augmentation:
    """One version of every scan: mirrored or not, shifted by up to 8 mm along each axis, scaled by up to 5 %.

    Every patient is changed alike, so a version is made once and nothing depends on who else is in the cohort. SUV
    is left as it is: how hot a lesion is, is a message. Numbers start from 1; every other version is mirrored, left for
    right. The seed is that of shifts and scales.
    """

    number: int
    seed: int = 0

    def cache_key(self) -> str:
        """Text that differs whenever the version may differ; part of cache keys."""
        return f"augmentation {self.number} {self.seed}"

    @property
    def is_mirrored(self) -> bool:
        """Whether left and right are exchanged."""
        return self.number % 2 == 1

    def draw(self) -> tuple[npt.NDArray[np.float64], float]:
        """Draw the shift in mm along slices, rows and columns, and the factor by which the body grows."""
        draw = np.random.default_rng([self.seed, self.number])
        return draw.uniform(-SHIFT_MM, SHIFT_MM, 3), 1.0 + draw.uniform(-SCALE, SCALE)

    def __call__(
        self, volume: npt.NDArray[np.float32], spacing_mm: tuple[float, float, float]
    ) -> npt.NDArray[np.float32]:
        """Apply the version to a volume in SUV, (slices, rows, columns), columns towards the patient's left.

        By linear interpolation about its centre; SUV is 0 outside the scan. The spacing is along the same axes.
        """
        shift_mm, scale = self.draw()
        centre = (np.array(volume.shape) - 1) / 2
        offset = centre - (centre + shift_mm / np.array(spacing_mm)) / scale
        shifted = scipy.ndimage.affine_transform(volume, np.full(3, 1 / scale), offset, order=1, mode="grid-constant")
        return np.ascontiguousarray(shifted[:, :, ::-1] if self.is_mirrored else shifted)
