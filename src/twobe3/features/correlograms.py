"""Where uptake lies, in numbers: correlograms of the SUV image's profiles along its axes, and its hottest voxels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.volume import FloatArray
from twobe3.features.stacks import FLOOR_SUV
from twobe3.io.cache import Cache
from twobe3.io.files import digest

SMOOTHING_MM = 4.0  # standard deviation along a profile
STEP_MM = 4.0  # between the points at which a profile is read, whatever the grid is
LAGS_MM = np.geomspace(8.0, 512.0, 10)  # peaks of the bins, from what PET just resolves to half a metre
HOT_VOLUMES_ML = 0.125 * 4.0 ** np.arange(8)  # up to two litres
NEGLIGIBLE = 1e-6  # excess, relative to a profile's maximum, that is rounding

# Two auto-correlograms and a cross-correlogram whose lags have signs.
COLUMNS_OF_AXIS = 2 * (1 + len(LAGS_MM)) + 1 + 2 * len(LAGS_MM)
PARTS = {
    "along the body": COLUMNS_OF_AXIS,
    "front to back": COLUMNS_OF_AXIS,
    "side to side": COLUMNS_OF_AXIS,
    "hottest voxels": len(HOT_VOLUMES_ML),
}
"""What the columns of :func:`spatial_features` describe, in their order, and how many there are of each."""


def extract_spatial_features(cohort: Cohort, subject: Subject, cache: Cache) -> FloatArray:
    """:func:`spatial_features` of a scan on the cohort's grid, computed where the cache lacks them."""
    made_by = (SMOOTHING_MM, STEP_MM, tuple(LAGS_MM), tuple(HOT_VOLUMES_ML), FLOOR_SUV)
    key = digest(["spatial features", str(made_by), cohort.volume_key(subject)])
    found = cache.get_or_compute(
        key, lambda: {"features": spatial_features(cohort.volume(subject), cohort.grid.spacing_mm)}
    )
    return np.asarray(found["features"])


def spatial_features(volume: npt.NDArray[np.floating], spacing_mm: tuple[float, float, float]) -> FloatArray:
    """Correlograms of an image along each axis, and logarithms of the means of its hottest voxels.

    For each axis two profiles, the maximum and the mean of every slice across it, as :func:`profile_excess` reads them:
    the one shows lesions, however small, the other what is large and mild. Their columns are

    - the auto-correlogram of the maxima: logarithm of the root mean square excess (lag 0), then a bin of lags each;
    - that of the means;
    - the cross-correlogram of maxima with means: lag 0, the bins of lags at which what is mild lies further along the
      axis (headwards, backwards, to the left) than what is hot, and the bins of lags at which it lies less far.

    Empty slices, rows and columns around the image change nothing.

    Parameters
    ----------
    volume : ndarray, shape (slices, rows, columns)
        SUV; from feet to head, from front to back, from right to left. Values below 0 count as 0.
    spacing_mm : tuple of float
        Of the voxels.

    Returns
    -------
    ndarray, shape (137,)
        In the order of :data:`PARTS`.
    """
    suv = crop_empty(np.maximum(volume, 0.0).astype(np.float64))
    columns = []
    for axis, spacing in enumerate(spacing_mm):
        across = tuple(other for other in range(3) if other != axis)
        hot, mild = (profile_excess(profile, spacing) for profile in (suv.max(axis=across), suv.mean(axis=across)))
        for profile in (hot, mild):
            power = np.log(np.sqrt((profile**2).mean()) + FLOOR_SUV)
            columns += [[power], bin_lags(correlogram(profile, profile))]
        columns += [correlogram(hot, mild)[:1], bin_lags(correlogram(hot, mild)), bin_lags(correlogram(mild, hot))]
    means = hottest_means(suv, float(np.prod(spacing_mm)) / 1000.0)
    return np.concatenate([*columns, np.log(means + FLOOR_SUV)])


def crop_empty(volume: FloatArray) -> FloatArray:
    """The smallest box that holds every voxel above 0; one voxel of a volume that has none."""
    (box,) = scipy.ndimage.find_objects((volume > 0).astype(np.uint8)) or [(slice(0, 1),) * volume.ndim]
    return np.asarray(volume[box])


def profile_excess(profile: FloatArray, spacing_mm: float) -> FloatArray:
    """A profile smoothed by a Gaussian, above its median, at points :data:`STEP_MM` apart and centred on it.

    Parameters
    ----------
    profile : ndarray, shape (n,)
        A value of each slice.
    spacing_mm : float
        Between slices.

    Returns
    -------
    ndarray, shape (points,)
        Not negative. 0 where a profile differs from its median by rounding.
    """
    smooth = scipy.ndimage.gaussian_filter1d(profile, SMOOTHING_MM / spacing_mm, mode="nearest")
    middle_mm = (len(profile) - 1) / 2 * spacing_mm
    reach = int(middle_mm / STEP_MM + NEGLIGIBLE)
    at_mm = middle_mm + STEP_MM * np.arange(-reach, reach + 1)
    read = np.interp(at_mm, np.arange(len(profile)) * spacing_mm, smooth)
    excess = read - np.median(read)
    return np.where(excess > NEGLIGIBLE * read.max(), excess, 0.0)


def correlogram(first: FloatArray, second: FloatArray) -> FloatArray:
    r"""How alike two profiles are if the second is read a lag further along the axis, for every lag from 0.

    .. math:: r(h) = \frac{\sum_z a(z)\, b(z + h)}{\sqrt{\sum_z a(z)^2 \sum_z b(z)^2}}

    of profiles :math:`a` and :math:`b` that are 0 beyond their ends. This is the correlogram of geostatistics (Isaaks
    & Srivastava, An Introduction to Applied Geostatistics, Oxford University Press 1989, chapters 4 and 7) but for what
    values are counted from: the median, above which :func:`profile_excess` reads, and not the mean of those that have a
    partner. So two lesions give a peak at their distance and nothing negative elsewhere.

    Parameters
    ----------
    first, second : ndarray, shape (points,)
        Not negative.

    Returns
    -------
    ndarray, shape (points,)
        Between 0 and 1, at lags 0, :data:`STEP_MM`, …; 0 where a profile is 0 everywhere.
    """
    products = np.correlate(second, first, mode="full")[len(first) - 1 :]
    size = np.sqrt((first**2).sum() * (second**2).sum())
    return np.asarray(products / size if size > 0 else np.zeros(len(products)))


def bin_lags(values: FloatArray) -> FloatArray:
    """Mean of a correlogram over the lags in each bin, shape (10,); a profile shorter than a lag has 0 there.

    A bin's weights fall from its peak, one of :data:`LAGS_MM`, to 0 at the peaks of its neighbours, linearly in the
    logarithm of the lag: no lag is on an edge, where a step of a voxel would move it from one bin to the next.
    """
    known = values[: BIN_WEIGHTS.shape[1]]
    return BIN_WEIGHTS[:, : len(known)] @ known


def _bin_weights() -> FloatArray:
    """Weights that add up to 1 in each bin, shape (10, lags from 0 to the last peak)."""
    logarithms = np.log(np.maximum(np.arange(0.0, LAGS_MM[-1] + STEP_MM / 2, STEP_MM), NEGLIGIBLE))
    weights = np.stack([np.interp(logarithms, np.log(LAGS_MM), peak, left=0.0) for peak in np.eye(len(LAGS_MM))])
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


BIN_WEIGHTS = _bin_weights()


def hottest_means(volume: FloatArray, voxel_ml: float) -> FloatArray:
    """Mean SUV of the hottest voxels of each of :data:`HOT_VOLUMES_ML`, shape (8,).

    The last voxel counts with the part that is needed; what the image lacks of a volume counts as SUV 0.
    """
    wanted = HOT_VOLUMES_ML / voxel_ml
    rest = max(volume.size - int(np.ceil(wanted[-1])), 0)
    hottest = np.sort(np.partition(volume, rest, axis=None)[rest:])[::-1]
    sums = np.concatenate([[0.0], np.cumsum(hottest)])
    return np.asarray(np.interp(wanted, np.arange(len(sums)), sums) / wanted)
