"""A cohort on disk: the same for equal seeds, complete, and read back as it was made."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv
from twobe3.phantom import write_cohort
from twobe3.phantom.cohort import COLUMNS, draw_case
from twobe3.scans.masks import contour_mask

PATIENTS, SEED = 3, 5


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort"), patients=PATIENTS, seed=SEED)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_equal_seeds_give_equal_files_and_a_smaller_cohort_is_the_beginning(cohort: Path, tmp_path: Path) -> None:
    smaller = write_cohort(tmp_path / "again", patients=2, seed=SEED, workers=2)
    whole, part = contents(cohort), contents(smaller)
    assert len(part) > 200
    for name in part:
        if name != "clinical.csv":
            assert part[name] == whole[name], name
    assert whole["clinical.csv"].startswith(part["clinical.csv"])


def test_other_seeds_give_other_files(cohort: Path, tmp_path: Path) -> None:
    other = write_cohort(tmp_path, patients=1, seed=SEED + 1)
    first, second = (pydicom.dcmread(folder / "dicom/scan_001/PET/0001.dcm") for folder in (cohort, other))
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.PixelData != second.PixelData


def test_clinical_table(cohort: Path) -> None:
    with (cohort / "clinical.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))
    assert tuple(rows[0]) == COLUMNS
    for number, row in enumerate(rows[1:], start=1):
        case = draw_case(SEED, number)
        outcome = case.patient.subject.outcome
        assert row[:2] == [f"PHANTOM-{number:03d}", case.centre]
        assert row[4:] == [str(outcome.recurrence_days), str(int(outcome.recurrence)), str(int(outcome.metastasis))]
    assert len(rows) == PATIENTS + 1


def test_scans_read_back_as_the_patients_that_were_drawn(cohort: Path) -> None:
    found = find_series([cohort / "dicom"])
    assert len(found.series) == PATIENTS
    assert found.unused == ()
    for number, series in enumerate(sorted(found.series, key=lambda one: one.patient_id), start=1):
        case = draw_case(SEED, number)
        patient = case.patient
        assert series.patient_id == case.header.patient_id
        assert series.covariates["sex"] == patient.subject.sex
        assert series.covariates["age_years"] == patient.subject.age_years
        volume = read_suv(series)
        mask = contour_mask(series, volume)
        assert np.array_equal(np.zeros_like(patient.mask.array) if mask is None else mask.array, patient.mask.array)
        assert volume.calibration.warnings == ()
        assert volume.geometry.same_as(patient.volume.geometry)
        step = patient.volume.array.max(axis=(1, 2), keepdims=True) / 32767
        assert (np.abs(volume.array - patient.volume.array) <= 0.51 * step + 1e-6).all()


def test_patients_without_lesions_have_no_contours(tmp_path: Path) -> None:
    seed = next(s for s in range(100) if not draw_case(s, 1).patient.lesions)
    folder = write_cohort(tmp_path, patients=1, seed=seed)
    assert [path.name for path in (folder / "dicom/scan_001").iterdir()] == ["PET"]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "dicom").write_text("in the way")
    with pytest.raises(EnvironmentFailure) as caught:
        write_cohort(tmp_path, patients=1)
    assert caught.value.code is Code.WRITE_FAILED


def test_centres_have_their_vendors() -> None:
    cases = [draw_case(1, number) for number in range(1, 17)]
    for centre, vendors in (("north", {"siemens", "ge"}), ("south", {"ge", "philips"})):
        assert {case.header.vendor for case in cases if case.centre == centre} == vendors
    minutes = [(case.header.started - case.header.injected).total_seconds() / 60 for case in cases]
    assert all(40 < minute < 90 for minute in minutes)
