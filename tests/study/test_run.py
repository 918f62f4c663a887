"""The whole study: the same folds for all, resumable at every fold, private, and reproducible to the byte."""

from __future__ import annotations

import csv
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.read import read_cohort
from twobe3.cohort.splits import CrossValidation
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.prediction import Prediction
from twobe3.core.volume import SUVVolume
from twobe3.evaluation.results import PrimaryMetric
from twobe3.io.cache import Cache
from twobe3.io.pseudonym import pseudonym
from twobe3.models import CNN3D, MODELS, Baseline, Model, PooledModel, TwoBe3Net, load_model
from twobe3.scans import scan
from twobe3.study.run import run
from twobe3.validation.cross_validate import cross_validate
from twobe3.validation.result import CVResult

MakeCohort = Callable[..., Cohort]
MAPS: dict[str, Any] = {"weights": "random", "layer": 2, "slice_size": 32, "cache": Cache()}
HOW: dict[str, Any] = {"cv": CrossValidation(3, 2), "resamples": 200}


def models() -> list[Model]:
    return [
        PooledModel(**MAPS, planes=("axial",), penalties=(10.0, 1e3), inner_folds=2),
        CNN3D(epochs=1, width=4),
        Baseline("suvmax"),
        Baseline("age"),
    ]


@pytest.fixture(scope="module")
def cohort(make_cohort: MakeCohort) -> Cohort:
    return make_cohort(15, ("binary", "time-to-event"))


def spied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of each model that is fitted from now on, whenever it is."""
    names: list[str] = []
    fit = Model.fit

    def spy(self: Model, cohort: Cohort) -> Model:
        names.append(self.name)
        return fit(self, cohort)

    monkeypatch.setattr(Model, "fit", spy)
    return names


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return spied(monkeypatch)


class Validated(NamedTuple):
    """A result, the checkpoints that it left, and which models were fitted for it."""

    result: CVResult
    checkpoints: Cache
    fitted: list[str]


@pytest.fixture(scope="module")
def uninterrupted(cohort: Cohort) -> Validated:
    checkpoints = Cache()
    with pytest.MonkeyPatch.context() as patch:
        fitted = spied(patch)
        return Validated(cross_validate(models(), cohort, **HOW, checkpoints=checkpoints), checkpoints, fitted)


@pytest.fixture(scope="module")
def result(uninterrupted: Validated) -> CVResult:
    return uninterrupted.result


@pytest.fixture(scope="module")
def resumed(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Validated:
    """The same, interrupted in the middle and resumed from what then lay on disk; fitted is what it still had to."""
    folder = tmp_path_factory.mktemp("checkpoints")
    with pytest.MonkeyPatch.context() as patch:
        fitted, fit = spied(patch), CNN3D._fit

        def interrupted(self: CNN3D, part: Cohort) -> None:
            if fitted.count("cnn3d") == 3:
                raise KeyboardInterrupt
            fit(self, part)

        patch.setattr(CNN3D, "_fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cross_validate(models(), cohort, **HOW, checkpoints=Cache(folder))
        patch.setattr(CNN3D, "_fit", fit)
        fitted.clear()
        return Validated(cross_validate(models(), cohort, **HOW, checkpoints=Cache(folder)), Cache(folder), fitted)


def same(one: CVResult, two: CVResult) -> bool:
    def arrays(result: CVResult) -> Iterator[Any]:
        for item in result.predictions:
            chance = None if item.probability is None else item.probability.tolist()
            assert item.repeat is not None
            assert item.fold is not None
            yield item.model, item.endpoint, item.patients, item.risk.tolist(), chance
            yield item.repeat.tolist(), item.fold.tolist()
            for decided in (item.threshold, item.cutoff, item.survival, item.times):
                yield None if decided is None else decided.tolist()

    return list(arrays(one)) == list(arrays(two))


def folds_of(prediction: Prediction) -> dict[tuple[int, str], int]:
    assert prediction.repeat is not None
    assert prediction.fold is not None
    keys = zip(prediction.repeat.tolist(), prediction.patients, strict=True)
    return dict(zip(keys, prediction.fold.tolist(), strict=True))


def test_every_patient_is_predicted_once_a_repeat_by_every_model_on_the_same_folds(
    result: CVResult, cohort: Cohort
) -> None:
    names = [model.name for model in result.models]
    assert [(p.endpoint, p.model) for p in result.predictions] == [
        (endpoint, name) for endpoint in ("relapse", "survival") for name in names
    ]
    for endpoint in ("relapse", "survival"):
        folds = [folds_of(item) for item in result.predictions if item.endpoint == endpoint]
        assert folds[0].keys() == {(repeat, patient) for repeat in range(2) for patient in cohort.patients}
        assert all(len(item) == 30 for item in result.predictions)
        assert all(other == folds[0] for other in folds)
        assert set(folds[0].values()) == {0, 1, 2}


def test_patients_without_an_outcome_are_left_out_for_that_endpoint_alone(cohort: Cohort) -> None:
    binary, survival = cohort.endpoints
    partly = replace(cohort, endpoints=(binary.subset(np.arange(12)), survival))
    result = cross_validate([Baseline("age")], partly, cv=CrossValidation(2, 1), resamples=100)
    assert [sorted(item.patients) for item in result.predictions] == [
        sorted(cohort.patients[:12]),
        sorted(cohort.patients),
    ]


def test_a_model_is_fitted_without_the_patients_that_it_predicts(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[set[str]] = []
    tested: list[set[str]] = []
    fit, predict = Model.fit, Model.predict
    monkeypatch.setattr(Model, "fit", lambda self, part: (trained.append(set(part.patients)), fit(self, part))[1])
    monkeypatch.setattr(
        Model, "predict", lambda self, part: (tested.append(set(part.patients)), predict(self, part))[1]
    )
    cross_validate([Baseline("age")], cohort, **HOW)
    assert len(trained) == 2 * 3 * 2
    assert tested[1::2] == trained  # whose median risk is the cut-off
    for train, test in zip(trained, tested[::2], strict=True):
        assert not train & test
        assert train | test == set(cohort.patients)


def test_the_table_names_every_model_under_every_endpoint_the_best_first(result: CVResult) -> None:
    lines = result.table().splitlines()
    assert lines[0] == "relapse: auc_within_folds, 15 patients, 7 events"
    assert lines[1].split() == ["auc_within_folds", "auc,", "all", "pairs"]
    assert lines[6].startswith("  ahead is ")
    assert lines[7].startswith("  models are ranked and compared by auc_within_folds: risks of different folds ")
    assert lines[8].startswith("  to see a difference of 0.05 in auc_within_folds with a power of 80%: about ")
    assert lines[9].startswith("survival: harrell_c_within_folds, 15 patients, ")
    for block in (lines[2:6], lines[11:15]):
        assert {line.split("  ")[1] for line in block} == {model.name for model in result.models}
        values = [float(re.findall(r"\d\.\d{3}", line)[0]) for line in block]
        assert values == sorted(values, reverse=True)


def test_the_table_puts_the_lowest_first_where_lower_is_better_and_the_unknown_last(result: CVResult) -> None:
    (first, *_), names = result.evaluations, ("worse", "better", "unknown")
    metrics = [
        replace(first.metrics[0], name="brier", value=value, low=value, high=value) for value in (0.3, 0.1, None)
    ]
    evaluations = tuple(
        replace(first, model=name, metrics=(metric,), primary_metric=PrimaryMetric("brier", "it is asked for"))
        for name, metric in zip(names, metrics, strict=True)
    )
    one = result.cohort.for_endpoint("relapse")
    plan = replace(result.plan, cohort=one)
    shown = replace(result, plan=plan, evaluations=evaluations, comparisons=()).table()
    rows = shown.splitlines()[2:5]
    assert [line.split()[0] for line in rows] == ["better", "worse", "unknown"]
    assert rows[-1].split()[1:3] == ["not", "estimable"]


def test_two_models_of_one_name_are_refused(cohort: Cohort) -> None:
    with pytest.raises(ValueError, match="different names"):
        cross_validate([Baseline("age"), Baseline("age")], cohort)


def test_what_cannot_be_split_is_refused_before_anything_is_computed(cohort: Cohort, fits: list[str]) -> None:
    model = TwoBe3Net(weights="absent.safetensors")  # would be missed as soon as features are wanted
    with pytest.raises(ConfigurationError) as caught:
        cross_validate([model], cohort, cv=CrossValidation(8, 5))
    assert caught.value.code is Code.FEWER_EVENTS_THAN_FOLDS
    assert fits == []


def test_every_model_is_fitted_for_every_fold(uninterrupted: Validated) -> None:
    assert len(uninterrupted.fitted) == 2 * 4 * 6


def test_a_run_interrupted_and_resumed_equals_one_that_was_not(resumed: Validated, result: CVResult) -> None:
    assert len(resumed.fitted) == 2 * 4 * 6 - (6 + 2)
    assert same(resumed.result, result)


@pytest.mark.parametrize("stored", ["uninterrupted", "resumed"])
def test_a_second_run_fits_nothing_and_predicts_the_same(
    stored: str, result: CVResult, cohort: Cohort, fits: list[str], request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """From checkpoints in memory, and on disk."""
    first: Validated = request.getfixturevalue(stored)
    fits.clear()
    caplog.set_level(logging.INFO, logger="twobe3")
    again = cross_validate(models(), cohort, **HOW, checkpoints=first.checkpoints)
    assert fits == []
    assert "cross-validation: 48 of 48 folds were there from an earlier run" in caplog.messages
    assert same(again, result)


def test_a_changed_parameter_recomputes_that_model_only(
    uninterrupted: Validated, cohort: Cohort, fits: list[str]
) -> None:
    changed = [CNN3D(epochs=2, width=4) if model.name == "cnn3d" else model for model in models()]
    cross_validate(changed, cohort, **HOW, checkpoints=uninterrupted.checkpoints)
    assert set(fits) == {"cnn3d"}


@pytest.mark.parametrize("what", ["outcome", "covariate", "volume", "weights"])
def test_changed_inputs_are_not_answered_from_a_checkpoint(what: str, cohort: Cohort, fits: list[str]) -> None:
    checkpoints, binary = Cache(), cohort.for_endpoint("relapse")
    model = PooledModel(**MAPS, planes=("axial",), penalties=(10.0,))
    cross_validate([model], binary, **HOW, checkpoints=checkpoints)
    fits.clear()
    first, *others = binary.subjects
    if what == "outcome":
        event = binary.outcomes.event.copy()
        event[[0, int(np.argmax(event != event[0]))]] = ~event[0], event[0]
        binary = replace(binary, endpoints=(replace(binary.outcomes, event=event, value=event.astype(float)),))
    elif what == "covariate":
        binary = replace(binary, subjects=(replace(first, covariates={"age_years": 99.0}), *others))
    elif what == "volume":
        binary = replace(binary, subjects=(replace(first, scan=others[0].scan), *others))
    else:
        model = PooledModel(**MAPS, planes=("axial",), penalties=(10.0,), backbone="resnet34", name=model.name)
    cross_validate([model], binary, **HOW, checkpoints=checkpoints)
    assert len(fits) == 6


def test_two_workers_give_the_same_bits_as_one(result: CVResult, cohort: Cohort) -> None:
    assert same(cross_validate(models(), cohort, **HOW, n_jobs=2), result)


def test_images_of_noise_give_intervals_around_one_half(make_cohort: MakeCohort) -> None:
    result = cross_validate(models()[:3], make_cohort(30, signal=False), cv=CrossValidation(5, 2), resamples=200)
    for evaluation in result.evaluations:
        metric = evaluation.metrics[0]
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low < 0.5 < metric.high, evaluation.model


def test_permuted_outcomes_give_one_half_on_average_and_intervals_that_mostly_cover_it(
    make_cohort: MakeCohort,
) -> None:
    """Acceptance row 38."""
    cohort, cache = make_cohort(30), Cache()
    pooled = PooledModel(**{**MAPS, "cache": cache}, planes=("axial",), penalties=(10.0, 1e3), inner_folds=2)
    found = []
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(30)
        permuted = replace(cohort.outcomes.subset(order), patients=cohort.patients)
        models = [pooled, Baseline("suvmax", cache=cache)]
        result = cross_validate(models, replace(cohort, endpoints=(permuted,)), cv=CrossValidation(5, 1), resamples=200)
        found += [evaluation.metrics[0] for evaluation in result.evaluations]
    # One AUC of 15 against 15 patients has a standard error of 0.1; these are 20, in pairs that belong together.
    assert np.mean([metric.value for metric in found]) == pytest.approx(0.5, abs=0.1)
    covered = [metric.low < 0.5 < metric.high for metric in found if metric.low is not None and metric.high is not None]
    assert len(covered) == 20
    assert sum(covered) >= 14


def test_outcomes_that_the_images_tell_are_found(make_cohort: MakeCohort) -> None:
    result = cross_validate(
        [Baseline("suvmax"), Baseline("age")], make_cohort(30), cv=CrossValidation(5, 1), resamples=200
    )
    best = {evaluation.model: evaluation.metrics[0] for evaluation in result.evaluations}["suvmax (contour)"]
    assert best.value is not None
    assert best.value > 0.9


def test_the_report_is_one_page_without_patient_ids_and_leaves_nothing_beside_it(
    result: CVResult, cohort: Cohort, tmp_path: Path
) -> None:
    path = result.write_report(tmp_path / "somewhere" / "report.html")
    page = path.read_text()
    assert [one.name for one in path.parent.iterdir()] == ["report.html"]
    assert page.lower().startswith("<!doctype html>")
    assert all(model.name.split(" ")[0] in page for model in result.models)
    assert not any(patient in page for patient in cohort.patients)


def test_no_artefact_but_the_predictions_holds_a_patient_id(result: CVResult, cohort: Cohort, tmp_path: Path) -> None:
    result.write(tmp_path)
    texts = {path.name: path.read_text() for path in tmp_path.iterdir()}
    tables = {"predictions.csv", "survival.csv"}
    others = {"cohort.json", "folds.json", "decisions.csv", "exclusions.csv", "evaluation.json", "patients.json"}
    assert texts.keys() == tables | others | {
        "run.json"
    }  # nobody is excluded here, so that exclusions.csv has no id either
    assert all(cohort.patients[0] in texts.pop(table) for table in tables)
    for name, text in texts.items():
        assert not any(patient in text for patient in cohort.patients), name


# -- the whole road, on tiny scans as DICOM

STUDY = """
name = "test"
notes = ["simulated"]
[cohort]
images = "dicom"
clinical = "clinical.csv"
centre = "centre"
[[endpoint]]
name = "survival"
kind = "time-to-event"
time = "days"
event = "dead"
[[endpoint]]
name = "relapse"
kind = "binary"
column = "relapse"
[volume]
spacing_mm = 16.0
field_of_view_mm = [192, 160, 160]
[[model]]
kind = "2be3-net"
weights = "random"
layer = 2
slice_size = 32
epochs = 1
ensemble_size = 1
components = 4
[[model]]
kind = "baseline"
variable = "suvmax"
region = "threshold"
[[model]]
kind = "baseline"
variable = "centre"
[validation]
baselines = false
folds = 2
repeats = 2
resamples = 100
"""
CENTRE = """[[model]]
kind = "baseline"
variable = "centre"
"""
PATIENTS = [f"MRN-{20_000 + i}" for i in range(8)]
NAMES = {"predictions.csv", "decisions.csv", "survival.csv", "evaluation.json", "cohort.json", "folds.json"}


@pytest.fixture(scope="module")
def hospital(new_tiny_cohort: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    cohort = new_tiny_cohort(tmp_path_factory.mktemp("hospital"))
    for i, patient in enumerate(PATIENTS):
        cohort.scan(patient, folder=f"scan-{i}", suv=3.0 + i)
    rows = {patient: (i % 2, 100 + 7 * i, int(i > 1), "ab"[i // 4]) for i, patient in enumerate(PATIENTS)}
    folder: Path = cohort.table(rows, "patient_id,relapse,days,dead,centre").parent
    (folder / "study.toml").write_text(STUDY)
    return folder


@pytest.fixture(scope="module")
def done(hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "first"
    run(hospital / "study.toml", out, workers=1)
    return out


def test_a_study_leaves_every_artefact(done: Path) -> None:
    files = {path.name for path in done.iterdir()}
    assert files >= {*NAMES, "run.json", "report.html", "study.sha256", "volumes", "features", "folds", "models"}
    assert not [path for path in done.rglob("*") if path.name.startswith(".partial")]


def test_artefacts_carry_versions_and_the_digests_of_what_they_were_made_from(done: Path) -> None:
    documents = {name: json.loads((done / name).read_text()) for name in NAMES if name.endswith(".json")}
    run_json = json.loads((done / "run.json").read_text())
    for name, document in {**documents, "run.json": run_json}.items():
        assert document["schema"] == 1, name
        assert document["package_version"] == "0.1.0", name
    for document in (documents["evaluation.json"], documents["folds.json"], run_json):
        assert document["cohort_digest"] == documents["cohort.json"]["digest"]
        assert document["configuration_digest"] == (done / "study.sha256").read_text().strip()
    assert documents["cohort.json"]["found"] == documents["cohort.json"]["used"] + documents["cohort.json"]["excluded"]
    assert [timing["step"] for timing in run_json["timings"]] == [
        "cohort", "features", "cross-validation", "evaluation", "final models",
    ]  # fmt: skip
    assert run_json["study"] == "test"
    said, *few = run_json["notes"]
    assert said == "simulated"
    assert all("fewer than 10" in line for line in few)
    assert [model["name"] for model in run_json["models"]] == ["2be3-net", "suvmax (SUV > 4)", "centre"]


def test_predictions_have_the_documented_columns_and_a_row_for_each_patient_repeat_model_and_endpoint(
    done: Path, hospital: Path
) -> None:
    with (done / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["patient_id", "model", "endpoint", "repeat", "fold", "risk", "probability"]
    keys = [(row["patient_id"], row["model"], row["endpoint"], row["repeat"]) for row in rows]
    assert len(set(keys)) == len(keys) == 8 * 3 * 2 * 2
    assert {row["patient_id"] for row in rows} == set(PATIENTS)
    assert all((row["probability"] != "") == (row["endpoint"] == "relapse") for row in rows)


def test_the_folds_are_those_of_the_predictions(done: Path) -> None:
    document = json.loads((done / "folds.json").read_text())
    patients = {study["patient"] for study in json.loads((done / "cohort.json").read_text())["subjects"]}
    assert [item["endpoint"] for item in document["endpoints"]] == ["survival", "relapse"]
    for item in document["endpoints"]:
        assert [(part["repeat"], part["fold"]) for part in item["folds"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
        for repeat in (0, 1):
            tested = [patient for part in item["folds"] if part["repeat"] == repeat for patient in part["test"]]
            assert len(tested) == 8
            assert set(tested) == patients


def test_no_artefact_of_a_study_but_the_predictions_holds_a_patient_id(done: Path, hospital: Path) -> None:
    for path in done.rglob("*"):
        for patient in PATIENTS:
            assert patient not in path.name
            if path.is_file() and path.name not in ("predictions.csv", "survival.csv"):
                assert patient.encode() not in path.read_bytes(), path.name


def test_the_same_study_in_another_folder_gives_the_same_bytes(done: Path, hospital: Path, tmp_path: Path) -> None:
    run(hospital / "study.toml", tmp_path / "second", workers=1)
    for name in NAMES:
        assert (tmp_path / "second" / name).read_bytes() == (done / name).read_bytes(), name
    assert (tmp_path / "second/report.html").exists()
    assert {path.name for path in (tmp_path / "second/models").iterdir()} == {
        path.name for path in (done / "models").iterdir()
    }


def test_running_a_study_again_reads_no_scan_computes_no_feature_and_fits_no_model(
    done: Path, hospital: Path, fits: list[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: (done / name).read_bytes() for name in NAMES}
    caplog.set_level(logging.INFO, logger="twobe3")

    def read(*_: object, **__: object) -> SUVVolume:
        raise AssertionError("a scan was read again")

    monkeypatch.setattr(scan, "read_suv", read)
    result = run(hospital / "study.toml", done, workers=1)
    assert fits == []
    assert result.models[0].cache.computed == 0
    assert "features and measurements: 0 computed, 24 found in the cache" in caplog.messages
    assert {name: (done / name).read_bytes() for name in NAMES} == before


def test_with_maps_of_another_precision_networks_are_fitted_anew_and_nothing_else(
    done: Path, hospital: Path, fits: list[str], tmp_path: Path
) -> None:
    here = json.loads((done / "run.json").read_text())["platform"]
    assert (here["device"], here["precision"]) == ("cpu", "32")
    shutil.copytree(done, tmp_path / "out")
    run(hospital / "study.toml", tmp_path / "out", workers=1, device="cpu", precision="bf16")
    there = json.loads((tmp_path / "out" / "run.json").read_text())["platform"]
    assert here["maps"].endswith(", 32")
    assert (there["device"], there["precision"]) == ("cpu", "32")
    assert there["maps"] == here["maps"].removesuffix("32") + "bf16"
    assert set(fits) == {"2be3-net"}
    assert len(list((tmp_path / "out/folds").iterdir())) == len(list((done / "folds").iterdir())) + 8
    assert (tmp_path / "out/predictions.csv").read_bytes() != (done / "predictions.csv").read_bytes()
    assert (tmp_path / "out/folds.json").read_bytes() == (done / "folds.json").read_bytes()


def test_final_models_are_fitted_on_all_patients_and_can_be_loaded(done: Path) -> None:
    found = {path.name.rsplit(".", 2)[0]: load_model(path) for path in (done / "models").iterdir()}
    assert found.keys() == {
        f"{endpoint}.{model}"
        for endpoint in ("survival", "relapse")
        for model in ("2be3-net", "suvmax-suv-4", "centre")
    }
    assert all(model.kind in MODELS for model in found.values())
    assert all(
        model.endpoint_ is not None and model.endpoint_.name == name.split(".")[0] for name, model in found.items()
    )


def test_a_folder_that_holds_another_study_is_refused_unless_it_is_to_be_updated(
    done: Path, hospital: Path, fits: list[str], tmp_path: Path
) -> None:
    (hospital / "other.toml").write_text(STUDY.replace('name = "test"', 'name = "other"'))
    out = shutil.copytree(done, tmp_path / "out")
    before = (out / "run.json").read_bytes()
    with pytest.raises(ConfigurationError) as caught:
        run(hospital / "other.toml", out, workers=1)
    assert caught.value.code is Code.OUTPUT_EXISTS
    assert "--update" in caught.value.remedy
    assert (out / "run.json").read_bytes() == before
    run(hospital / "other.toml", out, update=True, workers=1)
    assert json.loads((out / "run.json").read_text())["study"] == "other"
    assert fits == []  # the models and the folds are those of the first study


# -- other schemes, an external cohort, the audit


def variant(hospital: Path, name: str, *changes: tuple[str, str], more: str = "") -> Path:
    """Another study file beside the scans, of the baselines alone; no centre where nobody of it has trained."""
    text = STUDY.replace(
        STUDY[STUDY.index('[[model]]\nkind = "2be3-net"') : STUDY.index('[[model]]\nkind = "base')], ""
    )
    text = text.replace(CENTRE, "") if "scheme =" in more else text
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = hospital / f"{name}.toml"
    path.write_text(text + more)
    return path


def folds_tested(out: Path) -> list[tuple[str, set[str]]]:
    """Of each fold of the binary endpoint its name and the patients tested, from ``folds.json``."""
    document = json.loads((out / "folds.json").read_text())
    (folds,) = (item["folds"] for item in document["endpoints"] if item["endpoint"] == "relapse")
    for fold in folds:
        assert not set(fold["train"]) & set(fold["test"])
    return [(fold["name"], set(fold["test"])) for fold in folds]


def pseudonyms(*positions: int) -> set[str]:
    return {pseudonym("patient", PATIENTS[i]) for i in positions}


def test_leave_one_centre_out_as_a_study(hospital: Path, tmp_path: Path) -> None:
    """Acceptance row 40."""
    named = ('event = "dead"', 'event = "dead"\nhorizons = [140, 120.0]')
    study = variant(hospital, "centres", named, more='scheme = "leave-one-centre-out"\n')
    result = run(study, tmp_path, workers=1)
    assert folds_tested(tmp_path) == [("a", pseudonyms(0, 1, 2, 3)), ("b", pseudonyms(4, 5, 6, 7))]
    names = [metric.name for metric in result.evaluations[0].metrics]
    assert [name for name in names if name.startswith("brier@")] == ["brier@120", "brier@140"]
    assert [model.name for model in result.models] == ["suvmax (SUV > 4)"]
    assert json.loads((tmp_path / "run.json").read_text())["configuration"]["validation"]["folds"] == 2
    assert "each of 2 centres" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("by", ["centre", "column"])
def test_a_named_split_as_a_study(by: str, hospital: Path, tmp_path: Path) -> None:
    rows = (hospital / "clinical.csv").read_text().splitlines()
    sides = ["part", *["train", "Train ", "", "train", "test", "test", "test", "test"]]
    (hospital / "parts.csv").write_text(
        "\n".join(f"{row},{side}" for row, side in zip(rows, sides, strict=True)) + "\n"
    )
    asked = 'train = ["a"]\ntest = ["b"]\n' if by == "centre" else 'split = "part"\n'
    study = variant(hospital, "split", ("clinical.csv", "parts.csv"), more=f'scheme = "split"\n{asked}')
    result = run(study, tmp_path, workers=1)
    assert [names for _, names in folds_tested(tmp_path)] == [pseudonyms(4, 5, 6, 7)]
    assert {evaluation.n for evaluation in result.evaluations} == {4}
    assert {evaluation.missing for evaluation in result.evaluations} == {0}
    unused = json.loads((tmp_path / "folds.json").read_text())["endpoints"][0]["unused"]
    assert set(unused) == (pseudonyms(2) if by == "column" else set())
    said = "relapse: 1 of 8 patients take no part in the validation: 1 whom the split does not name"
    assert (said in json.loads((tmp_path / "run.json").read_text())["notes"]) == (by == "column")


def test_the_folds_of_one_study_serve_another(done: Path, hospital: Path, tmp_path: Path) -> None:
    study = variant(hospital, "again", more=f'folds_file = "{done / "folds.json"}"\n')
    run(study, tmp_path, workers=1)
    mine, theirs = (json.loads((out / "folds.json").read_text())["endpoints"] for out in (tmp_path, done))
    assert mine == theirs
    assert "folds of an earlier run" in (tmp_path / "report.html").read_text()


def test_what_the_table_shows_to_be_impossible_is_refused_before_a_scan_is_read(hospital: Path, tmp_path: Path) -> None:
    study = variant(hospital, "many", ("folds = 2", "folds = 9"), ('images = "dicom"', 'images = "absent"'))
    with pytest.raises(ConfigurationError) as caught:
        run(study, tmp_path, workers=1)
    assert caught.value.code is Code.FEWER_PATIENTS_THAN_FOLDS


def test_a_part_of_one_class_is_tested_and_not_estimable_alone(hospital: Path, tmp_path: Path) -> None:
    """Acceptance row 42."""
    rows = (hospital / "clinical.csv").read_text().splitlines()
    one_class = [rows[0], *rows[1:5], *(row.replace(",1,", ",0,", 1) if row.count(",1,") else row for row in rows[5:])]
    cells = [row.split(",") for row in one_class[5:]]
    one_class[5:] = [",".join([row[0], "0", *row[2:]]) for row in cells]
    (hospital / "oneclass.csv").write_text("\n".join(one_class) + "\n")
    study = variant(
        hospital, "oneclass", ("clinical.csv", "oneclass.csv"), more='scheme = "split"\ntrain = ["a"]\ntest = ["b"]\n'
    )
    result = run(study, tmp_path, workers=1)
    (binary,) = (evaluation for evaluation in result.evaluations if evaluation.endpoint == "relapse")
    assert (binary.n, binary.events) == (4, 0)
    assert binary.metrics[0].name == "auc"
    assert binary.metrics[0].value is None
    assert "not estimable" in result.table()


def test_an_external_cohort_and_the_audit_are_in_both_reports(
    hospital: Path, new_tiny_cohort: Callable[[Path], Any], tmp_path: Path
) -> None:
    other = new_tiny_cohort(tmp_path / "elsewhere")
    names = [f"EXT-{i}" for i in range(6)]
    for i, name in enumerate(names):
        other.scan(name, folder=f"scan-{i}", suv=2.6 + 1.05 * i)
    other.scan("EXT-9", folder="copy", suv=3.0)  # the picture of the study's first patient
    rows = {name: (i % 2, 90 + 9 * i, int(i > 2)) for i, name in enumerate([*names, "EXT-9"])}
    other.table(rows, "key,relapse,days,dead")
    section = f'[external]\nimages = "{other.images}"\nclinical = "{other.clinical}"\npatient = "key"\n'
    study = variant(hospital, "external", more=f"permutations = 2\n{section}")
    out = tmp_path / "out"
    result = run(study, out, audit=True, workers=1)

    with (out / "external" / "predictions.csv").open(newline="") as stream:
        predicted = list(csv.DictReader(stream))
    assert {row["patient_id"] for row in predicted} == set(names)
    assert {row["model"] for row in predicted} == {"suvmax (SUV > 4)", "centre"}
    for path in (out / "models").iterdir():
        model = load_model(path)
        cohort = read_cohort(
            other.images, clinical=other.clinical, endpoints=[model.endpoint_], patient="key", grid=model.grid_
        )  # type: ignore[list-item]
        risks = dict(zip(cohort.patients, model.predict(cohort).risk.tolist(), strict=True))
        for row in predicted:
            if (row["model"], row["endpoint"]) == (model.name, model.endpoint_.name):  # type: ignore[union-attr]
                assert float(row["risk"]) == risks[row["patient_id"]]
    excluded = json.loads((out / "external" / "cohort.json").read_text())["exclusions"]
    assert [one["code"] for one in excluded] == ["DUPLICATE_SCAN"]
    decisions = (out / "external" / "decisions.csv").read_text()
    assert f",{4 / 8}," in decisions  # the event rate of the eight patients of the study

    record = json.loads((out / "run.json").read_text())
    assert record["external"] == {"folder": "external", "found": 7, "used": 6}
    assert record["audit"]["passed"] is True
    assert json.loads((out / "audit.json").read_text())["text"] == record["audit"]["text"]
    page, external_page = ((folder / "report.html").read_text() for folder in (out, out / "external"))
    assert "Leakage audit passed: 0 of 8 folds" in page
    assert "External cohort, relapse: auc, 6 patients, 3 events" in page
    assert "Leakage audit" not in external_page
    assert not any(name in text for name in (*names, *PATIENTS) for text in (page, external_page))
    assert "centre" in [model.name for model in result.models]
