"""Scans that show one patient under several names: the same content, or nearly the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.registration import phase_cross_correlation

from twobe3.artefact import digest
from twobe3.cohort import Cohort, Study
from twobe3.errors import Code, Exclusion, Refusal
from twobe3.resample import VolumeSpec
from twobe3.store import Arrays

# Bump when the fingerprint of the same volume changes: it is part of its key.
FINGERPRINT_VERSION = "1"
# Only waves at least this long enter the fingerprint: what noise, rounding and a shift by a fraction of a voxel keep.
WAVELENGTH_MM = 64.0
# Among the 51 patients of the sarcoma cohort the largest correlation of two fingerprints is 0.93 and that of two
# volumes laid over each other 0.89; of a scan and itself without its last two slices they are at least 0.98 and 0.97.
ALIKE = 0.95
SAME_PICTURE = 0.96
# That was measured at 4 mm. On a coarser grid, or with fewer voxels, different patients look alike: 34 pairs among 48
# phantoms of one anatomy at 8 mm were above the limit.
COARSEST_MM, FEWEST_VOXELS = 5.0, 10_000


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

    Volumes are compared on the cohort's grid, as the square root of the SUV, which keeps one hot spot from deciding.
    The amplitude spectrum, which does not depend on where in the image the body lies, picks the candidates; they are
    laid over each other (Guizar-Sicairos et al., Optics Letters 2008;33:156) and count as duplicates when their voxels
    correlate. So a scan is found again after another encoding, a crop by some slices, a shift or a scaling.
    On a grid coarser than 5 mm, or of fewer than 10,000 voxels, only the same content counts.

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
    stored = [_fingerprint(cohort, study) for cohort, study in zip(owner, studies, strict=True)]
    contents = np.array([one["content"].tobytes().hex() for one in stored])
    candidates = contents[:, None] == contents[None, :]
    spec = cohorts[0].spec
    if np.prod(spec.shape) >= FEWEST_VOXELS and max(spec.spacing_mm) <= COARSEST_MM:
        prints = np.array([one["waves"] for one in stored])
        candidates |= prints @ prints.T > ALIKE
    found = []
    for pair in np.argwhere(np.triu(candidates, 1)).tolist():
        first, second = pair
        if owner[first] is owner[second] and studies[first].person == studies[second].person:
            continue
        same = contents[first] == contents[second]
        similarity = 1.0 if same else _similarity(*(owner[i].volume(studies[i]) for i in pair))
        if similarity > SAME_PICTURE:
            found.append(Duplicate(first, second, similarity))
    return tuple(found)


def with_duplicates_joined(cohort: Cohort) -> Cohort:
    """The cohort with every group of duplicates known as one person, and a warning for each pair.

    Folds keep a person's scans together, so no scan is tested by a model that was trained on it.
    """
    found = find_duplicates(cohort)
    if not found:
        return cohort
    persons = [study.person for study in cohort.studies]
    labels = _connected(persons, found)
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


def _connected(persons: Sequence[str], pairs: Sequence[Duplicate]) -> list[int]:
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


def _fingerprint(cohort: Cohort, study: Study) -> Arrays:
    """The digest of a scan's voxels and the long waves of its amplitude spectrum; computed once."""
    key = digest([f"fingerprint-{FINGERPRINT_VERSION}", cohort.volume_key(study)])

    def compute() -> Arrays:
        volume = cohort.volume(study)
        content = np.frombuffer(bytes.fromhex(digest([volume.tobytes()])), np.uint8)
        return {"content": content, "waves": _long_waves(_compressed(volume), cohort.spec)}

    return cohort.volumes.get_or_compute(key, compute)


def _long_waves(volume: npt.NDArray[np.float32], spec: VolumeSpec) -> npt.NDArray[np.float32]:
    """Amplitudes of the waves of at least :data:`WAVELENGTH_MM`, centred, of length 1."""
    most = [min(int(length / WAVELENGTH_MM), n // 2 - 1)
            for length, n in zip(spec.field_of_view_mm, volume.shape, strict=True)]  # fmt: skip
    slices, rows = (np.r_[0 : k + 1, -k:0] for k in most[:2])
    amplitude = np.abs(fft.rfftn(volume))[np.ix_(slices, rows, np.arange(most[2] + 1))].ravel()
    waves = np.sqrt(amplitude[1:])  # without the mean; the root, so that the longest wave does not decide alone
    waves -= waves.mean() if len(waves) else 0.0
    length = np.linalg.norm(waves)
    return np.asarray(waves / length if length > 0 else waves, dtype=np.float32)


def _similarity(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Correlation of two volumes laid over each other, over the voxels that both show; 0 where they hardly overlap."""
    a, b = (ndimage.gaussian_filter(_compressed(volume), 1.0) for volume in (one, other))
    shift, _, _ = phase_cross_correlation(a, b, upsample_factor=4, normalization=None)
    b = ndimage.shift(b, shift, order=1)
    both = (a > 0) & (b > 0)
    least = 0.5 * min((a > 0).sum(), (b > 0).sum())
    if both.sum() < max(least, 2) or a[both].std() == 0 or b[both].std() == 0:
        return 0.0
    return float(np.corrcoef(a[both], b[both])[0, 1])


def _compressed(volume: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(np.sqrt(np.maximum(volume, 0.0)), dtype=np.float32)
