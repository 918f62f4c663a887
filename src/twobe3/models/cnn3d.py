"""The 3D baseline: a CNN on the SUV volume itself, and the CT, from scratch or from the user's weights."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, PositiveFloat
from pydantic.dataclasses import dataclass
from torch import nn

from twobe3.features.ct import Window
from twobe3.features.weights import State, WeightsSource
from twobe3.io.files import digest
from twobe3.models.model import CONFIG
from twobe3.models.nn.inputs import VolumeInputs
from twobe3.models.nn.networks import VolumeNetwork
from twobe3.models.nn.neural_model import NeuralModel
from twobe3.models.nn.resnet3d import NETWORKS, RESNET_LAYERS, compact_resnet, read_weights
from twobe3.models.nn.size import NetworkSize
from twobe3.models.registry import register


@register
@dataclass(kw_only=True, config=CONFIG)
class CNN3D(NeuralModel):
    """A 3D network on the SUV volume.

    Parameters
    ----------
    network : {"compact", "resnet10", "resnet18", "densenet121"}
        A ResNet of few channels with a small stem, or one of MONAI's networks at their full width.
    weights : str
        From which one of MONAI's networks starts, for instance a file of MedicalNet, see
        :meth:`~twobe3.features.weights.WeightsSource.parse`; empty: from scratch. Such weights have seen one channel:
        give one window.
    depth : {10, 18}
        Of the compact ResNet.
    width : int
        Channels of the compact ResNet's first stage; they double with every stage. A multiple of 4.
    windows_suv : tuple of float
        Upper ends of the SUV windows, a channel each.
    """

    kind: ClassVar[str] = "cnn3d"
    summary: ClassVar[str] = "3D CNN on the SUV volume: a compact ResNet, or MONAI's ResNet or DenseNet"

    network: Literal["compact", "resnet10", "resnet18", "densenet121"] = Field(default="compact")
    weights: str = ""
    depth: int = Field(default=10)
    width: int = Field(default=16, ge=4, multiple_of=4)
    windows_suv: tuple[PositiveFloat, ...] = Field(default=(5.0, 10.0, 25.0), min_length=1)
    fewest_steps: int = Field(default=100, ge=1)
    shift_share: float = Field(default=0.125, ge=0, le=0.5)
    batch_size: int = Field(default=8, ge=2)
    ensemble_size: int = Field(default=1, ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modalities == ("ct", "pet"):
            raise ValueError('write `modalities = ["pet", "ct"]`, in this order')
        if self.depth not in RESNET_LAYERS:
            raise ValueError(f"depth must be one of {list(RESNET_LAYERS)}, got {self.depth}")
        if self.weights and self.network == "compact":
            raise ValueError(f"weights are for the networks {', '.join(NETWORKS)}, not for the compact one")
        self.state_: State | None = None

    def _content_of_files(self) -> dict[str, str]:
        state = self._weights() if self.weights else {}
        parts = [part for key, value in state.items() for part in (key, value.numpy().tobytes())]
        return {"weights": digest(parts)} if parts else {}

    def default_size(self) -> NetworkSize:
        """The size that the parameters say."""
        return NetworkSize(components=0, reduced_channels=0, width=self.width, dropout=self.dropout)

    def make_inputs(self) -> VolumeInputs:
        """The volumes."""
        smallest = NETWORKS[self.network].smallest if self.network in NETWORKS else 8
        return VolumeInputs(self.network, smallest, self.modalities)

    @property
    def _windows(self) -> tuple[tuple[float, ...], tuple[Window, ...]]:
        """Those of the PET and of the CT, none of what is not seen; SUV is the first volume, HU the last."""
        return (
            self.windows_suv if "pet" in self.modalities else (),
            self.windows_hu if "ct" in self.modalities else (),
        )

    def make_network(self, *, covariates: int, outputs: int) -> VolumeNetwork:
        """A 3D CNN whose channels are the SUV windows, and one linear layer."""
        (windows_suv, windows_hu), size = self._windows, self.size_
        channels = len(windows_suv) + len(windows_hu)
        if self.network == "compact":
            body, features = compact_resnet(channels, depth=self.depth, width=size.width), 8 * size.width
        else:
            row = NETWORKS[self.network]
            body, features = row.build(channels), row.features
        return VolumeNetwork(
            windows_suv, body, features, dropout=size.dropout, covariates=covariates, outputs=outputs,
            windows_hu=windows_hu,
        )  # fmt: skip

    def _init_network(self) -> nn.Module:
        network = super()._init_network()
        if self.weights:
            assert isinstance(network, VolumeNetwork)
            network.body.load_state_dict(self._weights())
        return network

    def _weights(self) -> State:
        """The weights to start from; they are read once."""
        if self.state_ is None:
            network = NETWORKS[self.network].build(sum(map(len, self._windows)))
            self.state_ = read_weights(WeightsSource.parse(self.weights), self.network, network)
        return self.state_
