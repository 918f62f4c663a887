"""Whether a CT lies where its PET lies: how much it covers, how the bodies overlap, and how far they are off."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.grid import MIN_GRID_VOXELS, Grid, place_grid, resample_array
from twobe3.core.volume import AIR_HU, CTVolume, Geometry, SUVVolume

STEP_MM = 8.0
BODY_SUV, BODY_HU = 0.15, -300.0
FARTHEST_MM = 80.0
LEAST_COVERAGE, LEAST_DICE = 0.5, 0.6
NOTABLE_COVERAGE, NOTABLE_DICE = 0.98, 0.8
MOVED_DICE, MOVED_MM = 0.9, 20.0  # a body that fits well does not lie elsewhere
_PENALTY_PER_MM = 2e-4  # of agreement: along a limb, where every place fits, the nearest one counts

_LEAST_GAIN = 0.02  # of agreement, below which the bodies do not tell a shift

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Registration:
    """How a CT lies to its PET.

    Attributes
    ----------
    coverage : float
        Share of the PET's length along the body in which there is CT.
    dice : float
        Of the bodies in PET and CT, within the field of both: twice the overlap over the sum.
    shift_mm : tuple of float
        How far the CT's body would have to be moved, along the body, to the back and to the left, to fit best.
    """

    coverage: float
    dice: float
    shift_mm: tuple[float, float, float]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What somebody should look at, each one line that begins with its code."""
        found = []
        if self.coverage < NOTABLE_COVERAGE:
            text = f"the CT covers {self.coverage:.0%} of the PET along the body; the rest is taken as air"
            found.append(f"{Code.CT_OUTSIDE.name}: {text}")
        far_mm = float(np.linalg.norm(self.shift_mm))
        if self.dice < NOTABLE_DICE or (self.dice < MOVED_DICE and far_mm > MOVED_MM):
            text = f"the bodies overlap by a Dice of {self.dice:.2f}, best after a shift of {far_mm:.0f} mm"
            found.append(f"{Code.CT_MISALIGNED.name}: {text}")
        return tuple(found)

    def require_fit(self) -> None:
        """Refuse a CT that is not of this PET: ``CT_OUTSIDE``, ``CT_MISALIGNED``."""
        if self.coverage < LEAST_COVERAGE:
            reason = f"the CT covers {self.coverage:.0%} of the PET along the body"
            raise UnusableScanError(Code.CT_OUTSIDE, reason)
        if self.dice < LEAST_DICE:
            reason = f"the bodies in PET and CT overlap by a Dice of {self.dice:.2f}, less than {LEAST_DICE}"
            raise UnusableScanError(Code.CT_MISALIGNED, reason)

    def to_json(self) -> dict[str, Any]:
        """As JSON types, rounded."""
        facts = asdict(self)
        shift = [round(mm, 1) for mm in self.shift_mm]
        return {**facts, "coverage": round(self.coverage, 3), "dice": round(self.dice, 3), "shift_mm": shift}


def register(pet: SUVVolume, ct: CTVolume) -> Registration:
    """Compare the bodies of PET and CT on voxels of 8 mm.

    The body is what is above SUV 0.15 and above -300 HU, the largest piece of it, holes filled slice by slice, so that
    lungs are in it; what is thinner than two voxels, as the couch, is opened away. Only the field of both counts, so
    that a CT of half the body fits as well as one of all. The shift is that after which most voxels of the common
    field agree, at most 80 mm along each axis, between voxels by a parabola; 0 where that gains less than 2 %.
    """
    lengths_mm = pet.geometry.along_patient(pet.geometry.extent_mm)
    grid = Grid(STEP_MM, tuple(max(length, MIN_GRID_VOXELS * STEP_MM) for length in lengths_mm))
    target = place_grid(pet.geometry, grid)
    rows = [_field(one.geometry, target, 0.0).any(axis=(1, 2)) for one in (pet, ct)]
    coverage = float((rows[0] & rows[1]).sum() / max(rows[0].sum(), 1))
    in_pet, in_ct = (_field(one.geometry, target, STEP_MM / 2) for one in (pet, ct))
    suv = resample_array(pet.array, pet.geometry, target)
    hu = resample_array(ct.array, ct.geometry, target, outside=AIR_HU)
    body_pet, body_ct = find_body(suv > BODY_SUV), find_body(hu > BODY_HU)
    both = in_pet & in_ct
    sizes = int((body_pet & both).sum() + (body_ct & both).sum())
    dice = 2.0 * float((body_pet & body_ct & both).sum()) / sizes if sizes else 0.0
    return Registration(coverage, dice, _find_shift_mm(body_pet, body_ct, in_pet, in_ct))


def _field(geometry: Geometry, target: Geometry, margin_mm: float) -> Mask:
    """Which voxels of the target lie in an image, so far from its border that no air is averaged in."""
    index = geometry.to_index(target.to_mm(np.moveaxis(np.indices(target.shape), 0, -1)))
    low = margin_mm / np.array(geometry.spacing_mm) - 0.5
    return np.asarray(((index > low) & (index < np.array(geometry.shape) - 1 - low)).all(axis=-1))


def find_body(above: Mask) -> Mask:
    """The largest piece of what is above a threshold, opened by a voxel, holes filled slice by slice along axis 0."""
    opened = scipy.ndimage.binary_opening(above)
    pieces, n = scipy.ndimage.label(opened if opened.any() else above)
    if not n:
        return above
    body = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    filled: Mask = np.stack([scipy.ndimage.binary_fill_holes(slice_) for slice_ in body])
    return filled


def _find_shift_mm(body_pet: Mask, body_ct: Mask, in_pet: Mask, in_ct: Mask) -> tuple[float, float, float]:
    """By the share of voxels that agree after each shift, a cross-correlation (Padfield, IEEE TIP 2012;21:2706)."""
    reach = [min(int(FARTHEST_MM / STEP_MM), n - 1) for n in body_pet.shape]
    shape = [scipy.fft.next_fast_len(n + r, real=True) for n, r in zip(body_pet.shape, reach, strict=True)]
    signed = [np.where(body, 1.0, -1.0) * field for body, field in ((body_pet, in_pet), (body_ct, in_ct))]

    def correlate(pet: npt.NDArray[np.float64], ct: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        product = scipy.fft.rfftn(pet, shape) * np.conj(scipy.fft.rfftn(ct, shape))
        whole = scipy.fft.irfftn(product, shape)
        return np.asarray(whole[np.ix_(*(np.arange(-r, r + 1) % n for r, n in zip(reach, shape, strict=True)))])

    common = correlate(in_pet.astype(float), in_ct.astype(float))
    agreement = correlate(*signed) / np.maximum(common, 1.0)
    agreement[common < 0.5 * common.max()] = -1.0
    steps = np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij")
    agreement -= _PENALTY_PER_MM * STEP_MM * np.sqrt(sum(step.astype(float) ** 2 for step in steps))
    best = np.unravel_index(int(agreement.argmax()), agreement.shape)
    if agreement[best] - agreement[tuple(reach)] < _LEAST_GAIN:
        return 0.0, 0.0, 0.0
    found = []
    for axis, r in enumerate(reach):
        around = (
            [agreement[tuple(b + d * (a == axis) for a, b in enumerate(best))] for d in (-1, 0, 1)]
            if (0 < best[axis] < 2 * r)
            else [0.0, 1.0, 0.0]
        )
        curve = around[0] - 2 * around[1] + around[2]
        between = 0.5 * (around[0] - around[2]) / curve if curve else 0.0
        found.append(float(best[axis] - r + between) * STEP_MM)
    a, b, c = found
    return a, b, c
