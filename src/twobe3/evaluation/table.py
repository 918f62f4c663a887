"""Predictions as a CSV file, one's own or anybody's."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twobe3.artefact import write_atomic
from twobe3.errors import Code, UsageError
from twobe3.prediction import Prediction

COLUMNS = ("patient_id", "model", "endpoint", "repeat", "fold", "risk", "probability")
REQUIRED = ("patient_id", "risk")

# A spreadsheet takes a cell that begins so for a formula. Leading quotes are counted, so that reading is exact.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NEUTRALISED = re.compile(r"'+[=+\-@\t\r]")


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predictions as CSV (RFC 4180, UTF-8) with the columns of :data:`COLUMNS`, atomically.

    Numbers read back as the same floats. A text that a spreadsheet would take for a formula, because it begins with
    ``=``, ``+``, ``-``, ``@``, a tab or a carriage return, gets a ``'`` in front; :func:`read_predictions` takes it
    away again.

    Raises
    ------
    ToolError
        ``WRITE_FAILED``.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for prediction in predictions:
        assert prediction.repeat is not None  # both are filled when the prediction is made
        assert prediction.fold is not None
        probability = [""] * len(prediction) if prediction.probability is None else prediction.probability.tolist()
        numbers = zip(
            prediction.repeat.tolist(), prediction.fold.tolist(), prediction.risk.tolist(), probability, strict=True
        )
        names = _neutralise(prediction.model), _neutralise(prediction.endpoint)
        writer.writerows(
            (_neutralise(patient), *names, *row) for patient, row in zip(prediction.patients, numbers, strict=True)
        )
    write_atomic(path, text.getvalue().encode())


def read_predictions(path: Path) -> list[Prediction]:
    """Read predictions from a CSV file in UTF-8.

    Parameters
    ----------
    path : Path
        A file with the columns ``patient_id`` and ``risk`` (higher means an earlier event or the positive class),
        and, if there, ``model``, ``endpoint`` (empty by default), ``repeat``, ``fold`` (0 by default) and
        ``probability``. Other columns are ignored.

    Returns
    -------
    list of Prediction
        One for each model and endpoint, in the order of their first rows.

    Raises
    ------
    UsageError
        ``PREDICTION_INVALID``: the file can't be read, lacks a column or rows, or rows (named by line) have a number
        that is none, no patient, a patient twice in a repeat, or no probability where others of the model have one.
    """
    groups: dict[tuple[str, str], list[_Row]] = {}
    problems: list[str] = []
    for line, cells in _cells(path):
        row = _row(line, cells)
        if isinstance(row, _Row):
            key = _restore(cells.get("model", "")), _restore(cells.get("endpoint", ""))
            groups.setdefault(key, []).append(row)
        else:
            problems.append(row)
    for rows in groups.values():
        problems += _contradictions(rows)
    if problems:
        more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise UsageError(Code.PREDICTION_INVALID, f"{path.name}: {'; '.join(problems[:5])}{more}")
    if not groups:
        raise UsageError(Code.PREDICTION_INVALID, f"{path.name} has no rows", remedy="give a table of predictions")
    return [_prediction(model, endpoint, rows) for (model, endpoint), rows in groups.items()]


@dataclass(frozen=True)
class _Row:
    line: int
    patient: str
    repeat: int
    fold: int
    risk: float
    probability: float | None


def _cells(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        reader = csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), restval="")
        header = list(reader.fieldnames or ())
        rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
        raise UsageError(
            Code.PREDICTION_INVALID,
            f"{path.name} can't be read: {reason}",
            remedy="give a comma-separated text in UTF-8 with a header line",
        ) from error
    lacking = [column for column in REQUIRED if column not in header]
    if lacking:
        raise UsageError(
            Code.PREDICTION_INVALID,
            f"{path.name} has no column {' or '.join(map(repr, lacking))}; it has {', '.join(header) or 'none'}",
            remedy=f"give at least the columns {' and '.join(REQUIRED)}, comma-separated",
        )
    return rows


def _row(line: int, cells: dict[str, str]) -> _Row | str:
    """The row, or what is wrong with it."""
    patient = _restore(cells["patient_id"])
    if not patient:
        return f"line {line} has no patient_id"
    risk = _number(cells["risk"])
    if risk is None:
        return f"line {line}: risk {cells['risk']!r} is not a finite number"
    text = (cells.get("probability") or "").strip()
    probability = _number(text) if text else None
    if text and (probability is None or not 0 <= probability <= 1):
        return f"line {line}: probability {text!r} is not between 0 and 1"
    repeat, fold = ((cells.get(column) or "").strip() or "0" for column in ("repeat", "fold"))
    for column, position in (("repeat", repeat), ("fold", fold)):
        if not re.fullmatch(r"[0-9]{1,9}", position):
            return f"line {line}: {column} {position!r} is not a whole number"
    return _Row(line, patient, int(repeat), int(fold), risk, probability)


def _contradictions(rows: list[_Row]) -> list[str]:
    problems = []
    first: dict[tuple[int, str], int] = {}
    for row in rows:
        earlier = first.setdefault((row.repeat, row.patient), row.line)
        if earlier != row.line:
            problems.append(f"lines {earlier} and {row.line} predict one patient in one repeat")
    without = [row.line for row in rows if row.probability is None]
    if 0 < len(without) < len(rows):
        problems.append(f"line {without[0]} has no probability, others of its model do")
    return problems


def _prediction(model: str, endpoint: str, rows: list[_Row]) -> Prediction:
    probabilities = [row.probability for row in rows if row.probability is not None]
    return Prediction(
        model,
        endpoint,
        tuple(row.patient for row in rows),
        np.array([row.risk for row in rows], dtype=np.float64),
        np.array(probabilities, dtype=np.float64) if probabilities else None,
        np.array([row.repeat for row in rows], dtype=np.int64),
        np.array([row.fold for row in rows], dtype=np.int64),
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _neutralise(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) else text


def _restore(text: str) -> str:
    return text[1:] if _NEUTRALISED.match(text) else text
