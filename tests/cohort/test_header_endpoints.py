"""What headers say of a patient as outcomes, without a clinical table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twobe3.cohort.header_endpoints import read_header_row
from twobe3.cohort.read import read_cohort
from twobe3.core.endpoints import Binary, Continuous
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid
from twobe3.core.outcomes import Endpoint
from twobe3.dicom.body_region import BodyRegion, body_region
from twobe3.dicom.series import choose_series, find_series
from twobe3.study.config import read_study
from twobe3.study.run import run

SEX, AGE = Binary("sex", "sex", "M"), Continuous("age", "age_years", "year")
GRID = Grid((16.0,) * 3, (192.0, 160.0, 160.0))


@pytest.mark.parametrize(
    ("coverage_mm", "body_part", "height_m", "age_years", "region"),
    [
        (1750.0, "", 1.75, None, "whole-body"),
        (1000.0, "LUNG", 1.7, None, "trunk"),  # the site of the disease, in a scan from skull to thigh
        (1000.0, "", None, 60.0, "trunk"),
        (1000.0, "", 1.1, None, "whole-body"),  # a child
        (1000.0, "", None, 9.0, ""),  # a child of unknown height
        (1000.0, "", None, None, ""),
        (1360.0, "WHOLEBODY", 1.7, None, ""),  # between thigh and feet
        (300.0, "EXTREMITY", 1.7, None, "extremity"),
        (300.0, "Head Neck", None, 50.0, "head-and-neck"),
        (300.0, "WHOLEBODY", 1.7, None, ""),
        (600.0, "PROSTATE", 1.7, None, ""),  # more than one part
        (0.0, "CHEST", 1.7, None, ""),
    ],
)
def test_a_region_is_told_only_where_length_and_header_agree(
    coverage_mm: float, body_part: str, height_m: float | None, age_years: float | None, region: BodyRegion
) -> None:
    assert body_region(coverage_mm, body_part=body_part, height_m=height_m, age_years=age_years) == region


def test_regions_of_real_scans(real_data: Path) -> None:
    (whole,) = choose_series(find_series([real_data / "ge_whole_body"]).series)[0]
    (crop,) = choose_series(find_series([real_data / "sts/dicom/STS_001"]).series)[0]
    # Both are of one man of 59 years and 1.63 m, and both headers say EXTREMITY, where the tumour is.
    assert read_header_row(whole)["body_region"] == "trunk"
    assert read_header_row(crop)["body_region"] == "extremity"
    assert (read_header_row(whole)["sex"], float(read_header_row(whole)["age_years"])) == ("M", 59.0)


@pytest.fixture
def people(tiny_cohort: Any) -> Any:
    """Six patients whose headers differ; of one the sex is other, of one the age is not known."""
    for i, sex in enumerate("MFMFOM"):
        age = "" if i == 1 else f"{30 + 10 * i:03d}Y"
        tiny_cohort.scan(f"P{i}", suv=3.0 + i, PatientSex=sex, PatientAge=age, PatientBirthDate="")
    return tiny_cohort


def test_headers_give_outcomes_without_a_table(people: Any) -> None:
    cohort = read_cohort(people.images, header_endpoints=[SEX, AGE], grid=GRID)
    sex, age = cohort.endpoints
    assert dict(zip(sex.patients, sex.event.tolist(), strict=True)) == {
        "P0": True, "P1": False, "P2": True, "P3": False, "P5": True,
    }  # fmt: skip
    assert dict(zip(age.patients, age.value.tolist(), strict=True)) == {
        "P0": 30.0, "P2": 50.0, "P3": 60.0, "P4": 70.0, "P5": 80.0,
    }  # fmt: skip


def test_no_model_sees_the_label_as_a_covariate(people: Any) -> None:
    cohort = read_cohort(people.images, header_endpoints=[SEX], grid=GRID)
    assert all("sex" not in subject.covariates for subject in cohort.subjects)
    assert any("age_years" in subject.covariates for subject in cohort.subjects)


def test_headers_and_the_table_give_outcomes_side_by_side(people: Any) -> None:
    people.table({f"P{i}": (i % 2,) for i in (0, 1, 2, 3, 9)})
    cohort = read_cohort(
        people.images,
        clinical=people.clinical,
        endpoints=[Binary("y", "outcome")],
        header_endpoints=[Continuous("weight", "weight_kg", "kg")],
        grid=GRID,
    )
    assert cohort.patients == ("P0", "P1", "P2", "P3")
    assert np.allclose(cohort.for_endpoint("weight").outcomes.value, 70.0)
    codes = sorted(one.code for one in cohort.exclusions)
    assert codes == ["PATIENT_NOT_IN_TABLE", "PATIENT_NOT_IN_TABLE", "PATIENT_NOT_SCANNED"]


@pytest.mark.parametrize("endpoint", [Binary("smoker", "smoker"), Continuous("dose", "dose_bq")])
def test_what_headers_do_not_carry_is_refused_by_name(people: Any, endpoint: Endpoint) -> None:
    with pytest.raises(
        ConfigurationError, match=r"UNKNOWN_NAME.*headers carry no .*sex, age_years, weight_kg, body_region"
    ):
        read_cohort(people.images, header_endpoints=[endpoint], grid=GRID)


def test_a_study_on_header_labels_runs_over_two_folders_without_a_table(
    tmp_path: Path, new_tiny_cohort: Callable[[Path], Any]
) -> None:
    for number, folder in enumerate(("lung", "breast")):
        cohort = new_tiny_cohort(tmp_path / folder)
        for i in range(4):
            cohort.scan(f"{folder}-{i}", suv=3.0 + i + number, PatientSex="MF"[i % 2])
    subject = cohort.study()
    text = subject.read_text().replace('images = "dicom"', 'images = ["../lung/dicom", "dicom"]')
    text = text.replace('clinical = "clinical.csv"', "").replace(
        'column = "outcome"', 'column = "sex"\nsource = "header"'
    )
    subject.write_text(text.replace('kind = "binary"', 'kind = "binary"\npositive = "F"'))
    run(subject, tmp_path / "out", workers=1)
    document = json.loads((tmp_path / "out/cohort.json").read_text())
    assert (document["used"], document["endpoints"][0]["events"]) == (8, 4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('clinical = "clinical.csv"', ""), 'every endpoint must have source = "header"'),
        (('column = "outcome"', 'column = "outcome"\nsource = "header"'), "headers carry no 'outcome'"),
        (('images = "dicom"', "images = []"), "names no folder"),
    ],
)
def test_a_study_file_without_outcomes_is_refused(tiny_cohort: Any, change: tuple[str, str], said: str) -> None:
    tiny_cohort.images.mkdir()
    subject = tiny_cohort.study()
    subject.write_text(subject.read_text().replace(*change))
    with pytest.raises(ConfigurationError, match=said):
        read_study(subject)
