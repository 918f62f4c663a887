"""Scans that show one patient under several names: the same content, or nearly the same picture."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from twobe3.artefact import digest
from twobe3.cohort import Cohort, Study
from twobe3.errors import Code, Exclusion, Refusal
from twobe3.landmarks import LANDMARKS_VERSION, Landmarks, compressed, find_landmarks, no_landmarks, shared_landmarks
from twobe3.store import Arrays, ArrayStore

# Bump when the fingerprint of the same volume changes: it is part of its key.
FINGERPRINT_VERSION = f"2.{LANDMARKS_VERSION}"
# Of scans that share landmarks, those of one picture correlate this well where they overlap.
SAME_PICTURE = 0.96
# On a coarser grid, or with fewer voxels, too little is left of the surroundings of a landmark to tell patients apart.
COARSEST_MM, FEWEST_VOXELS = 8.0, 10_000


@dataclass(frozen=True, eq=False)
class Picture:
    """Voxels on a grid.

    Attributes
    ----------
    suv : ndarray of shape (slices, rows, columns)
        In any scale.
    spacing_mm : tuple of float
        Of the voxels.
    """

    suv: npt.NDArray[np.float32]
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What a scan is known by.

    Attributes
    ----------
    content : str
        Digest of its voxels.
    landmarks : Landmarks
        None on a grid on which pictures can't be told apart.
    """

    content: str
    landmarks: Landmarks


@dataclass(frozen=True)
class Duplicate:
    """Two scans under different patient ids that show one patient.

    Attributes
    ----------
    first, second : int
        Positions in the cohort.
    similarity : float
        1 for the same content; else the correlation of the two volumes where they overlap.
    """

    first: int
    second: int
    similarity: float


def find_duplicates(*cohorts: Cohort) -> tuple[Duplicate, ...]:
    """Pairs of scans of different patient ids with the same content, or with nearly the same picture.

    Volumes are compared on the cohort's grid. Scans that share landmarks, see :mod:`twobe3.landmarks`, are laid over
    each other there and count as duplicates when their voxels correlate. So a scan is found again after another
    encoding, a crop, a shift or a scaling, among any number of others. On a grid coarser than 8 mm, or of fewer than
    10,000 voxels, only the same content counts.

    Parameters
    ----------
    *cohorts : Cohort
        On one grid. Positions run through all of them, and an id means the same patient within a cohort only.

    Raises
    ------
    Refusal
        A scan cannot become SUV.
    """
    owner = [cohort for cohort in cohorts for _ in cohort.studies]
    studies = [study for cohort in cohorts for study in cohort.studies]
    prints = [_fingerprint(cohort, study) for cohort, study in zip(owner, studies, strict=True)]

    def same_person(first: int, second: int) -> bool:
        return owner[first] is owner[second] and studies[first].person == studies[second].person

    def picture(number: int) -> Picture:
        return Picture(owner[number].volume(studies[number]), owner[number].spec.spacing_mm)

    return same_pictures(prints, picture, skip=same_person)


def same_pictures(
    prints: Sequence[Fingerprint],
    picture: Callable[[int], Picture],
    *,
    skip: Callable[[int, int], bool] = lambda first, second: False,
) -> tuple[Duplicate, ...]:
    """Pairs of scans of the same content or of nearly the same picture.

    Parameters
    ----------
    prints : sequence of Fingerprint
        Of all scans.
    picture : callable
        Gives the scan of a number; called for the scans of candidate pairs only.
    skip : callable
        Says of two numbers, the smaller first, whether that pair is of no interest.
    """
    found = {pair: 1.0 for pair in _same_content(prints) if not skip(*pair)}
    for one in shared_landmarks([print_.landmarks for print_ in prints]):
        pair = (one.first, one.second)
        if pair in found or skip(*pair):
            continue
        alike = similarity(picture(one.first), picture(one.second), one.offset_mm)
        if alike > SAME_PICTURE:
            found[pair] = alike
    return tuple(Duplicate(*pair, alike) for pair, alike in sorted(found.items()))


def comparable(picture: Picture) -> bool:
    """Whether pictures can be told apart on a grid as coarse as this one's."""
    return picture.suv.size >= FEWEST_VOXELS and max(picture.spacing_mm) <= COARSEST_MM


def with_duplicates_joined(cohort: Cohort) -> Cohort:
    """The cohort with every group of duplicates known as one person, and a warning for each pair.

    Folds keep a person's scans together, so no scan is tested by a model that was trained on it.
    """
    found = find_duplicates(cohort)
    if not found:
        return cohort
    persons = [study.person for study in cohort.studies]
    labels = connected(persons, found)
    leader = {label: min(p for p, other in zip(persons, labels, strict=True) if other == label) for label in labels}
    studies = tuple(
        replace(study, same_as=leader[label]) if leader[label] != study.person else study
        for study, label in zip(cohort.studies, labels, strict=True)
    )
    return replace(cohort, studies=studies, warnings=(*cohort.warnings, *(_said(cohort, pair) for pair in found)))


def without_duplicates_of(cohort: Cohort, other: Cohort) -> Cohort:
    """The cohort without the scans that are in another one too; each is excluded with its reason."""
    n = len(other)
    known = {pair.second - n for pair in find_duplicates(other, cohort) if pair.first < n <= pair.second}
    excluded = [
        Exclusion.of(
            Refusal(Code.DUPLICATE_SCAN, "the cohort that the models were fitted on has the same picture"),
            patient=cohort.studies[i].patient,
            series=str(cohort.studies[i].description.get("series", "")),
        )
        for i in sorted(known)
    ]
    kept = cohort.take([i for i in range(len(cohort)) if i not in known])
    return replace(kept, exclusions=(*cohort.exclusions, *excluded))


def connected(persons: Sequence[Hashable], pairs: Sequence[Duplicate]) -> list[int]:
    """A number for each scan, equal where persons or pairs connect them."""
    number = {person: i for i, person in enumerate(dict.fromkeys(persons))}
    first, second = ([number[persons[getattr(pair, end)]] for pair in pairs] for end in ("first", "second"))
    links = coo_array((np.ones(len(pairs)), (first, second)), shape=(len(number), len(number)))
    _, labels = connected_components(links, directed=False)
    return [int(labels[number[person]]) for person in persons]


def _said(cohort: Cohort, pair: Duplicate) -> str:
    names = " and ".join(cohort.studies[i].patient for i in (pair.first, pair.second))
    same = "the same content" if pair.similarity == 1 else f"nearly the same picture (r = {pair.similarity:.3f})"
    return f"{names} are two ids with {same}: they stay in one fold; keep one of them"


def similarity(one: Picture, other: Picture, offset_mm: tuple[float, float, float]) -> float:
    """Correlation of two volumes, the second moved by an offset onto the first, over the voxels that both show.

    Of the square root of the SUV, smoothed by a voxel; a voxel's width from the border of either is left out. 0 where
    they hardly overlap.
    """
    ratio = np.divide(one.spacing_mm, other.spacing_mm)
    start = -np.divide(offset_mm, other.spacing_mm)
    shape = one.suv.shape
    raw = [compressed(picture.suv) for picture in (one, other)]
    shown = [(ndimage.minimum_filter(values, 3, mode="constant") > 0).astype(np.float32) for values in raw]
    smooth = [ndimage.gaussian_filter(values, 1.0) for values in raw]
    moved, moved_shown = (ndimage.affine_transform(values, ratio, start, output_shape=shape, order=1)
                          for values in (smooth[1], shown[1]))  # fmt: skip
    both = (shown[0] > 0) & (moved_shown > 0.5)
    a, b = smooth[0][both], moved[both]
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 1 and a.std() > 0 and b.std() > 0 else 0.0


def fingerprint(picture: Picture) -> Fingerprint:
    """The fingerprint of a scan; on a grid that is too coarse for landmarks, of its content alone."""
    landmarks = find_landmarks(picture.suv, picture.spacing_mm) if comparable(picture) else no_landmarks()
    return Fingerprint(digest([picture.suv.tobytes()]), landmarks)


def stored_fingerprint(store: ArrayStore, key: str, picture: Callable[[], Picture]) -> Fingerprint:
    """The fingerprint of a picture whose key says all about it, computed once."""

    def compute() -> Arrays:
        made = fingerprint(picture())
        content = np.frombuffer(bytes.fromhex(made.content), np.uint8)
        return {"content": content, "places_mm": made.landmarks.places_mm, "patches": made.landmarks.patches}

    stored = store.get_or_compute(digest([f"fingerprint-{FINGERPRINT_VERSION}", key]), compute)
    return Fingerprint(stored["content"].tobytes().hex(), Landmarks(stored["places_mm"], stored["patches"]))


def _fingerprint(cohort: Cohort, study: Study) -> Fingerprint:
    def picture() -> Picture:
        return Picture(cohort.volume(study), cohort.spec.spacing_mm)

    return stored_fingerprint(cohort.volumes, cohort.volume_key(study), picture)


def _same_content(prints: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    numbers: dict[str, list[int]] = {}
    for number, one in enumerate(prints):
        numbers.setdefault(one.content, []).append(number)
    return [pair for group in numbers.values() for pair in combinations(group, 2)]
