"""2Be3-Net: pre-trained 2D network, stacked feature maps, 3D CNN; and its ablation without the order of slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from twobe3.cohort import Cohort
from twobe3.features.slices import LEFT_RIGHT_AXIS, Plane
from twobe3.models.base import CONFIG, register
from twobe3.models.linear import FloatArray
from twobe3.models.mapped import MapModel
from twobe3.models.networks import PlanesNetwork, Shape, SliceBranch, StackBranch
from twobe3.models.projection import Projection
from twobe3.models.training import (
    Stack,
    TrainingParameters,
    ensemble_risk,
    member_from_arrays,
    members_to_arrays,
    train_ensemble,
)
from twobe3.store import Arrays


@dataclass(kw_only=True, config=CONFIG)
class StackedMaps(MapModel, TrainingParameters):
    """A network trained on the stacked feature maps; subclasses say with which branch.

    Parameters
    ----------
    components : int
        Principal components of the maps' channels that the network sees.
    reduced_channels : int
        Channels that the first 1×1 convolution leaves of them.
    width : int
        Channels of the convolution blocks.
    """

    branch: ClassVar[type[StackBranch] | type[SliceBranch]]

    components: int = Field(default=32, ge=1)
    reduced_channels: int = Field(default=16, ge=1)
    width: int = Field(default=16, ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.networks_: list[nn.Module] = []
        self.projections_: dict[Plane, Projection] = {}
        self.shapes_: dict[Plane, Shape] = {}

    def _fit(self, cohort: Cohort) -> None:
        extractor = self.extractor()
        self.projections_ = {
            plane: Projection.fit((extractor.of_study(cohort, s)[plane] for s in cohort.studies), self.components)
            for plane in self.planes
        }
        stacks = self._stacks(cohort)
        self.shapes_ = {plane: _shape(stack) for plane, stack in zip(self.planes, stacks, strict=True)}
        self.networks_ = train_ensemble(self._network, stacks, cohort.outcomes, self, self.seed)

    def _risk(self, cohort: Cohort) -> FloatArray:
        return ensemble_risk(self.networks_, self._stacks(cohort), self.batch_size)

    def _stacks(self, cohort: Cohort) -> list[Stack]:
        """For each plane the projected maps of all patients: (n, components, n_slices, height, width)."""
        extractor = self.extractor()
        rows: dict[Plane, list[npt.NDArray[np.float32]]] = {plane: [] for plane in self.planes}
        for study in cohort.studies:
            for plane, maps in extractor.of_study(cohort, study).items():
                rows[plane].append(self.projections_[plane](maps))
        return [Stack(torch.from_numpy(np.stack(rows[plane])), LEFT_RIGHT_AXIS[plane]) for plane in self.planes]

    def _network(self) -> PlanesNetwork:
        return PlanesNetwork(
            self.branch, self.shapes_, reduced=self.reduced_channels, width=self.width, dropout=self.dropout
        )

    def _arrays(self) -> Arrays:
        learnt: dict[str, npt.NDArray[Any]] = dict(members_to_arrays(self.networks_))
        for plane, projection in self.projections_.items():
            learnt.update(projection.arrays(f"projection.{plane}."))
        return {**self._backbone_arrays(), **learnt}

    def _notes(self) -> dict[str, Any]:
        return {**self._backbone_notes(), "shapes": self.shapes_}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self._restore_backbone(arrays, notes)
        self.shapes_ = {plane: tuple(notes["shapes"][plane]) for plane in self.planes}
        self.projections_ = {plane: Projection.from_arrays(arrays, f"projection.{plane}.") for plane in self.planes}
        self.networks_ = [member_from_arrays(self._network(), arrays, member) for member in range(self.members)]


@register
@dataclass(kw_only=True, config=CONFIG)
class TwoBe3Net(StackedMaps):
    """2Be3-Net: a 3D CNN on the stacked feature maps of a pre-trained 2D network (Thomas et al., MICAD 2021)."""

    kind: ClassVar[str] = "2be3-net"
    summary: ClassVar[str] = "3D CNN on the stacked feature maps of a frozen 2D network"
    branch: ClassVar[type[StackBranch] | type[SliceBranch]] = StackBranch


@register
@dataclass(kw_only=True, config=CONFIG)
class CNN2D(StackedMaps):
    """The same feature maps, each slice by itself: 2D convolutions, slices pooled as a set without order."""

    kind: ClassVar[str] = "cnn2d"
    summary: ClassVar[str] = "2D CNN on the same feature maps, slices pooled without their order"
    branch: ClassVar[type[StackBranch] | type[SliceBranch]] = SliceBranch


def _shape(stack: Stack) -> Shape:
    _, channels, slices, height, width = stack.values.shape
    return channels, slices, height, width
