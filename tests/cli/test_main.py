import csv
import errno
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from pydicom.uid import CTImageStorage
from tests.command_line import Call

import twobe3 as tb
from twobe3.cli import options
from twobe3.dicom import suv_types
from twobe3.io.nifti import read_nifti
from twobe3.io.pseudonym import pseudonym
from twobe3.models import load_model
from twobe3.runtime import device

ONE = ("--workers", 1)  # starting others takes longer than these subjects

# -- the two real processes


def test_the_script_and_the_module_are_the_command_line(tiny_cohort: Any) -> None:
    folder = tiny_cohort.scan("P1")
    script = Path(sys.executable).with_name("twobe3")
    for command in ([script], [sys.executable, "-m", "twobe3"]):
        done = subprocess.run([*command, "inspect", folder, "--json"], capture_output=True, text=True, check=True)
        (line,) = done.stdout.splitlines()
        assert json.loads(line)["usable"] == 1


# -- the program itself


def test_the_version_is_one_line(twobe3: Call) -> None:
    assert twobe3("--version") == (0, f"twobe3 {tb.__version__}\n", "")


def test_help_is_asked_for_in_every_way(twobe3: Call) -> None:
    whole, of_one = twobe3("--help").out, twobe3("evaluate", "--help").out
    assert "evaluate" in whole
    assert "--clinical" in of_one
    assert [twobe3("help").out, twobe3("-h").out] == [whole] * 2
    assert twobe3().out.split() == whole.split()
    assert [twobe3("help", "evaluate").out, twobe3("evaluate", "-h").out] == [of_one] * 2
    assert "--min-scans" in twobe3("help", "collections", "plan").out


def test_the_help_that_is_kept_is_what_typer_says_of_every_verb() -> None:
    """Where it is not: remove src/twobe3/cli/help.txt, and write ``COLUMNS=80 NO_COLOR=1 twobe3 --help`` there anew."""
    program = "import sys; sys.argv = ['twobe3', '--help']; from twobe3.cli.main import main; main()"
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment)
    kept = (Path(tb.__file__).with_name("cli") / "help.txt").read_bytes()
    assert kept == done.stdout
    shown = subprocess.run([sys.executable, "-m", "twobe3", "-h"], capture_output=True, check=True)
    assert shown.stdout == kept


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(["evalute"], "evaluate"), (["help", "evalute"], "evaluate"), (["collections", "lst"], "list"),
     (["run", "study.toml", "--upate"], "--update")],
)  # fmt: skip
def test_a_misspelt_command_or_option_names_what_is_near(twobe3: Call, arguments: list[str], meant: str) -> None:
    done = twobe3(*arguments)
    assert (done.status, done.out) == (2, "")
    assert meant in done.err


# -- where output cannot go


@pytest.mark.parametrize("verb", ["run", "convert", "pretrain", "demo"])
@pytest.mark.parametrize("place", ["file", "file/deeper", "link"])
def test_an_output_folder_that_is_none_is_refused_first(
    twobe3: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("precious")
    Path("link").symlink_to("/nowhere/at/all")
    read = {"run": ["absent.toml"], "pretrain": ["absent.toml"], "convert": ["absent"], "demo": []}
    done = twobe3(verb, *read[verb], "--out", place)
    assert done.status == 2
    assert done.refusal().startswith(f"OUTPUT_EXISTS: '{place.partition('/')[0]}' is a ")
    assert Path("file").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_a_place_that_cannot_be_written_is_refused_first(twobe3: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # a superuser may write everywhere
    done = twobe3("run", "absent.toml", "--out", "somewhere/results")
    assert done.status == 1
    assert done.refusal().startswith("WRITE_FAILED: the output folder 'results' cannot be written: Permission denied")
    assert not Path("somewhere").exists()


# -- inspect, convert

SERIES_KEYS = ["path", "patient", "series_uid", "modality", "slices", "usable", "code", "reason", "remedy", "suv"]
SERIES_KEYS += ["contour", "tracer", "manufacturer", "model", "spacing_mm"]
SUV_KEYS = ["type", "rule", "factor_min", "factor_max", "max", "median", "min", "warnings"]


def test_inspect_tells_what_is_there(twobe3: Call, tiny_cohort: Any) -> None:
    tiny_cohort.scan("A", suv=6.0)
    tiny_cohort.scan("B", PatientWeight=None)
    done = twobe3("inspect", tiny_cohort.images, "--json")
    document = done.json()
    assert done.status == 0
    assert list(document) == ["series", "found", "usable", "excluded"]
    assert (document["found"], document["usable"], document["excluded"]) == (2, 1, 1)
    by_patient = {series["patient"]: series for series in document["series"]}
    good, bad = by_patient[pseudonym("patient", "A")], by_patient[pseudonym("patient", "B")]
    assert list(good) == list(bad) == SERIES_KEYS
    assert list(good["suv"]) == SUV_KEYS
    assert (good["path"], good["slices"], good["usable"], good["code"]) == ("scan-A", 12, True, None)
    assert (good["suv"]["max"], good["suv"]["median"]) == (pytest.approx(6.0, abs=1e-3), pytest.approx(0.5, abs=1e-3))
    assert (bad["code"], bad["suv"]) == ("WEIGHT_MISSING", None)
    text = twobe3("inspect", tiny_cohort.images).out.splitlines()
    assert text[-1] == "2 series: 1 usable, 1 WEIGHT_MISSING"
    assert any("SUV max 6.00 (bw)" in line for line in text)


def test_inspect_tells_tracer_scanner_and_spacing_and_dates_where_asked(twobe3: Call, tiny_cohort: Any) -> None:
    told = {"Manufacturer": "ACME", "ManufacturerModelName": "One\x1b[31m", "StudyDate": "20191231", "SeriesDate": ""}
    tiny_cohort.scan("A", **told, AcquisitionDate="20200101")
    (row,) = twobe3("inspect", tiny_cohort.images, "--json").json()["series"]
    assert (row["manufacturer"], row["model"]) == ("ACME", "One[31m")
    assert row["spacing_mm"] == [16.0, 16.0, 16.0]
    assert isinstance(row["tracer"], str)
    assert "dates" not in row
    text = twobe3("inspect", tiny_cohort.images).out
    assert "ACME One[31m  16 × 16 × 16 mm" in text
    assert "2020" not in text
    assert "\x1b" not in text
    (row,) = twobe3("inspect", tiny_cohort.images, "--dates", "--json").json()["series"]
    assert row["dates"] == {"study": "2019-12-31", "series": None, "acquisition": "2020-01-01"}
    assert "study 2019-12-31, acquisition 2020-01-01" in twobe3("inspect", tiny_cohort.images, "--dates").out


def test_convert_writes_what_it_says(twobe3: Call, tiny_cohort: Any, tmp_path: Path) -> None:
    tiny_cohort.scan("A", suv=6.0)
    (series,) = twobe3("convert", tiny_cohort.images, "--out", tmp_path / "out", "--json").json()["series"]
    assert list(series) == [*SERIES_KEYS, "output"]
    array, _ = read_nifti(Path(series["output"]))
    assert array.max() == pytest.approx(6.0, abs=1e-3)
    beside = json.loads(Path(series["output"].replace(".nii.gz", ".json")).read_text())
    assert beside["calibration"]["rule"] == series["suv"]["rule"]
    assert f"  written: {series['output']}\n" in twobe3("convert", tiny_cohort.images, "--out", tmp_path / "out").out


@pytest.mark.parametrize("verb", ["inspect", "convert"])
def test_nothing_usable(twobe3: Call, tiny_cohort: Any, tmp_path: Path, verb: str) -> None:
    more = ["--out", tmp_path / "out"] if verb == "convert" else []
    tiny_cohort.scan("A", Modality="CT", SOPClassUID=CTImageStorage)
    done = twobe3(verb, tiny_cohort.images, *more, "--json")
    assert done.status == 3
    assert [series["code"] for series in done.json()["series"]] == ["NOT_PET"]
    assert "twobe3: NO_PET: 1 series was found, which cannot be used" in done.err
    tiny_cohort.scan("B", PatientWeight=None)
    done = twobe3(verb, tiny_cohort.images, *more)
    assert done.status == 3
    assert "WEIGHT_MISSING" in done.out
    assert "twobe3: NOTHING_USABLE: 2 series" in done.err
    assert not (tmp_path / "out").exists()


def test_an_absent_path(twobe3: Call, tmp_path: Path) -> None:
    done = twobe3("inspect", tmp_path / "absent", "--json")
    assert done.status == 2
    assert done.refusal() == "NO_PET: 'absent' does not exist (check the path)"


@pytest.mark.parametrize("verb", ["inspect", "convert"])
def test_the_digital_reference_objects(twobe3: Call, real_data: Path, tmp_path: Path, verb: str) -> None:
    more = ["--out", tmp_path / "out"] if verb == "convert" else []
    folder = real_data / "suv_dro"
    done = twobe3(verb, *sorted(folder.glob("DRO_[0-9]*"))[:3], *more, "--json")
    assert done.status == 0
    document = done.json()
    assert document["usable"] == 3
    for series in document["series"]:
        assert series["suv"]["max"] == pytest.approx(4.0, abs=0.01)
        assert list(series["suv"]) == SUV_KEYS


def test_a_real_patient(twobe3: Call, real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "sts" / "dicom" / "STS_001"
    inspected = twobe3("inspect", folder, "--json").json()
    converted = twobe3("convert", folder, "--out", tmp_path, "--json").json()
    (series,) = converted["series"]
    assert {key: series[key] for key in SERIES_KEYS} == inspected["series"][0]
    array, geometry = read_nifti(Path(series["output"]))
    reference, grid = read_nifti(real_data / "sts" / "nifti" / "STS_001" / "PET_image.nii.gz")
    assert geometry.shape == grid.shape
    assert series["suv"]["max"] == pytest.approx(float(array.max()), rel=1e-6)
    assert series["suv"]["max"] == pytest.approx(float(reference.max()), rel=1e-3)


# -- run: five bad inputs, each one line with its code


@pytest.fixture
def bad_study(tiny_cohort: Any) -> Any:
    for i, patient in enumerate("ABCD"):
        tiny_cohort.scan(patient, suv=3.0 + i)  # scans of one content would count as one patient
    tiny_cohort.table({"A": (1,), "B": (0,), "C": (1,), "D": (0,)})
    return tiny_cohort


def no_pet(tiny: Any) -> None:
    for folder in tiny.images.iterdir():
        for file in folder.iterdir():
            file.unlink()
    tiny.scan("A", Modality="CT", SOPClassUID=CTImageStorage)


def edit(tiny: Any, old: str, new: str) -> None:
    study = tiny.study()
    text = study.read_text()
    assert old in text
    study.write_text(text.replace(old, new, 1))


BAD_INPUTS: dict[str, tuple[Callable[[Any], object], int, str]] = {
    "a folder without PET": (no_pet, 3, "NO_PET: none of 12 files belongs to a PET series; there is CT"),
    "a table without the outcome's column": (
        lambda tiny: tiny.table({"A": (1,)}, "patient_id,other"),
        2,
        "COLUMN_MISSING: the clinical table has no column 'outcome'; it has patient_id, other",
    ),
    "a table without the patient's column": (
        lambda tiny: tiny.table({"A": (1,)}, "id,outcome"),
        2,
        "COLUMN_MISSING: the clinical table has no column 'patient_id'; it has id, outcome",
    ),
    "a table without the patients": (
        lambda tiny: tiny.table({"W": (1,), "X": (1,), "Y": (0,), "Z": (0,)}),
        2,
        "NO_PATIENT_MATCHES: 4 patients were scanned, 4 are in the clinical table",
    ),
    "an unknown key": (
        lambda tiny: edit(tiny, "clinical =", "clinic ="),
        2,
        "UNKNOWN_KEY: [cohort]: unknown key 'clinic'; the nearest known key is 'clinical'",
    ),
    "an unknown key of a model": (
        lambda tiny: edit(tiny, "threshold_suv =", "treshold_suv ="),
        2,
        "UNKNOWN_KEY: [[model]] baseline: unknown key 'treshold_suv'; the nearest known key is 'threshold_suv'",
    ),
    "one class": (
        lambda tiny: tiny.table(dict.fromkeys("ABCD", (1,))),
        2,
        "ONE_CLASS: endpoint 'outcome': 4 of 4 patients have it",
    ),
    "fewer patients than folds": (
        lambda tiny: edit(tiny, "folds = 2", "folds = 5"),
        2,
        "FEWER_PATIENTS_THAN_FOLDS: endpoint 'outcome': 4 patients for 5 folds",
    ),
    "fewer events than folds": (
        lambda tiny: edit(tiny, "folds = 2", "folds = 3"),
        2,
        "FEWER_EVENTS_THAN_FOLDS: endpoint 'outcome': 2 patients of the rarer class for 3 folds",
    ),
}


@pytest.mark.parametrize("name", BAD_INPUTS)
def test_a_bad_input_is_one_line_with_its_code(
    twobe3: Call, bad_study: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spoil, status, says = BAD_INPUTS[name]
    bad_study.study()
    spoil(bad_study)
    prepared: list[str] = []
    monkeypatch.setattr(tb.models.Baseline, "precompute", lambda model, cohort: prepared.append(model.name))
    done = twobe3("run", tmp_path / "study.toml", *ONE, "--out", tmp_path / "out", "--json")
    assert (done.status, done.refusal()[: len(says)]) == (status, says)
    assert not prepared
    # What failed does not keep the folder from the corrected study; its owner may see who was left out.
    assert {path.name for path in (tmp_path / "out").glob("*") if path.is_file()} <= {"exclusions.csv"}


def test_a_folder_of_another_study_is_not_overwritten(twobe3: Call, bad_study: Any, tmp_path: Path) -> None:
    first = twobe3("run", bad_study.study(), *ONE, "--out", tmp_path / "out", "--json")
    assert first.status == 0
    assert list(first.json()) == ["report", "evaluation"]
    assert all(Path(path).exists() for path in first.json().values())
    before = (tmp_path / "out" / "evaluation.json").read_bytes()
    edit(bad_study, 'variable = "image_extent"', 'variable = "age"')
    done = twobe3("run", tmp_path / "study.toml", *ONE, "--out", tmp_path / "out")
    assert done.status == 2
    assert done.refusal().startswith("OUTPUT_EXISTS: ")
    assert (tmp_path / "out" / "evaluation.json").read_bytes() == before
    done = twobe3("run", tmp_path / "study.toml", *ONE, "--out", tmp_path / "out", "--update")
    assert done.status == 0
    assert done.out.splitlines()[0] == "outcome: auc_within_folds, 4 patients, 2 events (outcome = 1)"
    assert done.out.splitlines()[-1] == str(tmp_path / "out" / "report.html")
    assert (tmp_path / "out" / "evaluation.json").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "No such command"),
        (["run"], "Missing argument"),
        (["inspect", ".", "--policy", "kind"], "Invalid value"),
        (["list", "colours"], "Invalid value"),
        (["evaluate", "p.csv", "--clinical", "c.csv"], "--label"),
        (["evaluate", "p.csv", "--clinical", "c.csv", "--label", "y", "--time", "t", "--event", "e"], "--label"),
        (["evaluate", "p.csv", "--clinical", "c.csv", "--time", "t"], "--label"),
    ],
)
def test_wrong_usage(twobe3: Call, arguments: list[str], says: str) -> None:
    done = twobe3(*arguments)
    assert (done.status, done.out) == (2, "")
    assert says in done.err
    assert "Traceback" not in done.err


# -- interruption


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, new_tiny_cohort: Callable[[Path], Any]
) -> tuple[Path, dict[str, bytes]]:
    """A study of many folds, and what a run without interruption gives."""
    folder = tmp_path_factory.mktemp("study")
    study = new_tiny_cohort(folder).patients(8).study(repeats=20)
    tb.run(study, folder / "whole", workers=1)
    return study, results(folder / "whole")


def results(out: Path) -> dict[str, bytes]:
    return {
        name: (out / name).read_bytes() for name in ("cohort.json", "folds.json", "predictions.csv", "evaluation.json")
    }


@pytest.mark.parametrize(("number", "status", "workers"), [(signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 2)])
def test_an_interrupted_run_is_resumed(
    uninterrupted: tuple[Path, dict[str, bytes]], tmp_path: Path, number: signal.Signals, status: int, workers: int
) -> None:
    study, expected = uninterrupted
    out = tmp_path / "out"
    command = [sys.executable, "-m", "twobe3", "run", study, "--out", out, "--workers", str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while len(done := list(out.glob("folds/*.safetensors"))) < 3 and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    said, complained = process.communicate(timeout=60)
    assert (process.returncode, said) == (status, b"")
    assert b"twobe3: interrupted; the same command, run again, uses what was kept" in complained
    assert b"Traceback" not in complained
    assert not (out / "evaluation.json").exists()
    assert not list(out.rglob(".partial-*"))
    times = {path: path.stat().st_mtime_ns for path in done}
    tb.run(study, out, workers=1)
    assert results(out) == expected
    assert {path: path.stat().st_mtime_ns for path in done} == times


def test_a_command_leaves_the_signals_of_its_process_as_they_were(twobe3: Call, tmp_path: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    assert [twobe3("list", "models").status, twobe3("report", tmp_path).status] == [0, 2]
    assert [signal.getsignal(number) for number in numbers] == before


# -- pretrain

PRETRAIN = """
[cohort]
images = "dicom"
[volume]
spacing_mm = 16.0
field_of_view_mm = [192, 160, 160]
[pretrain]
backbone = "phantom-resnet10"
layer = 1
slice_size = 16
components = 2
resamples = 100
[slices]
epochs = {epochs}
per_scan = 2
[stacks]
epochs = 2
"""


def test_pretrain_tells_where_file_and_card_are(twobe3: Call, tiny_cohort: Any, tmp_path: Path) -> None:
    for i in range(5):
        tiny_cohort.scan(f"P{i}", suv=3.0 + i, PatientSex="MF"[i % 2])
    recipe = tmp_path / "pretrain.toml"
    recipe.write_text(PRETRAIN.format(epochs=1))
    how = ("--out", tmp_path / "out", "--workers", 1, "--device", "cpu")
    done = twobe3("pretrain", recipe, *how, "--json")
    document = done.json()
    assert (done.status, list(document)) == (0, ["file", "card", "figures"])
    assert Path(document["file"]).exists()
    assert Path(document["card"]).exists()
    again = twobe3("pretrain", recipe, *how)
    assert again.out.splitlines()[-1] == document["card"]
    assert "masked_features" in again.out


def test_pretrain_ends_with_the_status_of_what_is_wrong(twobe3: Call, tiny_cohort: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "pretrain.toml"
    recipe.write_text(PRETRAIN.format(epochs=1).replace("per_scan", "per_scans"))
    done = twobe3("pretrain", recipe, "--out", tmp_path / "out", "--device", "cpu")
    assert done.status == 2
    assert done.refusal().startswith(
        "UNKNOWN_KEY: [slices]: unknown key 'per_scans'; the nearest known key is 'per_scan'"
    )
    recipe.write_text(PRETRAIN.format(epochs=1))
    tiny_cohort.scan("P1")
    done = twobe3("pretrain", recipe, "--out", tmp_path / "out", "--device", "cpu")
    assert done.status == 3
    assert done.refusal().startswith("NOTHING_USABLE: patients with a scan that can be used: 1")


def test_an_interrupted_pre_training_ends_with_130_and_is_resumed(tiny_cohort: Any, tmp_path: Path) -> None:
    for i in range(5):
        tiny_cohort.scan(f"P{i}", suv=3.0 + i, PatientSex="MF"[i % 2])
    recipe, out = tmp_path / "pretrain.toml", tmp_path / "out"
    recipe.write_text(PRETRAIN.format(epochs=60))
    command = [sys.executable, "-m", "twobe3", "pretrain", recipe, "--out", out, "--workers", "1", "--device", "cpu"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not list(out.glob("checkpoints/*.safetensors")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    said, complained = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, b"")
    assert b"twobe3: interrupted; the same command, run again, uses what was kept" in complained
    assert not (out / "card.json").exists()
    assert not list(out.rglob(".partial-*"))
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    assert b"epochs were there from an earlier run" in done.stderr


# -- predict, report, list, doctor


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, new_tiny_cohort: Callable[[Path], Any]) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    tb.run(new_tiny_cohort(folder).patients(8).study(), folder / "out", workers=1)
    return folder / "out"


@pytest.mark.parametrize("command", ["run", "predict"])
def test_a_gpu_that_is_not_there_is_one_line(
    twobe3: Call, finished: Path, tiny_cohort: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (model,) = (finished / "models").glob("*suvmax*")
    arguments = {
        "run": (tiny_cohort.patients(4).study(), "--out", tiny_cohort.images.parent / "out"),
        "predict": (model, tiny_cohort.scan("P")),
    }
    done = twobe3(command, *arguments[command], "--device", "cuda")
    assert done.status == 1
    assert done.refusal().startswith("DEVICE_MISSING: ")


def test_predict_tells_of_every_series(twobe3: Call, finished: Path, tiny_cohort: Any) -> None:
    (model,) = (finished / "models").glob("*suvmax*")
    tiny_cohort.scan("cold", suv=1.0)
    tiny_cohort.scan("hot", suv=9.0)
    tiny_cohort.scan("bad", PatientWeight=None)
    done = twobe3("predict", model, tiny_cohort.images, "--json")
    document = done.json()
    assert done.status == 0
    assert list(document) == ["model", "predictions", "percentile_of", "intended_use"]
    keys = ["patient", "series_uid", "endpoint", "risk", "probability", "code", "reason", "forced", "flags"]
    keys += ["percentile", "risk_low", "risk_high", "probability_low", "probability_high"]
    assert all(list(row) == keys for row in document["predictions"])
    rows = {row["patient"]: row for row in document["predictions"]}
    cold, hot, bad = (rows[pseudonym("patient", name)] for name in ("cold", "hot", "bad"))
    assert cold["risk"] < hot["risk"]
    assert 0 < cold["probability"] < hot["probability"] < 1
    assert (bad["risk"], bad["probability"], bad["code"]) == (None, None, "WEIGHT_MISSING")
    text = twobe3("predict", model, tiny_cohort.images).out
    assert f"risk {hot['risk']:.3f}  probability {hot['probability']:.3f}" in text


def test_predict_gives_the_owner_the_ids_in_a_file_and_where_they_are_asked_for(
    twobe3: Call, finished: Path, tiny_cohort: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (model,) = (finished / "models").glob("*suvmax*")
    good = tiny_cohort.scan("=XYZZY1")
    bad = tiny_cohort.scan("XYZZY2", PatientWeight=None)
    other = tiny_cohort.scan("XYZZY3", folder="ct", Modality="CT", SOPClassUID=CTImageStorage)
    out = tmp_path / "new" / "predictions.csv"
    with caplog.at_level(logging.DEBUG):
        done = twobe3("predict", model, tiny_cohort.images, "--out", out)
    assert done.status == 0
    assert "XYZZY" not in done.out + done.err + caplog.text
    rows = {row["patient_id"]: row for row in csv.DictReader(io.StringIO(out.read_text()))}
    assert {name: (row["path"], row["code"]) for name, row in rows.items()} == {
        "'=XYZZY1": (str(good), ""), "XYZZY2": (str(bad), "WEIGHT_MISSING"), "XYZZY3": (str(other), "NOT_PET"),
    }  # fmt: skip
    document = twobe3("predict", model, tiny_cohort.images, "--json", "--show-ids", "--out", out).json()
    shown = {row["patient_id"]: row for row in document["predictions"]}
    assert shown.keys() == {"=XYZZY1", "XYZZY2", "XYZZY3"}
    assert float(rows["'=XYZZY1"]["risk"]) == shown["=XYZZY1"]["risk"]
    assert float(rows["'=XYZZY1"]["probability"]) == shown["=XYZZY1"]["probability"]
    assert rows["XYZZY2"]["remedy"].startswith("complete PatientWeight")
    text = twobe3("predict", model, tiny_cohort.images, "--show-ids").out
    assert f"XYZZY2  {shown['XYZZY2']['series_uid']}  " in text


def test_a_card_says_what_the_study_found(twobe3: Call, finished: Path) -> None:
    (model,) = (finished / "models").glob("*suvmax*")
    document = twobe3("card", model, "--json").json()
    assert document["trained_on"]["n"] == 8
    assert document["trained_on"]["tracers"] == {"FDG": 8}
    found = json.loads((finished / "evaluation.json").read_text())["models"]
    (own,) = [one for one in found if one["model"].startswith("suvmax")]
    metric = next(one for one in own["metrics"] if one["name"] == own["basis"]["metric"])
    said = document["performance"]
    assert (said["metric"], said["n"], said["events"]) == (own["basis"]["metric"], 8, 4)
    assert [said[name] for name in ("value", "low", "high")] == [metric[name] for name in ("value", "low", "high")]
    assert said["validation"] == "cross-validation, 2 folds"
    assert document["percentile_of"] == "out-of-fold"
    with (finished / "predictions.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["model"] == own["model"]]
    record = load_model(model).record_
    assert record is not None
    assert record.risks.tolist() == sorted(float(row["risk"]) for row in rows)
    assert "Research use only" in twobe3("card", model).out
    assert twobe3("card", model, "--markdown").out.startswith("# suvmax")
    done = twobe3("card", finished / "evaluation.json")
    assert (done.status, done.refusal()[:13]) == (2, "MODEL_INVALID")


def test_predict_overwrites_nothing_but_predictions(
    twobe3: Call, finished: Path, tiny_cohort: Any, tmp_path: Path
) -> None:
    (model,) = (finished / "models").glob("*suvmax*")
    table = tiny_cohort.table({"A": (1,)})
    for out, says in ((table, "clinical.csv is there and holds something else"), (tmp_path, "is a folder, not a file")):
        done = twobe3("predict", model, tmp_path / "absent", "--out", out)
        assert done.status == 2
        assert done.refusal().startswith("OUTPUT_EXISTS: ")
        assert says in done.err
    assert table.read_text() == "patient_id,outcome\nA,1\n"


def test_predict_without_a_usable_scan(twobe3: Call, finished: Path, tiny_cohort: Any) -> None:
    (model,) = (finished / "models").glob("*suvmax*")
    tiny_cohort.scan("bad", PatientWeight=None)
    done = twobe3("predict", model, tiny_cohort.images, "--json")
    assert done.status == 3
    assert [row["code"] for row in done.json()["predictions"]] == ["WEIGHT_MISSING"]
    assert "NOTHING_USABLE" in done.err
    done = twobe3("predict", tiny_cohort.images, tiny_cohort.images)
    assert done.status == 2
    assert done.refusal().startswith("MODEL_INVALID")


def test_the_report_is_made_again(twobe3: Call, finished: Path) -> None:
    page = finished / "report.html"
    before = page.read_bytes()
    page.unlink()
    assert twobe3("report", finished, "--json").json() == {"report": str(page)}
    assert page.read_bytes() == before


def test_a_report_of_nothing(twobe3: Call, tmp_path: Path) -> None:
    done = twobe3("report", tmp_path)
    assert done.status == 2
    assert done.refusal().startswith("ARTEFACT_MISSING")
    (tmp_path / "results.csv").write_text("")
    assert "is a file" in twobe3("report", tmp_path / "results.csv").refusal()
    assert "is not there" in twobe3("report", tmp_path / "missing").refusal()


@pytest.mark.parametrize(
    ("what", "name"), [("backbones", "resnet18"), ("models", "2be3-net"), ("metrics", "auc"), ("codes", "NO_PET")]
)
def test_list_names_them(twobe3: Call, what: str, name: str) -> None:
    rows = twobe3("list", what, "--json").json()[what]
    assert name in [row["name"] for row in rows]
    lines = twobe3("list", what).out.splitlines()
    assert len(lines) == len(rows)
    assert any(line.startswith(f"{name} ") for line in lines)


def test_doctor_looks_at_everything(twobe3: Call) -> None:
    checks = {check["name"]: check for check in twobe3("doctor", "--json").json()["checks"]}
    assert checks["twobe3"] == {"name": "twobe3", "works": True, "detail": tb.__version__}
    assert all(checks[name]["works"] for name in ("torch", "monai", "pydicom", "devices", "networks"))
    assert twobe3("doctor").out.count("\n") == len(checks)


# -- identity

IDENTIFYING = (
    "PatientName", "OtherPatientNames", "PatientAddress", "PatientComments", "AccessionNumber",
    "ReferringPhysicianName",
    "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "OperatorsName", "StudyID",
    "PerformingPhysicianName", "StudyDescription", "SeriesDescription", "ProtocolName", "DeviceSerialNumber",
    "RequestingPhysician", "PatientTelephoneNumbers", "MedicalRecordLocator", "ImageComments",
)  # fmt: skip
OWNERS = ("predictions.csv", "exclusions.csv")  # the tables with the user's own ids
UIDS = {"StudyInstanceUID": "1.2.9871", "SeriesInstanceUID": "1.2.9872", "FrameOfReferenceUID": "1.2.9873"}


def test_no_identity_in_what_is_written_or_said(
    twobe3: Call, tiny_cohort: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Acceptance row 34."""
    marks = dict.fromkeys(IDENTIFYING, "XMARKERX")
    good = {name: f"XMARKERX{name}" for name in "ABCD"}
    for i, name in enumerate([*good.values(), "XMARKERXbad", "XMARKERXstranger"]):
        uids = {keyword: f"{uid}.{i}" for keyword, uid in UIDS.items()}
        weight = {"PatientWeight": None} if name.endswith("bad") else {}
        tiny_cohort.scan(name, folder=f"folder-{i}", suv=3.0 + i, **marks, **uids, **weight)
    rows = {name: (i % 2,) for i, name in enumerate(good.values())}
    tiny_cohort.table({**rows, "XMARKERXbad": (1,), "XMARKERXabsent": (1,)})
    out = tmp_path / "out"
    with caplog.at_level(logging.DEBUG, "twobe3"):
        said = [
            twobe3("inspect", tiny_cohort.images),
            twobe3("inspect", tiny_cohort.images, "--json"),
            twobe3("convert", tiny_cohort.images, "--out", out / "nifti", "--json"),
            twobe3("--verbose", "run", tiny_cohort.study(), *ONE, "--out", out),
            twobe3("predict", next((out / "models").glob("*suvmax*")), tiny_cohort.images, "--json"),
        ]
    assert [done.status for done in said] == [0] * 5
    texts = [text for done in said for text in (done.out, done.err)] + [
        record.getMessage() for record in caplog.records
    ]
    assert "WEIGHT_MISSING" in caplog.text
    files = [path for path in out.rglob("*") if path.is_file() and path.name not in OWNERS]
    assert {"cohort.json", "report.html", "evaluation.json", "run.json"} <= {path.name for path in files}
    contents = {str(path.relative_to(out)): path.read_bytes() for path in files}
    for mark in ("XMARKERX", *UIDS.values()):
        assert not [text for text in texts if mark in text]
        assert not [name for name, content in contents.items() if mark in name or mark.encode() in content]


@pytest.mark.parametrize("patient", ["../../etc/x", "a" * 64, "CON", "=1+1"])
def test_a_hostile_patient_id_stays_in_the_output_folder(
    twobe3: Call, tiny_cohort: Any, tmp_path: Path, patient: str
) -> None:
    tiny_cohort.scan(patient, folder="scan")
    before = set(tmp_path.rglob("*"))
    twobe3("convert", tiny_cohort.images, "--out", tmp_path / "out", "--json")
    new = set(tmp_path.rglob("*")) - before
    assert len(new) == 3
    assert all(path.is_relative_to(tmp_path / "out") and patient not in path.name for path in new)


def test_choices_of_options_are_those_of_the_package() -> None:
    assert get_args(options.SUVType) == get_args(suv_types.SUVType)
    assert get_args(options.Unit) == get_args(get_type_hints(tb.TimeToEvent)["unit"])
    assert get_args(options.DeviceName) == get_args(device.DeviceName)
    assert get_args(options.Precision) == get_args(device.Precision)
