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

    Bins of different lengths become an index into each axis.

    Parameters
    ----------
    op : module
        A set of operators of onnxscript.
    tensor : callable
        Makes a constant of an array.
    """

    def constant(array: npt.ArrayLike) -> Any:
        return op.Constant(value=tensor(np.asarray(array)))

    def average(values: Any, size: Sequence[int]) -> Any:
        first, lengths = len(values.shape) - 3, values.shape[-3:]
        if list(size) == [1, 1, 1]:
            return op.ReduceMean(values, constant([first, first + 1, first + 2]), keepdims=1)
        for number, (length, bins) in enumerate(zip(lengths, size, strict=True)):
            inside = bin_members(length, bins).reshape(bins, -1, *[1] * (2 - number))
            gathered = op.Gather(values, constant(bin_index(length, bins)), axis=first + 2 * number)
            values = gathered if inside.all() else op.Mul(gathered, constant(inside.astype(np.float32)))
        bins_first = [first, first + 2, first + 4, first + 1, first + 3, first + 5]
        values = op.Transpose(values, perm=[*range(first), *bins_first])
        values = op.Reshape(values, constant([0] * (first + 3) + [-1]))
        # One after another, as torch adds them: sums of ten thousand numbers in another order differ by 1e-5.
        values = op.Gather(op.CumSum(values, constant(first + 3)), constant(-1), axis=first + 3)
        for number, (length, bins) in enumerate(zip(lengths, size, strict=True)):
            counts = bin_members(length, bins).sum(axis=1).reshape(-1, *[1] * (2 - number))
            values = op.Div(values, constant(counts.astype(np.float32)))
        return values

    def largest(values: Any, size: Sequence[int]) -> tuple[Any, Any]:
        first, over = len(values.shape) - 3, None
        for axis, (length, bins) in enumerate(zip(values.shape[-3:], size, strict=True), start=first):
            over = constant([axis + 1])
            values = op.ReduceMax(op.Gather(values, constant(bin_index(length, bins)), axis=axis), over, keepdims=0)
        return values, over  # nobody asks for the places, which would be second

    return {
        torch.ops.aten.adaptive_avg_pool3d.default: average,
        torch.ops.aten._adaptive_avg_pool3d.default: average,
        torch.ops.aten.adaptive_max_pool3d.default: largest,
    }


def bin_index(length: int, bins: int) -> IntArray:
    """The positions of each bin, shape (bins, longest); the last one again where a bin is shorter than the longest."""
    start, stop = _bounds(length, bins)
    return np.minimum(start + np.arange((stop - start).max()), stop - 1)


def bin_members(length: int, bins: int) -> npt.NDArray[np.bool_]:
    """Which of :func:`bin_index` are not repeated, shape (bins, longest)."""
    start, stop = _bounds(length, bins)
    return start + np.arange((stop - start).max()) < stop


def _bounds(length: int, bins: int) -> tuple[IntArray, IntArray]:
    """First position of each bin, and the one after its last, shape (bins, 1), as torch has them."""
    number = np.arange(bins)[:, None]
    return number * length // bins, -((-(number + 1) * length) // bins)
