"""What the owner of the data alone sees: which patient and which files a pseudonym in a list of exclusions means."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from twobe3.core.errors import Exclusion
from twobe3.core.ids import match_nearly
from twobe3.dicom.archive import find_container
from twobe3.dicom.series import SearchResult
from twobe3.io.csv import to_csv
from twobe3.io.files import write_atomic
from twobe3.io.pseudonym import pseudonym
from twobe3.scans.find import Series
from twobe3.scans.sidecar import NiftiSeries

COLUMNS = ("patient_id", "path", "code", "reason", "remedy", "model", "patient", "series")


@dataclass(frozen=True)
class OwnerNames:
    """What the pseudonyms of a cohort stand for.

    Attributes
    ----------
    patients : mapping
        From the pseudonym of a patient to the user's own id.
    paths : mapping
        From the pseudonym of a series to where its files lie.
    loose : mapping
        From an exclusion of files that belong to no series to where these lie.
    near : mapping
        From the pseudonym of a patient in the scans or the table alone to the nearly same id on the other side, and
        what the two differ by.
    """

    patients: Mapping[str, str] = field(default_factory=dict, repr=False)
    paths: Mapping[str, str] = field(default_factory=dict, repr=False)
    loose: Mapping[Exclusion, Sequence[str]] = field(default_factory=dict, repr=False)
    near: Mapping[str, tuple[str, str]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, found: SearchResult[Series], table: Iterable[str] = ()) -> OwnerNames:
        """The names behind a search and the patient ids of a table."""
        in_table = {pseudonym("patient", key): key for key in table}
        scanned = {one.patient: one.patient_id for one in found.series if one.patient_id}
        scanned |= {one.exclusion.patient: one.patient_id for one in found.unused if one.patient_id}
        loose: dict[Exclusion, list[str]] = {}
        paths = {one.series: locate(one) for one in found.series}
        for one in found.unused:
            if one.exclusion.series:
                paths[one.exclusion.series] = locate_files(one.files)
            else:
                loose.setdefault(one.exclusion, []).append(locate_files(one.files))
        without_row = {key for patient, key in scanned.items() if patient not in in_table}
        without_scan = {key for patient, key in in_table.items() if patient not in found.patients}
        near = match_nearly(without_row, without_scan) | match_nearly(without_scan, without_row)
        near_pseudonyms = {pseudonym("patient", one): found_near for one, found_near in near.items()}
        return cls({**scanned, **in_table}, paths, loose, near_pseudonyms)


def write_exclusions(
    path: Path, exclusions: Iterable[Exclusion], names: OwnerNames, models: Iterable[tuple[str, Exclusion]] = ()
) -> None:
    """Write what is not used, with the user's own ids and paths: a CSV file with the columns of :data:`COLUMNS`.

    ``model`` is empty unless only a model can't use the scan; ``patient`` and ``series`` are the pseudonyms that every
    other artefact has. Texts that a spreadsheet would take for formulas get a ``'`` in front.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    loose = {exclusion: iter(paths) for exclusion, paths in names.loose.items()}
    rows = []
    for model, one in (*(("", exclusion) for exclusion in exclusions), *models):
        place = names.paths.get(one.series) or next(loose.get(one, iter(())), "")
        other = names.near.get(one.patient) if not model else None
        reason = (
            one.reason if other is None else f"{one.reason}; {other[0]!r} on the other side differs by {other[1]} alone"
        )
        owner = names.patients.get(one.patient, "")
        rows.append([owner, place, one.code, reason, one.remedy, model, one.patient, one.series])
    write_atomic(path, to_csv([COLUMNS, *rows]))


def locate(series: Series) -> str:
    """Where the files of a series lie."""
    return locate_files((series.path,) if isinstance(series, NiftiSeries) else series.files)


def locate_files(files: Sequence[Path]) -> str:
    """The one file, or the folder or zip file that holds all of them."""
    if len(files) == 1 and find_container(files[0]) == files[0].parent:
        return str(files[0])
    return os.path.commonpath({find_container(file) for file in files}) if files else ""
