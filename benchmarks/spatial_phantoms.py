"""The phantoms of `spatial.py`: volumes of 48³ voxels of 4 mm whose label lies in space.

Both classes have the same lesions, noise and background but for:

- ``uptake``: how hot the lesion is;
- ``distance``: two lesions 24 to 56 mm apart along the body, or more than 88 mm; within the slices nothing differs;
- ``elongation``: twelve slices with a disc, three with a bar of four discs. Either the twelve follow each other (one
  lesion elongated along the body) and the three lie apart, or the three follow each other (one elongated within the
  slice) and the twelve lie apart: volume and the distribution of slice contents are equal, slice by slice;
- ``side``: the lesion lies headwards or footwards of a mildly warm organ, whose place varies;
- ``scattered``: ``distance`` again, but the two lesions lie anywhere in their slices, not at nearly the same place.

Two more were drawn once the default of `2be3-net` was frozen for the first time, with edges, on tissue whose level
changes along the body, with noise of single voxels:

- ``order``: five balls follow each other along the body, the hotter the further headwards, or footwards;
- ``crossing``: of two bars of one size that lie across each other the one from side to side is headwards, or footwards.

And two of the same kind once it was frozen a second time, ``crossing`` having had a part in the choice:

- ``zigzag``: of six balls along the body three lie in front and three behind, in turns, or one half after the other;
- ``hollow``: of two balls of one size the hollow one lies headwards, or footwards.

And two once it was frozen a third time, ``hollow`` having had a part in the choice:

- ``gap``: five balls along the body stand at equal steps, or as three and two with a gap between;
- ``helix``: six balls wind around the axis of the body like a right-handed screw, or like a left-handed one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

import twobe3 as tb
from twobe3.core.volume import SUVCalibration
from twobe3.io.cache import Cache

VERSION = "spatial-3"
"""Of how phantoms are drawn."""
SIDE = 48
VOXEL_MM = 4.0
NOISE_SUV = 0.3
SLOW_SUV = 0.1
JITTER = 3.0
"""Voxels by which two lesions of one patient may lie apart within the slice."""
DISC_MM = 7.0
"""Standard deviation of a disc and of a lesion within the slice."""

Volume = npt.NDArray[np.float64]
Paint = Callable[[Volume, bool, np.random.Generator], None]


def background(rng: np.random.Generator) -> Volume:
    """Tissue whose level varies between patients and slowly in space, and noise as smooth as PET's."""
    slow = ndimage.gaussian_filter(rng.normal(size=(6, 6, 6)), 1.0)
    slow = ndimage.zoom(slow / slow.std(), SIDE / 6, order=1)
    noise = ndimage.gaussian_filter(rng.normal(size=(SIDE,) * 3), 1.2)
    level = rng.uniform(0.8, 1.2)
    return np.asarray(level + SLOW_SUV * slow + NOISE_SUV * noise / noise.std())


def grainy_background(rng: np.random.Generator) -> Volume:
    """Tissue whose level rises or falls along the body, and noise of nearly single voxels."""
    noise = ndimage.gaussian_filter(rng.normal(size=(SIDE,) * 3), 0.6)
    along = 1.0 + rng.uniform(-0.3, 0.3) * np.linspace(-1.0, 1.0, SIDE)
    return np.asarray(rng.uniform(0.6, 1.6) * along[:, None, None] + NOISE_SUV * noise / noise.std())


def blob(centre: Sequence[float], sigma_mm: Sequence[float]) -> Volume:
    """A Gaussian of height 1; centre in voxels."""
    axes = np.ogrid[:SIDE, :SIDE, :SIDE]
    square = sum(((axis - at) * VOXEL_MM / sigma) ** 2 for axis, at, sigma in zip(axes, centre, sigma_mm, strict=True))
    return np.asarray(np.exp(-square / 2))


def disc(centre: Sequence[float]) -> npt.NDArray[np.float64]:
    """One slice with a Gaussian of height 1."""
    axes = np.ogrid[:SIDE, :SIDE]
    square = sum(((axis - at) * VOXEL_MM / DISC_MM) ** 2 for axis, at in zip(axes, centre, strict=True))
    return np.asarray(np.exp(-square / 2))


def in_plane(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return rng.uniform(12, SIDE - 12, size=2)


def uptake(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    height = rng.uniform(3.0, 5.0) if positive else rng.uniform(1.5, 3.5)
    volume += height * blob([rng.uniform(8, SIDE - 8), *in_plane(rng)], [DISC_MM] * 3)


def distance(volume: Volume, positive: bool, rng: np.random.Generator, *, scattered: bool = False) -> None:
    apart = (rng.uniform(24, 56) if positive else rng.uniform(88, 140)) / VOXEL_MM
    middle = rng.uniform(6 + apart / 2, SIDE - 6 - apart / 2)
    place = in_plane(rng)
    for side in (-1, 1):
        at = in_plane(rng) if scattered else place + rng.uniform(-JITTER, JITTER, size=2)
        volume += rng.uniform(3.0, 5.0) * blob([middle + side * apart / 2, *at], [6.0] * 3)


def elongation(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    height, long, short = rng.uniform(1.7, 3.0), 12, 3
    together, apart = (long, short) if positive else (short, long)
    first = int(rng.integers(4, SIDE - 4 - together))
    block = np.arange(first, first + together)
    free = [z for z in range(2, SIDE - 2) if z < first - 2 or z > block[-1] + 2]
    scattered = _no_neighbours(free, apart, rng)
    for slices in (block, scattered):
        offsets = (np.arange(4) - 1.5) * 3.0 if len(slices) == short else np.zeros(1)
        # One place for all of them, the scattered ones too: how much places vary must not tell the label.
        at = in_plane(rng)
        picture = height * np.max([disc([at[0], at[1] + offset]) for offset in offsets], axis=0)
        for z in slices:
            volume[z] += picture


def _no_neighbours(free: list[int], number: int, rng: np.random.Generator) -> list[int]:
    """So many of the slices, no two of which touch where that is possible."""
    chosen: list[int] = []
    for z in rng.permutation(free).tolist():
        if len(chosen) < number and all(abs(z - other) > 1 for other in chosen):
            chosen.append(z)
    assert len(chosen) == number
    return chosen


def side(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    organ = rng.uniform(18, SIDE - 18)
    volume += 0.8 * blob([organ, *(SIDE / 2 + rng.normal(0, 2, size=2))], [16.0, 40.0, 40.0])
    away = rng.uniform(36, 60) / VOXEL_MM
    volume += rng.uniform(2.0, 4.0) * blob([organ + (away if positive else -away), *in_plane(rng)], [6.0] * 3)


def soften(shape: npt.NDArray[np.bool_]) -> Volume:
    """A shape with edges as a scanner of 5 mm shows it."""
    return ndimage.gaussian_filter(shape.astype(float), 5.0 / 2.355 / VOXEL_MM)


def order(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    heights = np.sort(rng.uniform(1.5, 5.0, size=5))[:: 1 if positive else -1]
    step = rng.uniform(24, 32) / VOXEL_MM
    first = rng.uniform(4, SIDE - 4 - 4 * step)
    axes = np.ogrid[:SIDE, :SIDE, :SIDE]
    for number, height in enumerate(heights):
        centre = [first + number * step, *in_plane(rng)]
        square = sum(((axis - at) * VOXEL_MM) ** 2 for axis, at in zip(axes, centre, strict=True))
        volume += height * soften(np.asarray(square) < 9.0**2)


def crossing(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    apart = rng.uniform(36, 88) / VOXEL_MM
    middle = rng.uniform(4 + apart / 2, SIDE - 4 - apart / 2)
    axes = np.ogrid[:SIDE, :SIDE, :SIDE]
    for end in (-1, 1):
        sideways = (end > 0) == positive
        lengths_mm = (12.0, 12.0, 56.0) if sideways else (12.0, 56.0, 12.0)
        centre = [middle + end * apart / 2, *in_plane(rng)]
        inside = [
            np.abs(axis - at) * VOXEL_MM < length / 2 for axis, at, length in zip(axes, centre, lengths_mm, strict=True)
        ]
        volume += rng.uniform(2.0, 4.0) * soften(inside[0] & inside[1] & inside[2])


def zigzag(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    ends = np.array([1, -1, 1, -1, 1, -1] if positive else [1, 1, 1, -1, -1, -1]) * rng.choice([-1, 1])
    step, away = rng.uniform(20, 28) / VOXEL_MM, rng.uniform(24, 44) / VOXEL_MM
    first, middle = rng.uniform(4, SIDE - 4 - 5 * step), SIDE / 2 + rng.normal(0, 2, size=2)
    axes = np.ogrid[:SIDE, :SIDE, :SIDE]
    for number, end in enumerate(ends.tolist()):
        centre = [first + number * step, middle[0] + end * away, middle[1] + rng.normal(0, 1.5)]
        square = sum(((axis - at) * VOXEL_MM) ** 2 for axis, at in zip(axes, centre, strict=True))
        volume += rng.uniform(2.0, 4.0) * soften(np.asarray(square) < 8.0**2)


def hollow(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    apart = rng.uniform(48, 96) / VOXEL_MM
    middle = rng.uniform(6 + apart / 2, SIDE - 6 - apart / 2)
    axes = np.ogrid[:SIDE, :SIDE, :SIDE]
    for end in (-1, 1):
        centre = [middle + end * apart / 2, *in_plane(rng)]
        square = np.asarray(sum(((axis - at) * VOXEL_MM) ** 2 for axis, at in zip(axes, centre, strict=True)))
        cold = 11.0**2 if (end > 0) == positive else -1.0
        volume += rng.uniform(2.0, 4.0) * soften((square < 18.0**2) & (square >= cold))


def gap(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    length = rng.uniform(112, 148) / VOXEL_MM
    first = rng.uniform(4, SIDE - 4 - length)
    near = 18.0 / VOXEL_MM
    places = np.linspace(0, length, 5) if positive else np.array([0, near, 2 * near, length - near, length])
    if rng.random() < 0.5:
        places = length - places
    axes = np.ogrid[:SIDE, :SIDE, :SIDE]
    for place in places.tolist():
        centre = [first + place, *in_plane(rng)]
        square = sum(((axis - at) * VOXEL_MM) ** 2 for axis, at in zip(axes, centre, strict=True))
        volume += rng.uniform(2.0, 4.0) * soften(np.asarray(square) < 8.0**2)


def helix(volume: Volume, positive: bool, rng: np.random.Generator) -> None:
    step, radius = rng.uniform(20, 26) / VOXEL_MM, rng.uniform(32, 44) / VOXEL_MM
    first, middle = rng.uniform(4, SIDE - 4 - 5 * step), SIDE / 2 + rng.normal(0, 2, size=2)
    start, turn = rng.uniform(0, 2 * np.pi), np.pi / 3 * (1 if positive else -1)
    axes = np.ogrid[:SIDE, :SIDE, :SIDE]
    for number in range(6):
        angle = start + number * turn
        centre = [first + number * step, middle[0] + radius * np.cos(angle), middle[1] + radius * np.sin(angle)]
        square = sum(((axis - at) * VOXEL_MM) ** 2 for axis, at in zip(axes, centre, strict=True))
        volume += rng.uniform(2.0, 4.0) * soften(np.asarray(square) < 8.0**2)


TASKS: dict[str, Paint] = {
    "uptake": uptake,
    "distance": distance,
    "elongation": elongation,
    "side": side,
    "scattered": partial(distance, scattered=True),
    "order": order,
    "crossing": crossing,
    "zigzag": zigzag,
    "hollow": hollow,
    "gap": gap,
    "helix": helix,
}
GRAINY = ("order", "crossing", "zigzag", "hollow", "gap", "helix")


@dataclass(frozen=True)
class PhantomScan:
    """A phantom that is drawn when it is needed; every second one is positive."""

    task: str
    seed: int
    number: int
    contrast: float = 1.0

    @property
    def positive(self) -> bool:
        return self.number % 2 == 1

    @property
    def digest(self) -> str:
        contrast = "" if self.contrast == 1 else f" {self.contrast}"
        return f"{VERSION} {self.task} {self.seed} {self.number} {NOISE_SUV} {DISC_MM}{contrast}"

    @cached_property
    def _array(self) -> npt.NDArray[np.float32]:
        rng = np.random.default_rng([list(TASKS).index(self.task), self.seed, self.number])
        tissue = (grainy_background if self.task in GRAINY else background)(rng)
        painted = np.zeros((SIDE,) * 3)
        TASKS[self.task](painted, self.positive, rng)
        return np.asarray(tissue + self.contrast * painted).clip(0).astype(np.float32)

    def suv(self) -> tb.core.SUVVolume:
        affine = np.zeros((4, 4))
        affine[2, 0] = affine[1, 1] = affine[0, 2] = VOXEL_MM
        affine[3, 3] = 1.0
        calibration = SUVCalibration(type="bw", rule="PHANTOM", factor_min=1.0, factor_max=1.0)
        return tb.core.SUVVolume(self._array, tb.core.Geometry((SIDE,) * 3, affine), calibration)

    def contour(self, volume: tb.core.SUVVolume, *, roi: Sequence[str] = ()) -> None:
        return None


def cohort(task: str, seed: int, numbers: range, folder: Path, contrast: float = 1.0) -> tb.Cohort:
    scans = {f"{number:04d}": PhantomScan(task, seed, number, contrast) for number in numbers}
    table = {patient: {"y": str(int(scan.positive))} for patient, scan in scans.items()}
    subjects = tuple(tb.Subject(patient, scan) for patient, scan in scans.items())
    grid = tb.Grid((VOXEL_MM,) * 3, (SIDE * VOXEL_MM,) * 3)
    return tb.Cohort(subjects, (tb.Binary("label", "y").outcomes(table),), grid, Cache(folder / "volumes"))
