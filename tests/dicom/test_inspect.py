import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import CTImageStorage

from twobe3 import __version__
from twobe3.dicom.inspect import convert, inspect
from twobe3.nifti import read_nifti

KEYS = ["path", "patient", "series_uid", "modality", "slices", "usable", "code", "reason", "remedy", "suv"]


def test_real_scan(real_data: Path) -> None:
    document = inspect([real_data / "ge_whole_body"]).to_json()
    (entry,) = document["series"]
    assert list(document) == ["series", "found", "usable", "excluded"]
    assert list(entry) == KEYS
    assert (entry["path"], entry["modality"], entry["slices"]) == ("PET", "PT", 267)
    assert list(entry["suv"]) == ["type", "rule", "factor_min", "factor_max", "max", "median", "min"]
    assert entry["suv"]["rule"] == "BQML_START"
    assert entry["code"] is None


def test_one_bad_scan_does_not_stop_the_others(bench: Any) -> None:
    bench.save(bench.slices(), "a/good")
    heavy = bench.slices(patient="P2")
    for dataset in heavy:
        dataset.PatientWeight = None
    bench.save(heavy, "a/bad")
    scan = bench.slices(patient="P3")
    for dataset in scan:
        dataset.Modality, dataset.SOPClassUID = "CT", CTImageStorage
    bench.save(scan, "ct")
    (bench.folder / "empty.dcm").touch()
    (bench.folder / "readme.txt").write_text("junk")
    document = inspect([bench.folder]).to_json()
    json.dumps(document, allow_nan=False)
    assert (document["found"], document["usable"], document["excluded"]) == (4, 1, 3)
    by_path = {entry["path"]: entry for entry in document["series"]}
    assert {path: entry["code"] for path, entry in by_path.items()} == {
        "a/good": None,
        "a/bad": "WEIGHT_MISSING",
        "ct": "NOT_PET",
        ".": "CORRUPT_FILE",
    }
    assert by_path["a/bad"]["remedy"] == "complete PatientWeight (0010,1030)"
    assert by_path["a/bad"]["suv"] is None
    assert by_path["ct"]["modality"] == "CT"


def test_converted_files(bench: Any) -> None:
    stored = np.random.default_rng(1).integers(0, 9000, (4, 6, 5), dtype=np.uint16)
    slices = bench.slices(stored)
    for dataset in slices:
        dataset.PatientWeight = 70_000
    expected = bench.read(slices)
    out = bench.folder / "out"
    (entry,) = convert([bench.save(slices)], out).to_json()["series"]
    assert list(entry) == [*KEYS, "output"]
    name = entry["series_uid"]
    assert Path(entry["output"]) == out / f"{name}.nii.gz"
    assert sorted(path.name for path in out.iterdir()) == [f"{name}.json", f"{name}.nii.gz"]
    array, geometry = read_nifti(out / f"{name}.nii.gz")
    np.testing.assert_array_equal(array, expected.array)
    assert geometry.same_as(expected.geometry)
    said = json.loads((out / f"{name}.json").read_text())
    assert said["twobe3"] == __version__
    assert said["calibration"]["rule"] == "BQML_START"
    assert said["calibration"]["warnings"][0].startswith("WEIGHT_IMPLAUSIBLE")
    np.testing.assert_array_equal(said["geometry"]["affine_lps_mm"], expected.geometry.affine)


def test_a_refused_scan_writes_nothing(bench: Any) -> None:
    slices = bench.slices()
    for dataset in slices:
        dataset.PatientWeight = 72_000
    folder, out = bench.save(slices), bench.folder / "out"
    assert convert([folder], out, policy="strict").usable == 0
    assert not out.exists()


IDENTIFYING = (
    "PatientName",
    "PatientID",
    "OtherPatientIDs",
    "PatientAddress",
    "AccessionNumber",
    "InstitutionName",
    "StationName",
    "StudyID",
    "ReferringPhysicianName",
    "OperatorsName",
    "StudyDescription",
    "SeriesDescription",
    "PatientComments",
)


def test_no_identity_gets_out(bench: Any, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    slices = bench.slices()
    for dataset in slices:
        for keyword in IDENTIFYING:
            setattr(dataset, keyword, "MARKER")
    bad = bench.slices(patient="MARKER2")
    for dataset in bad:
        dataset.PatientName, dataset.RescaleSlope = "MARKER", -1
    folder, out = bench.save([*slices, *bad]), bench.folder / "out"
    inspection = convert([folder], out)
    assert inspection.usable == 1
    text = json.dumps(inspection.to_json()) + repr(inspection) + caplog.text + "".join(capfd.readouterr())
    text += "".join(path.name + path.read_bytes().decode("latin-1") for path in out.iterdir())
    assert "MARKER" not in text
    assert slices[0].SeriesInstanceUID not in text
