"""Every scan on one grid: isotropic or not, axis-aligned in LPS, cropped or padded to one field of view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy

from twobe3.core.volume import Geometry, SUVVolume

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Modality = Literal["pet", "ct"]
"""What models see of a patient: SUV, HU, or both."""
MIN_GRID_VOXELS = 8
"""Along each axis."""
MAX_GRID_VOXELS = 2**28
"""In all: a gigabyte of SUV; a whole body of two metres in voxels of 1.6 mm has fewer."""


@dataclass(frozen=True, init=False)
class Grid:
    """The grid on which the models see a scan.

    Parameters
    ----------
    spacing_mm : float or tuple of three float
        Along the body (slices), rows, columns; one number for all three.
    field_of_view_mm : float or tuple of three float
        Along the body, rows, columns; centred on the centre of the image. What lies outside is cut, what the image
        lacks is padded with SUV 0.

    Raises
    ------
    ValueError
        A length is not positive and finite, there are not three, or the field of view holds fewer than 8 voxels along
        an axis, or more than :data:`MAX_GRID_VOXELS` in all.
    """

    spacing_mm: tuple[float, float, float]
    field_of_view_mm: tuple[float, float, float]

    def __init__(
        self,
        spacing_mm: float | Sequence[float] = 4.0,
        field_of_view_mm: float | Sequence[float] = (1024.0, 512.0, 512.0),
    ) -> None:
        for name, lengths in (("spacing_mm", spacing_mm), ("field_of_view_mm", field_of_view_mm)):
            values = tuple(map(float, lengths if isinstance(lengths, Sequence) else (lengths,) * 3))
            if len(values) != 3 or not all(0 < value < np.inf for value in values):
                raise ValueError(f"{name} must hold three positive lengths, got {values}")
            object.__setattr__(self, name, values)
        if min(self.shape) < MIN_GRID_VOXELS:
            least = f"at least {MIN_GRID_VOXELS} voxels along each axis"
            raise ValueError(f"the field of view must hold {least}, got {self.shape}")
        if math.prod(self.shape) > MAX_GRID_VOXELS:
            raise ValueError(f"the field of view may hold at most {MAX_GRID_VOXELS} voxels, got {self.shape}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of slices, rows and columns."""
        a, b, c = (
            round(length / spacing) for length, spacing in zip(self.field_of_view_mm, self.spacing_mm, strict=True)
        )
        return a, b, c

    def cache_key(self) -> str:
        """Text that differs whenever the resampled values may differ; part of cache keys."""
        return f"resample spacing {self.spacing_mm} field of view {self.field_of_view_mm}"


def resample(volume: SUVVolume, grid: Grid) -> SUVVolume:
    """Bring a scan of any orientation onto a grid; slices run to the head, rows to the back, columns to the left.

    Linear interpolation; an axis that gets coarser by more than half is smoothed first with a Gaussian whose full
    width at half maximum is the new spacing, so that fine texture does not alias.

    Parameters
    ----------
    volume : SUVVolume
        The scan.
    grid : Grid
        Spacing and field of view, which is centred on the scan; SUV 0 beyond the scan.

    Returns
    -------
    SUVVolume
        Of shape ``grid.shape``; the history says what was done.
    """
    target = place_grid(volume.geometry, grid)
    moved = resample_array(volume.array, volume.geometry, target)
    note = f"resampled to {grid.spacing_mm} mm, field of view {grid.field_of_view_mm} mm"
    return replace(volume, array=moved, geometry=target, history=(*volume.history, note))


def resample_array(array: Float32, source: Geometry, target: Geometry, *, outside: float = 0.0) -> Float32:
    """Bring voxels of any orientation onto other voxels, smoothed and interpolated as :func:`resample` does.

    Parameters
    ----------
    array : ndarray, shape ``source.shape``
    source, target : Geometry
    outside : float
        The value beyond the source, to which its border fades within a voxel.

    Returns
    -------
    ndarray of float32, shape ``target.shape``
    """
    step = np.linalg.inv(source.affine) @ target.affine
    # Spacing of the target seen along each axis of the source, in source voxels.
    coarsening = np.abs(step[:3, :3]).max(axis=1)
    sigma = np.where(coarsening > 1.5, coarsening / 2.355, 0.0)
    above = array - np.float32(outside) if outside else array
    moved = _smooth_and_interpolate(above, sigma, step[:3, :3], step[:3, 3], target.shape)
    return moved + np.float32(outside) if outside else moved


def _smooth_and_interpolate(
    array: Float32, sigma: Float64, matrix: Float64, offset: Float64, shape: tuple[int, int, int]
) -> Float32:
    """The values at matrix · i + offset for every index i of a shape, smoothed along each axis of the array first."""
    if np.count_nonzero(matrix) == len(shape):
        order = np.abs(matrix).argmax(axis=0)
        steps = matrix[order, range(len(shape))]
        lengths = zip(array.transpose(order).shape, shape, sigma[order], steps, offset[order], strict=True)
        return _apply_along_axes(array.transpose(order), [_weights(*length) for length in lengths])
    smooth = scipy.ndimage.gaussian_filter(array, sigma) if sigma.any() else array
    # "grid-constant" fades to 0 within one voxel of the border; "constant" would drop border voxels by rounding errors.
    return np.asarray(
        scipy.ndimage.affine_transform(smooth, matrix, offset, output_shape=shape, order=1, mode="grid-constant")
    )


def _weights(n: int, n_new: int, sigma: float, step: float, offset: float) -> Float32:
    """What each of n voxels along an axis gives to each of n_new, at step · i + offset; shape (n_new, n)."""
    distance = (step * np.arange(n_new) + offset)[:, None] - np.arange(n)
    hat = np.maximum(1 - np.abs(distance), 0)
    # The Gaussian is symmetric, at its reflecting ends too: smoothing the weights is smoothing the voxels.
    smooth = scipy.ndimage.gaussian_filter1d(hat, sigma, axis=1) if sigma else hat
    return np.asarray(smooth, dtype=np.float32)


def _apply_along_axes(array: Float32, weights: Sequence[Float32]) -> Float32:
    """Multiply an array by a matrix along each axis: what no matrix needs is cut, and what shortens most goes first."""
    needed = [np.flatnonzero(matrix.any(axis=0)) for matrix in weights]
    if not all(map(len, needed)):
        return np.zeros([len(matrix) for matrix in weights], np.float32)
    ranges = [slice(voxels[0], voxels[-1] + 1) for voxels in needed]
    along, rows, columns = (
        scipy.sparse.csr_array(matrix[:, part]) for matrix, part in zip(weights, ranges, strict=True)
    )

    def across_slices(image: Float32) -> Float32:
        return np.asarray(along @ image.reshape(len(image), -1)).reshape(-1, *image.shape[1:])

    def within_slices(image: Float32) -> Float32:
        moved = np.empty((len(image), rows.shape[0], columns.shape[0]), np.float32)
        for i, one in enumerate(image):  # one fits the processor's cache
            moved[i] = (columns @ (rows @ one).T).T
        return moved

    cut = np.asarray(array[tuple(ranges)], np.float32)
    if len(weights[0]) * cut[0].size < len(cut) * len(weights[1]) * len(weights[2]):
        return within_slices(across_slices(cut))
    return across_slices(within_slices(cut))


def place_grid(geometry: Geometry, grid: Grid) -> Geometry:
    """The voxels of a grid, LPS-aligned and centred on an image."""
    centre_mm = geometry.to_mm((np.array(geometry.shape) - 1) / 2)
    affine = np.eye(4)
    # slices → z (head), rows → y (back), columns → x (left)
    affine[:3, :3] = np.fliplr(np.eye(3)) * np.array(grid.spacing_mm)
    affine[:3, 3] = centre_mm - affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2)
    return Geometry(grid.shape, affine, geometry.frame_of_reference)


def uptake_outside(volume: SUVVolume, grid: Grid, *, above_suv: float = 1.0) -> float:
    """Share of the voxels above an SUV that the field of view cuts off, between 0 and 1."""
    hot = np.argwhere(volume.array > above_suv)
    if not len(hot):
        return 0.0
    target = place_grid(volume.geometry, grid)
    index = target.to_index(volume.geometry.to_mm(hot))
    inside = ((index > -0.5) & (index < np.array(target.shape) - 0.5)).all(axis=1)
    return float(1.0 - inside.mean())
