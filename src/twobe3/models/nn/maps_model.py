"""A model on the feature maps of a pre-trained 2D network: which network, which maps of it, and where they are kept."""

from __future__ import annotations

from typing import Any

from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass

from twobe3.features.slices import Plane, SliceSpec
from twobe3.models.model import CONFIG, Model
from twobe3.models.nn.inputs import FeatureMaps


@dataclass(kw_only=True, config=CONFIG)
class MapsModel(Model):
    """A model on the feature maps of a 2D network.

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
        slices = SliceSpec(self.windows_suv, self.slice_size)
        self.maps_ = FeatureMaps(self.backbone, self.weights, self.layer, self.planes, slices)

    @property
    def maps(self) -> FeatureMaps:
        """The feature maps, computed and kept where this model says."""
        return self.maps_.at(self.cache, self.device)

    def _content_of_files(self) -> dict[str, Any]:
        return {"weights": self.maps.cache_key()}

    def public_parameters(self) -> dict[str, Any]:
        """The parameters, a weights file told by its name alone."""
        return {**super().public_parameters(), "weights": self.maps_.public_weights}
