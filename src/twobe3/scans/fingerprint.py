"""What a scan is known by: a digest of its voxels, and its hottest points with the uptake around them.

A landmark stays what it is when the scan is encoded anew, scaled, shifted or cropped elsewhere, so two scans of one
content share landmarks at one offset, and two patients do not. Some thirty kilobytes a scan are enough to look for the
same scan among thousands; of two that share landmarks, :func:`similarity` compares the voxels.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import scipy

from twobe3.io.cache import Arrays, Cache
from twobe3.io.files import digest

MOST = 64
SMOOTHING_MM, APART_MM = 6.0, 24.0
STEP_MM, RADIUS_MM = 12.0, 36.0
# No two of the 51 patients of the sarcoma cohort have landmarks that correlate this well; of 48 phantoms of one anatomy
# two have at most 2 at one offset; a scan and itself without three slices at each end have at least 7.
ALIKE = 0.98
FEWEST = 3
SAME_PLACE_MM = 6.0
# Of scans that share landmarks, those of one picture correlate this well where they overlap.
SAME_PICTURE = 0.96
# On a coarser grid, or with fewer voxels, too little is left of the surroundings of a landmark to tell patients apart.
COARSEST_MM, FEWEST_VOXELS = 8.0, 10_000

_ROWS, _COLUMNS = 2048, 8192
_STEPS = np.arange(-RADIUS_MM, RADIUS_MM + 1.0, STEP_MM)
_BALL_MM = np.array([place for place in product(_STEPS, repeat=3) if np.linalg.norm(place) <= RADIUS_MM])
COARSE = 32  # numbers of a coarse landmark
# From a hash, so that it is the same whatever the version of a generator of random numbers.
_BITS = np.frombuffer(hashlib.shake_256(b"landmarks").digest(len(_BALL_MM) * COARSE // 8), np.uint8)
_SIGNS = 2.0 * np.unpackbits(_BITS).reshape(len(_BALL_MM), COARSE).astype(np.float32) - 1.0


@dataclass(frozen=True, eq=False)
class Picture:
    """SUV in any scale, shape (slices, rows, columns), and the spacing of the voxels."""

    suv: npt.NDArray[np.float32]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Landmarks:
    """The landmarks of one scan.

    Attributes
    ----------
    places_mm : ndarray of shape (n, 3)
        Where they are, from the first voxel of the volume.
    patches : ndarray of shape (n, 123)
        The uptake around each on a ball of 36 mm, centred, of length 1.
    """

    places_mm: npt.NDArray[np.float32]
    patches: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What a scan is known by: a digest of its voxels, and its landmarks; none on a grid too coarse for them."""

    content: str
    landmarks: Landmarks


@dataclass(frozen=True)
class Agreement:
    """Two scans, by their numbers, that share landmarks.

    Attributes
    ----------
    shared : int
        Landmarks that are alike at one offset.
    offset_mm : tuple of float
        What a place in the second is to be moved by to lie on that in the first.
    """

    first: int
    second: int
    shared: int
    offset_mm: tuple[float, float, float]


def cache_fingerprint(cache: Cache, key: str, picture: Callable[[], Picture]) -> Fingerprint:
    """The fingerprint of a picture whose key says all about it, computed once."""

    def compute() -> Arrays:
        made = picture()
        comparable = made.suv.size >= FEWEST_VOXELS and max(made.spacing_mm) <= COARSEST_MM
        landmarks = find_landmarks(made.suv, made.spacing_mm) if comparable else no_landmarks()
        content = np.frombuffer(bytes.fromhex(digest([made.suv.tobytes()])), np.uint8)
        return {"content": content, "places_mm": landmarks.places_mm, "patches": landmarks.patches}

    stored = cache.get_or_compute(digest(["fingerprint", key]), compute)
    return Fingerprint(stored["content"].tobytes().hex(), Landmarks(stored["places_mm"], stored["patches"]))


def find_landmarks(volume: npt.NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> Landmarks:
    """The hottest points of a volume, 24 mm apart at least, and what surrounds them.

    ``volume`` holds SUV in any scale, shape (slices, rows, columns), ``spacing_mm`` apart.
    """
    spacing = np.array(spacing_mm)
    smooth = scipy.ndimage.gaussian_filter(compress_suv(volume), SMOOTHING_MM / spacing)
    reach = np.maximum(np.round(APART_MM / spacing).astype(int) | 1, 3) // 2
    peaks = _find_peaks(smooth, reach)
    voxels = peaks[np.argsort(-smooth[tuple(peaks.T)], kind="stable")][:MOST]
    around = voxels[:, None, :] + _BALL_MM / spacing
    # Beyond the border goes on what is there: a step to 0 would be alike in all images.
    patches = scipy.ndimage.map_coordinates(smooth, around.reshape(-1, 3).T, order=1, mode="nearest")
    patches = patches.reshape(-1, len(_BALL_MM))
    patches -= patches.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(patches, axis=1, keepdims=True)
    uneven = lengths[:, 0] > 0
    places = np.asarray(voxels[uneven] * spacing, dtype=np.float32)
    return Landmarks(places, np.asarray(patches[uneven] / lengths[uneven], dtype=np.float32))


def _find_peaks(values: npt.NDArray[np.float32], reach: npt.NDArray[np.int_]) -> npt.NDArray[np.int64]:
    """Voxels above 0 that no other within so many voxels along each axis exceeds, shape (n, 3), in their order.

    What is behind a neighbour is looked at no further: a filter of the maximum would look at every voxel's box.
    """
    highest = values > 0
    for axis in range(values.ndim):
        line, found = np.moveaxis(values, axis, 0), np.moveaxis(highest, axis, 0)
        found[:-1] &= line[:-1] >= line[1:]
        found[1:] &= line[1:] >= line[:-1]
    peaks = np.argwhere(highest)
    starts, ends = np.maximum(peaks - reach, 0), peaks + reach + 1
    boxes = (tuple(slice(*ends_of) for ends_of in zip(*box, strict=True)) for box in zip(starts, ends, strict=True))
    alone = [values[box].max() == values[tuple(peak)] for peak, box in zip(peaks, boxes, strict=True)]
    return np.asarray(peaks[np.array(alone, dtype=bool)])


def no_landmarks() -> Landmarks:
    """Those of a scan that has none."""
    return Landmarks(np.zeros((0, 3), np.float32), np.zeros((0, len(_BALL_MM)), np.float32))


def coarsen_patches(patches: npt.NDArray[np.float32]) -> npt.NDArray[np.int8]:
    """32 bytes in place of the surroundings of each landmark, which tell a scan again and hardly show it.

    ``patches``, shape (n, 123), are multiplied with a fixed matrix of random signs, which keeps the squared distance of
    two of them to about a third (Achlioptas, J Comput Syst Sci 2003;66:671), and from which they can be guessed,
    blurred, and not computed back. :func:`expand_patches` makes patches of the bytes that are compared like others,
    with other coarse ones. No two of the 51 patients of the sarcoma cohort, nor of 16 phantoms of one anatomy, share
    more than one coarse landmark at one offset; a scan and itself without three slices at each end have at least 7, and
    6 after a shift by half a voxel (``benchmarks/unusual_scans.py``).
    """
    projected = patches @ _SIGNS
    lengths = np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
    return np.asarray(np.rint(127.0 * projected / lengths), dtype=np.int8)


def expand_patches(coarse: npt.NDArray[np.int8]) -> npt.NDArray[np.float32]:
    """The bytes of coarse patches as vectors of length 1, shape (n, 32)."""
    values = coarse.astype(np.float32)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def match_landmarks(scans: Sequence[Landmarks]) -> list[Agreement]:
    """Pairs of scans that share at least three landmarks at one offset, in their order.

    All landmarks are compared with all, in tiles of 64 MB whatever the number of scans.
    """
    counts: Counter[tuple[int, int]] = Counter()
    for portion in _match_pairs(scans):
        counts.update((first, second) for first, second in portion.tolist())
    found = (compare_landmarks(scans, *pair) for pair in sorted(counts) if counts[pair] >= FEWEST)
    return [one for one in found if one.shared >= FEWEST]


def compare_landmarks(scans: Sequence[Landmarks], first: int, second: int) -> Agreement:
    """How many landmarks two scans share, at the offset at which they share most."""
    one, other = scans[first], scans[second]
    i, j = np.nonzero(one.patches @ other.patches.T > ALIKE)
    offsets = one.places_mm[i] - other.places_mm[j]
    if not len(offsets):
        return Agreement(first, second, 0, (0.0, 0.0, 0.0))
    near = np.linalg.norm(offsets[:, None] - offsets[None], axis=2) <= SAME_PLACE_MM
    best = near[near.sum(axis=1).argmax()]
    slices, rows, columns = (float(step) for step in offsets[best].mean(axis=0))
    # Of several landmarks of one scan that fit one of the other, one counts.
    return Agreement(first, second, min(len(set(i[best])), len(set(j[best]))), (slices, rows, columns))


def _match_pairs(scans: Sequence[Landmarks]) -> Iterator[npt.NDArray[np.int64]]:
    """Numbers of the two scans for every two landmarks that are alike, the smaller first; in portions."""
    owner = np.repeat(np.arange(len(scans)), [len(scan.patches) for scan in scans])
    patches = np.concatenate([no_landmarks().patches, *(scan.patches for scan in scans)])
    for top in range(0, len(patches), _ROWS):
        for left in range(top - top % _COLUMNS, len(patches), _COLUMNS):
            alike = patches[top : top + _ROWS] @ patches[left : left + _COLUMNS].T > ALIKE
            i, j = np.nonzero(alike)
            pairs = np.stack([owner[top + i], owner[left + j]], axis=1)
            yield pairs[pairs[:, 0] < pairs[:, 1]]


def similarity(one: Picture, other: Picture, offset_mm: tuple[float, float, float]) -> float:
    """Correlation of two volumes, the second moved by an offset onto the first, over the voxels that both show.

    Of the square root of the SUV, smoothed by a voxel; a voxel's width from the border of either is left out. 0 where
    they hardly overlap.
    """
    ratio = np.divide(one.spacing_mm, other.spacing_mm)
    start = -np.divide(offset_mm, other.spacing_mm)
    shape = one.suv.shape
    raw = [compress_suv(picture.suv) for picture in (one, other)]
    shown = [(scipy.ndimage.minimum_filter(values, 3, mode="constant") > 0).astype(np.float32) for values in raw]
    smooth = [scipy.ndimage.gaussian_filter(values, 1.0) for values in raw]
    moved, moved_shown = (
        scipy.ndimage.affine_transform(values, ratio, start, output_shape=shape, order=1)
        for values in (smooth[1], shown[1])
    )
    both = (shown[0] > 0) & (moved_shown > 0.5)
    a, b = smooth[0][both], moved[both]
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and a.std() > 0 and b.std() > 0 else 0.0


def compress_suv(suv: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The square root of the SUV, which keeps one hot spot from deciding."""
    return np.asarray(np.sqrt(np.maximum(suv, 0.0)), dtype=np.float32)
