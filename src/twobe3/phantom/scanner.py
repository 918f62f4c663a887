"""Two PET scanners: voxels, point spread, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from twobe3.core.volume import Geometry
from twobe3.phantom.anatomy import Body
from twobe3.phantom.lesions import Lesion
from twobe3.phantom.shapes import VoxelGrid, paint, paint_exactly

FWHM_PER_SIGMA = 2.0 * float(np.sqrt(2.0 * np.log(2.0)))
_NOISE_GRAIN = 0.7  # smoothness of the noise: standard deviation of a Gaussian, in voxels
_TEXTURE, _TEXTURE_MM = 0.08, 11.0  # unevenness of uptake within an organ: relative size, and smoothness as above


@dataclass(frozen=True)
class Scanner:
    """A centre's scanner."""

    centre: str
    fwhm_mm: float  # full width at half maximum of the point spread
    noise: float  # standard deviation at SUV 1; proportional to the square root of the uptake, as for counts
    spacing_mm: tuple[float, float, float]  # along slices, rows and columns
    matrix: int  # number of rows and columns

    def geometry(self, length_mm: float, frame_of_reference: str = "") -> Geometry:
        """Voxels from just above the vertex (z = 0) down over ``length_mm``, the body's axis in the middle."""
        dz, dy, dx = self.spacing_mm
        slices = round(length_mm / dz)
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = dz, dy, dx, 1.0
        affine[:3, 3] = -dx * (self.matrix - 1) / 2.0, -dy * (self.matrix - 1) / 2.0, 12.0 - dz * (slices - 1)
        return Geometry((slices, self.matrix, self.matrix), affine, frame_of_reference)


NORTH = Scanner("north", 5.5, 0.13, (6.0, 5.5, 5.5), 96)
SOUTH = Scanner("south", 7.5, 0.18, (6.5, 5.3, 5.3), 100)
SCANNERS = {scanner.centre: scanner for scanner in (NORTH, SOUTH)}


def paint_uptake(
    body: Body, lesions: tuple[Lesion, ...], geometry: Geometry, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Paint the true uptake in SUV, shape (slices, rows, columns): uneven in organs, even in lesions."""
    grid = VoxelGrid.from_geometry(geometry)
    image = np.zeros(geometry.shape, dtype=np.float32)
    edge_mm = max(geometry.spacing_mm)
    for organ in body.organs:
        paint(image, grid, organ.solid, organ.suv, edge_mm=edge_mm)
    image *= 1.0 + _TEXTURE * _smooth_noise(geometry.shape, [_TEXTURE_MM / step for step in geometry.spacing_mm], rng)
    for lesion in lesions:
        paint_exactly(image, grid, lesion.solid, lesion.suv)
    return image


def acquire(
    image: npt.NDArray[np.float32], scanner: Scanner, geometry: Geometry, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Simulate a scan: point spread, then noise whose variance is proportional to the uptake; never negative."""
    sigma = [scanner.fwhm_mm / FWHM_PER_SIGMA / spacing for spacing in geometry.spacing_mm]
    blurred = gaussian_filter(image, sigma, truncate=3.0)
    grain = scanner.noise * _smooth_noise(image.shape, [_NOISE_GRAIN] * 3, rng)
    return np.asarray(np.maximum(blurred + np.sqrt(blurred) * grain, 0.0), dtype=np.float32)


def lesion_mask(lesions: tuple[Lesion, ...], geometry: Geometry) -> npt.NDArray[np.bool_]:
    """Voxels whose centre lies in a lesion; of a lesion between the centres, the nearest one."""
    grid = VoxelGrid.from_geometry(geometry)
    mask = np.zeros(geometry.shape, dtype=np.bool_)
    for lesion in lesions:
        box = grid.index_box(*lesion.solid.bounds_mm(), 0.0)
        mask[box] |= lesion.solid.contains(*grid.coordinates(box))
        nearest = np.rint(geometry.to_index(lesion.centre_mm)).astype(int)
        mask[tuple(np.clip(nearest, 0, np.subtract(geometry.shape, 1)))] = True
    return mask


def _smooth_noise(
    shape: tuple[int, ...], sigma_voxels: list[float], rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Gaussian noise of standard deviation 1, smoothed."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma_voxels, truncate=2.5, mode="wrap")
    return np.asarray(noise / noise.std(), dtype=np.float32)
