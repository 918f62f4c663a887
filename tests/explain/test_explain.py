"""The pathway is the model; a planted sphere is found; checks tell a map that says nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from tests.conftest import MakeCohort
from tests.explain.pathways import Corner

import twobe3 as tb
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import FloatArray
from twobe3.explain import map_source
from twobe3.explain.attribution import integrated_gradients
from twobe3.explain.checks import (
    block_edge,
    block_sums,
    check_agreement,
    check_contour,
    check_deletion,
    check_randomised,
    randomise,
)
from twobe3.explain.contributions import MOST_EXACT, explain_by_parts, shapley_values
from twobe3.explain.explain import explain
from twobe3.explain.images import read_images
from twobe3.explain.pathway import build_pathway, has_pathway
from twobe3.io.cache import Cache
from twobe3.models import CNN2D, CNN3D, Baseline, Fusion, PooledModel, RadiomicsModel, TwoBe3Net
from twobe3.models.learners.learner import LearnerName
from twobe3.models.model import Model

STORE = Cache()
QUICK: dict[str, Any] = {"epochs": 2, "cache": STORE}
PHANTOM: dict[str, Any] = {"backbone": "phantom-resnet10", "weights": "random", "slice_size": 32, "layer": 2}
MODELS: dict[str, Model] = {
    "default": TwoBe3Net(**QUICK, inner_folds=2),
    "maps": TwoBe3Net(**QUICK, **PHANTOM, inputs=("maps",), planes=("axial", "coronal"), components=4),
    "maps of two layers, with age": TwoBe3Net(
        **QUICK, inputs=("maps", "map-profile", "profile"), layer=(2, 3), weighing="joint", covariates=("age_years",)
    ),
    "image": TwoBe3Net(**QUICK, inputs=("image", "profile", "image-coronal", "image-sagittal"), weighing="joint"),
    "wavelets": TwoBe3Net(**QUICK, inputs=("wavelets",), components=8),
    "fine-tuned": TwoBe3Net(
        **QUICK, **PHANTOM, finetune="last-stage", finetune_epochs=1, ensemble_size=2, inputs=("maps", "profile")
    ),
    "cnn2d": CNN2D(**QUICK, planes=("axial", "sagittal")),
    "cnn3d": CNN3D(epochs=2, ensemble_size=2, covariates=("age_years",)),
    "pooled": PooledModel(cache=STORE),
    "pooled over planes, with age": PooledModel(cache=STORE, pool_planes=True, covariates=("age_years",)),
    "pooled, projected": PooledModel(cache=STORE, planes=("axial",), projection=4, statistics=("max", "std")),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_pathway_gives_the_risk_of_the_model(name: str, make_cohort: MakeCohort) -> None:
    cohort = make_cohort(16)
    model = MODELS[name].clone().fit(cohort)
    risks = model.predict(cohort).risk
    for i in (0, 7):
        path = build_pathway(model, cohort.subset([i]))
        with torch.no_grad():
            images = torch.from_numpy(read_images(cohort.subset([i]), path.modalities))
            risk = float(path(images))
            path.rounded = True
            rounded = float(path(images))
        assert risk == pytest.approx(risks[i], abs=2e-2 * (1 + np.ptp(risks)))  # maps are kept in half precision
        assert rounded == pytest.approx(risks[i], abs=1e-4)


def test_a_hazard_becomes_the_same_risk(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(24, ("time-to-event",))
    model = CNN3D(epochs=1, head="hazard", intervals=3).fit(cohort)
    path = build_pathway(model, cohort.subset([3]))
    with torch.no_grad():
        risk = float(path(torch.from_numpy(cohort.volume(cohort.subjects[3])[None])))
    assert risk == pytest.approx(model.predict(cohort).risk[3], rel=1e-4)


@pytest.mark.parametrize("name", ["default", "maps", "cnn2d", "cnn3d", "pooled"])
@pytest.mark.parametrize("method", ["integrated-gradients", "grad-cam"])
def test_maps_are_finite_and_of_the_grid(name: str, method: Any, make_cohort: MakeCohort) -> None:
    cohort = make_cohort(16)
    found = explain(MODELS[name].clone().fit(cohort), cohort.subset([2]), method=method, checks=False)
    assert found.values.shape == cohort.grid.shape
    assert np.isfinite(found.values).all()
    assert found.values.any()


@pytest.mark.parametrize("name", ["default", "cnn2d", "cnn3d", "pooled"])
def test_integrated_gradients_are_those_of_captum(name: str, make_cohort: MakeCohort) -> None:
    cohort = make_cohort(16)
    model, alone = MODELS[name].clone().fit(cohort), cohort.subset([2])
    path, scan = build_pathway(model, alone), torch.from_numpy(cohort.volume(cohort.subjects[2])[None])

    def risks(scans: torch.Tensor) -> torch.Tensor:
        return torch.stack([path(one) for one in scans])

    expected = IntegratedGradients(risks, multiply_by_inputs=True).attribute(
        scan[None], torch.zeros_like(scan)[None], n_steps=3, method="gausslegendre", internal_batch_size=1
    )[0]
    found = integrated_gradients(path, scan.numpy())
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-6 + 1e-4 * float(expected.abs().max()))


def test_activations_kept_or_computed_again_give_one_map(
    make_cohort: MakeCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = make_cohort(16)
    model, alone = MODELS["default"].clone().fit(cohort), cohort.subset([2])
    kept = explain(model, alone, checks=False).values
    monkeypatch.setattr(map_source, "MOST_KEPT_BYTES", 0)
    np.testing.assert_array_equal(explain(model, alone, checks=False).values, kept)


def test_the_sphere_that_decides_holds_the_maximum(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(30)
    model = PooledModel(cache=Cache(), planes=("axial",)).fit(cohort)
    hot = np.argsort(model.predict(cohort).risk)[-8:]
    inside = [
        cohort.contour(cohort.subjects[i]).ravel()[explain(model, cohort.subset([i]), checks=False).values.argmax()]
        for i in hot
    ]
    assert sum(inside) >= 7


def test_checks_stand_beside_the_map(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(16)
    model, alone = MODELS["default"].clone().fit(cohort), cohort.subset([1])
    contour = cohort.contour(cohort.subjects[1])
    found = explain(model, alone, contour=contour)
    names = [check.name for check in found.checks]
    assert len(names) == len(set(names)) == 6
    assert found.passed == all(check.passed is not False for check in found.checks)
    assert found.risk == pytest.approx(model.predict(alone.without_outcomes()).risk[0])


def test_a_map_without_regard_to_the_model_fails_its_checks(make_cohort: MakeCohort) -> None:
    """The scan itself as map: the same for a model that has learnt nothing."""
    suv = make_cohort(4).volume(make_cohort(4).subjects[0])
    edge = block_edge((8.0, 8.0, 8.0))
    assert check_randomised(suv, suv, suv, edge).passed is False
    assert check_agreement(suv, -suv, suv, edge, "another").passed is False
    assert check_agreement(suv, np.zeros_like(suv), suv, edge, "nothing").passed is None


def test_deletion_and_insertion_tell_the_place_that_matters_from_another() -> None:
    suv = np.random.default_rng(0).uniform(0.5, 1.5, (1, 8, 8, 8)).astype(np.float32)
    suv[0, :2, :2, :2] = suv[0, 6:, 6:, 6:] = 9.0
    right, wrong = np.zeros_like(suv), np.zeros_like(suv)
    right[0, :2, :2, :2], wrong[0, 6:, 6:, 6:], wrong[0, :2, :2, :2] = 1.0, 1.0, -1.0
    found = check_deletion(Corner(), right, suv, (2, 2, 2))
    assert [check.passed for check in found] == [True, True]
    assert found[0].value == pytest.approx(9.0 - np.median(suv), rel=1e-5)  # the corner is the first to go
    assert [check.passed for check in check_deletion(Corner(), wrong, suv, (2, 2, 2))] == [False, False]


def test_the_share_in_the_contour_is_counted() -> None:
    values, contour = np.zeros((4, 4, 4), np.float32), np.zeros((4, 4, 4), np.bool_)
    values[0, 0], contour[0, 0, :2] = (1.0, 2.0, 1.0, -5.0), True
    share, voxels = check_contour(values[None], contour)
    assert (share.value, voxels.value) == (pytest.approx(0.75), pytest.approx(2 / 64))


def test_block_sums_keep_the_sum() -> None:
    values = np.random.default_rng(0).random((7, 5, 9)).astype(np.float32)
    sums = block_sums(values, (3, 2, 4))
    assert sums.shape == (3, 3, 3)
    assert sums.sum() == pytest.approx(values.sum())


def test_an_untrained_copy_leaves_the_model_as_it_is(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(16)
    model = MODELS["image"].clone().fit(cohort)
    before = model.predict(cohort).risk
    assert not np.allclose(randomise(model).predict(cohort).risk, before)
    np.testing.assert_array_equal(model.predict(cohort).risk, before)


@pytest.mark.parametrize("learner", ["elastic-net", "random-forest", "gradient-boosting", "icare"])
@pytest.mark.parametrize("harmonise", ["none", "combat"])
def test_features_of_a_radiomics_model_add_up(
    learner: LearnerName, harmonise: Literal["none", "combat"], make_cohort: MakeCohort
) -> None:
    cohort = make_cohort(16)
    if harmonise == "combat":
        centres = (replace(one, centre="AB"[i % 2]) for i, one in enumerate(cohort.subjects))
        cohort = replace(cohort, subjects=tuple(centres))
    model = RadiomicsModel(cache=STORE, spacing_mm=8.0, learner=learner, harmonise=harmonise, trees=5).fit(cohort)
    parts, risk = explain_by_parts(model, cohort), model.predict(cohort).risk
    assert parts
    rest = risk - np.sum(list(parts.values()), axis=0)
    for same in (slice(0, None, 2), slice(1, None, 2)):  # ComBat moves the usual patient with the centre
        np.testing.assert_allclose(rest[same], rest[same][0], atol=1e-9)


@pytest.mark.parametrize("p", [MOST_EXACT, MOST_EXACT + 5])
def test_shapley_values_of_known_games(p: int) -> None:
    """Sundararajan & Najmi 2020: linear, a product of two, an unused feature; by every set and by random orders."""
    rng = np.random.default_rng(3)
    weights, features, usual = rng.normal(size=(3, p))
    weights[0] = 0

    def risk(x: FloatArray) -> FloatArray:
        return x @ weights + 5

    np.testing.assert_allclose(shapley_values(risk, features, usual), weights * (features - usual), atol=1e-12)
    product = shapley_values(lambda x: x[:, 1] * x[:, 2], np.full(p, 3.0), np.zeros(p))
    np.testing.assert_allclose(product, [0, 4.5, 4.5, *[0] * (p - 3)], atol=1e-12)


def test_what_has_no_map_is_refused_with_a_code(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(16)
    for model in (Baseline("image_extent"), Fusion(of=[Baseline("image_extent"), Baseline("age")])):
        assert not has_pathway(model)
        with pytest.raises(ConfigurationError, match="no map of voxels") as refusal:
            explain(model.fit(cohort), cohort.subset([0]))
        assert refusal.value.code.name == "NO_PATHWAY"
        assert refusal.value.remedy


def test_another_grid_is_refused(make_cohort: MakeCohort) -> None:
    cohort = make_cohort(16)
    model = MODELS["image"].clone().fit(cohort)
    model.grid_ = tb.Grid(4.0, 128.0)
    with pytest.raises(ConfigurationError) as refusal:
        explain(model, cohort.subset([0]))
    assert refusal.value.code.name == "GRID_MISMATCH"


def test_a_loaded_model_explains_alike(make_cohort: MakeCohort, tmp_path: Path) -> None:
    cohort = make_cohort(16)
    model = MODELS["default"].clone().fit(cohort)
    loaded = tb.models.load(model.save(tmp_path / "m.safetensors"))
    first, second = (explain(one, cohort.subset([4]), checks=False).values for one in (model, loaded))
    np.testing.assert_allclose(second, first, rtol=1e-3, atol=1e-6)
