"""One catalogue of several collections; a scan that is in two of them is found, whatever was done to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless, generate_uid
from tests.command_line import Call

from twobe3.collections.catalogue import Catalogue, make_catalogue
from twobe3.core.errors import EnvironmentFailure
from twobe3.dicom.series import find_series

pytestmark = pytest.mark.filterwarnings("ignore:.*The value length")  # as the data came


def deidentified(source: Path, target: Path, patient: str, *, compress: bool = False, ends: int = 0) -> None:
    """The scan under new identifiers, without the dates; in another encoding, or without slices at both ends."""
    target.mkdir(parents=True)
    datasets = sorted(map(pydicom.dcmread, source.iterdir()), key=lambda one: one.ImagePositionPatient[2])
    series, study, frame = (generate_uid() for _ in range(3))
    for number, dataset in enumerate(datasets[ends : len(datasets) - ends]):
        dataset.PatientID, dataset.PatientName = patient, ""
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = series, study, frame
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = "19600101"
        if compress:
            dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(target / f"{number}.dcm")


@pytest.fixture(scope="module")
def catalogue(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """All 51 patients of one collection, three of them again in another, one whole in a third."""
    folder = tmp_path_factory.mktemp("catalogue")
    sts, again = real_data / "sts/dicom", folder / "again"
    deidentified(sts / "STS_002/PET", again / "a", "TWICE-1")
    deidentified(sts / "STS_008/PET", again / "b", "TWICE-2", compress=True)
    deidentified(sts / "STS_021/PET", again / "c", "TWICE-3", ends=3)
    return make_catalogue([sts, again, real_data / "ge_whole_body"], fingerprints=folder / "fingerprints")


def test_every_scan_that_is_there_twice_is_found_and_no_other(catalogue: Catalogue) -> None:
    """Acceptance row 37."""
    slices = {row.series: row.slices for row in catalogue.rows}
    assert catalogue.compared == 51 + 3 + 1
    found = {pair.collections for pair in catalogue.duplicates}
    assert found == {("dicom", "again"), ("dicom", "ge_whole_body")}
    assert len(catalogue.duplicates) == 4
    lost = sorted(slices[pair.first] - slices[pair.second] for pair in catalogue.duplicates)
    assert lost[1:] == [0, 0, 6]
    assert [pair.similarity == 1.0 for pair in catalogue.duplicates].count(True) == 2  # the same voxels
    assert min(pair.similarity for pair in catalogue.duplicates) > 0.99
    assert catalogue.to_json()["distinct"] == 51


def test_scans_of_one_picture_are_one_group(catalogue: Catalogue) -> None:
    groups = {row.series: row.group for row in catalogue.rows}
    for pair in catalogue.duplicates:
        assert groups[pair.first] == groups[pair.second] == pair.first
    assert sum(bool(group) for group in groups.values()) == 8


def test_the_index_is_a_table_that_duckdb_reads(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.write(tmp_path)
    query = (
        f"SELECT collection, count(*), sum(slices), count(age_years), any_value(body_region) "
        f"FROM '{tmp_path}/catalogue.parquet' GROUP BY collection ORDER BY collection"
    )
    rows = {row[0]: row[1:] for row in duckdb.sql(query).fetchall()}
    assert rows["dicom"][0] == 51
    assert rows["dicom"][1] == sum(row.slices for row in catalogue.rows if row.collection == "dicom")
    assert rows["dicom"][3] == "extremity"
    assert rows["ge_whole_body"] == (1, 267, 1, "trunk")
    document = json.loads((tmp_path / "catalogue.json").read_text())
    assert (document["series"], document["collections"]["dicom"]) == (55, 51)


def test_no_patient_id_is_in_the_catalogue(catalogue: Catalogue, tmp_path: Path) -> None:
    """Acceptance row 34."""
    catalogue.write(tmp_path)
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"TWICE" not in written
    assert b"STS_0" not in written


def test_fingerprints_serve_the_next_time(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_tiny_cohort: Any
) -> None:
    folders = [real_data / "sts/dicom/STS_002", new_tiny_cohort(tmp_path).scan("P1")]
    first = make_catalogue(folders, fingerprints=tmp_path / "prints")
    monkeypatch.setattr("twobe3.collections.catalogue.read_suv", None)  # nothing is read again
    assert make_catalogue(folders, fingerprints=tmp_path / "prints") == first


def test_a_scan_that_cannot_become_suv_stays_in_the_list_with_its_reason(tiny_cohort: Any) -> None:
    tiny_cohort.scan("P1")
    tiny_cohort.scan("P2", PatientWeight=None)
    made = make_catalogue([tiny_cohort.images])
    assert sorted(row.code for row in made.rows) == ["", "WEIGHT_MISSING"]
    assert [one.code for one in made.exclusions] == ["WEIGHT_MISSING"]
    assert made.compared == 1


def test_a_folder_that_was_fetched_stands_for_its_collections(tiny_cohort: Any) -> None:
    tiny_cohort.scan("P1", folder="lung/1.2.3")
    tiny_cohort.scan("P2", folder="breast/1.2.4", suv=5.0)
    tiny_cohort.scan("P3", folder=".partial/1.2.5", suv=6.0)
    (tiny_cohort.images / "fetched.jsonl").write_text("")
    made = make_catalogue([tiny_cohort.images], compare=False)
    assert sorted(row.collection for row in made.rows) == ["breast", "lung"]


def test_headers_of_a_folder_are_read_once_to_list_it_and_once_to_compare(
    tiny_cohort: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        tiny_cohort.scan(f"P{number}", suv=3.0 + number)
    (tiny_cohort.images / "readme.txt").write_text("no folder of folders: it is read as one")
    asked: list[list[Path]] = []
    monkeypatch.setattr(
        "twobe3.collections.catalogue.find_series", lambda paths: (asked.append(paths), find_series(paths))[1]
    )
    assert make_catalogue([tiny_cohort.images]).compared == 4
    assert asked == [[tiny_cohort.images]] * 2


def test_three_scans_of_one_picture_are_one_group(tiny_cohort: Any) -> None:
    for patient in ("P1", "P2", "P3"):
        tiny_cohort.scan(patient)
    tiny_cohort.scan("P4", suv=8.0)
    made = make_catalogue([tiny_cohort.images])
    groups = [row.group for row in made.rows]
    assert len(made.duplicates) == 3
    assert groups.count("") == 1
    assert set(groups) == {"", next(row.series for row in made.rows if row.group)}
    assert (made.to_json()["distinct"], made.to_json()["compared"]) == (2, 4)


def test_without_duckdb_only_parquet_is_refused(
    tiny_cohort: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_cohort.scan("P1")
    made = make_catalogue([tiny_cohort.images], compare=False)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(EnvironmentFailure, match=r"EXTRA_MISSING.*twobe3\[collections\]"):
        made.write(tmp_path / "out")
    made.write(tmp_path / "out", parquet=False)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"catalogue.csv", "catalogue.json"}


def test_the_command_line_names_the_pairs(tiny_cohort: Any, tmp_path: Path, twobe3: Call) -> None:
    for folder, patient in (("one", "P1"), ("two", "P9")):
        tiny_cohort.scan(patient, folder=folder)
    paths = [tiny_cohort.images / name for name in ("one", "two")]
    done = twobe3("collections", "catalogue", *paths, "--out", tmp_path / "out")
    said = done.out
    assert done.status == 0
    assert "(one and two) show one scan (r = 1.000)" in said
    assert "2 of 2 series are the scan of a patient (1 in one, 1 in two); 1 of 2 are distinct" in said
    assert np.array_equal([1], duckdb.sql(f"SELECT count(DISTINCT \"group\") FROM '{tmp_path}/out/catalogue.parquet'")
                          .fetchall()[0])  # fmt: skip
