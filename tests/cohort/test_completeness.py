"""What the evaluation is told of the patients, from the cohort to ``evaluation.json``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twobe3.cohort import completeness as patients
from twobe3.cohort.cohort import Cohort
from twobe3.cohort.read import read_cohort
from twobe3.cohort.splits import CrossValidation
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary
from twobe3.core.errors import ConfigurationError, Exclusion
from twobe3.evaluation.cohort_summary import count_missing
from twobe3.io.cache import Cache
from twobe3.models import Baseline, PooledModel
from twobe3.study.config import read_study
from twobe3.validation.cross_validate import cross_validate


@pytest.fixture(scope="module")
def cohort(make_cohort) -> Cohort:
    cohort = make_cohort(12)
    stages = [{"stage": stage} for stage in ("I", "II", "", "I") * 3]
    scanners = [{"manufacturer": "SIEMENS", "model": model} for model in ("Biograph", "Vision") * 6]
    subjects = tuple(
        replace(subject, subgroups=groups, description=scanner)
        for subject, groups, scanner in zip(cohort.subjects, stages, scanners, strict=True)
    )
    unknown = {key: value for key, value in subjects[0].covariates.items() if key != "sex"}
    return replace(cohort, subjects=(replace(subjects[0], covariates=unknown), *subjects[1:]))


def test_the_factors_are_sex_age_centre_scanner_and_the_columns_asked_for(cohort):
    found = patients.factors(cohort)
    assert list(found) == ["sex", "age", "centre", "scanner", "stage"]
    first, second = cohort.patients[:2]
    assert (found["sex"][first], found["sex"][second]) == (None, "M")
    assert found["scanner"][second] == "SIEMENS Vision"
    assert (found["stage"][first], found["stage"][cohort.patients[2]]) == ("I", "")
    assert found["age"][second] == cohort.subjects[1].covariates["age_years"]


def test_what_is_missing_is_counted_among_all_the_scanned_and_the_used(cohort):
    codes = {"a": "PATIENT_NOT_SCANNED", "b": "OUTCOME_MISSING", "c": "WEIGHT_MISSING", "d": "PATIENT_NOT_IN_TABLE"}
    exclusions = tuple(Exclusion(patient, "", code, "", "") for patient, code in codes.items())
    assert all(code in Code.__members__ for code in codes.values())
    seen = replace(cohort, exclusions=exclusions)
    rows = [row for known in patients.list_known(seen) for row in count_missing(*known)]
    found = {row.what: (row.missing, row.n) for row in rows}
    assert found == {
        "PET scan": (1, 15),  # twelve used, three excluded; the one without a row in the table is no patient of ours
        "usable PET scan": (1, 14),
        "any outcome": (1, 14),
        "relapse": (0, 12),
        "sex": (1, 12),
        "age": (0, 12),
        "weight": (0, 12),
        "height": (12, 12),
        "centre": (0, 12),
        "stage": (3, 12),
    }


def test_a_study_file_names_columns_of_the_table(tiny_cohort, tmp_path):
    tiny_cohort.patients(4)
    tiny_cohort.table({f"P{i:02d}": (i % 2, ("II", "na")[i % 2]) for i in range(4)}, "patient_id,outcome,stage")
    subject = read_study(tiny_cohort.study(extra='[report]\n            subgroups = ["stage"]'))
    how = {"clinical": tiny_cohort.clinical, "endpoints": [Binary("outcome", "outcome")], "grid": subject.volume.grid()}
    cohort = read_cohort(tiny_cohort.images, subgroups=subject.report.subgroups, **how)
    assert [subject.subgroups for subject in cohort.subjects] == [{"stage": "II"}, {"stage": ""}] * 2
    with pytest.raises(ConfigurationError, match="'grade'") as caught:
        read_cohort(tiny_cohort.images, subgroups=["grade"], **how)
    assert caught.value.code is Code.COLUMN_MISSING


def test_the_evaluation_file_holds_subgroups_missing_values_and_sample_size(cohort, tmp_path):
    models = [Baseline("suvmax"), Baseline("centre")]
    result = cross_validate(models, cohort, cv=CrossValidation(2, 1), resamples=100)
    result.write(tmp_path)
    judged = json.loads((Path(tmp_path) / "evaluation.json").read_text())
    groups = [(row["model"], row["factor"], row["level"], row["n"]) for row in judged["subgroups"]]
    assert [row[1:] for row in groups if row[0] == "centre" and row[1] == "stage"] == [
        ("stage", "I", 6),
        ("stage", "II", 3),
        ("stage", "not stated", 3),
    ]
    assert all(row["warning"] for row in judged["subgroups"])  # twelve patients are few in every part
    assert {"what": "sex", "missing": 1, "n": 12} in judged["missing"]
    (size,) = judged["sample_sizes"]
    assert (size["endpoint"], size["n"], size["events"]) == ("relapse", 12, 6)
    assert [(row["model"], row["parameters"], row["events_per_parameter"]) for row in size["models"]] == [
        ("suvmax (contour)", 1, 6.0),
        ("centre", 1, 6.0),
    ]
    names = json.dumps(judged)
    assert not any(patient in names for patient in cohort.patients)


def test_the_candidate_parameters_are_the_columns_of_the_fit(cohort):
    pooled = PooledModel(weights="random", layer=2, slice_size=32, cache=Cache(), planes=("axial",))
    for model in (pooled, Baseline("age"), Baseline("centre")):
        fitted = model.fit(cohort)
        columns = np.size(fitted._arrays()["weights"])
        assert model.report(cohort).n_parameters == max(1, columns - (model.name == "centre"))


def test_an_unknown_key_of_the_report_section_names_the_nearest(tiny_cohort):
    tiny_cohort.patients(2)
    with pytest.raises(ConfigurationError, match="'subgroups'") as caught:
        read_study(tiny_cohort.study(extra='[report]\n            subgroup = ["stage"]'))
    assert caught.value.code is Code.UNKNOWN_KEY
