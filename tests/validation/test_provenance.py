"""The record of a run: how large the models are, and a warning where there are few events."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import twobe3 as tb
from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import CrossValidation
from twobe3.evaluation.cohort_summary import sample_size
from twobe3.io.cache import Cache
from twobe3.models import Baseline, Fusion, PooledModel, TwoBe3Net
from twobe3.models.model import Model
from twobe3.validation.provenance import warn_of_few_events

STORE = Cache()
MAPS: dict[str, Any] = {"backbone": "resnet18", "weights": "random", "layer": 2, "slice_size": 32, "cache": STORE}


@pytest.fixture(scope="module")
def models() -> list[Model]:
    network = TwoBe3Net(**MAPS, epochs=1, ensemble_size=1, capacity="auto")
    return [Baseline("age"), PooledModel(**MAPS, planes=("axial",), penalties=(100.0,)), network]


def test_few_events_are_told_with_those_that_each_parameter_has(
    models: list[Model], make_cohort: Callable[..., Cohort]
) -> None:
    cohort = make_cohort(16, ("binary", "continuous"))  # 8 with the event, 8 without
    (line,) = warn_of_few_events(models, cohort)
    assert line.startswith("relapse: only 8 events, fewer than 10")
    known = {one.name: one.report(cohort).n_parameters or 0 for one in models[:2]}
    size = sample_size(cohort.for_endpoint("relapse").outcomes, known)
    assert size is not None
    for model in size.models:
        assert f"{model.model} {model.events_per_parameter:.2g} ({model.parameters})" in line
    assert known == {"age": 1, "pooled": 3 * 128}
    trained = models[2].report(cohort.for_endpoint("relapse")).size["trainable_parameters"]
    assert f"2be3-net {8 / trained:.2g} ({trained})" in line


def test_ten_of_either_class_are_not_few(models: list[Model], make_cohort: Callable[..., Cohort]) -> None:
    assert warn_of_few_events(models, make_cohort(20, ("binary",))) == []
    cohort = make_cohort(24, ("binary",))
    event = np.arange(24) < 20  # 4 without it
    outcomes = replace(cohort.endpoints[0], value=event.astype(float), event=event)
    (line,) = warn_of_few_events(models, replace(cohort, endpoints=(outcomes,)))
    assert "only 4 events" in line


def test_a_run_warns_and_its_record_holds_capacity_and_events_for_each_parameter(
    models: list[Model], make_cohort: Callable[..., Cohort], caplog: pytest.LogCaptureFixture
) -> None:
    cohort = make_cohort(12, ("binary",))
    with caplog.at_level(logging.WARNING, "twobe3"):
        result = tb.cross_validate(models, cohort, cv=CrossValidation(2, 5), resamples=100)
    assert "FEW_EVENTS: relapse: only 6 events" in caplog.text
    assert not any(patient in caplog.text for patient in cohort.patients)
    record = json.loads(json.dumps(result.provenance.document()))
    assert record["notes"] == warn_of_few_events(models, cohort)
    *others, network = record["models"]
    assert all(one["size"] == {} for one in others)
    assert network["size"]["relapse"]["capacity"]["width"] == 16
    assert network["size"]["relapse"]["events_per_parameter"] == pytest.approx(
        6 / network["size"]["relapse"]["trainable_parameters"]
    )


def test_the_record_holds_what_share_of_the_risk_each_part_of_a_model_has(make_cohort: Callable[..., Cohort]) -> None:
    cohort = make_cohort(24, ("binary",))
    twins = Fusion(of=(Baseline("age"), Baseline("age", name="age again")), name="twins")
    network = TwoBe3Net(**MAPS, epochs=1, ensemble_size=1, inputs=("maps", "profile"))
    result = tb.cross_validate([Baseline("age"), twins, network], cohort, cv=CrossValidation(3), resamples=100)
    one, both, stacks = (dict(model.parts) for model in result.provenance.models)
    assert one == {}  # a single part is no sum
    assert both == {"relapse": {"age": pytest.approx(0.5), "age again": pytest.approx(0.5)}}
    assert list(stacks["relapse"]) == ["axial", "profile"]
    assert sum(stacks["relapse"].values()) == pytest.approx(1.0)
