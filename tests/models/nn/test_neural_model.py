"""Options of the trained networks: hazards with curves, several layers, augmented scans, capacity, MONAI's networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks.nets.resnet import resnet10
from safetensors.torch import save_file
from sksurv.metrics import concordance_index_censored

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid
from twobe3.core.outcomes import Kind
from twobe3.core.prediction import Prediction
from twobe3.features.backbones import Backbone
from twobe3.features.slices import SliceSpec
from twobe3.io.cache import Cache
from twobe3.models import CNN2D, CNN3D, TwoBe3Net, load_model
from twobe3.models.nn import neural_model as trained
from twobe3.models.nn import size as capacity
from twobe3.models.nn.feature_maps import FeatureMaps
from twobe3.models.nn.inputs import StackInputs
from twobe3.models.nn.networks import PlanesNetwork, StackBranch, VolumeNetwork
from twobe3.models.nn.neural_model import NeuralModel
from twobe3.models.nn.training import TrainingParameters, train_ensemble
from twobe3.validation.recalibration import observed_times, survival_at
from twobe3.validation.thresholds import ThresholdPolicy, fit_predict

STORE = Cache()
MAPS: dict[str, Any] = {"backbone": "resnet18", "weights": "random", "layer": 2, "slice_size": 32, "cache": STORE}
SMALL: dict[str, Any] = {"epochs": 2, "ensemble_size": 2, "components": 4, "reduced_channels": 4, "width": 4}
TINY3D: dict[str, Any] = {"epochs": 1, "width": 4}

MakeCohort = Callable[..., Cohort]


@pytest.fixture(scope="module")
def survival(make_cohort: MakeCohort) -> Cohort:
    cohort: Cohort = make_cohort(30, ("time-to-event",))
    return cohort


@pytest.fixture(scope="module")
def binary(make_cohort: MakeCohort) -> Cohort:
    cohort: Cohort = make_cohort(12, ("binary",))
    return cohort


def test_a_model_is_its_inputs_its_network_and_the_training_put_together(binary: Cohort) -> None:
    model = TwoBe3Net(**MAPS, **SMALL, inputs=("maps",)).fit(binary)
    maps = FeatureMaps("resnet18", "random", 2, ("axial",), SliceSpec(size=32), STORE)
    inputs = StackInputs(maps, components=4).fit(binary)

    def make() -> PlanesNetwork:
        branch = StackBranch(inputs.shapes["axial"], reduced=4, width=4, taps=4, smoothing=True)
        return PlanesNetwork({"axial": branch}, dropout=0.2)

    how = TrainingParameters(epochs=2, ensemble_size=2, learning_rate=3e-3, shift_share=0.125)
    networks = train_ensemble(make, inputs.transform(binary), binary.outcomes, how, 0)
    for ours, plain in zip(model.networks_, networks, strict=True):
        state = plain.state_dict()
        assert ours.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())


def test_the_defaults_of_the_training_are_those_of_the_model() -> None:
    of_model = {item.name: item.default for item in fields(NeuralModel)}
    for item in fields(TrainingParameters):
        assert of_model[item.name].default == item.default


def test_the_hazard_head_gives_curves_that_fall_and_a_risk_that_ranks_patients(survival: Cohort) -> None:
    model = TwoBe3Net(**MAPS, **SMALL | {"epochs": 30}, learning_rate=3e-3, head="hazard", intervals=5)
    prediction = model.fit(survival).predict(survival)
    assert prediction.survival is not None
    assert prediction.times is not None
    assert len(prediction.times) == 5
    assert prediction.times[-1] == survival.outcomes.value[survival.outcomes.event].max()
    assert (np.diff(prediction.survival, axis=1, prepend=1.0) < 0).all()
    outcomes = survival.outcomes
    concordance = concordance_index_censored(outcomes.event, outcomes.value, prediction.risk)[0]
    assert concordance > 0.75
    by_curve = concordance_index_censored(outcomes.event, outcomes.value, -prediction.survival.mean(axis=1))[0]
    assert concordance == pytest.approx(by_curve, abs=0.05)


def test_a_fold_keeps_the_curves_that_a_model_has_and_recalibrates_where_it_is_asked_to(survival: Cohort) -> None:
    train, test = survival.subset(range(20)), survival.subset(range(20, 30))
    times = observed_times(survival.outcomes)
    model = TwoBe3Net(**MAPS, **SMALL, head="hazard", intervals=4)
    kept = fit_predict(model, train, test, times, ThresholdPolicy())
    own = model.predict(test)
    assert kept.times is times
    np.testing.assert_allclose(kept.survival, survival_at(own, times))
    recalibrated = fit_predict(model, train, test, times, ThresholdPolicy(recalibrate=True, inner_folds=2))
    assert recalibrated.survival is not None
    assert not np.allclose(recalibrated.survival, survival_at(own, times))


def test_curves_between_their_times_have_a_constant_hazard() -> None:
    survival = np.array([[0.8, 0.4], [0.5, 0.5]])
    prediction = Prediction("m", "e", ("a", "b"), np.zeros(2), survival=survival, times=np.array([10.0, 30.0]))
    got = survival_at(prediction, np.array([0.0, 5.0, 10.0, 20.0, 30.0, 99.0]))
    np.testing.assert_allclose(got[0], [1.0, np.sqrt(0.8), 0.8, np.sqrt(0.8 * 0.4), 0.4, 0.4])
    np.testing.assert_allclose(got[1, 2:], 0.5)


@pytest.mark.parametrize("kind", ["binary", "continuous"])
def test_the_hazard_head_is_for_times_alone(kind: Kind, make_cohort: MakeCohort) -> None:
    cohort = make_cohort(12, (kind,))
    risks = [TwoBe3Net(**MAPS, **SMALL, head=head).fit(cohort).predict(cohort) for head in ("risk", "hazard")]
    np.testing.assert_array_equal(risks[0].risk, risks[1].risk)
    assert risks[1].survival is None


TUNED: dict[str, Any] = {
    **MAPS, **SMALL, "backbone": "phantom-resnet10", "weights": "pretrained", "finetune_epochs": 2,
}  # fmt: skip
OPTIONS: list[tuple[type[NeuralModel], dict[str, Any]]] = [
    (TwoBe3Net, {**MAPS, **SMALL, "head": "hazard", "intervals": 3, "augmentations": 1, "test_time": "average"}),
    (TwoBe3Net, {**MAPS, **SMALL, "layer": (1, 3), "planes": ("axial", "sagittal"), "anisotropy": "spacing"}),
    (TwoBe3Net, {**MAPS, **SMALL, "capacity": "auto", "stopping_share": 0.25, "batches": "stratified"}),
    (CNN2D, {**MAPS, **SMALL, "layer": (2, 3), "augmentations": 1, "head": "hazard", "covariates": ("age_years",)}),
    (TwoBe3Net, {**TUNED, "finetune": "all", "layer": (2, 1), "planes": ("axial", "sagittal"), "covariates": ("sex",),
                 "augmentations": 1, "test_time": "average"}),
    (CNN2D, {**TUNED, "finetune": "last-stage", "head": "hazard", "stopping_share": 0.25, "batches": "stratified",
             "capacity": "auto"}),
    (CNN3D, {**TINY3D, "head": "hazard", "augmentations": 1, "test_time": "average", "capacity": "auto"}),
    (CNN3D, {"epochs": 1, "network": "resnet10", "windows_suv": (10.0,), "covariates": ("sex",)}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "parameters"), OPTIONS)
def test_with_any_options_a_model_is_the_same_twice_and_out_of_its_file(
    kind: type[NeuralModel], parameters: dict[str, Any], survival: Cohort, tmp_path: Path
) -> None:
    few = survival.subset(range(10))
    model = kind(**parameters)
    first = model.fit(few).predict(few)
    second = kind(**parameters).fit(few).predict(few)
    loaded = load_model(model.save(tmp_path), cache=STORE).predict(few)
    for other in (second, loaded):
        np.testing.assert_array_equal(other.risk, first.risk)
        assert (other.survival is None) == (first.survival is None)
        if first.survival is not None and other.survival is not None:
            np.testing.assert_array_equal(other.survival, first.survival)


def test_every_plane_of_every_layer_has_a_branch_and_all_reach_the_risk(binary: Cohort) -> None:
    model = TwoBe3Net(**{**MAPS, **SMALL, "layer": (1, 3), "inputs": ("maps",), "planes": ("axial", "sagittal")}).fit(
        binary
    )
    names = ["axial-1", "sagittal-1", "axial-3", "sagittal-3"]
    assert list(model.inputs_.shapes) == names
    assert [model.inputs_.shapes[name][2:] for name in names] == [(8, 8), (8, 8), (2, 2), (2, 2)]
    inputs = model._transform(binary, 0)
    network = model.networks_[0]
    values = [stack.values.requires_grad_() for stack in inputs]
    gradients = torch.autograd.grad(network(values).sum(), values)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    assert [stack.left_right_axis for stack in inputs] == [-1, -3, -1, -3]


def test_positions_of_maps_are_as_far_apart_as_the_grid_and_the_stride_say(binary: Cohort) -> None:
    cohort = replace(binary, grid=Grid((4.0, 8.0, 16.0), (128.0, 256.0, 512.0)))
    model = TwoBe3Net(**{**MAPS, **SMALL, "inputs": ("maps",), "planes": ("axial", "coronal", "sagittal")})
    model.fit_head(cohort)
    model.fit_inputs(cohort.subset([0]))
    # Pictures of 32 pixels at stride 8: 4 positions along each side; each slice is one position along the stack.
    assert model.inputs_.spacings_mm == {
        "axial": (4.0, 64.0, 128.0), "coronal": (8.0, 32.0, 128.0), "sagittal": (16.0, 32.0, 64.0),
    }  # fmt: skip


def test_augmented_maps_are_kept_like_those_of_the_scan(
    binary: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, cache = binary.subset(range(4)), Cache(tmp_path)
    how = {**MAPS, **SMALL, "augmentations": 2, "test_time": "average", "cache": cache}
    model = TwoBe3Net(**how, inputs=("maps",))
    model.precompute(few)
    assert cache.computed == 12

    def computes(*_: Any) -> None:
        raise AssertionError("the 2D network ran again")

    monkeypatch.setattr(Backbone, "maps", computes)
    model.fit(few).predict(few)
    TwoBe3Net(**how | {"augmentations": 1}, inputs=("maps",)).fit(few)


def test_averaging_over_augmented_scans_changes_predictions_and_not_the_training(binary: Cohort) -> None:
    how = {**MAPS, **SMALL, "augmentations": 1}
    single, average = (TwoBe3Net(**how, test_time=one, inputs=("maps",)).fit(binary) for one in ("single", "average"))
    for one, other in zip(single.networks_, average.networks_, strict=True):
        for first, second in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(first, second)
    assert np.abs(single.predict(binary).risk - average.predict(binary).risk).max() > 1e-6


def test_the_automatic_capacity_is_that_of_the_training_patients_and_is_told(
    make_cohort: MakeCohort, binary: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = TwoBe3Net(**{**MAPS, **SMALL, "width": 32}, capacity="auto")
    few = model.report(binary).size  # 6 of 12
    assert few["capacity"] == {"components": 32, "reduced_channels": 16, "width": 16, "dropout": 0.2}
    model.fit(binary)
    trained_ones = sum(value.numel() for value in model.networks_[0].parameters())
    assert few["trainable_parameters"] == trained_ones
    assert few["events_per_parameter"] == pytest.approx(6 / trained_ones)
    monkeypatch.setattr(capacity, "STEPS", ((20, capacity.STEPS[0][1]), capacity.STEPS[1]))
    assert model.report(make_cohort(50, ("binary",))).size["capacity"]["width"] == 32  # 25 of 50
    assert CNN3D(capacity="auto", width=4).report(binary).size["capacity"]["width"] == 16
    assert TwoBe3Net(**MAPS, **SMALL).report(binary).size["capacity"]["width"] == 4


def test_telling_leaves_a_fitted_model_as_it_was(binary: Cohort, make_cohort: MakeCohort) -> None:
    model = TwoBe3Net(**MAPS, **SMALL, capacity="auto").fit(binary)
    before = model.predict(binary).risk
    model.report(make_cohort(50, ("time-to-event",)))
    np.testing.assert_array_equal(model.predict(binary).risk, before)


def test_a_users_weights_are_where_the_3d_network_starts(
    binary: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    started: list[VolumeNetwork] = []
    original = resnet10(n_input_channels=1, conv1_t_stride=2, feed_forward=False, bias_downsample=False)
    save_file(original.state_dict(), tmp_path / "weights.safetensors")

    def starts(make: Callable[[], VolumeNetwork], *_: Any) -> list[VolumeNetwork]:
        started.append(make())
        return started

    monkeypatch.setattr(trained, "train_ensemble", starts)
    weights = str(tmp_path / "weights.safetensors")
    CNN3D(network="resnet10", weights=weights, windows_suv=(10.0,)).fit(binary.subset(range(4)))
    for key, value in started[0].body.state_dict().items():
        assert torch.equal(value, original.state_dict()[key])


def test_a_volume_too_small_for_a_network_is_refused(binary: Cohort) -> None:
    with pytest.raises(ConfigurationError, match="densenet121 needs 32 voxels") as caught:
        CNN3D(network="densenet121").fit(binary)
    assert caught.value.code is Code.STUDY_FILE_INVALID


@pytest.mark.parametrize("layer", [5, (1, 7)])
def test_a_layer_out_of_range_is_refused_before_any_scan_is_read(layer: Any) -> None:
    with pytest.raises(ConfigurationError, match="layers 0 to 4") as caught:
        TwoBe3Net(**{**MAPS, "layer": layer}).cache_key()
    assert caught.value.code is Code.LAYER_OUT_OF_RANGE


@pytest.mark.parametrize("layer", [(), (2, 2)])
def test_layers_must_be_different_ones(layer: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="layer"):
        TwoBe3Net(layer=layer)
