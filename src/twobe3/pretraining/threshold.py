"""Lesions by threshold: what scans that nobody drew on say of lesions, for the PET network to learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from twobe3.core.outcomes import BoolArray

FRACTION = 0.41
SURROUNDINGS_MM = 10.0  # standard deviation of the Gaussian that weighs what lies about a lesion


@dataclass(frozen=True, eq=False)
class ThresholdLesions:
    """Lesions of a scan; both arrays have the shape of the scan, (slices, rows, columns).

    Attributes
    ----------
    mask : ndarray of bool
        Voxels of lesions.
    surroundings_suv : ndarray of float32
        The scan, with the SUV of the surroundings in place of the lesions.
    """

    mask: BoolArray
    surroundings_suv: npt.NDArray[np.float32]

    @classmethod
    def find(
        cls, suv: npt.NDArray[np.float32], spacing_mm: tuple[float, float, float], threshold_suv: float
    ) -> ThresholdLesions:
        """Find what stands out: of every connected component above a fixed SUV, the voxels from 41 % of its SUVmax on.

        41 % is the isocontour of the EANM guideline (Boellaard et al., Eur J Nucl Med Mol Imaging 42 (2015) 328–354);
        a fixed SUV of 4.0 is the usual one for lymphoma (Barrington et al., J Nucl Med 62 (2021) 332–337), 2.5 the
        older one. Components touch by faces. The surroundings are the Gaussian mean of the voxels below the threshold
        at the nearest one of these, but no more than the scan itself.

        No threshold tells a lesion from the brain, the heart, kidneys, bladder or bowel: these count as lesions here.
        Uptake that touches an organ with more is measured by the SUVmax of that organ.
        """
        labels, n = ndimage.label(suv > threshold_suv)
        below = labels == 0
        if n == 0 or not below.any():
            return cls(np.zeros(suv.shape, dtype=np.bool_), suv)
        highest = np.concatenate([[np.inf], ndimage.maximum(suv, labels, np.arange(1, n + 1))])
        mask = suv >= FRACTION * highest[labels]
        sigma = [SURROUNDINGS_MM / step for step in spacing_mm]
        weight = ndimage.gaussian_filter(below.astype(np.float32), sigma, mode="nearest")
        mean = ndimage.gaussian_filter(np.where(below, suv, 0).astype(np.float32), sigma, mode="nearest")
        nearest = ndimage.distance_transform_edt(labels > 0, spacing_mm, return_distances=False, return_indices=True)
        about = (mean / np.maximum(weight, 1e-6))[tuple(nearest)]
        return cls(mask, np.where(mask, np.minimum(about, suv), suv).astype(np.float32))
