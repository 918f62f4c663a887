"""Leave the face out of pictures: nobody is to be known by a picture of a scan.

People were recognised by faces reconstructed from PET alone (Schwarz et al., Face recognition from research brain PET,
NeuroImage 2022). So the outer layer of the head is left out, above the narrowest part of the neck: skin, nose, eyes and
lips go, the inner brain, pharynx and neck stay. Where the head is, the outline of the body says:

- Above the trunk, 60 mm or more have less than half of its cross-section: that is neck and head.
- A part no larger than a head, below it a waist, and below that a larger part again, each 1.4 times the waist: that is
  head and neck where the view ends above the trunk. Knees and elbows are not so narrow.
- Nothing in view is larger than a head, and its depth, or that of its upper 40 mm, takes up as much as a brain: all of
  it is head.
- Anything else holds no head, and nothing is left out. A view from below the eyes to the neck, or a head alone with a
  tracer that the brain does not take up, is therefore shown as it is: look at the pictures before you share them.

Cross-sections are measured close to the middle of the body, so that raised arms don't count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

DEPTH_MM = 35.0  # from the outline, which lies some mm outside the skin; a nose and an eye are about 25 mm deep
COARSE_MM = 8.0  # the outline needs no finer voxels
OUTLINE_SUV = 0.1
MIDDLE_MM = 90.0  # to either side: heads are narrower, trunks broader, raised arms lie mostly outside
LEAST_NECK_MM, MOST_NECK_MM = 60.0, 120.0
WAIST = 1.4
HEAD_MM2 = 32_000.0  # no cross-section of a head is larger
BRAIN_SUV, UPPER_MM = 2.0, 40.0

BoolArray = npt.NDArray[np.bool_]


def hide_face(
    suv: npt.NDArray[np.float32], spacing_mm: tuple[float, float, float], *, keep: BoolArray | None = None
) -> npt.NDArray[np.float32]:
    """The scan with SUV 0 in the outer layer of the head.

    Parameters
    ----------
    suv : ndarray of float32, shape (slices, rows, columns)
        Slices increase towards the head, rows towards the back, columns towards the patient's left.
    spacing_mm : tuple of three float
        Along slices, rows and columns.
    keep : ndarray of bool, optional
        Of the same shape: what stays wherever it lies, such as the contour of a tumour.
    """
    face = find_face(suv, spacing_mm)
    return np.where(face if keep is None else face & ~keep, np.float32(0), suv)


def find_face(suv: npt.NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> BoolArray:
    """The outer layer of the head with the air around it, as the module says; all false where no head is in view.

    Parameters
    ----------
    suv : ndarray of float32, shape (slices, rows, columns)
        As for :func:`hide_face`.
    spacing_mm : tuple of three float

    Returns
    -------
    ndarray of bool, of the same shape
    """
    blocks = tuple(max(1, round(COARSE_MM / length)) for length in spacing_mm)
    coarse_mm = np.array(spacing_mm) * blocks
    coarse = _mean_of_blocks(suv, blocks)
    body = _fill(coarse > OUTLINE_SUV)
    deep = _depth_mm(body, coarse_mm) > DEPTH_MM
    lowest = _lowest_slice_of_head(body, deep, coarse, coarse_mm)
    face = ~deep
    face[:lowest] = False
    for axis, block in enumerate(blocks):
        face = face.repeat(block, axis=axis)
    return face[tuple(slice(length) for length in suv.shape)]


def _lowest_slice_of_head(
    body: BoolArray, deep: BoolArray, suv: npt.NDArray[np.float32], spacing_mm: npt.NDArray[np.float64]
) -> int:
    """The slice where the head begins; the number of slices where no head is in view."""
    n = len(body)
    if not body.any():
        return n
    column_mm = np.arange(body.shape[2]) * spacing_mm[2]
    middle_mm = np.average(column_mm, weights=body.sum(axis=(0, 1)))
    section_mm2 = body[..., np.abs(column_mm - middle_mm) <= MIDDLE_MM].sum(axis=(1, 2)) * spacing_mm[1:].prod()
    trunk, top = int(section_mm2.argmax()), int(np.flatnonzero(section_mm2).max()) + 1
    narrow = np.flatnonzero(section_mm2[trunk:top] < section_mm2[trunk] / 2)
    base = trunk + int(narrow[0]) if len(narrow) else top
    if (top - base) * spacing_mm[0] >= LEAST_NECK_MM:
        neck = section_mm2[base : min(top, base + round(MOST_NECK_MM / spacing_mm[0]))]
        return base + int(neck.argmin())
    below, above = np.maximum.accumulate(section_mm2), np.maximum.accumulate(section_mm2[::-1])[::-1]
    waist = (section_mm2 > 0) & (above <= HEAD_MM2) & (WAIST * section_mm2 <= np.minimum(below, above))
    if waist.any():
        return int(np.where(waist, section_mm2, np.inf).argmin())
    upper = max(0, top - round(UPPER_MM / spacing_mm[0]))
    takes_up = [np.median(suv[part][deep[part]]) for part in (slice(0, n), slice(upper, n)) if deep[part].any()]
    if section_mm2[trunk] <= HEAD_MM2 and max(takes_up, default=0.0) >= BRAIN_SUV:
        return 0
    return n


def _mean_of_blocks(suv: npt.NDArray[np.float32], blocks: tuple[int, ...]) -> npt.NDArray[np.float32]:
    padded = np.pad(suv, [(0, -length % block) for length, block in zip(suv.shape, blocks, strict=True)])
    split = padded.reshape(
        [n for length, block in zip(padded.shape, blocks, strict=True) for n in (length // block, block)]
    )
    means: npt.NDArray[np.float32] = split.mean(axis=(1, 3, 5))
    return means


def _fill(mask: BoolArray) -> BoolArray:
    """The largest part of a mask, without holes in any slice."""
    parts, count = ndimage.label(mask)
    if count == 0:
        return mask
    largest = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    return np.stack([ndimage.binary_fill_holes(one) for one in largest])


def _depth_mm(body: BoolArray, spacing_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far inside the body a voxel lies; the edge of the view counts as skin in the plane, not along the body."""
    padded = np.pad(np.pad(body, ((0, 0), (1, 1), (1, 1))), ((1, 1), (0, 0), (0, 0)), mode="edge")
    depth: npt.NDArray[np.float64] = ndimage.distance_transform_edt(padded, sampling=tuple(spacing_mm))
    return depth[1:-1, 1:-1, 1:-1]
