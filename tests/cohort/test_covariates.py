"""Columns of the clinical table as covariates: their types, what the headers know too, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.covariates import add_covariates, covariate_of, read_covariates
from twobe3.cohort.read import cohort_document, read_cohort
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid
from twobe3.core.table import parse_number
from twobe3.io.cache import Cache
from twobe3.study.config import read_study
from twobe3.study.run import run

SPEC = Grid((16.0,) * 3, (192.0, 160.0, 160.0))


def table(**columns: list[str]) -> dict[str, dict[str, str]]:
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    return {f"P{i}": row for i, row in enumerate(rows)}


def test_a_column_is_of_numbers_if_every_filled_cell_is_one_else_of_categories() -> None:
    found = read_covariates(table(ldh=["210", "1.5e2", "NA", ""], stage=["2", "IV", "?", " 2"]), ["ldh", "stage"])
    assert found == {"P0": {"ldh": 210.0, "stage": "2"}, "P1": {"ldh": 150.0, "stage": "IV"},
                     "P2": {}, "P3": {"stage": "2"}}  # fmt: skip


def test_infinity_is_no_number() -> None:
    assert read_covariates(table(x=["1", "inf"]), ["x"]) == {"P0": {"x": "1"}, "P1": {"x": "inf"}}
    assert parse_number("1e999") is None


def test_columns_named_like_facts_of_the_header_stand_for_them() -> None:
    names = ("Age", "age_years", "SEX", "weight_kg", "height_m", "weight", "hpv")
    facts = ["age_years", "age_years", "sex", "weight_kg", "height_m", "weight", "hpv"]
    assert [covariate_of(name) for name in names] == facts
    found = read_covariates(table(Age=["61", ""], Sex=["female", "m"]), ["Age", "Sex"])
    assert found == {"P0": {"age_years": 61.0, "sex": "F"}, "P1": {"sex": "M"}}


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("age", "61 y", "must hold age_years from 0 to 130; row 1"),
        ("age", "1961", "must hold age_years from 0 to 130; row 1"),
        ("height_m", "175", "must hold height_m from 0.2 to 2.8"),
        ("weight_kg", "72000", "must hold weight_kg from 0.5 to 500"),
        ("sex", "1", "must hold M, F or O; row 1"),
    ],
)
def test_age_sex_weight_and_height_in_other_units_are_refused(column: str, cell: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        read_covariates(table(**{column: [cell]}), [column])
    assert caught.value.code is Code.COVARIATE_INVALID


def test_what_is_no_covariate_is_refused() -> None:
    rows = table(y=["0", "1"], age=["5", "6"], age_years=["5", "6"])
    for columns, said in ((["y"], "outcome or the patient id"), (["age", "age_years"], "stands for 'age_years'"),
                          (["y2", "age"], "no column 'y2'")):  # fmt: skip
        with pytest.raises(ConfigurationError, match=said):
            read_covariates(rows, columns, taken={"y"})
    names = table(surname=[f"patient no. {i}" for i in range(21)])
    with pytest.raises(ConfigurationError, match="21 different texts") as caught:
        read_covariates(names, ["surname"])
    assert caught.value.code is Code.COVARIATE_INVALID


def test_the_table_goes_before_the_header_and_that_is_told(make_cohort: Any) -> None:
    first, second, third = make_cohort(3).subjects
    first = replace(first, covariates={"age_years": 50.0, "sex": "F"})
    second = replace(second, covariates={"age_years": 50.0, "sex": "F"})
    third = replace(third, covariates={"sex": "M"})
    said = [{"age_years": 50.6, "sex": "F"}, {"age_years": 58.0, "hpv": "yes"}, {"age_years": 70.0}]
    told = {subject.patient_id: facts for subject, facts in zip((first, second, third), said, strict=True)}
    subjects, warnings = add_covariates([first, second, third], told)
    assert [dict(subject.covariates) for subject in subjects] == [
        {"age_years": 50.6, "sex": "F"},
        {"age_years": 58.0, "sex": "F", "hpv": "yes"},
        {"age_years": 70.0, "sex": "M"},
    ]
    assert warnings == (
        "age_years: the clinical table and the headers differ for 1 of 3 patients; the table's is taken",
    )


def read(tiny: Any, *covariates: str) -> Cohort:
    how = {"clinical": tiny.clinical, "endpoints": [Binary("y", "outcome")], "grid": SPEC}
    return read_cohort(tiny.images, covariates=covariates, **how)


def test_a_cohort_has_the_named_columns_beside_the_headers(tiny_cohort: Any) -> None:
    tiny_cohort.scan("A")
    tiny_cohort.scan("B")
    tiny_cohort.table({"A": (1, 3, "yes", 48), "B": (0, "", "no", 60)}, "patient_id,outcome,n,hpv,age")
    header = {"age_years": 60.0, "sex": "F", "weight_kg": 70.0, "height_m": 1.7}
    assert [dict(subject.covariates) for subject in read(tiny_cohort).subjects] == [header, header]
    cohort = read(tiny_cohort, "n", "hpv", "age")
    assert [dict(subject.covariates) for subject in cohort.subjects] == [
        {**header, "n": 3.0, "hpv": "yes", "age_years": 48.0},
        {**header, "hpv": "no"},
    ]
    (warning,) = cohort.warnings
    assert "differ for 1 of 2 patients" in warning
    assert cohort_document(cohort)["subjects"][0]["covariates"]["hpv"] == "yes"
    with pytest.raises(ConfigurationError, match=r"no column 'hvp'; .* the nearest is 'hpv'") as caught:
        read(tiny_cohort, "hvp")
    assert caught.value.code is Code.COLUMN_MISSING
    with pytest.raises(ConfigurationError, match="COVARIATE_INVALID: column 'outcome'"):
        read(tiny_cohort, "outcome")


def test_a_study_file_names_the_covariates(tiny_cohort: Any, tmp_path: Any) -> None:
    tiny_cohort.patients(4)
    tiny_cohort.table({f"P{i:02d}": (i % 2, 7 + i if i else "") for i in range(4)}, "patient_id,outcome,marker")
    subject = tiny_cohort.study(extra='[[model]]\nkind = "baseline"\nvariable = "clinical"')
    subject.write_text(subject.read_text().replace("[endpoint]", 'covariates = ["marker"]\n[endpoint]', 1))
    run(subject, tmp_path / "out", workers=1)
    models = json.loads((tmp_path / "out" / "run.json").read_text())["models"]
    assert [model["imputed"] for model in models] == [{}, {}, {"marker": 1}]
    missing = json.loads((tmp_path / "out" / "evaluation.json").read_text())["missing"]
    assert {"what": "marker", "missing": 1, "n": 4} in missing
    subjects = json.loads((tmp_path / "out" / "cohort.json").read_text())["subjects"]
    assert sorted(subject["covariates"].get("marker", 0.0) for subject in subjects) == [0.0, 8.0, 9.0, 10.0]


def test_a_baseline_names_covariates_that_there_are(tiny_cohort: Any) -> None:
    tiny_cohort.patients(2)
    file = tiny_cohort.study(extra='[[model]]\nkind = "baseline"\nvariable = "clinical"\ncovariates = ["age", "grade"]')
    with pytest.raises(ConfigurationError, match="no covariate 'grade'; there are 'age'") as caught:
        read_study(file).models(tiny_cohort.images, Cache())
    assert caught.value.code is Code.UNKNOWN_NAME
    file.write_text(file.read_text().replace("[endpoint]", 'covariates = ["grade"]\n[endpoint]', 1))
    model = read_study(file).models(tiny_cohort.images, Cache())[-1]
    assert model.name == "clinical (age, grade)"
