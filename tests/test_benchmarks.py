"""The table that benchmarks share: what is written is read back, a run goes on, intervals are Student's."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.cells import CellTable, Figures, Mean, compute_cells, parse_seeds
from scipy.stats import ttest_1samp

import twobe3 as tb
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError


@dataclass(frozen=True)
class Cell:
    task: str
    model: str
    seed: int


CELLS = [Cell(task, model, seed) for task in "ab" for seed in (1, 2) for model in ("cnn3d", "pooled")]
VERSIONS = {"cnn3d": "one", "pooled": "two"}


def compute(cell: Cell) -> Figures:
    """Figures that tell which cell they are of."""
    return Figures("auc", CELLS.index(cell) / 8, None, 0.123456789, 1.5, 0.25, cell.seed)


def refuse(cell: Cell) -> Figures:
    if cell.model == "pooled":
        raise ConfigurationError(Code.NOTHING_USABLE, "nothing to learn from")
    return compute(cell)


def group(cell: Cell) -> tuple[str, int]:
    return cell.task, cell.seed


def test_every_cell_has_its_own_figures_and_a_run_goes_on(tmp_path: Path) -> None:
    table, finished = CellTable(tmp_path / "cells.csv", Cell), []
    compute_cells(table, CELLS, VERSIONS, compute, group=group, processes=2, finish=finished.append)
    again = CellTable(tmp_path / "cells.csv", Cell)
    assert again.select(CELLS) == {cell: replace(compute(cell), high=0.123457) for cell in CELLS}
    assert [again.version(cell) for cell in CELLS] == [VERSIONS[cell.model] for cell in CELLS]
    assert {group(cell) for cell in finished} == {group(cell) for cell in CELLS}
    assert len(finished) == 4
    written = (tmp_path / "cells.csv").read_text().splitlines()
    assert written[1:] == sorted(written[1:])

    # Only a model whose parameters have changed is computed again.
    finished.clear()
    compute_cells(again, CELLS, VERSIONS, refuse, group=group, processes=1, finish=finished.append)
    assert not finished
    changed = {**VERSIONS, "cnn3d": "three"}
    compute_cells(again, CELLS, changed, refuse, group=group, processes=1)
    assert [CellTable(again.path, Cell).version(cell) for cell in CELLS] == [changed[cell.model] for cell in CELLS]


def test_a_model_that_refuses_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    table = CellTable(tmp_path / "cells.csv", Cell)
    with pytest.raises(SystemExit, match="NOTHING_USABLE"):
        compute_cells(table, CELLS, VERSIONS, refuse, group=group, processes=1)
    assert list(table.select(CELLS)) == [cell for cell in CELLS if cell.model == "cnn3d"]


def test_two_tables_of_one_file_keep_each_others_cells(tmp_path: Path) -> None:
    first, second = (CellTable(tmp_path / "cells.csv", Cell) for _ in range(2))
    first.add(CELLS[0], "one", compute(CELLS[0]))
    second.add(CELLS[1], "two", compute(CELLS[1]))
    assert len(CellTable(tmp_path / "cells.csv", Cell)) == 2
    model = tb.models.Baseline("suvmax")
    first.describe({"suvmax": model}, {"suvmax": "0a"})
    assert json.loads((tmp_path / "cells.json").read_text())["suvmax"]["variable"] == "suvmax"


def test_intervals_over_seeds_are_those_of_the_t_test() -> None:
    values = np.random.default_rng(0).normal(0.02, 0.05, size=5)
    mean, oracle = Mean.of(values.tolist()), ttest_1samp(values, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose([mean.low, mean.high], [oracle.low, oracle.high])
    assert mean.value == pytest.approx(values.mean())
    assert Mean(0.02, -0.01, 0.05, 5).text(signed=True) == "+0.02 (−0.01 to +0.05), 5"
    assert Mean.of([0.5]).text() == "0.50, 1"
    assert Mean.of([]).text() == ""


def test_seeds_are_numbers_ranges_and_names() -> None:
    named = {"published": range(11, 14)}
    assert parse_seeds(["3", "published", "12-15", "0"], named) == [3, 11, 12, 13, 14, 15, 0]
