"""Whether a map can be trusted: what a random model would show, what happens without the voxels it names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats

from twobe3.core.map_check import MapCheck
from twobe3.core.outcomes import FloatArray
from twobe3.explain.images import Images, make_baseline
from twobe3.explain.pathway import Pathway
from twobe3.models.model import Model
from twobe3.models.nn.neural_model import NeuralModel
from twobe3.models.pooled import PooledModel

Volume = npt.NDArray[np.float32]
BLOCK_MM = 24.0  # edge of the blocks on which maps are compared, and which are taken away
BODY_SUV = 0.2  # blocks whose hottest voxel is colder are air
SHARES = (0.02, 0.1, 0.3)  # of the body's blocks, taken away one after another
ORDERS = 5  # random ones, against which the map's is held
LIKE_RANDOM = 0.7  # rank correlation with a random model's map from which on a map says nothing of the model


def randomise(model: Model, seed: int = 0) -> Model:
    """A copy of a fitted model that has learnt nothing: fresh networks, or its linear weights in random order.

    The model randomisation test of Adebayo et al., NeurIPS 2018, all layers that were trained at once. A frozen 2D
    network stays as it is: it was not learnt from the outcomes.
    """
    other = copy.copy(model)
    if isinstance(other, PooledModel):
        assert other.ridge_ is not None
        shuffled = np.random.default_rng(seed).permutation(other.ridge_.weights)
        other.ridge_ = replace(other.ridge_, weights=shuffled)
    elif isinstance(other, NeuralModel):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            other.networks_ = [other._final_network(trainable=False).eval() for _ in other.networks_]
            for network in other.networks_:
                network.requires_grad_(False)
    return other


def check_randomised(relevance: Volume, random: Volume, suv: Volume, edge: Sequence[int], of: str = "") -> MapCheck:
    """Rank correlation of a map with that of a model that has learnt nothing, over the blocks of the body."""
    body = block_maxima(suv, edge) > BODY_SUV
    value = _rank_correlation(block_sums(relevance, edge)[body], block_sums(random, edge)[body])
    passed = None if value is None else abs(value) < LIKE_RANDOM
    return MapCheck(f"correlation with an untrained model{of}", value, LIKE_RANDOM, passed)


def check_agreement(relevance: Volume, other: Volume, suv: Volume, edge: Sequence[int], name: str) -> MapCheck:
    """Rank correlation of the maps of two methods over the blocks of the body; negative fails."""
    body = block_maxima(suv, edge) > BODY_SUV
    value = _rank_correlation(block_sums(relevance, edge)[body], block_sums(other, edge)[body])
    return MapCheck(f"correlation with {name}", value, 0.0, None if value is None else value > 0)


def check_deletion(
    pathway: Pathway, relevance: Images, images: Images, edge: Sequence[int], seed: int = 0
) -> list[MapCheck]:
    """Deletion and insertion: whether the blocks that a map names first move the risk more than random ones do.

    Blocks of the body are taken away in the order of the map, the one that raises the risk most first, those of the PET
    and of the CT each by itself: voxels of the PET become no hotter than the median of the body, those of the CT what
    they are in :func:`~twobe3.explain.images.make_baseline`. Deletion is the mean fall of the risk over :data:`SHARES`;
    insertion the mean rise where the same blocks are put into a scan of which every block was taken away. Each fails
    where one of the random orders, of which the threshold is the best, moves the risk as much.

    Source: Petsiuk, Das & Saenko, BMVC 2018, with blocks in place of pixels.
    """
    suv, blocks = images[0], (1, *edge)
    body = np.broadcast_to(block_maxima(suv, edge) > BODY_SUV, block_sums(relevance, blocks).shape)
    order = np.flatnonzero(body.ravel())
    sums = block_sums(relevance, blocks).ravel()[order]
    draw = np.random.default_rng(seed)
    orders = [order[np.argsort(-sums, kind="stable")], *(draw.permutation(order) for _ in range(ORDERS))]
    numbers = _block_numbers(images.shape, blocks)
    flat = _flatten(images)
    with torch.no_grad():
        whole, empty = (float(pathway(torch.from_numpy(one))) for one in (images, flat))
        falls, rises = [], []
        for one in orders:
            counts = [max(1, round(share * len(one))) for share in SHARES]
            without = [np.where(np.isin(numbers, one[:count]), flat, images) for count in counts]
            only = [np.where(np.isin(numbers, one[:count]), images, flat) for count in counts]
            falls.append(whole - _mean_risk(pathway, without))
            rises.append(_mean_risk(pathway, only) - empty)
    return [
        _against_random("deletion, fall of the risk", falls),
        _against_random("insertion, rise of the risk", rises),
    ]


def check_contour(relevance: Images, contour: npt.NDArray[np.bool_]) -> list[MapCheck]:
    """What of the map that raises the risk lies in the contour, and what of all voxels: decides nothing.

    A model may well see something else than the tumour. A contour without a voxel, which the field of view does not
    hold, gives no share.
    """
    raising = np.clip(relevance, 0, None)
    total = float(raising.sum())
    share = float(raising[:, contour].sum()) / total if total > 0 and contour.any() else None
    return [
        MapCheck("share of what raises the risk in the contour", share),
        MapCheck("share of voxels in the contour", float(contour.mean())),
    ]


def block_edge(spacing_mm: Sequence[float]) -> tuple[int, ...]:
    """Voxels along each axis of a block of :data:`BLOCK_MM`."""
    return tuple(max(1, round(BLOCK_MM / mm)) for mm in spacing_mm)


def block_sums(values: Volume, edge: Sequence[int]) -> FloatArray:
    """Sums over blocks; the last of an axis may be smaller."""
    return _reduce(values, edge, np.add)


def block_maxima(values: Volume, edge: Sequence[int]) -> FloatArray:
    """Maxima over blocks."""
    return _reduce(values, edge, np.maximum)


def _flatten(images: Images) -> Images:
    """The images without what stands out in the body."""
    suv, flat = images[0], make_baseline(images)
    level = float(np.median(suv[suv > BODY_SUV])) if (suv > BODY_SUV).any() else 0.0
    flat[0] = np.minimum(suv, level)
    return flat


def _mean_risk(pathway: Pathway, scans: Sequence[Images]) -> float:
    return float(np.mean([float(pathway(torch.from_numpy(scan))) for scan in scans]))


def _reduce(values: Volume, edge: Sequence[int], how: np.ufunc) -> FloatArray:
    reduced = values.astype(np.float64)
    for axis, length in enumerate(edge):
        reduced = how.reduceat(reduced, np.arange(0, reduced.shape[axis], length), axis=axis)
    return reduced


def _block_numbers(shape: Sequence[int], edge: Sequence[int]) -> npt.NDArray[np.int64]:
    """The number of the block of every voxel, as in the flattened array of blocks."""
    places = [np.arange(length) // size for length, size in zip(shape, edge, strict=True)]
    counts = [int(place[-1]) + 1 for place in places]
    return np.asarray(np.ravel_multi_index(np.ix_(*places), counts), np.int64)


def _rank_correlation(a: FloatArray, b: FloatArray) -> float | None:
    """Spearman's; None where one of them is the same everywhere."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(stats.spearmanr(a, b).statistic)


def _against_random(name: str, moved: Sequence[float]) -> MapCheck:
    """What the map's order moves, and the most that a random one does."""
    return MapCheck(name, float(moved[0]), float(max(moved[1:])), bool(moved[0] > max(moved[1:])))
