"""The artefacts of a study folder, as far as the report needs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AliasPath, Field, TypeAdapter

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, Exclusion
from twobe3.core.grid import Grid
from twobe3.core.outcomes import Kind
from twobe3.core.prediction import Prediction
from twobe3.core.volume import Acquisition, SUVCalibration
from twobe3.evaluation.csv import read_predictions
from twobe3.evaluation.explanations import EXPLANATIONS, RECORD, Explanations
from twobe3.evaluation.patients import PatientRecord, PatientRecords
from twobe3.evaluation.provenance import Provenance
from twobe3.evaluation.results import EvaluationResults
from twobe3.io.artefact import read_artefact
from twobe3.io.checksums import require_as_written

ARTEFACTS = ("cohort.json", "evaluation.json", "run.json", "predictions.csv", "patients.json")
"""What the report reads."""


@dataclass(frozen=True, kw_only=True)
class SubjectRecord:
    """One scan that was used."""

    patient: str
    series: str
    centre: str
    volume: str
    covariates: Mapping[str, float | str | None]
    manufacturer: str | None = None
    model: str | None = None
    tracer: str | None = None
    slices: int
    spacing_mm: tuple[float, float, float]
    contour: bool
    ct_volume: str = ""
    acquisition: Acquisition = field(default_factory=Acquisition)
    calibration: SUVCalibration


@dataclass(frozen=True)
class EndpointRecord:
    """What is predicted, and for how many patients it is known."""

    name: str
    kind: Kind
    unit: str | None
    n: int
    events: int
    event_definition: str = ""


@dataclass(frozen=True)
class CohortRecord:
    """``cohort.json``; keys that the report doesn't need are passed over."""

    digest: str
    found: int
    used: int
    excluded: int
    grid: Grid
    endpoints: tuple[EndpointRecord, ...]
    subjects: tuple[SubjectRecord, ...]
    exclusions: tuple[Exclusion, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ValidationRecord:
    """How the patients were divided."""

    scheme: str = "cross-validation"
    folds: int
    repeats: int = 1
    inner_folds: int | None = None
    seed: int = 0
    recalibrate: bool = False


@dataclass(frozen=True, kw_only=True)
class RunRecord(Provenance):
    """``run.json``, and what its configuration says of the validation."""

    validation: Annotated[ValidationRecord, Field(validation_alias=AliasPath("configuration", "validation"))]


@dataclass(frozen=True)
class StudyFolder:
    """Every artefact that the report is made from."""

    path: Path
    cohort: CohortRecord
    evaluation: EvaluationResults
    run: RunRecord
    predictions: tuple[Prediction, ...]
    patients: tuple[PatientRecord, ...]
    explanations: Explanations = field(default_factory=Explanations)
    show_faces: bool = False  # in pictures

    @classmethod
    def read(cls, path: Path, *, show_faces: bool = False) -> StudyFolder:
        """Read the artefacts of a study folder; raises as :func:`~twobe3.report.write_report`."""
        predictions = path / "predictions.csv"
        if not path.is_dir():
            reason = f"{path.name or path} is {'a file' if path.exists() else 'not there'}, not the folder of a study"
            raise ConfigurationError(Code.ARTEFACT_MISSING, reason, remedy="name the output folder of `twobe3 run`")
        if not predictions.is_file():
            raise ConfigurationError(Code.ARTEFACT_MISSING, f"{predictions.name} is not in the study folder")
        explained = path / EXPLANATIONS / RECORD
        for artefact in (*(path / name for name in ARTEFACTS), explained):
            require_as_written(artefact)
        return cls(
            path,
            read_artefact(path / "cohort.json", TypeAdapter(CohortRecord)),
            EvaluationResults.read(path / "evaluation.json"),
            read_artefact(path / "run.json", TypeAdapter(RunRecord)),
            tuple(read_predictions(predictions)),
            PatientRecords.read(path / "patients.json").patients,
            Explanations.read(explained) if explained.exists() else Explanations(),
            show_faces,
        )
