"""The cells of a benchmark's table, a fit each: computed once, kept in a CSV, summarised with intervals over seeds.

The CSV is what a table is made of and can be committed beside it; a run goes on from it. Beside it a JSON file holds
the parameters of the models. Both are written by one process at a time.
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, get_type_hints

import numpy as np
from scipy.stats import t

import twobe3 as tb
from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.evaluation.metrics import find_metric
from twobe3.io.files import digest, write_atomic, write_json
from twobe3.runtime.process import one_thread
from twobe3.runtime.progress import bar

RESAMPLES = 1000
METRICS = {"binary": "auc", "time-to-event": "harrell_c"}
PARAMETERS = "parameters"


class Key(Protocol):
    """What tells the cells of a table apart: a frozen dataclass of texts and numbers."""

    __dataclass_fields__: Any

    @property
    def model(self) -> str: ...


C = TypeVar("C", bound=Key)


@dataclass(frozen=True)
class Figures:
    """What a fit gave: the metric on the test patients with its interval, the seconds, how many could be predicted."""

    metric: str
    value: float
    low: float | None
    high: float | None
    fit_seconds: float
    predict_seconds: float
    tested: int


# -- computing


def measure_fit(model: tb.models.Model, training: tb.Cohort, test: tb.Cohort) -> Figures:
    """Fit and predict on cached inputs, one thread; AUC or Harrell's C with a 95 % interval over the test patients."""
    with one_thread():
        for part in (training, test):
            model.precompute(part)
        start = time.perf_counter()
        model.fit(training)
        fitted = time.perf_counter()
        prediction = model.predict(test)
        end = time.perf_counter()
        found = measure_risk(prediction.risk, test.outcomes.of(prediction.patients))
    return replace(found, fit_seconds=fitted - start, predict_seconds=end - fitted)


def measure_risk(risk: FloatArray, outcomes: Outcomes) -> Figures:
    """AUC or Harrell's C of risks that nothing was fitted for."""
    kind = outcomes.endpoint.kind
    found = find_metric(METRICS[kind], kind)(outcomes, risk, resamples=RESAMPLES)
    return Figures(found.name, found.value, found.low, found.high, 0.0, 0.0, found.n)


def executor(processes: int) -> Executor:
    """Several processes, or a thread of this one."""
    # Forking a process whose libraries have threads can hang.
    return ProcessPoolExecutor(processes, get_context("spawn")) if processes > 1 else ThreadPoolExecutor(1)


def parameters_digest(model: tb.models.Model, drawn: str) -> str:
    """What tells one version of a cell from another: the model's parameters and weights, and how patients are drawn."""
    return digest([model.cache_key(), drawn])[:12]


def compute_cells(
    table: CellTable[C],
    cells: Sequence[C],
    versions: Mapping[str, str],
    compute: Callable[[C], Figures],
    *,
    group: Callable[[C], Hashable],
    processes: int,
    finish: Callable[[C], None] = lambda cell: None,
) -> None:
    """Compute what the table lacks, a cell a process; cells of one group, which share features, one after the other.

    ``versions`` holds the digest of each model's parameters; ``finish`` is called with the last cell of a group. A
    cell that a model refuses is named at the end, and the others are computed.
    """
    missing = [cell for cell in cells if table.version(cell) != versions[cell.model]]
    groups: dict[Hashable, deque[C]] = {}
    for cell in missing:
        groups.setdefault(group(cell), deque()).append(cell)
    done, refused = 0, list[str]()
    waiting, running = deque(groups.values()), dict[Future[Figures], deque[C]]()
    with (
        executor(processes) as pool,
        bar("fits", len(missing)) as progress,
    ):
        while waiting or running:
            while waiting and len(running) < processes:
                members = waiting.popleft()
                running[pool.submit(compute, members[0])] = members
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                members = running.pop(future)
                cell = members.popleft()
                try:
                    table.add(cell, versions[cell.model], future.result())
                except tb.TwoBe3Error as error:
                    refused.append(f"{cell}: {error}")
                done += 1
                progress(done, len(missing))
                if members:
                    running[pool.submit(compute, members[0])] = members
                else:
                    finish(cell)
    if refused:
        raise SystemExit("\n".join(refused))


# -- the table on disk


class CellTable(Generic[C]):
    """The figures of cells by what tells them apart, in a sorted CSV."""

    def __init__(self, path: Path, kind: type[C]) -> None:
        self.path, self.kind = path, kind
        self.rows: dict[C, tuple[str, Figures]] = {}
        self._read()

    def __len__(self) -> int:
        return len(self.rows)

    def version(self, cell: C) -> str:
        """The digest of the parameters with which a cell was computed; empty where it was not."""
        return self.rows[cell][0] if cell in self.rows else ""

    def select(self, cells: Sequence[C]) -> dict[C, Figures]:
        """What is there of these cells."""
        return {cell: self.rows[cell][1] for cell in cells if cell in self.rows}

    def add(self, cell: C, version: str, figures: Figures) -> None:
        """Put a cell into the file, beside what other runs have put there."""
        with self._locked():
            self._read()
            self.rows[cell] = version, figures
            write_atomic(self.path, self._to_csv().encode())

    def describe(self, models: Mapping[str, tb.models.Model], versions: Mapping[str, str]) -> None:
        """Put the parameters of models into the JSON file beside the CSV, by the digest that the rows have."""
        path = self.path.with_suffix(".json")
        with self._locked():
            there = json.loads(path.read_text()) if path.exists() else {}
            for name, model in models.items():
                there[name] = {PARAMETERS: versions[name], "kind": model.kind, **model.public_parameters()}
            write_json(path, dict(sorted(there.items())))

    def _read(self) -> None:
        if not self.path.exists():
            return
        with self.path.open(newline="") as stream:
            for row in csv.DictReader(stream):
                self.rows[_parse(self.kind, row)] = row[PARAMETERS], _parse(Figures, row)

    def _to_csv(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*(one.name for kind in (self.kind, Figures) for one in fields(kind)), PARAMETERS])
        for cell in sorted(self.rows, key=astuple):
            version, figures = self.rows[cell]
            writer.writerow([*map(_format, (*astuple(cell), *astuple(figures))), version])
        return text.getvalue()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let no other run write meanwhile."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def _format(value: str | float | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


D = TypeVar("D")


def _parse(kind: type[D], row: Mapping[str, str]) -> D:
    """The dataclass of a row's columns."""
    types = {str: str, int: int, float: float, float | None: lambda text: float(text) if text else None}
    hints = get_type_hints(kind)
    return kind(**{one.name: types[hints[one.name]](row[one.name]) for one in fields(kind)})  # type: ignore[arg-type]


# -- summaries


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its 95 % interval by Student's t; without one where there are fewer than two."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        n = len(values)
        mean = float(np.mean(values)) if n else np.nan
        if n < 2:
            return cls(mean, np.nan, np.nan, n)
        half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
        return cls(mean, mean - half, mean + half, n)

    def text(self, *, signed: bool = False) -> str:
        """For instance ``0.91 (0.88–0.94), 5``, or ``+0.02 (−0.01 to +0.05), 5``; empty without values."""
        if not self.n:
            return ""
        value, low, high = (
            f"{one:{'+' if signed else ''}.2f}".replace("-", "−") for one in (self.value, self.low, self.high)
        )
        interval = "" if self.n < 2 else f" ({low}{' to ' if signed else '–'}{high})"
        return f"{value}{interval}, {self.n}"


def parse_seeds(words: Sequence[str], named: Mapping[str, Sequence[int]]) -> list[int]:
    """Seeds from words such as ``3``, ``11-15`` or the name of a list, each once and in order."""
    seeds: list[int] = []
    for word in words:
        first, _, last = word.partition("-")
        seeds += named[word] if word in named else range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(seeds))
