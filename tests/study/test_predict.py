"""Tests of what a model says of scans unlike those that it was trained on: odd inputs, each with its code."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from tests.command_line import Call

import twobe3 as tb
from twobe3.cli.output import explanation_lines
from twobe3.core.volume import Geometry, SUVCalibration, SUVVolume
from twobe3.evaluation.explanations import RECORD
from twobe3.io.nifti import write_nifti
from twobe3.models import Baseline
from twobe3.phantom.dicom_writer import PETHeader, make_item, write_pet_series
from twobe3.study.predict import COLUMNS, FIRST_COLUMNS, PredictedScan, ScanPrediction

PATIENTS, SHAPE, SPACING_MM = 24, (24, 20, 20), (8.0, 8.0, 8.0)
GRID = tb.Grid(8.0, (192.0, 160.0, 160.0))
SuvArray = npt.NDArray[np.float32]


def body(seed: int, lesion_suv: float = 6.0) -> SuvArray:
    """A trunk of SUV 1 with noise, a warmer organ in it and a lesion, at places that differ a little."""
    rng = np.random.default_rng(seed)
    slices, rows, columns = np.indices(SHAPE)
    width = rng.uniform(6.0, 8.0, 2)
    trunk = ((rows - 9.5) / width[0]) ** 2 + ((columns - 9.5) / width[1]) ** 2 < 1.0
    organ = np.linalg.norm([slices - 8, rows - 9, columns - 6 - rng.uniform(-1, 1)], axis=0) < 3.0
    lesion = np.linalg.norm([slices - 16 - rng.uniform(-2, 2), rows - 10, columns - 12], axis=0) < 2.2
    suv = trunk * rng.gamma(16.0, rng.uniform(0.05, 0.075), SHAPE) + 1.5 * (organ & trunk) + lesion_suv * lesion
    return np.asarray(suv, np.float32)


def to_volume(array: SuvArray, spacing_mm: tuple[float, float, float] = SPACING_MM) -> SUVVolume:
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.eye(3)) * spacing_mm
    a, b, c = array.shape
    return SUVVolume(array, Geometry((a, b, c), affine), SUVCalibration("bw", "test", 1, 1))


def write(
    folder: Path,
    array: SuvArray,
    *,
    patient: str = "",
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    uptake_min: float = 60.0,
    tracer: str = "Fluorodeoxyglucose",
    half_life_s: float = 6586.2,
) -> Path:
    """Write a scan as DICOM, of a tracer by its name and its half-life."""
    injected = datetime(2020, 1, 1, 9)
    header = PETHeader(
        patient_id=patient or folder.name, sex="F", age_years=60, weight_kg=70.0, height_m=1.7, injected_dose_bq=3e8,
        injected=injected, started=injected + timedelta(minutes=uptake_min), half_life_s=half_life_s,
        uid_seed=folder.name,
    )  # fmt: skip
    for file in write_pet_series(to_volume(array, spacing_mm), folder, header=header):
        dataset = pydicom.dcmread(file)
        (injection,) = dataset.RadiopharmaceuticalInformationSequence
        injection.Radiopharmaceutical = tracer
        injection.RadiopharmaceuticalCodeSequence = [make_item(CodeMeaning=tracer)]
        if tracer != "Fluorodeoxyglucose":
            del injection.RadionuclideCodeSequence
        dataset.save_as(file)
    return folder


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 patients as DICOM, scanned 55 to 67 minutes after the injection, and a table."""
    folder = tmp_path_factory.mktemp("hospital")
    rows = ["patient_id,outcome"]
    for i in range(PATIENTS):
        suv = body(i, lesion_suv=3.0 + 4.0 * (i % 2) + 0.1 * i)
        write(folder / "dicom" / f"XYZZY{i:02d}", suv, uptake_min=55.0 + i / 2)
        rows.append(f"XYZZY{i:02d},{i % 2}")
    (folder / "clinical.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def model(hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cohort = tb.read_cohort(
        hospital / "dicom", clinical=hospital / "clinical.csv", endpoint=tb.Binary("outcome", "outcome"), grid=GRID
    )
    fitted = Baseline("suvmax", region="threshold", threshold_suv=2.5).fit(cohort)
    return fitted.save(tmp_path_factory.mktemp("model"))


def only(model: Path, scan: Path, **options: Any) -> ScanPrediction:
    (one,) = tb.predict(model, [scan], **options).predictions
    return one


def nifti(folder: Path, array: SuvArray, **sidecar: Any) -> Path:
    """Write a scan as NIfTI with the sidecar that says that it is SUV."""
    folder.mkdir(parents=True)
    write_nifti(folder / "scan.nii.gz", to_volume(array))
    (folder / "scan.json").write_text(json.dumps({"calibration": {"type": "bw"}, "patient_id": "new", **sidecar}))
    return folder


def hounsfield(seed: int) -> SuvArray:
    """CT numbers: air outside, soft tissue with bone inside."""
    suv = body(seed)
    return np.where(suv > 0.1, 20.0 * suv, -1000.0).astype(np.float32)


def whole_body(seed: int) -> SuvArray:
    return np.tile(body(seed), (5, 3, 3))


ODD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "another tracer by its name": (lambda to: write(to, body(90), tracer="68Ga-PSMA-11"), "TRACER_OTHER"),
    "a tracer that nobody listed": (lambda to: write(to, body(90), tracer="Fluciclovine F^18^"), "TRACER_OTHER"),
    "another nuclide without a name": (
        lambda to: write(to, body(90), tracer="Solution", half_life_s=4057.7),
        "TRACER_OTHER",
    ),
    "another tracer of a NIfTI": (lambda to: nifti(to, body(90), tracer="[18F]NaF, sodium fluoride"), "TRACER_OTHER"),
    "nothing but zeros": (lambda to: write(to, np.zeros(SHAPE, np.float32)), "SCAN_CONSTANT"),
    "one value": (lambda to: nifti(to, np.full(SHAPE, 2.0, np.float32)), "SCAN_CONSTANT"),
    "CT numbers": (lambda to: nifti(to, hounsfield(90)), "SUV_IMPLAUSIBLE"),
    "activity in Bq/ml": (lambda to: nifti(to, 5000.0 * body(90)), "SUV_IMPLAUSIBLE"),
    "SUV times 100": (lambda to: write(to, 100.0 * body(90)), "SUV_IMPLAUSIBLE"),
    "three slices": (lambda to: write(to, body(90)[10:13]), "TOO_FEW_SLICES"),
    "a crop of a quarter": (lambda to: write(to, body(90)[5:17, 5:15, 5:15]), "VIEW_OUTSIDE"),
    "a whole body": (lambda to: write(to, whole_body(90)), "VIEW_OUTSIDE"),
    "a mouse scanner's voxels": (lambda to: write(to, body(90), spacing_mm=(0.8, 0.4, 0.4)), "TOO_FEW_SLICES"),
    "coarse slices": (lambda to: write(to, body(90)[::3], spacing_mm=(24.0, 8.0, 8.0)), "SPACING_OUTSIDE"),
}


@pytest.mark.parametrize("what", ODD)
def test_an_odd_scan_is_refused_under_its_code_and_predicted_by_force(model: Path, tmp_path: Path, what: str) -> None:
    make, code = ODD[what]
    scan = make(tmp_path / "new")
    one = only(model, scan)
    assert (one.risk, one.probability, one.code) == (None, None, code)
    assert one.reason
    assert one.remedy
    forced = only(model, scan, force=True)
    assert forced.risk is not None
    assert (forced.code, forced.forced[0].code) == (None, code)
    assert forced.forced[0].reason in one.reason


def test_half_lives_of_real_headers_are_those_of_the_nuclide(model: Path, real_data: Path, tmp_path: Path) -> None:
    """Of four scanners' fluorine, 6586.2 to 6588 s, without the name of a tracer; all of them PT."""
    files = sorted((real_data / "pet_headers").glob("*.json"))
    assert len(files) == 4
    for file in files:
        half_life_s = float(json.loads(file.read_text())[0]["RadionuclideHalfLife"])
        one = only(model, write(tmp_path / file.stem, body(101), tracer="", half_life_s=half_life_s))
        assert (one.code, codes(one)) == (None, ["TRACER_UNKNOWN"])


def codes(one: ScanPrediction) -> list[str]:
    return [flag.code for flag in one.flags]


FLAGGED: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "no tracer": (lambda to: nifti(to, body(101)), ["TRACER_UNKNOWN"]),
    "a drug's form for a tracer": (lambda to: write(to, body(101), tracer="Solution"), ["TRACER_UNKNOWN"]),
    "a late scan": (lambda to: write(to, body(101), uptake_min=120.0), ["UPTAKE_TIME_OUTSIDE"]),
    "an early scan": (lambda to: write(to, body(101), uptake_min=40.0), ["UPTAKE_TIME_OUTSIDE"]),
    "a training patient under another id": (
        lambda to: write(to, body(0, lesion_suv=3.0), uptake_min=55.0),
        ["TRAINING_PATIENT"],
    ),
    "a sphere in air": (lambda to: write(to, sphere()), ["UNUSUAL_SCAN"]),
    "noise": (lambda to: write(to, np.random.default_rng(0).gamma(2, 1, SHAPE).astype(np.float32)), ["UNUSUAL_SCAN"]),
    "SUV times 10": (lambda to: write(to, 10.0 * body(101)), ["UNUSUAL_SCAN"]),
    "SUV times 100 of unknown weight": (
        lambda to: nifti(to, 100.0 * body(101), tracer="FDG"),
        ["UNUSUAL_SCAN"],
    ),
    "half a body, beside it air": (lambda to: write(to, np.where(np.arange(20) < 8, body(101), 0)), ["UNUSUAL_SCAN"]),
}


def sphere() -> SuvArray:
    distance = np.linalg.norm(np.indices(SHAPE) - np.array([12, 10, 10]).reshape(3, 1, 1, 1), axis=0)
    return np.asarray(10.0 * (distance < 4), np.float32)


@pytest.mark.parametrize("what", FLAGGED)
def test_an_unusual_scan_is_predicted_and_flagged(model: Path, tmp_path: Path, what: str) -> None:
    make, expected = FLAGGED[what]
    one = only(model, make(tmp_path / "new"))
    assert one.risk is not None
    assert (one.code, codes(one)) == (None, expected)


def test_flags_and_numbers_are_in_every_output(twobe3: Call, model: Path, tmp_path: Path) -> None:
    scan = write(tmp_path / "new", 10.0 * body(101), uptake_min=120.0)
    (row,) = twobe3("predict", model, scan, "--json").json()["predictions"]
    assert [flag["code"] for flag in row["flags"]] == ["UNUSUAL_SCAN", "UPTAKE_TIME_OUTSIDE"]
    assert "the uptake time is 120 min, the model knows 55 to 66.5 min" in row["flags"][1]["reason"]
    assert row["percentile"] == 100.0  # hotter than any training patient
    assert (row["risk_low"], row["probability_low"]) == (None, None)
    text = twobe3("predict", model, scan, "--out", tmp_path / "new.csv").out
    assert "higher than 100 % of the training risks" in text
    assert "flag UNUSUAL_SCAN: its distance from the training scans is" in text
    (cells,) = csv.DictReader(io.StringIO((tmp_path / "new.csv").read_text()))
    assert (cells["flags"], cells["percentile"]) == ("UNUSUAL_SCAN UPTAKE_TIME_OUTSIDE", "100.0")


def test_a_file_that_ends_in_json_is_json(twobe3: Call, model: Path, tmp_path: Path) -> None:
    scan, out = write(tmp_path / "new", body(101)), tmp_path / "new.json"
    for _ in range(2):  # its own file may be replaced
        shown = twobe3("predict", model, scan, "--json", "--show-ids", "--out", out).json()
        assert json.loads(out.read_text()) == shown
    out.write_text("[1, 2]")
    assert twobe3("predict", model, scan, "--out", out).refusal().startswith("OUTPUT_EXISTS")
    table = tmp_path / "new.xlsx"
    assert twobe3("predict", model, scan, "--out", table).refusal().startswith("OUTPUT_ENDING")
    assert not table.exists()


def test_several_processes_predict_the_same(model: Path, tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / "new" / str(number), body(120 + number))
    write(tmp_path / "new" / "odd", body(90), tracer="68Ga-PSMA-11")
    page = tb.deploy.ResultFiles(html=tmp_path / "pages")
    alone = tb.predict(model, [tmp_path / "new"])
    several = tb.predict(model, [tmp_path / "new"], workers=2, each=page)
    assert several == alone
    assert (len(alone.predictions), alone.usable) == (4, 3)
    assert len(list((tmp_path / "pages").iterdir())) == 3


def test_a_scan_that_ends_two_workers_is_a_row_that_says_so(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        write(tmp_path / "new" / str(number), body(120 + number))
    alone = tb.predict(model, [tmp_path / "new"]).predictions

    def run(function: Any, tasks: Any, *, shared: Any, instead: Any, **_: Any) -> list[Any]:
        return [(tasks[0], instead(tasks[0])), (tasks[1], function(shared, tasks[1]))]

    monkeypatch.setattr("twobe3.study.predict.run_tasks", run)
    first, second = tb.predict(model, [tmp_path / "new"]).predictions
    assert (first.code, first.risk, first.patient, first.path) == ("WORKER_DIED", None, alone[0].patient, alone[0].path)
    assert second == alone[1]


def test_features_are_not_kept_from_scan_to_scan(model: Path, tmp_path: Path) -> None:
    kept: list[int] = []

    def count(predicted: PredictedScan) -> None:
        kept.append(len(predicted.model.cache._memory))

    for number in range(3):
        write(tmp_path / "new" / str(number), body(120 + number))
    tb.predict(model, [tmp_path / "new"], each=count)
    assert kept[0] > 0
    assert len(set(kept)) == 1
    kept.clear()
    tb.predict(model, [tmp_path / "new"], each=count, cache=tb.Cache())
    assert kept == sorted(set(kept))


@pytest.mark.parametrize("seed", range(100, 104))
def test_a_scan_like_those_of_the_training_is_predicted(model: Path, tmp_path: Path, seed: int) -> None:
    one = only(model, write(tmp_path / "new", body(seed)))
    assert one.risk is not None
    assert (one.forced, one.flags) == ((), ())
    assert only(model, tmp_path / "new", force=True) == one  # force changes nothing where nothing speaks against it


def test_a_whole_body_is_told_how_much_of_its_uptake_is_lost(model: Path, tmp_path: Path) -> None:
    array = np.zeros((120, 20, 20), np.float32)
    array[4:116:2, 10, 10] = 2.0  # 56 hot voxels, of which the grid's 24 slices about the centre hold 12
    one = only(model, write(tmp_path / "new", array))
    assert one.reason is not None
    assert "960 mm along the body (trained on 192 mm)" in one.reason
    assert f"{44 / 56:.0%} of the voxels above SUV 1 lie outside the model's grid" in one.reason


def test_several_reasons_are_all_told(model: Path, tmp_path: Path) -> None:
    one = only(model, write(tmp_path / "new", body(90)[10:13], tracer="68Ga-PSMA-11"))
    assert one.code == "TRACER_OTHER"
    assert one.reason is not None
    assert "also TOO_FEW_SLICES: " in one.reason
    assert "also VIEW_OUTSIDE: " in one.reason


def test_a_forced_prediction_says_so_in_every_output(twobe3: Call, model: Path, tmp_path: Path) -> None:
    scan, out = write(tmp_path / "new", body(90), tracer="68Ga-PSMA-11"), tmp_path / "new.csv"
    refused = twobe3("predict", model, scan, "--json")
    assert refused.status == 3
    assert refused.json()["predictions"][0]["forced"] == []
    document = twobe3("predict", model, scan, "--json", "--force", "--out", out).json()
    assert document["predictions"][0]["forced"] == [
        {"code": "TRACER_OTHER", "reason": "the tracer is PSMA, the model knows FDG"}
    ]
    (row,) = csv.DictReader(io.StringIO(out.read_text()))
    assert tuple(row) == COLUMNS
    assert (row["forced"], row["code"]) == ("TRACER_OTHER", "")
    text = twobe3("predict", model, scan, "--force").out
    assert "FORCED in spite of TRACER_OTHER: the tracer is PSMA" in text


def test_predictions_of_an_earlier_version_may_be_replaced(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new.csv"
    out.write_text(",".join(FIRST_COLUMNS) + "\n")
    only(model, write(tmp_path / "new", body(100)), out=out)
    assert out.read_text().startswith(",".join(COLUMNS))


def test_an_odd_scan_is_not_explained_either(hospital: Path, tmp_path: Path) -> None:
    cohort = tb.read_cohort(
        hospital / "dicom", clinical=hospital / "clinical.csv", endpoint=tb.Binary("outcome", "outcome"), grid=GRID
    )
    model = tb.models.SpatialModel().fit(cohort).save(tmp_path / "model")
    scan = write(tmp_path / "new", body(90), tracer="68Ga-PSMA-11")
    found = tb.explain_scans(model, [scan], tmp_path / "out")
    assert [one.code for one in found.unused] == ["TRACER_OTHER"]
    assert not found.explained
    by_force = tb.explain_scans(model, [scan], tmp_path / "out", force=True)
    assert by_force.explained == 1
    assert [one.code for one in by_force.forced] == ["TRACER_OTHER"]
    assert [one["code"] for one in json.loads((tmp_path / "out" / RECORD).read_text())["forced"]] == ["TRACER_OTHER"]
    assert any(line.endswith(by_force.forced[0].reason) for line in explanation_lines(by_force.to_json()))
