"""Scans that show one patient under several names: the same content, or nearly the same picture."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.errors import Exclusion, UnusableScanError
from twobe3.scans.fingerprint import (
    SAME_PICTURE,
    Fingerprint,
    Picture,
    cache_fingerprint,
    match_landmarks,
    similarity,
)


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

    Volumes are compared on the cohort's grid. Scans that share landmarks, see
    :mod:`twobe3.scans.fingerprint`, are laid over each other there and count as duplicates when their voxels
    correlate. So a scan is found again after another encoding, a crop, a shift or a scaling, among any number of
    others. On a grid coarser than 8 mm, or of fewer than 10,000 voxels, only the
    same content counts.

    Parameters
    ----------
    *cohorts : Cohort
        On one grid. Positions run through all of them, and an id means the same patient within a cohort only.

    Raises
    ------
    UnusableScanError
        A scan cannot become SUV.
    """
    owner = [cohort for cohort in cohorts for _ in cohort.subjects]
    subjects = [subject for cohort in cohorts for subject in cohort.subjects]

    def same_group(first: int, second: int) -> bool:
        return owner[first] is owner[second] and subjects[first].group == subjects[second].group

    def picture(number: int) -> Picture:
        return Picture(owner[number].volume(subjects[number]), owner[number].grid.spacing_mm)

    prints = [
        cache_fingerprint(cohort.volumes, cohort.volume_key(subject), partial(picture, number))
        for number, (cohort, subject) in enumerate(zip(owner, subjects, strict=True))
    ]
    return find_same_pictures(prints, picture, skip=same_group)


def find_same_pictures(
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
    found = {pair: 1.0 for pair in _find_same_content(prints) if not skip(*pair)}
    for one in match_landmarks([print_.landmarks for print_ in prints]):
        pair = (one.first, one.second)
        if pair in found or skip(*pair):
            continue
        alike = similarity(picture(one.first), picture(one.second), one.offset_mm)
        if alike > SAME_PICTURE:
            found[pair] = alike
    return tuple(Duplicate(*pair, alike) for pair, alike in sorted(found.items()))


def join_duplicates(cohort: Cohort) -> Cohort:
    """Make each set of duplicates one group, which folds keep together, with a warning for each pair."""
    found = find_duplicates(cohort)
    if not found:
        return cohort
    groups = [subject.group for subject in cohort.subjects]
    labels = connect_groups(groups, found)
    leader = {label: min(p for p, other in zip(groups, labels, strict=True) if other == label) for label in labels}
    subjects = tuple(
        replace(subject, duplicate_of=leader[label]) if leader[label] != subject.group else subject
        for subject, label in zip(cohort.subjects, labels, strict=True)
    )
    return replace(
        cohort, subjects=subjects, warnings=(*cohort.warnings, *(_describe_pair(cohort, pair) for pair in found))
    )


def drop_duplicates_of(cohort: Cohort, other: Cohort) -> Cohort:
    """The cohort without the scans that are in another one too; each is excluded with its reason."""
    n = len(other)
    known = {pair.second - n for pair in find_duplicates(other, cohort) if pair.first < n <= pair.second}
    excluded = [
        Exclusion.of(
            UnusableScanError(Code.DUPLICATE_SCAN, "the cohort that the models were fitted on has the same picture"),
            patient=cohort.subjects[i].patient,
            series=str(cohort.subjects[i].description.get("series", "")),
        )
        for i in sorted(known)
    ]
    kept = cohort.subset([i for i in range(len(cohort)) if i not in known])
    return replace(kept, exclusions=(*cohort.exclusions, *excluded))


def connect_groups(groups: Sequence[Hashable], pairs: Sequence[Duplicate]) -> list[int]:
    """A number for each scan, equal where groups or pairs connect them."""
    number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    first, second = ([number[groups[getattr(pair, end)]] for pair in pairs] for end in ("first", "second"))
    links = coo_array((np.ones(len(pairs)), (first, second)), shape=(len(number), len(number)))
    _, labels = connected_components(links, directed=False)
    return [int(labels[number[group]]) for group in groups]


def _describe_pair(cohort: Cohort, pair: Duplicate) -> str:
    names = " and ".join(cohort.subjects[i].patient for i in (pair.first, pair.second))
    same = "the same content" if pair.similarity == 1 else f"nearly the same picture (r = {pair.similarity:.3f})"
    return f"{names} are two ids with {same}: they stay in one fold; keep one of them"


def _find_same_content(prints: Sequence[Fingerprint]) -> list[tuple[int, int]]:
    numbers: dict[str, list[int]] = {}
    for number, one in enumerate(prints):
        numbers.setdefault(one.content, []).append(number)
    return [pair for group in numbers.values() for pair in combinations(group, 2)]
