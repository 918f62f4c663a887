"""The artefacts of a study folder, as far as the report needs them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import AliasPath, BaseModel, ConfigDict, Field, TypeAdapter

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, Exclusion
from twobe3.core.grid import Grid
from twobe3.core.outcomes import Kind
from twobe3.core.prediction import Prediction
from twobe3.evaluation.csv import read_predictions
from twobe3.evaluation.results import EvaluationResults
from twobe3.io.artefact import read_artefact


class Record(BaseModel):
    """A part of an artefact; keys that the report doesn't need are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class CalibrationRecord(Record):
    """How a scan became SUV."""

    type: str
    rule: str
    warnings: tuple[str, ...] = ()


class SubjectRecord(Record):
    """One scan that was used."""

    patient: str
    series: str
    centre: str | None = None
    volume: str
    covariates: dict[str, float | str | None] = {}
    manufacturer: str | None = None
    model: str | None = None
    tracer: str | None = None
    slices: int
    spacing_mm: tuple[float, float, float]
    contour: bool
    calibration: CalibrationRecord


class EndpointRecord(Record):
    """What is predicted, and for how many patients it is known."""

    name: str
    kind: Kind
    unit: str | None
    n: int
    events: int


class CohortRecord(Record):
    """``cohort.json``."""

    digest: str
    found: int
    used: int
    excluded: int
    grid: Grid
    endpoints: tuple[EndpointRecord, ...]
    subjects: tuple[SubjectRecord, ...]
    exclusions: tuple[Exclusion, ...]
    warnings: tuple[str, ...]


class ModelRecord(Record):
    """A model as it was configured."""

    name: str
    kind: str
    description: str
    parameters: dict[str, Any]
    seconds: float | None

    @property
    def is_baseline(self) -> bool:
        """Whether it is a trivial explanation that the other models must beat."""
        return self.kind == "baseline" or self.parameters.get("voxels") == "shuffled"


class ValidationRecord(Record):
    """How the patients were divided."""

    scheme: str = "cross-validation"
    folds: int
    repeats: int = 1
    inner_folds: int | None = None
    seed: int = 0
    recalibrate: bool = False


class PlatformRecord(Record):
    """Where the study ran."""

    python: str
    torch: str
    numpy: str
    processor: str
    cores: int
    device: str
    precision: str


class TimingRecord(Record):
    """How long one step took."""

    step: str
    seconds: float


class PermutedRecord(Record):
    """What a model predicts of permuted outcomes: 0.5, unless something leaks."""

    endpoint: str
    model: str
    metric: str
    permutations: int
    mean: float | None
    low: float | None
    high: float | None
    covers_half: bool


class AuditRecord(Record):
    """The leakage audit."""

    passed: bool
    folds: int
    shared: tuple[str, ...]
    joined: int
    seeing: tuple[str, ...]
    permuted: tuple[PermutedRecord, ...]
    site: str | None


class RunRecord(Record):
    """``run.json``."""

    package_version: str
    study: str
    started: str
    seconds: float
    peak_memory_mib: float | None
    validation: ValidationRecord = Field(validation_alias=AliasPath("configuration", "validation"))
    configuration_digest: str
    platform: PlatformRecord
    timings: tuple[TimingRecord, ...]
    models: tuple[ModelRecord, ...]
    notes: tuple[str, ...]
    audit: AuditRecord | None = None


@dataclass(frozen=True)
class StudyFolder:
    """Every artefact that the report is made from."""

    path: Path
    cohort: CohortRecord
    evaluation: EvaluationResults
    run: RunRecord
    predictions: tuple[Prediction, ...]

    @classmethod
    def read(cls, path: Path) -> StudyFolder:
        """Read the artefacts of a study folder; raises as :func:`~twobe3.report.write_report`."""
        predictions = path / "predictions.csv"
        if not predictions.is_file():
            raise ConfigurationError(Code.ARTEFACT_MISSING, f"{predictions.name} is not in the study folder")
        return cls(
            path,
            read_artefact(path / "cohort.json", TypeAdapter(CohortRecord)),
            EvaluationResults.read(path / "evaluation.json"),
            read_artefact(path / "run.json", TypeAdapter(RunRecord)),
            tuple(read_predictions(predictions)),
        )
