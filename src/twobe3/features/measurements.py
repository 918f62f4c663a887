"""Measurements of a region in SUV: maximum, peak, metabolic volume, glycolysis, and the distances of lesions."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import FloatArray, Mask, SUVVolume
from twobe3.io.cache import Arrays, Cache
from twobe3.io.files import digest
from twobe3.scans.regions import Region
from twobe3.scans.scan import Scan

log = logging.getLogger("twobe3")

PEAK_RADIUS_MM = (3.0 * 1000.0 / (4.0 * np.pi)) ** (1.0 / 3.0)  # of a sphere of 1 ml: 6.2 mm
# Smaller parts of a region count only where none is larger: thresholds leave specks, which PET does not resolve.
SMALLEST_LESION_ML = 1.0


@dataclass(frozen=True)
class Measurements:
    """Measurements of one scan; NaN where there is no region, and why there is none in ``lacking``.

    ``suv_max``, ``volume_ml`` (metabolic tumour volume) and ``tlg_ml`` are those of :class:`LesionMeasurements`;
    ``extent_ml`` is the volume of the whole image.
    """

    suv_max: float
    volume_ml: float
    tlg_ml: float
    extent_ml: float
    lacking: UnusableScanError | None = None


def measure(scan: Scan, region: Region, *, cache: Cache) -> Measurements:
    """Measure a region of a scan on the scan's own voxels; the result is kept in the cache."""
    key = digest(["measurements", scan.digest, region.label])
    arrays = cache.get_or_compute(key, lambda: _measure(scan, region))
    suv_max, volume_ml, tlg_ml, extent_ml = map(float, arrays["values"])
    return Measurements(suv_max, volume_ml, tlg_ml, extent_ml, unpack_error(arrays["lacking"]))


def _measure(scan: Scan, region: Region) -> Arrays:
    volume = scan.suv()
    extent_ml = float(np.prod(volume.geometry.extent_mm)) / 1000.0
    try:
        mask = region.find(scan, volume)
    except UnusableScanError as refusal:
        if refusal.code is not Code.CONTOUR_MISSING:
            log.warning("%s: %s; the scan counts as one without a region", refusal.code.name, refusal.reason)
        return {"values": np.array([np.nan, np.nan, np.nan, extent_ml]), "lacking": pack_error(refusal)}
    inside = volume.array[mask.array].astype(np.float64)
    # Nothing above the threshold: no lesion volume, and the hottest voxel is still the scan's SUVmax.
    suv_max = inside.max() if inside.size else volume.array.max()
    mean = inside.mean() if inside.size else 0.0
    values = np.array([suv_max, mask.volume_ml, mask.volume_ml * mean, extent_ml])
    return {"values": values, "lacking": pack_error(None)}


def pack_error(error: UnusableScanError | None) -> npt.NDArray[np.uint8]:
    """Encode why a scan cannot be measured, or that it can, as an array for the cache."""
    text = "\n".join([error.code.name, error.reason, error.remedy]) if error else ""
    return np.frombuffer(text.encode(), np.uint8)


def unpack_error(array: npt.NDArray[np.uint8]) -> UnusableScanError | None:
    """Decode what :func:`pack_error` encoded."""
    if not len(array):
        return None
    code, reason, remedy = array.tobytes().decode().split("\n")
    return UnusableScanError(Code[code], reason, remedy=remedy)


@dataclass(frozen=True)
class LesionMeasurements:
    """Measurements of a region on the scan's own voxels.

    Attributes
    ----------
    mtv_ml, tlg_ml : float
        Metabolic tumour volume, that of the region; total lesion glycolysis, MTV times the mean SUV (SUV · ml).
    suv_max, suv_mean, suv_peak : float
        Of the voxels of the region, see :func:`suv_peak`.
    lesions : float
        Parts of the region that do not touch (26 neighbours), specks left out (:data:`SMALLEST_LESION_ML`).
    dmax_mm : float
        Largest distance between the centroids of two lesions; 0 with one. Cottereau A-S et al., *J Nucl Med*
        61:40–45, 2020 (doi 10.2967/jnumed.119.229450).
    spread_mm : float
        Root of the mean squared distance of the lesions' centroids from their mean; 0 with one.
    """

    mtv_ml: float
    tlg_ml: float
    suv_max: float
    suv_mean: float
    suv_peak: float
    lesions: float
    dmax_mm: float
    spread_mm: float


def measure_lesions(volume: SUVVolume, mask: Mask) -> LesionMeasurements:
    """Measure a region that is not empty; scan and mask share their voxels."""
    inside = volume.array[mask.array].astype(np.float64)
    centroids = lesion_centroids_mm(mask)
    distances = scipy.spatial.distance.pdist(centroids)
    spread = np.sqrt(((centroids - centroids.mean(axis=0)) ** 2).sum(axis=1).mean())
    return LesionMeasurements(
        mtv_ml=mask.volume_ml,
        tlg_ml=mask.volume_ml * float(inside.mean()),
        suv_max=float(inside.max()),
        suv_mean=float(inside.mean()),
        suv_peak=suv_peak(volume, mask),
        lesions=float(len(centroids)),
        dmax_mm=float(distances.max()) if len(distances) else 0.0,
        spread_mm=float(spread),
    )


def lesion_centroids_mm(mask: Mask) -> FloatArray:
    """Centroid of each lesion of a region that is not empty, LPS, shape (lesions, 3)."""
    parts, n = scipy.ndimage.label(mask.array, np.ones((3, 3, 3)))
    volumes_ml = np.bincount(parts.ravel(), minlength=n + 1)[1:] * mask.geometry.voxel_volume_ml
    kept = 1 + np.flatnonzero(volumes_ml >= min(SMALLEST_LESION_ML, volumes_ml.max()))
    centres = scipy.ndimage.center_of_mass(mask.array, parts, kept)
    return mask.geometry.to_mm(np.array(centres, dtype=np.float64).reshape(-1, 3))


def suv_peak(volume: SUVVolume, mask: Mask) -> float:
    """The largest mean SUV of a sphere of 1 ml whose centre is a voxel of the region.

    A voxel belongs to the sphere if its centre does; voxels outside the region take part, as the sphere may reach
    beyond it, places outside the image do not. This is the global intensity peak of the IBSI reference manual (code
    0F91) on the scan's own voxels; Wahl RL et al., *J Nucl Med* 50 Suppl 1:122S–150S, 2009.
    """
    spacing = np.array(volume.geometry.spacing_mm)
    reach = np.floor(PEAK_RADIUS_MM / spacing).astype(int)
    box = bounding_box(mask, reach)
    offsets = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), axis=-1) * spacing
    sphere = (np.linalg.norm(offsets, axis=-1) <= PEAK_RADIUS_MM).astype(np.float64)
    suv = volume.array[box].astype(np.float64)
    total = scipy.ndimage.correlate(suv, sphere, mode="constant")
    count = scipy.ndimage.correlate(np.ones_like(suv), sphere, mode="constant")
    return float((total / count)[mask.array[box]].max())


def bounding_box(mask: Mask, margin: npt.NDArray[np.int64]) -> tuple[slice, ...]:
    """Slices of the region's bounding box with a margin in voxels, clipped to the image."""
    found = scipy.ndimage.find_objects(mask.array.astype(np.uint8))[0]
    return tuple(
        slice(max(int(one.start - m), 0), min(int(one.stop + m), n))
        for one, m, n in zip(found, margin, mask.array.shape, strict=True)
    )
