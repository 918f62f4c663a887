"""Predictions as CSV files, one's own or anybody's (RFC 4180, UTF-8).

``predictions.csv`` has a row for each patient, model, endpoint and repeat; ``decisions.csv`` beside it has what each
fold decided with its training patients, and ``survival.csv`` the predicted survival curves. All are written atomically
(``WRITE_FAILED`` where they can't be), and refused as ``PREDICTION_INVALID`` where they are no table or lack a column,
or where rows, named by line, contradict one another or hold a number that is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.nearest import find_nearest
from twobe3.core.outcomes import BoolArray, FloatArray
from twobe3.core.prediction import Prediction
from twobe3.core.table import parse_number
from twobe3.evaluation.alignment import RISE
from twobe3.io.csv import to_csv, unescape_formula
from twobe3.io.files import remove, write_atomic
from twobe3.io.rows import read_rows

COLUMNS = ("patient_id", "model", "endpoint", "repeat", "fold", "risk", "probability")
REQUIRED = ("patient_id", "risk")
DECISIONS = ("threshold", "cutoff")
TIME_COLUMN = "t="
NAMED = 10  # rows named in one refusal

Key = tuple[str, str, str, int, int]  # patient, model, endpoint, repeat and fold of a row
Place = tuple[str | int, ...]  # what a row of another table stands for: a key, or a fold
PlaceOf = Callable[[Key], Place]


@dataclass(frozen=True)
class Numbered:
    """The prediction of one model for one endpoint, and the line of the file, from 1, on which each row stands."""

    prediction: Prediction
    lines: tuple[int, ...]


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predictions with the columns of :data:`COLUMNS`.

    Numbers read back as the same floats. A text that a spreadsheet would take for a formula, because it begins with
    ``=``, ``+``, ``-``, ``@``, a tab or a carriage return, gets a ``'`` in front; :func:`read_predictions` takes it
    away again.
    """
    rows: list[Sequence[object]] = []
    for prediction in predictions:
        scores = zip(prediction.risk.tolist(), _cells(prediction.probability, len(prediction)), strict=True)
        rows += [(*key, *numbers) for key, numbers in zip(keys(prediction), scores, strict=True)]
    _write(path, COLUMNS, rows)


def write_decisions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write the threshold and the cut-off of each fold, a row each; empty where the model takes no such decision.

    Without any decision there is no file: an earlier one is removed. A ValueError where a fold has several of one.
    """
    rows: list[Sequence[object]] = []
    for prediction in predictions:
        if prediction.threshold is None and prediction.cutoff is None:
            continue
        n = len(prediction)
        decided = zip(keys(prediction), _cells(prediction.threshold, n), _cells(prediction.cutoff, n), strict=True)
        of_folds = list(dict.fromkeys((*key[1:], *values) for key, *values in decided))
        if len({row[:4] for row in of_folds}) < len(of_folds):
            raise ValueError(f"model {prediction.model!r}: a fold has several thresholds or cut-offs")
        rows += of_folds
    _write(path, (*COLUMNS[1:5], *DECISIONS), rows, remove_empty=True)


def write_survival(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predicted survival: a column ``t=<time>`` for each time, empty at a time of other models.

    Models without predicted survival have no rows. When none has any there is no file: an earlier one is removed.
    """
    given = [(one, one.survival, one.times) for one in predictions if one.survival is not None]
    all_times = sorted({time for _, _, times in given if times is not None for time in times.tolist()})
    rows: list[Sequence[object]] = []
    for prediction, survival, times in given:
        table = np.full((len(prediction), len(all_times)), np.nan)
        table[:, np.searchsorted(all_times, [] if times is None else times)] = survival
        cells = [["" if math.isnan(value) else value for value in row] for row in table.tolist()]
        rows += [(*key, *curve) for key, curve in zip(keys(prediction), cells, strict=True)]
    _write(path, (*COLUMNS[:5], *(f"{TIME_COLUMN}{time!r}" for time in all_times)), rows, remove_empty=True)


def read_predictions(path: Path, *, columns: Mapping[str, str] | None = None) -> list[Prediction]:
    """Read predictions, one for each model and endpoint, in the order of their first rows, from anybody's table.

    It (:func:`~twobe3.io.rows.read_rows`) has the columns ``patient_id`` and ``risk`` (higher means an earlier
    event, the positive class or a larger value), and, if there, ``model``, ``endpoint`` (empty by default), ``repeat``,
    ``fold`` (0 by default) and ``probability``. Other columns are ignored. No patient stands twice in a repeat, and all
    rows of a model have a probability or none. ``columns`` leads from such a column to what the file calls it; where
    it renames the probability and there is no risk, the probability is the risk too.
    """
    return [numbered.prediction for numbered in read_numbered_predictions(path, columns=columns)]


def read_numbered_predictions(
    path: Path, *, columns: Mapping[str, str] | None = None, sheet: str = ""
) -> list[Numbered]:
    """As :func:`read_predictions`, with the line of each row; ``sheet`` names one of a workbook."""
    groups: dict[tuple[str, str], list[_Row]] = {}
    problems: list[str] = []
    for line, cells in _read_rows(path, REQUIRED, columns or {}, sheet):
        row = _parse_row(line, cells)
        if isinstance(row, _Row):
            groups.setdefault(row.key[1:3], []).append(row)
        else:
            problems.append(row)
    for rows in groups.values():
        problems += _contradictions(rows)
    refuse_problems(path, problems)
    return [_number(model, endpoint, rows) for (model, endpoint), rows in groups.items()]


def read_decisions(path: Path, predictions: Sequence[Numbered]) -> list[Numbered]:
    """The predictions with what each fold decided, where the table has rows for the model.

    Its columns are ``threshold`` (the probability from which on the model says yes), ``cutoff`` (the risk above which a
    patient is in the group of high risk), ``model``, ``endpoint``, ``repeat`` and ``fold``: one row for each fold that
    is predicted. An empty column is a decision not taken.
    """

    def decide(numbered: Numbered, table: FloatArray, filled: BoolArray) -> dict[str, Any]:
        return {name: table[:, i] for i, name in enumerate(DECISIONS) if filled[i]}

    return _extend(path, predictions, DECISIONS, lambda key: key[1:], decide, shares=["threshold"])


def read_survival(path: Path, predictions: Sequence[Numbered]) -> list[Numbered]:
    """The predictions with predicted survival, where the table has rows for the model.

    It has a column ``t=<time>`` for each time, the probability of being free of the event then, and the columns
    ``patient_id``, ``model``, ``endpoint``, ``repeat`` and ``fold``. A time that a model doesn't predict is empty in
    all its rows. A curve must not rise.
    """
    columns, times = _parse_times(path)

    def foresee(numbered: Numbered, table: FloatArray, filled: BoolArray) -> dict[str, Any]:
        survival = table[:, filled]
        rising: BoolArray = np.any(np.diff(survival, axis=1) > RISE, axis=1)
        refuse_problems(path, [f"survival rises for line {n} of the predictions" for n in _lines(numbered, rising)])
        return {"survival": survival, "times": times[filled]}

    return _extend(path, predictions, columns, lambda key: key, foresee, shares=columns)


def keys(prediction: Prediction) -> Iterator[Key]:
    """Patient, model, endpoint, repeat and fold of each row of a prediction."""
    rows = zip(prediction.patients, prediction.repeat.tolist(), prediction.fold.tolist(), strict=True)
    for patient, repeat, fold in rows:
        yield patient, prediction.model, prediction.endpoint, repeat, fold


def refuse_problems(path: Path, problems: Sequence[str], code: Code = Code.PREDICTION_INVALID) -> None:
    """Raise a ConfigurationError where the rows of a file have problems, naming the first ones."""
    if problems:
        more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise ConfigurationError(code, f"{path.name}: {'; '.join(problems[:NAMED])}{more}")


@dataclass(frozen=True)
class _Row:
    line: int
    key: Key
    risk: float
    probability: float | None


def _read_rows(
    path: Path, required: Sequence[str], renamed: Mapping[str, str] = MappingProxyType({}), sheet: str = ""
) -> list[tuple[int, dict[str, str]]]:
    """The lines of a table of predictions, with their numbers; their columns as we call them."""
    texts = [renamed.get(column, column) for column in COLUMNS[:3]]
    rows = read_rows(path, Code.PREDICTION_INVALID, text=texts, sheet=sheet).rows
    there = rows[0].cells
    if "probability" in renamed and "risk" not in there:
        renamed = {"risk": renamed["probability"], **renamed}
    lacking = [name for name in dict.fromkeys([*required, *renamed]) if renamed.get(name, name) not in there]
    if lacking:
        names = [renamed.get(name, name) for name in lacking]
        near = [f"; the nearest to {name!r} is {found!r}" for name in names if (found := find_nearest(name, there))]
        raise ConfigurationError(
            Code.PREDICTION_INVALID,
            f"{path.name} has no column {' or '.join(map(repr, names))}; it has {', '.join(there)}{''.join(near)}",
            remedy=f"give at least the columns {' and '.join(required)}; --id and --risk say what a file calls them",
        )
    return [(row.line, {**row.cells, **{name: row.cells[own] for name, own in renamed.items()}}) for row in rows]


def _parse_key(cells: Mapping[str, str]) -> Key | str:
    """The key of a row, or what is wrong with it."""
    patient, model, endpoint = (unescape_formula(cells.get(column, "")) for column in COLUMNS[:3])
    texts = {column: cells.get(column, "").strip() or "0" for column in ("repeat", "fold")}
    for column, text in texts.items():
        if not re.fullmatch(r"[0-9]{1,9}", text):
            return f"{column} {text!r} is not a whole number"
    return patient, model, endpoint, int(texts["repeat"]), int(texts["fold"])


def _parse_row(line: int, cells: Mapping[str, str]) -> _Row | str:
    """The row, or what is wrong with it."""
    key = _parse_key(cells)
    if isinstance(key, str):
        return f"line {line}: {key}"
    if not key[0]:
        return f"line {line} has no patient_id"
    risk = parse_number(cells["risk"])
    if risk is None:
        return f"line {line}: risk {cells['risk']!r} is not a finite number"
    text = cells.get("probability", "").strip()
    probability = parse_number(text) if text else None
    if text and (probability is None or not 0 <= probability <= 1):
        return f"line {line}: probability {text!r} is not between 0 and 1"
    return _Row(line, key, risk, probability)


def _contradictions(rows: Sequence[_Row]) -> list[str]:
    problems = []
    first: dict[tuple[str, int], int] = {}
    for row in rows:
        patient, _, _, repeat, _ = row.key
        earlier = first.setdefault((patient, repeat), row.line)
        if earlier != row.line:
            problems.append(f"lines {earlier} and {row.line} predict one patient in one repeat")
    without = [row.line for row in rows if row.probability is None]
    if 0 < len(without) < len(rows):
        problems.append(f"line {without[0]} has no probability, others of its model do")
    return problems


def _number(model: str, endpoint: str, rows: Sequence[_Row]) -> Numbered:
    probabilities = [row.probability for row in rows if row.probability is not None]
    prediction = Prediction(
        model,
        endpoint,
        tuple(row.key[0] for row in rows),
        np.array([row.risk for row in rows], dtype=np.float64),
        np.array(probabilities, dtype=np.float64) if probabilities else None,
        np.array([row.key[3] for row in rows], dtype=np.int64),
        np.array([row.key[4] for row in rows], dtype=np.int64),
    )
    return Numbered(prediction, tuple(row.line for row in rows))


def _parse_times(path: Path) -> tuple[list[str], FloatArray]:
    """The columns of survival by ascending time, and the times."""
    _, cells = _read_rows(path, ("patient_id",))[0]
    columns = [column for column in cells if column.startswith(TIME_COLUMN)]
    times = {column: parse_number(column.removeprefix(TIME_COLUMN)) for column in columns}
    problems = [f"column {column!r} names no time" for column, time in times.items() if time is None or time < 0]
    refuse_problems(path, problems if columns else [f"no column is called {TIME_COLUMN}<time>"])
    ascending = sorted((time, column) for column, time in times.items() if time is not None)
    known = np.array([time for time, _ in ascending])
    refuse_problems(path, ["two columns name one time"] if (np.diff(known) == 0).any() else [])
    return [column for _, column in ascending], known


def _extend(
    path: Path,
    predictions: Sequence[Numbered],
    columns: Sequence[str],
    place_of: PlaceOf,
    fields: Callable[[Numbered, FloatArray, BoolArray], dict[str, Any]],
    *,
    shares: Collection[str],
) -> list[Numbered]:
    """The predictions with fields from the rows of another table, where it has rows for the model.

    ``fields`` makes them from the values of each row of a prediction, and from which columns its model fills.
    """
    known = {place_of(key) for numbered in predictions for key in keys(numbered.prediction)}
    values = _read_values(path, columns, place_of, known, shares)
    extended = []
    for numbered in predictions:
        places = [place_of(key) for key in keys(numbered.prediction)]
        absent = np.array([place not in values for place in places])
        if not absent.all():
            missing = _lines(numbered, absent)
            refuse_problems(path, [f"no row stands for line {line} of the predictions" for line in missing])
            table = np.array([values[place] for place in places])
            new = fields(numbered, table, _find_filled_columns(path, numbered, table, columns))
            numbered = replace(numbered, prediction=replace(numbered.prediction, **new))
        extended.append(numbered)
    return extended


def _read_values(
    path: Path, columns: Sequence[str], place_of: PlaceOf, known: Collection[Place], shares: Collection[str]
) -> dict[Place, FloatArray]:
    """The values of each row, NaN for an empty cell, by what the row stands for."""
    first: dict[Place, int] = {}
    values: dict[Place, FloatArray] = {}
    problems: list[str] = []
    for line, cells in _read_rows(path, columns):
        key = _parse_key(cells)
        if isinstance(key, str):
            problems.append(f"line {line}: {key}")
        elif (place := place_of(key)) not in known:
            problems.append(f"line {line} stands for nothing that is predicted")
        elif place in first:
            problems.append(f"lines {first[place]} and {line} stand for the same")
        else:
            first[place] = line
            numbers = [parse_number(cells[column]) if cells[column].strip() else math.nan for column in columns]
            values[place] = np.array([math.nan if value is None else value for value in numbers])
            for column, value in zip(columns, numbers, strict=True):
                outside = column in shares and value is not None and not (math.isnan(value) or 0 <= value <= 1)
                if value is None or outside:
                    expected = "between 0 and 1" if outside else "a finite number"
                    problems.append(f"line {line}: {column} {cells[column]!r} is not {expected}")
    refuse_problems(path, problems)
    return values


def _find_filled_columns(path: Path, numbered: Numbered, table: FloatArray, columns: Sequence[str]) -> BoolArray:
    """Which columns a model fills; one filled for some rows only is refused."""
    empty: BoolArray = np.isnan(table)
    some: BoolArray = np.any(empty, axis=0)
    problems = [
        f"{column} is empty for line {line} of the predictions, and filled for others of its model"
        for i, column in enumerate(columns)
        if some[i] and not empty[:, i].all()
        for line in _lines(numbered, empty[:, i])
    ]
    refuse_problems(path, problems)
    return ~some


def _lines(numbered: Numbered, rows: BoolArray) -> list[int]:
    return [line for line, marked in zip(numbered.lines, rows.tolist(), strict=True) if marked]


def _cells(values: FloatArray | None, n: int) -> list[float] | list[str]:
    return [""] * n if values is None else values.tolist()


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]], *, remove_empty: bool = False) -> None:
    if not rows and remove_empty:
        remove(path)
        return
    write_atomic(path, to_csv([header, *rows], line_end="\r\n"))
