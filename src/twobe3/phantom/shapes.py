"""Solids of which the phantom is built, and how they are painted into an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from twobe3.core.volume import Geometry

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating[Any]]
Vector = tuple[float, float, float]
Node = tuple[float, float, float, float, float]


@dataclass(frozen=True, eq=False)
class VoxelGrid:
    """Voxel centres of an axial volume: x grows with the column, y with the row, z with the slice, in LPS mm."""

    x: Array
    y: Array
    z: Array

    @classmethod
    def from_geometry(cls, geometry: Geometry) -> VoxelGrid:
        """Voxel centres of a geometry whose axes are the patient's."""
        (dz, dy, dx), (x, y, z) = geometry.spacing_mm, geometry.origin_mm
        slices, rows, columns = geometry.shape
        axes = (x + dx * np.arange(columns), y + dy * np.arange(rows), z + dz * np.arange(slices))
        return cls(*(axis.astype(np.float32) for axis in axes))

    def index_box(self, low: Vector, high: Vector, margin_mm: float) -> tuple[slice, slice, slice]:
        """Index ranges (slices, rows, columns) of a box in mm."""
        ranges = [
            slice(*np.searchsorted(axis, (a - margin_mm, b + margin_mm)).tolist())
            for axis, a, b in zip((self.x, self.y, self.z), low, high, strict=True)
        ]
        return ranges[2], ranges[1], ranges[0]

    def coordinates(self, box: tuple[slice, slice, slice]) -> tuple[Array, Array, Array]:
        """x, y, z of the voxels of a box, shaped to broadcast to (slices, rows, columns)."""
        slices, rows, columns = box
        return self.x[columns], self.y[rows][:, None], self.z[slices][:, None, None]


class Solid(Protocol):
    """A solid in space."""

    def bounds_mm(self) -> tuple[Vector, Vector]:
        """Lowest and highest (x, y, z) of a box around it."""

    def distance_mm(self, x: Array, y: Array, z: Array) -> Array:
        """About the distance to its surface, negative inside; good near the surface."""


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid in LPS mm; a positive tilt in the coronal plane turns its upper end to the patient's left."""

    centre_mm: Vector
    radii_mm: Vector
    tilt_deg: float = 0.0

    def bounds_mm(self) -> tuple[Vector, Vector]:
        """See :class:`Solid`."""
        (x, y, z), (a, b, c) = self.centre_mm, self.radii_mm
        cos, sin = self._cos_sin()
        wide, high = float(np.hypot(a * cos, c * sin)), float(np.hypot(a * sin, c * cos))
        return (x - wide, y - b, z - high), (x + wide, y + b, z + high)

    def distance_mm(self, x: Array, y: Array, z: Array) -> Array:
        """First-order distance k·(k−1)/|∇|, k the scaled radius."""
        u, v, w = self._to_unit_ball(x, y, z)
        (a, b, c) = self.radii_mm
        k = np.sqrt(u * u + v * v + w * w)
        gradient = np.sqrt((u / a) ** 2 + (v / b) ** 2 + (w / c) ** 2)
        return np.asarray(k * (k - 1.0) / np.maximum(gradient, 1e-6), dtype=np.float32)

    def contains(self, x: Array, y: Array, z: Array) -> npt.NDArray[np.bool_]:
        """Whether points lie inside, exactly."""
        u, v, w = self._to_unit_ball(x, y, z)
        return np.asarray(u * u + v * v + w * w <= 1.0)

    def draw_inside(self, rng: np.random.Generator) -> Vector:
        """A point inside, uniformly in the volume."""
        direction = rng.standard_normal(3)
        direction *= rng.random() ** (1 / 3) / np.linalg.norm(direction)
        u, v, w = direction * self.radii_mm
        cos, sin = self._cos_sin()
        x, y, z = self.centre_mm
        return float(x + cos * u + sin * w), float(y + v), float(z - sin * u + cos * w)

    def _cos_sin(self) -> tuple[float, float]:
        return float(np.cos(np.deg2rad(self.tilt_deg))), float(np.sin(np.deg2rad(self.tilt_deg)))

    def _to_unit_ball(self, x: Array, y: Array, z: Array) -> tuple[Floats, Floats, Floats]:
        (p, q, r), (a, b, c) = self.centre_mm, self.radii_mm
        cos, sin = self._cos_sin()
        dx, dz = x - p, z - r
        return (dx * cos - dz * sin) / a, (y - q) / b, (dx * sin + dz * cos) / c


@dataclass(frozen=True)
class Tube:
    """Ellipses stacked along the body with smooth transitions: trunk, neck, limbs, spine, vessels.

    Nodes are (height z, centre x, y, half-axes a, b) in mm; ``squareness`` towards 1 fills out the corners.
    """

    nodes: tuple[Node, ...]
    squareness: float = 0.0

    def bounds_mm(self) -> tuple[Vector, Vector]:
        """See :class:`Solid`."""
        z, x, y, a, b = np.array(self.nodes).T
        low = float((x - a).min()), float((y - b).min()), float(z.min())
        return low, (float((x + a).max()), float((y + b).max()), float(z.max()))

    def distance_mm(self, x: Array, y: Array, z: Array) -> Array:
        """Within its slices the scaled radius less one, times the smaller half-axis; beyond its ends, along z."""
        nodes = np.array(sorted(self.nodes))
        lowest, highest = nodes[0, 0], nodes[-1, 0]
        along = PchipInterpolator(nodes[:, 0], nodes[:, 1:])(np.clip(z, lowest, highest)).astype(np.float32)
        cx, cy, a, b = np.moveaxis(along, -1, 0)
        u, v = ((x - cx) / a) ** 2, ((y - cy) / b) ** 2
        k = u + v
        if self.squareness:
            k = k - self.squareness * u * v / np.maximum(k, 1e-6)
        beyond = np.maximum(z - highest, lowest - z)
        return np.asarray(np.maximum((np.sqrt(k) - 1.0) * np.minimum(a, b), beyond), dtype=np.float32)


def paint(image: Array, grid: VoxelGrid, solid: Solid, suv: float, *, edge_mm: float) -> None:
    """Set the uptake inside a solid, with a linear transition of ``edge_mm`` at its surface."""
    box = grid.index_box(*solid.bounds_mm(), edge_mm)
    region = image[box]
    cover = np.clip(0.5 - solid.distance_mm(*grid.coordinates(box)) / edge_mm, 0.0, 1.0)
    region += cover * (np.float32(suv) - region)


def paint_exactly(image: Array, grid: VoxelGrid, solid: Ellipsoid, suv: float, *, samples: int = 4) -> None:
    """Set the uptake inside a solid, each voxel weighted by the share of ``samples``³ points of it that lie inside."""
    steps = [float(np.diff(axis[:2])[0]) for axis in (grid.x, grid.y, grid.z)]
    box = grid.index_box(*solid.bounds_mm(), max(steps))
    region = image[box]
    offsets = (np.arange(samples, dtype=np.float32) + 0.5) / samples - 0.5
    x, y, z = (
        (axis[part][:, None] + step * offsets).ravel().astype(np.float32)
        for axis, part, step in zip((grid.x, grid.y, grid.z), reversed(box), steps, strict=True)
    )
    inside = solid.contains(x, y[:, None], z[:, None, None])
    (n, m, k), s = region.shape, samples
    cover = inside.reshape(n, s, m, s, k, s).mean(axis=(1, 3, 5), dtype=np.float32)
    region += cover * (np.float32(suv) - region)
