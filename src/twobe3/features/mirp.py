"""MIRP, the optional library of IBSI features: importing it, silencing it, correcting its autocorrelation."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.core.volume import FloatArray


@contextmanager
def silence() -> Iterator[None]:
    """Keep MIRP from configuring the root logger, which it would let write to standard output, and from warning."""
    root, handler, before = logging.getLogger(), logging.NullHandler(), logging.root.manager.disable
    root.addHandler(handler)
    logging.disable(logging.INFO)  # it tells the root logger what it does
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        root.removeHandler(handler)


@contextmanager
def exact_autocorrelation() -> Iterator[None]:
    """Replace MIRP's Moran's I and Geary's C, which it would sample, by :func:`spatial_autocorrelation`."""
    spatial = importlib.import_module("mirp._features.morph_3d_data").Data3DSpatial

    def compute(data: Any, *_: Any, **__: Any) -> None:
        voxels = data.data_int
        if len(voxels) > 1:
            index, value = voxels[["z", "y", "x"]].to_numpy(np.int64), voxels["g"].to_numpy(np.float64)
            data.moran_i, data.geary_c = spatial_autocorrelation(value, index, tuple(data.spacing))

    original = spatial.compute_spatial_information
    spatial.compute_spatial_information = compute
    try:
        yield
    finally:
        spatial.compute_spatial_information = original


def import_mirp() -> tuple[Any, Callable[..., Any], Callable[..., Any]]:
    """Import MIRP and its importers of images and masks. Raises EnvironmentFailure ``EXTRA_MISSING``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mirp = importlib.import_module("mirp")
            images = importlib.import_module("mirp.data_import.import_image")
            masks = importlib.import_module("mirp.data_import.import_mask")
    except ImportError:
        raise EnvironmentFailure(
            Code.EXTRA_MISSING, "radiomic features need MIRP", remedy="pip install 'twobe3[radiomics]'"
        ) from None
    return mirp, images.import_image, masks.import_mask


def spatial_autocorrelation(
    value: FloatArray, index: npt.NDArray[np.int64], spacing_mm: tuple[float, ...]
) -> tuple[float, float]:
    r"""Moran's I and Geary's C of a region, each pair of voxels weighted by the inverse of its distance.

    .. math:: I = \frac{n}{\sum w_{ij}} \frac{\sum w_{ij} x_i x_j}{\sum x_i^2}, \qquad
              C = \frac{n - 1}{2 \sum w_{ij}} \frac{\sum w_{ij} (x_i - x_j)^2}{\sum x_i^2}

    of deviations from the mean, over all pairs of different voxels (IBSI reference manual, N365 and NPT7). As weights
    depend on the distance only, sums over pairs are convolutions: n voxels cost about n log n instead of n². The
    intensities, (n,), of two voxels or more, have places ``index``, (n, 3), on a grid of this spacing. Where all are
    the same, nothing varies and both are 1, as MIRP defines them.
    """
    deviation = value - value.mean()
    squares = float((deviation**2).sum())
    if squares == 0.0:
        return 1.0, 1.0
    place = tuple((index - index.min(axis=0)).T)
    # Twice the extent, so that what wraps around the border of a Fourier transform meets nothing.
    shape = [scipy.fft.next_fast_len(2 * (int(axis.max()) + 1) - 1, real=True) for axis in place]
    weight = scipy.fft.rfftn(_inverse_distances(shape, spacing_mm))

    def weighted_sum(values: FloatArray) -> FloatArray:
        """For each voxel, the weighted sum of the values of all others."""
        grid = np.zeros(shape)
        grid[place] = values
        return np.asarray(scipy.fft.irfftn(scipy.fft.rfftn(grid) * weight, shape)[place])

    row = weighted_sum(np.ones_like(deviation))
    products = float(deviation @ weighted_sum(deviation))
    differences = 2.0 * (float(deviation**2 @ row) - products)
    n, total = len(value), float(row.sum())
    return n / total * products / squares, (n - 1) / (2.0 * total) * differences / squares


def _inverse_distances(shape: list[int], spacing_mm: tuple[float, ...]) -> FloatArray:
    """Of each place from the first one, in either direction around the border; 0 at that place itself."""
    first, second, third = (np.fft.fftfreq(n, 1.0 / n) * mm for n, mm in zip(shape, spacing_mm, strict=True))
    distance = np.sqrt(first[:, None, None] ** 2 + second[:, None] ** 2 + third**2)
    return np.asarray(np.divide(1.0, distance, out=distance, where=distance > 0))
