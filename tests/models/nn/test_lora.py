"""Fine-tuning: it starts at the frozen model, changes what it should and nothing else, and ends in ordinary weights."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.metrics import log_loss
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from twobe3.cohort.cohort import Cohort
from twobe3.features.backbones import Backbone, load_backbone
from twobe3.features.maps import MapExtractor
from twobe3.features.slices import Plane, SliceSpec
from twobe3.io.cache import Cache
from twobe3.models import CNN2D, TwoBe3Net
from twobe3.models.nn import lora as finetune
from twobe3.models.nn import training
from twobe3.models.nn.lora import EndToEnd, Finetune, LoRALayer, SliceMaps, merge_lora, unfreeze
from twobe3.models.nn.neural_model import NeuralModel
from twobe3.models.nn.pca import Projection
from twobe3.scans.scan import ArrayScan

STORE = Cache()
PLANES: tuple[Plane, ...] = ("coronal", "axial", "sagittal")
LAYERS = (3, 1)
PHANTOM: dict[str, Any] = {"backbone": "phantom-resnet10", "layer": 2, "slice_size": 32, "cache": STORE}
TIMM: dict[str, Any] = {**PHANTOM, "backbone": "mobilenetv2_100.tf", "weights": "random", "layer": 3}
SMALL: dict[str, Any] = {
    "components": 4, "reduced_channels": 4, "width": 4, "ensemble_size": 1, "batch_size": 8, "epochs": 2,
    "finetune_epochs": 1
}  # fmt: skip
HOW: tuple[Finetune, ...] = ("low-rank", "last-stage", "all")


def padded(cohort: Cohort) -> Cohort:
    """The cohort with slices of padding in every plane."""
    subjects = []
    for subject in cohort.subjects:
        volume = subject.scan.suv()
        array = volume.array.copy()
        array[:5] = array[:, 12:] = array[:, :, :2] = 0.0
        subjects.append(replace(subject, scan=ArrayScan(replace(volume, array=array))))
    return replace(cohort, subjects=tuple(subjects))


@pytest.fixture(scope="module")
def cohort(make_cohort: Callable[..., Cohort]) -> Cohort:
    return padded(make_cohort(10, ("binary", "time-to-event", "continuous")))


@pytest.fixture(scope="module")
def binary(cohort: Cohort) -> Cohort:
    return cohort.for_endpoint("relapse")


def suv_of(cohort: Cohort) -> torch.Tensor:
    return torch.from_numpy(np.stack([cohort.volume(subject) for subject in cohort.subjects])).unsqueeze(1)


def unprojected(backbone: Backbone, slices: SliceSpec, layers: Sequence[int] = LAYERS) -> SliceMaps:
    """Maps of all planes under a projection that changes nothing."""
    with torch.no_grad():
        maps = [finetune.intermediates(backbone.network, torch.zeros(1, 3, 32, 32), [layer])[0] for layer in layers]
    same = [Projection(np.zeros(one.shape[1]), np.eye(one.shape[1])) for one in maps for _ in PLANES]
    return SliceMaps(backbone, layers, PLANES, slices, same)


@pytest.mark.parametrize("windows", [(5.0, 10.0, 25.0), (7.0,)])
@pytest.mark.parametrize(("name", "weights"), [("phantom-resnet10", "pretrained"), ("mobilenetv2_100.tf", "random")])
def test_before_any_tuning_the_maps_are_those_of_the_store(
    name: str, weights: str, windows: tuple[float, ...], cohort: Cohort
) -> None:
    backbone, slices, few = load_backbone(name, weights), SliceSpec(windows, 32), cohort.subset(range(2))
    stacks = unprojected(backbone, slices)(suv_of(few))
    assert len(stacks) == len(LAYERS) * len(PLANES)
    for number, layer in enumerate(LAYERS):
        extractor = MapExtractor(backbone, layer, PLANES, slices, STORE)
        for row, subject in enumerate(few.subjects):
            for plane, (_, stored) in enumerate(extractor.extract(few, subject).items()):
                got = stacks[number * len(PLANES) + plane][row].detach().numpy()
                rounding = 4e-6 * np.abs(got).max()  # of single precision: the store's network has its norms folded in
                np.testing.assert_allclose(got, stored.astype(np.float32), rtol=2**-10, atol=rounding)


@pytest.mark.parametrize("endpoint", ["relapse", "survival", "uptake"])
@pytest.mark.parametrize(("how", "endpoints"), [*((how, "own") for how in HOW), ("low-rank", "all")])
def test_before_the_first_step_the_prediction_is_that_of_the_frozen_model(
    how: Finetune, endpoints: str, endpoint: str, cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = cohort.for_endpoint(endpoint)
    options: dict[str, Any] = {"planes": ("axial", "sagittal"), "covariates": ("age_years",), "endpoints": endpoints}
    model = TwoBe3Net(**PHANTOM, **SMALL, **options, finetune=how)
    NeuralModel._fit(model, one)
    frozen = model._risk(one)
    monkeypatch.setattr(training, "warmup_cosine", lambda steps: lambda step: 0.0)  # steps of length 0
    model.train_end_to_end(one)
    assert isinstance(model.networks_[0], EndToEnd)
    np.testing.assert_allclose(model._risk(one), frozen, rtol=1e-3, atol=1e-3 * frozen.std())


def resnet_expected(how: Finetune, name: str, value: torch.Tensor) -> bool:
    """Layer 2 of MONAI's ResNet: the stem and two stages."""
    if how == "low-rank":
        return name.startswith(("conv1.", "layer1.", "layer2.")) and value.dim() == 4
    return name.startswith(("layer2.",) if how == "last-stage" else ("conv1.", "bn1.", "layer1.", "layer2."))


def mobilenet_expected(how: Finetune, name: str, value: torch.Tensor) -> bool:
    """Layer 3 of MobileNetV2, of stride 16: two groups of blocks have this stride."""
    if how == "last-stage":
        return name.startswith(("blocks.3.", "blocks.4."))
    reached = name.startswith(("conv_stem.", "bn1.", *(f"blocks.{number}." for number in range(5))))
    return reached and (how == "all" or (value.dim() == 4 and "conv_dw" not in name))


@pytest.mark.parametrize(("parameters", "expected"), [(PHANTOM, resnet_expected), (TIMM, mobilenet_expected)])
@pytest.mark.parametrize("how", HOW)
def test_what_is_to_be_tuned_changes_and_nothing_else(
    how: Finetune, parameters: dict[str, Any], expected: Callable[..., bool], binary: Cohort
) -> None:
    model = TwoBe3Net(**parameters, **SMALL, finetune=how)
    before = copy.deepcopy(model.maps.backbone.network.state_dict())
    tuned = model.fit(binary).networks_[0].maps.network.state_dict()
    assert tuned.keys() == before.keys()  # an ordinary 2D network
    changed = {name for name in before if not torch.equal(before[name], tuned[name])}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {
        name for name, value in before.items() if expected(how, name, value) and not name.endswith(statistics)
    }
    frozen = model.maps.backbone.network.state_dict()
    assert all(torch.equal(frozen[name], before[name]) for name in before)


def test_tuning_starts_at_the_frozen_fit_and_lowers_the_training_loss(binary: Cohort) -> None:
    how = {**PHANTOM, **SMALL, "epochs": 10, "finetune_epochs": 10, "finetune_learning_rate": 1e-3}
    losses = [
        log_loss(binary.outcomes.event, TwoBe3Net(**how, finetune=which).fit(binary).predict(binary).probability)
        for which in ("none", "all")
    ]
    assert losses[1] < losses[0]


def test_a_low_rank_product_is_a_second_convolution_other_outputs_the_first() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(5, 7, 3, stride=2, padding=1, bias=False).requires_grad_(False)
    weight, pictures = convolution.weight.clone(), torch.randn(2, 5, 9, 9)
    parametrize.register_parametrization(convolution, "weight", LoRALayer(convolution.weight, 2))
    assert torch.equal(convolution(pictures), functional.conv2d(pictures, weight, stride=2, padding=1))
    adapter = convolution.parametrizations["weight"][0]
    nn.init.normal_(adapter.b)
    thin = functional.conv2d(pictures, adapter.a.view(2, 5, 3, 3), stride=2, padding=1)
    beside = functional.conv2d(pictures, weight, stride=2, padding=1) + functional.conv2d(
        thin, adapter.b[:, :, None, None]
    )
    torch.testing.assert_close(convolution(pictures), beside)
    assert {name for name, value in convolution.named_parameters() if value.requires_grad} == {
        "parametrizations.weight.0.a", "parametrizations.weight.0.b",
    }  # fmt: skip


def test_merged_low_rank_products_say_what_they_said_other_outputs_the_weights(binary: Cohort) -> None:
    backbone, suv = load_backbone("phantom-resnet10"), suv_of(binary.subset([0]))
    slices = SliceSpec(size=32)
    maps = unprojected(unfreeze(backbone, LAYERS, "low-rank", rank=3, picture_size=32), slices)
    torch.manual_seed(0)
    for name, value in maps.named_parameters():
        if name.endswith(".b"):
            nn.init.normal_(value, std=0.1)
    with torch.no_grad():
        before = maps(suv)
        frozen = unprojected(backbone, slices)(suv)
        after = merge_lora(maps)(suv)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(before, frozen, strict=True))
    assert not any(parametrize.is_parametrized(module) for module in maps.modules())


@pytest.mark.parametrize("how", HOW)
def test_gradients_are_those_without_computing_activations_again(
    how: Finetune, binary: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, suv = load_backbone("phantom-resnet10"), suv_of(binary.subset([0, 1]))
    torch.manual_seed(0)
    maps = unprojected(unfreeze(backbone, LAYERS, how, rank=3, picture_size=32), SliceSpec(size=32)).train()
    trained = [value for value in maps.parameters() if value.requires_grad]

    def gradients() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(sum(one.square().mean() for one in maps(suv)), trained)

    again = gradients()
    monkeypatch.setattr(finetune, "checkpoint", lambda function, *arguments, **_: function(*arguments))
    for one, other in zip(again, gradients(), strict=True):
        assert torch.equal(one, other)
    assert any(one.abs().max() > 0 for one in again)


@pytest.mark.parametrize("layers", [(3,), (2,), (1,), (0, 3)])
def test_layers_that_pool_the_same_maps_have_one_last_stage(layers: tuple[int, ...]) -> None:
    network = unfreeze(load_backbone("pet-lesions"), layers, "last-stage", rank=1, picture_size=16).network
    names = {name for name, value in network.named_parameters() if value.requires_grad}
    assert names == {name for name, _ in network.named_parameters() if name.startswith("head.")}


def test_the_2d_network_is_never_in_training_mode(binary: Cohort) -> None:
    maps = unprojected(load_backbone("phantom-resnet10"), SliceSpec(size=32)).train()
    assert not any(module.training for module in maps.modules())


def test_a_file_has_the_frozen_network_once_and_of_each_member_what_was_tuned(binary: Cohort, tmp_path: Path) -> None:
    model = CNN2D(**PHANTOM, **SMALL | {"ensemble_size": 2}, finetune="last-stage").fit(binary)
    with safe_open(model.save(tmp_path), framework="numpy") as stored:
        names = list(stored.keys())
    frozen = model.maps.backbone.network
    assert {name for name in names if name.startswith("backbone.")} == {
        f"backbone.{key}" for key in frozen.state_dict()
    }
    of_members = {name for name in names if ".maps." in name}
    tuned = {name for name, _ in frozen.named_parameters() if name.startswith("layer2.")}
    assert of_members == {f"member{member}.maps.network.{name}" for member in range(2) for name in tuned}


@pytest.mark.parametrize("parameters", [PHANTOM, TIMM])
def test_a_tuned_model_travels_to_other_processes(parameters: dict[str, Any], binary: Cohort) -> None:
    model = TwoBe3Net(**{**parameters, "cache": Cache()}, **SMALL, finetune="low-rank").fit(binary)
    there: TwoBe3Net = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(there.predict(binary).risk, model.predict(binary).risk)


def test_how_it_is_tuned_is_part_of_the_identity_and_of_the_size(binary: Cohort) -> None:
    models = [TwoBe3Net(**PHANTOM, **SMALL, finetune=how, inputs=("maps",)) for how in ("none", *HOW)]
    models += [replace(models[1], **{name: 7}) for name in ("rank", "finetune_epochs", "finetune_learning_rate")]
    assert len({model.cache_key() for model in models}) == len(models)
    none, low_rank, last_stage, everything, *_ = (model.report(binary).size["trainable_parameters"] for model in models)
    assert none < low_rank < last_stage < everything
    network = models[0].maps.backbone.network
    reached = (network.conv1, network.bn1, network.layer1, network.layer2)
    assert everything - none == sum(value.numel() for module in reached for value in module.parameters())
    assert last_stage - none == sum(value.numel() for value in network.layer2.parameters())
