"""The head-and-neck recipe, from the published tables to the report, on a generated cohort of the same layout."""

from __future__ import annotations

import csv
import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pydicom
import pytest
from tests.published import CENTRES, patient, write_clinical, write_contours

from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.io.pseudonym import pseudonym
from twobe3.phantom.dicom_writer import PETHeader, write_pet_series
from twobe3.phantom.rtstruct_writer import write_rtstruct
from twobe3.study.run import run
from twobe3.validation.result import CVResult

RECIPE = Path(__file__).parents[2] / "examples" / "head_neck_pet_ct.toml"
SPACING_MM, SHAPE = 8.0, (14, 16, 16)
VOXEL_ML = (SPACING_MM / 10) ** 3
PRIMARY, NODE, BRAIN = (slice(4, 7),) * 3, (slice(5, 7), slice(9, 11), slice(4, 6)), (slice(10, 13), slice(4, 12))
# Only sizes, weights and networks differ from the recipe.
SMALLER = {
    "spacing_mm = 4.0": "spacing_mm = 8.0\nfield_of_view_mm = [112, 128, 128]",
    'backbone = "resnet18"': 'weights = "random"\nlayer = 2\nslice_size = 32\n'
    "epochs = 1\nensemble_size = 1\ncomponents = 4",
    "inner_folds = 4": "inner_folds = 2\nresamples = 100",
    'kind = "radiomics"': 'kind = "radiomics"\nspacing_mm = 8.0\nbin_width_suv = 2.0\nlearner = "ridge"',
}
# In whose structure sets the regions are called otherwise than the published table says, and who has other regions.
TABLE_SAYS = {
    "HN-HGJ-002": ("gtv  Primary", "N/A"),
    "HN-CHUM-001": ("GTV primary, GTV node", ""),
    "HN-HMR-002": ("", ""),
}
NOT_SCANNED, NOT_IN_TABLE = "HN-HGJ-090", "HN-HMR-091"
PATIENTS = [f"HN-{centre}-{number:03d}" for centre in CENTRES for number in range(1, 3)]


def write_scan(folder: Path, patient_id: str, *, suv: float) -> None:
    """A PET series and one structure set that has the tumour, a node and the brain."""
    noise = np.random.default_rng([ord(letter) for letter in patient_id])
    array = noise.gamma(4.0, 0.15, SHAPE).astype(np.float32)
    array[BRAIN] += 9.0
    array[PRIMARY] += suv
    array[NODE] += suv / 2
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.eye(3)) * SPACING_MM
    geometry = Geometry(SHAPE, affine, f"1.2.{sum(map(ord, patient_id))}")
    header = PETHeader(
        patient_id=patient_id, sex="F", age_years=60, weight_kg=70.0, height_m=1.7, injected_dose_bq=3e8,
        injected=datetime(2008, 1, 1, 9), started=datetime(2008, 1, 1, 10),
    )  # fmt: skip
    write_pet_series(SUVVolume(array, geometry, SUVCalibration("bw", "test", 1, 1)), folder / "PET", header=header)
    merged = None
    for number, (name, place) in enumerate({"GTV primary": PRIMARY, "GTV node": NODE, "Brain": BRAIN}.items(), start=1):
        inside = np.zeros(SHAPE, np.bool_)
        inside[place] = True
        one = pydicom.dcmread(write_rtstruct(Mask(inside, geometry, name), folder / "RS.dcm", header=header))
        one.StructureSetROISequence[0].ROINumber = number
        one.ROIContourSequence[0].ReferencedROINumber = number
        if merged is None:
            merged = one
        else:
            merged.StructureSetROISequence.append(one.StructureSetROISequence[0])
            merged.ROIContourSequence.append(one.ROIContourSequence[0])
    assert merged is not None
    merged.save_as(folder / "RS.dcm")


class Done(NamedTuple):
    result: CVResult
    out: Path
    log: list[str]

    def document(self, name: str) -> Any:
        return json.loads((self.out / name).read_text())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    pytest.importorskip("mirp", reason="MIRP is not installed: pip install 'twobe3[radiomics]'")
    folder = tmp_path_factory.mktemp("head-neck")
    rows = [patient(NOT_SCANNED, lr=100)]
    for number, one in enumerate(PATIENTS):
        ill = number % 2 == 0
        lr, dm, death = (200 + 30 * number if has else None for has in (ill, number % 3 == 0, number % 4 < 2))
        write_scan(folder / "Head-Neck-PET-CT" / one, one, suv=10.0 + 5 * ill + number % 3)
        rows.append(patient(one, lr=lr, dm=dm, death=death, follow_up=1000 + number, age=50 + number))
    write_scan(folder / "Head-Neck-PET-CT" / NOT_IN_TABLE, NOT_IN_TABLE, suv=5.0)
    write_clinical(folder, rows)
    write_contours(folder, {one: TABLE_SAYS.get(one, ("GTV primary", "N/A")) for one in (*PATIENTS, NOT_SCANNED)})
    text = RECIPE.read_text()
    for old, new in SMALLER.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "study.toml").write_text(text)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("twobe3")
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        return Done(run(folder / "study.toml", folder / "out", workers=1), folder / "out", lines)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def test_the_recipe_trains_on_two_hospitals_and_tests_on_the_others(done: Done) -> None:
    by_endpoint = {item["endpoint"]: item for item in done.document("folds.json")["endpoints"]}
    assert list(by_endpoint) == ["LR", "DM", "OS"]
    for item in by_endpoint.values():
        (fold,) = item["folds"]
        for side, centres in (("train", ("HGJ", "CHUS")), ("test", ("HMR", "CHUM"))):
            expected = {pseudonym("patient", one) for one in PATIENTS if one.split("-")[1] in centres}
            assert set(fold[side]) == expected


def test_the_recipe_judges_every_model_on_every_endpoint(done: Done) -> None:
    judged = {(one.endpoint, one.model): (one.n, one.events) for one in done.result.evaluations}
    assert {endpoint for endpoint, _ in judged} == {"LR", "DM", "OS"}
    assert {model for _, model in judged} >= {
        "2be3-net", "radiomics, GTV", "radiomics, automatic", "fusion", "clinical", "tumour_volume (contour)",
        "radiomics, GTV, shuffled voxels",
    }  # fmt: skip
    assert [judged[endpoint, "2be3-net"] for endpoint in ("LR", "DM", "OS")] == [(4, 2), (4, 1), (4, 2)]
    with (done.out / "predictions.csv").open(newline="") as stream:
        tested = {row["patient_id"].split("-")[1] for row in csv.DictReader(stream)}
    assert tested == {"HMR", "CHUM"}


def test_the_recipe_measures_the_contours_that_the_published_table_names(done: Done) -> None:
    region = {one["patient"]: one["region"] for one in done.document("cohort.json")["subjects"]}
    usual, node = 27 * VOXEL_ML, 8 * VOXEL_ML
    for one in PATIENTS:
        found = region[pseudonym("patient", one)]
        if one == "HN-HMR-002":  # the table names none: the patient stays, without a region
            assert found["code"] == "CONTOUR_MISSING"
        else:
            expected = usual + node if one == "HN-CHUM-001" else usual
            assert found["volume_ml"] == pytest.approx(expected)


def test_the_recipe_lists_who_has_no_scan_and_who_no_row(done: Done) -> None:
    exclusions = {(one["code"], one["patient"]) for one in done.document("cohort.json")["exclusions"]}
    assert exclusions == {
        ("PATIENT_NOT_SCANNED", pseudonym("patient", NOT_SCANNED)),
        ("PATIENT_NOT_IN_TABLE", pseudonym("patient", NOT_IN_TABLE)),
    }
    said = "1 of 9 patients of the clinical table have no scan, and 1 of 9 who were scanned are not in it"
    assert said in done.log


def test_the_clinical_baseline_sees_what_the_published_table_says(done: Done) -> None:
    ages = {one["patient"]: one["covariates"]["age_years"] for one in done.document("cohort.json")["subjects"]}
    assert [ages[pseudonym("patient", one)] for one in PATIENTS] == [50 + number for number in range(8)]


def test_the_recipe_ends_with_a_report_and_no_patient_id_in_it(done: Done) -> None:
    page = (done.out / "report.html").read_text()
    assert "train HGJ + CHUS, test HMR + CHUM" in page
    assert not any(one in page for one in (*PATIENTS, NOT_SCANNED, NOT_IN_TABLE))
