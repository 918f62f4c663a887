from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from twobe3.evaluation.results import Comparison, DifferenceTest, Evaluation, MetricValue, PrimaryMetric
from twobe3.features.radiomics import Voxels
from twobe3.models.baseline import Baseline, Variable
from twobe3.models.learners.learner import LearnerName
from twobe3.models.radiomics import RadiomicsModel
from twobe3.report.wording import (
    answer,
    duration,
    extent,
    interval,
    is_resolved,
    model_label,
    number,
    p_value,
    parameter,
    swap,
    why_primary,
    with_sign,
)
from twobe3.scans.regions import Region, RegionKind


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


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("suvmax (contour)", "SUVmax in the contour"),
        ("suvmax (contour GTV + N1)", "SUVmax in the contour GTV + N1"),
        ("tlg (SUV > 4)", "TLG above SUV 4"),
        ("tumour_volume (41 % of SUVmax)", "tumour volume above 41 % of SUVmax"),
        ("tumour_volume (PERCIST)", "tumour volume above the PERCIST threshold"),
        ("radiomics elastic-net (contour, else SUV > 4)", "radiomics in the contour, else above SUV 4 (elastic net)"),
        ("radiomics ridge (contour, shuffled voxels)", "radiomics in the contour (ridge, shuffled voxels)"),
        ("clinical", "clinical covariates"),
        ("clinical (age, stage)", "clinical covariates (age, stage)"),
        ("image_extent", "image extent"),
        ("2be3-net", "2be3-net"),
        ("my model (contour)", "my model (contour)"),
    ],
)
def test_models_have_the_words_of_the_field(name: str, label: str) -> None:
    assert model_label(name) == label


def test_the_words_are_those_of_the_names_that_models_give_themselves() -> None:
    """Every baseline and every learner in every kind of region: a label of its own, and none like a key."""
    regions = [Region(kind).parameters() for kind in get_args(get_args(RegionKind)[0])]
    names = {Baseline(v, **region).default_name for v in get_args(Variable) for region in regions}
    names |= {
        RadiomicsModel(learner=learner, voxels=voxels, **region).default_name
        for learner in get_args(LearnerName)
        for voxels in get_args(Voxels)
        for region in regions
    }
    labels = {model_label(name) for name in names}
    assert len(labels) == len(names)
    assert [label for label in labels if "_" in label or label.startswith(("suvmax", "tlg"))] == []


def metric_value(name: str, value: float | None, low: float, high: float) -> MetricValue:
    limits = (None, None) if value is None else (low, high)
    return MetricValue(name, value, *limits, 51, 19, "how", 0)


def result(model: str, value: float | None, low: float = 0.6) -> Evaluation:
    metric = metric_value("auc", value, low, 0.9)
    return Evaluation("e", "binary", model, 51, 19, 0, 1, PrimaryMetric("auc", "why"), (metric,), ())


def pair(a: str, b: str, difference: float, p_holm: float | None, across: float | None = None) -> Comparison:
    limits = (None, None) if p_holm is None else (difference - 0.08, difference + 0.09)
    tests = (DifferenceTest("delong", 0.001, 0.001, "how"), DifferenceTest("corrected_t", across, across, "how"))
    return Comparison("e", "auc", a, b, 50, difference, *limits, p_holm, p_holm, "how", tests)


KINDS = {"net": "pooled", "radiomics": "radiomics", "volume": "baseline", "centre": "baseline"}
MODELS = [result("centre", 0.55), result("volume", 0.65), result("radiomics", 0.7), result("net", 0.8)]


@pytest.mark.parametrize(
    ("difference", "p_holm", "across", "verdict", "figures"),
    [
        (0.15, 0.0004, 0.03, "is shown to be better than", "p <\N{NO-BREAK SPACE}0.001 by bootstrap and p = 0.030"),
        (0.15, 0.01, 0.2, "is not shown to be better than", "p = 0.010 by bootstrap, but p = 0.20"),
        (0.15, 0.2, 0.01, "is not shown to be better than", "p = 0.20 by bootstrap, but p = 0.010"),
        (0.15, 0.2, 0.3, "is not shown to be better than", "p = 0.20 by bootstrap and p = 0.30"),
        (0.15, 0.2, None, "is not shown to be better than", "p = 0.20 by bootstrap and p not estimable"),
        (0.15, 0.01, None, "is by the bootstrap alone better than", "p = 0.010 by bootstrap, but p not estimable"),
        (0.15, None, 0.01, "is not shown to be better than", "p not estimable by bootstrap, but p = 0.010"),
        (-0.15, 0.01, 0.2, "is not better than", "p = 0.010 by bootstrap, but p = 0.20"),
        (-0.15, 0.01, 0.02, "is shown to be worse than", "p = 0.010 by bootstrap and p = 0.020"),
        (0.0, 1.0, 1.0, "is not better than", "p = 1.00 by bootstrap and p = 1.00"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_it_says_whether_the_best_candidate_is_shown_to_be_better_than_the_best_baseline(
    difference: float, p_holm: float | None, across: float | None, verdict: str, figures: str, swapped: bool
) -> None:
    """Whatever else it lies far above: the centre, the other candidate."""
    one = pair("net", "volume", difference, p_holm, across)
    others = [pair("net", "centre", 0.25, 0.001, 0.001), pair("radiomics", "net", -0.1, 0.001, 0.001)]
    said = answer("e", MODELS, [*others, swap(one) if swapped else one], KINDS)
    assert said.lead == "net"
    assert said.sentence.startswith(f"{verdict} volume, the best baseline, for e: AUC 0.80 (95 % interval 0.60–0.90) ")
    assert f"{figures} across folds, after Holm’s correction." in said.sentence
    limits = "" if p_holm is None else f" ({interval(difference - 0.08, difference + 0.09)})"
    assert f"against 0.65 (0.60–0.90); difference {with_sign(difference)}{limits} on 50 patients, p" in said.sentence
    assert is_resolved(one) == (p_holm is not None and p_holm < 0.05 and across in (None, 0.01, 0.02, 0.03))


def test_a_baseline_that_is_best_of_all_is_the_one_that_counts() -> None:
    models = [result("volume", 0.85), result("centre", 0.5), result("net", 0.8)]
    pairs = [pair("net", "volume", -0.05, 0.6, 0.7), pair("net", "centre", 0.3, 0.001, 0.001)]
    said = answer("e", models, pairs, KINDS)
    assert (said.lead, said.sentence[:45]) == ("net", "is not better than volume, the best baseline,")


def test_a_metric_whose_lower_values_are_better_is_told_so() -> None:
    primary = PrimaryMetric("brier", "as asked for")
    models = [
        replace(result(name, 0.5), primary_metric=primary, metrics=(metric_value("brier", value, 0.1, 0.3),))
        for name, value in (("net", 0.15), ("radiomics", 0.3), ("volume", 0.2), ("centre", 0.25))
    ]
    said = answer("e", models, [pair("net", "volume", -0.05, 0.01, 0.02)], KINDS)
    assert said.lead == "net"
    assert said.sentence.startswith("is shown to be better than volume, the best baseline, for e: Brier score 0.15 ")
    assert said.remarks == ()  # 0.5 is no chance level of it


@pytest.mark.parametrize(
    ("models", "lead", "sentence"),
    [
        ([("net", 0.8), ("radiomics", 0.7)], "net",
         "had the best AUC for e, 0.80 (95 % interval 0.60–0.90); no baseline was tested, so it is not shown to be "
         "better than a trivial explanation."),
        ([("net", 0.8), ("volume", None)], "net",
         "is the only model with an estimable AUC for e, 0.80 (95 % interval 0.60–0.90); that of no baseline was "
         "estimable, so it is not shown to be better than a trivial explanation."),
        ([("volume", 0.6), ("centre", 0.8)], "centre",
         "had the best AUC for e, 0.80 (95 % interval 0.60–0.90); it is a baseline, and no other model was tested."),
        ([("volume", 0.6), ("net", None)], "volume",
         "is the only model with an estimable AUC for e, 0.60 (95 % interval 0.60–0.90); it is a baseline, and that of "
         "no other model was estimable."),
        ([("volume", 0.6), ("net", 0.8)], "net",
         "could not be compared with volume, the best baseline, for e: AUC 0.80 (95 % interval 0.60–0.90) against 0.60 "
         "(0.60–0.90)."),
        ([("net", None)], "No model", "has an estimable AUC for e."),
    ],
)  # fmt: skip
def test_where_there_is_no_such_pair_it_says_so(
    models: list[tuple[str, float | None]], lead: str, sentence: str
) -> None:
    said = answer("e", [result(name, value) for name, value in models], [pair("a", "b", 0.1, 0.01, 0.01)], KINDS)
    assert (said.lead, said.sentence) == (lead, sentence)


def test_models_without_a_patient_in_common_are_not_compared() -> None:
    nobody = Comparison(
        "e", "auc", "net", "volume", 0, None, None, None, None, None, "no patient was predicted by both"
    )
    said = answer("e", MODELS, [nobody], KINDS)
    assert said.sentence.startswith("could not be compared with volume, the best baseline, for e: AUC 0.80 ")
    assert said.sentence.endswith("; no patient was predicted by both.")


def test_the_best_is_that_by_the_metric_compared() -> None:
    """By the AUC of all pairs b is ahead, within the folds a."""
    primary = PrimaryMetric("auc_within_folds", "why")
    models = []
    for one, within in ((result("a", 0.6), 0.9), (result("b", 0.8), 0.7)):
        metrics = (*one.metrics, metric_value("auc_within_folds", within, 0.6, 0.95))
        models.append(replace(one, primary_metric=primary, metrics=metrics))
    said = answer("e", models, [], {})
    assert (said.lead, said.sentence[:50]) == ("a", "had the best AUC within folds for e, 0.90 (95 % in")
    assert why_primary(models[0]) == "Models are ranked and compared by AUC within folds: why."
    one = replace(models[0], kind="continuous", primary_metric=PrimaryMetric("spearman", "the only one"))
    assert why_primary(one) == ""


def test_chance_is_pointed_out() -> None:
    said = answer("e", [result("volume", 0.62, low=0.5), result("b", 0.55)], [], {"volume": "baseline"})
    assert said.remarks == ()
    said = answer("e", [result("volume", 0.62), result("b", 0.55, low=0.5)], [], {"volume": "baseline"})
    assert said.remarks == ("Its interval includes 0.5, the value of chance.",)


def test_a_difference_that_is_not_shown_says_what_it_would_take() -> None:
    one = replace(pair("net", "volume", 0.15, 0.2, 0.3), patients_needed=1234)
    said = (
        "About 1\N{NARROW NO-BREAK SPACE}200 patients like these would be needed to see a difference of 0.05 between "
    )
    assert answer("e", MODELS, [one], KINDS).remarks == (f"{said}the two with a power of 80\N{NO-BREAK SPACE}%.",)
    shown = replace(pair("net", "volume", 0.15, 0.001, 0.03), patients_needed=1234)
    assert answer("e", MODELS, [shown], KINDS).remarks == ()
