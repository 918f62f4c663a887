"""2Be3-Net: pre-trained 2D network, stacked feature maps, 3D CNN; and its ablation without the order of slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from twobe3.cohort.cohort import Cohort
from twobe3.core.grid import Grid
from twobe3.features.backbones import Backbone
from twobe3.features.slices import AXIS
from twobe3.io.cache import Arrays
from twobe3.models.model import CONFIG, FitReport
from twobe3.models.nn.inputs import StackedMaps, spacing_of_maps
from twobe3.models.nn.networks import PlanesNetwork, Shape, SliceBranch, StackBranch, plan_blocks
from twobe3.models.nn.pca import Projection
from twobe3.models.pretrained import PretrainedCheckpoint, mismatch
from twobe3.models.registry import register


@register
@dataclass(kw_only=True, config=CONFIG)
class TwoBe3Net(StackedMaps):
    """2Be3-Net: a 3D CNN on the stacked feature maps of a pre-trained 2D network (Thomas et al., MICAD 2021).

    Parameters
    ----------
    anisotropy : {"shape", "spacing"}
        What decides which axes a block of the 3D CNN convolves and halves: how many positions the maps have along
        them, or how far apart these are in mm; see :func:`~twobe3.models.nn.networks.plan_blocks`.
    taps : int
        After how many of the last blocks average and maximum are taken, beside those before the first; 0: after all.
    blocks_start : {"smoothing", "random"}
        Whether blocks start as averages over what they merge, see :func:`~twobe3.models.nn.networks.start_smoothing`.
    init : str
        A file of ``twobe3 pretrain`` from which the 2D network, the principal components and the branches start; the
        last layer starts as always. Empty: ``weights``, the training patients' components, random branches.
    """

    kind: ClassVar[str] = "2be3-net"
    summary: ClassVar[str] = "3D CNN on the stacked feature maps of a 2D network, frozen or fine-tuned"
    branch: ClassVar[type[StackBranch]] = StackBranch

    shift_share: float = Field(default=0.125, ge=0, le=0.5)
    anisotropy: Literal["shape", "spacing"] = Field(default="shape")
    taps: int = Field(default=4, ge=0)
    blocks_start: Literal["smoothing", "random"] = Field(default="smoothing")
    init: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init and self.weights != "pretrained":
            raise ValueError("`init` brings the weights of the 2D network along: leave `weights` out")
        if self.init and self.capacity == "auto":
            raise ValueError('what `init` names has the size that it has: leave `capacity = "auto"` out')
        self.start_: PretrainedCheckpoint | None = None
        self.init_digest_ = ""

    def _content_of_files(self) -> dict[str, Any]:
        content = super()._content_of_files()
        return {**content, "init": self.init_digest_ or self._start().digest} if self.init else content

    def public_parameters(self) -> dict[str, Any]:
        """The parameters, files told by their names alone."""
        return {**super().public_parameters(), "init": Path(self.init).name}

    def precompute(self, cohort: Cohort) -> None:
        """Compute the feature maps that the store lacks; refuse a grid that ``init`` does not fit."""
        if self.init:
            self._require_grid(cohort.grid)
        super().precompute(cohort)

    def report(self, cohort: Cohort) -> FitReport:
        """As for every network; warns of scans that were in the pre-training, where its file is at hand."""
        known = self.init and (self.start_ is not None or not self.init_digest_)
        seen = self._start().seen(cohort) if known else 0
        said = (
            f"{self.name}: {seen} of {len(cohort)} scans were among those of its pre-training, which looked at no "
            "outcome; but a scan that it has seen is not new to it."
        )
        return replace(super().report(cohort), warnings=(said,) if seen else ())

    def _start(self) -> PretrainedCheckpoint:
        """Where it starts; the file is read once."""
        if self.start_ is None:
            start = PretrainedCheckpoint.read(Path(self.init))
            start.require_same(self.get_params(), self.name)
            self.start_, self.init_digest_ = start, start.digest
        return self.start_

    def _load_backbone(self) -> Backbone:
        return self._start().backbone if self.init else super()._load_backbone()

    def _learn_inputs(self, cohort: Cohort) -> None:
        if self.init:
            self._require_grid(cohort.grid)
        super()._learn_inputs(cohort)

    def _learnt_projections(self, cohort: Cohort, stacks: Sequence[str]) -> dict[str, Projection]:
        return dict(self._start().projections) if self.init else super()._learnt_projections(cohort, stacks)

    def _require_grid(self, grid: Grid) -> None:
        """Refuse a grid of another spacing, or one whose stacks need other blocks."""
        start = self._start()
        if grid.spacing_mm != start.grid.spacing_mm:
            differing = f"the voxels are {grid.spacing_mm} mm apart, there {start.grid.spacing_mm}"
            raise mismatch(self.name, differing)
        planes = self.planes * len(self.layers)
        for plane, (stack, there) in zip(planes, start.shapes.items(), strict=True):
            here: Shape = (there[0], grid.shape[AXIS[plane]], *there[2:])
            plans = [
                plan_blocks(shape[1:], spacing_of_maps(grid, plane, shape) if self.anisotropy == "spacing" else None)
                for grid, shape in ((grid, here), (start.grid, there))
            ]
            if plans[0] != plans[1]:
                differing = f"the {stack} stack has {here[1]} slices, there {there[1]}, and so other blocks"
                raise mismatch(self.name, differing)

    def _branch(self, stack: str) -> StackBranch:
        size = self.capacity_
        return self.branch(
            self.shapes_[stack],
            reduced=size.reduced_channels,
            width=size.width,
            spacing_mm=self.spacings_[stack] if self.anisotropy == "spacing" else None,
            taps=self.taps,
            smoothing=self.blocks_start == "smoothing",
        )

    def _initialised(self) -> nn.Module:
        network = super()._initialised()
        if self.init and self._start().branches:
            assert isinstance(network, PlanesNetwork)
            network.branches.load_state_dict(self._start().branches)
        return network

    def _notes(self) -> dict[str, Any]:
        return {**super()._notes(), **({"init": self.init_digest_} if self.init else {})}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self.init_digest_ = notes.get("init", "")
        super()._restore(arrays, notes)


@register
@dataclass(kw_only=True, config=CONFIG)
class CNN2D(StackedMaps):
    """The same feature maps, each slice by itself: 2D convolutions, slices pooled as a set without order."""

    kind: ClassVar[str] = "cnn2d"
    summary: ClassVar[str] = "2D CNN on the same feature maps, slices pooled without their order"

    def _branch(self, stack: str) -> SliceBranch:
        size = self.capacity_
        return SliceBranch(self.shapes_[stack], reduced=size.reduced_channels, width=size.width)
