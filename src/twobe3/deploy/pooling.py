"""Adaptive pooling, for which torch's exporter has no translation, in operators of ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

IntArray = npt.NDArray[np.int64]


def translate_pooling(op: Any, tensor: Callable[[Any], Any]) -> dict[Any, Callable[..., Any]]:
    """For each of torch's operators a function that adds its ONNX operators to a graph.

    Bins of different lengths become a matrix for each axis, or an index.

    Parameters
    ----------
    op : module
        A set of operators of onnxscript.
    tensor : callable
        Makes a constant of an array.
    """

    def average(values: Any, size: Sequence[int]) -> Any:
        matrices = [op.Constant(value=tensor(bin_weights(*one))) for one in zip(values.shape[-3:], size, strict=True)]
        return op.Einsum(values, *matrices, equation="...srk,as,br,gk->...abg")

    def largest(values: Any, size: Sequence[int]) -> tuple[Any, Any]:
        first = len(values.shape) - 3
        for axis, (length, bins) in enumerate(zip(values.shape[-3:], size, strict=True), start=first):
            index = op.Constant(value=tensor(bin_index(length, bins)))
            over = op.Constant(value=tensor(np.array([axis + 1])))
            values = op.ReduceMax(op.Gather(values, index, axis=axis), over, keepdims=0)
        return values, over  # nobody asks for the places, which would be second

    return {
        torch.ops.aten.adaptive_avg_pool3d.default: average,
        torch.ops.aten._adaptive_avg_pool3d.default: average,
        torch.ops.aten.adaptive_max_pool3d.default: largest,
    }


def bin_weights(length: int, bins: int) -> npt.NDArray[np.float32]:
    """What each position counts in the average of each bin, shape (bins, length)."""
    start, stop = _bounds(length, bins)
    position = np.arange(length)
    inside = (position >= start) & (position < stop)
    return np.asarray(inside / (stop - start), np.float32)


def bin_index(length: int, bins: int) -> IntArray:
    """The positions of each bin, shape (bins, longest); the last one again where a bin is shorter than the longest."""
    start, stop = _bounds(length, bins)
    return np.minimum(start + np.arange((stop - start).max()), stop - 1)


def _bounds(length: int, bins: int) -> tuple[IntArray, IntArray]:
    """First position of each bin, and the one after its last, shape (bins, 1), as torch has them."""
    number = np.arange(bins)[:, None]
    return number * length // bins, -((-(number + 1) * length) // bins)
