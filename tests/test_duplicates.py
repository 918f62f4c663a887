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

from twobe3.cohort import ArrayScan, Cohort, DicomScan, Study
from twobe3.dicom.series import choose_series, find_series
from twobe3.duplicates import find_duplicates, with_duplicates_joined, without_duplicates_of
from twobe3.errors import Code
from twobe3.outcome import Binary, Outcomes
from twobe3.phantom import make_patient
from twobe3.resample import VolumeSpec
from twobe3.store import ArrayStore
from twobe3.volume import Geometry, SUVVolume

MakeCohort = Callable[..., Cohort]
SPEC = VolumeSpec((4.0,) * 3, (384.0, 320.0, 320.0))  # that of examples/sts.toml


@pytest.fixture(scope="module")
def patients(real_data: Path) -> Cohort:
    """The 51 patients of the sarcoma cohort."""
    series, _ = choose_series(find_series([real_data / "sts" / "dicom"]).series)
    return Cohort(tuple(Study(one.patient_id, DicomScan(one)) for one in series), spec=SPEC)


def beside(cohort: Cohort, *scans: Any) -> Cohort:
    """The cohort and some scans more, under ids of their own."""
    fresh = tuple(Study(f"NEW-{i}", scan) for i, scan in enumerate(scans))
    return replace(cohort, studies=(*cohort.studies, *fresh))


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
    first, second, third, fourth = (patients.studies[i] for i in (0, 7, 20, 40))
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
        spec = VolumeSpec((spacing_mm,) * 3, (1024.0, 512.0, 512.0))
        cohort = Cohort(tuple(Study(f"P-{i}", scan) for i, scan in enumerate(scans)), spec=spec)
        assert {(pair.first, pair.second) for pair in find_duplicates(cohort)} == expected


def test_duplicates_are_one_person_and_warned_about(make_cohort: MakeCohort) -> None:
    """Acceptance row 37."""
    cohort = make_cohort(8)
    copies = [replace(study, patient_id=f"MRN-{2000 + i}") for i, study in enumerate(cohort.studies[:2])]
    copies.append(replace(cohort.studies[0], patient_id="MRN-0001"))
    outcomes = cohort.outcomes
    values = np.append(outcomes.value, [0.0, 1.0, 1.0])
    names = (*cohort.patients, *(copy.patient_id for copy in copies))
    told = Outcomes(Binary("y", "y"), names, values, values == 1)
    joined = with_duplicates_joined(replace(cohort, studies=(*cohort.studies, *copies), endpoints=(told,)))
    persons = [study.person for study in joined.studies]
    assert persons[0] == persons[8] == persons[10] == "MRN-0001"
    assert persons[1] == persons[9] == "MRN-1001"
    assert len(set(persons)) == 8
    assert len(joined.warnings) == 4  # three ids of one scan are three pairs
    assert joined.studies[0].patient in joined.warnings[0]
    assert joined.studies[8].patient in joined.warnings[0]
    assert not any(patient in " ".join(joined.warnings) for patient in names)
    for fold in joined.folds(2, repeats=3):
        assert not {persons[i] for i in fold.train} & {persons[i] for i in fold.test}


def test_nothing_changes_where_there_are_none(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(6)
    assert find_duplicates(cohort) == ()
    assert with_duplicates_joined(cohort) is cohort


def test_scans_of_one_patient_are_no_duplicates(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(4)
    assert find_duplicates(replace(cohort, studies=(*cohort.studies, cohort.studies[1]))) == ()


def test_an_external_cohort_loses_the_scans_that_trained(make_cohort: MakeCohort) -> None:
    cohort, other = make_cohort(6), make_cohort(5, seed=1)
    mixed = replace(other, studies=(*other.studies, replace(cohort.studies[2], patient_id="MRN-1")))
    kept = without_duplicates_of(mixed, cohort)
    assert kept.studies == other.studies
    (exclusion,) = kept.exclusions
    assert exclusion.code == Code.DUPLICATE_SCAN.name
    assert exclusion.patient == mixed.studies[-1].patient
    # The same id in another hospital is another patient; the same scan is not, whatever its id.
    assert len(without_duplicates_of(replace(other, studies=cohort.studies[:2]), cohort)) == 0


def test_fingerprints_are_computed_once(make_cohort: MakeCohort, tmp_path: Path) -> None:
    for computed in (2 * 4, 0):
        cohort = replace(make_cohort(4), volumes=ArrayStore(tmp_path))
        find_duplicates(cohort)
        assert cohort.volumes.computed == computed
