"""The study file: what to read, what to predict, with which models, and how it is validated."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from twobe3.artefact import digest
from twobe3.decisions import Deciding
from twobe3.errors import Code, UsageError
from twobe3.features.backbones import is_weights_file
from twobe3.features.maps import FeatureStore
from twobe3.models import MODELS, Model
from twobe3.outcome import Binary, Continuous, Endpoint, Table, TimeToEvent, is_missing, require_columns
from twobe3.regions import Fraction, Region, RegionKind, ROINames, ThresholdSUV
from twobe3.resample import VolumeSpec
from twobe3.splits import CrossValidation, LeaveOneCentreOut, NamedSplit, SavedFolds, Scheme

Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Lengths = tuple[Length, Length, Length]


class Section(BaseModel):
    """A table of the study file; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class CohortSection(Section):
    """``[cohort]``: where the scans and the clinical table are; paths are relative to the study file."""

    images: str
    clinical: str
    patient: str = "patient_id"
    centre: str | None = None
    policy: Literal["lenient", "strict"] = "lenient"
    repair_dates: bool = False


class BinarySection(Section):
    """``[endpoint]`` with ``kind = "binary"``."""

    kind: Literal["binary"]
    name: str
    column: str
    positive: str | int | float | bool = 1

    def endpoint(self) -> Endpoint:
        """The endpoint that the table describes."""
        return Binary(self.name, self.column, str(self.positive))


class TimeToEventSection(Section):
    """``[endpoint]`` with ``kind = "time-to-event"``."""

    kind: Literal["time-to-event"]
    name: str
    time: str
    event: str
    unit: Literal["day", "week", "month", "year"] = "day"
    competing: str | int = ""
    time_zero: str = "the scan"

    def endpoint(self) -> Endpoint:
        """The endpoint that the table describes."""
        return TimeToEvent(self.name, self.time, self.event, self.unit, str(self.competing), self.time_zero)


class ContinuousSection(Section):
    """``[endpoint]`` with ``kind = "continuous"``."""

    kind: Literal["continuous"]
    name: str
    column: str
    unit: str = ""

    def endpoint(self) -> Endpoint:
        """The endpoint that the table describes."""
        return Continuous(self.name, self.column, self.unit)


EndpointSection = Annotated[BinarySection | TimeToEventSection | ContinuousSection, Field(discriminator="kind")]


class VolumeSection(Section):
    """``[volume]``: the grid on which the models see the scans; along the body, then rows, columns."""

    spacing_mm: Length | Lengths = 4.0
    field_of_view_mm: Lengths = (1024.0, 512.0, 512.0)

    def spec(self) -> VolumeSpec:
        """The grid."""
        spacing = self.spacing_mm
        return VolumeSpec(spacing if isinstance(spacing, tuple) else (spacing,) * 3, self.field_of_view_mm)

    @model_validator(mode="after")
    def _must_be_a_grid(self) -> Self:
        self.spec()
        return self


class RegionSection(Section):
    """``[region]``: where every model that measures a region measures it, unless it names its own."""

    kind: RegionKind = "contour"
    roi: ROINames = ()
    threshold_suv: ThresholdSUV = 4.0
    fraction: Fraction = 0.41

    def region(self) -> Region:
        """The region."""
        return Region(self.kind, self.roi, self.threshold_suv, self.fraction)

    def parameters(self) -> dict[str, Any]:
        """The same as parameters of a model."""
        return {"region": self.kind, "roi": self.roi, "threshold_suv": self.threshold_suv, "fraction": self.fraction}


class ValidationSection(Section):
    """``[validation]``: how the models are validated; every model sees the same folds.

    ``scheme = "split"`` takes two lists of centres, ``train`` and ``test``, or ``split``, a column of the clinical
    table that holds the words train and test. ``folds_file`` takes the folds of an earlier run instead of any scheme.
    """

    scheme: Literal["cross-validation", "leave-one-centre-out", "split"] = "cross-validation"
    folds: int = Field(default=5, ge=2)
    repeats: int = Field(default=1, ge=1)
    inner_folds: int = Field(default=4, ge=2)
    seed: int = Field(default=0, ge=0)
    resamples: int = Field(default=2000, ge=100)
    train: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    split: str | None = None
    folds_file: str | None = None
    recalibrate: bool = False
    audit: bool = False
    permutations: int = Field(default=20, ge=2)

    @model_validator(mode="after")
    def _must_name_one_split(self) -> Self:
        centres = bool(self.train or self.test)
        if self.scheme != "split" and (centres or self.split):
            raise ValueError('`train`, `test` and `split` need scheme = "split"')
        if self.scheme == "split" and (self.split is None) != (bool(self.train) and bool(self.test)):
            raise ValueError('scheme = "split" needs either `train` and `test`, lists of centres, or `split`, a column')
        if self.scheme == "split" and self.split is not None and centres:
            raise ValueError("give either `split` or `train` and `test`")
        return self

    def deciding(self) -> Deciding:
        """How each fold decides with its training patients."""
        return Deciding(self.recalibrate, self.inner_folds, self.seed)

    def chosen(self, folder: Path, table: Table) -> Scheme:
        """The scheme.

        Parameters
        ----------
        folder : Path
            Where the study file lies; ``folds_file`` is relative to it.
        table : mapping
            The clinical table, whose column ``split`` may name.

        Raises
        ------
        UsageError
            ``COLUMN_MISSING``; ``SPLIT_INVALID`` when a cell of the column is neither empty, train nor test.
        """
        if self.folds_file is not None:
            return SavedFolds(folder / self.folds_file)
        if self.scheme == "cross-validation":
            return CrossValidation(self.folds, self.repeats, self.seed)
        if self.scheme == "leave-one-centre-out":
            return LeaveOneCentreOut()
        if self.split is None:
            return NamedSplit(self.train, self.test)
        return NamedSplit(*_sides(table, self.split), by="patient")


class ExternalSection(Section):
    """``[external]``: a second cohort; models fitted on all patients of the first are judged on it."""

    images: str
    clinical: str
    patient: str = "patient_id"
    centre: str | None = None


class ReportSection(Section):
    """``[report]``: columns of the clinical table, beside sex, age, centre and scanner, whose levels are reported."""

    subgroups: tuple[str, ...] = ()


class StudyConfig(Section):
    """A whole study file.

    ``name`` and ``notes`` (caveats) are printed in the report; ``[endpoint]`` may be one table or several
    ``[[endpoint]]``; every ``[[model]]`` has a ``kind`` and any parameter of that model.
    """

    name: str = "study"
    notes: tuple[str, ...] = ()
    cohort: CohortSection
    endpoint: tuple[EndpointSection, ...] = Field(min_length=1)
    volume: VolumeSection = VolumeSection()
    region: RegionSection | None = None
    model: tuple[dict[str, Any], ...] = Field(min_length=1)
    validation: ValidationSection = ValidationSection()
    external: ExternalSection | None = None
    report: ReportSection = ReportSection()

    @field_validator("endpoint", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, dict) else value

    def document(self) -> dict[str, Any]:
        """The resolved study as JSON types."""
        return self.model_dump(mode="json")

    def identity(self) -> str:
        """Digest of the resolved study: two files that mean the same share it."""
        return digest([self.model_dump_json()])

    def models(self, folder: Path, store: FeatureStore) -> list[Model]:
        """The models, unfitted.

        Parameters
        ----------
        folder : Path
            Where the study file lies; ``weights`` files are relative to it.
        store : FeatureStore
            Shared by all of them.

        Raises
        ------
        UsageError
            ``UNKNOWN_NAME``, ``UNKNOWN_KEY`` or ``STUDY_FILE_INVALID``.
        """
        models = [self._model(dict(entry), folder, store) for entry in self.model]
        names = [model.name for model in models]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(
                    Code.STUDY_FILE_INVALID,
                    f"{names.count(name)} models are called {name!r}",
                    remedy="give each [[model]] its own `name`",
                )
        return models

    def _model(self, entry: dict[str, Any], folder: Path, store: FeatureStore) -> Model:
        kind = str(entry.pop("kind", None))
        if kind not in MODELS:
            near = difflib.get_close_matches(kind, MODELS, n=1)
            hint = f"the nearest is {near[0]!r}" if near else f"there are {', '.join(MODELS)}"
            raise UsageError(Code.UNKNOWN_NAME, f"[[model]] kind = {kind!r}: no such model; {hint}")
        known = [item.name for item in fields(MODELS[kind]) if item.init and item.name != "store"]
        for key in entry:
            if key not in known:
                raise _unknown_key(f"[[model]] {kind}", key, known)
        weights = entry.get("weights")
        if isinstance(weights, str) and is_weights_file(weights):
            entry["weights"] = str(folder / weights)
        shared = {"seed": self.validation.seed, "inner_folds": self.validation.inner_folds}
        defaults = {key: value for key, value in shared.items() if key in known}
        region = self.region.parameters() if self.region else {}
        if set(region) <= set(known):
            defaults |= region
        try:
            return MODELS[kind](**{**defaults, **entry}, store=store)
        except (ValidationError, ValueError) as error:
            raise UsageError(Code.STUDY_FILE_INVALID, f"[[model]] {kind}: {_first_problem(error)}") from None


def read_study(path: Path) -> StudyConfig:
    """Read a study file.

    Raises
    ------
    UsageError
        ``STUDY_FILE_INVALID``; ``UNKNOWN_KEY`` naming the nearest known key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(Code.STUDY_FILE_INVALID, f"{path.name}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(Code.STUDY_FILE_INVALID, f"{path.name}: {error}") from None
    try:
        return StudyConfig.model_validate(document)
    except ValidationError as error:
        for problem in error.errors():
            if problem["type"] == "extra_forbidden":
                raise _surplus(problem["loc"]) from None
        raise UsageError(Code.STUDY_FILE_INVALID, f"{path.name}: {_first_problem(error)}") from None


SECTIONS: dict[str, type[Section]] = {
    "cohort": CohortSection,
    "binary": BinarySection,
    "time-to-event": TimeToEventSection,
    "continuous": ContinuousSection,
    "volume": VolumeSection,
    "region": RegionSection,
    "validation": ValidationSection,
    "external": ExternalSection,
    "report": ReportSection,
}


def _sides(table: Table, column: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The patients who train, and those who are tested, as a column says; who has an empty cell does neither."""
    require_columns(table, [column])
    words = {patient: row[column].strip().lower() for patient, row in table.items()}
    odd = sorted({word for word in words.values() if word not in ("train", "test") and not is_missing(word)})
    if odd:
        raise UsageError(
            Code.SPLIT_INVALID, f"column {column!r} must hold train or test, or be empty; it also has {odd[:5]}"
        )
    train, test = (tuple(patient for patient, word in words.items() if word == side) for side in ("train", "test"))
    return train, test


def _surplus(location: tuple[int | str, ...]) -> UsageError:
    """The error about a key that pydantic found surplus, at e.g. ``("endpoint", 0, "binary", "colum")``."""
    *parents, key = [str(part) for part in location if not isinstance(part, int)]
    section = SECTIONS.get(parents[-1], StudyConfig) if parents else StudyConfig
    where = f"[{parents[0]}]" if parents else "the study file"
    return _unknown_key(where, key, list(section.model_fields))


def _unknown_key(where: str, key: str, known: list[str]) -> UsageError:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    hint = f"the nearest known key is {near[0]!r}" if near else f"known keys are {', '.join(known)}"
    return UsageError(Code.UNKNOWN_KEY, f"{where}: unknown key {key!r}; {hint}")


def _first_problem(error: ValidationError | ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])
