"""A study file for a folder of scans and a table, proposed from what they hold; what was guessed is said."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.dates import parse_dates
from twobe3.core.endpoints import Binary, TimeToEvent
from twobe3.core.errors import ConfigurationError, TwoBe3Error
from twobe3.core.events import is_obvious
from twobe3.core.outcomes import Endpoint, Outcomes
from twobe3.core.table import Table, is_missing, number_rows, parse_number, require_columns
from twobe3.dicom.reader import numbers, read_dataset
from twobe3.dicom.series import PETSeries
from twobe3.io.clinical_table import read_table
from twobe3.io.rows import read_rows
from twobe3.scans.find import Series, find_scans
from twobe3.scans.sidecar import NiftiSeries

FIELD_OF_VIEW_MM = (1024.0, 512.0, 512.0)
SPACING_MM = 4.0
_STEP_MM = 64
_EVENT = re.compile(
    r"event|status|dead|death|died|deceas|relapse|recur|progress|metast|censor|fail|outcome|respon|surviv|remission"
)
_TIME = re.compile(r"time|day|week|month|year|follow|surviv|duration|\bt\b|\b(os|pfs|dfs|efs|rfs|dmfs|lrfs|ttp)\b")
Unit = Literal["day", "week", "month", "year"]
_UNITS: dict[Unit, str] = {
    "day": r"days?|d",
    "week": r"weeks?|wks?|w",
    "month": r"months?|mos?|m",
    "year": r"years?|yrs?|y",
}
_YES = re.compile(r"y|yes|true|dead|died|deceased|death|event|relapse.*|recurrence|progress.*|positive|pos|\+|1(\.0)?")
_START = re.compile(r"scan|pet|diagnos|start|baseline|inclu|enrol|imag|treat|surg")
_END = re.compile(r"last|follow|death|dead|died|event|end|censor|seen|contact|relapse|recur|progress")
_AGE = re.compile(r"\bage\b|birth|\bdob\b")
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


@dataclass(frozen=True)
class _Guess:
    """An endpoint as a study file has it, with the outcomes that it gives, and what is not sure of it."""

    outcomes: Outcomes
    unsure: tuple[str, ...]

    def lines(self) -> list[str]:
        """The table of the study file."""
        endpoint = self.outcomes.endpoint
        about = {"name": endpoint.name, "kind": endpoint.kind}
        if isinstance(endpoint, TimeToEvent):
            times = {"time": endpoint.time} if endpoint.time else {"start": endpoint.start, "end": endpoint.end}
            about |= {**times, "event": endpoint.event, "unit": endpoint.unit}
        else:
            about |= {"column": endpoint.columns[0]}
        positive = getattr(endpoint, "positive", "")
        if positive and not (isinstance(positive, str) and is_obvious(positive)):
            about["positive"] = positive
        return ["[[endpoint]]", *(f"{key} = {_quote(value)}" for key, value in about.items()), ""]


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
    values = {column: _values(table, column) for column in _names(table) if column != patient}
    guesses = list(_find_endpoints(table, values, columns))
    if not guesses:
        raise ConfigurationError(
            Code.OUTCOME_INVALID,
            f"{clinical.name}: no column looks like an outcome; there are {', '.join(values)}",
            remedy="name the column of the outcome, and that of its times, by --column",
        )
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
    centre = next((column for column in values if _CENTRE.search(column.lower()) and _is_centre(values[column])), None)
    used = {patient, centre, *(column for guess in guesses for column in guess.outcomes.endpoint.columns)}
    others = [column for column in values if column not in used]
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
        *(line for guess in guesses for line in guess.lines()),
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
    read = read_rows(clinical, Code.TABLE_UNREADABLE, text=names, sheet=sheet)
    matches = {name: len({row.cells[name].strip() for row in read.rows} & ids) for name in names}
    patient = max(matches, key=lambda name: matches[name], default="")
    if not matches.get(patient):
        raise ConfigurationError(
            Code.NO_PATIENT_MATCHES,
            f"{clinical.name}: none of the columns {', '.join(names)} holds the PatientID of any of {len(ids)} scans",
        )
    others = [name for name, count in matches.items() if count == matches[patient] and name != patient]
    return patient, [f"the columns {patient!r} and {', '.join(map(repr, others))} hold the same ids"] if others else []


def _names(table: Table) -> list[str]:
    return [name for name in next(iter(table.values())) if name]


def _values(table: Table, column: str) -> list[str]:
    """The cells of a column that are filled."""
    return [row[column] for row in table.values() if not is_missing(row[column])]


def _find_endpoints(table: Table, values: Mapping[str, list[str]], columns: Sequence[str]) -> Iterator[_Guess]:
    """What the table may hold, each event with its times; what was asked for alone, where something was."""
    known = {column: values[column] for column in columns} if columns else values
    times = [column for column in known if _is_time(column, known[column], named=bool(columns))]
    binary = [column for column in known if len({value.lower() for value in known[column]}) == 2]
    events = [column for column in binary if columns or _EVENT.search(_words(column))]
    dates = _find_dates(table, known)
    timed = set()
    for event in events:
        pairs = sorted(times, key=lambda time: -_similarity(time, event))
        related = bool(pairs) and _similarity(pairs[0], event) > 0
        if pairs and (columns or related or len(times) == 1):
            guess = _guess_survival(table, {"time": pairs[0]}, event, sure=bool(columns) or related)
        elif dates:
            guess = _guess_survival(table, dates, event, sure=bool(columns))
        else:
            continue
        if guess:
            timed.add(event)
            yield guess
    for event in events:
        if event not in timed:
            yield from filter(None, [_guess_binary(table, event)])


def _words(column: str) -> str:
    """The name of a column in words: ``deathDays_OS`` becomes ``death days os``."""
    return " ".join(re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", column)).lower()


def _similarity(one: str, other: str) -> int:
    """How many words two names share, besides those that say time or event."""
    first, second = (set(_words(name).split()) for name in (one, other))
    return len(first & second)


def _is_time(column: str, cells: Sequence[str], *, named: bool) -> bool:
    found = [parse_number(cell) for cell in cells]
    if len(set(found)) < 3 or not all(number is not None and number > 0 for number in found):
        return False
    return named or bool(_TIME.search(_words(column)) and not _AGE.search(_words(column)))


def _is_centre(cells: Sequence[str]) -> bool:
    counts = Counter(cells)
    return 2 <= len(counts) <= _MOST_CENTRES and min(counts.values()) > 1


def _guess_positive(table: Table, column: str) -> tuple[str, tuple[str, ...]]:
    """Which of two values is the event, empty where that is obvious, and whether it was guessed."""
    counts = Counter(_values(table, column))
    if all(is_obvious(str(value).lower().removesuffix(".0")) for value in counts):
        return "", ()
    if set(counts) == {"1", "2"}:
        return "2", (f"column {column!r}: '2' is taken for the event, as R's survival does",)
    meant = [value for value in counts if _YES.fullmatch(value.strip().lower())]
    if len(meant) == 1:
        return meant[0], (f"column {column!r}: {meant[0]!r} is taken for the event",)
    rarer = min(counts, key=lambda value: (counts[value], value))
    return rarer, (f"column {column!r}: the rarer value {rarer!r} is taken for the event",)


def _guess_binary(table: Table, column: str) -> _Guess | None:
    positive, unsure = _guess_positive(table, column)
    return _try(table, Binary(_words(column), column, positive), unsure)


def _find_dates(table: Table, columns: Iterable[str]) -> dict[str, str]:
    """The column of time zero and that of the last that is known, where there is one of each."""
    found = [column for column in columns if _values(table, column) and _are_dates(table, column)]
    starts = [column for column in found if _START.search(_words(column)) and not _END.search(_words(column))]
    ends = [column for column in found if _END.search(_words(column))]
    return {"start": starts[0], "end": ends[0]} if len(starts) == len(ends) == 1 else {}


def _are_dates(table: Table, column: str) -> bool:
    cells = {patient: row[column] for patient, row in table.items() if not is_missing(row[column])}
    with suppress(TwoBe3Error):
        return bool(parse_dates(cells, number_rows(table), column))
    return False


def _guess_survival(table: Table, times: Mapping[str, str], event: str, *, sure: bool) -> _Guess | None:
    """An endpoint whose times are in a column ``time``, or between the dates of ``start`` and ``end``."""
    positive, unsure = _guess_positive(table, event)
    if not sure:
        unsure = (*unsure, f"the times of {event!r} are taken from {' and '.join(map(repr, times.values()))}")
    unit: Unit = "day"
    if "time" in times:
        named = [one for one, names in _UNITS.items() if re.search(rf"\b({names})\b", _words(times["time"]))]
        if len(named) == 1:
            unit = named[0]
        else:
            longest = max(
                number for cell in _values(table, times["time"]) if (number := parse_number(cell)) is not None
            )
            unit = "day" if longest > 400 else "month" if longest > 25 else "year"
            unsure = (*unsure, f"column {times['time']!r} is taken for {unit}s: its longest is {longest:g}")
    endpoint = TimeToEvent(
        _words(event), times.get("time", ""), event, unit, positive=positive,
        start=times.get("start", ""), end=times.get("end", ""),
    )  # fmt: skip
    return _try(table, endpoint, unsure)


def _try(table: Table, endpoint: Endpoint, unsure: tuple[str, ...]) -> _Guess | None:
    """The endpoint with what is odd about it, if the table gives outcomes for it."""
    with suppress(TwoBe3Error):
        outcomes = endpoint.outcomes(table)
        return _Guess(outcomes, (*unsure, *(f"{endpoint.name}: {odd}" for odd in endpoint.warn(outcomes, table))))
    return None


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
    """A value in TOML, whose texts are those of JSON."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
