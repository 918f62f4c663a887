"""A dozen plain numbers of a scan on a model's grid, by which scans are compared whatever the model looks at."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.volume import FloatArray
from twobe3.io.files import digest

BODY_SUV = 0.1  # voxels above it are body: less than in the lungs, more than in air
HOT_SUV = 2.5
PERCENTILES = (5, 25, 50, 75, 95, 99)
# Of the body's voxels these shares at either end of an axis are left out of its extent: specks in the air don't count.
TAILS = (0.005, 0.995)

DESCRIPTORS: tuple[str, ...] = (
    "body volume (ml)",
    "extent along the body (mm)",
    "extent front to back (mm)",
    "extent right to left (mm)",
    *(f"SUV, percentile {percentile} of the body" for percentile in PERCENTILES),
    "SUV, maximum",
    f"volume above SUV {HOT_SUV} (ml)",
    "roughness (mean difference of neighbours, SUV)",
)
MAXIMUM, MEDIAN = DESCRIPTORS.index("SUV, maximum"), DESCRIPTORS.index("SUV, percentile 50 of the body")


def extract_descriptors(cohort: Cohort, subject: Subject) -> FloatArray:
    """The descriptors of a subject's scan on the cohort's grid, kept where the cohort keeps its volumes.

    Returns
    -------
    ndarray of float64, shape (13,)
        In the order and the units of :data:`DESCRIPTORS`.

    Raises
    ------
    UnusableScanError
        The scan cannot become SUV.
    """
    key = digest(["descriptors", cohort.volume_key(subject)])

    def compute() -> dict[str, FloatArray]:
        return {"values": describe_volume(cohort.volume(subject), cohort.grid.spacing_mm)}

    return np.asarray(cohort.volumes.get_or_compute(key, compute)["values"], dtype=np.float64)


def describe_volume(suv: npt.NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> FloatArray:
    """Describe a volume of SUV, shape (slices, rows, columns), by :data:`DESCRIPTORS`; 0 where nothing is body.

    Percentiles and roughness are of the voxels above SUV 0.1, the extents those between the outermost half percent of
    them at either end of an axis.
    """
    body = suv > BODY_SUV
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    if not body.any():
        return np.zeros(len(DESCRIPTORS))
    inside = suv[body].astype(np.float64)
    extents = [_extent_mm(body, axis, mm) for axis, mm in enumerate(spacing_mm)]
    return np.array(
        [
            inside.size * voxel_ml,
            *extents,
            *np.percentile(inside, PERCENTILES),
            float(inside.max()),
            float((inside > HOT_SUV).sum()) * voxel_ml,
            _roughness(suv, body),
        ]
    )


def _extent_mm(body: npt.NDArray[np.bool_], axis: int, spacing_mm: float) -> float:
    """How far the body reaches along an axis, from the profile of its voxels."""
    others = tuple(other for other in range(3) if other != axis)
    share = np.cumsum(body.sum(axis=others)) / body.sum()
    first, last = np.searchsorted(share, TAILS)
    return float(last - first + 1) * spacing_mm


def _roughness(suv: npt.NDArray[np.float32], body: npt.NDArray[np.bool_]) -> float:
    """Mean absolute difference of two neighbours that are both body, over the three axes; 0 without any."""
    total, count = 0.0, 0
    for axis in range(3):
        step = np.abs(np.diff(suv, axis=axis))
        first, second = (np.moveaxis(body, axis, 0)[part] for part in (slice(-1), slice(1, None)))
        both = np.moveaxis(first & second, 0, axis)
        total += float(step[both].sum(dtype=np.float64))
        count += int(both.sum())
    return total / count if count else 0.0
