"""What networks see of all patients gives the same bits from memory and from a file, which nobody finds."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.io.cache import Cache
from twobe3.models import CNN3D, TwoBe3Net
from twobe3.models.nn import rows
from twobe3.models.nn.inputs import ModelInput
from twobe3.models.nn.neural_model import NeuralModel
from twobe3.models.nn.rows import new_rows, take_rows

MAPS: dict[str, Any] = {"backbone": "phantom-resnet10", "slice_size": 32, "epochs": 2, "ensemble_size": 2}
MODELS: dict[str, Callable[[Cache], NeuralModel]] = {
    "2be3-net": lambda cache: TwoBe3Net(**MAPS, inner_folds=2, cache=cache),
    "augmented": lambda cache: TwoBe3Net(
        **MAPS, inputs=("maps",), augmentations=1, test_time="average", stopping_share=0.3, cache=cache
    ),
    "cnn3d": lambda cache: CNN3D(epochs=2, width=4, augmentations=1, test_time="average", cache=cache),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_learns_and_predicts_the_same_bits_from_a_file(
    name: str, make_cohort: Callable[..., Cohort], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = make_cohort(12, ("binary",))
    kept = replace(cohort, volumes=Cache(tmp_path))
    expected = MODELS[name](Cache()).fit(cohort).predict(cohort).risk
    files = []

    def spy(descriptor: int, size: int) -> None:
        files.append(size)
        os.posix_fallocate(descriptor, 0, size)

    monkeypatch.setattr(rows, "KEPT_BYTES", 0)
    monkeypatch.setattr(rows, "_reserve", spy)
    found = MODELS[name](Cache()).fit(kept).predict(kept).risk
    np.testing.assert_array_equal(found, expected)
    assert files
    assert all(path.suffix == ".safetensors" for path in tmp_path.iterdir())


def test_what_is_small_or_has_no_folder_stays_in_memory(tmp_path: Path) -> None:
    over = rows.KEPT_BYTES // 4 + 1
    before = open_maps()
    tensors = [new_rows((over - 1,), tmp_path), new_rows((over,), None)]
    assert open_maps() == before
    tensors.append(new_rows((over,), tmp_path / "new"))
    assert open_maps() == before + 1
    assert all(tensor.dtype == torch.float32 and not tensor.any() for tensor in tensors)
    assert list((tmp_path / "new").iterdir()) == []  # the file has no name
    del tensors
    assert open_maps() == before


def open_maps() -> int:
    """Files without a name that this process maps."""
    return sum("(deleted)" in line and "rw-s" in line for line in Path("/proc/self/maps").read_text().splitlines())


@pytest.mark.parametrize("kept", [0, 1 << 20], ids=["file", "memory"])
def test_some_rows_are_those_rows_in_their_order(kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "KEPT_BYTES", kept)
    values = torch.arange(24.0).view(6, 2, 2)
    index = torch.tensor([5, 0, 0, 3])
    assert torch.equal(take_rows(values, index, tmp_path), values[index])
    taken = ModelInput(values, -1, (values + 100,), tmp_path).subset(index.numpy())
    assert torch.equal(taken.values, values[index])
    assert torch.equal(taken.augmented[0], values[index] + 100)
    assert (taken.left_right_axis, taken.folder) == (-1, tmp_path)


def test_a_full_disk_is_told_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(rows, "_reserve", fail)
    with pytest.raises(EnvironmentFailure, match=r"0\.4 GB, could not be kept: No space left on device") as refused:
        new_rows((10**8,), tmp_path)
    assert refused.value.code is Code.WRITE_FAILED
    assert list(tmp_path.iterdir()) == []


def test_a_system_without_reservation_writes_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    with (tmp_path / "file").open("wb") as file:
        rows._reserve(file.fileno(), (3 << 20) + 5)
    assert (tmp_path / "file").read_bytes() == bytes((3 << 20) + 5)
