"""The loop that both stages share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.io.cache import Cache
from twobe3.pretraining.loop import Batch, Checkpoint, Schedule, train
from twobe3.runtime.device import CPU

INPUTS = torch.randn(24, 5, generator=torch.Generator().manual_seed(0))
WANTED = INPUTS[:, :1] - INPUTS[:, 1:2]
SCHEDULE = Schedule("slices", 4, 3, 0)


@dataclass(frozen=True, eq=False)
class Rows(Batch):
    index: torch.Tensor


def batches(rng: np.random.Generator) -> Iterator[Rows]:
    yield from (Rows(part) for part in torch.from_numpy(rng.permutation(24)).split(8))


def trained(
    folder: Path | None, *, rate: float = 0.05, fails_after: int = 1000, key: str = "a"
) -> dict[str, list[float]]:
    """Weights after training; the loss may fail after some steps, as where the power goes."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 1))
    steps = 0

    def loss(wrapped: nn.Module, batch: Rows) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps > fails_after:
            raise KeyboardInterrupt
        return ((wrapped(INPUTS[batch.index]) - WANTED[batch.index]) ** 2).mean()

    optimiser = torch.optim.AdamW(network.parameters(), lr=rate)
    checkpoint = Checkpoint(Cache(folder), key)
    state = train(CPU.fabric(), network, optimiser, batches, loss, SCHEDULE, checkpoint)
    return {name: value.flatten().tolist() for name, value in state.items()}


def test_a_resumed_training_is_an_uninterrupted_one_to_the_bit(tmp_path: Path) -> None:
    whole = trained(None)
    for number in (2, 5, 11):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / str(number), fails_after=number)
        assert trained(tmp_path / str(number)) == whole
    assert trained(tmp_path / "11", fails_after=0) == whole  # nothing was left to do


def test_what_another_training_left_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, fails_after=6, key="b")
    assert trained(tmp_path) == trained(None)


def test_a_damaged_state_counts_as_absent(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, fails_after=6)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert trained(tmp_path) == trained(None)


def test_the_state_of_another_network_is_not_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Cache(tmp_path).put("a", {"epochs": np.array([3]), "network.0.weight": np.zeros((2, 2), np.float32)})
    assert trained(tmp_path) == trained(None)
    assert "that of another network" in caplog.text


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_rate() -> None:
    with pytest.raises(ConfigurationError, match="the loss is not finite in epoch") as caught:
        trained(None, rate=1e30)
    assert (caught.value.code, caught.value.remedy) == (Code.STUDY_FILE_INVALID, "lower its `learning_rate`")
