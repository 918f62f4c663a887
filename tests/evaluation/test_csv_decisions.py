"""Decisions and predicted survival written beside predictions and read back."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.prediction import Prediction
from twobe3.evaluation.csv import (
    read_decisions,
    read_numbered_predictions,
    read_survival,
    write_decisions,
    write_predictions,
    write_survival,
)

PATIENTS = ("=1+1", "B", "C", "D")
REPEAT, FOLD = np.repeat([0, 1], 4), np.tile([0, 0, 1, 1], 2)


def prediction(model: str, **more: object) -> Prediction:
    risk = np.random.default_rng(len(model)).normal(size=8)
    return Prediction(model, "relapse", PATIENTS * 2, risk, None, REPEAT, FOLD, **more)


@pytest.fixture
def parts() -> list[Prediction]:
    decided = np.repeat([0.1, 0.2, 0.3, 1 / 3], 2)
    falling = np.sort(np.random.default_rng(0).random((8, 3)))[:, ::-1]
    return [
        prediction("a", threshold=decided, cutoff=-decided, survival=falling, times=np.array([0.1, 30, 365.25])),
        prediction("bb", cutoff=decided, survival=falling[:, :1], times=np.array([30.0])),
        prediction("ccc"),
    ]


def written(folder, parts):
    write_predictions(folder / "predictions.csv", parts)
    write_decisions(folder / "decisions.csv", parts)
    write_survival(folder / "survival.csv", parts)
    return read_numbered_predictions(folder / "predictions.csv")


def test_what_is_written_reads_back_exactly(tmp_path, parts) -> None:
    read = read_decisions(tmp_path / "decisions.csv", written(tmp_path, parts))
    read = read_survival(tmp_path / "survival.csv", read)
    for before, after in zip(parts, [numbered.prediction for numbered in read], strict=True):
        for name in ("threshold", "cutoff", "survival", "times"):
            expected, got = getattr(before, name), getattr(after, name)
            assert (expected is None) == (got is None)
            if expected is not None:
                np.testing.assert_array_equal(got, expected)


def test_the_files_have_one_row_a_fold_and_one_column_a_time(tmp_path, parts) -> None:
    written(tmp_path, parts)
    header, *rows = csv.reader((tmp_path / "decisions.csv").read_text().splitlines())
    assert header == ["model", "endpoint", "repeat", "fold", "threshold", "cutoff"]
    assert rows[0] == ["a", "relapse", "0", "0", "0.1", "-0.1"]
    assert [row[:5] for row in rows[4:]] == [["bb", "relapse", str(r), str(f), ""] for r in (0, 1) for f in (0, 1)]
    header, *rows = csv.reader((tmp_path / "survival.csv").read_text().splitlines())
    assert header == ["patient_id", "model", "endpoint", "repeat", "fold", "t=0.1", "t=30.0", "t=365.25"]
    assert rows[0][0] == "'=1+1"
    assert {row[5] for row in rows[8:]} == {""}
    assert len(rows) == 16


def test_without_decisions_or_survival_there_is_no_file(tmp_path, parts) -> None:
    written(tmp_path, parts)
    written(tmp_path, [replace(part, threshold=None, cutoff=None, survival=None, times=None) for part in parts])
    assert [path.name for path in tmp_path.iterdir()] == ["predictions.csv"]


def test_a_fold_decides_once(tmp_path) -> None:
    with pytest.raises(ValueError, match="a fold has several thresholds"):
        write_decisions(tmp_path / "decisions.csv", [prediction("a", threshold=np.arange(8) / 8)])


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["a,relapse,0,0,1.5,1"], "line 2: threshold '1.5' is not between 0 and 1"),
        (["a,relapse,0,0,0.5,inf"], "line 2: cutoff 'inf' is not a finite number"),
        (["a,relapse,0,x,0.5,1"], "line 2: fold 'x' is not a whole number"),
        (["a,relapse,0,7,0.5,1", "z,,0,0,,"], "line 2 stands for nothing that is predicted; line 3 stands for nothing"),
        (["a,relapse,0,0,0.5,1", "a,relapse,0,0,0.5,1"], "lines 2 and 3 stand for the same"),
        (["a,relapse,0,0,0.5,1"], "no row stands for line 4 of the predictions; .*line 5 of"),
        (
            [f"a,relapse,{r},{f},{'' if r else 0.5},1" for r in (0, 1) for f in (0, 1)],
            "threshold is empty for line 6 of",
        ),
    ],
)
def test_wrong_decisions_are_refused_by_line(tmp_path, parts, rows, says) -> None:
    predictions, file = written(tmp_path, parts), tmp_path / "decisions.csv"
    file.write_text("\n".join(["model,endpoint,repeat,fold,threshold,cutoff", *rows]))
    with pytest.raises(ConfigurationError, match=says) as caught:
        read_decisions(file, predictions)
    assert caught.value.code is Code.PREDICTION_INVALID


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("t=30,t=60", "0.9,1.2", "line 2: t=60 '1.2' is not between 0 and 1"),
        ("t=30,t=60", "0.5,0.6", "survival rises for line 2 of the predictions"),
        ("t=60,t=30", "0.6,0.5", "survival rises for line 2 of the predictions"),
        ("t=30,t=30.0", "0.6,0.5", "two columns name one time"),
        ("t=30,t=later", "0.6,0.5", "column 't=later' names no time"),
        ("t=-30", "0.6", "column 't=-30' names no time"),
        ("year1", "0.6", "no column is called t=<time>"),
        ("t=30,t=60", "0.6", "t=60 is empty for line 2 of the predictions"),
    ],
)
def test_wrong_survival_is_refused_by_line(tmp_path, header, row, says) -> None:
    (tmp_path / "predictions.csv").write_text("patient_id,risk\nA,1\nB,2\n")
    predictions = read_numbered_predictions(tmp_path / "predictions.csv")
    good = ",".join(["0.5"] * (header.count(",") + 1))
    (tmp_path / "survival.csv").write_text(f"patient_id,{header}\nA,{row}\nB,{good}\n")
    with pytest.raises(ConfigurationError, match=says):
        read_survival(tmp_path / "survival.csv", predictions)


def test_survival_at_times_in_any_order(tmp_path) -> None:
    (tmp_path / "predictions.csv").write_text("patient_id;risk\nA;1\nB;2\n")
    predictions = read_numbered_predictions(tmp_path / "predictions.csv")
    (tmp_path / "survival.csv").write_text("t=60;patient_id;t=30\n0,5;B;0,75\n0,25;A;1\n")
    (numbered,) = read_survival(tmp_path / "survival.csv", predictions)
    assert numbered.prediction.times.tolist() == [30, 60]
    assert numbered.prediction.survival.tolist() == [[1, 0.25], [0.75, 0.5]]
