"""Nothing that identifies a patient is in the repr of any object, nor in any refusal of a table."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

import twobe3 as tb
from twobe3.cohort.splits import PredefinedSplit
from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.errors import TwoBe3Error
from twobe3.core.grid import Grid
from twobe3.evaluation.csv import read_numbered_predictions
from twobe3.io.clinical_table import read_table
from twobe3.study.config import read_study

MARK = "XYZZY"
COLUMNS = "patient_id,outcome,t,e,centre,name,start,end,split"
Y = Binary("outcome", "outcome")


def row(number: int, **cells: object) -> tuple[object, ...]:
    """A good row of the table, some cells of it changed."""
    good = {
        "outcome": number % 2, "t": 400 + number, "e": number % 2, "centre": "ab"[number % 2],
        "name": f"{MARK}^{number}",
        "start": "2019-01-01", "end": f"2020-01-{number + 1:02}", "split": "train" if number < 4 else "test",
    }  # fmt: skip
    return tuple({**good, **cells}.values())


@pytest.fixture
def marked(tiny_cohort: Any) -> Any:
    """Eight ids that hold a mark, as does a column: one without weight, one in the table only; and a damaged file."""
    for number in range(6):
        tiny_cohort.scan(f"{MARK}{number}", suv=3.0 + number)
    tiny_cohort.scan(f"{MARK}bad", PatientWeight=None)
    (tiny_cohort.images / f"{MARK}.dcm").write_bytes(bytes(128) + b"DICM" + b"\2\0\0\0UL")
    tiny_cohort.table({f"{MARK}{name}": row(n) for n, name in enumerate([*range(6), "bad", "absent"])}, COLUMNS)
    return tiny_cohort


def test_no_object_says_whom_it_is_about(marked: Any, tmp_path: Path) -> None:
    """Acceptance row 34."""
    out = tmp_path / "out"
    result = tb.run(marked.study(), out, workers=1)
    table = read_table(marked.clinical)
    kept = [
        result,
        result.cohort.names,
        tb.predict(next((out / "models").glob("*suvmax*")), [marked.images], out=tmp_path / "new.csv"),
        tb.evaluate_csv(out / "predictions.csv", clinical=marked.clinical, endpoint=Y, resamples=100),
        read_numbered_predictions(out / "predictions.csv"),
        read_study(marked.study()).cohort.read_clinical(tmp_path),
        PredefinedSplit((f"{MARK}1",), (f"{MARK}2",), by="patient"),
        tb.find_series(marked.images),
        tb.inspect([marked.images]),
        TimeToEvent("os", "", "e", start="start", end="end").outcomes(table),
        result.cohort.sample,
    ]
    objects = [*kept, *(one for one in gc.get_objects() if str(type(one).__module__).startswith("twobe3."))]
    kinds = {type(one).__name__ for one in objects}
    assert {"Subject", "Cohort", "Outcomes", "Prediction", "PETSeries", "Unused", "ScanPrediction", "CVPlan"} <= kinds
    for one in objects:
        html = one._repr_html_() if hasattr(one, "_repr_html_") and not isinstance(one, type) else ""
        assert MARK not in repr(one) + str(one) + html, type(one)
    assert MARK in (out / "predictions.csv").read_text()
    assert MARK in (out / "exclusions.csv").read_text()
    assert MARK in (tmp_path / "new.csv").read_text()


DATES = TimeToEvent("os", "", "e", start="start", end="end")
CASES: dict[str, tuple[dict[int, dict[str, object]], dict[str, Any]]] = {
    "OUTCOME_INVALID: more than two values": ({1: {"outcome": 2}, 2: {"outcome": 3}}, {}),
    "OUTCOME_INVALID: which of them is the event": ({0: {"outcome": 5}, 2: {"outcome": 5}, 4: {"outcome": 5}}, {}),
    "OUTCOME_INVALID: ids for a class": ({}, {"endpoint": Binary("y", "patient_id")}),
    "OUTCOME_INVALID: ids for a number": ({}, {"endpoint": Continuous("y", "patient_id")}),
    "OUTCOME_INVALID: ids for a time": ({}, {"endpoint": TimeToEvent("y", "patient_id", "e")}),
    "OUTCOME_INVALID: ids for an event": ({}, {"endpoint": TimeToEvent("y", "t", "patient_id")}),
    "OUTCOME_INVALID: a time of 0": ({1: {"t": 0}}, {"endpoint": TimeToEvent("y", "t", "e")}),
    "OUTCOME_INVALID: an event of 3": ({1: {"e": 3}}, {"endpoint": TimeToEvent("y", "t", "e")}),
    "OUTCOME_INVALID: the end before the start": ({1: {"end": "2018-01-01"}}, {"endpoint": DATES}),
    "DATE_INVALID: two readings": ({n: {"end": "03/04/2020"} for n in range(8)}, {"endpoint": DATES}),
    "DATE_INVALID: an id": ({}, {"endpoint": TimeToEvent("y", "", "e", start="patient_id", end="end")}),
    "COVARIATE_INVALID: an id": ({}, {"covariates": ["patient_id"]}),
    "COVARIATE_INVALID: ages": ({}, {"covariates": ["age"], "columns": COLUMNS.replace("name", "age")}),
    "COVARIATE_INVALID: sexes": ({}, {"covariates": ["sex"], "columns": COLUMNS.replace("name", "sex")}),
    "COLUMN_MISSING": ({}, {"centre": "center"}),
    "ONE_CLASS": ({n: {"outcome": 1} for n in range(8)}, {}),
    "NO_PATIENT_MATCHES": ({}, {"patient": "name"}),
    "TABLE_UNREADABLE: an empty id": ({1: {"name": ""}}, {"patient": "name"}),
    "PATIENT_TWICE": ({1: {"name": f"{MARK}^0"}}, {"patient": "name"}),
    "TABLE_UNREADABLE: too many cells": ({1: {"split": "train,1"}}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_no_refusal_of_a_table_names_a_patient(marked: Any, case: str, caplog: pytest.LogCaptureFixture) -> None:
    changes, options = CASES[case]
    options = {"endpoint": Y, **options}
    rows = {f"{MARK}{name}": row(n, **changes.get(n, {})) for n, name in enumerate([*range(6), "bad", "absent"])}
    marked.table(rows, options.pop("columns", COLUMNS))
    with pytest.raises(TwoBe3Error) as refused, caplog.at_level("DEBUG"):
        tb.read_cohort(
            marked.images, clinical=marked.clinical, grid=Grid((16.0,) * 3, (192.0, 160.0, 160.0)), **options
        )
    assert refused.value.code.name == case.partition(":")[0]
    assert MARK not in str(refused.value) + caplog.text


def test_no_refusal_of_a_split_names_a_patient(marked: Any, tmp_path: Path) -> None:
    study = marked.study(extra='scheme = "split"\n            split = "patient_id"')
    with pytest.raises(TwoBe3Error, match="SPLIT_INVALID") as refused:
        tb.run(study, tmp_path / "out", workers=1)
    assert MARK.lower() not in str(refused.value).lower()
