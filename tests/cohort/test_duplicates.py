"""One patient under two ids is found, two patients are not taken for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless, generate_uid

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.cohort.duplicates import drop_duplicates_of, find_duplicates, join_duplicates
from twobe3.cohort.splits import CrossValidation
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary
from twobe3.core.grid import Grid
from twobe3.core.outcomes import Outcomes
from twobe3.core.volume import Geometry, SUVVolume
from twobe3.dicom.series import choose_series, find_series
from twobe3.io.cache import Cache
from twobe3.phantom import make_patient
from twobe3.scans.scan import ArrayScan, DicomScan

MakeCohort = Callable[..., Cohort]
SPEC = Grid((4.0,) * 3, (384.0, 320.0, 320.0))  # that of examples/sts.toml


@pytest.fixture(scope="module")
def patients(real_data: Path) -> Cohort:
    """The 51 patients of the sarcoma cohort."""
    series, _ = choose_series(find_series([real_data / "sts" / "dicom"]).series)
    return Cohort(tuple(Subject(one.patient_id, DicomScan(one)) for one in series), grid=SPEC)


def beside(cohort: Cohort, *scans: Any) -> Cohort:
    """The cohort and some scans more, under ids of their own."""
    fresh = tuple(Subject(f"NEW-{i}", scan) for i, scan in enumerate(scans))
    return replace(cohort, subjects=(*cohort.subjects, *fresh))


def reencoded(series: Any, folder: Path) -> DicomScan:
    """The same pixels, compressed, of a patient with another id."""
    uid = generate_uid()
    for i, file in enumerate(series.files):
        dataset = pydicom.dcmread(file)
        dataset.PatientID, dataset.PatientName = "NEW-0", "NEW"
        dataset.SeriesInstanceUID = uid
        dataset.compress(RLELossless)
        folder.mkdir(exist_ok=True)
        dataset.save_as(folder / f"{i}.dcm")
    (again,) = find_series([folder]).series
    return DicomScan(again)


def cropped(volume: SUVVolume, first: int, last: int) -> ArrayScan:
    """Without slices at both ends."""
    array = volume.array[first : len(volume.array) - last]
    affine = volume.geometry.affine.copy()
    affine[:3, 3] = volume.geometry.to_mm(np.array([first, 0.0, 0.0]))
    return ArrayScan(replace(volume, array=array, geometry=Geometry(array.shape, affine)))


@pytest.mark.filterwarnings("ignore:.*The value length")  # as the data came
def test_the_same_scan_is_found_under_a_new_id_and_no_two_patients_are_taken_for_one(
    patients: Cohort, tmp_path: Path
) -> None:
    """Acceptance row 37."""
    assert len(patients) == 51
    first, second, third, fourth = (patients.subjects[i] for i in (0, 7, 20, 40))
    volume = third.scan.suv()
    noise = np.random.default_rng(0).normal(0, 0.05, volume.array.shape)
    whole = beside(
        patients,
        reencoded(first.scan.series, tmp_path / "dicom"),  # type: ignore[attr-defined]
        cropped(second.scan.suv(), 0, 2),
        cropped(fourth.scan.suv(), 2, 0),
        ArrayScan(replace(volume, array=np.float32(1.3) * np.abs(volume.array + noise).astype(np.float32))),
    )
    found = {(pair.first, pair.second): pair.similarity for pair in find_duplicates(whole)}
    assert found.keys() == {(0, 51), (7, 52), (40, 53), (20, 54)}
    assert found[0, 51] == 1.0
    assert min(found.values()) > 0.97


def test_on_a_coarse_grid_only_the_same_content_counts() -> None:
    volume = make_patient(0).volume
    louder = replace(volume, array=np.float32(1.3) * volume.array)
    scans = [ArrayScan(one) for one in (volume, make_patient(1).volume, replace(volume), louder)]
    for spacing_mm, expected in ((12.0, {(0, 2)}), (8.0, {(0, 2), (0, 3), (2, 3)}), (4.0, {(0, 2), (0, 3), (2, 3)})):
        grid = Grid((spacing_mm,) * 3, (1024.0, 512.0, 512.0))
        cohort = Cohort(tuple(Subject(f"P-{i}", scan) for i, scan in enumerate(scans)), grid=grid)
        assert {(pair.first, pair.second) for pair in find_duplicates(cohort)} == expected


def test_duplicates_are_one_person_and_warned_about(make_cohort: MakeCohort) -> None:
    """Acceptance row 37."""
    cohort = make_cohort(8)
    copies = [replace(subject, patient_id=f"MRN-{2000 + i}") for i, subject in enumerate(cohort.subjects[:2])]
    copies.append(replace(cohort.subjects[0], patient_id="MRN-0001"))
    outcomes = cohort.outcomes
    values = np.append(outcomes.value, [0.0, 1.0, 1.0])
    names = (*cohort.patients, *(copy.patient_id for copy in copies))
    told = Outcomes(Binary("y", "y"), names, values, values == 1)
    joined = join_duplicates(replace(cohort, subjects=(*cohort.subjects, *copies), endpoints=(told,)))
    groups = [subject.group for subject in joined.subjects]
    assert groups[0] == groups[8] == groups[10] == "MRN-0001"
    assert groups[1] == groups[9] == "MRN-1001"
    assert len(set(groups)) == 8
    assert len(joined.warnings) == 4  # three ids of one scan are three pairs
    assert joined.subjects[0].patient in joined.warnings[0]
    assert joined.subjects[8].patient in joined.warnings[0]
    assert not any(patient in " ".join(joined.warnings) for patient in names)
    for fold in CrossValidation(2, repeats=3).split(joined.sample):
        assert not {groups[i] for i in fold.train} & {groups[i] for i in fold.test}


def test_nothing_changes_where_there_are_none(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(6)
    assert find_duplicates(cohort) == ()
    assert join_duplicates(cohort) is cohort


def test_scans_of_one_patient_are_no_duplicates(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(4)
    assert find_duplicates(replace(cohort, subjects=(*cohort.subjects, cohort.subjects[1]))) == ()


def test_an_external_cohort_loses_the_scans_that_trained(make_cohort: MakeCohort) -> None:
    cohort, other = make_cohort(6), make_cohort(5, seed=1)
    mixed = replace(other, subjects=(*other.subjects, replace(cohort.subjects[2], patient_id="MRN-1")))
    kept = drop_duplicates_of(mixed, cohort)
    assert kept.subjects == other.subjects
    (exclusion,) = kept.exclusions
    assert exclusion.code == Code.DUPLICATE_SCAN.name
    assert exclusion.patient == mixed.subjects[-1].patient
    # The same id in another hospital is another patient; the same scan is not, whatever its id.
    assert len(drop_duplicates_of(replace(other, subjects=cohort.subjects[:2]), cohort)) == 0


def test_fingerprints_are_computed_once(make_cohort: MakeCohort, tmp_path: Path) -> None:
    for computed in (2 * 4, 0):
        cohort = replace(make_cohort(4), volumes=Cache(tmp_path))
        find_duplicates(cohort)
        assert cohort.volumes.computed == computed
