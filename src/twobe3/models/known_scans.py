"""The training scans as a model knows them again: digests of their voxels and coarse landmarks, never voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.io.model_file import ArrayFields
from twobe3.scans.fingerprint import (
    COARSE,
    FEWEST,
    Fingerprint,
    Landmarks,
    Picture,
    cache_fingerprint,
    coarsen_patches,
    compare_landmarks,
    expand_patches,
)


@dataclass(frozen=True, eq=False)
class KnownScans(ArrayFields):
    """What a model file holds of its training scans to recognise one of them under another id.

    Attributes
    ----------
    contents : ndarray of uint8, shape (n, 32)
        Digest of the voxels of each scan on the model's grid, increasing.
    places_mm : ndarray of float32, shape (m, 3)
        Where the landmarks of all scans lie, from the first voxel.
    patches : ndarray of int8, shape (m, 32)
        Their surroundings, see :func:`~twobe3.scans.fingerprint.coarsen_patches`.
    owners : ndarray of int32, shape (m,)
        To which scan each belongs.
    """

    contents: npt.NDArray[np.uint8]
    places_mm: npt.NDArray[np.float32]
    patches: npt.NDArray[np.int8]
    owners: npt.NDArray[np.int32]

    def __post_init__(self) -> None:
        m = len(self.owners)
        shapes = self.contents.shape[1:], self.places_mm.shape, self.patches.shape
        if not len(self.contents) or shapes != ((32,), (m, 3), (m, COARSE)):
            raise ValueError(f"digests, places and patches of the training scans do not fit: {shapes}")

    @classmethod
    def of(cls, prints: Sequence[Fingerprint]) -> Self:
        """What is kept of fingerprints, at least one; their order is lost."""
        ordered = sorted(prints, key=lambda one: one.content)
        found = [one.landmarks for one in ordered]
        return cls(
            np.stack([np.frombuffer(bytes.fromhex(one.content), np.uint8) for one in ordered]),
            np.concatenate([one.places_mm for one in found]),
            coarsen_patches(np.concatenate([one.patches for one in found])),
            np.repeat(np.arange(len(found), dtype=np.int32), [len(one.patches) for one in found]),
        )

    def recognise(self, scan: Fingerprint) -> str:
        """In what way a scan is one of these, in words; empty where it is none of them."""
        content = np.frombuffer(bytes.fromhex(scan.content), np.uint8)
        if (self.contents == content).all(axis=1).any():
            return "its voxels are those of a training scan"
        own = Landmarks(scan.landmarks.places_mm, expand_patches(coarsen_patches(scan.landmarks.patches)))
        theirs = (self._landmarks(number) for number in range(len(self.contents)))
        shared = max(compare_landmarks([one, own], 0, 1).shared for one in theirs)
        return f"it shares {shared} hot points with a training scan" if shared >= FEWEST else ""

    def _landmarks(self, number: int) -> Landmarks:
        mine = self.owners == number
        return Landmarks(self.places_mm[mine], expand_patches(self.patches[mine]))


def take_fingerprint(cohort: Cohort, subject: Subject) -> Fingerprint:
    """The fingerprint of a subject's scan on the cohort's grid, kept where the cohort keeps its volumes."""
    key = cohort.volume_key(subject)
    return cache_fingerprint(cohort.volumes, key, lambda: Picture(cohort.volume(subject), cohort.grid.spacing_mm))
