"""What networks on the stacked maps of a 2D network share: the maps, the parts of the network, and fine-tuning."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass
from torch import nn

from twobe3.cohort.cohort import Cohort
from twobe3.core.outcomes import FloatArray
from twobe3.features.slices import Plane, SliceSpec
from twobe3.features.weights import WeightsSource
from twobe3.io.cache import Arrays
from twobe3.models.model import CONFIG
from twobe3.models.nn.feature_maps import BACKBONE, FeatureMaps, make_ct_maps
from twobe3.models.nn.inputs import ModelInput, StackInputs
from twobe3.models.nn.lora import NETWORK, EndToEnd, Finetune, SliceMaps, merge_lora, parameter_groups, unfreeze
from twobe3.models.nn.networks import PlanesNetwork, SliceBranch, StackBranch
from twobe3.models.nn.neural_model import NeuralModel
from twobe3.models.nn.size import NetworkSize
from twobe3.models.nn.training import train_ensemble


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
        Which layer's maps, or those of several; 0 is the stem. Layer 3 has stride 16 in most networks of the table,
        and cells of 8 voxels in ``"pet-lesions"``, see :class:`~twobe3.features.pet_lesions.PETLesionNetwork`.
    planes : tuple of {"axial", "coronal", "sagittal"}
        Cutting planes.
    windows_suv : tuple of float
        Upper ends of the SUV windows, a channel each.
    slice_size : int
        Rows and columns of the pictures that the 2D network sees; ``"pet-lesions"`` sees slices as they are.
    components : int
        Principal components of the maps' channels that the network sees.
    reduced_channels : int
        Channels that the first 1×1 convolution leaves of them.
    width : int
        Channels of the convolution blocks.
    ct_backbone, ct_weights, ct_layer
        The same of the maps of the CT, whose windows are the colours of the pictures: any 2D network but
        ``"pet-lesions"``, which knows SUV alone.
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

    backbone: str = "pet-lesions"
    weights: str = "pretrained"
    layer: NonNegativeInt | tuple[NonNegativeInt, ...] = 3
    planes: tuple[Plane, ...] = Field(default=("axial",), min_length=1)
    windows_suv: tuple[float, ...] = (5.0, 10.0, 25.0)
    slice_size: int = 128
    ct_backbone: str = "mobilenetv2_100"
    ct_weights: str = "pretrained"
    ct_layer: NonNegativeInt | tuple[NonNegativeInt, ...] = 3
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
        self.ct_maps_ = self._make_ct_maps() if self.uses_ct_maps else None
        if self.finetune != "none" and self.sees_ct:
            raise ValueError('`finetune` is for `modalities = ["pet"]`')
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
    def ct_maps(self) -> FeatureMaps | None:
        """The feature maps of the CT, computed and kept where this model says; None where they are no input."""
        return self.ct_maps_ and self.ct_maps_.at(self.cache, self.device)

    def _make_ct_maps(self) -> FeatureMaps:
        slices = SliceSpec(size=self.slice_size)
        return make_ct_maps(self.ct_backbone, self.ct_weights, self.ct_layer, self.planes, slices, self.windows_hu)

    @property
    def uses_maps(self) -> bool:
        """Whether the 2D network is needed."""
        return "pet" in self.modalities

    @property
    def uses_ct_maps(self) -> bool:
        """Whether the 2D network of the CT is needed."""
        return "ct" in self.modalities

    def _content_of_files(self) -> dict[str, Any]:
        of_ct = {"ct_weights": self.ct_maps.cache_key()} if self.ct_maps else {}
        return {"weights": self.maps.cache_key() if self.uses_maps else "", **of_ct}

    def public_parameters(self) -> dict[str, Any]:
        """The parameters, files told by their names alone."""
        return {**super().public_parameters(), "ct_weights": WeightsSource.parse(self.ct_weights).label}

    def precompute(self, cohort: Cohort) -> None:
        """Compute the stacks that the cache lacks, those of augmented scans among them."""
        self.make_inputs().precompute(cohort, self._versions(self.augmentations))

    def default_size(self) -> NetworkSize:
        """The size that the parameters say."""
        return NetworkSize(self.components, self.reduced_channels, self.width, self.dropout)

    def make_inputs(self) -> StackInputs:
        """Stacks of maps, projected onto the training patients' principal components."""
        return StackInputs(self.maps if self.uses_maps else None, self.size_.components, ct_maps=self.ct_maps)

    def make_network(self, *, covariates: int, outputs: int) -> PlanesNetwork:
        """A branch for each stack, joined by one linear layer."""
        branches = {stack: self.make_branch(stack) for stack in self.inputs_.shapes}
        return PlanesNetwork(branches, dropout=self.size_.dropout, covariates=covariates, outputs=outputs)

    def _transform(self, cohort: Cohort, augmentations: int) -> list[ModelInput]:
        now = self.make_inputs()  # where they are kept and computed may have changed since the fit
        self.inputs_ = replace(
            self.inputs_, maps=now.maps, ct_maps=now.ct_maps, images=now.images, end_to_end=self.end_to_end_
        )
        return super()._transform(cohort, augmentations)

    def contributions(self, cohort: Cohort) -> dict[str, FloatArray]:
        """What each stack, and the covariates, add; empty with one part, with a hazard, or a tuned 2D network."""
        names = [*self.inputs_.stacks, *(["covariates"] if self.encoder_ is not None else [])]
        if len(names) < 2 or len(self.edges_) or self.end_to_end_:
            return {}
        inputs = [one.values for one in self._transform(cohort, 0)]
        networks = [network for network in self.networks_ if isinstance(network, PlanesNetwork)]
        with torch.inference_mode():
            parts = [
                torch.cat(
                    [network.contributions([values[rows] for values in inputs]) for rows in self._batches(cohort)]
                )
                for network in networks
            ]
        return dict(zip(names, torch.stack(parts).double().mean(dim=0).T.numpy(), strict=True))

    def _batches(self, cohort: Cohort) -> tuple[torch.Tensor, ...]:
        return torch.split(torch.arange(len(cohort)), self.batch_size)

    def _final_network(self, *, trainable: bool) -> nn.Module:
        network = self._build_network()
        return network if self.finetune == "none" else self._end_to_end(network, trainable=trainable)

    @property
    def _network_prefix(self) -> str:
        return "" if self.finetune == "none" else "top."

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
        if self.ct_maps_:
            self.ct_maps_.restore(arrays, notes["ct_maps"])
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
