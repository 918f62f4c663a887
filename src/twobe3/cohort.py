"""Patients with a scan each, what happened to them, and how they are split into folds."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from twobe3.artefact import digest, digest_file
from twobe3.dicom.facts import Policy
from twobe3.dicom.read import read_suv
from twobe3.dicom.series import PETSeries
from twobe3.dicom.voi import contour_mask
from twobe3.errors import Code, Exclusion, UsageError
from twobe3.outcome import Endpoint, Outcomes
from twobe3.pseudonym import pseudonym
from twobe3.resample import VolumeSpec, resample
from twobe3.store import ArrayStore
from twobe3.volume import Mask, SUVVolume

IntArray = npt.NDArray[np.int64]


class Scan(Protocol):
    """A PET scan that is read when it is needed."""

    @property
    def digest(self) -> str:
        """Digest of the content; two scans of one content share it."""

    def suv(self) -> SUVVolume:
        """The scan in SUV, on its own grid."""

    def contour(self, volume: SUVVolume) -> Mask | None:
        """The region that someone drew, on the grid of ``suv()``; None where nobody did."""


@dataclass(frozen=True)
class DicomScan:
    """A scan in DICOM files.

    Parameters
    ----------
    series : PETSeries
        The series and its contours.
    policy : {"lenient", "strict"}
        Whether repairs that the SUV rules mark as warnings are applied or refused.
    """

    series: PETSeries
    policy: Policy = "lenient"

    @cached_property
    def digest(self) -> str:
        """Digest of the series' files and contours, and of the policy."""
        return digest([self.series.digest, *map(digest_file, self.series.contours), self.policy])

    def suv(self) -> SUVVolume:
        """The scan in SUV; raises a :class:`~twobe3.errors.Refusal` when it cannot be."""
        return read_suv(self.series, policy=self.policy)

    def contour(self, volume: SUVVolume) -> Mask | None:
        """The region of the RTSTRUCT files; None without one."""
        return contour_mask(self.series, volume)


@dataclass(frozen=True, eq=False)
class ArrayScan:
    """A scan that is already in memory, for phantoms and for those who bring their own reader.

    Parameters
    ----------
    volume : SUVVolume
        The scan in SUV.
    region : Mask, optional
        On the same grid.
    """

    volume: SUVVolume
    region: Mask | None = None

    @cached_property  # every fold of every model asks, and the volume is large
    def digest(self) -> str:
        """Digest of the values and their place."""
        geometry = self.volume.geometry
        region = b"" if self.region is None else self.region.array.tobytes()
        return digest([self.volume.array.tobytes(), geometry.affine.tobytes(), str(geometry.shape), region])

    def suv(self) -> SUVVolume:
        """The volume."""
        return self.volume

    def contour(self, volume: SUVVolume) -> Mask | None:
        """The region."""
        return self.region


@dataclass(frozen=True)
class Study:
    """One patient's scan and what is known of the patient.

    Attributes
    ----------
    patient_id : str
        The user's own key, as in the clinical table; in no artefact but the predictions.
    scan : Scan
        The images.
    centre : str
        Where the patient was scanned; empty where unknown.
    covariates : mapping
        ``age_years``, ``sex`` ("M", "F"), ``weight_kg``, ``height_m``, as far as they are known.
    description : mapping
        What ``cohort.json`` says of the series: pseudonymous id, manufacturer, tracer and so on.
    """

    patient_id: str = field(repr=False)
    scan: Scan = field(repr=False)
    centre: str = ""
    covariates: Mapping[str, float | str] = field(default_factory=dict)
    description: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def patient(self) -> str:
        """Pseudonymous id of the patient."""
        return pseudonym("patient", self.patient_id)


@dataclass(frozen=True)
class Fold:
    """One split of a cross-validation.

    Attributes
    ----------
    repeat, fold : int
        Which one, from 0.
    train, test : ndarray of int64
        Positions in the cohort.
    """

    repeat: int
    fold: int
    train: IntArray
    test: IntArray


@dataclass(frozen=True, eq=False)
class Cohort:
    """Studies with their outcomes, on one grid.

    Parameters
    ----------
    studies : tuple of Study
        In the order of the user's patient ids, so that no result depends on file names.
    endpoints : tuple of Outcomes
        One for each endpoint; each holds the patients whose outcome is known.
    spec : VolumeSpec
        The grid on which the models see the scans.
    volumes : ArrayStore
        Where resampled volumes are kept.
    exclusions : tuple of Exclusion
        What was found and not used, and why.
    warnings : tuple of str
        What a reader of the results should know.
    found : int
        Series found; used and excluded ones add up to it.
    """

    studies: tuple[Study, ...]
    endpoints: tuple[Outcomes, ...] = ()
    spec: VolumeSpec = field(default_factory=VolumeSpec)
    volumes: ArrayStore = field(default_factory=ArrayStore)
    exclusions: tuple[Exclusion, ...] = ()
    warnings: tuple[str, ...] = ()
    found: int = 0

    def __len__(self) -> int:
        return len(self.studies)

    @property
    def patients(self) -> tuple[str, ...]:
        """The user's patient ids."""
        return tuple(study.patient_id for study in self.studies)

    @property
    def outcomes(self) -> Outcomes:
        """Outcomes of all studies, in their order.

        Raises
        ------
        ValueError
            The cohort has not exactly one endpoint: choose one with :meth:`for_endpoint`.
        """
        if len(self.endpoints) != 1:
            names = [outcomes.endpoint.name for outcomes in self.endpoints]
            raise ValueError(f"choose one of the endpoints {names} with cohort.for_endpoint(name)")
        return self.endpoints[0].of(self.patients)

    @property
    def endpoint(self) -> Endpoint:
        """The only endpoint."""
        return self.outcomes.endpoint

    def for_endpoint(self, name: str) -> Cohort:
        """The studies whose outcome is known for one endpoint, with that endpoint alone."""
        by_name = {outcomes.endpoint.name: outcomes for outcomes in self.endpoints}
        if name not in by_name:
            raise ValueError(f"the cohort has no endpoint {name!r}; it has {', '.join(by_name) or 'none'}")
        known = set(by_name[name].patients)
        studies = tuple(study for study in self.studies if study.patient_id in known)
        return replace(self, studies=studies, endpoints=(by_name[name],))

    def take(self, indices: Iterable[int]) -> Cohort:
        """The studies at these positions, in this order."""
        return replace(self, studies=tuple(self.studies[int(i)] for i in indices))

    def volume_key(self, study: Study) -> str:
        """Key of a study's resampled volume, here and in everything derived from it."""
        return digest([study.scan.digest, self.spec.identity()])

    def volume(self, study: Study) -> npt.NDArray[np.float32]:
        """The study's scan on the cohort's grid: SUV, shape ``spec.shape``; read from its files once.

        Raises
        ------
        Refusal
            The scan cannot become SUV.
        """
        arrays = self.volumes.get_or_compute(
            self.volume_key(study),
            lambda: {"suv": resample(study.scan.suv(), self.spec).array},
            metadata=self.notes(),
        )
        return np.asarray(arrays["suv"], dtype=np.float32)

    def notes(self) -> dict[str, str]:
        """What a stored volume says of itself: its spacing as a JSON list."""
        return {"spacing_mm": str(list(self.spec.spacing_mm))}

    def folds(self, folds: int = 5, repeats: int = 1, seed: int = 0) -> tuple[Fold, ...]:
        """Repeated cross-validation: a patient's scans stay together, events are spread evenly.

        Parameters
        ----------
        folds, repeats : int
            Parts of one split, and number of splits.
        seed : int
            Repeat ``r`` is shuffled by ``seed + r``.

        Raises
        ------
        UsageError
            ``FEWER_PATIENTS_THAN_FOLDS``, ``FEWER_EVENTS_THAN_FOLDS``.
        """
        event = self.outcomes.event
        check_enough_for(folds, self.patients, event, self.endpoint)
        result = []
        for repeat in range(repeats):
            splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed + repeat)
            with warnings.catch_warnings():  # fewer censored patients than folds are no problem
                warnings.simplefilter("ignore", UserWarning)
                parts = list(splitter.split(np.zeros(len(self)), event, groups=np.array(self.patients)))
            result += [Fold(repeat, fold, train, test) for fold, (train, test) in enumerate(parts)]
        return tuple(result)


def check_enough_for(folds: int, patients: Sequence[str], event: npt.NDArray[np.bool_], endpoint: Endpoint) -> None:
    """Refuse folds that cannot all hold a patient, or an event.

    Raises
    ------
    UsageError
        ``FEWER_PATIENTS_THAN_FOLDS``, ``FEWER_EVENTS_THAN_FOLDS``.
    """
    n = len(set(patients))
    if n < folds:
        raise UsageError(Code.FEWER_PATIENTS_THAN_FOLDS, f"endpoint {endpoint.name!r}: {n} patients for {folds} folds")
    if endpoint.kind == "continuous":
        return
    smaller = min(int(event.sum()), int((~event).sum())) if endpoint.kind == "binary" else int(event.sum())
    if smaller < folds:
        raise UsageError(
            Code.FEWER_EVENTS_THAN_FOLDS,
            f"endpoint {endpoint.name!r}: {smaller} patients of the rarer class for {folds} folds",
        )
