"""The liver-based threshold of PERCIST 1.0, and the liver that it needs.

Wahl RL et al. *From RECIST to PERCIST*. J Nucl Med 50 Suppl 1:122S–150S, 2009 (doi 10.2967/jnumed.108.057307).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.grid import Grid, resample
from twobe3.core.volume import FloatArray, Mask, SUVVolume

BoolArray = npt.NDArray[np.bool_]

SPHERE_RADIUS_MM = 15.0
GRID_MM = 5.0
LIVER_SUV = (1.2, 4.0)
"""Between them lies the mean SUV by body weight of livers an hour after FDG; the search looks nowhere else."""

BAND = 0.3
"""Smoothed liver stays within this share of its median."""

SMALLEST_LIVER_ML, LARGEST_LIVER_ML = 500.0, 4000.0
SMALLEST_LUNG_ML = 300.0
"""Of each lung, above the liver's middle."""

TRUNK_ABOVE_MM = 150.0
"""The scan must reach so far above the liver's middle, or the lungs are not in view."""

LARGEST_CUT = 0.05
"""Share of the image's border, in the liver's slices, that the body may touch; a crop of the body touches more."""

LUNG_BELOW_SUV, BODY_ABOVE_SUV = 0.6, 0.12
LARGEST_VARIATION = 0.25
"""Coefficient of variation within the sphere; more of it is no healthy liver."""


@dataclass(frozen=True)
class Liver:
    """Uptake of the healthy liver.

    Attributes
    ----------
    centre_mm : tuple of float
        Of the sphere of 3 cm diameter, in LPS.
    mean, sd : float
        Of the SUV within it, in the type of the volume.
    """

    centre_mm: tuple[float, float, float]
    mean: float
    sd: float

    @property
    def threshold(self) -> float:
        """SUL from which a lesion can be measured at baseline: 1.5 × mean + 2 SD (Wahl 2009, table 7)."""
        return 1.5 * self.mean + 2.0 * self.sd


def percist_mask(volume: SUVVolume) -> Mask:
    """Voxels from the PERCIST threshold of the patient's own liver on.

    PERCIST speaks of SUL. Within one scan every type of SUV is SUL times one number, which mean, SD and threshold
    share, so the region is the same whatever the type; height and sex are not needed.

    Parameters
    ----------
    volume : SUVVolume
        A scan of the trunk.

    Raises
    ------
    UnusableScanError
        ``LIVER_NOT_FOUND``.
    """
    liver = find_liver(volume)
    name = f"PERCIST SUV {volume.calibration.type}>={liver.threshold:.2f}"
    return Mask(volume.array >= liver.threshold, volume.geometry, name)


def find_liver(volume: SUVVolume) -> Liver:
    """Find the right lobe of the liver in a scan of the trunk and measure a sphere of 3 cm in it.

    Conservative: what is found must be the largest even region of liver-like uptake, of a liver's size, on the right
    of the body's midline, with both lungs above it. Raises ``LIVER_NOT_FOUND``, saying which of these fails.
    """
    coarse = _coarsen(volume)
    suv = coarse.array / volume.calibration.per_bw
    smooth = scipy.ndimage.gaussian_filter(suv, 8.0 / 2.355 / GRID_MM)
    body = np.stack([scipy.ndimage.binary_fill_holes(one) for one in smooth > BODY_ABOVE_SUV])
    region = _find_even_region(smooth)
    slices = np.flatnonzero(region.any(axis=(1, 2)))
    volume_ml = _to_ml(region)
    if not SMALLEST_LIVER_ML <= volume_ml <= LARGEST_LIVER_ML:
        raise _liver_error(f"the largest even region has {volume_ml:.0f} ml")
    _require_whole_sections(body[slices])
    right = np.arange(region.shape[2]) < np.flatnonzero(body[slices].any(axis=(0, 1))).mean()
    _require_on_the_right(region, right)
    _require_lungs_above(int(np.median(slices)), right, body, smooth)
    depth_mm = scipy.ndimage.distance_transform_edt(region) * GRID_MM
    centre = np.unravel_index(int(depth_mm.argmax()), depth_mm.shape)
    if depth_mm[centre] < SPHERE_RADIUS_MM + GRID_MM:
        raise _liver_error(f"no sphere of 3 cm fits into it: it is {2 * depth_mm[centre]:.0f} mm thick")
    centre_mm = coarse.geometry.to_mm(np.array(centre, dtype=np.float64))
    inside = _list_sphere_values(volume, centre_mm)
    mean, sd = float(inside.mean()), float(inside.std(ddof=1))
    if sd > LARGEST_VARIATION * mean:
        raise _liver_error(f"uptake in the sphere varies by {sd / mean:.0%}")
    x, y, z = centre_mm.tolist()
    return Liver((x, y, z), mean, sd)


def _coarsen(volume: SUVVolume) -> SUVVolume:
    """The scan on voxels of 5 mm, slices to the head, rows to the back, columns to the left."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in volume.geometry.shape], indexing="ij")).reshape(3, -1).T
    x, y, z = np.maximum(np.ptp(volume.geometry.to_mm(corners), axis=0), 8 * GRID_MM).tolist()
    return resample(volume, Grid((GRID_MM,) * 3, (z, y, x)))


def _find_even_region(smooth: npt.NDArray[np.float32]) -> BoolArray:
    """The largest region of liver-like uptake into which the sphere fits, narrowed to a band about its own median."""
    core = _find_largest((smooth > LIVER_SUV[0]) & (smooth < LIVER_SUV[1]))
    for _ in range(3):
        median = float(np.median(smooth[core]))
        core = _find_largest((smooth > (1 - BAND) * median) & (smooth < (1 + BAND) * median))
    return core


def _find_largest(candidate: BoolArray) -> BoolArray:
    """The largest part after the sphere has opened it, so that thin bridges to other organs are cut."""
    deep = scipy.ndimage.distance_transform_edt(candidate) * GRID_MM > SPHERE_RADIUS_MM
    parts, n = scipy.ndimage.label(deep)
    if n == 0:
        raise _liver_error("no even region of liver-like uptake holds a sphere of 3 cm")
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    near = scipy.ndimage.distance_transform_edt(parts != int(sizes.argmax())) * GRID_MM <= SPHERE_RADIUS_MM
    return np.asarray(candidate & near, dtype=np.bool_)


def _to_ml(region: BoolArray) -> float:
    return float(region.sum()) * GRID_MM**3 / 1000


def _require_whole_sections(sections: BoolArray) -> None:
    """In the liver's slices the whole body is in view, with air around it."""
    border = np.concatenate([sections[:, [0, -1], :].ravel(), sections[:, :, [0, -1]].ravel()])
    cut = float(border.mean())
    if cut > LARGEST_CUT:
        raise _liver_error(f"the field of view cuts the body: it fills {cut:.0%} of the image's border")


def _require_on_the_right(region: BoolArray, right: BoolArray) -> None:
    """Most of the liver lies on the patient's right, where x is smaller: in columns before the body's middle."""
    share = float(region[:, :, right].sum() / region.sum())
    if share < 0.65:
        raise _liver_error(f"only {share:.0%} of the largest even region lies on the patient's right")


def _require_lungs_above(low: int, right: BoolArray, body: BoolArray, smooth: npt.NDArray[np.float32]) -> None:
    """Both lungs, deep in the body, within 20 cm above the slice of the middle of the liver."""
    above_mm = (body.shape[0] - low) * GRID_MM
    if above_mm < TRUNK_ABOVE_MM:
        raise _liver_error(f"the scan ends {above_mm:.0f} mm above the middle of the largest even region")
    part = slice(low, min(low + round(200 / GRID_MM), body.shape[0]))
    deep = np.stack([scipy.ndimage.distance_transform_edt(one) * GRID_MM > 25 for one in body[part]])
    lung = deep & (smooth[part] < LUNG_BELOW_SUV)
    for name, side in (("right", right), ("left", ~right)):
        volume_ml = _to_ml(lung[:, :, side])
        if volume_ml < SMALLEST_LUNG_ML:
            raise _liver_error(f"above it there are {volume_ml:.0f} ml of {name} lung")


def _list_sphere_values(volume: SUVVolume, centre_mm: FloatArray) -> npt.NDArray[np.float64]:
    """SUV of the scan's own voxels whose centres lie in the sphere."""
    geometry = volume.geometry
    middle, reach = geometry.to_index(centre_mm), SPHERE_RADIUS_MM / np.array(geometry.spacing_mm)
    low = np.maximum(np.floor(middle - reach).astype(int), 0)
    high = np.minimum(np.ceil(middle + reach).astype(int) + 1, geometry.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    index = np.stack(np.meshgrid(*[np.arange(a, b) for a, b in zip(low, high, strict=True)], indexing="ij"), axis=-1)
    near = np.linalg.norm(geometry.to_mm(index) - centre_mm, axis=-1) <= SPHERE_RADIUS_MM
    return np.asarray(volume.array[box][near], dtype=np.float64)


def _liver_error(reason: str) -> UnusableScanError:
    return UnusableScanError(Code.LIVER_NOT_FOUND, reason)
