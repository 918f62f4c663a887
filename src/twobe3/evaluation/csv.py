"""Predictions as CSV files, one's own or anybody's.

``predictions.csv`` has a row for each patient, model, endpoint and repeat; ``decisions.csv`` beside it has what each
fold decided with its training patients, and ``survival.csv`` the predicted survival curves.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import FloatArray
from twobe3.core.prediction import Prediction
from twobe3.io.csv import escape_formula, read_delimited, unescape_formula
from twobe3.io.files import write_atomic

COLUMNS = ("patient_id", "model", "endpoint", "repeat", "fold", "risk", "probability")
REQUIRED = ("patient_id", "risk")
DECISION_COLUMNS = ("model", "endpoint", "repeat", "fold", "threshold", "cutoff")
SURVIVAL_COLUMNS = ("patient_id", "model", "endpoint", "repeat", "fold")
NAMED = 10  # rows named in one refusal


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predictions as CSV (RFC 4180, UTF-8) with the columns of :data:`COLUMNS`, atomically.

    Numbers read back as the same floats. A text that a spreadsheet would take for a formula, because it begins with
    ``=``, ``+``, ``-``, ``@``, a tab or a carriage return, gets a ``'`` in front; :func:`read_predictions` takes it
    away again.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    rows: list[Sequence[object]] = []
    for prediction in predictions:
        scores = zip(prediction.risk.tolist(), _cells_of(prediction.probability, len(prediction)), strict=True)
        rows += [(*key, *numbers) for key, numbers in zip(keys(prediction), scores, strict=True)]
    _write(path, COLUMNS, rows)


def write_decisions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write what each fold decided, as CSV with the columns of :data:`DECISION_COLUMNS`: one row a fold.

    An empty cell is a decision that the model doesn't take. Without any decision there is no file: an earlier one
    is removed.

    Raises
    ------
    ValueError
        A fold has several thresholds or cut-offs.
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    rows: list[Sequence[object]] = []
    for prediction in predictions:
        if prediction.threshold is None and prediction.cutoff is None:
            continue
        n = len(prediction)
        decided = zip(_cells_of(prediction.threshold, n), _cells_of(prediction.cutoff, n), strict=True)
        of_folds = list(
            dict.fromkeys((*key[1:], *values) for key, values in zip(keys(prediction), decided, strict=True))
        )
        if len({row[:4] for row in of_folds}) < len(of_folds):
            raise ValueError(f"model {prediction.model!r}: a fold has several thresholds or cut-offs")
        rows += of_folds
    _write_if_any(path, DECISION_COLUMNS, rows)


def write_survival(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predicted survival as CSV: :data:`SURVIVAL_COLUMNS`, then a column ``t=<time>`` for each time.

    A cell is the probability of being free of the event at that time, empty at a time of other models. Models
    without predicted survival have no rows. When none has any there is no file: an earlier one is removed.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    given = [prediction for prediction in predictions if prediction.survival is not None]
    times = sorted({time for prediction in given for time in _times(prediction)})
    rows: list[Sequence[object]] = []
    for prediction in given:
        assert prediction.survival is not None
        table = np.full((len(prediction), len(times)), np.nan)
        table[:, np.searchsorted(times, _times(prediction))] = prediction.survival
        cells = [["" if math.isnan(value) else value for value in row] for row in table.tolist()]
        rows += [(*key, *curve) for key, curve in zip(keys(prediction), cells, strict=True)]
    _write_if_any(path, (*SURVIVAL_COLUMNS, *(f"t={time!r}" for time in times)), rows)


Key = tuple[str, str, str, int, int]


@dataclass(frozen=True)
class Numbered:
    """A prediction and where it was read.

    Attributes
    ----------
    prediction : Prediction
        Of one model for one endpoint.
    lines : tuple of int
        The line of the file on which each of its rows stands, from 1.
    """

    prediction: Prediction
    lines: tuple[int, ...]


def read_predictions(path: Path) -> list[Prediction]:
    """Read predictions from a table, one's own or anybody's.

    Parameters
    ----------
    path : Path
        A table (:func:`~twobe3.io.csv.read_delimited`) with the columns ``patient_id`` and ``risk`` (higher means
        an earlier event, the positive class or a larger value), and, if there, ``model``, ``endpoint`` (empty by
        default), ``repeat``, ``fold`` (0 by default) and ``probability``. Other columns are ignored.

    Returns
    -------
    list of Prediction
        One for each model and endpoint, in the order of their first rows.

    Raises
    ------
    ConfigurationError
        ``PREDICTION_INVALID``: the file is no table, lacks a column or rows, or rows (named by line) have a number
        that is none, no patient, a patient twice in a repeat, or no probability where others of the model have one.
    """
    return [numbered.prediction for numbered in read_numbered_predictions(path)]


def read_numbered_predictions(path: Path) -> list[Numbered]:
    """As :func:`read_predictions`, with the line of each row."""
    groups: dict[tuple[str, str], list[_Row]] = {}
    problems: list[str] = []
    for line, cells in read_rows(path, REQUIRED):
        row = _row(line, cells)
        if isinstance(row, _Row):
            groups.setdefault(row.key[1:3], []).append(row)
        else:
            problems.append(row)
    for rows in groups.values():
        problems += _contradictions(rows)
    refuse_problems(path, problems)
    return [_numbered(model, endpoint, rows) for (model, endpoint), rows in groups.items()]


def read_rows(path: Path, required: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """The lines of a table of predictions, with their numbers.

    Raises
    ------
    ConfigurationError
        ``PREDICTION_INVALID``: the file is no table, or lacks a required column.
    """
    rows = read_delimited(path, Code.PREDICTION_INVALID, text=COLUMNS[:3])
    there = rows[0].cells
    lacking = [column for column in required if column not in there]
    if lacking:
        raise ConfigurationError(
            Code.PREDICTION_INVALID,
            f"{path.name} has no column {' or '.join(map(repr, lacking))}; it has {', '.join(there)}",
            remedy=f"give at least the columns {' and '.join(required)}",
        )
    return [(row.line, row.cells) for row in rows]


def key_of(cells: Mapping[str, str]) -> Key | str:
    """Patient, model, endpoint, repeat and fold of a row, or what is wrong with them."""
    texts = [unescape_formula(cells.get(column, "")) for column in COLUMNS[:3]]
    positions = []
    for column in ("repeat", "fold"):
        position = cells.get(column, "").strip() or "0"
        if not re.fullmatch(r"[0-9]{1,9}", position):
            return f"{column} {position!r} is not a whole number"
        positions.append(int(position))
    return texts[0], texts[1], texts[2], positions[0], positions[1]


def keys(prediction: Prediction) -> Iterator[Key]:
    """Patient, model, endpoint, repeat and fold of each row of a prediction."""
    assert prediction.repeat is not None  # both are filled when the prediction is made
    assert prediction.fold is not None
    rows = zip(prediction.patients, prediction.repeat.tolist(), prediction.fold.tolist(), strict=True)
    for patient, repeat, fold in rows:
        yield patient, prediction.model, prediction.endpoint, repeat, fold


def refuse_problems(path: Path, problems: Sequence[str], code: Code = Code.PREDICTION_INVALID) -> None:
    """Refuse a file whose rows have problems, naming the first ones.

    Raises
    ------
    ConfigurationError
        With ``code``.
    """
    if problems:
        more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise ConfigurationError(code, f"{path.name}: {'; '.join(problems[:NAMED])}{more}")


def number(text: str) -> float | None:
    """The finite number that a cell holds, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class _Row:
    line: int
    key: Key
    risk: float
    probability: float | None


def _row(line: int, cells: Mapping[str, str]) -> _Row | str:
    """The row, or what is wrong with it."""
    key = key_of(cells)
    if isinstance(key, str):
        return f"line {line}: {key}"
    if not key[0]:
        return f"line {line} has no patient_id"
    risk = number(cells["risk"])
    if risk is None:
        return f"line {line}: risk {cells['risk']!r} is not a finite number"
    text = cells.get("probability", "").strip()
    probability = number(text) if text else None
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


def _numbered(model: str, endpoint: str, rows: Sequence[_Row]) -> Numbered:
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


def _cells_of(values: FloatArray | None, n: int) -> list[float] | list[str]:
    return [""] * n if values is None else values.tolist()


def _times(prediction: Prediction) -> list[float]:
    return [] if prediction.times is None else prediction.times.tolist()


def _write_if_any(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if rows:
        _write(path, header, rows)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([escape_formula(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    write_atomic(path, text.getvalue().encode())
