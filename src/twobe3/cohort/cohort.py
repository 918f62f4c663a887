"""Patients with a scan each, and what happened to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from twobe3.cohort.exclusions import OwnerNames
from twobe3.cohort.splits import Sample
from twobe3.core.counts import format_count
from twobe3.core.errors import Exclusion, UnusableScanError
from twobe3.core.grid import Grid, place_grid, resample
from twobe3.core.html import html_picture, html_table
from twobe3.core.mip import mip, png
from twobe3.core.outcomes import Endpoint, Outcomes
from twobe3.core.volume import Geometry, SUVVolume
from twobe3.io.cache import Cache
from twobe3.io.files import digest
from twobe3.io.pseudonym import pseudonym
from twobe3.scans.masks import resample_nearest
from twobe3.scans.scan import Scan

PICTURES = 4  # that a notebook shows of a cohort


@dataclass(frozen=True)
class Subject:
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
        the clinical table, numbers or categories: see :mod:`twobe3.cohort.covariates`.
    subgroups : mapping
        Columns of the clinical table by which the results are also given, for instance the stage; no model sees them.
    description : mapping
        What ``cohort.json`` says of the series: pseudonymous id, manufacturer, tracer and so on.
    duplicate_of : str
        The patient id under which the same scan is known too, see :mod:`twobe3.cohort.duplicates`; empty where it
        is not.
    """

    patient_id: str = field(repr=False)
    scan: Scan = field(repr=False)
    centre: str = ""
    covariates: Mapping[str, float | str] = field(default_factory=dict)
    subgroups: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    description: Mapping[str, Any] = field(default_factory=dict, repr=False)
    duplicate_of: str = field(default="", kw_only=True, repr=False)

    @property
    def group(self) -> str:
        """Whom the scan shows: scans of one group stay in one fold, whatever their ids."""
        return self.duplicate_of or self.patient_id

    @property
    def patient(self) -> str:
        """Pseudonymous id of the patient."""
        return pseudonym("patient", self.patient_id)


@dataclass(frozen=True, eq=False, repr=False)
class Cohort:
    """Subjects with their outcomes, on one grid.

    Parameters
    ----------
    subjects : tuple of Subject
        In the order of the user's patient ids, so that no result depends on file names.
    endpoints : tuple of Outcomes
        One for each endpoint; each holds the patients whose outcome is known.
    other_endpoints : tuple of Outcomes
        Once one endpoint is chosen, the others, as far as they are known of the same subjects. Only models that learn
        several endpoints at once look at them.
    grid : Grid
        The grid on which the models see the scans.
    volumes : Cache
        Where resampled volumes are kept.
    contours : Cache
        Where contours on the same grid are kept, each under the key of its volume.
    exclusions : tuple of Exclusion
        What was found and not used, and why.
    warnings : tuple of str
        What a reader of the results should know.
    found : int
        Series found; used and excluded ones add up to it.
    names : OwnerNames
        What the pseudonyms of the exclusions stand for; for their owner alone.
    """

    subjects: tuple[Subject, ...]
    endpoints: tuple[Outcomes, ...] = ()
    other_endpoints: tuple[Outcomes, ...] = field(default=(), kw_only=True)
    grid: Grid = field(default_factory=Grid)
    volumes: Cache = field(default_factory=Cache)
    contours: Cache = field(default_factory=Cache, kw_only=True)
    exclusions: tuple[Exclusion, ...] = ()
    warnings: tuple[str, ...] = ()
    found: int = 0
    names: OwnerNames = field(default_factory=OwnerNames, kw_only=True)

    def __len__(self) -> int:
        return len(self.subjects)

    @overload
    def __getitem__(self, index: int) -> Subject: ...

    @overload
    def __getitem__(self, index: slice | npt.ArrayLike) -> Cohort: ...

    def __getitem__(self, index: int | slice | npt.ArrayLike) -> Subject | Cohort:
        """One subject, or the cohort of the subjects that a slice, positions or a boolean mask of length n select."""
        chosen = np.arange(len(self))[index if isinstance(index, int | slice) else np.asarray(index)]
        return self.subset(chosen) if chosen.ndim else self.subjects[int(chosen)]

    def __repr__(self) -> str:
        endpoints = "".join(f", {outcomes!r}" for outcomes in self.endpoints)
        sizes = format_count(len(self), "subject"), format_count(len(self.exclusions), "exclusion")
        return f"Cohort({sizes[0]}{endpoints}, {sizes[1]}, {self.grid})"

    def _repr_html_(self) -> str:
        codes = Counter(exclusion.code for exclusion in self.exclusions)
        rows = [("subjects", f"{len(self)}"), ("grid", f"{self.grid.spacing_mm} mm, shape {self.grid.shape}")]
        for one in self.endpoints:
            rows.append((one.endpoint.name, f"{len(one)} known, {format_count(one.n_events, 'event')}"))
        rows += [(f"excluded: {code}", f"{n}") for code, n in sorted(codes.items())]
        return html_table(rows, caption="Cohort") + self._pictures()

    def _pictures(self) -> str:
        """The first scans from the front, as far as their volumes are at hand: nothing is read from DICOM for them."""
        if not self.volumes.computed + self.volumes.reused:
            return ""
        pictures, (slice_mm, _, column_mm) = [], self.grid.spacing_mm
        for subject in self.subjects[:PICTURES]:
            if (arrays := self.volumes.get(self.volume_key(subject))) is not None:
                grey = mip(arrays["suv"], "front")
                width_mm, height_mm = grey.shape[1] * column_mm, grey.shape[0] * slice_mm
                pictures.append(html_picture(png(grey), width_mm, height_mm, f"{subject.patient}, from the front"))
        return "".join(pictures)

    @property
    def patients(self) -> tuple[str, ...]:
        """The user's patient ids."""
        return tuple(subject.patient_id for subject in self.subjects)

    @property
    def centres(self) -> tuple[str, ...]:
        """Where each was scanned; empty where unknown."""
        return tuple(subject.centre for subject in self.subjects)

    @property
    def outcomes(self) -> Outcomes:
        """Outcomes of all subjects, in their order.

        Raises
        ------
        ValueError
            The cohort has not exactly one endpoint: choose one with :meth:`for_endpoint`.
        """
        if len(self.endpoints) != 1:
            names = [outcomes.endpoint.name for outcomes in self.endpoints]
            raise ValueError(f"choose one of the endpoints {names} with cohort.for_endpoint(name)")
        return self._fill_groups(self.endpoints[0].of(self.patients))

    @property
    def endpoint(self) -> Endpoint:
        """The only endpoint."""
        return self.outcomes.endpoint

    def for_endpoint(self, name: str) -> Cohort:
        """The subjects whose outcome is known for one endpoint, with that endpoint alone; the others lie beside it."""
        by_name = {outcomes.endpoint.name: outcomes for outcomes in self.endpoints}
        if name not in by_name:
            raise ValueError(f"the cohort has no endpoint {name!r}; it has {', '.join(by_name) or 'none'}")
        chosen = by_name.pop(name)
        known = set(chosen.patients)
        others = (*by_name.values(), *self.other_endpoints)
        own = replace(
            self,
            endpoints=(self._fill_groups(chosen),),
            other_endpoints=tuple(self._fill_groups(other) for other in others),
        )
        return own.subset([i for i, subject in enumerate(self.subjects) if subject.patient_id in known])

    def _fill_groups(self, outcomes: Outcomes) -> Outcomes:
        """Outcomes whose groups are those of the subjects."""
        group = {subject.patient_id: subject.group for subject in self.subjects}
        return replace(outcomes, groups=tuple(group.get(patient, patient) for patient in outcomes.patients))

    def subset(self, indices: Iterable[int]) -> Cohort:
        """The subjects at these positions, in this order, with their own outcomes and nobody else's."""
        subjects = tuple(self.subjects[int(i)] for i in indices)
        there = {subject.patient_id for subject in subjects}
        endpoints, other_endpoints = (
            tuple(one.subset([i for i, patient in enumerate(one.patients) if patient in there]) for one in outcomes)
            for outcomes in (self.endpoints, self.other_endpoints)
        )
        return replace(self, subjects=subjects, endpoints=endpoints, other_endpoints=other_endpoints)

    def without_outcomes(self) -> Cohort:
        """The subjects alone, as a prediction may see them."""
        return replace(self, endpoints=(), other_endpoints=())

    def volume_key(self, subject: Subject) -> str:
        """Key of a subject's resampled volume, here and in everything derived from it."""
        return digest([subject.scan.digest, self.grid.cache_key()])

    def volume(self, subject: Subject) -> npt.NDArray[np.float32]:
        """The subject's scan on the cohort's grid: SUV, shape ``grid.shape``; read from its files once.

        Raises
        ------
        UnusableScanError
            The scan cannot become SUV.
        """
        arrays = self.volumes.get_or_compute(
            self.volume_key(subject),
            lambda: {"suv": resample(subject.scan.suv(), self.grid).array},
            metadata=self.notes(),
        )
        return np.asarray(arrays["suv"], dtype=np.float32)

    def contour(self, subject: Subject, read: Callable[[], SUVVolume] | None = None) -> npt.NDArray[np.bool_] | None:
        """What somebody drew on the subject's scan, all of it, on the cohort's grid: shape ``grid.shape``.

        Each voxel has the value of the scan's voxel that its centre lies in. None where nobody drew anything; no
        voxel is inside where what was drawn cannot be used. ``read`` gives the scan on its own grid, where it may be
        read already.
        """
        if subject.description.get("contour") is False:
            return None
        key = self.volume_key(subject)
        arrays = self.contours.get(key)
        if arrays is None:
            volume = (read or subject.scan.suv)()
            target = place_grid(volume.geometry, self.grid)
            try:
                mask = subject.scan.contour(volume)
            except UnusableScanError:
                mask = None
            if mask is None and not subject.description.get("contour"):
                return None
            inside = np.zeros(target.shape, np.bool_)
            inside = inside if mask is None else resample_nearest(mask.array, mask.geometry, target)
            arrays = {"contour": inside.astype(np.uint8)}
            self.contours.put(key, arrays, metadata=self.notes())
        return np.asarray(arrays["contour"], dtype=np.bool_)

    def notes(self) -> dict[str, str]:
        """What a stored volume says of itself: its spacing as a JSON list."""
        return {"spacing_mm": str(list(self.grid.spacing_mm))}

    @property
    def sample(self) -> Sample:
        """What a validation scheme has to know of the subjects, whose cohort has one endpoint."""
        return Sample(self.outcomes, self.centres)


def describe_sampling(geometry: Geometry) -> dict[str, tuple[float, float, float]]:
    """Spacing and field of view in mm along the body, front to back, right to left, whatever the order of the array."""
    return {
        "spacing_mm": geometry.along_patient(geometry.spacing_mm),
        "field_of_view_mm": geometry.along_patient(geometry.extent_mm),
    }
