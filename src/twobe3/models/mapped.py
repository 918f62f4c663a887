"""What the models on 2D feature maps share: which network, which layer, which slices, and getting the maps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass

from twobe3.cohort import Cohort
from twobe3.features.augment import Augmentation
from twobe3.features.backbones import Backbone, backbone_from_state, load_backbone
from twobe3.features.maps import MapExtractor
from twobe3.features.slices import Plane, SliceSpec
from twobe3.features.weights import is_weights_file
from twobe3.models.base import CONFIG, Model
from twobe3.store import Arrays

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

    def identity(self) -> str:
        """As for every model, and what its maps depend on; not the path of the weights, but the weights."""
        parameters = {key: value for key, value in self.identifying_parameters().items() if key != "weights"}
        maps = " ".join(extractor.identity() for extractor in self.extractors())
        return f"{self.kind} {self.version} {json.dumps(parameters, sort_keys=True)} {maps}{self.engine.identity()}"

    def public_parameters(self) -> dict[str, Any]:
        """The parameters, a weights file told by its name alone."""
        weights = Path(self.weights).name if is_weights_file(self.weights) else self.weights
        return {**self.parameters(), "weights": weights}

    def prepare(self, cohort: Cohort) -> None:
        """Compute the feature maps that the store lacks."""
        for extractor in self.extractors():
            for study in cohort.studies:
                extractor.of_study(cohort, study)

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
        UsageError
            Whatever is wrong with the network's name or its weights, see
            :func:`~twobe3.features.backbones.load_backbone`; ``LAYER_OUT_OF_RANGE``.
        """
        if self.backbone_ is None:
            self.backbone_ = self._load_backbone()
        for layer in self.layers:
            self.backbone_.require_layer(layer)
        device = self.engine.torch_device()
        return [
            MapExtractor(self.backbone_, layer, self.planes, self.slices_, self.store, augmentation, device)
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
        self.backbone_ = backbone_from_state(
            self.backbone, state, mean=tuple(notes["mean"]), std=tuple(notes["std"]), weights=self.weights
        )
