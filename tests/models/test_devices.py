"""Training off the CPU: every tensor gets where its network is, in any precision; on the CPU the plain loop's bits.

The device of these tests is torch's ``meta``: like a GPU it refuses to mix its tensors with those of the CPU, and it is
on every machine. It holds no numbers, so what comes back from it is made up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from twobe3.core.endpoints import Binary, TimeToEvent
from twobe3.core.outcomes import Outcomes
from twobe3.features.backbones import load_backbone
from twobe3.features.maps import BATCH, MapExtractor
from twobe3.io.cache import Cache
from twobe3.models import CNN3D, Baseline, PooledModel, TwoBe3Net
from twobe3.models.nn import training
from twobe3.models.nn.heads import RiskHead
from twobe3.models.nn.inputs import ModelInput
from twobe3.models.nn.networks import PlanesNetwork, SliceBranch, StackBranch
from twobe3.models.nn.training import (
    TrainingParameters,
    draw_batch,
    ensemble_outputs,
    epoch_batches,
    preload,
    train_ensemble,
)
from twobe3.runtime.device import CPU, Device

META = torch.device("meta")
SHAPE = (2, 4, 5, 6)
HOW = TrainingParameters(epochs=2, batch_size=4, ensemble_size=1, test_time="average", stopping_share=0.2)


def network() -> PlanesNetwork:
    branches: dict[str, StackBranch | SliceBranch] = {
        "stacked": StackBranch(SHAPE, reduced=3, width=3),
        "sliced": SliceBranch(SHAPE, reduced=3, width=3),
    }
    return PlanesNetwork(branches, dropout=0.2, covariates=1)


@pytest.fixture
def inputs() -> list[ModelInput]:
    draw = torch.Generator().manual_seed(2)

    def picture() -> torch.Tensor:
        return torch.randn(10, *SHAPE, generator=draw)

    return [
        *(ModelInput(picture(), -1, (picture(),)) for _ in range(2)),
        ModelInput(torch.randn(10, 1, generator=draw), None),
    ]


@pytest.fixture
def survival() -> Outcomes:
    patients = tuple(f"p{i}" for i in range(10))
    return Outcomes(TimeToEvent("t", "t", "e"), patients, np.arange(10) % 4 + 1.0, np.arange(10) % 3 > 0)


@pytest.fixture
def binary(survival: Outcomes) -> Outcomes:
    event = np.arange(10) % 3 == 0
    return Outcomes(Binary("y", "y"), survival.patients, event.astype(float), event)


class Back(torch.autograd.Function):
    """What the device would give back: numbers of the right shape, and their gradients to where they came from."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return torch.randn(values.shape, dtype=values.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient.to(META)


class Mixed(Device):
    """The CPU, which trains in the mixed precision of GPUs."""

    @property
    def bits(self) -> Any:
        return "bf16"


class Elsewhere(Device):
    """A device that is torch's ``meta``."""

    @property
    def bits(self) -> Any:
        return self.precision

    def maps_key(self) -> str:
        return " on meta"

    def torch_device(self, number: int | None = None) -> torch.device:
        return META

    def fabric(self, devices: int = 1) -> Any:
        made = (Mixed if self.bits == "bf16" else Device)("cpu").fabric()
        made.strategy._root_device = META  # type: ignore[attr-defined]
        made._accelerator.setup_device = lambda device: None  # type: ignore[method-assign]
        return made


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    to_cpu = torch.Tensor.cpu

    def back(values: torch.Tensor) -> torch.Tensor:
        return Back.apply(values) if values.device == META else to_cpu(values)  # type: ignore[no-untyped-call,no-any-return]

    monkeypatch.setattr(torch.Tensor, "cpu", back)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda values: values)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("free", [2**40, 0], ids=["inputs on the device", "batch by batch"])
def test_a_network_is_trained_and_asked_where_its_device_says(
    inputs: list[ModelInput], survival: Outcomes, precision: Any, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2**40))
    seen: list[tuple[torch.device, torch.device]] = []

    class Spy(PlanesNetwork):
        def forward(self, stacks: Sequence[torch.Tensor]) -> torch.Tensor:
            seen.extend((values.device, next(self.parameters()).device) for values in stacks)
            return super().forward(stacks)

    def make() -> nn.Module:
        made = network()
        made.__class__ = Spy
        return made

    device = Elsewhere(precision=precision)
    (trained,) = train_ensemble(make, inputs, survival, HOW, 0, device=device)
    assert set(seen) == {(META, META)}
    assert {value.device.type for value in trained.state_dict().values()} == {"cpu"}
    seen.clear()
    outputs = ensemble_outputs([make()], inputs, HOW, device)
    assert (outputs.shape[:2], outputs.device.type, outputs.dtype) == ((4, 10), "cpu", torch.float64)
    assert set(seen) == {(META, META)}


def test_inputs_stay_on_the_cpu_unless_they_take_less_than_a_quarter_of_the_free_memory(
    inputs: list[ModelInput], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(version.nbytes for stack in inputs for version in stack.versions)
    for free, device in ((4 * size, "meta"), (4 * size - 1, "cpu")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 2**40))
        assert {v.device.type for stack in preload(inputs, META) for v in stack.versions} == {device}
    assert preload(inputs, torch.device("cpu")) is inputs


@pytest.mark.usefixtures("elsewhere")
def test_feature_maps_are_computed_on_their_device_and_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone("phantom-resnet10")
    here, there = (
        MapExtractor(backbone, 2, device=device)
        for device in (Device("cpu", maps="torch"), Elsewhere("cpu", maps="torch"))
    )
    slices = np.random.default_rng(0).gamma(1.0, 1.0, (3, 16, 16)).astype(np.float32)
    expected, got = here._compute_batch(slices), there._compute_batch(slices)
    assert (got.device, got.shape, got.dtype) == (expected.device, expected.shape, expected.dtype)
    assert {value.device.type for value in backbone.network.state_dict().values()} == {"cpu"}
    assert here.cache_key() == MapExtractor(backbone, 2, device=Device("cpu", "32", maps="torch")).cache_key()
    assert here.cache_key() != there.cache_key()
    assert BATCH["cpu"] < BATCH["cuda"]


def test_results_of_a_gpu_or_of_bfloat16_have_keys_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    devices = [CPU, Device("cpu"), Device("cuda", "32"), Device("cuda", "bf16"), Device("cpu", "bf16")]
    cache = Cache()
    for kind in (TwoBe3Net, PooledModel, CNN3D):
        weights = {} if kind is CNN3D else {"backbone": "phantom-resnet10"}
        names = [kind(cache=cache, device=device, **weights).cache_key() for device in devices]  # type: ignore[arg-type]
        assert names[0] == names[1]
        assert len(set(names)) == (3 if kind is CNN3D else 4)  # which has no maps
    assert len({Baseline("suvmax", cache=cache, device=device).cache_key() for device in devices}) == 1  # type: ignore[call-arg]


def plainly_trained(inputs: Sequence[ModelInput], outcomes: Outcomes, how: TrainingParameters, seed: int) -> nn.Module:
    """The loop without Fabric, as torch's documentation writes it."""
    torch.manual_seed(seed)
    net, head, shuffle = network(), RiskHead(outcomes), np.random.default_rng(seed)
    head.start(net.head[-1])  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(net.parameters(), lr=how.learning_rate, weight_decay=how.weight_decay)
    batches = math.ceil(len(outcomes) / how.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, training.warmup_cosine(how.epochs_of(batches) * batches))
    for _ in range(how.epochs_of(batches)):
        for batch in epoch_batches(shuffle, np.arange(10), outcomes.event, batches, stratified=False):
            index = torch.from_numpy(batch)
            loss = head.loss(net(draw_batch(inputs, index, shuffle, how.shift_share)), index)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return net


@pytest.mark.parametrize("seed", [0, 1])
def test_on_the_cpu_the_loop_is_the_plain_one_to_the_bit(
    inputs: list[ModelInput], survival: Outcomes, seed: int
) -> None:
    how = replace(HOW, stopping_share=0.0, epochs=5)
    (ours,) = train_ensemble(network, inputs, survival, how, seed)
    with torch.random.fork_rng(devices=[]):
        plain = plainly_trained(inputs, survival, how, 1000 * seed)
    for name, value in plain.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_with_bfloat16_products_losses_stay_double_and_finite_and_training_gets_somewhere(
    inputs: list[ModelInput], binary: Outcomes
) -> None:
    losses: list[torch.Tensor] = []
    products: set[torch.dtype] = set()

    class Watched(RiskHead):
        def loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            losses.append(super().loss(raw, index))
            return losses[-1]

    def make() -> nn.Module:
        made = network()
        made.branches["stacked"].reduction[0].register_forward_hook(lambda *a: products.add(a[2].dtype))  # type: ignore[index,union-attr]
        return made

    how = replace(HOW, epochs=40, learning_rate=1e-2, stopping_share=0.0, test_time="single")
    (trained,) = train_ensemble(make, inputs, binary, how, 0, Watched(binary), Mixed("cpu"))
    assert products == {torch.bfloat16}
    assert {loss.dtype for loss in losses} == {torch.float64}
    assert torch.isfinite(torch.stack(losses)).all()
    assert torch.stack(losses[-6:]).mean() < 0.75 * torch.stack(losses[:6]).mean()
    assert {value.dtype for value in trained.parameters()} == {torch.float32}
    products.clear()
    ensemble_outputs([trained], inputs, how, Mixed("cpu"))
    assert products == {torch.float32}  # bfloat16 would tie risks
