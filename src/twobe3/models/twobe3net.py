"""2Be3-Net: pre-trained 2D network, stacked feature maps, 3D CNN; and its ablation without the order of slices."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from twobe3.cohort import Cohort, Study
from twobe3.features.augment import Augmentation
from twobe3.features.backbones import Backbone
from twobe3.features.slices import AXIS, LEFT_RIGHT_AXIS, Plane
from twobe3.models.base import CONFIG, register
from twobe3.models.batches import Stack
from twobe3.models.capacity import Capacity
from twobe3.models.finetune import NETWORK, EndToEnd, Finetune, SliceMaps, merged, opened, parameter_groups
from twobe3.models.heads import ResumedHead
from twobe3.models.mapped import PREFIX, MapModel
from twobe3.models.networks import PlanesNetwork, Shape, SliceBranch, Spacing, StackBranch, plan_blocks
from twobe3.models.projection import Projection
from twobe3.models.start import Start, mismatch
from twobe3.models.trained import NetworkModel
from twobe3.models.training import TrainingParameters, train_ensemble
from twobe3.resample import VolumeSpec
from twobe3.store import Arrays

Maps = npt.NDArray[np.float16]


@dataclass(kw_only=True, config=CONFIG)
class StackedMaps(MapModel, NetworkModel):
    """A network trained on the stacked feature maps; subclasses say with which branch.

    Each plane, and of several layers each layer of it, has a stack, principal components and a branch of its own.

    Parameters
    ----------
    components : int
        Principal components of the maps' channels that the network sees.
    reduced_channels : int
        Channels that the first 1×1 convolution leaves of them.
    width : int
        Channels of the convolution blocks.
    finetune : {"none", "low-rank", "last-stage", "all"}
        Which parameters of the 2D network are trained too, see :func:`~twobe3.models.finetune.opened`: once the network
        on its maps is trained, every member goes on with a copy of the 2D network, end to end. For a GPU.
    finetune_epochs : int
        Passes over the training patients then.
    finetune_learning_rate : float
        Of the 2D network; the network on its maps keeps ``learning_rate``.
    rank : int
        Of low-rank products.
    """

    joined_later: ClassVar[Mapping[str, Any]] = {
        **NetworkModel.joined_later,
        "finetune": "none",
        "finetune_epochs": 10,
        "finetune_learning_rate": 1e-4,
        "rank": 4,
    }

    components: int = Field(default=32, ge=1)
    reduced_channels: int = Field(default=16, ge=1)
    width: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    members: int = Field(default=3, ge=1)
    fewest_steps: int = Field(default=150, ge=1)
    fewest_epochs: int = Field(default=40, ge=1)
    finetune: Finetune = Field(default="none")
    finetune_epochs: int = Field(default=10, ge=1)
    finetune_learning_rate: float = Field(default=1e-4, gt=0)
    rank: int = Field(default=4, ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.projections_: dict[str, Projection] = {}
        self.shapes_: dict[str, Shape] = {}
        self.spacings_: dict[str, Spacing] = {}
        self.tuned_ = False  # whether the networks see volumes

    def prepare(self, cohort: Cohort) -> None:
        """Compute the feature maps that the store lacks, those of augmented scans among them."""
        super().prepare(cohort)
        for augmentation in self._augmentations(self.augmentations):
            for extractor in self.extractors(augmentation):
                for study in cohort.studies:
                    extractor.of_study(cohort, study)

    @abstractmethod
    def _branch(self, stack: str) -> StackBranch | SliceBranch:
        """A fresh branch for a stack of maps."""

    def _own_capacity(self) -> Capacity:
        return Capacity(self.components, self.reduced_channels, self.width, self.dropout)

    def _fit(self, cohort: Cohort) -> None:
        self.tuned_ = False
        super()._fit(cohort)
        if self.finetune != "none":
            self._tune(cohort)

    def _tune(self, cohort: Cohort) -> None:
        """Go on training every member of the frozen fit, its 2D network with it."""
        self.tuned_ = True
        starts = [partial(self._end_to_end, network, training=True) for network in self.networks_]
        inputs, outcomes = self._all_inputs(cohort, self.augmentations), cohort.outcomes
        how = TrainingParameters(
            **{item.name: getattr(self, item.name) for item in fields(TrainingParameters)}
            | {"epochs": self.finetune_epochs}
        )
        groups = partial(parameter_groups, learning_rate=self.finetune_learning_rate)
        head = ResumedHead(self._head(cohort))
        tuned = train_ensemble(starts, inputs, outcomes, how, self.seed, head, self.engine, groups)
        self.networks_ = [merged(network) for network in tuned]

    def _end_to_end(self, network: nn.Module, *, training: bool) -> EndToEnd:
        """A network on maps, and before it a 2D network of its own."""
        assert isinstance(network, PlanesNetwork)
        backbone, size = self.extractors()[0].backbone, self.slices_.size
        if training:
            own = opened(backbone, self.layers, self.finetune, rank=self.rank, picture_size=size)
        else:
            own = copy.deepcopy(backbone)
        maps = SliceMaps(own, self.layers, self.planes, self.slices_, tuple(self.projections_.values()))
        return EndToEnd(maps, network)

    def _learn_inputs(self, cohort: Cohort) -> None:
        stacks = list(dict(self._maps(cohort, cohort.studies[0])))
        self.projections_ = self._learnt_projections(cohort, stacks)
        projected = {name: self.projections_[name](maps) for name, maps in self._maps(cohort, cohort.studies[0])}
        self.shapes_ = {name: _shape(maps) for name, maps in projected.items()}
        planes = dict(zip(stacks, self.planes * len(self.layers), strict=True))
        self.spacings_ = {
            name: spacing_of_maps(cohort.spec, planes[name], shape) for name, shape in self.shapes_.items()
        }

    def _learnt_projections(self, cohort: Cohort, stacks: Sequence[str]) -> dict[str, Projection]:
        """The principal components of each stack's maps."""
        return {
            stack: Projection.fit(
                (maps for study in cohort.studies for name, maps in self._maps(cohort, study) if name == stack),
                self.capacity_.components,
            )
            for stack in stacks
        }

    def _maps(
        self, cohort: Cohort, study: Study, augmentation: Augmentation | None = None
    ) -> Iterator[tuple[str, Maps]]:
        """Name and maps of each stack of a scan: one for each plane, of several layers one for each plane of each."""
        for extractor in self.extractors(augmentation):
            for plane, maps in extractor.of_study(cohort, study).items():
                yield (plane if len(self.layers) == 1 else f"{plane}-{extractor.layer}"), maps

    def _inputs(self, cohort: Cohort, augmentations: int) -> list[Stack]:
        if self.tuned_:
            return [self._volumes(cohort, augmentations)]
        scans, *augmented = (
            self._projected(cohort, version) for version in (None, *self._augmentations(augmentations))
        )
        axes = [LEFT_RIGHT_AXIS[plane] for _ in self.layers for plane in self.planes]
        return [
            Stack(scans[name], axis, tuple(version[name] for version in augmented))
            for name, axis in zip(self.projections_, axes, strict=True)
        ]

    def _projected(self, cohort: Cohort, augmentation: Augmentation | None) -> dict[str, torch.Tensor]:
        """For each stack the projected maps of all patients: (n, components, n_slices, height, width)."""
        rows: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in self.projections_}
        for study in cohort.studies:
            for name, maps in self._maps(cohort, study, augmentation):
                rows[name].append(self.projections_[name](maps))
        return {name: torch.from_numpy(np.stack(patients)) for name, patients in rows.items()}

    def _network(self, *, covariates: int, outputs: int) -> PlanesNetwork:
        branches = {stack: self._branch(stack) for stack in self.shapes_}
        return PlanesNetwork(branches, dropout=self.capacity_.dropout, covariates=covariates, outputs=outputs)

    def _whole(self, *, training: bool) -> nn.Module:
        network = super()._whole(training=training)
        return network if self.finetune == "none" else self._end_to_end(network, training=training)

    def _arrays(self) -> Arrays:
        frozen = self._frozen_in_members()
        learnt: dict[str, npt.NDArray[Any]] = {
            name: array
            for name, array in super()._arrays().items()
            if name not in frozen or not np.array_equal(array, frozen[name])
        }
        for stack, projection in self.projections_.items():
            learnt.update(projection.arrays(f"projection.{stack}."))
        return {**self._backbone_arrays(), **learnt}

    def _frozen_in_members(self) -> Arrays:
        """The frozen 2D network under the names of each member's own, of which a file has only what was tuned."""
        if self.finetune == "none":
            return {}
        return {
            f"member{member}.{NETWORK}{name.removeprefix(PREFIX)}": array
            for name, array in self._backbone_arrays().items()
            for member in range(self.members)
        }

    def _notes(self) -> dict[str, Any]:
        shapes = {"shapes": self.shapes_, "spacings_mm": self.spacings_}
        return {**self._backbone_notes(), **super()._notes(), **shapes}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self._restore_backbone(arrays, notes)
        self.shapes_ = {stack: tuple(shape) for stack, shape in notes["shapes"].items()}
        self.spacings_ = {stack: tuple(spacing) for stack, spacing in notes.get("spacings_mm", {}).items()}
        self.projections_ = {stack: Projection.from_arrays(arrays, f"projection.{stack}.") for stack in self.shapes_}
        super()._restore({**self._frozen_in_members(), **arrays}, notes)
        self.tuned_ = self.finetune != "none"


@register
@dataclass(kw_only=True, config=CONFIG)
class TwoBe3Net(StackedMaps):
    """2Be3-Net: a 3D CNN on the stacked feature maps of a pre-trained 2D network (Thomas et al., MICAD 2021).

    Parameters
    ----------
    anisotropy : {"shape", "spacing"}
        What decides which axes a block of the 3D CNN convolves and halves: how many positions the maps have along
        them, or how far apart these are in mm; see :func:`~twobe3.models.networks.plan_blocks`.
    taps : int
        After how many of the last blocks average and maximum are taken, beside those before the first; 0: after all.
    blocks_start : {"smoothing", "random"}
        Whether blocks start as averages over what they merge, see :func:`~twobe3.models.networks.start_smoothing`.
    init : str
        A file of ``twobe3 pretrain`` from which the 2D network, the principal components and the branches start; the
        last layer starts as always. Empty: ``weights``, the training patients' components, random branches.
    """

    kind: ClassVar[str] = "2be3-net"
    summary: ClassVar[str] = "3D CNN on the stacked feature maps of a 2D network, frozen or fine-tuned"
    joined_later: ClassVar[Mapping[str, Any]] = {
        **StackedMaps.joined_later,
        "anisotropy": "shape",
        "taps": 0,
        "blocks_start": "random",
        "init": "",
    }
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
        self.start_: Start | None = None
        self.init_digest_ = ""

    def identifying_parameters(self) -> dict[str, Any]:
        """As for every model; not the path of the file that it starts from, but its digest."""
        parameters = super().identifying_parameters()
        if self.init:
            parameters["init"] = self.init_digest_ or self._start().digest
        return parameters

    def public_parameters(self) -> dict[str, Any]:
        """The parameters, files told by their names alone."""
        return {**super().public_parameters(), "init": Path(self.init).name}

    def prepare(self, cohort: Cohort) -> None:
        """Compute the feature maps that the store lacks; refuse a grid that ``init`` does not fit."""
        if self.init:
            self._require_grid(cohort.spec)
        super().prepare(cohort)

    def cautions(self, cohort: Cohort) -> tuple[str, ...]:
        """How many scans were in the pre-training."""
        seen = self._start().seen(cohort) if self.init else 0
        if not seen:
            return ()
        return (
            f"{self.name}: {seen} of {len(cohort)} scans were among those of its pre-training, which looked at no "
            "outcome; but a scan that it has seen is not new to it.",
        )

    def _start(self) -> Start:
        """Where it starts; the file is read once."""
        if self.start_ is None:
            start = Start.read(Path(self.init))
            start.require_same(self.parameters(), self.name)
            self.start_, self.init_digest_ = start, start.digest
        return self.start_

    def _load_backbone(self) -> Backbone:
        return self._start().backbone if self.init else super()._load_backbone()

    def _learn_inputs(self, cohort: Cohort) -> None:
        if self.init:
            self._require_grid(cohort.spec)
        super()._learn_inputs(cohort)

    def _learnt_projections(self, cohort: Cohort, stacks: Sequence[str]) -> dict[str, Projection]:
        return dict(self._start().projections) if self.init else super()._learnt_projections(cohort, stacks)

    def _require_grid(self, spec: VolumeSpec) -> None:
        """Refuse a grid of another spacing, or one whose stacks need other blocks."""
        start = self._start()
        if spec.spacing_mm != start.spec.spacing_mm:
            differing = f"the voxels are {spec.spacing_mm} mm apart, there {start.spec.spacing_mm}"
            raise mismatch(self.name, differing)
        planes = self.planes * len(self.layers)
        for plane, (stack, there) in zip(planes, start.shapes.items(), strict=True):
            here: Shape = (there[0], spec.shape[AXIS[plane]], *there[2:])
            plans = [
                plan_blocks(shape[1:], spacing_of_maps(grid, plane, shape) if self.anisotropy == "spacing" else None)
                for grid, shape in ((spec, here), (start.spec, there))
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


def spacing_of_maps(spec: VolumeSpec, plane: Plane, shape: Shape) -> Spacing:
    """How far apart the positions of a stack of maps are, in mm: along the stack, between rows, between columns."""
    lengths = [spec.spacing_mm[axis] * spec.shape[axis] for axis in range(3)]
    along = AXIS[plane]
    rows, columns = (length for axis, length in enumerate(lengths) if axis != along)
    _, slices, height, width = shape
    return lengths[along] / slices, rows / height, columns / width


def _shape(maps: npt.NDArray[np.float32]) -> Shape:
    channels, slices, height, width = maps.shape
    return channels, slices, height, width
