"""A study file for a folder of scans and a table, proposed from what they hold; what was guessed is said."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.endpoints import TimeToEvent
from twobe3.core.errors import ConfigurationError, TwoBe3Error
from twobe3.core.outcomes import Endpoint, Outcomes
from twobe3.core.table import require_columns
from twobe3.dicom.reader import numbers, read_dataset
from twobe3.dicom.series import PETSeries
from twobe3.io.clinical_table import read_table
from twobe3.io.rows import read_rows
from twobe3.scans.find import Series, find_scans
from twobe3.scans.sidecar import NiftiSeries
from twobe3.study.guess_endpoints import (
    MOST_STATES,
    find_endpoints,
    join_names,
    list_columns,
    list_values,
    looks_like_time,
    name_apart,
    sounds_like_event,
    to_words,
)

FIELD_OF_VIEW_MM = (1024.0, 512.0, 512.0)
SPACING_MM = 4.0
_STEP_MM = 64
_CENTRE = re.compile(r"centre|center|site|hospital|institution|clinic")
_MOST_CENTRES = 20


@dataclass(frozen=True)
class Proposal:
    """A study file, and how sure it is.

    Attributes
    ----------
    text : str
        The study file, TOML.
    seen, unsure : tuple of str
        What the scans and the table hold, and what should be looked at before it is believed; no patient id.
    """

    text: str
    seen: tuple[str, ...]
    unsure: tuple[str, ...]


def propose(
    images: Path | str, clinical: Path | str, *, folder: Path | str, columns: Sequence[str] = (), sheet: str = ""
) -> Proposal:
    """Look at scans and a table, and propose a study.

    The patient's column is the one that holds the ids of the scans. A column of times and one of events that share a
    word make an endpoint with censoring; otherwise a column of two values whose name sounds like an outcome makes a
    binary one. The field of view holds the largest scan. Headers alone are read.

    Parameters
    ----------
    images, clinical : path
        The folder of scans, and the table.
    folder : path
        Where the study file shall lie; it names the others relative to it.
    columns : sequence of str
        The columns of the outcome, where they are known: one of two values, or with it one of times, or two of dates.
    sheet : str
        Which sheet of a workbook; not needed where only one shows anything.

    Raises
    ------
    EmptyInputError
        ``NO_PET``: there are no scans.
    ConfigurationError
        The table cannot be read, ``COLUMN_MISSING``, ``NO_PATIENT_MATCHES``: no column holds ids of the scans;
        ``OUTCOME_INVALID``: no column looks like an outcome, or those that were named are none.
    """
    images, clinical = Path(images), Path(clinical)
    found = find_scans([images])
    ids = {one.patient_id for one in found.series if one.patient_id}
    patient, unsure = _find_patient(clinical, ids, sheet)
    table = read_table(clinical, patient=patient, sheet=sheet)
    require_columns(table, columns)
    matched = len(ids & table.keys())
    if matched < len(ids):
        unsure.append(f"not in the table: {len(ids) - matched} of {len(ids)} scanned patients")
    values = {column: list_values(table, column) for column in list_columns(table) if column != patient}
    guesses = [] if patient in columns else name_apart(find_endpoints(table, values, columns))
    several = [
        f"column {column!r} has {len(set(cells))} values: a study file must say which is the event, by `positive`, and "
        "which compete with it, by `competing`"
        for column, cells in values.items()
        if 2 < len(set(cells)) <= MOST_STATES and (column in columns or (not columns and sounds_like_event(column)))
    ]
    if not guesses:
        nothing = f"no column looks like an outcome; there are {join_names(values)}"
        raise ConfigurationError(
            Code.OUTCOME_INVALID,
            f"{clinical.name}: {'; '.join(several) or nothing}",
            remedy="name a column of two values, and that of its times, by --column, or write the study file by hand",
        )
    unsure += several
    unsure += [line for guess in guesses for line in guess.unsure]
    fov_mm, sizes = _find_field_of_view(found.series)
    drawn = sum(bool(one.contours) for one in found.series)
    seen = [
        f"{format_count(len(found.series), 'patient')} with a usable scan; {found.n_series} series in all",
        f"{clinical.name}: {format_count(len(table), 'patient')}, {matched} of them with a scan, by {patient!r}",
        *sizes,
        f"{drawn} of {len(found.series)} scans have contours",
        *(_describe(guess.outcomes) for guess in guesses),
    ]
    used = {patient, *(column for guess in guesses for column in guess.outcomes.endpoint.columns)}
    centres = [column for column in values if _CENTRE.search(to_words(column)) and _is_centre(values[column])]
    centre = next((column for column in centres if column not in used), None)
    used.add(centre or "")
    others = [column for column in values if column not in used and not looks_like_time(table, column)]
    scarce = min(guess.outcomes.endpoint.effective_sample_size(guess.outcomes) for guess in guesses)
    if scarce < 2:
        unsure.append("an endpoint has too few events to be cross-validated")
    folds = max(2, min(5, scarce))
    lines = [
        "[cohort]",
        f"images = {_quote(_relative(images, folder))}",
        f"clinical = {_quote(_relative(clinical, folder))}",
        *([f"sheet = {_quote(sheet)}"] if sheet else []),
        f"patient = {_quote(patient)}",
        *([f"centre = {_quote(centre)}"] if centre else []),
        *([f"# covariates = {_quote(tuple(others))}   # what models may see beside the scan"] if others else []),
        "",
        *(line for guess in guesses for line in _to_toml(guess.outcomes.endpoint)),
        "[volume]",
        f"spacing_mm = {SPACING_MM}",
        f"field_of_view_mm = {json.dumps(list(fov_mm))}   # along the body, then rows, columns",
        "",
        *([] if drawn else ["[region]", 'kind = "threshold"      # nobody drew a contour', "threshold_suv = 4.0", ""]),
        "[[model]]",
        'kind = "2be3-net"',
        "",
        "[[model]]",
        'kind = "cnn3d"',
        "",
        "[validation]",
        f"folds = {folds}",
        f"repeats = {5 if len(table) < 100 else 1}",
        *(['# scheme = "leave-one-centre-out"'] if centre else []),
        "",
    ]  # fmt: skip
    head = [f"# Not sure: {line}" for line in unsure]
    return Proposal("\n".join([*head, *([""] if head else []), *lines]), tuple(seen), tuple(unsure))


def _find_patient(clinical: Path, ids: set[str], sheet: str) -> tuple[str, list[str]]:
    """The column that holds most ids of the scans."""
    read = read_rows(clinical, Code.TABLE_UNREADABLE, sheet=sheet)
    names = [name for name in read.rows[0].cells if name]
    if {name.lower() for name in names} & {one.lower() for one in ids}:
        reason = f"{clinical.name} has no header: the id of a scanned patient stands in its first line"
        raise ConfigurationError(Code.TABLE_UNREADABLE, reason, remedy="put a line with the names of the columns first")
    read = read_rows(clinical, Code.TABLE_UNREADABLE, text=names, sheet=sheet)
    matches = {name: len({row.cells[name].strip() for row in read.rows} & ids) for name in names}
    patient = max(matches, key=lambda name: matches[name], default="")
    if not matches.get(patient):
        raise ConfigurationError(
            Code.NO_PATIENT_MATCHES,
            f"{clinical.name}: none of the columns {', '.join(names)} holds the PatientID of any of {len(ids)} scans",
        )
    others = [name for name, count in matches.items() if count == matches[patient] and name != patient]
    return patient, [f"the columns {patient!r} and {join_names(others)} hold the same ids"] if others else []


def _is_centre(cells: Sequence[str]) -> bool:
    counts = Counter(cells)
    return 2 <= len(counts) <= _MOST_CENTRES and min(counts.values()) > 1


def _to_toml(endpoint: Endpoint) -> list[str]:
    """The table of the study file."""
    about = {"name": endpoint.name, "kind": endpoint.kind}
    if isinstance(endpoint, TimeToEvent):
        times = {"time": endpoint.time} if endpoint.time else {"start": endpoint.start, "end": endpoint.end}
        about |= {**times, "event": endpoint.event, "unit": endpoint.unit}
    else:
        about |= {"column": endpoint.columns[0]}
    positive = getattr(endpoint, "positive", "")
    if positive and str(positive).lower() not in ("1", "true"):
        about["positive"] = positive
    return ["[[endpoint]]", *(f"{key} = {_quote(value)}" for key, value in about.items()), ""]


def _describe(outcomes: Outcomes) -> str:
    endpoint = outcomes.endpoint
    return (
        f"{endpoint.name} ({endpoint.kind}): {format_count(outcomes.n_events, 'event')} among {len(outcomes)} patients"
    )


def _find_field_of_view(series: Sequence[Series]) -> tuple[tuple[float, float, float], list[str]]:
    """A field of view that holds every scan, and what the scans are like."""
    extents = [extent for one in series if (extent := _extent_mm(one)) is not None]
    if not extents:
        return FIELD_OF_VIEW_MM, []
    largest = [max(extent[axis] for extent in extents) for axis in range(3)]
    smallest = [min(extent[axis] for extent in extents) for axis in range(3)]
    along, rows, columns = (float(_STEP_MM * math.ceil(length / _STEP_MM)) for length in largest)
    shown = " × ".join(f"{low:.0f}" if round(low) == round(high) else f"{low:.0f}–{high:.0f}"
                       for low, high in zip(smallest, largest, strict=True))  # fmt: skip
    return (along, rows, columns), [f"the scans are {shown} mm, along the body, rows, columns"]


def _extent_mm(series: Series) -> tuple[float, float, float] | None:
    """Along the body, rows, columns; None where the first header does not tell."""
    if isinstance(series, NiftiSeries):
        a, b, c = (n * mm for n, mm in zip(series.geometry.shape, series.geometry.spacing_mm, strict=True))
        return a, b, c
    assert isinstance(series, PETSeries)
    with suppress(TwoBe3Error, ValueError):
        header = read_dataset(series.files[0])
        rows_mm, columns_mm = numbers(header, "PixelSpacing")[:2]
        between_mm = series.coverage_mm / max(1, series.slices - 1)
        return series.coverage_mm + between_mm, header.Rows * rows_mm, header.Columns * columns_mm
    return None


def _relative(path: Path, folder: Path | str) -> str:
    return Path(os.path.relpath(path.resolve(), Path(folder).resolve())).as_posix()


def _quote(value: object) -> str:
    """A value in TOML, whose texts are those of JSON; what is not printable is written by its number."""
    text = json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
    return "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in text)
