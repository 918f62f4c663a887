"""What becomes of a prediction beside a row of a table: DICOM objects for the archive, and a page to read."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twobe3.cohort.ct import read_hu
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, UnusableScanError
from twobe3.dicom.derived import Source, make_parametric_map, make_segmentation, read_source
from twobe3.dicom.series import PETSeries
from twobe3.dicom.structured_report import SegmentedRegion, make_structured_report
from twobe3.explain.explain import RiskMap, explain
from twobe3.explain.patient_space import find_strongest, to_scan
from twobe3.io.files import require_folder, write_atomic
from twobe3.models.card import describe_card
from twobe3.models.model import training_record
from twobe3.models.radiomics import RadiomicsModel
from twobe3.report.patient_page import PatientPage, Scale, write_patient_page
from twobe3.report.patient_pdf import write_patient_pdf
from twobe3.report.stored_scans import StoredMap, StoredScan
from twobe3.report.wording import number
from twobe3.study.checks import Notice
from twobe3.study.predict import PredictedScan
from twobe3.validation.cross_validate import file_name

log = logging.getLogger("twobe3")
NAMES = {
    "risk": "Risk",
    "risk_low": "Risk, lower limit",
    "risk_high": "Risk, upper limit",
    "probability": "Probability",
    "probability_low": "Probability, lower limit",
    "probability_high": "Probability, upper limit",
    "percentile": "Percentile among the training patients",
}
"""What a report calls the numbers of a prediction."""


@dataclass(frozen=True)
class ResultFiles:
    """Writes what is asked for of every scan that is predicted: give it to ``predict(each=…)``.

    Files are named by the pseudonyms of patient and series, endpoint and model: a later run on the same scan replaces
    them. What is DICOM carries the patient's identity, for it goes into the patient's own study; a scan in NIfTI has
    none, which a warning says (``NO_DICOM_SOURCE``).

    Parameters
    ----------
    sr, seg, pm : Path, optional
        Folders for the structured report (``*.sr.dcm``), the segmentation of the region (``*.seg.dcm``), and the
        parametric map of what each voxel adds to the risk (``*.pm.dcm``). The region is the one a radiomics model
        measures, else the voxels that hold half of what raises the risk; a model without both has neither file.
    html : Path, optional
        Folder for a page (``*.html``) with numbers, pictures, map, viewer and the model's card.
    pdf : Path, optional
        Folder for the same to print (``*.pdf``), without the viewer.
    show_faces : bool
        Whether the page shows the face.

    Attributes
    ----------
    written : list of Path
        The DICOM files, so far, by this process.

    Raises
    ------
    ConfigurationError
        ``OUTPUT_EXISTS``: one of them is no folder.
    EnvironmentFailure
        ``WRITE_FAILED``.
    """

    sr: Path | None = None
    seg: Path | None = None
    pm: Path | None = None
    html: Path | None = None
    show_faces: bool = False
    pdf: Path | None = None
    written: list[Path] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        for folder in (self.sr, self.seg, self.pm, self.html, self.pdf):
            if folder is not None:
                require_folder(folder)

    def __call__(self, predicted: PredictedScan) -> None:
        """Write the files of one scan; what cannot be made of it is warned of with its code."""
        for lacking in self.write(Results(predicted)):
            log.warning("%s: %s: %s", predicted.prediction.patient, lacking.code, lacking.reason)

    def write(self, made: Results) -> list[Notice]:
        """Write the files of one scan, and give what cannot be made of it."""
        lacking = []
        try:
            objects = self._make_objects(made)
        except UnusableScanError as refusal:
            lacking.append(Notice(refusal.code.name, refusal.reason))
            objects = {}
        for suffix, (folder, content) in objects.items():
            if content is None:
                lacking.append(Notice(Code.NO_PATHWAY.name, f"no {suffix} file: {Code.NO_PATHWAY.summary}"))
            else:
                path = folder / f"{made.name}.{suffix}.dcm"
                write_atomic(path, content)
                self.written.append(path)
        if self.html is not None:
            write_patient_page(made.page(show_faces=self.show_faces), self.html / f"{made.name}.html")
        if self.pdf is not None:
            write_patient_pdf(made.page(show_faces=self.show_faces), self.pdf / f"{made.name}.pdf")
        return lacking

    def _make_objects(self, made: Results) -> dict[str, tuple[Path, bytes | None]]:
        """Suffix to the folder and the file, which is None where the model has no map or region."""
        region = made.region if self.seg is not None else None
        found: dict[str, tuple[Path, bytes | None]] = {}
        if self.seg is not None:
            found["seg"] = self.seg, None if region is None else region.segmentation
        if self.pm is not None:
            found["pm"] = self.pm, made.parametric_map
        if self.sr is not None:
            found["sr"] = self.sr, made.make_report(region)
        return found


@dataclass(frozen=True, eq=False)
class Results:
    """What is made of one predicted scan, each thing once and when it is asked for."""

    predicted: PredictedScan

    @property
    def label(self) -> str:
        """Model and endpoint."""
        return f"{self.predicted.model.name}, {self.predicted.prediction.endpoint}"

    @property
    def name(self) -> str:
        """Of the files, without identity."""
        said = self.predicted.prediction
        return ".".join((said.patient, said.series_uid, file_name(said.endpoint), file_name(self.predicted.model.name)))

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What was overridden, then what is unusual."""
        return (*self.predicted.prediction.forced, *self.predicted.prediction.flags)

    @cached_property
    def relevance(self) -> RiskMap | None:
        """What each voxel of the model's grid adds to the risk; None for a model that has no map."""
        try:
            return explain(self.predicted.model, self.predicted.cohort.without_outcomes(), checks=False)
        except ConfigurationError as refusal:
            if refusal.code is not Code.NO_PATHWAY:
                raise
            return None

    @cached_property
    def relevance_of_scan(self) -> npt.NDArray[np.float32] | None:
        """The same for each voxel of the scan, of PET and CT together."""
        if self.relevance is None:
            return None
        return to_scan(self.relevance.total, self.predicted.cohort.grid, self.predicted.volume.geometry)

    @cached_property
    def source(self) -> Source:
        """Headers of the scan."""
        series = self.predicted.series
        if not isinstance(series, PETSeries):
            raise UnusableScanError(Code.NO_DICOM_SOURCE, "the scan is a NIfTI file")
        return read_source(series, self.predicted.volume.geometry)

    @cached_property
    def region(self) -> SegmentedRegion | None:
        """The region of the model, or the voxels that hold half of what raises the risk; None where it has neither."""
        model = self.predicted.model
        if isinstance(model, RadiomicsModel):
            mask, region = _find_region(model, self.predicted), "region of the features"
        elif self.relevance_of_scan is not None:
            mask, region = find_strongest(self.relevance_of_scan), "half of what raises the risk"
        else:
            return None
        return None if mask is None or not mask.any() else self._segment(mask, region)

    def _segment(self, mask: npt.NDArray[np.bool_], region: str) -> SegmentedRegion:
        digest, volume = self.predicted.model_digest, self.predicted.volume
        segmentation = make_segmentation(self.source, mask, label=self.label, region=region, model_digest=digest)
        volume_ml = float(mask.sum()) * volume.geometry.voxel_volume_ml
        return SegmentedRegion(segmentation, volume_ml, float(volume.array[mask].max()))

    @property
    def parametric_map(self) -> bytes | None:
        """The map as DICOM; None where the model has none."""
        if self.relevance_of_scan is None:
            return None
        return make_parametric_map(
            self.source, self.relevance_of_scan, label=self.label, meaning="what each voxel adds to the risk",
            model_digest=self.predicted.model_digest,
        )  # fmt: skip

    def make_report(self, region: SegmentedRegion | None) -> bytes:
        """The numbers and notices as DICOM, with what is known of a region."""
        said = self.predicted.prediction
        measured = {shown: getattr(said, name) for name, shown in NAMES.items()}
        return make_structured_report(
            self.source, label=self.label, endpoint=said.endpoint, region=region,
            measured={shown: value for shown, value in measured.items() if value is not None},
            flags={one.code: one.reason for one in self.notices}, model_digest=self.predicted.model_digest,
        )  # fmt: skip

    def page(self, *, show_faces: bool = False) -> PatientPage:
        """What the page tells."""
        predicted, said = self.predicted, self.predicted.prediction
        cohort, card = predicted.cohort, training_record(predicted.model).card
        (subject,) = cohort.subjects
        found = self.relevance
        hu = None if found is None or found.of_ct is None else read_hu(cohort, subject)
        return PatientPage(
            said.patient, predicted.model.name, said.endpoint, _say_numbers(predicted),
            [(one.code, one.reason) for one in said.forced], [(one.code, one.reason) for one in said.flags],
            list(describe_card(card, predicted.model_digest)),
            StoredScan(cohort.volume(subject), cohort.grid.spacing_mm, cohort.contour(subject), hu),
            None if found is None else StoredMap(found.values, found.of_ct), show_faces, _make_scales(predicted),
        )  # fmt: skip


def _find_region(model: RadiomicsModel, predicted: PredictedScan) -> npt.NDArray[np.bool_] | None:
    """Where the features of a scan that the model has predicted were measured."""
    for region in model.regions:
        try:
            return region.find(predicted.cohort.subjects[0].scan, predicted.volume).array
        except UnusableScanError:
            continue
    return None


def _say_numbers(predicted: PredictedScan) -> list[tuple[str, str]]:
    """The numbers with their intervals, the probability first where there is one."""
    said = predicted.prediction
    shown = [("probability", said.probability, said.probability_low, said.probability_high)]
    shown.append(("risk", said.risk, said.risk_low, said.risk_high))
    rows = [(name, _with_interval(value, low, high)) for name, value, low, high in shown if value is not None]
    if said.percentile is not None:
        rows.append((_name_percentile(predicted), f"{said.percentile:.0f}"))
    return rows


def _make_scales(predicted: PredictedScan) -> dict[str, Scale]:
    """Axes of the numbers that have two ends, by the names that :func:`_say_numbers` gives."""
    said, scales = predicted.prediction, {}
    if said.probability is not None:
        scales["probability"] = Scale(said.probability, 1, said.probability_low, said.probability_high)
    if said.percentile is not None:
        scales[_name_percentile(predicted)] = Scale(said.percentile, 100)
    return scales


def _name_percentile(predicted: PredictedScan) -> str:
    return f"percentile among {training_record(predicted.model).card.trained_on.n} training patients"


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    interval = "" if low is None or high is None else f" ({number(low)} to {number(high)})"
    return f"{number(value)}{interval}"
