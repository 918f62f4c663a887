"""From the grid of the models back to the voxels of the scan."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from twobe3.core.grid import Grid, place_grid
from twobe3.core.volume import Geometry

Volume = npt.NDArray[np.float32]


def to_scan(values: Volume, grid: Grid, scan: Geometry) -> Volume:
    """A map on the grid as one on the voxels of the scan that the grid was laid on; 0 beyond the field of view.

    Linear interpolation between the centres of voxels. A voxel of the scan gets its share by volume, so the sum over
    all voxels stays about the same where the field of view holds the scan.

    Parameters
    ----------
    values : ndarray of float32, shape ``grid.shape``
        What each voxel of the grid adds to the risk.
    grid : Grid
        On which the model saw the scan.
    scan : Geometry
        Of the scan.

    Returns
    -------
    ndarray of float32, shape ``scan.shape``

    Raises
    ------
    ValueError
        The map is on another grid.
    """
    if values.shape != grid.shape:
        raise ValueError(f"the map has shape {values.shape}, the grid {grid.shape}")
    placed = place_grid(scan, grid)
    step = np.linalg.inv(placed.affine) @ scan.affine
    moved = ndimage.affine_transform(
        values, step[:3, :3], step[:3, 3], output_shape=scan.shape, order=1, mode="grid-constant"
    )
    share = scan.voxel_volume_ml / placed.voxel_volume_ml
    return np.asarray(moved * share, dtype=np.float32)


def find_strongest(values: Volume, share: float = 0.5) -> npt.NDArray[np.bool_]:
    """The fewest voxels that hold together at least a share of all that raises the risk; none where nothing does."""
    raising = np.where(values > 0, values, 0).astype(np.float64).ravel()
    order = np.argsort(raising, kind="stable")[::-1]
    sums = np.cumsum(raising[order])
    found = np.zeros(raising.size, dtype=bool)
    if sums[-1] > 0:
        found[order[: int(np.searchsorted(sums, share * sums[-1])) + 1]] = True
    return found.reshape(values.shape)
