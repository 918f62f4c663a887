from __future__ import annotations

from dataclasses import replace

import pytest

from twobe3.evaluation.results import Comparison, Evaluation, MetricValue, PrimaryMetric
from twobe3.report.wording import answer, duration, extent, interval, number, p_value, parameter, why_primary, with_sign


def test_numbers_are_set_as_in_print() -> None:
    assert number(-0.126) == "−0.13"
    assert number(-0.001) == "0.00"
    assert number(None) == "not estimable"
    assert [with_sign(x) for x in (0.1, -0.1, 0.0, None)] == ["+0.10", "−0.10", "0.00", "not estimable"]
    assert interval(0.4, 0.6) == "0.40–0.60"
    assert interval(-0.4, 0.6) == "−0.40 to 0.60"
    assert interval(None, 0.6) == "not estimable"
    assert [p_value(p) for p in (0.0004, 0.0312, 0.5, 1.0, None)] == [
        "<\N{NO-BREAK SPACE}0.001",
        "0.031",
        "0.50",
        "1.00",
        "not estimable",
    ]
    assert [duration(s) for s in (2.34, 75, 7500)] == ["2.3 s", "1 min 15 s", "2 h 5 min"]
    assert extent((4.0, 4.0, 4.0)) == "4 mm"
    assert extent((3.27, 5.46875, 5.46875)) == "3.27 × 5.469 × 5.469 mm"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("/home/me/weights.safetensors", "weights.safetensors"),
        (r"C:\Users\me\weights.safetensors", "weights.safetensors"),
        ("timm/resnet18", "timm/resnet18"),
        ([[0, 5], [0, 10]], "(0, 5), (0, 10)"),
        (True, "yes"),
        (None, "none"),
        (0.5, "0.5"),
        (
            [{"kind": "pooled", "name": "pooled", "weights": "/home/me/w"}, {"kind": "baseline", "name": "age"}],
            "pooled, age",
        ),
    ],
)
def test_parameter_never_tells_a_path(value: object, text: str) -> None:
    assert parameter(value) == text


def metric_value(name: str, value: float | None, low: float, high: float) -> MetricValue:
    limits = (None, None) if value is None else (low, high)
    return MetricValue(name, value, *limits, 51, 19, "how", 0)


def result(model: str, value: float | None, low: float = 0.6) -> Evaluation:
    metric = metric_value("auc", value, low, 0.9)
    return Evaluation("e", "binary", model, 51, 19, 0, 1, PrimaryMetric("auc", "why"), (metric,), ())


def pair(a: str, b: str, p_holm: float | None) -> Comparison:
    return Comparison("e", "auc", a, b, 51, 0.1, None, None, p_holm, p_holm, "how")


def test_nothing_resolved() -> None:
    said = answer("e", [result("a", 0.7), result("b", 0.8)], [pair("a", "b", 0.05)], {})
    assert said.lead == "b"
    assert said.sentence.endswith("but no difference between the models can be resolved with 51 patients.")
    assert said.remarks == ()


def test_difference_resolved_but_not_for_the_best() -> None:
    models = [result("a", 0.7), result("b", 0.8), result("c", 0.6)]
    said = answer("e", models, [pair("a", "b", 1.0), pair("a", "c", 0.01), pair("b", "c", 0.2)], {})
    assert said.sentence.endswith(
        "but its lead cannot be resolved with 51 patients "
        "(1 of 3 paired differences excludes 0 after Holm’s correction)."
    )


def test_best_is_told_from_others() -> None:
    models = [result("a", 0.7), result("b", 0.8), result("c", 0.6)]
    said = answer("e", models, [pair("a", "b", 0.01), pair("a", "c", 0.3), pair("b", "c", 0.02)], {})
    assert said.sentence.endswith(
        "after Holm’s correction it lies above a and c (2 of 3 paired differences exclude 0)."
    )


def test_the_best_is_that_by_the_metric_compared() -> None:
    """By the AUC of all pairs b is ahead, within the folds a."""
    primary = PrimaryMetric("auc_within_folds", "why")
    models = []
    for one, within in ((result("a", 0.6), 0.9), (result("b", 0.8), 0.7)):
        metrics = (*one.metrics, metric_value("auc_within_folds", within, 0.6, 0.95))
        models.append(replace(one, primary_metric=primary, metrics=metrics))
    said = answer("e", models, [], {})
    assert (said.lead, said.sentence[:50]) == ("a", "had the highest AUC within folds for e, 0.90 (95 %")
    assert why_primary(models[0]) == "Models are ranked and compared by AUC within folds: why."
    one = replace(models[0], kind="continuous", primary_metric=PrimaryMetric("spearman", "the only one"))
    assert why_primary(one) == ""


def test_chance_and_baselines_are_pointed_out() -> None:
    said = answer("e", [result("volume", 0.62, low=0.5), result("b", 0.55)], [], {"volume": "baseline"})
    assert said.remarks == (
        "Its interval includes 0.5, the value of chance.",
        "It is a baseline: no other model had a higher value.",
    )


def test_one_model_or_none() -> None:
    assert answer("e", [result("a", 0.7), result("b", None)], [], {}).sentence == (
        "is the only model whose AUC for e was estimable: 0.70 (95 % interval 0.60–0.90)."
    )
    said = answer("e", [result("a", None)], [], {})
    assert (said.lead, said.sentence) == ("No model", "has an estimable AUC for e.")
