import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sksurv.metrics import concordance_index_censored

from twobe3.core.endpoints import Binary, TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.evaluation.evaluate_csv import evaluate_csv


class Files:
    """Predictions of two models for thirty patients, and what happened to them."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(5)
        self.event = np.arange(30) % 3 == 0
        self.time = rng.uniform(1, 900, 30)
        self.risk = {name: rng.normal(size=30) + self.event for name in ("a", "b")}
        self.predictions, self.clinical = folder / "predictions.csv", folder / "clinical.csv"
        rows = [f"P{i};{int(e)};{t!r}" for i, (e, t) in enumerate(zip(self.event, self.time.tolist(), strict=True))]
        self.clinical.write_text("\n".join(["id;y;t", *rows, "P30;0;5", "P31;;7"]))
        self.write(("patient_id", "model", "risk"))

    def write(self, columns: tuple[str, ...], endpoints: tuple[str, ...] = ("",)) -> None:
        rows = [
            {"patient_id": f"P{i}", "model": model, "endpoint": endpoint, "risk": repr(float(risk[i]))}
            | {"fold": str(i % 3)}
            for endpoint in endpoints
            for model, risk in self.risk.items()
            for i in reversed(range(30))
        ]
        lines = [",".join(row[column] for column in columns) for row in rows]
        self.predictions.write_text("\n".join([",".join(columns), *lines]))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_a_binary_outcome(files: Files) -> None:
    result = evaluate_csv(files.predictions, clinical=files.clinical, endpoint=Binary("y", "y"), patient="id")
    for evaluation in result.evaluations:
        auc = evaluation.metric("auc")
        assert auc.value == pytest.approx(roc_auc_score(files.event, files.risk[evaluation.model]))
        assert auc.low is not None
        assert auc.high is not None
        assert auc.low < auc.value < auc.high
        assert (evaluation.endpoint, evaluation.n, evaluation.events, evaluation.missing) == ("y", 30, 10, 1)
    (comparison,) = result.comparisons
    assert (comparison.model_a, comparison.model_b, comparison.n) == ("a", "b", 30)
    assert comparison.difference == pytest.approx(
        result.evaluations[0].metric("auc").value - result.evaluations[1].metric("auc").value
    )
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert [model["model"] for model in document["models"]] == ["a", "b"]
    assert {"name", "value", "low", "high", "estimator"} <= set(document["models"][0]["metrics"][0])


@pytest.mark.parametrize(
    ("columns", "metric", "compared", "reason"),
    [
        (("fold",), None, "auc", "the folds of some repeat hold fewer comparable pairs"),  # of one class each
        (("fold",), "average_precision", "average_precision", "as asked for"),
        ((), None, "auc", "all patients were tested in one part"),
    ],
)
def test_the_text_says_by_which_metric_models_are_compared_and_why(
    files: Files, columns: tuple[str, ...], metric: str | None, compared: str, reason: str
) -> None:
    files.write(("patient_id", "model", "risk", *columns))
    where = {"clinical": files.clinical, "endpoint": Binary("y", "y"), "patient": "id"}
    result = evaluate_csv(files.predictions, **where, metric=metric, resamples=100)
    assert [pair.metric for pair in result.comparisons] == [compared]
    assert {evaluation.headline.name for evaluation in result.evaluations} == {compared}
    assert f"models are ranked and compared by {compared}: {reason}" in result.text()


def test_with_a_column_of_folds_models_are_compared_within_them(files: Files) -> None:
    files.event = np.arange(30) % 2 == 0
    files.clinical.write_text("\n".join(["id;y", *(f"P{i};{int(e)}" for i, e in enumerate(files.event))]))
    files.write(("patient_id", "model", "risk", "fold"))
    result = evaluate_csv(
        files.predictions, clinical=files.clinical, endpoint=Binary("y", "y"), patient="id", resamples=100
    )
    areas = {}
    for model, risk in files.risk.items():  # the folds have as many pairs each
        of_folds = [roc_auc_score(files.event[f::3], risk[f::3]) for f in range(3)]
        areas[model] = np.mean(of_folds)
    (pair,) = result.comparisons
    assert pair.metric == "auc_within_folds"
    assert pair.difference == pytest.approx(areas["a"] - areas["b"])
    assert "models are ranked and compared by auc_within_folds: risks of different folds" in result.text()


def test_a_time_to_an_event(files: Files) -> None:
    endpoint = TimeToEvent("os", "t", "y")
    result = evaluate_csv(files.predictions, clinical=files.clinical, endpoint=endpoint, patient="id")
    for evaluation in result.evaluations:
        expected = concordance_index_censored(files.event, files.time, files.risk[evaluation.model])[0]
        assert evaluation.metric("harrell_c").value == pytest.approx(expected)


def test_two_columns_are_enough(files: Files) -> None:
    del files.risk["b"]
    files.write(("patient_id", "risk"))
    result = evaluate_csv(files.predictions, clinical=files.clinical, endpoint=Binary("y", "y"), patient="id")
    assert [evaluation.model for evaluation in result.evaluations] == [""]
    assert result.comparisons == ()


def test_a_notebook_shows_the_models_and_their_differences_without_a_patient(files: Files) -> None:
    files.predictions.write_text(files.predictions.read_text() + "\nSMITH,a,2")
    result = evaluate_csv(
        files.predictions, clinical=files.clinical, endpoint=Binary("y", "y"), patient="id", resamples=100
    )
    html = result._repr_html_()
    assert html.count("<table>") == html.count("</table>") == 2
    assert html.count("<tr>") == 2 + len(result.evaluations) + len(result.comparisons)
    assert f"{result.evaluations[0].headline.value:.3f} (" in html
    assert f"line {len(files.predictions.read_text().splitlines())} of the predictions" in result.text()
    assert not [text for text in (html, result.text(), repr(result)) if "SMITH" in text]


def test_one_of_several_endpoints(files: Files) -> None:
    files.write(("patient_id", "model", "endpoint", "risk"), ("relapse", "death"))
    options = {"clinical": files.clinical, "endpoint": Binary("y", "y"), "patient": "id"}
    result = evaluate_csv(files.predictions, only="death", **options)
    assert [(one.model, one.endpoint) for one in result.evaluations] == [("a", "death"), ("b", "death")]
    with pytest.raises(
        ConfigurationError, match=r"PREDICTION_INVALID: .*2 endpoints \(choose one of 'relapse', 'death'"
    ):
        evaluate_csv(files.predictions, **options)
    with pytest.raises(ConfigurationError, match="UNKNOWN_NAME: the file does not predict 'cure'"):
        evaluate_csv(files.predictions, only="cure", **options)


def test_patients_in_one_file_only_are_in_no_figure_and_listed(files: Files) -> None:
    files.predictions.write_text(files.predictions.read_text() + "\nP31,a,2\nX,a,3\nX,b,4")
    result = evaluate_csv(files.predictions, clinical=files.clinical, endpoint=Binary("y", "y"), patient="id")
    for evaluation in result.evaluations:
        assert (evaluation.n, evaluation.missing) == (30, 1)
        assert evaluation.metric("auc").value == pytest.approx(roc_auc_score(files.event, files.risk[evaluation.model]))
    assert [comparison.n for comparison in result.comparisons] == [30]
    assert result.unmatched.not_in_table == {"X": (63, 64)}
    assert result.unmatched.without_outcome == {"P31": (62,)}
    assert result.unmatched.without_prediction == {"P30": (32,)}


def test_the_same_seed_gives_the_same_document(files: Files) -> None:
    options = {"clinical": files.clinical, "endpoint": Binary("y", "y"), "patient": "id", "resamples": 200}
    documents = [evaluate_csv(files.predictions, **options, seed=seed).to_json() for seed in (1, 1, 2)]
    assert documents[0] == documents[1]
    assert documents[0] != documents[2]


def test_parts_of_the_table_and_what_it_lacks(files: Files) -> None:
    lines = files.clinical.read_text().splitlines()
    stages = ["stage", *(("I", "II", "na")[i % 3] for i in range(30)), "I", "I"]
    files.clinical.write_text("\n".join(f"{line};{stage}" for line, stage in zip(lines, stages, strict=True)))
    how = {"clinical": files.clinical, "endpoint": Binary("y", "y"), "patient": "id", "resamples": 100}
    result = evaluate_csv(files.predictions, subgroups=["stage"], **how)
    parts = [(part.model, part.level, part.n, part.events) for part in result.summary.subgroups]
    # Every third patient has the event, and those have stage I.
    assert parts[:3] == [("a", "I", 10, 10), ("a", "II", 10, 0), ("a", "not stated", 10, 0)]
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document["missing"] == [{"what": "y", "missing": 1, "n": 32}, {"what": "stage", "missing": 10, "n": 32}]
    assert [size["events"] for size in document["sample_sizes"]] == [10]
    text = result.text()
    assert "a, stage II: 10 patients, 0 events: auc not estimable (only 0 with the event)" in text
    assert "stage: missing for 10 of 32 patients (31%)" in text
    assert "missing for 0" not in text
    with pytest.raises(ConfigurationError, match="'grade'"):
        evaluate_csv(files.predictions, subgroups=["grade"], **how)
