"""Devices and precision: what is chosen where, the same parameters from two processes as from one."""

from __future__ import annotations

import importlib.metadata
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.runtime import process
from twobe3.runtime.device import CPU, GIB, Device, MapsBy, Precision, _Call, enough_memory

OPENVINO = importlib.metadata.version("openvino")


class Machine:
    """A machine with GPUs, as far as anybody asks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free_gib: tuple[int, ...], capability: tuple[int, int]) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(free_gib))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free_gib))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number: (free_gib[number] * GIB, 2 * GIB))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: capability)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, (), (0, 0))


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, (20, 50), (8, 0))


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_everything_is_on_the_cpu_in_single_precision() -> None:
    for device in (Device(), CPU):
        assert device.describe() == {"device": "cpu", "precision": "32", "maps": f"OpenVINO {OPENVINO}, 32"}
        assert device.cache_key() == ""
        assert (device.count, device.workers(6)) == (1, 6)
        assert {device.torch_device(number) for number in range(3)} == {torch.device("cpu")}
        fabric = device.fabric()
        assert (fabric.device, fabric.world_size) == (torch.device("cpu"), 1)
        assert fabric.strategy.precision.precision == "32-true"


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_that_is_asked_for_and_not_there_is_an_error() -> None:
    with pytest.raises(EnvironmentFailure) as caught:
        Device("cuda")
    assert caught.value.code is Code.DEVICE_MISSING


@pytest.mark.usefixtures("two_gpus")
def test_more_gpus_than_there_are_is_an_error() -> None:
    assert Device(devices=1).count == 1
    with pytest.raises(EnvironmentFailure, match="3 GPUs were asked for, there are 2"):
        Device(devices=3)


@pytest.mark.usefixtures("two_gpus")
def test_with_gpus_they_are_taken_and_results_are_told_apart_from_the_cpus() -> None:
    assert Device().describe() == {"device": "cuda", "precision": "bf16", "maps": "torch, 32"}
    names = {Device(precision=precision).cache_key() for precision in ("32", "bf16")}  # type: ignore[arg-type]
    assert len(names) == 2
    assert "" not in names
    assert Device().cache_key() == Device("cuda", "bf16").cache_key()
    assert Device("cpu").cache_key() == Device("cpu", "bf16").cache_key() == ""
    assert Device().maps_key() == " on cuda"


@pytest.mark.usefixtures("no_gpu")
def test_maps_are_told_apart_by_what_computes_them_and_in_which_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[MapsBy, Precision]] = [
        ("torch", "32"),
        ("openvino", "32"),
        ("torch", "bf16"),
        ("openvino", "bf16"),
    ]
    keys = [Device("cpu", precision, maps=by).maps_key() for by, precision in made]
    assert keys[0] == ""
    assert len(set(keys)) == 4
    assert Device().maps_key() == keys[1]
    assert OPENVINO in keys[1]
    assert {Device("cpu", precision, maps=by).bits for by, precision in made} == {"32"}
    assert [Device("cpu", precision, maps=by).pin().maps_key() for by, precision in made] == keys
    monkeypatch.setattr("twobe3.runtime.device._openvino_version", lambda: "")
    assert Device().maps_key() == ""
    with pytest.raises(EnvironmentFailure, match=r"twobe3\[fast\]") as caught:
        Device(maps="openvino")
    assert caught.value.code is Code.EXTRA_MISSING


@pytest.mark.usefixtures("two_gpus")
def test_tasks_are_dealt_out_over_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [Device().torch_device(number).index for number in range(4)] == [0, 1, 0, 1]
    assert [Device(devices=1).torch_device(number).index for number in range(2)] == [0, 0]
    monkeypatch.setattr(process, "_number", 5)
    assert Device().torch_device() == torch.device("cuda", 1)


@pytest.mark.usefixtures("two_gpus")
def test_several_processes_share_a_gpu_where_its_memory_suffices() -> None:
    assert Device().workers(100) == 2 + 6  # of 20 and 50 GiB, 8 each
    assert Device().workers(3) == 3
    assert Device("cpu").workers(100) == 100


def test_a_small_gpu_has_one_process_and_an_old_one_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, (4,), (7, 5))
    assert Device().workers(16) == 1
    assert Device().describe() == {"device": "cuda", "precision": "32", "maps": "torch, 32"}
    assert Device(precision="bf16").bits == "bf16"


def test_unknown_devices_and_precisions_are_errors() -> None:
    for wrong in ({"device": "tpu"}, {"precision": "16"}, {"devices": 0}, {"gpus": 1}):
        with pytest.raises((ValidationError, TypeError)):
            Device(**wrong)  # type: ignore[arg-type]


def test_memory_that_does_not_suffice_is_told_under_a_code() -> None:
    with pytest.raises(EnvironmentFailure) as caught, enough_memory():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert caught.value.code is Code.GPU_MEMORY


def test_a_device_travels_to_workers() -> None:
    device = Device("cpu", "bf16", 2)
    assert pickle.loads(pickle.dumps(device)) == device


PATIENTS = 12


def trained_together(fabric: object, seed: int) -> dict[str, torch.Tensor]:
    """Ten steps of a small network, each process with its equal share of every batch."""
    from lightning_fabric import Fabric

    assert isinstance(fabric, Fabric)
    draw = torch.Generator().manual_seed(seed)
    inputs, wanted = torch.randn(PATIENTS, 5, generator=draw), torch.randn(PATIENTS, 1, generator=draw)
    torch.manual_seed(seed)
    bare = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    network, optimiser = fabric.setup(bare, torch.optim.AdamW(bare.parameters(), lr=0.05))
    share = slice(fabric.global_rank, None, fabric.world_size)
    for _ in range(10):
        loss = nn.functional.mse_loss(network(inputs[share]).double(), wanted[share].double())
        optimiser.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(network, optimiser, max_norm=1.0)
        optimiser.step()
    return {**bare.state_dict(), "processes": torch.tensor(fabric.world_size)}


def large(fabric: object, numbers: int) -> torch.Tensor:
    return torch.arange(numbers)


def test_an_outcome_larger_than_a_pipe_s_buffer_arrives_whole() -> None:
    assert torch.equal(Device("cpu", devices=2).run_distributed(large, 1_000_000), torch.arange(1_000_000))


def refused(fabric: object) -> None:
    raise ConfigurationError(Code.WEIGHTS_MISSING, "no weights here")


def test_two_processes_train_the_network_that_one_trains_on_the_whole_batch() -> None:
    before = dict(os.environ)
    alone = Device("cpu").run_distributed(trained_together, 3)
    together = Device("cpu", devices=2).run_distributed(trained_together, 3)
    assert (int(alone.pop("processes")), int(together.pop("processes"))) == (1, 2)
    for name, value in alone.items():
        np.testing.assert_allclose(together[name].numpy(), value.numpy(), atol=1e-5)
    assert dict(os.environ) == before


@pytest.mark.parametrize(("tasks", "by"), [("1", "LightningEnvironment"), ("2", "SLURMEnvironment")])
def test_inside_a_job_of_slurm_processes_are_those_of_srun_or_spawned(
    tasks: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = {"NTASKS": "2", "NTASKS_PER_NODE": "2", "NNODES": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in (job | {"STEP_NUM_TASKS": tasks}).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    together, alone = CPU.fabric(2), CPU.fabric()
    assert type(together.strategy.cluster_environment).__name__ == by  # type: ignore[attr-defined]
    assert (alone.world_size, alone.device) == (1, torch.device("cpu"))


def test_what_a_process_gives_or_raises_comes_back_as_bytes() -> None:
    fabric = CPU.fabric()
    for function, arguments in ((trained_together, (3,)), (refused, ())):
        call = pickle.loads(pickle.dumps(_Call(pickle.dumps((function, arguments, {})), Path("unused"), os.getpid())))
        outcome = pickle.loads(call(fabric))
        if function is refused:
            assert isinstance(outcome, ConfigurationError)
            assert (outcome.code, outcome.reason) == (Code.WEIGHTS_MISSING, "no weights here")
        else:
            assert set(outcome) == {"0.weight", "0.bias", "2.weight", "2.bias", "processes"}
    with pytest.raises(ConfigurationError, match="no weights here"):
        CPU.run_distributed(refused)
