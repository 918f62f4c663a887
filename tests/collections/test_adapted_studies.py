"""Published tables in a study file, on the command line and from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.command_line import Call
from tests.published import CLINICAL, CONTOURS, patient, write_clinical, write_contours

from twobe3.cohort.read import read_cohort
from twobe3.core.endpoints import Binary
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid
from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.io.cache import Cache
from twobe3.io.clinical_table import read_table
from twobe3.scans.scan import ArrayScan, TumourScan
from twobe3.study.config import read_study

SPEC = Grid((16.0,) * 3, (192.0, 160.0, 160.0))
RECIPE = Path(__file__).parents[2] / "examples" / "head_neck_pet_ct.toml"
ROWS = [patient("HN-HGJ-001", lr=400), patient("HN-CHUS-002", death=900), patient("HN-HMR-003"), patient("HN-CHUM-004")]


def study(folder: Path, cohort: str, more: str = "") -> Path:
    (folder / "study.toml").write_text(
        f'[cohort]\nimages = "dicom"\n{cohort}\n[[endpoint]]\nname = "LR"\nkind = "binary"\ncolumn = "lr"\n'
        f'[[model]]\nkind = "baseline"\nvariable = "age"\n{more}'
    )
    return folder / "study.toml"


def test_the_recipe_is_a_valid_study_of_named_models() -> None:
    recipe = read_study(RECIPE)
    names = [model.name for model in recipe.models(RECIPE.parent, Cache())]
    assert names[:5] == ["2be3-net", "radiomics, GTV", "radiomics, automatic", "fusion", "clinical"]
    assert (recipe.validation.train, recipe.validation.test) == (("HGJ", "CHUS"), ("HMR", "CHUM"))


def test_a_collection_tells_the_columns_of_centre_and_tumour(tmp_path: Path) -> None:
    write_clinical(tmp_path, ROWS)
    write_contours(tmp_path, {"HN-HGJ-001": ("GTV", "N/A")})
    named = f'collection = "head-neck-pet-ct"\nclinical = ["{CONTOURS}", "{CLINICAL}"]'
    clinical = read_study(study(tmp_path, named)).cohort.read_clinical(tmp_path)
    assert (clinical.centre, clinical.roi) == ("centre", "tumour_roi")
    assert clinical.rows["HN-HGJ-001"]["tumour_roi"] == "GTV"
    other = read_study(study(tmp_path, f'{named}\ncentre = "t_stage"')).cohort.read_clinical(tmp_path)
    assert other.centre == "t_stage"


def test_an_external_cohort_may_be_a_collection_too(tmp_path: Path) -> None:
    write_clinical(tmp_path, ROWS)
    external = f'[external]\nimages = "hn"\ncollection = "head-neck-pet-ct"\nclinical = "{CLINICAL}"\n'
    section = read_study(study(tmp_path, 'clinical = "own.csv"', external)).external
    assert section is not None
    assert list(section.read_clinical(tmp_path).rows) == [row["Patient #"] for row in ROWS]


@pytest.mark.parametrize(
    ("cohort", "says"),
    [
        ('clinical = ["a.csv", "b.csv"]', "STUDY_FILE_INVALID: .*several files in `clinical` need `collection`"),
        ("clinical = []", "STUDY_FILE_INVALID"),
        ('collection = "head-neck-pet-ct"\nclinical = []', "STUDY_FILE_INVALID: .*names no file"),
        ('collection = "hecktor-2023"\nclinical = "a.csv"', "UNKNOWN_NAME: .*the nearest is 'hecktor-202"),
        ('collection = "autopet-fdg"\nclinical = "a.csv"\npatient = "id"', "the patient's column is 'patient_id'"),
        ('colection = "autopet-fdg"\nclinical = "a.csv"', r"UNKNOWN_KEY: \[cohort\].*'collection'"),
    ],
)
def test_what_a_study_file_cannot_mean_is_refused(cohort: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=says):
        read_study(study(tmp_path, cohort))


def scan(*, name: str) -> ArrayScan:
    geometry = Geometry((2, 3, 3), np.diag([2.0, 2.0, 2.0, 1.0])[[2, 1, 0, 3]])
    volume = SUVVolume(np.ones((2, 3, 3), np.float32), geometry, SUVCalibration("bw", "TEST", 1, 1))
    return ArrayScan(volume, Mask(np.eye(3, dtype=np.bool_)[None].repeat(2, 0), geometry, name))


def test_a_scan_that_knows_its_tumour_gives_that_region_unless_another_is_asked_for() -> None:
    whole = scan(name="GTV")
    known, unknown, other = (TumourScan(whole, names) for names in (("GTV",), (), ("Brain",)))
    volume = known.suv()
    assert known.contour(volume) is whole.region
    assert known.contour(volume, roi=["GTV"]) is whole.region
    assert unknown.contour(volume) is None
    assert unknown.contour(volume, roi=["GTV"]) is whole.region
    assert len({one.digest for one in (whole, known, unknown, other)}) == 4


def test_a_column_of_any_table_may_name_the_tumour(tiny_cohort: Any) -> None:
    for name in ("A", "B", "C"):
        tiny_cohort.scan(name)
    tiny_cohort.table({"A": (1, "GTV 1; GTV 2"), "B": (0, "N/A"), "C": (0, "")}, "patient_id,outcome,tumour")
    options = {"clinical": tiny_cohort.clinical, "endpoints": [Binary("y", "outcome")], "grid": SPEC}
    cohort = read_cohort(tiny_cohort.images, **options, roi="tumour")
    assert [scan.tumour for scan in (one.scan for one in cohort.subjects) if isinstance(scan, TumourScan)] == [
        ("GTV 1", "GTV 2"), (), (),
    ]  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"COLUMN_MISSING: .*'tumor'; .*the nearest is 'tumour'"):
        read_cohort(tiny_cohort.images, **options, roi="tumor")


def test_a_table_that_was_read_already_gives_the_same_cohort(tiny_cohort: Any) -> None:
    tiny_cohort.patients(4)
    of_file, of_rows = (
        read_cohort(tiny_cohort.images, clinical=clinical, endpoints=[Binary("y", "outcome")], grid=SPEC)
        for clinical in (tiny_cohort.clinical, read_table(tiny_cohort.clinical))
    )
    assert of_rows.patients == of_file.patients
    assert of_rows.outcomes.event.tolist() == of_file.outcomes.event.tolist()


def test_the_command_writes_the_table_and_says_what_is_in_it(tmp_path: Path, twobe3: Call) -> None:
    files = [write_clinical(tmp_path, ROWS), write_contours(tmp_path, {"HN-HGJ-001": ("GTV", "")})]
    out = tmp_path / "clinical.csv"
    done = twobe3("collections", "table", "head-neck-pet-ct", *files, "--out", out, "--json")
    document = done.json()
    assert done.status == 0
    assert document["patients"] == 4
    assert document["centres"] == {"HGJ": 1, "CHUS": 1, "HMR": 1, "CHUM": 1}
    assert document["contours"] == 1
    counts = {row["name"]: (row["patients"], row["events"], row["code"]) for row in document["endpoints"]}
    assert counts["locoregional recurrence"] == (4, 1, None)
    assert counts["overall survival"] == (4, 1, None)
    assert counts["distant metastasis"] == (None, None, "ONE_CLASS")
    assert list(read_table(out)) == [row["Patient #"] for row in ROWS]
    done = twobe3("collections", "table", "head-neck-pet-ct", *files, "--out", out)
    lines = done.out.splitlines()
    assert done.status == 0
    assert lines[0] == "4 patients: HGJ 1, CHUS 1, HMR 1, CHUM 1"
    assert "distant metastasis (dm): ONE_CLASS" in lines


def test_the_command_refuses_another_table_in_one_line(tmp_path: Path, twobe3: Call) -> None:
    (tmp_path / "own.csv").write_text("a,b\n1,2\n")
    own, out = tmp_path / "own.csv", tmp_path / "clinical.csv"
    done = twobe3("collections", "table", "hecktor-2022", own, "--out", out)
    assert done.status == 2
    assert done.refusal().startswith("COLUMN_MISSING: HECKTOR 2022")
    assert not out.exists()
