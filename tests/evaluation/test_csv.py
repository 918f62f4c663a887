"""Predictions, decisions and predicted survival written and read back, and what is refused."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.prediction import Prediction
from twobe3.evaluation.csv import (
    COLUMNS,
    read_decisions,
    read_numbered_predictions,
    read_predictions,
    read_survival,
    write_decisions,
    write_predictions,
    write_survival,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["=1+1", "+1", "-1", "@A1", "\tx", "\rx", "'=x", "''=x", "'", "a,b", 'a"b', "a\nb", "é", "001", " p "]
)
FINITE = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def predictions(draw):
    patients = draw(st.lists(TEXT.filter(bool), min_size=1, max_size=6, unique=True))
    n, repeats = len(patients), draw(st.integers(1, 3))
    rows = n * repeats

    def column(values):
        return np.array(draw(st.lists(values, min_size=rows, max_size=rows)))

    return Prediction(
        draw(TEXT),
        draw(TEXT),
        tuple(patients) * repeats,
        column(FINITE),
        column(st.floats(0, 1)) if draw(st.booleans()) else None,
        np.repeat(np.arange(repeats), n),
        column(st.integers(0, 9)),
    )


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("table") / "predictions.csv"


@given(parts=st.lists(predictions(), min_size=1, max_size=3, unique_by=lambda p: (p.model, p.endpoint)))
def test_what_is_written_reads_back_exactly(file, parts):
    write_predictions(file, parts)
    for before, after in zip(parts, read_predictions(file), strict=True):
        assert (after.model, after.endpoint, after.patients) == (before.model, before.endpoint, before.patients)
        for name in ("risk", "repeat", "fold"):
            np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        if before.probability is None:
            assert after.probability is None
        else:
            np.testing.assert_array_equal(after.probability, before.probability)


@given(prediction=predictions())
def test_no_text_cell_begins_as_a_formula(file, prediction):
    write_predictions(file, [prediction])
    header, *rows = csv.reader(io.StringIO(file.read_bytes().decode(), newline=""))
    assert tuple(header) == COLUMNS
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row[:3])


def test_a_formula_as_patient_id_is_neutralised_and_restored(file):
    """Acceptance row 31."""
    write_predictions(file, [Prediction("-m", "@e", ("=cmd|' /C calc'!A0",), np.array([-0.1]))])
    assert file.read_text().splitlines()[1] == "'=cmd|' /C calc'!A0,'-m,'@e,0,0,-0.1,"
    read = read_predictions(file)[0]
    assert (read.patients, read.model, read.endpoint) == (("=cmd|' /C calc'!A0",), "-m", "@e")


def test_two_columns_are_enough(file):
    file.write_bytes("\ufeffpatient_id,risk,remark\r\n001,0.25,x\r\n002,-3e-2,\r\n".encode())
    read = read_predictions(file)
    assert len(read) == 1
    assert (read[0].patients, read[0].risk.tolist(), read[0].probability) == (("001", "002"), [0.25, -0.03], None)
    assert (read[0].model, read[0].endpoint, read[0].repeat.tolist()) == ("", "", [0, 0])


def test_models_and_endpoints_are_told_apart(file):
    file.write_text("model,endpoint,patient_id,risk\nb,x,1,1\na,x,1,2\nb,y,1,3\nb,x,2,4\n")
    assert [(p.model, p.endpoint, p.risk.tolist()) for p in read_predictions(file)] == [
        ("b", "x", [1, 4]),
        ("a", "x", [2]),
        ("b", "y", [3]),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "predictions.csv is empty"),
        ("patient;risk\n", "predictions.csv has no row below its header"),
        ("patient;score\n1;2\n", "has no column 'patient_id' or 'risk'; it has patient, score"),
        ("patient_id|risk\n1|2\n", r"has no column .*; it has patient_id\|risk"),
        ("patient_id,risk\n", "has no row below its header"),
        ("patient_id,risk\n1,0.5\n,0.5\n", "line 3 has no patient_id"),
        ("patient_id,risk\n1,high\n2,nan\n3,1\n4\n", "line 2: risk 'high'.*line 3: risk 'nan'.*line 5: risk ''"),
        ("patient_id,risk\n" + "1,x\n" * 13, "line 11: risk 'x' is not a finite number; and 3 more"),
        ("patient_id,risk,probability\n1,1,1.5\n", "line 2: probability '1.5' is not between 0 and 1"),
        ("patient_id,risk,probability\n1,1,0.5\n2,1,\n", "line 3 has no probability"),
        ("patient_id,risk,repeat\n1,1,0\n1,2,1\n1,3,0\n", "lines 2 and 4 predict one patient in one repeat"),
        ("patient_id,risk,fold\n1,1,first\n", "line 2: fold 'first' is not a whole number"),
        ("patient_id,risk\n\udc81,1\n", "is not a table as text: character maps to <undefined>"),
        ('patient_id,risk\n"' + "x" * 200_000 + '",1\n', "is not a table as text: field larger"),
    ],
)
def test_refusals_name_the_rows(file, content, says):
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigurationError, match=says) as caught:
        read_predictions(file)
    assert caught.value.code is Code.PREDICTION_INVALID
    assert str(file.parent) not in str(caught.value)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"predictions\.csv can't be read: No such file"):
        read_predictions(tmp_path / "predictions.csv")


def test_a_semicolon_file_with_decimal_commas_is_what_a_spreadsheet_of_such_a_country_saves(file):
    file.write_bytes("\ufeffpatient_id;model;risk;probability\r\n1,5;a;-0,25;1\r\n2;a;3;0,75\r\n".encode())
    (read,) = read_predictions(file)
    assert (read.patients, read.model) == (("1,5", "2"), "a")
    assert (read.risk.tolist(), read.probability.tolist()) == ([-0.25, 3.0], [1.0, 0.75])


def test_the_lines_of_rows_are_known(file):
    file.write_text('model,patient_id,risk\na,"P\n1",1\n\nb,P2,2\na,P3,3\n')
    read = read_numbered_predictions(file)
    assert [(one.prediction.model, one.lines) for one in read] == [("a", (3, 6)), ("b", (5,))]


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


def test_decisions_and_survival_read_back_exactly(tmp_path, parts) -> None:
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
