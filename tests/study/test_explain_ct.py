"""Two maps as files, one for each image: by the command line for a new scan, out of fold in a study with its report."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from safetensors.numpy import load_file
from tests.command_line import Call

from twobe3.phantom import PhantomSpec, write_cohort
from twobe3.report.stored_scans import read_scan

STUDY = """
[cohort]
images = "cohort/dicom"
clinical = "cohort/clinical.csv"
[endpoint]
name = "metastasis"
kind = "binary"
column = "metastasis"
[volume]
spacing_mm = 16.0
modalities = ["pet", "ct"]
[[model]]
kind = "cnn3d"
epochs = 1
width = 4
[validation]
folds = 2
repeats = 1
inner_folds = 2
baselines = false
resamples = 100
[report]
explain = true
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("pet_ct")
    write_cohort(where / "cohort", patients=6, seed=5, spec=PhantomSpec(ct=True))
    (where / "study.toml").write_text(STUDY)
    return where


def test_a_study_and_a_new_scan_have_a_map_of_each_image(folder: Path, twobe3: Call) -> None:
    run = folder / "results"
    result = twobe3("run", str(folder / "study.toml"), "--out", str(run))
    assert result.status == 0, result.err
    maps = json.loads((run / "explanations" / "explanations.json").read_text())["maps"]
    subjects = {one["patient"]: one for one in json.loads((run / "cohort.json").read_text())["subjects"]}
    for one in maps:
        arrays, subject = load_file(run / "explanations" / one["file"]), subjects[one["patient"]]
        assert set(arrays) == {"map", "map_ct"}
        scan = read_scan(run, subject["volume"], ct=subject["ct_volume"], show_faces=True)
        assert scan.hu is not None
        assert {array.shape for array in arrays.values()} == {scan.hu.shape}
        assert -1100 < scan.hu.min() < -900 < 200 < scan.hu.max()
    page = (run / "report.html").read_text()
    assert "Slice of the CT of pa-" in page
    assert 'value="fused"' in page

    out, scan = folder / "explained", folder / "cohort" / "dicom" / "scan_001"
    model = next(path for path in (run / "models").iterdir() if "cnn3d" in path.name)
    result = twobe3("explain", str(model), str(scan), "--out", str(out), "--no-checks", "--dicom", "--json")
    assert result.status == 0, result.err
    name = json.loads(result.out)["maps"][0]["file"].removesuffix(".nii.gz")
    of_pet, of_ct = (nib.load(out / f"{name}{ending}.nii.gz") for ending in ("", ".ct"))
    np.testing.assert_array_equal(of_pet.affine, of_ct.affine)
    assert of_pet.shape == of_ct.shape
    assert of_ct.get_fdata().any()
    assert (of_pet.get_fdata() != of_ct.get_fdata()).any()
    stored = np.frombuffer(pydicom.dcmread(out / f"{name}.ct.pm.dcm").FloatPixelData, "<f4")
    np.testing.assert_allclose(np.sort(stored), np.sort(of_ct.get_fdata().astype(np.float32).ravel()), rtol=1e-6)
    assert (
        pydicom.dcmread(out / f"{name}.ct.pm.dcm").SOPInstanceUID
        != pydicom.dcmread(out / f"{name}.pm.dcm").SOPInstanceUID
    )
    assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
