"""What can be read off a scan with a ruler: SUVmax, metabolic volume, total lesion glycolysis, image extent."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.io.cache import Arrays, Cache
from twobe3.io.files import digest
from twobe3.scans.regions import Region
from twobe3.scans.scan import Scan

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
    lacking : UnusableScanError or None
        Why there is no region; None where there is one.
    """

    suv_max: float
    volume_ml: float
    tlg_ml: float
    extent_ml: float
    lacking: UnusableScanError | None = None


def measure(scan: Scan, region: Region, *, cache: Cache) -> Measurements:
    """Measure a scan on its own grid, once.

    Parameters
    ----------
    scan : Scan
        The scan.
    region : Region
        Where.
    cache : Cache
        Where measurements are kept.
    """
    key = digest(["measurements", scan.digest, region.label])
    arrays = cache.get_or_compute(key, lambda: _measured(scan, region))
    suv_max, volume_ml, tlg_ml, extent_ml = map(float, arrays["values"])
    code, *said = arrays["lacking"].tobytes().decode().split("\n")
    lacking = UnusableScanError(Code[code], said[0], remedy=said[1]) if code else None
    return Measurements(suv_max, volume_ml, tlg_ml, extent_ml, lacking)


def _measured(scan: Scan, region: Region) -> Arrays:
    volume = scan.suv()
    extent_ml = float(np.prod(volume.geometry.extent_mm)) / 1000.0
    try:
        mask = region.find(scan, volume)
    except UnusableScanError as refusal:
        if refusal.code is not Code.CONTOUR_MISSING:
            log.warning("%s: %s; the scan counts as one without a region", refusal.code.name, refusal.reason)
        lacking = "\n".join([refusal.code.name, refusal.reason, refusal.remedy])
        return _arrays([np.nan, np.nan, np.nan, extent_ml], lacking)
    inside = volume.array[mask.array].astype(np.float64)
    # Nothing above the threshold: no lesion volume, and the hottest voxel is still the scan's SUVmax.
    suv_max = inside.max() if inside.size else volume.array.max()
    mean = inside.mean() if inside.size else 0.0
    return _arrays([suv_max, mask.volume_ml, mask.volume_ml * mean, extent_ml], "")


def _arrays(values: list[float], lacking: str) -> Arrays:
    return {"values": np.array(values), "lacking": np.frombuffer(lacking.encode(), np.uint8)}
