"""What the report reads: the artefacts of a study folder as typed, frozen records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure, Exclusion
from twobe3.core.outcomes import Kind
from twobe3.core.prediction import Prediction
from twobe3.evaluation.csv import read_predictions
from twobe3.io.files import SCHEMA_VERSION


class Record(BaseModel):
    """A part of an artefact; keys that the report doesn't need are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=(), allow_inf_nan=False)


class Artefact(Record):
    """A whole JSON artefact, of the schema that this version writes."""

    schema_version: Literal[1] = Field(alias="schema")
    package_version: str


class Calibration(Record):
    """How a scan became SUV."""

    type: str
    rule: str
    warnings: tuple[str, ...] = ()


class Subject(Record):
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
    calibration: Calibration


class Grid(Record):
    """The voxels that every scan was resampled to: spacing and extent along slices, rows, columns."""

    spacing_mm: tuple[float, float, float]
    field_of_view_mm: tuple[float, float, float]


class Endpoint(Record):
    """What is predicted, and for how many patients it is known."""

    name: str
    kind: Kind
    unit: str | None = None
    n: int
    events: int | None = None


class Cohort(Artefact):
    """``cohort.json``."""

    digest: str
    found: int
    used: int
    excluded: int
    grid: Grid
    endpoints: tuple[Endpoint, ...]
    subjects: tuple[Subject, ...]
    exclusions: tuple[Exclusion, ...]
    warnings: tuple[str, ...] = ()


class MetricValue(Record):
    """A figure of merit with its 95 % interval; a value of None could not be estimated."""

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    estimator: str = ""
    failed_resamples: int = 0


class Curve(Record):
    """One line of a figure, with an optional band; None breaks the line."""

    name: str
    label: str
    x: tuple[float | None, ...]
    y: tuple[float | None, ...]
    low: tuple[float | None, ...] | None = None
    high: tuple[float | None, ...] | None = None


class Group(Record):
    """Patients of similar risk, and how many of them are at risk at each time."""

    name: str
    n: int
    events: int
    at_risk: tuple[int, ...]


class RiskGroups(Record):
    """The groups that a model's risk forms; p is that of the log-rank test."""

    cutoff: str
    p: float | None
    times: tuple[float, ...]
    groups: tuple[Group, ...]


class PrimaryMetric(Record):
    """By which metric the models of an endpoint are ranked and compared, and why."""

    metric: str
    reason: str


class ModelResult(Record):
    """How one model did on one endpoint."""

    endpoint: str
    kind: Kind
    model: str
    n: int
    events: int | None = None
    repeats: int
    metrics: tuple[MetricValue, ...]
    curves: tuple[Curve, ...] = ()
    risk_groups: RiskGroups | None = None
    basis: PrimaryMetric | None = None


class DifferenceTest(Record):
    """One more test of the difference of two models."""

    name: str
    p: float | None
    p_holm: float | None
    method: str


class Comparison(Record):
    """Difference of a metric between two models on the same patients, ``model_a`` minus ``model_b``."""

    endpoint: str
    metric: str
    model_a: str
    model_b: str
    n: int
    difference: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    estimator: str = ""
    tests: tuple[DifferenceTest, ...] = ()
    patients_needed: int | None = None


class Subgroup(Record):
    """The primary metric of one model in one part of the cohort."""

    endpoint: str
    model: str
    metric: str
    factor: str
    level: str
    n: int
    events: int
    value: float | None
    low: float | None
    high: float | None
    warning: str


class Missing(Record):
    """For how many of how many patients something is not known."""

    what: str
    missing: int
    n: int


class ModelSize(Record):
    """A model's candidate parameters, and the patients that so many need."""

    model: str
    parameters: int
    events_per_parameter: float
    patients_needed: int


class SampleSize(Record):
    """What a cohort is enough for."""

    endpoint: str
    n: int
    events: int
    r2: float
    parameters: int
    models: tuple[ModelSize, ...]


class ModelExclusions(Record):
    """A scan that a model cannot use, or, without a patient, a feature that it leaves out."""

    model: str
    patient: str
    code: str
    reason: str
    remedy: str


class Evaluation(Artefact):
    """``evaluation.json``."""

    models: tuple[ModelResult, ...]
    comparisons: tuple[Comparison, ...] = ()
    subgroups: tuple[Subgroup, ...] = ()
    missing: tuple[Missing, ...] = ()
    exclusions: tuple[ModelExclusions, ...] = ()
    sample_sizes: tuple[SampleSize, ...] = ()


class Platform(Record):
    """Where the study ran."""

    python: str
    torch: str
    numpy: str
    processor: str
    cores: int
    device: str = ""
    precision: str = ""


class Timing(Record):
    """How long one step took."""

    step: str
    seconds: float


class ModelEntry(Record):
    """A model as it was configured."""

    name: str
    kind: str
    description: str = ""
    parameters: dict[str, Any] = {}
    seconds: float | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether it is a trivial explanation that the other models must beat."""
        return self.kind == "baseline" or self.parameters.get("voxels") == "shuffled"


class Validation(Record):
    """How the patients were divided."""

    scheme: str = "cross-validation"
    folds: int
    repeats: int = 1
    inner_folds: int | None = None
    seed: int = 0
    recalibrate: bool = False


class Permuted(Record):
    """What a model predicts of outcomes that were dealt out at random: 0.5, unless something leaks."""

    endpoint: str
    model: str
    metric: str
    permutations: int
    mean: float | None
    low: float | None
    high: float | None
    covers_half: bool


class Audit(Record):
    """The leakage audit."""

    passed: bool
    folds: int
    shared: tuple[str, ...]
    joined: int
    seeing: tuple[str, ...]
    permuted: tuple[Permuted, ...]
    site: str | None


class Configuration(Record):
    """The part of the study file that the methods paragraph tells."""

    validation: Validation


class Run(Artefact):
    """``run.json``."""

    study: str
    started: str
    seconds: float
    peak_memory_mib: float | None = None
    configuration: Configuration
    configuration_digest: str
    platform: Platform
    timings: tuple[Timing, ...] = ()
    models: tuple[ModelEntry, ...]
    notes: tuple[str, ...] = ()
    audit: Audit | None = None


@dataclass(frozen=True)
class StudyFolder:
    """Every artefact that the report is made from."""

    path: Path
    cohort: Cohort
    evaluation: Evaluation
    run: Run
    predictions: tuple[Prediction, ...]


R = TypeVar("R", bound=Artefact)


def read_study(path: Path) -> StudyFolder:
    """Read the artefacts of a study folder.

    Raises
    ------
    ConfigurationError
        ``ARTEFACT_MISSING``, naming the file that is not there; ``PREDICTION_INVALID``.
    EnvironmentFailure
        ``ARTEFACT_DAMAGED``, naming the file and the key that is not as this version writes it.
    """
    predictions = path / "predictions.csv"
    if not predictions.is_file():
        raise _missing(predictions.name)
    return StudyFolder(
        path,
        read_json(path / "cohort.json", Cohort),
        read_json(path / "evaluation.json", Evaluation),
        read_json(path / "run.json", Run),
        tuple(read_predictions(predictions)),
    )


def read_json(path: Path, kind: type[R]) -> R:
    """Read one JSON artefact; raises what :func:`read_study` does."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise _missing(path.name) from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise EnvironmentFailure(
            Code.ARTEFACT_DAMAGED, f"{path.name}: {where}: {first['msg']}; schema {SCHEMA_VERSION} is expected"
        ) from None


def _missing(name: str) -> ConfigurationError:
    return ConfigurationError(Code.ARTEFACT_MISSING, f"{name} is not in the study folder")
