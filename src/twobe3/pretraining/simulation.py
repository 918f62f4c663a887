"""Simulated slices with everything about them known: of the project's phantoms, and of nobody's anatomy.

Half show a person; the other half lesions of any size on any background, so that what is learnt is no atlas. Lesions
and organs have edges, and get their softness from the scanner's point spread alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch.nn import functional

from twobe3.core.volume import Geometry
from twobe3.features.pet_lesions import FLOOR_SUV, ORGANS, STRIDE
from twobe3.features.slices import AXIS, cut
from twobe3.phantom import Scanner, draw_phantom_subject
from twobe3.phantom.anatomy import Body
from twobe3.phantom.scanner import FWHM_PER_SIGMA, acquire, lesion_mask, paint_uptake
from twobe3.phantom.shapes import VoxelGrid
from twobe3.pretraining.loop import Batch

SIDE = 64  # voxels of a slice to learn from
CENTRE_MM = 5.0  # standard deviation of the mark of a lesion's centre
DEEP_MM = 100.0  # unit of the depth
UNKNOWN = -1  # no organ
BODY_SUV = 0.1
FIELD_MM = 528.0

SPACING_MM = (2.0, 6.5)
FWHM_MM = (4.0, 9.0)
PHANTOM_NOISE = (0.05, 0.4)
FAINTEST = 0.15  # share of its uptake above the surroundings that a phantom's lesion keeps at least
LESION_RADIUS_MM = (3.0, 26.0)
EXCESS_SUV = (0.2, 10.0)
ORGAN_RADIUS_MM = (30.0, 90.0)

Image = npt.NDArray[np.float32]

ORGAN_OF: Final = {
    "lung": "lung",
    **dict.fromkeys(("skull", "spine", "sternum", "femur", "vertebra", "humeral head", "femoral head", "clavicle",
                     "scapula", "iliac wing", "ischium", "acetabulum", "sacrum"), "bone"),
    **dict.fromkeys(("grey matter", "white matter", "basal ganglia", "cerebellum", "brain stem"), "brain"),
    **dict.fromkeys(("heart", "left ventricle", "left cavity", "aortic arch", "vessel"), "heart and vessels"),
    **dict.fromkeys(("liver", "left lobe", "liver tip", "spleen"), "liver and spleen"),
    "kidney": "kidney",
    **dict.fromkeys(("bladder", "ureter", "calyx"), "urinary tract"),
    **dict.fromkeys(("bowel", "colon", "stomach", "stomach content"), "gut"),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class DenseSlices(Batch):
    """Slices, and what is to be seen in them.

    Attributes
    ----------
    suv : Tensor, shape (n, 1, 64, 64)
        As scanned.
    lesion, centre, excess, denoised, lesion_free, depth : Tensor, shape (n, 1, 32, 32)
        The targets of :data:`~twobe3.features.pet_lesions.OUTPUTS`: lesion and centre between 0 and 1.
    depth_known : Tensor of bool, shape (n,)
        Whether there is a surface.
    organ : Tensor of int64, shape (n, 32, 32)
        Index into :data:`~twobe3.features.pet_lesions.ORGANS`, or -1 where nobody knows.
    """

    suv: torch.Tensor
    lesion: torch.Tensor
    centre: torch.Tensor
    excess: torch.Tensor
    denoised: torch.Tensor
    lesion_free: torch.Tensor
    depth: torch.Tensor
    depth_known: torch.Tensor
    organ: torch.Tensor

    def __len__(self) -> int:
        return len(self.suv)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Those of all parts, one after another."""
        return cls(**{item.name: torch.cat([getattr(part, item.name) for part in parts]) for item in fields(cls)})

    def __getitem__(self, index: torch.Tensor) -> Self:
        return type(self)(**{item.name: getattr(self, item.name)[index] for item in fields(self)})

    def turn(self, turns: int, *, mirrored: bool) -> Self:
        """The same turned by so many right angles, and mirrored."""

        def turn_one(values: torch.Tensor) -> torch.Tensor:
            if values.ndim < 2:
                return values
            values = torch.rot90(values, turns, dims=(-2, -1))
            return values.flip(-1) if mirrored else values

        return type(self)(**{item.name: turn_one(getattr(self, item.name)) for item in fields(self)})


def simulate_phantom_slices(seed: Sequence[int], *, per_plane: int = 16) -> DenseSlices:
    """Slices of one phantom on a scanner drawn for it, ``per_plane`` of each plane, half of them with a lesion if any.

    Voxels are cubes of 2.6 to 6.5 mm; the patient's lesions keep between 0.15 and all of their uptake above the
    surroundings.
    """
    rng = np.random.default_rng(list(seed))
    subject = draw_phantom_subject(rng)
    spacing = float(rng.uniform(2.6, SPACING_MM[1]))
    scanner = Scanner(
        "any", float(rng.uniform(*FWHM_MM)), _log_uniform(rng, PHANTOM_NOISE), (spacing,) * 3, round(FIELD_MM / spacing)
    )
    geometry = scanner.geometry(1000.0)
    state = rng.bit_generator.state
    healthy = paint_uptake(subject.body, (), geometry, rng)
    rng.bit_generator.state = state  # the same texture
    diseased = paint_uptake(subject.body, subject.lesions, geometry, rng)
    diseased = healthy + np.float32(rng.uniform(FAINTEST, 1.0)) * (diseased - healthy)
    sigma = scanner.fwhm_mm / FWHM_PER_SIGMA / spacing
    clean_free, clean = (ndimage.gaussian_filter(one, sigma, truncate=3.0) for one in (healthy, diseased))
    scan = acquire(diseased, scanner, geometry, rng)
    lesion = lesion_mask(subject.lesions, geometry)
    organ = _paint_organs(subject.body, geometry)
    inside = np.stack([ndimage.binary_fill_holes(one) for one in clean_free > BODY_SUV])
    parts = []
    for plane in AXIS:
        planes = [cut(one.astype(np.float32), plane) for one in (scan, clean, clean_free, lesion, organ, inside)]
        parts += _choose_slices(planes, spacing, per_plane, rng)
    return DenseSlices.join(parts)


def _choose_slices(planes: Sequence[Image], spacing: float, number: int, rng: np.random.Generator) -> list[DenseSlices]:
    """Pieces of 64 × 64 voxels of slices of a plane: half about a lesion, half about any point of the body."""
    lesion, inside = planes[3], planes[5]
    found = []
    for at, middle in draw_places(lesion, inside, number, rng):
        scan, clean, free, ill_here, organ, _ = (crop(one[at], middle) for one in planes)
        depth = ndimage.distance_transform_edt(inside[at], sampling=spacing)
        found.append(
            make_targets(scan, clean, free, ill_here, crop(depth, middle), organ.astype(np.int64), spacing, known=True)
        )
    return found


def draw_places(
    lesion: npt.NDArray[Any], inside: npt.NDArray[Any], number: int, rng: np.random.Generator
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Slice and middle of so many pieces of the slices of a plane, each (n, height, width).

    Every other one lies about a lesion, if there is one; the others about any point of the body. Neither needs to be in
    the middle.
    """
    filled = np.flatnonzero(inside.any(axis=(1, 2)))
    ill = np.flatnonzero(lesion.any(axis=(1, 2)))
    for count in range(number):
        sick = len(ill) > 0 and count % 2 == 0
        at = int(rng.choice(ill if sick else filled))
        points = np.argwhere((lesion if sick else inside)[at] > 0)
        yield at, points[rng.integers(len(points))] + rng.integers(-SIDE // 3, SIDE // 3 + 1, size=2)


def crop(image: Image, middle: npt.NDArray[np.int64]) -> Image:
    """64 × 64 voxels about a point; beyond the image they are 0."""
    row, column = (int(at) + SIDE // 2 for at in np.clip(middle, 0, np.subtract(image.shape, 1)))
    return np.pad(image, SIDE)[row : row + SIDE, column : column + SIDE]


def _paint_organs(body: Body, geometry: Geometry) -> npt.NDArray[np.int16]:
    """Index of the organ of each voxel."""
    grid = VoxelGrid.from_geometry(geometry)
    image = np.zeros(geometry.shape, dtype=np.int16)
    for organ in body.organs:
        box = grid.index_box(*organ.solid.bounds_mm(), 0.0)
        number = ORGANS.index(ORGAN_OF.get(organ.name, "soft tissue"))
        image[box][organ.solid.distance_mm(*grid.coordinates(box)) < 0] = number
    return image


def simulate_generic_slices(seed: Sequence[int], number: int) -> DenseSlices:
    """Slices of nothing in particular: levels, gradients, large organs, and lesions that stand out or hardly do.

    Lesions and organs are superellipses with wobbly outlines, a fifth of the lesions with a core that is cold;
    backgrounds and noise are random fields of random spectra. Half of the slices have a body with air around it.
    """
    rng = np.random.default_rng(list(seed))
    return DenseSlices.join([_draw_generic(rng) for _ in range(number)])


def _draw_generic(rng: np.random.Generator) -> DenseSlices:
    spacing = float(rng.uniform(*SPACING_MM))
    level = float(np.exp(rng.normal(0.0, 0.6)))
    tissue = level * np.exp(rng.uniform(0.0, 0.4) * _random_field(rng, rng.uniform(1.5, 4.0)))
    for _ in range(rng.poisson(1.0)):
        tissue *= 1.0 + (np.exp(rng.normal(0.3, 0.6)) - 1.0) * _draw_shape(rng, ORGAN_RADIUS_MM, spacing)
    known = bool(rng.random() < 0.5)
    outline = (
        _draw_shape(rng, (0.3 * SIDE * spacing, 0.7 * SIDE * spacing), spacing) if known else np.ones((SIDE, SIDE))
    )
    free = tissue * outline + rng.uniform(0.0, 0.05) * (1.0 - outline)
    mask, excess = np.zeros((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE))
    for _ in range(rng.poisson(1.6)):
        shape = _draw_shape(rng, LESION_RADIUS_MM, spacing) * outline
        height = _log_uniform(rng, EXCESS_SUV)
        profile = shape.copy()
        if rng.random() < 0.2:
            profile *= 1.0 - rng.uniform(0.3, 1.0) * ndimage.binary_erosion(shape > 0.5, iterations=2)
        excess = np.maximum(excess, height * profile)
        mask = np.maximum(mask, shape.astype(np.float32))
    sigma = rng.uniform(*FWHM_MM) / FWHM_PER_SIGMA / spacing
    clean_free, clean = (ndimage.gaussian_filter(one, sigma, truncate=3.0) for one in (free, free + excess))
    grain = _random_field(rng, rng.uniform(0.0, 1.5), finest=rng.uniform(0.4, 1.4))
    noise = _log_uniform(rng, (0.03, 0.35)) * grain * (np.sqrt(clean * level) if rng.random() < 0.7 else level)
    scan = np.maximum(clean + noise, 0.0)
    depth = ndimage.distance_transform_edt(outline > 0.5, sampling=spacing) if known else np.zeros((SIDE, SIDE))
    organ = np.full((SIDE, SIDE), UNKNOWN, dtype=np.int64)
    scan, clean, clean_free, depth = (one.astype(np.float32) for one in (scan, clean, clean_free, depth))
    return make_targets(scan, clean, clean_free, mask, depth, organ, spacing, known=known)


def _draw_shape(rng: np.random.Generator, radius_mm: tuple[float, float], spacing: float) -> npt.NDArray[np.float64]:
    """A superellipse with a wobbly outline, 1 inside, 0 outside, each voxel by the share of it that is inside."""
    fine = 3
    axis = (np.arange(SIDE * fine) + 0.5) / fine
    centre = rng.uniform(-2, SIDE + 2, size=2)
    y, x = axis[:, None] - centre[0], axis[None, :] - centre[1]
    turn = rng.uniform(0, np.pi)
    u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    radius, stretch = _log_uniform(rng, radius_mm) / spacing, np.exp(rng.normal(0.0, 0.25))
    exponent = rng.uniform(1.4, 4.0)
    angle, wobble = np.arctan2(v, u), np.ones_like(u)
    for wave in range(2, 6):
        wobble += rng.normal(0.0, 0.12 / wave) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    reach = (np.abs(u / (radius * stretch)) ** exponent + np.abs(v / (radius / stretch)) ** exponent) ** (1 / exponent)
    inside = reach < np.maximum(wobble, 0.3)
    return np.asarray(inside.reshape(SIDE, fine, SIDE, fine).mean(axis=(1, 3)))


def _random_field(rng: np.random.Generator, slope: float, finest: float = 0.0) -> npt.NDArray[np.float64]:
    """A Gaussian random field of standard deviation 1 whose amplitude falls with a power of the frequency.

    ``finest``: standard deviation in voxels of a Gaussian that smooths it.
    """
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :])
    amplitude = np.where(frequency > 0, np.maximum(frequency, 1 / SIDE) ** (-slope / 2), 0.0)
    amplitude *= np.exp(-2 * (np.pi * finest * frequency) ** 2)
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(SIDE, SIDE))) * amplitude, s=(SIDE, SIDE))
    return np.asarray(field / field.std())


def make_targets(
    scan: Image,
    clean: Image,
    free: Image,
    mask: Image,
    depth: Image,
    organ: npt.NDArray[np.int64],
    spacing: float | tuple[float, float],
    *,
    known: bool,
) -> DenseSlices:
    """One slice with its targets at the stride of the network's outputs.

    Parameters
    ----------
    scan, clean, free : ndarray, shape (height, width)
        SUV as scanned, without noise, and without noise and lesions.
    mask : ndarray, shape (height, width)
        Share of each voxel that lies in a lesion; what adds no SUV of 0.05 is none.
    depth : ndarray, shape (height, width)
        Way to the surface of the body, mm.
    organ : ndarray of int64, shape (height, width)
        See :class:`DenseSlices`.
    spacing : float or tuple of float
        Of the voxels, or of rows and columns, mm.
    known : bool
        Whether there is a surface.
    """
    excess = np.maximum(clean - free, 0.0)
    seen = mask * (excess > 0.05)
    marks = np.zeros_like(scan)
    labels, n = ndimage.label(seen > 0.5)
    rows, columns = np.ogrid[: scan.shape[0], : scan.shape[1]]
    along, across = np.broadcast_to(spacing, 2)
    for row, column in ndimage.center_of_mass(seen, labels, range(1, n + 1)) if n else []:
        square = ((rows - row) * along) ** 2 + ((columns - column) * across) ** 2
        marks = np.maximum(marks, np.exp(-square / (2 * CENTRE_MM**2)))

    def halve(image: Image, largest: bool = False) -> torch.Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None]
        return functional.max_pool2d(tensor, STRIDE) if largest else functional.avg_pool2d(tensor, STRIDE)

    return DenseSlices(
        suv=torch.from_numpy(np.ascontiguousarray(scan, dtype=np.float32))[None, None],
        lesion=halve(seen),
        centre=halve(marks, largest=True),
        excess=torch.log1p(2 * halve(excess)),
        denoised=torch.log(halve(clean) + FLOOR_SUV),
        lesion_free=torch.log(halve(free) + FLOOR_SUV),
        depth=halve(depth).clamp(max=DEEP_MM * 3) / DEEP_MM,
        depth_known=torch.tensor([known]),
        organ=torch.from_numpy(np.ascontiguousarray(organ[::STRIDE, ::STRIDE]))[None],
    )


def _log_uniform(rng: np.random.Generator, between: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(between))))
