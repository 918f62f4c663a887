"""Decisions of each fold, and predicted survival, as CSV files beside the predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from twobe3.core.outcomes import BoolArray, FloatArray
from twobe3.evaluation.csv import Key, Numbered, key_of, keys, number, read_rows, refuse_problems

DECISIONS = ("threshold", "cutoff")
TIME_COLUMN = "t="
RISE = 1e-6  # how much a survival curve may rise by rounding

Place = tuple[str | int, ...]
PlaceOf = Callable[[Key], Place]


def read_decisions(path: Path, predictions: Sequence[Numbered]) -> list[Numbered]:
    """Add what each fold decided with its training patients.

    Parameters
    ----------
    path : Path
        A table with the columns ``threshold`` (the probability from which on the model says yes) and ``cutoff`` (the
        risk above which a patient is in the group of high risk), and, as in the predictions, ``model``,
        ``endpoint``, ``repeat`` and ``fold``: one row for each fold. An empty column is a decision not taken.
    predictions : sequence of Numbered
        What they belong to.

    Returns
    -------
    list of Numbered
        The same predictions with ``threshold`` and ``cutoff``, where the file has rows for the model.

    Raises
    ------
    ConfigurationError
        ``PREDICTION_INVALID``: the file is no table, or rows (named by line) stand for a fold that isn't predicted,
        again for one, or hold a number that is none; or a fold of a model with rows has none.
    """
    values = _read(path, DECISIONS, _fold, predictions, shares=["threshold"])
    decided = []
    for numbered in predictions:
        table = _of(path, numbered, values, _fold)
        if table is not None:
            there = _filled(path, numbered, table, DECISIONS)
            threshold, cutoff = (table[:, i] if there[i] else None for i in range(len(DECISIONS)))
            prediction = replace(numbered.prediction, threshold=threshold, cutoff=cutoff)
            numbered = replace(numbered, prediction=prediction)
        decided.append(numbered)
    return decided


def read_survival(path: Path, predictions: Sequence[Numbered]) -> list[Numbered]:
    """Add predicted survival.

    Parameters
    ----------
    path : Path
        A table with a column ``t=<time>`` for each time, the probability of being free of the event then, and, as in
        the predictions, ``patient_id``, ``model``, ``endpoint``, ``repeat`` and ``fold``. A time that a model
        doesn't predict is empty in all its rows.
    predictions : sequence of Numbered
        What it belongs to.

    Returns
    -------
    list of Numbered
        The same predictions with ``survival`` and ``times``, where the file has rows for the model.

    Raises
    ------
    ConfigurationError
        ``PREDICTION_INVALID``: the file is no table, a column names no time, or rows (named by line) stand for a
        patient who isn't predicted, again for one, hold a number that is no probability or a curve that rises; or a
        patient of a model with rows has none.
    """
    columns, times = _parse_times(path)
    values = _read(path, columns, lambda key: key, predictions, shares=columns)
    foreseen = []
    for numbered in predictions:
        table = _of(path, numbered, values, lambda key: key)
        if table is not None:
            there = _filled(path, numbered, table, columns)
            survival = table[:, there]
            rising: BoolArray = np.any(np.diff(survival, axis=1) > RISE, axis=1)
            refuse_problems(
                path, [f"survival rises for line {line} of the predictions" for line in _lines(numbered, rising)]
            )
            prediction = replace(numbered.prediction, survival=survival, times=times[there])
            numbered = replace(numbered, prediction=prediction)
        foreseen.append(numbered)
    return foreseen


def _fold(key: Key) -> Place:
    """Model, endpoint, repeat and fold."""
    return key[1:]


def _parse_times(path: Path) -> tuple[list[str], FloatArray]:
    """The columns of survival by ascending time, and the times."""
    _, cells = read_rows(path, ("patient_id",))[0]
    columns = [column for column in cells if column.startswith(TIME_COLUMN)]
    times = {column: number(column.removeprefix(TIME_COLUMN)) for column in columns}
    problems = [f"column {column!r} names no time" for column, time in times.items() if time is None or time < 0]
    refuse_problems(path, problems if columns else [f"no column is called {TIME_COLUMN}<time>"])
    known = {column: time for column, time in times.items() if time is not None}
    columns = sorted(known, key=known.__getitem__)
    ascending = np.array([known[column] for column in columns])
    refuse_problems(path, ["two columns name one time"] if (np.diff(ascending) == 0).any() else [])
    return columns, ascending


def _read(
    path: Path, columns: Sequence[str], place_of: PlaceOf, predictions: Sequence[Numbered], *, shares: Collection[str]
) -> dict[Place, FloatArray]:
    """The values of each row, NaN for an empty cell, by what the row stands for."""
    known = {place_of(key) for numbered in predictions for key in keys(numbered.prediction)}
    first: dict[Place, int] = {}
    values: dict[Place, FloatArray] = {}
    problems: list[str] = []
    for line, cells in read_rows(path, columns):
        key = key_of(cells)
        if isinstance(key, str):
            problems.append(f"line {line}: {key}")
        elif (place := place_of(key)) not in known:
            problems.append(f"line {line} stands for nothing that is predicted")
        elif place in first:
            problems.append(f"lines {first[place]} and {line} stand for the same")
        else:
            first[place] = line
            values[place], bad = _numbers(cells, columns, shares)
            problems += [f"line {line}: {column} {cells[column]!r} is not {what}" for column, what in bad.items()]
    refuse_problems(path, problems)
    return values


def _numbers(
    cells: Mapping[str, str], columns: Sequence[str], shares: Collection[str]
) -> tuple[FloatArray, dict[str, str]]:
    """The numbers of a row, and what those should be that are wrong."""
    values, bad = [], {}
    for column in columns:
        value = number(cells[column]) if cells[column].strip() else math.nan
        if value is None:
            bad[column] = "a finite number"
        elif column in shares and not math.isnan(value) and not 0 <= value <= 1:
            bad[column] = "between 0 and 1"
        values.append(math.nan if value is None else value)
    return np.array(values), bad


def _of(path: Path, numbered: Numbered, values: dict[Place, FloatArray], place_of: PlaceOf) -> FloatArray | None:
    """The values of each row of a prediction; None where the file has none of its model."""
    places = [place_of(key) for key in keys(numbered.prediction)]
    absent = np.array([place not in values for place in places])
    if absent.all():
        return None
    refuse_problems(path, [f"no row stands for line {line} of the predictions" for line in _lines(numbered, absent)])
    return np.array([values[place] for place in places])


def _filled(path: Path, numbered: Numbered, table: FloatArray, columns: Sequence[str]) -> BoolArray:
    """Which columns a model fills; one filled for some rows only is refused."""
    empty: BoolArray = np.isnan(table)
    some: BoolArray = np.any(empty, axis=0)
    half: BoolArray = some & ~np.all(empty, axis=0)
    problems = [
        f"{column} is empty for line {line} of the predictions, and filled for others of its model"
        for i, column in enumerate(columns)
        if half[i]
        for line in _lines(numbered, empty[:, i])
    ]
    refuse_problems(path, problems)
    return ~some


def _lines(numbered: Numbered, rows: BoolArray) -> list[int]:
    return [line for line, marked in zip(numbered.lines, rows.tolist(), strict=True) if marked]
