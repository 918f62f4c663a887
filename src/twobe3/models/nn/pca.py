"""Fewer channels: principal components of the feature maps of the training patients."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twobe3.core.outcomes import FloatArray
from twobe3.io.model_file import ArrayFields


@dataclass(frozen=True, eq=False)
class Projection(ArrayFields):
    """Linear map of standardised channels onto their leading principal components.

    Neighbouring channels of a 2D network say much the same; a network trained on the leading components sees nearly
    all of the maps' variance at a third of the cost or less.

    ``mean``, (channels,), is that of each channel over all positions of all training patients. ``matrix``, (components,
    channels), includes the division by the channels' standard deviations, and one common factor that gives the
    components a mean variance of 1.
    """

    mean: FloatArray
    matrix: FloatArray

    @classmethod
    def fit(cls, subjects: Iterable[npt.NDArray[np.float16]], components: int) -> Projection:
        """Learn from the maps of the training patients, one patient in memory at a time.

        Each has maps of the shape (channels, n_slices, height, width), and counts alike, whatever the number of slices.
        There are as many components as channels where more are asked for.
        """
        mean, covariance = _moments(subjects)
        scale = _deviations(mean, np.diag(covariance))
        variance, axes = np.linalg.eigh(covariance / np.outer(scale, scale))
        leading = np.argsort(variance)[::-1][:components]
        factor = np.sqrt(max(float(variance[leading].mean()), 1e-12))
        # The sign of an eigenvector is arbitrary: fix it, so that every machine trains on the same numbers.
        signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
        return cls(mean, (axes * signs).T[leading] / scale / factor)

    @classmethod
    def standardise(cls, subjects: Iterable[npt.NDArray[np.float16]]) -> Projection:
        """Learn the channels' means and standard deviations alone; each channel is a component."""
        mean, covariance = _moments(subjects)
        return cls(mean, np.diag(1.0 / _deviations(mean, np.diag(covariance))))

    def __call__(self, maps: npt.NDArray[np.float16]) -> npt.NDArray[np.float32]:
        """(channels, n_slices, height, width) to (components, n_slices, height, width)."""
        positions = maps.reshape(len(maps), -1).astype(np.float32)
        projected = self.matrix.astype(np.float32) @ (positions - self.mean[:, None].astype(np.float32))
        return projected.reshape(-1, *maps.shape[1:])


def _moments(subjects: Iterable[npt.NDArray[np.float16]]) -> tuple[FloatArray, FloatArray]:
    """Mean and covariance of the channels over the positions of all patients, who count alike."""
    total: FloatArray | float = 0.0
    products: FloatArray | float = 0.0
    count = 0
    for maps in subjects:
        positions = maps.reshape(len(maps), -1).astype(np.float64)
        total = total + positions.mean(axis=1)
        products = products + positions @ positions.T / positions.shape[1]
        count += 1
    mean = np.asarray(total) / count
    return mean, np.asarray(products) / count - np.outer(mean, mean)


def _deviations(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """Standard deviations of channels; infinite where a channel is the same everywhere in training.

    Such a channel gets no weight, whatever it does in another patient.
    """
    varies = variance > 1e-10 * (variance + mean**2)
    return np.sqrt(variance, out=np.full(len(mean), np.inf), where=varies)
