"""The tables of a study file, each with the keys that it knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from twobe3.cohort.splits import CrossValidation, FoldsFile, LeaveOneCentreOut, PredefinedSplit, Scheme
from twobe3.collections.adapters import PATIENT, get_adapter
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid, Modality
from twobe3.core.table import Table, is_missing, quote_cell, require_columns
from twobe3.io.clinical_table import read_table
from twobe3.scans.regions import Region
from twobe3.study.compute_section import ComputeSection
from twobe3.study.endpoint_sections import BinarySection, ContinuousSection, TimeToEventSection
from twobe3.study.section import Length, Section

Lengths = tuple[Length, Length, Length]


class ClinicalTable(NamedTuple):
    """The clinical table of a cohort, and the columns that say where a patient was scanned and what the tumour is."""

    rows: Table
    centre: str | None
    roi: str | None


class ImagesSection(Section):
    """Where scans are; paths are relative to the file.

    Parameters
    ----------
    images : str or tuple of str
        A folder, or several, of DICOM or of NIfTI that are SUV already, searched at any depth; one scan of each patient
        is used. A patient id is one patient in all folders.
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

    Parameters
    ----------
    clinical : str or tuple of str, optional
        The clinical table: text or an Excel sheet; with ``collection`` a list of files. Not needed where every endpoint
        has ``source = "header"``.
    collection : str, optional
        Name of an adapter: ``clinical`` is then what that collection publishes, spreadsheets included, and the columns
        of the patient, the centre and the contours are known.
    sheet : str
        Which sheet of an Excel workbook; needed where several show anything.
    encoding : str
        Of a table as text, for instance ``"cp1251"``; found out where it is not given.
    patient : str
        Its column with the id that ``PatientID`` (0010,0020), or ``patient_id`` of a sidecar, holds.
    centre : str, optional
        Its column with the centre.
    roi : str, optional
        Its column with the names of the drawn regions that are the tumour, separated by semicolons; a patient whose
        cell is empty has no contour. Without it every drawn region is the tumour.
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
    """``[cohort]``: where the scans and the clinical table are.

    Parameters
    ----------
    covariates : tuple of str
        Columns of the table that models may see, in ``[external]`` too.
    policy : {"lenient", "strict"}
        ``"strict"`` refuses what the SUV rules only repair with a warning.
    repair_dates : bool
        ``true`` takes an injection on a date that cannot be at its time of day; never for half-lives above 6 h.
    """

    covariates: tuple[str, ...] = ()
    policy: Literal["lenient", "strict"] = "lenient"
    repair_dates: bool = False


class VolumeSection(Section):
    """``[volume]``: the grid on which the models see the scans; along the body, then rows, columns.

    Parameters
    ----------
    spacing_mm : float or tuple of 3 float
        Of the voxels: one number, or along the body, rows, columns.
    field_of_view_mm : tuple of 3 float
        Along the body, rows, columns, about the centre of the image.
    modalities : tuple of {"pet", "ct"}
        What is read: ``["pet", "ct"]`` reads the CT beside each scan too, and is what models see that say nothing else
        in their own ``modalities``.
    """

    spacing_mm: Length | Lengths = 4.0
    field_of_view_mm: Lengths = (1024.0, 512.0, 512.0)
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1)] = ("pet",)

    def grid(self) -> Grid:
        """The grid."""
        return Grid(self.spacing_mm, self.field_of_view_mm)

    @model_validator(mode="after")
    def _must_be_a_grid(self) -> Self:
        self.grid()
        return self


class ValidationSection(Section):
    """``[validation]``: how the models are validated; every model sees the same folds.

    Parameters
    ----------
    scheme : {"cross-validation", "leave-one-centre-out", "split"}
        Who is tested: everybody once a repeat; each centre in turn; or a part that the file names.
    folds, repeats : int
        Of the cross-validation.
    inner_folds : int
        For choices inside the training part.
    seed : int
        Of the folds, and of models that name none.
    resamples : int
        Bootstrap samples of patients.
    train, test : tuple of str
        For ``"split"``: lists of centres.
    split : str, optional
        For ``"split"``, instead of them: a column of the clinical table that holds ``train`` and ``test``.
    folds_file : str, optional
        A ``folds.json`` of an earlier run of the same patients, instead of any scheme.
    baselines : bool
        Whether the trivial explanations that the file doesn't name are added.
    recalibrate : bool
        Whether an inner cross-validation of each training part recalibrates the predictions and chooses thresholds; the
        models fitted on all patients carry the same for ``twobe3 predict``.
    audit : bool
        The leakage audit, also ``twobe3 run --audit``.
    permutations : int
        How often the audit repeats the validation with permuted outcomes.
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
    """``[external]``: a second cohort, on which models fitted on all patients of the first are evaluated."""


class ReportSection(Section):
    """``[report]``: what the report shows beside the models' results.

    Parameters
    ----------
    subgroups : tuple of str
        Columns of the clinical table by whose values the results are also given, as by sex, age, centre and scanner; no
        model sees them.
    explain : bool or tuple of str
        Maps of where the risks come from, out of fold: ``true`` for all models that see voxels, or names of models, for
        which contributions of features and members will do too.
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
