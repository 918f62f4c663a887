"""A scan that one model cannot use is left out for that model alone, with a code; the others keep it."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from tests.command_line import Call

import twobe3 as tb
from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import CrossValidation, LeaveOneCentreOut, PredefinedSplit
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.io.cache import Cache
from twobe3.io.pseudonym import pseudonym
from twobe3.models import Baseline
from twobe3.phantom.dicom_writer import PETHeader, write_pet_series
from twobe3.phantom.rtstruct_writer import write_rtstruct
from twobe3.validation import plan
from twobe3.validation.cross_validate import cross_validate, out_of_fold
from twobe3.validation.leakage import audit
from twobe3.validation.plan import CVPlan, require_enough
from twobe3.validation.recalibration import observed_times
from twobe3.validation.result import CVResult
from twobe3.validation.thresholds import ThresholdPolicy, fit_predict

MakeCohort = Callable[..., Cohort]
SHAPE, SPACING_MM, N = (10, 12, 12), 8.0, 18
LESION = (slice(3, 7), slice(3, 7), slice(4, 8))

# What is wrong with whom, and what a radiomic model says of it; the first four have no region for a baseline either.
BAD = {
    "P00": "CONTOUR_EMPTY",
    "P01": "CONTOUR_OUTSIDE",
    "P02": "CONTOUR_FRAME",
    "P03": "CONTOUR_MISSING",
    "P04": "REGION_TOO_SMALL",
    "P05": "REGION_CONSTANT",
}
WITHOUT_HEIGHT = ("P06", "P07")  # whom two features per body surface are not defined for
COLD = "P08"  # nothing above the threshold: a volume of 0, not a missing one


def lesion_of(patient: str) -> npt.NDArray[np.bool_]:
    inside = np.zeros(SHAPE, np.bool_)
    inside[LESION] = True
    if BAD.get(patient) == "REGION_TOO_SMALL":
        inside[...] = False
        inside[4, 5, 6] = True
    if BAD.get(patient) == "REGION_CONSTANT":
        inside[:4] = inside[5:] = False
    return inside


def write_patient(folder: Path, number: int) -> None:
    """A PET series with a lesion that is hotter and more uneven the higher the number, and its structure set."""
    patient, rng = f"P{number:02d}", np.random.default_rng(number)
    suv = np.full(SHAPE, 0.5, np.float32)
    suv[LESION] = rng.gamma(4.0, 0.5 + 0.1 * number, suv[LESION].shape) + 1.5
    if patient == COLD:
        suv[LESION] = rng.uniform(1.0, 1.4, suv[LESION].shape)
    if BAD.get(patient) == "REGION_CONSTANT":
        suv[LESION] = 5.0
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.eye(3)) * SPACING_MM
    geometry = Geometry(SHAPE, affine)
    header = PETHeader(
        patient_id=patient, sex="FM"[number % 2], age_years=40 + number, weight_kg=70.0, height_m=1.7,
        injected_dose_bq=3e8, injected=datetime(2020, 1, 1, 9), started=datetime(2020, 1, 1, 10),
    )  # fmt: skip
    volume = SUVVolume(suv, geometry, SUVCalibration("bw", "test", 1, 1))
    files = write_pet_series(volume, folder / patient / "PET", header=header)
    if patient in WITHOUT_HEIGHT:
        for file in files:
            dataset = pydicom.dcmread(file)
            dataset.PatientSize = None
            dataset.save_as(file)
    if BAD.get(patient) != "CONTOUR_MISSING":
        spoil(write_rtstruct(Mask(lesion_of(patient), geometry, "GTV"), folder / patient / "RS.dcm", header=header))


def spoil(path: Path) -> None:
    """Make of a structure set the bad one that its patient should have."""
    dataset = pydicom.dcmread(path)
    match BAD.get(str(dataset.PatientID)):
        case "CONTOUR_EMPTY":
            del dataset.ROIContourSequence[0].ContourSequence
        case "CONTOUR_OUTSIDE":
            for contour in dataset.ROIContourSequence[0].ContourSequence:
                contour.ContourData = [
                    float(value) + 5000.0 * (i % 3 == 2) for i, value in enumerate(contour.ContourData)
                ]
        case "CONTOUR_FRAME":
            for item in (dataset.ReferencedFrameOfReferenceSequence[0], dataset):
                item.FrameOfReferenceUID = "1.2.3.4"
            dataset.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3.4"
    dataset.save_as(path)


STUDY = """
[cohort]
images = "dicom"
clinical = "clinical.csv"
[endpoint]
name = "relapse"
kind = "binary"
column = "relapse"
[volume]
spacing_mm = 16.0
field_of_view_mm = [128, 128, 128]
[[model]]
kind = "radiomics"
name = "radiomics"
otherwise = "none"
learner = "ridge"
selection = "univariate"
max_features = 2
spacing_mm = 8.0
inner_folds = 2
[[model]]
kind = "baseline"
name = "drawn"
variable = "suvmax"
[[model]]
kind = "baseline"
name = "volume"
variable = "tumour_volume"
region = "threshold"
threshold_suv = 2.5
[[model]]
kind = "pooled"
name = "mask-free"
backbone = "resnet18"
weights = "random"
layer = 2
slice_size = 32
planes = ["axial"]
penalties = [10.0, 1000.0]
inner_folds = 2
[validation]
folds = 2
repeats = 1
resamples = 100
baselines = false
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighteen patients, each bad input of the list among them, and a study of four models."""
    pytest.importorskip("mirp", reason="MIRP is not installed: pip install 'twobe3[radiomics]'")
    folder = tmp_path_factory.mktemp("hospital")
    for number in range(N):
        write_patient(folder / "dicom", number)
    relapse = np.random.default_rng(3).permutation(np.arange(N) % 2)
    rows = [f"P{i:02d},{relapse[i]}" for i in range(N)]
    (folder / "clinical.csv").write_text("\n".join(["patient_id,relapse", *rows]) + "\n")
    (folder / "study.toml").write_text(STUDY)
    return folder


@pytest.fixture(scope="module")
def result(folder: Path) -> CVResult:
    return tb.run(folder / "study.toml", folder / "out", workers=1)


def exclusions(folder: Path, model: str) -> dict[str, str]:
    """Pseudonym and code of what ``evaluation.json`` says that a model left out."""
    rows = json.loads((folder / "out" / "evaluation.json").read_text())["exclusions"]
    assert all(row["reason"] and row["remedy"] for row in rows)
    return {row["patient"]: row["code"] for row in rows if row["model"] == model}


def test_every_bad_input_is_a_coded_exclusion_for_the_models_that_need_it(result: CVResult, folder: Path) -> None:
    coded = {pseudonym("patient", patient): code for patient, code in BAD.items()}
    assert exclusions(folder, "radiomics") == coded
    assert exclusions(folder, "drawn") == dict(list(coded.items())[:4])
    assert exclusions(folder, "volume") == exclusions(folder, "mask-free") == {}
    cohort = json.loads((folder / "out" / "cohort.json").read_text())
    assert (cohort["used"], cohort["excluded"]) == (N, 0)


def test_the_tables_say_on_how_many_patients_each_model_was_judged(result: CVResult, folder: Path) -> None:
    judged = {"radiomics": N - 6, "drawn": N - 4, "volume": N, "mask-free": N}
    document = json.loads((folder / "out" / "evaluation.json").read_text())
    assert {row["model"]: row["n"] for row in document["models"]} == judged
    assert {row["model"]: row["missing"] for row in document["models"]} == {m: N - n for m, n in judged.items()}
    lines = result.table().splitlines()
    for model, n in judged.items():
        (line,) = [line for line in lines if line.startswith(f"  {model} ")]
        assert f"  n {n}" in line
    assert f"  models are compared on the patients that both predicted: {N - 6} to {N}" in lines
    tally = "1 CONTOUR_EMPTY, 1 CONTOUR_FRAME, 1 CONTOUR_MISSING, 1 CONTOUR_OUTSIDE"
    assert f"radiomics: 6 of {N} scans left out ({tally}, 1 REGION_CONSTANT, 1 REGION_TOO_SMALL)" in lines
    assert f"drawn: 4 of {N} scans left out ({tally})" in lines
    with (folder / "out" / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    there = {model: {row["patient_id"] for row in rows if row["model"] == model} for model in judged}
    assert {model: len(patients) for model, patients in there.items()} == judged
    assert not there["radiomics"] & set(BAD)
    assert COLD in there["volume"]


def test_models_are_compared_on_the_patients_that_both_predicted(result: CVResult) -> None:
    """The difference is that of the areas by counting pairs among the patients of both."""
    risks = {item.model: item for item in result.predictions}
    outcomes = result.cohort.outcomes
    event = dict(zip(outcomes.patients, outcomes.event.tolist(), strict=True))
    counts = {}
    for pair in result.comparisons:
        both = set(risks[pair.model_a].patients) & set(risks[pair.model_b].patients)
        counts[frozenset((pair.model_a, pair.model_b))] = pair.n
        assert pair.n == len(both)
        within = pair.metric.endswith("within_folds")
        areas = [area(risks[model], event, both, within) for model in (pair.model_a, pair.model_b)]
        assert pair.difference == pytest.approx(areas[0] - areas[1])
    assert {counts[frozenset((model, "mask-free"))] for model in ("radiomics", "drawn", "volume")} == {N - 6, N - 4, N}


def area(prediction: Any, event: Mapping[str, bool], among: set[str], within_folds: bool) -> float:
    """Share of the pairs of an event and none, in one fold if that is asked for, that the risk orders rightly."""
    rows = [row for row in zip(prediction.patients, prediction.risk, prediction.fold, strict=True) if row[0] in among]
    right = [
        0.5 * (float(a > b) + float(a >= b))
        for one, a, fold in rows
        for other, b, its_fold in rows
        if event[one] and not event[other] and (fold == its_fold or not within_folds)
    ]
    return float(np.mean(right))


def test_a_feature_that_some_patients_lack_is_counted(result: CVResult, folder: Path) -> None:
    rows = json.loads((folder / "out" / "evaluation.json").read_text())["undefined_features"]
    counted = {row["feature"]: (row["model"], row["missing"], row["n"], row["left_out"]) for row in rows}
    for name in ("pet_dmax_per_bsa", "pet_spread_per_bsa"):
        assert counted[name] == ("radiomics", len(WITHOUT_HEIGHT), N - 6, False)


def test_the_report_tells_what_single_models_cannot_use(result: CVResult, folder: Path) -> None:
    page = (folder / "out" / "report.html").read_text()
    assert "What single models cannot use" in page
    for patient, code in BAD.items():
        who, why = f"<code>{pseudonym('patient', patient)}</code></td>", f"<code>{code}</code></td>"
        assert re.search(f'{who}<td data-label="Code">{why}', page)
    assert "on the patients that both models predicted, n of them, clearest difference first" in page
    assert not any(f">{patient}<" in page for patient in BAD)


def test_the_written_predictions_can_be_judged_again_on_their_folds(result: CVResult, folder: Path) -> None:
    out = folder / "out"
    judgement = tb.evaluate_csv(
        out / "predictions.csv", clinical=folder / "clinical.csv", endpoint=tb.Binary("relapse", "relapse"),
        decisions=out / "decisions.csv", folds=out / "folds.json", resamples=100,
    )  # fmt: skip
    judged = {row["model"]: row["n"] for row in judgement.to_json()["models"]}
    assert judged == {evaluation.model: evaluation.n for evaluation in result.evaluations}


def test_prediction_gives_code_and_reason_for_a_scan_that_the_model_cannot_use(
    result: CVResult, folder: Path, twobe3: Call
) -> None:
    (model,) = (folder / "out" / "models").glob("*radiomics*")
    for patients, usable, status in (([*BAD, "P10"], 1, 0), (list(BAD), 0, 3)):
        paths = [folder / "dicom" / patient for patient in patients]
        done = twobe3("predict", model, *paths, "--json")
        rows = done.json()["predictions"]
        assert done.status == status
        refused = {row["patient"]: row["code"] for row in rows if row["risk"] is None}
        assert refused == {pseudonym("patient", patient): code for patient, code in BAD.items()}
        assert all(row["reason"] and row["series_uid"] and row["probability"] is None for row in rows if row["code"])
        assert sum(row["risk"] is not None for row in rows) == usable


# -- in memory


def without_contours(cohort: Cohort, positions: set[int], centres: tuple[str, ...] = ()) -> Cohort:
    """The cohort in which some scans have no contour, and the patients belong to these centres in turn."""
    subjects = []
    for i, study in enumerate(cohort.subjects):
        scan: Any = study.scan
        centre = centres[i % len(centres)] if centres else study.centre
        subjects.append(replace(study, centre=centre, scan=replace(scan, region=None) if i in positions else scan))
    return replace(cohort, subjects=tuple(subjects))


def test_too_few_training_patients_name_model_fold_and_counts_before_anything_is_fitted(
    make_cohort: MakeCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = without_contours(make_cohort(12), set(range(1, 12)))
    monkeypatch.setattr(Baseline, "_fit", lambda self, cohort: pytest.fail("something was fitted"))
    with pytest.raises(
        ConfigurationError, match=r"'suvmax \(contour\)': 0 of 6 training patients of 'relapse', repeat 0, fold"
    ):
        cross_validate([Baseline("age"), Baseline("suvmax")], cohort, cv=CrossValidation(2, 1))
    events = set(np.flatnonzero(cohort.outcomes.event).tolist())
    fits = CVPlan.of([Baseline("suvmax")], without_contours(make_cohort(12), events), CrossValidation(2))
    with pytest.raises(ConfigurationError, match="0 of them with the event") as caught:
        require_enough(fits)
    assert caught.value.code is Code.ONE_CLASS


@pytest.mark.parametrize("kind", ["binary", "time-to-event", "continuous"])
def test_a_fold_without_a_usable_tested_patient_has_no_row(make_cohort: MakeCohort, kind: str) -> None:
    cohort = without_contours(make_cohort(18, (kind,)), set(range(2, 18, 3)), ("north", "south", "west"))
    models = [Baseline("suvmax"), Baseline("age")]
    result = cross_validate(models, cohort, cv=LeaveOneCentreOut(), resamples=100)
    drawn, everybody = result.predictions
    west = {study.patient_id for study in cohort.subjects if study.centre == "west"}
    assert set(drawn.patients) == set(cohort.patients) - west
    assert set(everybody.patients) == set(cohort.patients)
    assert [evaluation.n for evaluation in result.evaluations] == [12, 18]
    assert [pair.n for pair in result.comparisons] == [12]


def test_a_model_that_can_use_no_tested_scan_is_judged_on_nobody(make_cohort: MakeCohort, tmp_path: Path) -> None:
    cohort = without_contours(make_cohort(16), set(range(1, 16, 2)))  # every scan of the south
    split = PredefinedSplit(("north",), ("south",))
    result = cross_validate([Baseline("suvmax"), Baseline("age")], cohort, cv=split, resamples=100)
    assert {one.model: (one.n, one.missing) for one in result.evaluations} == {
        "suvmax (contour)": (0, 8), "age": (8, 0),
    }  # fmt: skip
    assert result.comparisons == ()
    (line,) = [line for line in result.table().splitlines() if line.startswith("  suvmax (contour) ")]
    assert "not estimable" in line
    assert "  n 0" in line
    assert "suvmax (contour)" in result.write_report(tmp_path / "report.html").read_text()


@pytest.mark.parametrize("kind", ["binary", "time-to-event", "continuous"])
@pytest.mark.parametrize("recalibrate", [False, True])
def test_scans_that_a_model_cannot_use_change_nothing_for_the_others(
    make_cohort: MakeCohort, kind: str, recalibrate: bool
) -> None:
    """Predictions and decisions are the bits that they are in a study without these patients."""
    bad = {1, 6, 17, 20}
    whole = without_contours(make_cohort(24, (kind,)), bad)
    training, tested = whole.subset(range(16)), whole.subset(range(16, 24))
    without = [part.subset([i for i, s in enumerate(part.subjects) if s.scan.region]) for part in (training, tested)]  # type: ignore[attr-defined]
    times, how = observed_times(training.outcomes), ThresholdPolicy(recalibrate, 3)
    one = fit_predict(Baseline("suvmax"), training, tested, times, how)
    other = fit_predict(Baseline("suvmax"), without[0], without[1], times, how)
    assert one.patients == other.patients == without[1].patients
    for name in ("risk", "probability", "threshold", "cutoff", "survival"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_an_audit_passes_over_models_that_cannot_use_every_scan(make_cohort: MakeCohort) -> None:
    cohort, scheme = without_contours(make_cohort(16), {0, 3, 5}), CrossValidation(2)
    fits = CVPlan.of([Baseline("suvmax"), Baseline("age")], cohort, scheme)
    found = audit(fits, out_of_fold(fits, Cache(), 1), scheme, permutations=3)
    assert found.passed
    assert [row.permutations for row in found.permuted] == [3, 3]


def test_a_scan_whose_features_end_two_workers_is_left_out_for_all(
    make_cohort: MakeCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the cohort had never held it."""
    cohort, lost = make_cohort(12), 3
    how: dict[str, Any] = {"cv": CrossValidation(2), "resamples": 50, "baselines": True}
    expected = cross_validate([Baseline("suvmax")], cohort.subset([i for i in range(12) if i != lost]), **how)

    def run(
        function: Callable[..., Any], tasks: Any, *, shared: Any, instead: Callable[[int], None], **_: Any
    ) -> list[tuple[int, Any]]:
        gone = cohort.subjects[lost].patient
        died = [position for position in tasks if shared.cohort.subjects[position].patient == gone]
        return [(task, instead(task) if task in died else function(shared, task)) for task in tasks]

    monkeypatch.setattr(plan, "run_tasks", run)
    result = cross_validate([Baseline("suvmax")], cohort, **how)
    (exclusion,) = result.cohort.exclusions
    assert (exclusion.patient, exclusion.code) == (cohort.subjects[lost].patient, "WORKER_DIED")
    assert [one.name for one in result.models] == [one.name for one in expected.models]
    for one, other in zip(result.predictions, expected.predictions, strict=True):
        assert one.patients == other.patients
        assert np.array_equal(one.risk, other.risk)
    monkeypatch.setattr(plan, "run_tasks", lambda _, tasks, *, instead, **__: [(i, instead(i)) for i in tasks])
    with pytest.raises(EnvironmentFailure, match="WORKER_DIED"):
        cross_validate([Baseline("suvmax")], cohort, **how)
