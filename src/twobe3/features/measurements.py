"""What can be read off a scan with a ruler: SUVmax, metabolic volume, total lesion glycolysis, image extent."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import numpy as np

from twobe3.artefact import digest
from twobe3.cohort import Scan
from twobe3.dicom.voi import threshold_mask
from twobe3.errors import Refusal
from twobe3.store import ArrayStore
from twobe3.volume import Mask, SUVVolume

Region = Literal["contour", "threshold"]
MEASUREMENT_VERSION = "1"
log = logging.getLogger("twobe3")


@dataclass(frozen=True)
class Measurements:
    """Numbers of one scan; NaN where there is no region to measure.

    Attributes
    ----------
    suv_max : float
        Largest SUV in the region.
    volume_ml : float
        Metabolic tumour volume, MTV: the volume of the region.
    tlg_ml : float
        Total lesion glycolysis: MTV times the mean SUV in the region (SUV · ml).
    extent_ml : float
        Volume of the whole image, whatever it shows.
    """

    suv_max: float
    volume_ml: float
    tlg_ml: float
    extent_ml: float


def measure(scan: Scan, region: Region, *, threshold_suv: float, store: ArrayStore) -> Measurements:
    """Measure a scan on its own grid, once.

    Parameters
    ----------
    scan : Scan
        The scan.
    region : {"contour", "threshold"}
        The contour that somebody drew, or every voxel above an SUV, physiological uptake included.
    threshold_suv : float
        For ``"threshold"``.
    store : ArrayStore
        Where measurements are kept.
    """
    which = region if region == "contour" else f"{region} {threshold_suv}"
    key = digest([f"measurements-{MEASUREMENT_VERSION}", scan.digest, which])
    arrays = store.get_or_compute(key, lambda: {"values": _measured(scan, region, threshold_suv)})
    return Measurements(*(float(value) for value in arrays["values"]))


def _measured(scan: Scan, region: Region, threshold_suv: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    volume = scan.suv()
    extent_ml = float(np.prod(volume.geometry.extent_mm)) / 1000.0
    mask = _contour(scan, volume) if region == "contour" else threshold_mask(volume, suv=threshold_suv)
    if mask is None:
        return np.array([np.nan, np.nan, np.nan, extent_ml])
    inside = volume.array[mask.array].astype(np.float64)
    # Nothing above the threshold: no lesion volume, and the hottest voxel is still the scan's SUVmax.
    suv_max = inside.max() if inside.size else volume.array.max()
    mean = inside.mean() if inside.size else 0.0
    return np.array([suv_max, mask.volume_ml, mask.volume_ml * mean, extent_ml])


def _contour(scan: Scan, volume: SUVVolume) -> Mask | None:
    try:
        return scan.contour(volume)
    except Refusal as refusal:
        log.warning("%s: %s; the scan counts as one without a contour", refusal.code.name, refusal.reason)
        return None
