"""Models on feature maps: what they refuse, what they hold, and that they find a planted lesion."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import Outcomes
from twobe3.io.cache import Cache
from twobe3.models import CNN2D, CNN3D, Model, PooledModel, TwoBe3Net, load_model, pooled

SMALL: dict[str, Any] = {"backbone": "resnet18", "weights": "random", "layer": 2, "slice_size": 32}
QUICK: dict[str, Any] = {"epochs": 30, "batch_size": 8, "learning_rate": 3e-3}
STORE = Cache()


@pytest.fixture(scope="module")
def cohort(make_cohort: Callable[..., Cohort]) -> Cohort:
    return make_cohort(40)


@pytest.mark.parametrize(
    "model",
    [
        PooledModel(**SMALL, planes=("axial",), cache=STORE),
        TwoBe3Net(**SMALL, **QUICK, ensemble_size=1, components=8, cache=STORE),
        TwoBe3Net(**QUICK, ensemble_size=1, inputs=("image", "profile"), cache=STORE),
        CNN2D(**SMALL, **QUICK, ensemble_size=1, components=8, cache=STORE),
        CNN3D(**QUICK, width=8),
    ],
    ids=lambda model: model.name,
)
def test_a_planted_lesion_is_found_in_patients_that_were_not_seen(model: Model, cohort: Cohort) -> None:
    order = np.random.default_rng(0).permutation(40)
    train, test = cohort.subset(order[:24]), cohort.subset(order[24:])
    risk = model.fit(train).predict(test).risk
    assert roc_auc_score(test.outcomes.event, risk) > 0.8


def test_pooled_features_of_a_cohort_are_those_of_each_study_in_its_order(cohort: Cohort) -> None:
    model, few = PooledModel(**SMALL, planes=("sagittal", "axial"), cache=STORE), cohort.subset([5, 2])
    x = model._pooled(few)
    assert x.shape == (2, 3 * 128 * 2)
    np.testing.assert_array_equal(x[1], model.maps.extractors()[0].extract_pooled(cohort, cohort.subjects[2]))


def test_the_penalty_is_chosen_among_the_training_patients(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, ...]] = []

    def spy(x: Any, outcomes: Outcomes, penalties: Any, **_: Any) -> float:
        seen.append(outcomes.patients)
        return float(penalties[0])

    monkeypatch.setattr(pooled, "choose_penalty", spy)
    train = cohort.subset(range(10))
    PooledModel(**SMALL, cache=STORE).fit(train).predict(cohort)
    assert seen == [train.patients]


def test_the_projection_is_learnt_from_the_training_patients(cohort: Cohort) -> None:
    how: dict[str, Any] = {**SMALL, "epochs": 1, "ensemble_size": 1, "cache": STORE}
    model = TwoBe3Net(**how, inputs=("maps",)).fit(cohort.subset(range(10)))
    before = model.inputs_.projections["axial"].matrix.copy()
    model.predict(cohort)
    np.testing.assert_array_equal(model.inputs_.projections["axial"].matrix, before)
    other = TwoBe3Net(**how, inputs=("maps",)).fit(cohort.subset(range(10, 20)))
    assert not np.allclose(other.inputs_.projections["axial"].matrix, before)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"windows_suv": (5.0, 10.0)}, "one SUV window or three"),
        ({"windows_suv": (5.0, -1.0, 25.0)}, "above 0"),
        ({"slice_size": 8}, "at least 16"),
        ({"planes": ()}, "planes"),
        ({"planes": ("axial", "axial")}, "once"),
        ({"planes": ("oblique",)}, "planes"),
        ({"layer": -1}, "layer"),
        ({"width": 0}, "width"),
        ({"dropout": 1.0}, "dropout"),
        ({"batch_size": 1}, "batch_size"),
    ],
)
def test_parameters_that_make_no_model_are_refused_at_once(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises((ValidationError, ValueError), match=told):
        TwoBe3Net(**wrong)


@pytest.mark.parametrize("wrong", [{"depth": 34}, {"windows_suv": ()}, {"windows_suv": (0.0,)}])
def test_parameters_that_make_no_3d_network_are_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, ValueError), match=next(iter(wrong))):
        CNN3D(**wrong)


@pytest.mark.parametrize("wrong", [{"penalties": ()}, {"penalties": (0.0, 1.0)}, {"inner_folds": 1}])
def test_parameters_that_make_no_ridge_head_are_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        PooledModel(**wrong)


def test_absent_weights_are_an_error_and_never_random_ones(cohort: Cohort, tmp_path: Path) -> None:
    model = TwoBe3Net(weights=str(tmp_path / "absent.safetensors"))
    for use in (model.precompute, model.fit):
        with pytest.raises(ConfigurationError) as caught:
            use(cohort)
        assert caught.value.code is Code.WEIGHTS_MISSING


def test_parameters_that_leave_the_machine_tell_a_weights_file_by_its_name_alone() -> None:
    shown = {
        weights: TwoBe3Net(weights=weights).public_parameters()["weights"]
        for weights in ("/home/somebody/a.safetensors", "hf:timm/resnet18.a1_in1k", "pretrained", "random")
    }
    assert list(shown.values()) == ["a.safetensors", "hf:timm/resnet18.a1_in1k", "pretrained", "random"]


def test_each_input_has_a_branch_of_its_own_and_the_file_brings_it_back(cohort: Cohort, tmp_path: Path) -> None:
    few = cohort.subset(range(8))
    model = TwoBe3Net(**SMALL, epochs=1, ensemble_size=1, inputs=("profile", "maps", "image"), cache=STORE).fit(few)
    assert list(model.inputs_.shapes) == ["axial", "profile", "image"]
    assert [key.split(".")[1] for key in model.networks_[0].state_dict() if "reduction.0.weight" in key] == [
        "axial",
        "profile",
        "image",
    ]
    again = load_model(model.save(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(again.predict(few).risk, model.predict(few).risk)


def test_without_maps_no_2d_network_is_loaded(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twobe3.models.nn.feature_maps.load_backbone", None)
    few = cohort.subset(range(8))
    model = TwoBe3Net(epochs=1, ensemble_size=1, inputs=("image",), cache=STORE)
    model.precompute(few)
    assert len(model.cache_key()) > 0
    assert not [name for name in model.fit(few)._arrays() if name.startswith("backbone")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"inputs": ()},
        {"inputs": ("maps", "maps")},
        {"inputs": ("maps", "picture")},
        {"inputs": ("maps", "map-image"), "finetune": "all"},
        {"inputs": ("image",), "init": "pretrained.safetensors"},
        {"inputs": ("image",), "weighing": "cross-fitted"},
        {"inputs": ("maps", "image"), "weighing": "cross-fitted", "head": "hazard"},
        {"inputs": ("maps", "image"), "weighing": "cross-fitted", "endpoints": "all"},
        {"inputs": ("maps", "image"), "weighing": "cross-fitted", "finetune": "all"},
    ],
)
def test_inputs_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="inputs"):
        TwoBe3Net(**wrong)


def test_each_input_contributes_to_the_risk_by_its_branch(cohort: Cohort) -> None:
    few, how = cohort.subset(range(12)), {**SMALL, "epochs": 2, "ensemble_size": 2, "cache": STORE}
    model = TwoBe3Net(**how, inputs=("maps", "image"), weighing="joint", covariates=("age_years",)).fit(few)
    parts = model.contributions(few)
    assert list(parts) == ["axial", "image", "covariates"]
    rest = model.predict(few).risk - sum(parts.values())
    assert rest == pytest.approx(np.full(12, rest[0]), abs=1e-5)
    assert min(np.ptp(part) for part in parts.values()) > 0
    assert TwoBe3Net(**how, inputs=("maps",)).fit(few).contributions(few) == {}


@pytest.mark.parametrize(("name", "grid"), [("map-image", (24, 8, 8)), ("map-profile", (48, 1, 1))])
def test_coarse_stacks_of_maps_are_their_averages_and_maxima_on_the_grid_of_the_image(
    cohort: Cohort, name: str, grid: tuple[int, int, int]
) -> None:
    few = cohort.subset(range(3))
    model = TwoBe3Net(**SMALL, inputs=(name,), cache=STORE)
    ((stack, values),) = model.make_inputs().extract(few, few.subjects[1])
    assert stack == f"axial-{name.removeprefix('map-')}"
    ((_, maps),) = model.maps.extract(few, few.subjects[1])
    lengths = maps.shape[1:]
    assert values.shape == (2 * len(maps), *grid)
    for position in np.ndindex(*grid):
        # The voxels that torch documents for adaptive pooling: from floor(i n / m) to ceil((i + 1) n / m).
        where = tuple(slice(i * n // m, -(-(i + 1) * n // m)) for i, n, m in zip(position, lengths, grid, strict=True))
        cells = maps[(slice(None), *where)].reshape(len(maps), -1).astype(np.float32)
        expected = np.concatenate([cells.mean(axis=1), cells.max(axis=1)])
        np.testing.assert_allclose(values[(slice(None), *position)], expected, rtol=2e-3, atol=1e-4)
