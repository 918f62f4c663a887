"""Predictions written and read back, and what is refused."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.prediction import Prediction
from twobe3.evaluation.csv import COLUMNS, read_numbered_predictions, read_predictions, write_predictions

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
        ("patient_id,risk\n\udcff,1\n", "is not a table in UTF-8: invalid start byte"),
        ('patient_id,risk\n"' + "x" * 200_000 + '",1\n', "is not a table in UTF-8: field larger"),
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
