"""``twobe3 evaluate`` as its user meets it: good input, and every kind of bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openpyxl import Workbook
from sklearn.metrics import roc_auc_score
from sksurv.metrics import concordance_index_censored
from tests.command_line import Call, Done

from twobe3.core.endpoints import TimeToEvent
from twobe3.core.outcomes import Outcomes
from twobe3.evaluation.survival import truncation_time
from twobe3.io.pseudonym import pseudonym

Evaluate = Callable[..., Done]


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, twobe3: Call) -> Evaluate:
    """``twobe3 evaluate`` on two tables given as text."""
    monkeypatch.chdir(tmp_path)

    def evaluated(predictions: str, clinical: str, *options: str) -> Done:
        Path("predictions.csv").write_bytes(predictions.encode())
        Path("clinical.csv").write_bytes(clinical.encode())
        arguments = ("predictions.csv", "--clinical", "clinical.csv", "--resamples", 200, *options)
        done = twobe3("evaluate", *arguments)
        assert not done.status or len(done.err.splitlines()) == 1
        return done

    return evaluated


RNG = np.random.default_rng(0)
N = 30
EVENT = np.arange(N) % 3 == 0
TIME = np.round(RNG.uniform(10, 900, N))
RISK = {name: np.round(RNG.normal(size=N) + EVENT, 3) for name in ("a", "b")}
IDS = [f"P{i:02d}" for i in range(N)]

R = json.loads((Path(__file__).parents[1] / "reference" / "survival.json").read_text())
LABEL = ("--label", "y")
TIMES = ("--time", "t", "--event", "y")


def lines(*rows: object) -> str:
    return "\n".join(map(str, rows)) + "\n"


def predictions(*extra: str, models: tuple[str, ...] = ("a",)) -> str:
    rows = [f"{p},{model},{risk}" for model in models for p, risk in zip(IDS, RISK[model], strict=True)]
    return lines("patient_id,model,risk", *rows, *extra)


def clinical(*extra: str) -> str:
    return lines("patient_id,y,t", *(f"{p},{int(e)},{t}" for p, e, t in zip(IDS, EVENT, TIME, strict=True)), *extra)


# -- what it tells


def test_metrics_and_comparisons(evaluate: Evaluate) -> None:
    document = evaluate(predictions(models=("a", "b")), clinical(), *LABEL, "--json").json()
    assert {"models", "comparisons", "unmatched", "warnings"} <= set(document)
    for model in document["models"]:
        assert (model["n"], model["events"], model["endpoint"]) == (30, 10, "y")
        auc, *_ = model["metrics"]
        assert auc["value"] == pytest.approx(roc_auc_score(EVENT, RISK[model["model"]]))
        for metric in model["metrics"]:
            assert {"name", "value", "low", "high", "estimator"} <= set(metric)
    (comparison,) = document["comparisons"]
    assert (comparison["model_a"], comparison["model_b"]) == ("a", "b")
    text = evaluate(predictions(models=("a", "b")), clinical(), *LABEL).out
    auc = document["models"][0]["metrics"][0]
    assert f"auc                     {auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})" in text
    assert "a: 30 patients, 10 events\n" in text
    assert f"a − b: {comparison['difference']:.3f} (" in text


def test_columns_by_other_names(evaluate: Evaluate) -> None:
    expected = evaluate(predictions(models=("a", "b")), clinical(), *LABEL, "--json").json()
    renamed = predictions(models=("a", "b")).replace("patient_id,model,risk", "MRN,algorithm,score")
    mapped = ("--id", "MRN", "--risk", "score", "--model", "algorithm")
    assert evaluate(renamed, clinical(), *LABEL, *mapped, "--json").json() == expected
    both = evaluate(renamed, clinical().replace("patient_id", "MRN"), *LABEL, *mapped, "--patient", "MRN", "--json")
    assert both.json() == expected
    refused = evaluate(renamed, clinical(), *LABEL, "--id", "MNR", "--risk", "score").refusal()
    assert "has no column 'MNR'; it has MRN, algorithm, score; the nearest to 'MNR' is 'MRN'" in refused


def test_a_probability_alone_is_the_risk_too(evaluate: Evaluate) -> None:
    chances = lines("case,p", *(f"{p},{(i % 7) / 7:.3f}" for i, p in enumerate(IDS)))
    (model,) = evaluate(chances, clinical(), *LABEL, "--id", "case", "--probability", "p", "--json").json()["models"]
    values = {metric["name"]: metric["value"] for metric in model["metrics"]}
    p = np.round(np.arange(N) % 7 / 7, 3)
    assert values["auc"] == pytest.approx(roc_auc_score(EVENT, p))
    assert values["brier"] == pytest.approx(np.mean((p - EVENT) ** 2))


@pytest.mark.parametrize("endpoint", [LABEL, TIMES])
def test_the_page_of_predictions_holds_figures_and_no_patient(evaluate: Evaluate, endpoint: tuple[str, ...]) -> None:
    table = predictions("X99,a,1", models=("a", "b"))
    assert evaluate(table, clinical(), *endpoint, "--out", "made").status == 0
    assert evaluate(table, clinical(), *endpoint, "--out", "deep/page.html").status == 0
    page = Path("deep/page.html").read_text()
    assert page == Path("made/report.html").read_text()
    assert Path("made/evaluation.json").exists()
    assert "1 patient is in no figure: not in table." in page
    assert ">a<" in page.replace("\n", "")
    assert "Paired differences" in page
    assert "X99" not in page
    assert not [patient for patient in IDS if patient in page]


def test_another_positive_class(evaluate: Evaluate) -> None:
    aucs = [
        evaluate(predictions(), clinical(), *LABEL, "--positive", positive, "--json").json()["models"][0]["metrics"][0]
        for positive in ("1", "0")
    ]
    assert sum(auc["value"] for auc in aucs) == pytest.approx(1.0)


def test_tied_risks_and_times_and_the_truncation_time(evaluate: Evaluate) -> None:
    """Acceptance row 43."""
    time, risk = np.ceil(TIME / 150) * 150, np.round(RISK["a"])
    table = lines("patient_id,y,t", *(f"{p},{int(e)},{t}" for p, e, t in zip(IDS, EVENT, time, strict=True)))
    predicted = lines("patient_id,risk", *(f"{p},{r}" for p, r in zip(IDS, risk, strict=True)))
    document = evaluate(predicted, table, *TIMES, "--json").json()
    metrics = {metric["name"]: metric for metric in document["models"][0]["metrics"]}
    assert metrics["harrell_c"]["value"] == pytest.approx(concordance_index_censored(EVENT, time, risk)[0])
    tau = truncation_time(Outcomes(TimeToEvent("y", "t", "y"), tuple(IDS), time, EVENT))
    text = evaluate(predicted, table, *TIMES, "--unit", "month", "--time-zero", "the end of treatment").out
    assert f"Uno's C of events before {tau:g} months, ties in risk count ½" in text
    assert "times count from the end of treatment, in months\n" in text


@pytest.mark.parametrize("case", R["cases"], ids=lambda case: case["name"])
def test_what_weighs_for_censoring_equals_r(evaluate: Evaluate, case: dict[str, Any]) -> None:
    """``tests/reference/survival.R``: events and censorings together in whole weeks, months, quarters, years."""
    risk = np.array(case["risk"])
    ids = [f"P{i:03d}" for i in range(len(risk))]
    survival = np.exp(-np.outer(np.exp(risk), case["hazard"]))
    head = ["patient_id", *(f"t={time}" for time in case["times"])]
    Path("survival.csv").write_text(
        lines(",".join(head), *(",".join([p, *map(str, own)]) for p, own in zip(ids, survival.tolist(), strict=True)))
    )
    horizons, areas, briers = (np.atleast_1d(case[key]).tolist() for key in ("horizons", "auc", "brier"))
    named = [word for horizon in horizons for word in ("--horizon", str(horizon))]
    document = evaluate(
        lines("patient_id,risk", *(f"{p},{r}" for p, r in zip(ids, case["risk"], strict=True))),
        lines("patient_id,y,t", *(f"{p},{e},{t}" for p, e, t in zip(ids, case["status"], case["time"], strict=True))),
        *(*TIMES, *named, "--competing", "2", "--survival", "survival.csv", "--json"),
    ).json()
    found = {metric["name"]: metric["value"] for metric in document["models"][0]["metrics"]}
    expected = {"harrell_c": case["harrell_c"], "uno_c": case["uno_c"], "cumulative_auc": case["mean_auc"]}
    for horizon, area, brier in zip(horizons, areas, briers, strict=True):
        expected |= {f"cumulative_auc@{horizon}": area, f"brier@{horizon}": brier}
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)


def test_a_continuous_outcome(evaluate: Evaluate) -> None:
    document = evaluate(predictions(), clinical(), "--value", "t", "--json").json()
    mae = {metric["name"]: metric for metric in document["models"][0]["metrics"]}["mae"]
    assert mae["value"] == pytest.approx(np.abs(TIME - RISK["a"]).mean())
    assert "stratified" not in mae["estimator"]


def test_competing_events_and_horizons(evaluate: Evaluate) -> None:
    table = clinical().replace(",0,", ",2,", 5)
    with_competing = (*TIMES, "--competing", "2", "--horizon", "300", "--horizon", "600")
    (model,) = evaluate(predictions(), table, *with_competing, "--json").json()["models"]
    names = [metric["name"] for metric in model["metrics"]]
    assert model["events"] == 10
    assert [name for name in names if name.endswith("300")]
    assert [name for name in names if name.endswith("600")]
    refused = evaluate(predictions(), table, *TIMES).refusal()
    assert "column 'y' must hold 0 or 1; rows 3 ('2'), 4 ('2'), 6 ('2')" in refused


def test_the_metric_and_the_reference_of_the_comparisons(evaluate: Evaluate) -> None:
    three = predictions(models=("a", "b")) + lines(*(f"{p},c,{i}" for i, p in enumerate(IDS)))
    options = (*LABEL, "--metric", "average_precision", "--reference", "b", "--json")
    pairs = evaluate(three, clinical(), *options).json()["comparisons"]
    expected = [("a", "b", "average_precision"), ("c", "b", "average_precision")]
    assert [(pair["model_a"], pair["model_b"], pair["metric"]) for pair in pairs] == expected


def test_twenty_patients_have_an_interval_and_the_resamples_that_failed_are_counted(evaluate: Evaluate) -> None:
    """Acceptance row 44."""
    risk = np.random.default_rng(2).normal(size=20) + (np.arange(20) < 3)
    table = lines("patient_id,y,t", *(f"{i},{int(i < 3)},{i + 1}" for i in range(20)))
    predicted = lines("patient_id,risk", *(f"{i},{r}" for i, r in enumerate(risk)))
    document = evaluate(predicted, table, *LABEL, "--json").json()
    metrics = {metric["name"]: metric for metric in document["models"][0]["metrics"]}
    assert 0 < metrics["auc"]["low"] < metrics["auc"]["value"] < metrics["auc"]["high"] <= 1
    assert "BCa bootstrap over patients, stratified by event, 200 samples" in metrics["auc"]["estimator"]
    # Average precision resamples patients of both classes together: without the three there is no estimate.
    failed = metrics["average_precision"]["failed_resamples"]
    assert 0 < failed < 30  # of 200, each with probability 0.85 ** 20 = 0.039
    assert f", {failed} resamples failed\n" in evaluate(predicted, table, *LABEL).out


@pytest.mark.parametrize(
    ("status", "option"), [("0", LABEL), ("1", LABEL), ("0", TIMES)], ids=["no positive", "no negative", "no event"]
)
def test_without_contrast_among_the_patients_predicted_nothing_is_estimable(
    evaluate: Evaluate, status: str, option: tuple[str, ...]
) -> None:
    """Acceptance row 42."""
    judged = [p for p, event in zip(IDS, EVENT, strict=True) if event == (status == "1")]
    predicted = lines("patient_id,risk", *(f"{p},{i}" for i, p in enumerate(judged)))
    done = evaluate(predicted, clinical(), *option, "--json")
    primary = done.json()["models"][0]["metrics"][0]
    assert (primary["value"], primary["low"], primary["high"]) == (None, None, None)
    text = evaluate(predicted, clinical(), *option).out
    assert f"  {primary['name']:<22}  not estimable\n" in text


# -- bad input: patients


def test_who_stands_in_one_file_only_is_listed_and_counted(evaluate: Evaluate) -> None:
    predicted = predictions("X,a,1", "Y,a,2", "P99,a,0").replace("P03,a,", "Z,a,")
    table = clinical("P99,,5", "P98,1,5")
    document = evaluate(predicted, table, *LABEL, "--json").json()
    assert document["unmatched"] == {
        "not_in_table": {"n": 3, "lines": [5, 32, 33]},
        "without_outcome": {"n": 1, "lines": [34]},
        "without_prediction": {"n": 2, "lines": [5, 33]},
    }
    (model,) = document["models"]
    assert (model["n"], model["missing"]) == (29, 2)
    kept = np.arange(N) != 3
    assert model["metrics"][0]["value"] == pytest.approx(roc_auc_score(EVENT[kept], RISK["a"][kept]))
    assert evaluate(predicted, table, *LABEL).out.splitlines()[:5] == [
        "3 predicted, and not in the clinical table: lines 5, 32, 33 of the predictions",
        "1 predicted, and without an outcome in the clinical table: line 34 of the predictions",
        "2 in the clinical table, and predicted by no model: lines 5, 33 of the clinical table",
        "the event is y = 1",
        "a: 29 patients, 9 events, 2 not predicted",
    ]


def test_no_patient_in_both_files(evaluate: Evaluate) -> None:
    done = evaluate(lines("patient_id,risk", "1,1", "2,2"), clinical(), *LABEL)
    assert done.status == 2
    assert done.refusal().startswith(
        "NO_PATIENT_MATCHES: none of 2 patients that model '' predicts has an outcome in clinical.csv"
        " (compare the ids; spreadsheets take away leading zeros)"
    )


def test_blanks_around_an_id_do_not_part_a_patient(evaluate: Evaluate) -> None:
    document = evaluate(predictions().replace("P03,", " P03 ,"), clinical(), *LABEL, "--json").json()
    assert document["unmatched"]["not_in_table"]["n"] == 0


def test_no_patient_id_is_in_what_is_written(evaluate: Evaluate, tmp_path: Path) -> None:
    predicted, table = predictions("SECRET1,a,1"), clinical("SECRET2,1,5")
    done = evaluate(predicted, table, *LABEL, "--json", "--out", "judged")
    written = (tmp_path / "judged" / "evaluation.json").read_text()
    document = json.loads(written)
    assert document["models"] == done.json()["models"]
    assert document["unmatched"]["not_in_table"] == {"n": 1, "lines": [32]}
    for text in (written, done.out, done.err):
        assert not [patient for patient in ("SECRET1", "SECRET2", *IDS) if patient in text]


# -- bad input: each refusal names the rows


@pytest.mark.parametrize(
    ("predicted", "says"),
    [
        (
            predictions("P00,a,1"),
            "PREDICTION_INVALID: predictions.csv: lines 2 and 32 predict one patient in one repeat",
        ),
        (predictions("P30,a,nan"), "PREDICTION_INVALID: predictions.csv: line 32: risk 'nan' is not a finite number"),
        (predictions("P30,a,-inf"), "PREDICTION_INVALID: predictions.csv: line 32: risk '-inf' is not a finite number"),
        (predictions("P30,a,"), "PREDICTION_INVALID: predictions.csv: line 32: risk '' is not a finite number"),
        (predictions(",a,1"), "PREDICTION_INVALID: predictions.csv: line 32 has no patient_id"),
        (predictions("P30,a,0,5"), "PREDICTION_INVALID: predictions.csv: line 32 has more cells than the header"),
        (predictions('P30,a,"0,5"'), "PREDICTION_INVALID: predictions.csv: line 32: risk '0,5' is not a finite"),
        (
            lines("patient_id;risk", "P00;0,5", "P01;1.5"),
            "PREDICTION_INVALID: predictions.csv: column 'risk' has a decimal comma in line 2 and a point in line 3",
        ),
        (
            lines("patient_id,risk,probability", "P00,1,0.5", "P01,1,-0.1", "P02,1,73"),
            "PREDICTION_INVALID: predictions.csv: line 3: probability '-0.1' is not between 0 and 1;"
            " line 4: probability '73' is not between 0 and 1",
        ),
        ("", "PREDICTION_INVALID: predictions.csv is empty"),
        ("patient_id,risk\n", "PREDICTION_INVALID: predictions.csv has no row below its header"),
        (
            predictions().replace(",", "|"),
            "PREDICTION_INVALID: predictions.csv has no column 'patient_id' or 'risk'; it has patient_id|model|risk",
        ),
    ],
)
def test_bad_predictions(evaluate: Evaluate, predicted: str, says: str) -> None:
    done = evaluate(predicted, clinical(), *LABEL)
    assert done.status == 2
    assert done.refusal().startswith(says)


@pytest.mark.parametrize(
    ("extra", "options", "says"),
    [
        ("P00,1,5", LABEL, "PATIENT_TWICE: clinical.csv: the patient_id of line 2 stands again in line 32"),
        ("P30,2,5", LABEL, "OUTCOME_INVALID: column 'y' has more than two values: '0' (20); '1' (10); '2' in row 32"),
        ("P30,0,0", TIMES, "OUTCOME_INVALID: column 't' must hold a time above 0; row 32 ('0')"),
        ("P30,0,-3", TIMES, "OUTCOME_INVALID: column 't' must hold a time above 0; row 32 ('-3')"),
        ("P30,0,inf", TIMES, "OUTCOME_INVALID: column 't' must hold a time above 0; row 32 ('inf')"),
        ("P30,0,12 months", TIMES, "OUTCOME_INVALID: column 't' must hold a time above 0; row 32 ('12 months')"),
        ("P30,yes,3", TIMES, "OUTCOME_INVALID: column 'y' must hold 0 or 1; row 32 ('yes')"),
        ("P30,0.5,3", TIMES, "OUTCOME_INVALID: column 'y' must hold 0 or 1; row 32 ('0.5')"),
    ],
)
def test_bad_outcomes(evaluate: Evaluate, extra: str, options: tuple[str, ...], says: str) -> None:
    """Acceptance row 41."""
    done = evaluate(predictions(), clinical(extra), *options)
    assert done.status == 2
    assert done.refusal().startswith(says)


def test_an_event_without_a_time_is_listed(evaluate: Evaluate) -> None:
    document = evaluate(predictions("P30,a,1"), clinical("P30,1,NaN"), *TIMES, "--json").json()
    assert document["unmatched"]["without_outcome"] == {"n": 1, "lines": [32]}


def test_times_that_no_patient_reaches_in_their_unit(evaluate: Evaluate) -> None:
    table = clinical("P30,0,2610", "P31,0,2608")  # 50 years are 2608.9 weeks
    done = evaluate(predictions(), table, *TIMES, "--unit", "week")
    says = "1 of 32 times are over 50 years if they are in weeks: row 32 of the clinical table; check the unit"
    assert f"warning: {says}\n" in done.out
    assert evaluate(predictions(), table, *TIMES, "--unit", "week", "--json").json()["warnings"] == [says]
    assert evaluate(predictions(), table, *TIMES, "--unit", "day", "--json").json()["warnings"] == []


@pytest.mark.parametrize("separator", [";", "\t"])
def test_what_spreadsheets_save(evaluate: Evaluate, separator: str) -> None:
    expected = evaluate(predictions(models=("a", "b")), clinical(), *LABEL, "--json").json()
    files = [text.replace(",", separator) for text in (predictions(models=("a", "b")), clinical())]
    if separator == ";":
        files = [text.replace(".", ",") for text in files]
    files = ["\ufeff" + text.replace("\n", "\r\n") for text in files]
    assert evaluate(*files, *LABEL, "--json").json() == expected


# -- the files of a study


def folded(folds: list[int]) -> str:
    rows = zip(IDS, folds, RISK["a"], strict=True)
    return lines("patient_id,endpoint,fold,risk", *(f"{p},relapse,{fold},{risk}" for p, fold, risk in rows))


SAVED = [i % 5 for i in range(N)]


def save_folds(path: Path) -> None:
    tests: dict[int, list[str]] = {}
    for patient, fold in zip(IDS, SAVED, strict=True):
        tests.setdefault(fold, []).append(pseudonym("patient", patient))
    parts = [{"repeat": 0, "fold": fold, "test": patients} for fold, patients in tests.items()]
    path.write_text(json.dumps({"endpoints": [{"endpoint": "relapse", "folds": parts}]}))


def test_the_saved_folds_are_kept(evaluate: Evaluate, tmp_path: Path) -> None:
    save_folds(tmp_path / "folds.json")
    options = (*LABEL, "--folds", "folds.json", "--json")
    assert evaluate(folded(SAVED), clinical(), *options).json()["models"][0]["n"] == 30
    moved = [4, *SAVED[1:28], 0, SAVED[29]]
    done = evaluate(folded(moved), clinical(), *options)
    assert done.status == 2
    assert done.refusal().startswith(
        "FOLDS_MISMATCH: predictions.csv: line 2 has fold 4, saved was 0; line 30 has fold 0, saved was 3 ("
    )
    stranger = folded(SAVED) + "P30,relapse,1,0.5\n"
    refused = evaluate(stranger, clinical("P30,1,5"), *options).refusal()
    assert "line 32 predicts a patient who is not in repeat 0 of the saved folds" in refused


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "FOLDS_MISMATCH: folds.json can't be read: No such file or directory"),
        ("{", "FOLDS_MISMATCH: folds.json is not the folds.json of a study"),
        ('{"endpoints": []}', "FOLDS_MISMATCH: folds.json is not the folds.json of a study"),
        (
            '{"endpoints": [{"endpoint": "relapse", "folds": [{"repeat": 0, "fold": 0, "test": ["pa-0"]}]}]}',
            "FOLDS_MISMATCH: no patient of predictions.csv is in folds.json, whose patients have pseudonyms",
        ),
    ],
)
def test_folds_that_cannot_be_compared(evaluate: Evaluate, tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "folds.json").write_text(content)
    assert evaluate(folded(SAVED), clinical(), *LABEL, "--folds", "folds.json").refusal().startswith(says)


def test_decisions_and_survival_beside_the_predictions(evaluate: Evaluate, tmp_path: Path) -> None:
    (tmp_path / "decisions.csv").write_text(
        "endpoint,fold,threshold,cutoff\n" + lines(*(f"relapse,{i},,0.5" for i in range(5)))
    )
    survival = [
        f"{p},relapse,{fold},0.{9 - i % 3},0.{5 - i % 3}" for i, (p, fold) in enumerate(zip(IDS, SAVED, strict=True))
    ]
    (tmp_path / "survival.csv").write_text(lines("patient_id,endpoint,fold,t=300,t=600", *survival))
    beside = ("--decisions", "decisions.csv", "--survival", "survival.csv", "--horizon", "300", "--json")
    (model,) = evaluate(folded(SAVED), clinical(), *TIMES, *beside).json()["models"]
    assert [metric for metric in model["metrics"] if metric["name"].startswith("brier")]
    high = {group["name"]: group for group in model["risk_groups"]["groups"]}["high"]
    assert high["n"] == int((RISK["a"] > 0.5).sum())
    refused = evaluate(folded(SAVED), clinical(), *TIMES, "--decisions", "survival.csv").refusal()
    assert refused.startswith("PREDICTION_INVALID: survival.csv has no column 'threshold' or 'cutoff'")


# -- without torch

WITHOUT_TORCH = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "monai", "timm", "sklearn", "pydicom"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
from twobe3.cli.main import main
main()
"""


@pytest.mark.parametrize("options", [LABEL, TIMES])
def test_predictions_are_judged_where_torch_cannot_be_imported(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "predictions.csv").write_text(predictions(models=("a", "b")))
    (tmp_path / "clinical.csv").write_text(clinical())
    command = [
        sys.executable,
        "-c",
        WITHOUT_TORCH,
        "evaluate",
        "predictions.csv",
        "--clinical",
        "clinical.csv",
        *options,
    ]
    command += ["--resamples", "100", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert len(json.loads(done.stdout)["models"]) == 2


def test_the_block_does_block(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, "list", "models"]
    blocked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert blocked.returncode == 1
    assert "ImportError" in blocked.stderr


def test_sheets_of_workbooks(tmp_path: Path, twobe3: Call) -> None:
    """As ``cohort.sheet`` names one: both tables may lie in one workbook."""
    book = Workbook()
    for name, text in (("notes", "a,b\n1,2\n"), ("risks", predictions()), ("outcomes", clinical())):
        sheet = book.create_sheet(name)
        for line in text.splitlines():
            sheet.append(line.split(","))
    del book["Sheet"]
    book.save(tmp_path / "study.xlsx")
    how = ("evaluate", tmp_path / "study.xlsx", "--clinical", tmp_path / "study.xlsx", *LABEL, "--resamples", 200)
    said = twobe3(*how).refusal()
    assert "several sheets: 'notes', 'risks', 'outcomes' (name one of them: --predictions-sheet)" in said
    said = twobe3(*how, "--predictions-sheet", "risks").refusal()
    assert "'notes', 'risks', 'outcomes' (name one of them: `sheet = ...` in [cohort], or --sheet)" in said
    document = twobe3(*how, "--predictions-sheet", "risks", "--sheet", "outcomes", "--json").json()
    auc = {one["name"]: one["value"] for one in document["models"][0]["metrics"]}["auc"]
    assert auc == pytest.approx(roc_auc_score(EVENT, RISK["a"]))
