"""The networks that are trained: on stacked feature maps, on unordered slices, and on the volume itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from twobe3.core.volume import AIR_HU
from twobe3.features.ct import Window, apply_hu_windows

Shape = tuple[int, ...]  # channels, slices, height, width
Spacing = tuple[float, ...]  # along the stack, then between rows and columns of the maps, in mm
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Block:
    """Kernel and stride of a 3D convolution along the stack, rows and columns."""

    kernel: Triple
    stride: Triple


def plan_blocks(shape: Iterable[int], spacing_mm: Spacing | None = None) -> tuple[Block, ...]:
    """Convolutions that shrink a stack to one slice, which then sees every other.

    Parameters
    ----------
    shape : iterable of int
        Slices, rows and columns of the maps.
    spacing_mm : tuple of float, optional
        Without it, kernels are 3×3×3 and a block halves the longest axes, those of at least half the longest length:
        a stack of many small maps shrinks first along the slices, later evenly. With it, a block convolves and halves
        the axes whose positions are less than twice as far apart as those of the finest one, so that no kernel mixes
        what is 4 mm away with what is 60 mm away (as nnU-Net does: Isensee et al., Nat Methods 2021;18:203).
    """
    blocks, size = [], _triple(shape)
    while size[0] > 1:
        kernel, stride = _next_block(size, spacing_mm)
        blocks.append(Block(kernel, stride))
        size = _triple(-(-length // by) for length, by in zip(size, stride, strict=True))
        if spacing_mm is not None:
            spacing_mm = tuple(mm * by for mm, by in zip(spacing_mm, stride, strict=True))
    return tuple(blocks)


class StackBranch(nn.Module):
    """3D convolutions over one plane's stack of feature maps, of ``shape`` (channels, slices, height, width).

    A 1×1×1 convolution reduces the channels to ``reduced``; then the blocks of :func:`plan_blocks`, of ``width``
    channels, follow each other, so their number is derived from the number of slices.

    Average and maximum are taken after the reduction and after every block, so that the linear layer on top is offered
    single positions, neighbourhoods and the whole stack alike; or after the reduction and the last ``taps`` blocks, if
    that is not 0, which leaves fewer numbers by which few patients can be learnt by heart. No layer normalises a
    patient by itself: how hot a lesion is, is a message. ``smoothing``: every block starts as :func:`init_smoothing`
    says.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        reduced: int,
        width: int,
        spacing_mm: Spacing | None = None,
        taps: int = 0,
        smoothing: bool = False,
    ) -> None:
        super().__init__()
        channels, *size = shape
        self.reduction = nn.Sequential(nn.Conv3d(channels, reduced, 1), nn.ReLU())
        self.plan = plan_blocks(size, spacing_mm)
        self.blocks = nn.ModuleList()
        wide = reduced
        for block in self.plan:
            padding = _triple(length // 2 for length in block.kernel)
            convolution = nn.Conv3d(wide, width, block.kernel, block.stride, padding)
            if smoothing:
                init_smoothing(convolution)
            self.blocks.append(nn.Sequential(convolution, nn.ReLU()))
            wide = width
        self.taps = min(taps or len(self.blocks), len(self.blocks))
        self.features = 2 * (reduced + width * self.taps)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, channels, slices, height, width) to (n, features)."""
        return _pool_levels(self.reduction(maps), self.blocks, silent=len(self.blocks) - self.taps)


def init_smoothing(convolution: nn.Conv3d, noise: float = 0.3) -> None:
    """Let a convolution of odd kernels start as a smoothing of each channel along the axes that it halves.

    A chain of them is then a pyramid of ever coarser averages, as those of Burt & Adelson (IEEE Trans Commun
    1983;31:532), and the maximum over one of its levels tells how much lies within so many millimetres: what stands
    together along the body can be told from what stands apart before a single step of training. From a random start
    few patients are learnt by heart sooner than that is found.

    Output channel *i* starts from input channel *i*, counted round; ``noise`` is the share of the random start that is
    kept, so that channels do not stay alike. Weights without values, which a file will fill, stay as they are.
    """
    if convolution.weight.is_meta:
        return  # besides, `torch.eye` would take a second there to import torch's compiler
    axes = [
        torch.tensor([0.25, 0.5, 0.25]) if length == 3 and stride == 2 else torch.eye(length)[length // 2]
        for length, stride in zip(convolution.kernel_size, convolution.stride, strict=True)
    ]
    kernel = axes[0][:, None, None] * axes[1][None, :, None] * axes[2][None, None, :]
    assert convolution.bias is not None
    with torch.no_grad():
        convolution.weight *= noise
        convolution.bias.zero_()
        for channel in range(convolution.out_channels):
            convolution.weight[channel, channel % convolution.in_channels] += kernel


class SliceBranch(nn.Module):
    """2D convolutions on each slice's maps; slices are pooled as a set, so their order cannot matter.

    Within a slice, average and maximum are taken as in :class:`StackBranch`, after the 1×1 reduction and after each of
    two 3×3 blocks; over the slices again.
    """

    def __init__(self, shape: Shape, *, reduced: int, width: int) -> None:
        super().__init__()
        self.reduction = nn.Sequential(nn.Conv2d(shape[0], reduced, 1), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU()) for inputs in (reduced, width)
        )
        self.features = 4 * (reduced + width * len(self.blocks))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, channels, slices, height, width) to (n, features)."""
        n, slices = maps.shape[0], maps.shape[2]
        within = _pool_levels(self.reduction(maps.transpose(1, 2).flatten(0, 1)), self.blocks)
        return _pool(within.view(n, slices, -1).transpose(1, 2))


class PlanesNetwork(nn.Module):
    """A branch for each stack of maps, joined by one linear layer.

    ``branches`` are by the name of the stack; ``dropout`` is that of their features; ``covariates`` numbers of each
    patient join the features at the linear layer, which gives ``outputs`` numbers.
    """

    def __init__(
        self,
        branches: Mapping[str, StackBranch | SliceBranch],
        *,
        dropout: float,
        covariates: int = 0,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(branches)
        features = sum(branch.features for branch in branches.values()) + covariates
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, outputs))

    def forward(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Stacks, each (n, channels, slices, height, width), and covariates, if any, to (n,), or (n, outputs)."""
        features = self._features(inputs) or [inputs[0].new_zeros((len(inputs[0]), 0), dtype=torch.float32)]
        return _apply_head(self.head, torch.cat(features, dim=1), inputs[len(self.branches) :])

    @property
    def last(self) -> nn.Linear:
        """The linear layer."""
        layer = self.head[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def contributions(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """What each branch, and then all covariates together, add to the first output, shape (n, parts)."""
        parts = [*self._features(inputs), *(values.float() for values in inputs[len(self.branches) :])]
        weights = torch.split(self.last.weight[0], [part.shape[1] for part in parts])
        return torch.stack([part @ weight for part, weight in zip(parts, weights, strict=True)], dim=1)

    def _features(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        stacks = inputs[: len(self.branches)]
        return [branch(stack.float()) for branch, stack in zip(self.branches.values(), stacks, strict=True)]


class VolumeNetwork(nn.Module):
    """A 3D network on the volumes, their windows as channels.

    ``body`` leads from (n, windows, slices, rows, columns) to (n, features); windows of the PET end at ``windows_suv``,
    those of the CT reach from and to ``windows_hu``, and each may be none; the others as of :class:`PlanesNetwork`.
    """

    def __init__(
        self,
        windows_suv: Sequence[float],
        body: nn.Module,
        features: int,
        *,
        dropout: float,
        covariates: int = 0,
        outputs: int = 1,
        windows_hu: Sequence[Window] = (),
    ) -> None:
        super().__init__()
        self.windows_suv, self.windows_hu = tuple(windows_suv), tuple(windows_hu)
        self.body = body
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(features + covariates, outputs))

    def forward(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Volumes, (n, modalities, slices, rows, columns), and covariates, if any, to (n,), or (n, outputs).

        SUV where there are windows of it, then HU above air, as :func:`~twobe3.models.nn.inputs.stack_volumes` gives.
        """
        volumes, *covariates = inputs
        suv, above_air = volumes[:, :1].float(), volumes[:, -1:].float()
        channels = [(suv / upper).clamp(0.0, 1.0) for upper in self.windows_suv]
        windows = torch.cat([*channels, *apply_hu_windows(above_air + AIR_HU, self.windows_hu)], dim=1)
        return _apply_head(self.head, self.body(windows), covariates)


def _apply_head(head: nn.Sequential, features: torch.Tensor, covariates: Sequence[torch.Tensor]) -> torch.Tensor:
    """Covariates join at the last layer of the head, past the dropout."""
    outputs: torch.Tensor = head[-1](torch.cat([head[:-1](features), *(one.float() for one in covariates)], dim=1))
    return outputs.squeeze(1) if outputs.shape[1] == 1 else outputs


def _next_block(size: Triple, spacing_mm: Spacing | None) -> tuple[Triple, Triple]:
    if spacing_mm is None:
        return (3, 3, 3), _triple(2 if length > 1 and length >= max(size) / 2 else 1 for length in size)
    finest = min(mm for mm, length in zip(spacing_mm, size, strict=True) if length > 1)
    near = [length > 1 and mm < 2 * finest for mm, length in zip(spacing_mm, size, strict=True)]
    return _triple(3 if one else 1 for one in near), _triple(2 if one else 1 for one in near)


def _triple(values: Iterable[int]) -> Triple:
    a, b, c = values
    return a, b, c


def _pool_levels(maps: torch.Tensor, blocks: nn.ModuleList, *, silent: int = 0) -> torch.Tensor:
    """Average and maximum over all positions before the first block and after every one but the first ``silent``."""
    pooled = [_pool(maps)]
    for number, block in enumerate(blocks):
        maps = block(maps)
        if number >= silent:
            pooled.append(_pool(maps))
    return torch.cat(pooled, dim=1)


def _pool(maps: torch.Tensor) -> torch.Tensor:
    """(n, channels, …) to (n, 2 · channels)."""
    positions = maps.flatten(2)
    return torch.cat([positions.mean(dim=2), positions.amax(dim=2)], dim=1)
