"""Rows, text and HTML of results."""

from __future__ import annotations

import numpy as np
import pytest

from twobe3.core.endpoints import Binary
from twobe3.core.outcomes import Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.compare import compare
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.format import (
    comparison_rows,
    evaluation_rows,
    interval_text,
    primary_rows,
    ranking_lines,
    render_html,
)
from twobe3.evaluation.results import Comparison, Evaluation

EVENT = np.arange(24) % 3 == 0
OUTCOMES = Outcomes(Binary("relapse", "y"), tuple(f"p{i}" for i in range(24)), EVENT.astype(float), EVENT)


def predict(model: str, noise: float) -> Prediction:
    risk = EVENT + noise * np.random.default_rng(1).normal(size=24)
    return Prediction(model, "relapse", OUTCOMES.patients, risk)


PREDICTIONS = (predict("<b>weak</b>", 9.0), predict("strong", 0.4))


@pytest.fixture(scope="module")
def evaluations() -> tuple[Evaluation, ...]:
    return tuple(evaluate(one, OUTCOMES, resamples=100) for one in PREDICTIONS)


@pytest.fixture(scope="module")
def comparisons() -> tuple[Comparison, ...]:
    return compare(PREDICTIONS, OUTCOMES, resamples=100)


def test_a_row_holds_every_metric_of_every_model(evaluations: tuple[Evaluation, ...]) -> None:
    rows = evaluation_rows(evaluations)
    assert len(rows) == sum(len(one.metrics) for one in evaluations)
    assert [(row["model"], row["metric"]) for row in rows if row["primary"]] == [
        ("<b>weak</b>", "auc"),
        ("strong", "auc"),
    ]
    first = evaluations[0].metrics[0]
    assert (rows[0]["value"], rows[0]["low"], rows[0]["high"]) == (first.value, first.low, first.high)


def test_the_best_model_comes_first_and_one_evaluated_on_nobody_last(evaluations: tuple[Evaluation, ...]) -> None:
    nobody = Evaluation("relapse", "binary", "none", 0, 0, 24, 0, evaluations[0].primary_metric, (), ())
    rows = primary_rows([nobody, *evaluations])
    assert [row["model"] for row in rows] == ["strong", "<b>weak</b>", "none"]
    assert rows[-1]["value"] is None


def test_a_pair_is_a_row(comparisons: tuple[Comparison, ...]) -> None:
    (row,), (pair,) = comparison_rows(comparisons), comparisons
    assert (row["model_a"], row["difference"], row["p_holm"]) == (pair.model_a, pair.difference, pair.p_holm)


def test_a_cell_joins_a_value_with_its_interval(evaluations: tuple[Evaluation, ...]) -> None:
    html = render_html(primary_rows(evaluations))
    header = ["endpoint", "model", "metric", "value (95 %)", "n", "events"]
    assert "".join(f"<th>{name}</th>" for name in header) in html
    strong = evaluations[1].metrics[0]
    assert f"<td>{interval_text(strong.value, strong.low, strong.high)}</td>" in html


def test_html_escapes_what_models_are_called(evaluations: tuple[Evaluation, ...]) -> None:
    html = render_html(primary_rows(evaluations), "Models & metrics")
    assert "<td>&lt;b&gt;weak&lt;/b&gt;</td>" in html
    assert html.startswith("<table><caption>Models &amp; metrics</caption><thead><tr><th>endpoint</th>")
    assert html.count("<tr>") == 3
    assert render_html([]) == ""


def test_what_cannot_be_estimated_is_said() -> None:
    assert interval_text(None, None, None) == "not estimable"
    assert interval_text(0.5, None, None) == "0.500"
    assert interval_text(-0.5, -0.75, 0.25) == "-0.500 (-0.750 to 0.250)"


def test_models_of_an_endpoint_are_ranked(
    evaluations: tuple[Evaluation, ...], comparisons: tuple[Comparison, ...]
) -> None:
    lines = ranking_lines(OUTCOMES, evaluations, comparisons, {"strong"})
    assert lines[0] == "relapse: auc, 24 patients, 8 events"
    assert lines[1].startswith("  strong ")
    assert lines[1].endswith("n 24, baseline")
    assert lines[2].startswith("  <b>weak</b> ")
    assert lines[3].startswith("  ahead is strong, ")
    assert "; the best model that is no baseline is <b>weak</b>, " in lines[3]
    assert lines[4].startswith("  models are ranked and compared by auc: ")


def test_it_is_said_whether_the_best_baseline_is_behind(evaluations: tuple[Evaluation, ...]) -> None:
    (said,) = (line for line in ranking_lines(OUTCOMES, evaluations, (), {"<b>weak</b>"}) if "ahead" in line)
    assert said.startswith("  ahead is strong, ")
    assert "; the best baseline is <b>weak</b>, " in said
    for baselines in ({"strong", "<b>weak</b>"}, set()):  # nothing to be ahead of
        assert not any("ahead" in line for line in ranking_lines(OUTCOMES, evaluations, (), baselines))
