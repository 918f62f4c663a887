"""The networks that are trained: on stacked feature maps, on unordered slices, and on the volume itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.networks.nets.resnet import ResNet
from torch import nn

from twobe3.features.slices import Plane

Shape = tuple[int, int, int, int]  # channels, slices, height, width


class StackBranch(nn.Module):
    """3D convolutions over one plane's stack of feature maps.

    A 1×1×1 convolution reduces the channels; then 3×3×3 blocks follow each other until the stack has shrunk to one
    slice, which sees every other. Maps are much shorter across than along the stack, so a block halves the longest
    axes only (those of at least half the longest length): the stack shrinks first along the slices, later evenly.

    Average and maximum are taken after the reduction and after every block, so that the linear layer on top is
    offered single positions, neighbourhoods and the whole stack alike. No layer normalises a patient by itself: how
    hot a lesion is, is a message.

    Parameters
    ----------
    shape : tuple of int
        (channels, slices, height, width) of one patient.
    reduced, width : int
        Channels after the reduction, and of the blocks.
    """

    def __init__(self, shape: Shape, *, reduced: int, width: int) -> None:
        super().__init__()
        channels, *size = shape
        self.reduction = nn.Sequential(nn.Conv3d(channels, reduced, 1), nn.ReLU())
        self.blocks = nn.ModuleList()
        wide = reduced
        while size[0] > 1:
            a, b, c = (2 if length > 1 and length >= max(size) / 2 else 1 for length in size)
            self.blocks.append(nn.Sequential(nn.Conv3d(wide, width, 3, (a, b, c), padding=1), nn.ReLU()))
            wide = width
            size = [-(-length // by) for length, by in zip(size, (a, b, c), strict=True)]
        self.features = 2 * (reduced + width * len(self.blocks))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, channels, slices, height, width) to (n, features)."""
        return _pooled_after_each(self.reduction(maps), self.blocks)


class SliceBranch(nn.Module):
    """2D convolutions on each slice's maps; slices are pooled as a set, so their order cannot matter.

    Within a slice, average and maximum are taken as in :class:`StackBranch`; over the slices again.

    Parameters
    ----------
    shape : tuple of int
        (channels, slices, height, width) of one patient.
    reduced, width : int
        Channels after the 1×1 reduction, and of the two 3×3 blocks.
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
        within = _pooled_after_each(self.reduction(maps.transpose(1, 2).flatten(0, 1)), self.blocks)
        return _average_and_max(within.view(n, slices, -1).transpose(1, 2))


class PlanesNetwork(nn.Module):
    """A branch for each plane, joined by one linear layer that gives the risk.

    Parameters
    ----------
    branch : type
        :class:`StackBranch` or :class:`SliceBranch`.
    shapes : mapping
        Plane to (channels, slices, height, width).
    reduced, width : int
        For the branches.
    dropout : float
        Before the linear layer.
    """

    def __init__(
        self,
        branch: type[StackBranch] | type[SliceBranch],
        shapes: Mapping[Plane, Shape],
        *,
        reduced: int,
        width: int,
        dropout: float,
    ) -> None:
        super().__init__()
        branches: dict[str, StackBranch | SliceBranch] = {
            plane: branch(shape, reduced=reduced, width=width) for plane, shape in shapes.items()
        }
        self.branches = nn.ModuleDict(branches)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(sum(b.features for b in branches.values()), 1))

    def forward(self, stacks: Sequence[torch.Tensor]) -> torch.Tensor:
        """A stack for each plane, (n, channels, slices, height, width), to risks, shape (n,)."""
        joined = [branch(stack.float()) for branch, stack in zip(self.branches.values(), stacks, strict=True)]
        risk: torch.Tensor = self.head(torch.cat(joined, dim=1))
        return risk.squeeze(1)


class VolumeNetwork(nn.Module):
    """MONAI's 3D ResNet on the SUV volume, its windows as channels.

    The stem is a 3×3×3 convolution of stride 2, followed by pooling: at full resolution a 7×7×7 stem, MONAI's
    default, costs more than the rest of the network. Group normalisation, since batches are small.

    Parameters
    ----------
    windows_suv : tuple of float
        Upper ends of the SUV windows.
    layers, widths : sequence of int
        Blocks and channels of the four stages.
    dropout : float
        Before the linear layer.
    """

    def __init__(
        self, windows_suv: Sequence[float], *, layers: Sequence[int], widths: Sequence[int], dropout: float
    ) -> None:
        super().__init__()
        self.windows_suv = tuple(windows_suv)
        self.body = ResNet(
            block="basic",
            layers=list(layers),
            block_inplanes=list(widths),
            spatial_dims=3,
            n_input_channels=len(self.windows_suv),
            conv1_t_size=3,
            conv1_t_stride=2,
            num_classes=widths[-1],
            norm=("group", {"num_groups": 4}),
        )
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(widths[-1], 1))

    def forward(self, volumes: Sequence[torch.Tensor]) -> torch.Tensor:
        """One tensor of SUV, (n, 1, slices, rows, columns), to risks, shape (n,)."""
        (suv,) = volumes
        windows = torch.cat([(suv.float() / upper).clamp(0.0, 1.0) for upper in self.windows_suv], dim=1)
        risk: torch.Tensor = self.head(self.body(windows))
        return risk.squeeze(1)


def _pooled_after_each(maps: torch.Tensor, blocks: nn.ModuleList) -> torch.Tensor:
    """Average and maximum over all positions before the first block and after every one, (n, features)."""
    pooled = [_average_and_max(maps)]
    for block in blocks:
        maps = block(maps)
        pooled.append(_average_and_max(maps))
    return torch.cat(pooled, dim=1)


def _average_and_max(maps: torch.Tensor) -> torch.Tensor:
    """(n, channels, …) to (n, 2 · channels)."""
    positions = maps.flatten(2)
    return torch.cat([positions.mean(dim=2), positions.amax(dim=2)], dim=1)
