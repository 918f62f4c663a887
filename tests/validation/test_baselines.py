"""The baselines that stand in every table: which, where they are measured, and that none stops a study."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import CrossValidation, LeaveOneCentreOut
from twobe3.core.prediction import Prediction
from twobe3.evaluation.compare import compare
from twobe3.io.cache import Cache
from twobe3.models import CNN3D, Baseline, Fusion, Model, RadiomicsModel
from twobe3.report.wording import model_label
from twobe3.scans.regions import Region
from twobe3.scans.scan import ArrayScan
from twobe3.study.run import run
from twobe3.validation.baselines import add_baselines, choose_baselines
from twobe3.validation.plan import CVPlan

MakeCohort = Callable[..., Cohort]
CONTOUR = ["tumour_volume (contour)", "suvmax (contour)", "tlg (contour)"]
THRESHOLD = [name.replace("contour", "SUV > 4") for name in CONTOUR]


@pytest.fixture(scope="module")
def cohort(make_cohort: MakeCohort) -> Cohort:
    return make_cohort(10)


def added(given: list[Model], cohort: Cohort, **how: Any) -> list[str]:
    models = add_baselines(given, cohort, **how)
    assert models[: len(given)] == given
    return [model.name for model in models[len(given) :]]


def without_contours(cohort: Cohort, n: int) -> Cohort:
    """The cohort, of whose scans n lack a contour."""
    subjects = []
    for i, study in enumerate(cohort.subjects):
        assert isinstance(study.scan, ArrayScan)
        subjects.append(replace(study, scan=replace(study.scan, region=None)) if i < n else study)
    return replace(cohort, subjects=tuple(subjects))


def test_every_trivial_explanation_is_added(cohort: Cohort) -> None:
    assert added([CNN3D()], cohort) == [*CONTOUR, "image_extent", "clinical", "centre"]


def test_what_cannot_explain_anything_is_not_added(cohort: Cohort) -> None:
    """Acceptance row 40."""
    bare = replace(cohort, subjects=tuple(replace(study, covariates={}, centre="north") for study in cohort.subjects))
    assert added([CNN3D()], bare) == [*CONTOUR, "image_extent"]
    assert "centre" not in added([CNN3D()], cohort, scheme=LeaveOneCentreOut())
    assert "centre" in added([CNN3D()], cohort, scheme=CrossValidation(2))


@pytest.mark.parametrize(("lacking", "expected"), [(0, CONTOUR), (2, CONTOUR), (3, THRESHOLD), (10, THRESHOLD)])
def test_most_scans_must_have_a_contour_to_be_measured_there(cohort: Cohort, lacking: int, expected: list[str]) -> None:
    assert added([CNN3D()], without_contours(cohort, lacking))[:3] == expected
    described = [replace(study, description={"contour": i >= lacking}) for i, study in enumerate(cohort.subjects)]
    assert added([CNN3D()], replace(cohort, subjects=tuple(described)))[:3] == expected


def test_the_region_of_the_study_goes_before(cohort: Cohort) -> None:
    names = added([CNN3D()], cohort, region=Region("relative", fraction=0.5))
    assert names[:3] == [name.replace("contour", "50 % of SUVmax") for name in CONTOUR]


def test_what_is_there_under_any_name_is_not_added_again(cohort: Cohort) -> None:
    given: list[Model] = [Baseline("suvmax", name="hottest"), Baseline("suvmax", region="threshold"),
                          Baseline("clinical", inner_folds=2), Baseline("clinical", covariates=("age",))]  # fmt: skip
    assert added(given, cohort) == ["tumour_volume (contour)", "tlg (contour)", "image_extent", "centre"]
    everything = add_baselines([CNN3D()], cohort)
    assert add_baselines(everything, cohort) == everything


def test_no_name_is_given_twice(cohort: Cohort) -> None:
    names = added([CNN3D(name="centre"), CNN3D(name="clinical"), CNN3D(name="clinical (baseline)")], cohort)
    assert names[-2:] == ["clinical (baseline) (baseline)", "centre (baseline)"]


def test_the_first_radiomics_model_has_a_twin_on_shuffled_voxels(cohort: Cohort) -> None:
    cache = Cache()
    first, second = (
        RadiomicsModel(max_features=3, cache=cache),
        RadiomicsModel(learner="ridge", name="second", cache=cache),
    )
    twin = add_baselines([CNN3D(), first, second], cohort)[-1]
    assert isinstance(twin, RadiomicsModel)
    assert twin.get_params() == {**first.get_params(), "voxels": "shuffled"}
    assert twin.name == "radiomics elastic-net (contour, else SUV > 4, shuffled voxels)"
    assert twin.cache is cache
    assert add_baselines([second], cohort)[-1].name == "second, shuffled voxels"
    assert twin.name not in added([first, replace(twin, name="destroyed")], cohort)
    assert [model.is_baseline for model in (first, twin, Baseline("age"), CNN3D())] == [False, True, True, False]


def test_a_radiomics_model_inside_a_fusion_has_one_too(cohort: Cohort) -> None:
    inner, cache = RadiomicsModel(max_features=3, name="inner"), Cache()
    fusion = Fusion([Fusion([CNN3D(), inner], name="pair"), Baseline("age")], cache=cache)
    twin = add_baselines([fusion], cohort)[-1]
    assert isinstance(twin, RadiomicsModel)
    assert twin.get_params() == {**inner.get_params(), "voxels": "shuffled", "name": "inner, shuffled voxels"}
    assert twin.cache is cache
    first = RadiomicsModel(name="first")
    assert add_baselines([fusion, first], cohort)[-1].name == "first, shuffled voxels"


def test_baselines_have_the_seed_and_the_store_of_the_models(cohort: Cohort) -> None:
    model = CNN3D(seed=7)
    baselines = add_baselines([model], cohort, inner_folds=3)[1:]
    assert all(one.seed == 7 and one.cache is model.cache for one in baselines)
    assert [one.get_params()["inner_folds"] for one in baselines if one.name == "clinical"] == [3]


def test_a_baseline_that_a_fold_cannot_fit_is_left_out_with_its_reason(cohort: Cohort) -> None:
    event = cohort.outcomes.event
    # Nobody with the event has a contour: among those who have one there is nothing to learn.
    subjects = [
        replace(study, scan=replace(study.scan, region=None)) if hot and isinstance(study.scan, ArrayScan) else study
        for study, hot in zip(cohort.subjects, event, strict=True)
    ]
    half = replace(cohort, subjects=tuple(subjects))
    plan = CVPlan.of([Baseline("age")], half, CrossValidation(2))
    chosen, reasons = choose_baselines(plan, CrossValidation(2), Region("contour"), 1)
    names = [model.name for model in chosen.models]
    assert names[0] == "age"
    assert "image_extent" in names
    assert not [name for name in names if "(contour)" in name]
    assert len(reasons) == len(CONTOUR)
    assert "'tlg (contour)': 2 of 5 training patients" in reasons[2] or "'tlg (contour)': 3 of 5" in reasons[2]


def test_a_study_has_them_in_its_tables_unless_its_file_asks_for_none(tiny_cohort: Any, tmp_path: Path) -> None:
    tiny_cohort.patients(8)
    file = tiny_cohort.study()
    given = ["suvmax (SUV > 1.5)", "image_extent"]
    assert [model.name for model in run(file, tmp_path / "without", workers=1).models] == given
    file.write_text(file.read_text().replace("baselines = false", ""))
    result = run(file, tmp_path / "with", workers=1)
    names = [*given, *THRESHOLD, "clinical"]
    assert [model.name for model in result.models] == names
    document = json.loads((tmp_path / "with" / "run.json").read_text())
    assert [model["name"] for model in document["models"]] == names
    assert [step["step"] for step in document["timings"]][:4] == ["cohort", "baselines", "features", "cross-validation"]
    page = (tmp_path / "with" / "report.html").read_text()
    for name in THRESHOLD:
        assert re.search(rf'{re.escape(escape(model_label(name)))}\s*<span class="kind">baseline</span>', page), name
    table = result.table().splitlines()
    assert all(line.endswith(", baseline") for line in table if line.startswith(tuple(f"  {name}" for name in names)))


def test_baselines_are_compared_with_models_and_not_with_one_another(make_cohort: MakeCohort) -> None:
    outcomes, rng = make_cohort(20).outcomes, np.random.default_rng(0)
    predictions = [
        Prediction(name, outcomes.endpoint.name, outcomes.patients, rng.normal(size=20)) for name in ("net", "a", "b")
    ]

    def pairs(*baselines: str) -> list[tuple[str, str]]:
        made = compare(predictions, outcomes, baselines=baselines, resamples=100)
        return [(one.model_a, one.model_b) for one in made]

    assert pairs("a", "b") == [("net", "a"), ("net", "b")]
    assert pairs() == pairs("net", "a", "b") == [("net", "a"), ("net", "b"), ("a", "b")]
