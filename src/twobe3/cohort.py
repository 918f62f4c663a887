"""Patients with a scan each, and what happened to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from twobe3.artefact import digest, digest_file
from twobe3.converted import ConvertedSeries, read_converted
from twobe3.dicom.facts import Policy
from twobe3.dicom.read import read_suv
from twobe3.dicom.series import PETSeries
from twobe3.dicom.voi import contour_mask, read_nifti_mask
from twobe3.errors import Code, Exclusion, Refusal
from twobe3.outcome import Endpoint, Outcomes
from twobe3.pseudonym import pseudonym
from twobe3.resample import VolumeSpec, resample
from twobe3.splits import CrossValidation, Fold, Sample
from twobe3.store import ArrayStore
from twobe3.volume import Mask, SUVVolume


class Scan(Protocol):
    """A PET scan that is read when it is needed."""

    @property
    def digest(self) -> str:
        """Digest of the content; two scans of one content share it."""

    def suv(self) -> SUVVolume:
        """The scan in SUV, on its own grid."""

    def contour(self, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
        """The region that someone drew, on the grid of ``suv()``; None where nobody did.

        ``roi`` names the regions to merge; all by default.
        """


@dataclass(frozen=True)
class DicomScan:
    """A scan in DICOM files.

    Parameters
    ----------
    series : PETSeries
        The series and its contours.
    policy : {"lenient", "strict"}
        Whether repairs that the SUV rules mark as warnings are applied or refused.
    repair_dates : bool
        Whether, under the lenient policy, an injection whose date contradicts the scan's is taken at its time of day.
    """

    series: PETSeries
    policy: Policy = "lenient"
    repair_dates: bool = False

    @cached_property
    def digest(self) -> str:
        """Digest of the series' files and contours, and of the policy with the repairs asked for."""
        asked = ["repair_dates"] if self.repair_dates else []
        return digest([self.series.content_digest, *map(digest_file, self.series.contours), self.policy, *asked])

    def suv(self) -> SUVVolume:
        """The scan in SUV; raises a :class:`~twobe3.errors.Refusal` when it cannot be."""
        return read_suv(self.series, policy=self.policy, repair_dates=self.repair_dates)

    def contour(self, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
        """The region of the first RTSTRUCT or SEG file that belongs to the series; None without one."""
        return contour_mask(self.series, volume, roi=roi)


@dataclass(frozen=True)
class NiftiScan:
    """A scan in a NIfTI file that is SUV already.

    Parameters
    ----------
    series : ConvertedSeries
        The file and what the JSON beside it says.
    """

    series: ConvertedSeries

    @property
    def digest(self) -> str:
        """Digest of the voxels' and the mask's files."""
        return self.series.digest

    def suv(self) -> SUVVolume:
        """The scan in SUV; raises a :class:`~twobe3.errors.Refusal` when it cannot be."""
        return read_converted(self.series)

    def contour(self, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
        """The region of the NIfTI mask, whose labels are the names; None without one."""
        masks = self.series.contours
        return read_nifti_mask(masks[0], volume.geometry, roi=roi or None) if masks else None


@dataclass(frozen=True)
class TumourScan:
    """A scan of which somebody knows which of the drawn regions are the tumour.

    Parameters
    ----------
    scan : Scan
        The images and all that was drawn on them, organs included.
    tumour : tuple of str
        Names of the regions that are the tumour; with none the scan counts as one without a contour.
    """

    scan: Scan
    tumour: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """Digest of the scan's content and of the names."""
        return digest(["tumour", self.scan.digest, *self.tumour])

    def suv(self) -> SUVVolume:
        """The scan in SUV; raises a :class:`~twobe3.errors.Refusal` when it cannot be."""
        return self.scan.suv()

    def contour(self, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
        """The regions that ``roi`` names, else the tumour; None without either."""
        wanted = tuple(roi) or self.tumour
        return self.scan.contour(volume, roi=wanted) if wanted else None


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

    def contour(self, volume: SUVVolume, *, roi: Sequence[str] = ()) -> Mask | None:
        """The region; a :class:`~twobe3.errors.Refusal` when it is not what ``roi`` names."""
        if roi and self.region is not None and set(roi) != set(self.region.name.split(" + ")):
            raise Refusal(Code.CONTOUR_UNUSABLE, f"the region is {self.region.name!r}, not {' + '.join(roi)!r}")
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
        ``age_years``, ``sex`` ("M", "F", "O"), ``weight_kg``, ``height_m``, as far as they are known, and columns of
        the clinical table, numbers or categories: see :mod:`twobe3.covariates`.
    groups : mapping
        Columns of the clinical table by which the results are also given, for instance the stage; no model sees them.
    description : mapping
        What ``cohort.json`` says of the series: pseudonymous id, manufacturer, tracer and so on.
    same_as : str
        The patient id under which the same scan is known too, see :mod:`twobe3.duplicates`; empty where it is not.
    """

    patient_id: str = field(repr=False)
    scan: Scan = field(repr=False)
    centre: str = ""
    covariates: Mapping[str, float | str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    description: Mapping[str, Any] = field(default_factory=dict, repr=False)
    same_as: str = field(default="", kw_only=True, repr=False)

    @property
    def person(self) -> str:
        """Whom the scan shows: scans of one person stay in one fold, whatever their ids."""
        return self.same_as or self.patient_id

    @property
    def patient(self) -> str:
        """Pseudonymous id of the patient."""
        return pseudonym("patient", self.patient_id)


@dataclass(frozen=True, eq=False)
class Cohort:
    """Studies with their outcomes, on one grid.

    Parameters
    ----------
    studies : tuple of Study
        In the order of the user's patient ids, so that no result depends on file names.
    endpoints : tuple of Outcomes
        One for each endpoint; each holds the patients whose outcome is known.
    beside : tuple of Outcomes
        Once one endpoint is chosen, the others, as far as they are known of the same studies. Only models that learn
        several endpoints at once look at them.
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
    beside: tuple[Outcomes, ...] = field(default=(), kw_only=True)
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
        """The studies whose outcome is known for one endpoint, with that endpoint alone; the others lie beside it."""
        by_name = {outcomes.endpoint.name: outcomes for outcomes in self.endpoints}
        if name not in by_name:
            raise ValueError(f"the cohort has no endpoint {name!r}; it has {', '.join(by_name) or 'none'}")
        chosen = by_name.pop(name)
        known = set(chosen.patients)
        told = replace(self, endpoints=(chosen,), beside=(*by_name.values(), *self.beside))
        return told.take([i for i, study in enumerate(self.studies) if study.patient_id in known])

    def take(self, indices: Iterable[int]) -> Cohort:
        """The studies at these positions, in this order, with their own outcomes and nobody else's."""
        studies = tuple(self.studies[int(i)] for i in indices)
        there = {study.patient_id for study in studies}
        endpoints, beside = (
            tuple(one.take([i for i, patient in enumerate(one.patients) if patient in there]) for one in outcomes)
            for outcomes in (self.endpoints, self.beside)
        )
        return replace(self, studies=studies, endpoints=endpoints, beside=beside)

    def without_outcomes(self) -> Cohort:
        """The studies alone, as a prediction may see them."""
        return replace(self, endpoints=(), beside=())

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

    @property
    def sample(self) -> Sample:
        """What a validation scheme has to know of the studies, whose cohort has one endpoint."""
        centres, persons = zip(*((study.centre, study.person) for study in self.studies), strict=True)
        return Sample(self.patients, centres, persons, self.outcomes)

    def folds(self, folds: int = 5, repeats: int = 1, seed: int = 0) -> tuple[Fold, ...]:
        """Repeated cross-validation, see :class:`~twobe3.splits.CrossValidation`.

        Raises
        ------
        UsageError
            ``FEWER_PATIENTS_THAN_FOLDS``, ``FEWER_EVENTS_THAN_FOLDS``.
        """
        return CrossValidation(folds, repeats, seed).split(self.sample)
