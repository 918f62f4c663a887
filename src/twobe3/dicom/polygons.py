"""Closed contours of one plane, filled at the centres of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy
import skimage

from twobe3.core.volume import FloatArray

Pixels = npt.NDArray[np.bool_]

ON_PATH_MM = 0.01
"""A pixel's centre lies on a contour's path from this distance on: files round coordinates to as much."""

SAME_CONTOUR_MM = 0.1
"""Two contours are one if every corner of each has one of the other that near."""

_WHOLE = 0.99  # of the area of a contour that counts as all of it
_RASTER = 64  # points a side, for shares of area


@dataclass(frozen=True, eq=False)
class Combination:
    """What the contours of one plane enclose, and how many were stored twice or overlap in part."""

    inside: Pixels
    repeated: int
    overlapping: int


def combine(
    outlines: Sequence[FloatArray], shape: tuple[int, int], spacing_mm: tuple[float, float], *, exclusive: bool = False
) -> Combination:
    """Fill the contours of one plane.

    A contour within another one is a hole, one within the hole an island, and so on. Contours that lie side by side or
    overlap in part are united. One that is stored twice counts once. With ``exclusive``, what CLOSEDPLANAR_XOR asks
    for, a pixel is inside if an odd number of contours enclose it. Points on the path of any contour, holes' too, are
    inside (DICOM PS3.3 C.8.8.6.3).

    Parameters
    ----------
    outlines : sequence of ndarray, shape (points, 2)
        Row and column of the corners; centres of pixels lie at whole numbers.
    shape : tuple of int
        Rows and columns.
    spacing_mm : tuple of float
        Between rows, between columns.
    exclusive : bool
        Whether the contours are combined by exclusive or.
    """
    distinct: list[FloatArray] = []
    for outline in sorted(outlines, key=_area, reverse=True):
        if not any(_is_same(outline, other, spacing_mm) for other in distinct):
            distinct.append(outline)
    share = np.array([[_share_inside(inner, outer) for inner in distinct] for outer in distinct])
    within = np.triu(share >= _WHOLE, 1)  # the outer one is the larger one
    overlapping = int((np.triu((share > 1 - _WHOLE) & (share < _WHOLE), 1)).any(axis=0).sum())
    filled = [_fill(outline, shape) for outline in distinct]
    inside: Pixels = np.zeros(shape, dtype=np.bool_)
    if exclusive:
        inside = np.logical_xor.reduce(filled)
    else:
        levels = np.zeros(len(distinct), dtype=np.int64)
        for k in range(len(distinct)):
            levels[k] = max(levels[within[:, k]] + 1, default=0)
        for level in range(int(levels.max()) + 1):
            one = np.logical_or.reduce([filled[k] for k in np.flatnonzero(levels == level)])
            inside = inside & ~one if level % 2 else inside | one
    for outline in distinct:
        rows, columns = _find_on_path(outline, shape, spacing_mm).T
        inside[rows, columns] = True
    return Combination(inside, len(outlines) - len(distinct), overlapping)


def _area(outline: FloatArray) -> float:
    after = np.roll(outline, -1, axis=0)
    return float(abs((outline[:, 0] * after[:, 1] - outline[:, 1] * after[:, 0]).sum()) / 2)


def _is_same(a: FloatArray, b: FloatArray, spacing_mm: tuple[float, float]) -> bool:
    if np.abs((a.min(axis=0) - b.min(axis=0)) * spacing_mm).max() > SAME_CONTOUR_MM:
        return False
    ways = ((a * spacing_mm, b * spacing_mm), (b * spacing_mm, a * spacing_mm))
    return all(scipy.spatial.cKDTree(to).query(start)[0].max() <= SAME_CONTOUR_MM for start, to in ways)


def _share_inside(inner: FloatArray, outer: FloatArray) -> float:
    """Share of the area of one contour that lies in another one."""
    low, high = inner.min(axis=0), inner.max(axis=0)
    if inner is outer or (high <= outer.min(axis=0)).any() or (low >= outer.max(axis=0)).any():
        return 0.0
    steps = (np.arange(_RASTER) + 0.5) / _RASTER
    points = low + (high - low) * np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    points = points[skimage.measure.points_in_poly(points, inner)]
    return float(skimage.measure.points_in_poly(points, outer).mean()) if len(points) else 0.0


def _fill(outline: FloatArray, shape: tuple[int, int]) -> Pixels:
    """Pixels whose centres a contour encloses, an odd number of times; on its path anything may come out."""
    inside = np.zeros(shape, dtype=np.bool_)
    low = np.clip(np.ceil(outline.min(axis=0)), 0, shape).astype(np.int64)
    high = np.clip(np.floor(outline.max(axis=0)) + 1, low, shape).astype(np.int64)
    if (high > low).all():
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        inside[box] = skimage.measure.grid_points_in_poly(tuple(high - low), outline - low)
    return inside


def _find_on_path(
    outline: FloatArray, shape: tuple[int, int], spacing_mm: tuple[float, float]
) -> npt.NDArray[np.int64]:
    """Pixels whose centres lie on the path, shape (pixels, 2): of the nearest to points half a pixel apart."""
    along = np.roll(outline, -1, axis=0) - outline
    counts = np.maximum(np.ceil(2 * np.abs(along).max(axis=1)), 1).astype(np.int64)
    segment = np.repeat(np.arange(len(outline)), counts)
    share = (np.arange(len(segment)) - np.repeat(np.cumsum(counts) - counts, counts)) / counts[segment]
    pixels = np.rint(outline[segment] + share[:, None] * along[segment]).astype(np.int64)
    within = ((pixels >= 0) & (pixels < shape)).all(axis=1)
    pixels, segment = pixels[within], segment[within]
    start, step = (pixels - outline[segment]) * spacing_mm, along[segment] * spacing_mm
    length = np.maximum((step**2).sum(axis=1), np.finfo(np.float64).tiny)
    nearest = np.clip((start * step).sum(axis=1) / length, 0, 1)[:, None] * step
    return np.asarray(pixels[np.linalg.norm(start - nearest, axis=1) <= ON_PATH_MM])
