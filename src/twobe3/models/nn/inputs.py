"""What networks see: stacks of feature maps, or volumes."""

from __future__ import annotations

import copy
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass
from torch import nn

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.grid import Grid
from twobe3.features.augment import Augmentation
from twobe3.features.backbones import Backbone, build_backbone, load_backbone
from twobe3.features.maps import MapExtractor
from twobe3.features.slices import AXIS, LEFT_RIGHT_AXIS, Plane, SliceSpec
from twobe3.features.weights import WeightsSource
from twobe3.io.cache import Arrays
from twobe3.models.model import CONFIG, Model
from twobe3.models.nn.batches import ModelInput
from twobe3.models.nn.heads import ResumedHead
from twobe3.models.nn.lora import NETWORK, EndToEnd, Finetune, SliceMaps, merged, opened, parameter_groups
from twobe3.models.nn.networks import PlanesNetwork, Shape, SliceBranch, Spacing, StackBranch
from twobe3.models.nn.neural_model import NeuralModel
from twobe3.models.nn.pca import Projection
from twobe3.models.nn.size import NetworkSize
from twobe3.models.nn.training import TrainingParameters, train_ensemble

Maps = npt.NDArray[np.float16]


PREFIX = "backbone."


@dataclass(kw_only=True, config=CONFIG)
class MapModel(Model):
    """A model on the feature maps of a frozen 2D network.

    Parameters
    ----------
    backbone : str
        Name of the 2D network, see ``twobe3 list backbones``.
    weights : str
        ``"pretrained"``, a local safetensors file, ``"hf:owner/repository"``, or ``"random"``.
    layer : int or tuple of int
        Which layer's maps, or those of several; 0 is the stem. Layer 3 has stride 16 in the networks of the table.
    planes : tuple of {"axial", "coronal", "sagittal"}
        Cutting planes.
    windows_suv : tuple of float
        Upper ends of the SUV windows, a channel each.
    slice_size : int
        Rows and columns of the pictures that the 2D network sees.
    """

    backbone: str = "resnet18"
    weights: str = "pretrained"
    layer: NonNegativeInt | tuple[NonNegativeInt, ...] = 3
    planes: tuple[Plane, ...] = Field(default=("axial",), min_length=1)
    windows_suv: tuple[float, ...] = (5.0, 10.0, 25.0)
    slice_size: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.planes)) < len(self.planes):
            raise ValueError(f"each plane may stand once, got {self.planes}")
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ValueError(f"`layer` must be one layer or several different ones, got {self.layer}")
        self.slices_ = SliceSpec(self.windows_suv, self.slice_size)
        self.backbone_: Backbone | None = None

    def cache_key(self) -> str:
        """As for every model, and what its maps depend on; not the path of the weights, but the weights."""
        parameters = {key: value for key, value in self.identifying_parameters().items() if key != "weights"}
        maps = " ".join(extractor.cache_key() for extractor in self.extractors())
        return f"{self.kind} {self.version} {json.dumps(parameters, sort_keys=True)} {maps}{self.device.cache_key()}"

    def public_parameters(self) -> dict[str, Any]:
        """The parameters, a weights file told by its name alone."""
        return {**self.parameters(), "weights": WeightsSource.parse(self.weights).label}

    def prepare(self, cohort: Cohort) -> None:
        """Compute the feature maps that the store lacks."""
        for extractor in self.extractors():
            for subject in cohort.subjects:
                extractor.extract(cohort, subject)

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose maps are used."""
        return self.layer if isinstance(self.layer, tuple) else (self.layer,)

    def extractors(self, augmentation: Augmentation | None = None) -> list[MapExtractor]:
        """A feature extractor for each layer; the 2D network is loaded on first use.

        Parameters
        ----------
        augmentation : Augmentation, optional
            Of the scans.

        Raises
        ------
        ConfigurationError
            Whatever is wrong with the network's name or its weights, see
            :func:`~twobe3.features.backbones.load_backbone`; ``LAYER_OUT_OF_RANGE``.
        """
        if self.backbone_ is None:
            self.backbone_ = self._load_backbone()
        for layer in self.layers:
            self.backbone_.require_layer(layer)
        device = self.device.torch_device()
        return [
            MapExtractor(self.backbone_, layer, self.planes, self.slices_, self.cache, augmentation, device)
            for layer in self.layers
        ]

    def _load_backbone(self) -> Backbone:
        return load_backbone(self.backbone, self.weights)

    def _backbone_arrays(self) -> Arrays:
        network = self.extractors()[0].backbone.network
        return {f"{PREFIX}{key}": value.numpy() for key, value in network.state_dict().items()}

    def _backbone_notes(self) -> dict[str, Any]:
        backbone = self.extractors()[0].backbone
        return {"mean": backbone.mean, "std": backbone.std}

    def _restore_backbone(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        state = {
            key.removeprefix(PREFIX): torch.from_numpy(array) for key, array in arrays.items() if key.startswith(PREFIX)
        }
        self.backbone_ = build_backbone(
            self.backbone, state, mean=tuple(notes["mean"]), std=tuple(notes["std"]), weights=self.weights
        )


@dataclass(kw_only=True, config=CONFIG)
class StackedMaps(MapModel, NeuralModel):
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
        Which parameters of the 2D network are trained too, see :func:`~twobe3.models.nn.lora.opened`: once the network
        on its maps is trained, every member goes on with a copy of the 2D network, end to end. For a GPU.
    finetune_epochs : int
        Passes over the training patients then.
    finetune_learning_rate : float
        Of the 2D network; the network on its maps keeps ``learning_rate``.
    rank : int
        Of low-rank products.
    """

    joined_later: ClassVar[Mapping[str, Any]] = {
        **NeuralModel.joined_later,
        "finetune": "none",
        "finetune_epochs": 10,
        "finetune_learning_rate": 1e-4,
        "rank": 4,
    }

    components: int = Field(default=32, ge=1)
    reduced_channels: int = Field(default=16, ge=1)
    width: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    ensemble_size: int = Field(default=3, ge=1)
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
                for subject in cohort.subjects:
                    extractor.extract(cohort, subject)

    @abstractmethod
    def _branch(self, stack: str) -> StackBranch | SliceBranch:
        """A fresh branch for a stack of maps."""

    def _own_capacity(self) -> NetworkSize:
        return NetworkSize(self.components, self.reduced_channels, self.width, self.dropout)

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
        tuned = train_ensemble(starts, inputs, outcomes, how, self.seed, head, self.device, groups)
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
        stacks = list(dict(self._maps(cohort, cohort.subjects[0])))
        self.projections_ = self._learnt_projections(cohort, stacks)
        projected = {name: self.projections_[name](maps) for name, maps in self._maps(cohort, cohort.subjects[0])}
        self.shapes_ = {name: _shape(maps) for name, maps in projected.items()}
        planes = dict(zip(stacks, self.planes * len(self.layers), strict=True))
        self.spacings_ = {
            name: spacing_of_maps(cohort.grid, planes[name], shape) for name, shape in self.shapes_.items()
        }

    def _learnt_projections(self, cohort: Cohort, stacks: Sequence[str]) -> dict[str, Projection]:
        """The principal components of each stack's maps."""
        return {
            stack: Projection.fit(
                (maps for subject in cohort.subjects for name, maps in self._maps(cohort, subject) if name == stack),
                self.capacity_.components,
            )
            for stack in stacks
        }

    def _maps(
        self, cohort: Cohort, subject: Subject, augmentation: Augmentation | None = None
    ) -> Iterator[tuple[str, Maps]]:
        """Name and maps of each stack of a scan: one for each plane, of several layers one for each plane of each."""
        for extractor in self.extractors(augmentation):
            for plane, maps in extractor.extract(cohort, subject).items():
                yield (plane if len(self.layers) == 1 else f"{plane}-{extractor.layer}"), maps

    def _inputs(self, cohort: Cohort, augmentations: int) -> list[ModelInput]:
        if self.tuned_:
            return [self._volumes(cohort, augmentations)]
        scans, *augmented = (
            self._projected(cohort, version) for version in (None, *self._augmentations(augmentations))
        )
        axes = [LEFT_RIGHT_AXIS[plane] for _ in self.layers for plane in self.planes]
        return [
            ModelInput(scans[name], axis, tuple(version[name] for version in augmented))
            for name, axis in zip(self.projections_, axes, strict=True)
        ]

    def _projected(self, cohort: Cohort, augmentation: Augmentation | None) -> dict[str, torch.Tensor]:
        """For each stack the projected maps of all patients: (n, components, n_slices, height, width)."""
        rows: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in self.projections_}
        for subject in cohort.subjects:
            for name, maps in self._maps(cohort, subject, augmentation):
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
            for member in range(self.ensemble_size)
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


def spacing_of_maps(grid: Grid, plane: Plane, shape: Shape) -> Spacing:
    """How far apart the positions of a stack of maps are, in mm: along the stack, between rows, between columns."""
    lengths = [grid.spacing_mm[axis] * grid.shape[axis] for axis in range(3)]
    along = AXIS[plane]
    rows, columns = (length for axis, length in enumerate(lengths) if axis != along)
    _, slices, height, width = shape
    return lengths[along] / slices, rows / height, columns / width


def _shape(maps: npt.NDArray[np.float32]) -> Shape:
    channels, slices, height, width = maps.shape
    return channels, slices, height, width
