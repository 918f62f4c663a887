"""Maps as files: by the command line for new scans, out of fold in a study."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.pixels import pixel_array
from safetensors.numpy import load_file
from tests.command_line import Call
from tests.conftest import TinyCohort

import twobe3 as tb
from twobe3.cli.output import explanation_lines
from twobe3.core.volume import Mask
from twobe3.explain.explain import RiskMap, explain
from twobe3.phantom.dicom_writer import PETHeader
from twobe3.phantom.rtstruct_writer import write_rtstruct

GRID = tb.Grid(16.0, (192, 160, 160))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory, new_tiny_cohort: Callable[[Path], TinyCohort]) -> TinyCohort:
    return new_tiny_cohort(tmp_path_factory.mktemp("cohort")).patients(8)


def fit(cohort: TinyCohort, model: tb.models.Model) -> tb.models.Model:
    endpoint = tb.Binary("outcome", "outcome")
    return model.fit(tb.read_cohort(cohort.images, clinical=cohort.clinical, endpoint=endpoint, grid=GRID))


@pytest.fixture(scope="module")
def model_file(cohort: TinyCohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tb.models.TwoBe3Net(inputs=("image", "profile"), weighing="joint", epochs=3)
    return fit(cohort, model).save(tmp_path_factory.mktemp("model") / "m.safetensors")


def test_maps_lie_on_the_voxels_of_the_scan(cohort: TinyCohort, model_file: Path, tmp_path: Path, twobe3: Call) -> None:
    scans = [str(cohort.images / f"scan-P0{i}") for i in (1, 3)]
    result = twobe3("explain", str(model_file), *scans, "--out", str(tmp_path / "out"), "--json")
    assert result.status == 0, result.err
    document = json.loads(result.out)
    assert len(document["maps"]) == 2
    for one in document["maps"]:
        assert {check["name"] for check in one["checks"]} >= {"correlation with an untrained model"}
        image = nib.load(tmp_path / "out" / one["file"])
        assert image.shape == TinyCohort.SHAPE[::-1]
        np.testing.assert_allclose(np.abs(np.diag(image.affine)[:3]), TinyCohort.SPACING_MM)
        assert np.isfinite(image.get_fdata()).all()
        assert image.get_fdata().any()
        picture = (tmp_path / "out" / one["file"].replace(".nii.gz", ".png")).read_bytes()
        assert picture.startswith(b"\x89PNG")
    parts = document["contributions"][0]["values"]
    assert set(parts) == {"image", "profile"}
    written = json.loads((tmp_path / "out" / "explanations.json").read_text())
    assert written["maps"] == document["maps"]
    assert not [name for name in ("P01", "P03") if name in json.dumps(written)]


def test_without_checks_and_in_words(cohort: TinyCohort, model_file: Path, tmp_path: Path, twobe3: Call) -> None:
    scan = str(cohort.images / "scan-P02")
    how = ("--no-checks", "--method", "grad-cam", "--show-faces", "--out", str(tmp_path / "out"))
    result = twobe3("explain", str(model_file), scan, *how)
    assert result.status == 0, result.err
    assert "not checked" in result.out
    assert "P02" not in result.out


def test_maps_as_dicom_hold_what_the_nifti_holds(
    cohort: TinyCohort, model_file: Path, tmp_path: Path, twobe3: Call
) -> None:
    scan, out = cohort.images / "scan-P02", tmp_path / "out"
    result = twobe3("explain", str(model_file), str(scan), "--no-checks", "--dicom", "--out", str(out), "--json")
    assert result.status == 0, result.err
    name = json.loads(result.out)["maps"][0]["file"].removesuffix(".nii.gz")
    values = nib.load(out / f"{name}.nii.gz").get_fdata()
    dataset = pydicom.dcmread(out / f"{name}.pm.dcm")
    assert dataset.DeviceSerialNumber == tb.models.read_card(model_file)[1]
    stored = np.frombuffer(dataset.FloatPixelData, "<f4")
    np.testing.assert_allclose(np.sort(stored), np.sort(values.astype(np.float32).ravel()), rtol=1e-6)
    region = pixel_array(pydicom.dcmread(out / f"{name}.seg.dcm")) > 0
    raising = np.sort(values[values > 0])[::-1]
    n = int(region.sum())
    assert raising[:n].sum() >= 0.5 * raising.sum() > raising[: n - 1].sum()


def test_a_second_run_adds_to_the_record(cohort: TinyCohort, model_file: Path, tmp_path: Path) -> None:
    out, scans = tmp_path / "out", [cohort.images / f"scan-P0{i}" for i in (1, 3)]
    first = tb.explain_scans(model_file, scans[:1], out, checks=False).explanations.maps
    second = tb.explain_scans(model_file, scans[1:], out, checks=False, method="grad-cam")
    assert [one.code for one in second.flags] == ["TRAINING_PATIENT"]
    recorded = {one["file"] for one in json.loads((out / "explanations.json").read_text())["maps"]}
    assert recorded == {one.file for one in (*first, *second.explanations.maps)} == {f.name for f in out.glob("*.gz")}


def test_what_was_explained_is_not_explained_again(
    cohort: TinyCohort, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, scans = tmp_path / "out", [cohort.images / f"scan-P0{i}" for i in (1, 3)]
    asked = []

    def count(*arguments: Any, **options: Any) -> RiskMap:
        asked.append(options["method"])
        return explain(*arguments, **options)

    monkeypatch.setattr("twobe3.study.explain.explain", count)
    first = tb.explain_scans(model_file, scans[:1], out, checks=False)
    assert len(asked) == 1
    again = tb.explain_scans(model_file, scans, out, checks=False)  # goes on where it was interrupted
    assert len(asked) == 2
    assert again.explanations.maps[:1] == first.explanations.maps
    assert tb.explain_scans(model_file, scans, out, checks=False).explanations == again.explanations
    assert len(asked) == 2
    for change in ({"checks": True}, {"show_faces": True}, {"dicom": True}, {"method": "grad-cam"}):
        tb.explain_scans(model_file, scans[:1], out, **{"checks": False, **change})
    assert len(asked) == 6
    next(out.glob("*grad-cam.png")).unlink()
    tb.explain_scans(model_file, scans[:1], out, checks=False, method="grad-cam")
    assert len(asked) == 7


def test_a_contour_beside_the_scan_is_told(
    cohort: TinyCohort, model_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = TinyCohort(tmp_path).scan("P01")
    volume = tb.read_suv(folder)
    header = PETHeader(
        patient_id="P01", sex="F", age_years=60, weight_kg=70.0, height_m=1.7, injected_dose_bq=3e8,
        injected=datetime(2020, 1, 1, 9), started=datetime(2020, 1, 1, 10), uid_seed="",
    )  # fmt: skip
    path = write_rtstruct(Mask(volume.array > 2, volume.geometry, "GTV"), folder / "RS.dcm", header=header)
    there = tb.explain_scans(model_file, [folder], tmp_path / "there", checks=False)
    assert not there.flags
    assert "share of voxels in the contour" in {check.name for check in there.explanations.maps[0].checks}
    dataset = pydicom.dcmread(path)
    for contour in dataset.ROIContourSequence[0].ContourSequence:
        contour.ContourData = [float(value) + 5000.0 * (i % 3 == 2) for i, value in enumerate(contour.ContourData)]
    dataset.save_as(path)
    beside = tb.explain_scans(model_file, [folder], tmp_path / "beside", checks=False)
    assert [one.code for one in beside.flags] == ["CONTOUR_OUTSIDE"]
    assert "CONTOUR_OUTSIDE" in caplog.text
    assert beside.explained == 1
    assert not beside.explanations.maps[0].checks


def test_in_a_notebook_the_maps_show_themselves(cohort: TinyCohort, model_file: Path, tmp_path: Path) -> None:
    scans = [cohort.images / f"scan-P0{i}" for i in (1, 3)]
    found = tb.explain_scans(model_file, scans, tmp_path / "out", checks=False)
    shown = found._repr_html_()
    assert [one.patient in shown for one in found.explanations.maps] == [True, True]
    pictures = [base64.b64decode(one) for one in re.findall('base64,([^"]+)"', shown)]
    assert sorted(pictures) == sorted(path.read_bytes() for path in (tmp_path / "out").glob("*.png"))
    assert "P01" not in re.sub('base64,[^"]+"', "", shown)
    next((tmp_path / "out").glob("*.png")).unlink()
    assert found._repr_html_().count("<img") == 1


def test_in_a_notebook_checks_and_parts_stand_beside_the_maps(
    cohort: TinyCohort, model_file: Path, tmp_path: Path
) -> None:
    found = tb.explain_scans(model_file, [cohort.images / "scan-P01"], tmp_path / "out")
    shown, told = found._repr_html_(), found.explanations
    verdicts = {True: "passed", False: "failed", None: "decides nothing"}
    assert told.maps[0].checks
    for check in told.maps[0].checks:
        (row,) = re.findall(rf"<tr><td>{told.maps[0].patient}</td><td>[^<]*</td><td>{check.name}</td>.*?</tr>", shown)
        assert f"<td>{verdicts[check.passed]}</td>" in row
    parts = [float(text.replace("−", "-")) for text in re.findall(r"<td>([+−]?[\d.]+)</td></tr>", shown)]
    assert parts == [round(value, 2) for one in told.contributions for value in one.values.values()]


def test_a_scan_in_nifti_has_no_study(
    cohort: TinyCohort, model_file: Path, tmp_path: Path, twobe3: Call, caplog: pytest.LogCaptureFixture
) -> None:
    assert twobe3("convert", str(cohort.images / "scan-P02"), "--out", str(tmp_path / "nifti")).status == 0
    out = tmp_path / "out"
    result = twobe3("explain", str(model_file), str(tmp_path / "nifti"), "--no-checks", "--dicom", "--out", str(out))
    assert result.status == 0, result.err
    assert "NO_DICOM_SOURCE" in caplog.text
    assert not list(out.glob("*.dcm"))
    assert list(out.glob("*.nii.gz"))


def test_shares_in_the_contour_are_no_check() -> None:
    share = {"name": "share", "value": 0.5, "threshold": None, "passed": None}
    shown = {"patient": "pa-1", "model": "m", "endpoint": "e", "risk": 0.5}
    document = {"contributions": [], "unused": [], "flags": [], "forced": [], "maps": [{**shown, "checks": [share]}]}
    assert explanation_lines(document) == ["pa-1  m  e  risk 0.500  not checked"]
    document["maps"] = [{**shown, "checks": [share, {**share, "name": "deletion", "passed": False}]}]
    assert explanation_lines(document) == ["pa-1  m  e  risk 0.500  NOT to be trusted, failed: deletion"]


@pytest.mark.parametrize("method", ["integrated-gradients", "occlusion"])
def test_python_says_the_same(cohort: TinyCohort, model_file: Path, tmp_path: Path, method: str) -> None:
    found = tb.explain_scans(model_file, [cohort.images / "scan-P01"], tmp_path / "out", method=method, checks=False)
    assert (found.explained, len(found.unused)) == (1, 0)
    assert found.explanations.maps[0].method == method


def test_what_has_neither_map_nor_parts_is_refused(cohort: TinyCohort, tmp_path: Path, twobe3: Call) -> None:
    file = fit(cohort, tb.models.Baseline("image_extent")).save(tmp_path / "baseline.safetensors")
    result = twobe3("explain", str(file), str(cohort.images), "--out", str(tmp_path / "out"))
    assert result.status == 2
    assert "NO_PATHWAY" in result.err


def test_a_study_folder_explains_with_all_its_models_that_can(
    cohort: TinyCohort, model_file: Path, tmp_path: Path
) -> None:
    models = tmp_path / "study" / "models"
    fit(cohort, tb.models.Baseline("image_extent")).save(models / "baseline.safetensors")
    (models / "net.safetensors").write_bytes(model_file.read_bytes())
    found = tb.explain_scans(tmp_path / "study", [cohort.images / "scan-P01"], tmp_path / "out", checks=False)
    assert [one.model for one in found.explanations.maps] == ["2be3-net"]


def test_no_scan_and_no_folder_are_told(model_file: Path, tmp_path: Path, twobe3: Call, cohort: TinyCohort) -> None:
    (tmp_path / "empty").mkdir()
    result = twobe3("explain", str(model_file), str(tmp_path / "empty"), "--out", str(tmp_path / "out"))
    assert (result.status, "NO_PET" in result.err) == (3, True)
    (tmp_path / "file").write_text("")
    result = twobe3("explain", str(model_file), str(cohort.images), "--out", str(tmp_path / "file"))
    assert result.status in (1, 2)
    assert "Traceback" not in result.err


STUDY = """
[[model]]
kind = "2be3-net"
inputs = ["profile"]
epochs = 2
[report]
explain = {}
"""


def test_a_study_explains_whom_its_models_did_not_see(cohort: TinyCohort, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = tb.run(cohort.study(folds=2, repeats=2, extra=STUDY.format("true")), out)
    document = json.loads((out / "explanations" / "explanations.json").read_text())
    assert {one["model"] for one in document["maps"]} == {"2be3-net"}
    assert sorted(one["patient"] for one in document["maps"]) == sorted(s.patient for s in result.cohort.subjects)
    (said,) = [one for one in result.predictions if one.model == "2be3-net"]
    risks = dict(zip(said.patients[7::-1], said.risk[7::-1], strict=True))  # the eight of the first repeat
    by_pseudonym = {subject.patient: risks[subject.patient_id] for subject in result.cohort.subjects}
    for one in document["maps"]:
        assert one["risk"] == pytest.approx(by_pseudonym[one["patient"]])
        assert load_file(out / "explanations" / one["file"])["map"].shape == GRID.shape
    assert 'id="viewer"' in (out / "report.html").read_text()
    before = {path.name: path.stat().st_mtime_ns for path in (out / "explanations").glob("*.safetensors")}
    (out / "finished.json").unlink()
    tb.run(cohort.images.parent / "study.toml", out)  # again: nothing is explained twice
    assert before == {path.name: path.stat().st_mtime_ns for path in (out / "explanations").glob("*.safetensors")}


def test_a_model_that_is_not_there_is_refused(cohort: TinyCohort, tmp_path: Path, twobe3: Call) -> None:
    study = cohort.study(extra=STUDY.format('["3be2-net"]'))
    result = twobe3("run", str(study), "--out", str(tmp_path / "out"))
    assert result.status == 2
    assert "UNKNOWN_NAME" in result.err
    assert "2be3-net" in result.err
