"""How far a scan is from those of the training, by plain descriptors, and from which distance on that is unusual."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import scipy

from twobe3.core.volume import FloatArray
from twobe3.features.descriptors import DESCRIPTORS
from twobe3.io.model_file import ArrayFields

NEIGHBOURS = 5
FLAGGED = 0.05  # share of patients like those of the training that is flagged at most
NARROWEST = 0.05  # smallest scale of a logarithm: differences of 5 % never count as unusual by themselves
NORMAL_IQR = 1.349  # interquartile range of a standard normal distribution


@dataclass(frozen=True, eq=False)
class Novelty(ArrayFields):
    """The descriptors of the training scans, and the distance from which on a new one is unusual.

    Descriptors enter as log(1 + x), from which the median is taken and which are divided by the interquartile range
    over 1.349, so that no single training scan decides the scale. The distance of a scan is the mean Euclidean distance
    to its five nearest training scans (fewer where there are not as many), over the root of the number of descriptors.

    The threshold is a conformal quantile (Vovk, Gammerman & Shafer, Algorithmic Learning in a Random World (2005),
    section 2.2; Laxhammar & Falkman, Ann Math Artif Intell 2015;74:67 for nearest neighbours): of the distances of each
    of the n training scans to the others, the ⌈0.95 · (n + 1)⌉-th smallest. A new scan that is exchangeable with them
    exceeds it with a probability of at most 5 %, on average over training sets and scans and up to the scale, which is
    that of the training scans alone: with the new scan among their neighbours the distances of the training scans would
    only get smaller. With fewer than 19 training scans there is no such rank and nothing is flagged.

    Attributes
    ----------
    centre, scale : ndarray, shape (p,)
        Of the logarithms.
    points : ndarray, shape (n, p)
        The training scans, centred and scaled, in an order that tells nothing.
    threshold : ndarray, shape (1,), or empty
        Empty where there are too few training scans.
    """

    centre: FloatArray
    scale: FloatArray
    points: FloatArray
    threshold: FloatArray

    def __post_init__(self) -> None:
        shape = (len(DESCRIPTORS),)
        if self.centre.shape != shape or self.scale.shape != shape or self.points.shape[1:] != shape:
            raise ValueError(f"the training scans must have {len(DESCRIPTORS)} descriptors")
        if not len(self.points) or not (self.scale > 0).all() or self.threshold.shape not in ((0,), (1,)):
            raise ValueError("a scale must be above 0, and there is at least one training scan, at most one threshold")

    @classmethod
    def fit(cls, descriptors: FloatArray) -> Self:
        """Learn from the descriptors of the training scans, shape (n, p), none below 0."""
        logs = np.log1p(descriptors)
        centre = np.median(logs, axis=0)
        low, high = np.percentile(logs, [25, 75], axis=0)
        scale = np.maximum((high - low) / NORMAL_IQR, NARROWEST)
        points = (logs - centre) / scale
        points = points[np.lexsort(points.T)]
        n = len(points)
        rank = math.ceil((1.0 - FLAGGED) * (n + 1))
        between = scipy.spatial.distance.cdist(points, points)
        np.fill_diagonal(between, np.inf)
        own = np.sort([_mean_of_nearest(row[np.isfinite(row)], points.shape[1]) for row in between])
        return cls(centre, scale, points, own[rank - 1 : rank] if rank <= n else np.zeros(0))

    def distance(self, descriptors: FloatArray) -> float:
        """Distance of a scan of these descriptors, shape (p,), from the training scans."""
        point = self.standardise(descriptors)
        return _mean_of_nearest(scipy.spatial.distance.cdist(point[None], self.points)[0], len(point))

    def standardise(self, descriptors: FloatArray) -> FloatArray:
        """How many robust standard deviations each descriptor lies from the median of the training scans."""
        return np.asarray((np.log1p(descriptors) - self.centre) / self.scale)

    def is_unusual(self, distance: float) -> bool:
        """Whether a distance exceeds the threshold; never where there is none."""
        return bool(len(self.threshold)) and distance > float(self.threshold[0])


def _mean_of_nearest(distances: FloatArray, p: int) -> float:
    """Mean of the five smallest distances, over the root of the number of descriptors; 0 without any."""
    nearest = np.sort(distances)[:NEIGHBOURS]
    return float(nearest.mean() / np.sqrt(p)) if len(nearest) else 0.0
