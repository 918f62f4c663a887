"""What structure sets and segmentations share: the names of regions, and how far a plane reaches."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence, Set
from typing import Protocol

import numpy as np
import numpy.typing as npt

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import FloatArray, Geometry, Mask

SAME_PLANE_MM = 0.1
"""Planes that lie no farther apart are one: positions are often rounded to a tenth of a millimetre."""

MAX_STEP_MM = 10.0
"""Planes that lie farther apart are no neighbours: nobody draws on images so far from each other."""

GAP_FROM = 1.75
"""From this multiple of the usual step on, a step is a gap between two parts; where one plane is left out it is 2."""


class Drawn(Protocol):
    """A file of regions: a structure set or a segmentation."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its regions, as the file spells them."""

    def fill(self, geometry: Geometry, names: Set[str]) -> Mask:
        """The union of the regions that are named as the file spells them, on the voxels of a scan."""


def to_names(roi: str | Sequence[str] | None) -> Collection[str] | None:
    """Names of regions as a collection; None stands for all of them."""
    return (roi,) if isinstance(roi, str) else roi


def match_names(files: Sequence[Sequence[str]], roi: Collection[str] | None) -> list[frozenset[str]]:
    """Names of regions as each file spells them; all of them for None.

    Within a file the very name goes before one that differs in case, blanks or compatible characters alone: the two may
    be two regions. In several files they are one. Composed and decomposed letters are the same (Unicode Standard
    Annex 15). Raises ``CONTOUR_UNUSABLE``, naming those that there are.
    """
    if roi is None:
        return [frozenset(there) for there in files]
    found = [[_find_alike(there, name) for name in roi] for there in files]
    for name, *alike in zip(roi, *found, strict=True):
        if not any(alike):
            known = ", ".join(dict.fromkeys(one for there in files for one in there)) or "none"
            raise UnusableScanError(Code.CONTOUR_UNUSABLE, f"there is no region {name!r}; there are: {known}")
    return [frozenset().union(*alike) for alike in found]


def _find_alike(there: Sequence[str], name: str) -> set[str]:
    same = {one for one in there if _compose(one) == _compose(name)}
    alike = [one for one in there if simplify_name(one) == simplify_name(name)]
    return same or set(alike[:1])


def _compose(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def simplify_name(name: str) -> str:
    """A name without what the same name may differ in: case, blanks, compatible characters."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(unicodedata.normalize("NFKC", folded).split())


def merge_planes(positions_mm: npt.ArrayLike) -> FloatArray:
    """Positions in increasing order, of those that are one plane (:data:`SAME_PLANE_MM`) the first."""
    merged: list[float] = []
    for one in np.sort(np.asarray(positions_mm, dtype=np.float64)).tolist():
        if not merged or one - merged[-1] > SAME_PLANE_MM:
            merged.append(one)
    return np.array(merged)


def find_steps_mm(planes_mm: FloatArray) -> FloatArray:
    """Steps between planes that can be neighbours (:data:`MAX_STEP_MM`), in increasing order."""
    steps = np.sort(np.diff(planes_mm))
    return np.asarray(steps[steps <= MAX_STEP_MM])


def find_steps_of_blocks_mm(planes_mm: FloatArray, usual_mm: float) -> FloatArray:
    """The step that is usual around each plane, shape (planes,).

    Two or more equal steps in a row, to twice :data:`SAME_PLANE_MM`, are a block with a usual step of its own, as where
    a region was drawn on a thin series and a thick one; elsewhere it is that of the whole region.
    """
    found = np.full(len(planes_mm), usual_mm)
    steps = np.diff(planes_mm)
    for run in np.split(np.arange(len(steps)), 1 + np.flatnonzero(np.abs(np.diff(steps)) > 2 * SAME_PLANE_MM)):
        step_mm = float(steps[run].mean()) if len(run) > 1 else usual_mm
        if step_mm <= MAX_STEP_MM and abs(step_mm - usual_mm) > 2 * SAME_PLANE_MM:
            found[run[0] : run[-1] + 2] = step_mm
    return found


def compare_steps(planes_mm: FloatArray, usual_mm: FloatArray) -> FloatArray:
    """Steps between planes as multiples of what is usual around the two, shape (planes - 1,)."""
    return np.asarray(np.diff(planes_mm) / ((usual_mm[1:] + usual_mm[:-1]) / 2))


def find_extents_mm(planes_mm: FloatArray, usual_mm: FloatArray) -> FloatArray:
    """From where to where each plane stands for the volume that it samples, shape (planes, 2).

    Half the way to its neighbours, and half the step that is usual around it, shape (planes,), at the ends and beside a
    gap (:data:`GAP_FROM`). A place belongs to a plane from the lower end on and up to, without, the upper one. Both lie
    lower by a twentieth of the smallest usual step or :data:`SAME_PLANE_MM`, so that rounded positions do not decide on
    which side of an end a slice lies.
    """
    neighbours = compare_steps(planes_mm, usual_mm) < GAP_FROM
    half = np.diff(planes_mm) / 2
    below = np.insert(np.where(neighbours, half, usual_mm[1:] / 2), 0, usual_mm[0] / 2)
    above = np.append(np.where(neighbours, half, usual_mm[:-1] / 2), usual_mm[-1] / 2)
    ends = np.column_stack([planes_mm - below, planes_mm + above])
    return np.asarray(ends - min(SAME_PLANE_MM, float(usual_mm.min()) / 20))
