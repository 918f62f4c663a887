"""2Be3-Net: pre-trained 2D network, stacked feature maps, 3D CNN; and its ablation without the order of slices."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass
from torch import nn

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import Fold
from twobe3.core.outcomes import FloatArray
from twobe3.features.slices import Plane, SliceSpec
from twobe3.features.stacks import IMAGE_STACKS, ImageStack, ImageStacks
from twobe3.io.cache import Arrays
from twobe3.models.model import CONFIG, FitReport
from twobe3.models.inner_cv import inner_split
from twobe3.models.nn.cross_fit import Expert, compose, train_cross_fitted
from twobe3.models.nn.inputs import BACKBONE, MAP_STACKS, FeatureMaps, MapStack, ModelInput, StackInputs
from twobe3.models.nn.lora import NETWORK, EndToEnd, Finetune, SliceMaps, merge_lora, parameter_groups, unfreeze
from twobe3.models.nn.networks import PlanesNetwork, SliceBranch, StackBranch
from twobe3.models.nn.neural_model import NeuralModel
from twobe3.models.nn.size import NetworkSize
from twobe3.models.nn.training import train_ensemble
from twobe3.models.pretrained import PretrainedCheckpoint
from twobe3.models.registry import register


@dataclass(kw_only=True, config=CONFIG)
class StackedMapsModel(NeuralModel):
    """A network on the stacked feature maps of a 2D network; :meth:`make_branch` says which.

    Each plane, and of several layers each layer of it, has a stack, principal components and a branch of its own.

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
    components : int
        Principal components of the maps' channels that the network sees.
    reduced_channels : int
        Channels that the first 1×1 convolution leaves of them.
    width : int
        Channels of the convolution blocks.
    finetune : {"none", "low-rank", "last-stage", "all"}
        Which parameters of the 2D network are trained too, see :func:`~twobe3.models.nn.lora.unfreeze`: once the
        network on its maps is trained, every member goes on with a copy of the 2D network, end to end. For a GPU.
    finetune_epochs : int
        Passes over the training patients then.
    finetune_learning_rate : float
        Of the 2D network; the network on its maps keeps ``learning_rate``.
    rank : int
        Of low-rank products.
    """

    backbone: str = "resnet18"
    weights: str = "pretrained"
    layer: NonNegativeInt | tuple[NonNegativeInt, ...] = 3
    planes: tuple[Plane, ...] = Field(default=("axial",), min_length=1)
    windows_suv: tuple[float, ...] = (5.0, 10.0, 25.0)
    slice_size: int = 128
    components: int = Field(default=32, ge=1)
    reduced_channels: int = Field(default=16, ge=1)
    width: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    fewest_steps: int = Field(default=150, ge=1)
    fewest_epochs: int = Field(default=40, ge=1)
    finetune: Finetune = Field(default="none")
    finetune_epochs: int = Field(default=10, ge=1)
    finetune_learning_rate: float = Field(default=1e-4, gt=0)
    rank: int = Field(default=4, ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        slices = SliceSpec(self.windows_suv, self.slice_size)
        self.maps_ = FeatureMaps(self.backbone, self.weights, self.layer, self.planes, slices)
        self.inputs_: StackInputs
        self.end_to_end_ = False  # whether the networks see volumes

    @abstractmethod
    def make_branch(self, stack: str) -> StackBranch | SliceBranch:
        """A fresh branch for a stack of the fitted inputs."""

    @property
    def maps(self) -> FeatureMaps:
        """The feature maps, computed and kept where this model says."""
        return self.maps_.at(self.cache, self.device)

    @property
    def uses_maps(self) -> bool:
        """Whether the 2D network is needed."""
        return True

    def _content_of_files(self) -> dict[str, Any]:
        return {"weights": self.maps.cache_key() if self.uses_maps else ""}

    def precompute(self, cohort: Cohort) -> None:
        """Compute the stacks that the cache lacks, those of augmented scans among them."""
        self.make_inputs().precompute(cohort, self._versions(self.augmentations))

    def default_size(self) -> NetworkSize:
        """The size that the parameters say."""
        return NetworkSize(self.components, self.reduced_channels, self.width, self.dropout)

    def make_inputs(self) -> StackInputs:
        """Stacks of maps, projected onto the training patients' principal components."""
        return StackInputs(self.maps, self.size_.components)

    def make_network(self, *, covariates: int, outputs: int) -> PlanesNetwork:
        """A branch for each stack, joined by one linear layer."""
        branches = {stack: self.make_branch(stack) for stack in self.inputs_.shapes}
        return PlanesNetwork(branches, dropout=self.size_.dropout, covariates=covariates, outputs=outputs)

    def _transform(self, cohort: Cohort, augmentations: int) -> list[ModelInput]:
        now = self.make_inputs()  # where they are kept and computed may have changed since the fit
        self.inputs_ = replace(self.inputs_, maps=now.maps, images=now.images, end_to_end=self.end_to_end_)
        return super()._transform(cohort, augmentations)

    def contributions(self, cohort: Cohort) -> dict[str, FloatArray]:
        """What each stack, and the covariates, add; empty with one part, with a hazard, or a tuned 2D network."""
        names = [*self.inputs_.stacks, *(["covariates"] if self.encoder_ is not None else [])]
        if len(names) < 2 or len(self.edges_) or self.end_to_end_:
            return {}
        inputs = [one.values for one in self._transform(cohort, 0)]
        with torch.inference_mode():
            parts = [network.contributions(inputs) for network in self.networks_ if isinstance(network, PlanesNetwork)]
        return dict(zip(names, torch.stack(parts).double().mean(dim=0).T.numpy(), strict=True))

    def _final_network(self, *, trainable: bool) -> nn.Module:
        network = self._build_network()
        return network if self.finetune == "none" else self._end_to_end(network, trainable=trainable)

    def _fit(self, cohort: Cohort) -> None:
        self.end_to_end_ = False
        super()._fit(cohort)
        if self.finetune != "none":
            self.train_end_to_end(cohort)

    def train_end_to_end(self, cohort: Cohort) -> None:
        """Go on training every member of the frozen fit, its 2D network with it."""
        self.end_to_end_ = True
        starts = [partial(self._end_to_end, network, trainable=True) for network in self.networks_]
        inputs, head = self._transform(cohort, self.augmentations), self.make_head(cohort)
        how = replace(self.training, epochs=self.finetune_epochs)
        groups = partial(parameter_groups, learning_rate=self.finetune_learning_rate)
        tuned = train_ensemble(starts, inputs, cohort.outcomes, how, self.seed, head, self.device, groups, resume=True)
        self.networks_ = [merge_lora(network) for network in tuned]

    def _end_to_end(self, network: nn.Module, *, trainable: bool) -> EndToEnd:
        """A network on maps, and before it a 2D network of its own."""
        assert isinstance(network, PlanesNetwork)
        maps = self.maps
        projections = tuple(self.inputs_.projections[stack] for stack in maps.stacks)
        if trainable:
            own = unfreeze(maps.backbone, maps.layers, self.finetune, rank=self.rank, picture_size=self.slice_size)
        else:
            own = copy.deepcopy(maps.backbone)
        return EndToEnd(SliceMaps(own, maps.layers, self.planes, maps.slices, projections), network)

    def _arrays(self) -> Arrays:
        """A 2D network that was tuned differs from the frozen one in some arrays, which alone are kept of it."""
        arrays, frozen = super()._arrays(), self._frozen_in_members()
        same = {name for name, array in frozen.items() if np.array_equal(arrays[name], array)}
        return {name: array for name, array in arrays.items() if name not in same}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        if self.uses_maps:
            self.maps_.restore(arrays, notes)
        super()._restore({**self._frozen_in_members(), **arrays}, notes)
        self.end_to_end_ = self.finetune != "none"

    def _frozen_in_members(self) -> Arrays:
        """The frozen 2D network under the names that it has in each member that is trained end to end."""
        if self.finetune == "none":
            return {}
        return {
            f"member{member}.{NETWORK}{name.removeprefix(BACKBONE)}": array
            for name, array in self.maps.arrays().items()
            for member in range(self.ensemble_size)
        }


@register
@dataclass(kw_only=True, config=CONFIG)
class TwoBe3Net(StackedMapsModel):
    """2Be3-Net: a 3D CNN on the stacked feature maps of a pre-trained 2D network (Thomas et al., MICAD 2021).

    Parameters
    ----------
    inputs : tuple of {"maps", "image", "profile"}
        What the 3D CNN sees, each as stacks with branches of their own: the feature maps, which are the paper's, the
        SUV image itself on a coarse grid, and a profile of it along the body; see
        :func:`~twobe3.features.stacks.pool_image`. Without maps the 2D network is not needed.
    anisotropy : {"shape", "spacing"}
        What decides which axes a block of the 3D CNN convolves and halves: how many positions the maps have along
        them, or how far apart these are in mm; see :func:`~twobe3.models.nn.networks.plan_blocks`.
    taps : int
        After how many of the last blocks average and maximum are taken, beside those before the first; 0: after all.
    blocks_start : {"smoothing", "random"}
        Whether blocks start as averages over what they merge, see :func:`~twobe3.models.nn.networks.init_smoothing`.
    init : str
        A file of ``twobe3 pretrain`` from which the 2D network, the principal components and the branches start; the
        last layer starts as always. Empty: ``weights``, the training patients' components, random branches.
    """

    kind: ClassVar[str] = "2be3-net"
    summary: ClassVar[str] = "3D CNN on the stacked feature maps of a 2D network, frozen or fine-tuned"
    branch: ClassVar[type[StackBranch]] = StackBranch

    weighing: Literal["joint", "cross-fitted"] = Field(default="joint")
    inner_folds: int = Field(default=4, ge=2)
    inputs: tuple[MapStack | ImageStack, ...] = Field(default=("maps",), min_length=1)
    shift_share: float = Field(default=0.125, ge=0, le=0.5)
    anisotropy: Literal["shape", "spacing"] = Field(default="shape")
    taps: int = Field(default=4, ge=0)
    blocks_start: Literal["smoothing", "random"] = Field(default="smoothing")
    init: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.inputs)) < len(self.inputs):
            raise ValueError(f"each of `inputs` may stand once, got {list(self.inputs)}")
        if (self.init or self.finetune != "none") and ("maps" not in self.inputs or "map-profile" in self.inputs):
            raise ValueError('`init` and `finetune` need "maps" among the `inputs`, and no "map-profile"')
        if self.init and self.weights != "pretrained":
            raise ValueError("`init` brings the weights of the 2D network along: leave `weights` out")
        if self.init and self.capacity == "auto":
            raise ValueError('what `init` names has the size that it has: leave `capacity = "auto"` out')
        self.checkpoint_: PretrainedCheckpoint | None = None
        self.init_digest_ = ""

    @property
    def uses_maps(self) -> bool:
        """Whether maps are among the inputs."""
        return bool(_those_of(self.inputs, MAP_STACKS))

    def make_inputs(self) -> StackInputs:
        """Stacks of maps, of the image, or of both."""
        images = ImageStacks(_those_of(self.inputs, IMAGE_STACKS), self.windows_suv, self.cache)
        of_maps = _those_of(self.inputs, MAP_STACKS)
        return replace(super().make_inputs(), images=images, of_maps=of_maps) if of_maps else StackInputs(None, 0, images)

    def make_branch(self, stack: str) -> StackBranch:
        """3D convolutions over the stack."""
        return self.branch(
            self.inputs_.shapes[stack],
            reduced=self.size_.reduced_channels,
            width=self.size_.width,
            spacing_mm=self.inputs_.spacings_mm[stack] if self.anisotropy == "spacing" else None,
            taps=self.taps,
            smoothing=self.blocks_start == "smoothing",
        )

    def _fit(self, cohort: Cohort) -> None:
        split = self._split(cohort) if self.weighing == "cross-fitted" else ()
        if not split:
            super()._fit(cohort)
            return
        self.fit_head(cohort)
        self.fit_inputs(cohort)
        self.networks_ = self._cross_fit(cohort, split)

    def _split(self, cohort: Cohort) -> tuple[Fold, ...]:
        return inner_split(cohort.outcomes, self.inner_folds, self.seed, centres=cohort.centres)

    def _cross_fit(self, cohort: Cohort, split: Sequence[Fold]) -> list[nn.Module]:
        """A network for each inner fold, put together from experts, one of each stack."""
        inputs = dict(zip([*self.inputs_.stacks, "covariates"], self._transform(cohort, self.augmentations)))
        experts = {name: Expert(partial(self._expert, name), [values]) for name, values in inputs.items()}
        folds, origins, blend = train_cross_fitted(
            experts, cohort.outcomes, split, self.training, 1000 * self.seed, self.device
        )
        networks = []
        for trained, origin in zip(folds, origins, strict=True):
            network = self._build_network()
            assert isinstance(network, PlanesNetwork)
            compose(network, list(trained.values()), origin, blend)
            networks.append(network.eval())
        self.blend_ = blend
        return networks

    def _expert(self, name: str) -> PlanesNetwork:
        columns = len(self.encoder_.columns) if name == "covariates" and self.encoder_ is not None else 0
        branches = {name: self.make_branch(name)} if name in self.inputs_.stacks else {}
        network = PlanesNetwork(branches, dropout=self.size_.dropout, covariates=columns)
        self._load_branches(network)
        return network

    def _checkpoint(self) -> PretrainedCheckpoint:
        """Where it starts, if ``init`` names it; the file is read once."""
        if self.checkpoint_ is None:
            self.checkpoint_ = PretrainedCheckpoint.read(Path(self.init))
            self.checkpoint_.require_same(self.get_params(), self.name)
            self.init_digest_ = self.checkpoint_.digest
        return self.checkpoint_

    @property
    def maps(self) -> FeatureMaps:
        """The feature maps, those of the 2D network of ``init`` where it is given."""
        if self.init and self.maps_.loaded is None:
            self.maps_.loaded = self._checkpoint().backbone
        return super().maps

    def _content_of_files(self) -> dict[str, Any]:
        files = super()._content_of_files()
        return {**files, "init": self.init_digest_ or self._checkpoint().digest} if self.init else files

    def public_parameters(self) -> dict[str, Any]:
        """The parameters, files told by their names alone."""
        return {**super().public_parameters(), "init": Path(self.init).name}

    def precompute(self, cohort: Cohort) -> None:
        """Compute the feature maps that the cache lacks; refuse a grid that ``init`` does not fit."""
        if self.init:
            self._checkpoint().require_grid(cohort.grid, self.name)
        super().precompute(cohort)

    def report(self, cohort: Cohort) -> FitReport:
        """As for every network; warns of scans that were in the pre-training, where its file is at hand."""
        at_hand = self.init and (self.checkpoint_ is not None or not self.init_digest_)
        seen = self._checkpoint().count_seen(cohort) if at_hand else 0
        said = (
            f"{self.name}: {seen} of {len(cohort)} scans were among those of its pre-training, which looked at no "
            "outcome; but a scan that it has seen is not new to it."
        )
        return replace(super().report(cohort), warnings=(said,) if seen else ())

    def fit_inputs(self, cohort: Cohort) -> None:
        """Learn the principal components, or take those of ``init``."""
        inputs = self.make_inputs()
        if self.init:
            self._checkpoint().require_grid(cohort.grid, self.name)
            inputs = replace(inputs, projections=self._checkpoint().inputs.projections)
        self.inputs_ = inputs.fit(cohort)

    def _init_network(self) -> nn.Module:
        network = super()._init_network()
        assert isinstance(network, PlanesNetwork)
        self._load_branches(network)
        return network

    def _load_branches(self, network: PlanesNetwork) -> None:
        """Start a network's branches from those of ``init``, as far as it has them."""
        learnt = self._checkpoint().branches if self.init else {}
        for stack, branch in network.branches.items():
            here = f"{stack}."
            state = {name.removeprefix(here): value for name, value in learnt.items() if name.startswith(here)}
            if state:
                branch.load_state_dict(state)

    def _notes(self) -> dict[str, Any]:
        return {**super()._notes(), "init": self.init_digest_}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self.init_digest_ = notes["init"]
        super()._restore(arrays, notes)


@register
@dataclass(kw_only=True, config=CONFIG)
class CNN2D(StackedMapsModel):
    """The same feature maps, each slice by itself: 2D convolutions, slices pooled as a set without order."""

    kind: ClassVar[str] = "cnn2d"
    summary: ClassVar[str] = "2D CNN on the same feature maps, slices pooled without their order"

    def make_branch(self, stack: str) -> SliceBranch:
        """2D convolutions over the slices of the stack."""
        return SliceBranch(self.inputs_.shapes[stack], reduced=self.size_.reduced_channels, width=self.size_.width)


S = TypeVar("S", bound=str)


def _those_of(inputs: Sequence[str], known: tuple[S, ...]) -> tuple[S, ...]:
    """The inputs that are among the known ones, in their order."""
    return tuple(one for name in inputs for one in known if one == name)
