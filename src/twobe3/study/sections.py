"""The tables of a study file, each with the keys that it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from twobe3.cohort.splits import CrossValidation, FoldsFile, LeaveOneCentreOut, PredefinedSplit, Scheme
from twobe3.collections.adapters import PATIENT, get_adapter
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid
from twobe3.core.outcomes import Endpoint
from twobe3.core.table import Table, is_missing, quote_cell, require_columns
from twobe3.io.clinical_table import read_table
from twobe3.runtime.device import Device, DeviceName, Precision
from twobe3.runtime.jobs import Jobs, Queue
from twobe3.scans.regions import Region

Length = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Lengths = tuple[Length, Length, Length]

Values = str | int | float | bool | tuple[str | int | float | bool, ...]
"""A value of a column, or several."""

Directive = Annotated[str, Field(pattern=r"^[^\n\r]*$")]
"""What stands in a line of a job's script."""

QUEUE_KEYS = ("cluster", "jobs", "cores", "memory", "walltime", "queue", "account", "interface", "directives")
WORKER_KEYS = {"scheduler", "address", *QUEUE_KEYS, "patience_min"}

Source = Literal["table", "header"]
"""Where an endpoint comes from: a column of the clinical table, or what every header carries."""


class Section(BaseModel):
    """A table of the study file; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ClinicalTable(NamedTuple):
    """The clinical table of a cohort, and the columns that say where a patient was scanned and what the tumour is."""

    rows: Table
    centre: str | None
    roi: str | None


class ImagesSection(Section):
    """Where scans are; paths are relative to the file.

    ``images`` may be several folders, such as those of several collections; a patient id is then one patient in all of
    them.
    """

    images: str | tuple[str, ...]

    def folders(self, folder: Path) -> list[Path]:
        """The folders of images, of a file in ``folder``."""
        return [folder / name for name in ((self.images,) if isinstance(self.images, str) else self.images)]

    @model_validator(mode="after")
    def _must_name_a_folder(self) -> Self:
        if not self.images:
            raise ValueError("`images` names no folder")
        return self


class ScansSection(ImagesSection):
    """Where scans and their clinical table are; paths are relative to the study file.

    Without ``clinical`` every endpoint must have ``source = "header"``. With ``collection``, the name of an
    adapter, ``clinical`` is what that collection publishes: one file or several.
    """

    clinical: str | tuple[str, ...] | None = None
    collection: str | None = None
    sheet: str = ""
    encoding: str = ""
    patient: str = "patient_id"
    centre: str | None = None
    roi: str | None = None

    def read_clinical(self, folder: Path) -> ClinicalTable:
        """Read the clinical table of a study file that lies in ``folder``.

        Raises
        ------
        ConfigurationError
            See :func:`~twobe3.io.clinical_table.read_table` and :meth:`~twobe3.collections.adapters.Adapter.read`.
        """
        if self.clinical is None:
            return ClinicalTable({}, None, None)
        names = (self.clinical,) if isinstance(self.clinical, str) else self.clinical
        files = [folder / name for name in names]
        if self.collection is None:
            table = read_table(files[0], patient=self.patient, sheet=self.sheet, encoding=self.encoding)
            return ClinicalTable(table, self.centre, self.roi)
        adapted = get_adapter(self.collection).read(files)
        return ClinicalTable(adapted.table, self.centre or adapted.centre, self.roi or adapted.roi)

    @model_validator(mode="after")
    def _must_be_one_table(self) -> Self:
        if self.clinical is None:
            if self.collection or self.centre or self.roi:
                raise ValueError("`collection`, `centre` and `roi` need `clinical`")
            return self
        if self.collection is not None:
            get_adapter(self.collection)
            if self.sheet or self.encoding:
                raise ValueError("`collection` knows its sheets: `sheet` and `encoding` are for a table of your own")
            if self.patient != PATIENT:
                raise ValueError(f"with `collection` the patient's column is {PATIENT!r}")
        elif not isinstance(self.clinical, str):
            raise ValueError("several files in `clinical` need `collection`, which says how to read them")
        if not self.clinical:
            raise ValueError("`clinical` names no file")
        return self


class CohortSection(ScansSection):
    """``[cohort]``: where the scans and the clinical table are."""

    covariates: tuple[str, ...] = ()
    policy: Literal["lenient", "strict"] = "lenient"
    repair_dates: bool = False


class BinarySection(Section):
    """``[endpoint]`` with ``kind = "binary"``."""

    kind: Literal["binary"]
    name: str
    column: str
    positive: Values = ""
    source: Source = "table"

    def endpoint(self) -> Endpoint:
        """The endpoint that the table describes."""
        return Binary(self.name, self.column, _to_text(self.positive))


class TimeToEventSection(Section):
    """``[endpoint]`` with ``kind = "time-to-event"``; ``horizons`` are times in its unit at which it is evaluated.

    Either ``time`` is a column of times, or ``start`` and ``end`` are columns of dates.
    """

    kind: Literal["time-to-event"]
    name: str
    time: str = ""
    start: str = ""
    end: str = ""
    date_format: str = ""
    event: str
    positive: Values = ""
    unit: Literal["day", "week", "month", "year"] = "day"
    competing: Values = ""
    time_zero: str = "the scan"
    horizons: tuple[Length, ...] = ()
    source: Literal["table"] = "table"

    def endpoint(self) -> Endpoint:
        """The endpoint that the table describes."""
        return TimeToEvent(
            self.name, self.time, self.event, self.unit, _to_text(self.competing), self.time_zero,
            positive=_to_text(self.positive), start=self.start, end=self.end, date_format=self.date_format,
        )  # fmt: skip

    @model_validator(mode="after")
    def _must_have_times(self) -> Self:
        if bool(self.time) == bool(self.start or self.end) or bool(self.start) != bool(self.end):
            raise ValueError("give either `time`, a column of times, or `start` and `end`, columns of dates")
        if self.date_format and self.time:
            raise ValueError("`date_format` is that of `start` and `end`")
        return self


class ContinuousSection(Section):
    """``[endpoint]`` with ``kind = "continuous"``."""

    kind: Literal["continuous"]
    name: str
    column: str
    unit: str = ""
    source: Source = "table"

    def endpoint(self) -> Endpoint:
        """The endpoint that the table describes."""
        return Continuous(self.name, self.column, self.unit)


EndpointSection = Annotated[BinarySection | TimeToEventSection | ContinuousSection, Field(discriminator="kind")]


class VolumeSection(Section):
    """``[volume]``: the grid on which the models see the scans; along the body, then rows, columns."""

    spacing_mm: Length | Lengths = 4.0
    field_of_view_mm: Lengths = (1024.0, 512.0, 512.0)

    def grid(self) -> Grid:
        """The grid."""
        return Grid(self.spacing_mm, self.field_of_view_mm)

    @model_validator(mode="after")
    def _must_be_a_grid(self) -> Self:
        self.grid()
        return self


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
    baselines: bool = True
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

    def scheme_for(self, folder: Path, table: Table) -> Scheme:
        """The scheme of a study file that lies in ``folder``, to which ``folds_file`` is relative.

        ``split`` names a column of the clinical ``table``.

        Raises
        ------
        ConfigurationError
            ``COLUMN_MISSING``; ``SPLIT_INVALID`` when a cell of the column is neither empty, train nor test.
        """
        if self.folds_file is not None:
            return FoldsFile(folder / self.folds_file)
        if self.scheme == "cross-validation":
            return CrossValidation(self.folds, self.repeats, self.seed)
        if self.scheme == "leave-one-centre-out":
            return LeaveOneCentreOut()
        if self.split is None:
            return PredefinedSplit(self.train, self.test)
        return PredefinedSplit(*_split_sides(table, self.split), by="patient")


class ExternalSection(ScansSection):
    """``[external]``: a second cohort; models fitted on all patients of the first are evaluated on it."""


class DeviceSection(Section):
    """Where networks compute, and in which precision they are trained."""

    device: DeviceName = "auto"
    precision: Precision = "auto"

    def resolve(self, device: DeviceName | None = None, precision: Precision | None = None) -> Device:
        """The device of the models; what is given goes before the section."""
        return Device(device or self.device, precision or self.precision)


class ComputeSection(DeviceSection):
    """``[compute]``: where networks compute, in which precision they are trained, and which workers do the tasks.

    With ``scheduler = "dask"`` these are workers of the scheduler at ``address``, or jobs that are submitted to a
    ``cluster``, see :class:`~twobe3.runtime.jobs.Jobs`. Whoever waits longer than ``patience_min`` for a worker gives
    up.
    """

    scheduler: Literal["local", "dask"] = "local"
    address: Annotated[str, Field(pattern=r"^(tcp|tls)://[\w.:\[\]-]+:\d+$")] | None = None
    cluster: Queue | None = None
    jobs: int = Field(default=1, ge=1)
    cores: int = Field(default=1, ge=1)
    memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)? ?[kMGT]i?B$")] | None = None
    walltime: Directive = ""
    queue: Directive = ""
    account: Directive = ""
    interface: Annotated[str, Field(pattern=r"^[\w.:-]*$")] = ""
    directives: tuple[Directive, ...] = ()
    patience_min: Length = 60.0

    def to_jobs(self) -> Jobs | None:
        """What is asked of a queue; None without one."""
        if self.cluster is None or self.memory is None:
            return None
        return Jobs(
            self.cluster, self.jobs, self.cores, self.memory, self.walltime, self.queue, self.account, self.interface,
            self.directives,
        )  # fmt: skip

    @model_validator(mode="after")
    def _must_name_its_workers(self) -> Self:
        named = [key for key in QUEUE_KEYS if key in self.model_fields_set]
        if self.scheduler == "local" and self.model_fields_set & (WORKER_KEYS - {"scheduler"}):
            raise ValueError('`address`, `cluster` and what belongs to them need scheduler = "dask"')
        if self.scheduler == "dask" and (self.address is None) == (self.cluster is None):
            raise ValueError('scheduler = "dask" needs either `address`, of a scheduler, or `cluster`, of a queue')
        if self.cluster is None and named:
            raise ValueError(f"`{named[0]}` is asked of a queue, which `cluster` names")
        if self.cluster is not None and self.memory is None:
            raise ValueError("a job needs `memory`")
        return self


class ReportSection(Section):
    """``[report]``: what the report shows beside the models' results.

    ``subgroups`` are columns of the clinical table, beside sex, age, centre and scanner, whose levels are reported.
    ``explain`` asks for maps of where the risks come from, out of fold: of all models that see voxels, or of those
    whose names it lists, for which contributions of features and members will do too.
    """

    subgroups: tuple[str, ...] = ()
    explain: bool | tuple[str, ...] = False


SECTIONS: dict[str, type[Section | Region]] = {
    "cohort": CohortSection,
    "binary": BinarySection,
    "time-to-event": TimeToEventSection,
    "continuous": ContinuousSection,
    "volume": VolumeSection,
    "region": Region,
    "validation": ValidationSection,
    "external": ExternalSection,
    "compute": ComputeSection,
    "report": ReportSection,
}


def _to_text(values: Values) -> str | tuple[str, ...]:
    return tuple(map(str, values)) if isinstance(values, tuple) else str(values)


def _split_sides(table: Table, column: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The patients who train, and those who are tested, as a column says; who has an empty cell does neither."""
    require_columns(table, [column])
    words = {patient: row[column].strip().lower() for patient, row in table.items()}
    odd = {
        quote_cell(table[patient][column], table)
        for patient, word in words.items()
        if word not in ("train", "test") and not is_missing(word)
    }
    if odd:
        raise ConfigurationError(
            Code.SPLIT_INVALID,
            f"column {column!r} must hold train or test, or be empty; it also has {', '.join(sorted(odd)[:5])}",
        )
    train, test = (tuple(patient for patient, word in words.items() if word == side) for side in ("train", "test"))
    return train, test
