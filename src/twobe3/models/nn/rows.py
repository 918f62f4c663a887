"""What networks see of all patients, a row each, where it may be larger than the memory."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure

KEPT_BYTES = 1 << 26
"""What is not larger stays in memory."""


def new_rows(shape: Sequence[int], folder: Path | None) -> torch.Tensor:
    """Zeros to be filled, float32; in a file that has no name where they are large and there is a folder for it.

    The tensor maps the file, so that a batch reads its rows alone and the system takes their memory back. Nobody else
    can open the file, and it is gone with the process, however that ends.

    Parameters
    ----------
    shape : sequence of int
        The patients first.
    folder : path or None
        Where large files may lie: that of the volumes.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``: the disk has no room for it.
    """
    size = 4 * math.prod(shape)
    if folder is None or size <= KEPT_BYTES:
        return torch.zeros(*shape)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix=".partial-") as file:
            _reserve(file.fileno(), size)
            return torch.from_numpy(np.memmap(file, np.float32, "r+", shape=tuple(shape)))
    except OSError as error:
        reason = f"what the networks see of all patients, {size / 1e9:.1f} GB, could not be kept: {error.strerror}"
        raise EnvironmentFailure(Code.WRITE_FAILED, reason) from error


def take_rows(values: torch.Tensor, rows: torch.Tensor, folder: Path | None) -> torch.Tensor:
    """A copy of some rows, which is kept as :func:`new_rows` keeps it."""
    taken = new_rows((len(rows), *values.shape[1:]), folder)
    for place, row in enumerate(rows.tolist()):
        taken[place] = values[row]
    return taken


def _reserve(descriptor: int, size: int) -> None:
    """Have the disk keep room: a mapped file for which there is none would end the process without a word."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    zeros = bytes(1 << 20)
    for start in range(0, size, len(zeros)):
        os.write(descriptor, zeros[: size - start])
