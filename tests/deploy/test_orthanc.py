"""Against a real archive: stored, fetched, predicted, and results stored back and found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian
from tests.conftest import TinyCohort
from tests.deploy.orthanc_round import PLUGIN

import twobe3 as tb
from twobe3.phantom.dicom_writer import PETHeader, write_pet_series

OWN_NETWORK = ["unshare", "--map-root-user", "--net", "--mount"]  # Orthanc listens at every address that there is
HEADER = PETHeader(
    patient_id="PHILIPS", sex="F", age_years=60, weight_kg=70.0, height_m=1.7, injected_dose_bq=3e8, vendor="philips",
    units="CNTS", injected=datetime(2020, 1, 1, 9), started=datetime(2020, 1, 1, 10),
)  # fmt: skip
RESULTS = ("SR", "SEG", "OT")


@pytest.fixture(scope="module")
def archive(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of the series, and what happened to them."""
    if not PLUGIN.exists() or not shutil.which("Orthanc", path="/usr/bin:/usr/sbin"):
        pytest.skip("Orthanc with its DICOMweb plug-in is not installed")
    if subprocess.run([*OWN_NETWORK, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system lets nobody make a network namespace, in which Orthanc is run")
    folder = tmp_path_factory.mktemp("orthanc")
    write_series(folder)
    command = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable]
    command += [str(Path(__file__).with_name("orthanc_round.py")), str(model), str(folder)]
    root = str(Path(tb.__file__).parents[1])
    done = subprocess.run(
        [*OWN_NETWORK, *command],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root, "NO_PROXY": "*"},
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def write_series(folder: Path) -> None:
    cohort = TinyCohort(folder)
    cohort.scan("NEW-PATIENT", suv=5.5, PatientName="Doe^Jane").rename(folder / "whole body")
    cohort.scan("CT", Modality="CT", SOPClassUID=CTImageStorage).rename(folder / "ct")
    for file in (folder / "ct").iterdir():
        dataset = pydicom.dcmread(file)
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.save_as(file)
    volume = tb.read_suv(folder / "whole body")
    for name, header in (
        ("philips", HEADER),
        ("large dose", replace(HEADER, patient_id="DOSE", vendor="siemens", units="BQML", injected_dose_bq=7.4e9)),
    ):
        for file in write_pet_series(volume, folder / name, header=header):
            dataset = pydicom.dcmread(file)
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            dataset.save_as(file, implicit_vr=True, little_endian=True)


def test_suv_is_that_of_the_files(archive: tuple[Path, dict[str, Any]]) -> None:
    """Private factors in implicit VR, and a dose beyond 2^32 Bq, of which metadata in JSON would lose a part."""
    folder, said = archive
    assert {*said["sent"], *said["sent again"]} == {0}
    expected = tb.read_suv(folder / "whole body").array
    for name in ("whole body", "philips", "large dose"):
        fetched = tb.read_suv(folder / "fetched" / name)
        np.testing.assert_array_equal(fetched.array, tb.read_suv(folder / name).array)
        np.testing.assert_allclose(fetched.array, expected, atol=5.5 / 32767)
    assert pydicom.dcmread(next((folder / "fetched" / "philips").iterdir())).file_meta.TransferSyntaxUID.is_implicit_VR


def test_what_is_refused(archive: tuple[Path, dict[str, Any]]) -> None:
    assert archive[1]["refused"] == ["NO_PET", "STUDY_MISSING", "ACCESS_DENIED"]


def test_results_are_found_beside_the_scan(archive: tuple[Path, dict[str, Any]], model: Path) -> None:
    folder, said = archive
    first, second = said["first"], said["second"]
    expected = tb.predict(model, [folder / "whole body"]).predictions[0].to_json()
    assert first["row"] == second["row"] == expected  # what was stored the first time is not read
    assert [len(first["found"][modality]) for modality in ("PT", *RESULTS)] == [12, 1, 1, 1]
    assert {uid for modality in RESULTS for uid in first["found"][modality]} == set(first["written"])
    both = {uid for modality in RESULTS for uid in second["found"][modality]}
    assert both == {*first["written"], *second["written"]}  # a later result stands beside the earlier one
    assert len(both) == 6


@pytest.mark.parametrize("way", ["by C-STORE", "by STOW"])
def test_the_archive_passes_a_study_to_the_node(archive: tuple[Path, dict[str, Any]], way: str) -> None:
    """The results of before are passed on with it; they are not taken for objects of the study."""
    said = archive[1][way]
    assert [(job["status"], job["FailedInstancesCount"]) for job in said["jobs"]] == [(200, 0), (200, 0)]
    predicted, sent = said["lines"]
    assert (predicted["state"], sent["state"]) == ("predicted", "sent")
    assert predicted["predictions"][0]["risk"] == archive[1]["first"]["row"]["risk"]
    assert set(said["written"]) <= {uid for modality in RESULTS for uid in said["found"][modality]}
    assert len(set(said["written"])) == 3


def test_a_disk_that_is_full(archive: tuple[Path, dict[str, Any]]) -> None:
    disk = archive[1]["disk"]
    assert set(disk["full"]) == {0xA700}
    assert disk["kept"] == []
    assert set(disk["again"]) == {0}
    (line,) = disk["lines"]
    assert json.loads(line)["state"] == "predicted"
