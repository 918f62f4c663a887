"""A fitted model as one function from the SUV volume to the risk, with gradients, and what lies between the two."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.explain.positions import Placement, place_maps, place_volume_layer
from twobe3.features.pet_lesions import PETLesionNetwork
from twobe3.features.stacks import FLOOR_SUV, pool_stack
from twobe3.models.cnn3d import CNN3D
from twobe3.models.model import Model
from twobe3.models.nn.inputs import FeatureMaps, StackInputs
from twobe3.models.nn.lora import EndToEnd, FixedProjection, SliceMaps
from twobe3.models.nn.networks import PlanesNetwork, VolumeNetwork
from twobe3.models.nn.neural_model import NeuralModel
from twobe3.models.pooled import STATISTICS, PooledModel
from twobe3.models.stacked_maps import StackedMapsModel

SMALLEST_HAZARD, LARGEST_HAZARD = 1e-12, 1e3  # as of `twobe3.models.nn.heads.mortality`


class Pathway(ABC):
    """From the SUV volume of one patient, (slices, rows, columns), to the risk that a fitted model gives.

    Covariates are those of the patient. Gradients flow; the risk differs from the model's by the rounding of what it
    keeps in half precision.
    """

    @abstractmethod
    def look(self, suv: torch.Tensor) -> list[torch.Tensor]:
        """What lies between, each (channels, slices, height, width): maps of a plane, or channels of the image."""

    @abstractmethod
    def place(self) -> list[Placement]:
        """Where on the grid the positions of each of these lie."""

    @abstractmethod
    def judge(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """The risk, of shape (), from the values of the layers."""

    def __call__(self, suv: torch.Tensor) -> torch.Tensor:
        """The risk, of shape ()."""
        return self.judge(self.look(suv))


def has_pathway(model: Model) -> bool:
    """Whether a model of this kind sees voxels, so that :func:`build_pathway` leads from them to its risk."""
    return isinstance(model, StackedMapsModel | CNN3D | PooledModel)


def build_pathway(model: Model, cohort: Cohort) -> Pathway:
    """The pathway of a fitted model for the only patient of a cohort.

    Raises
    ------
    ConfigurationError
        ``NO_PATHWAY``: nothing leads from voxels to the risk of this kind of model with gradients.
    """
    if isinstance(model, StackedMapsModel):
        return TunedPathway(model, cohort) if model.end_to_end_ else StackPathway(model, cohort)
    if isinstance(model, CNN3D):
        return VolumePathway(model, cohort)
    if isinstance(model, PooledModel):
        return PooledPathway(model, cohort)
    raise ConfigurationError(
        Code.NO_PATHWAY,
        f"model {model.name!r} is of the kind {model.kind!r}, which has no map of voxels",
    )


FEW_VOXELS = 2**19
"""Up to which all activations of the 2D network are kept for the way back, 0.4 GB in all."""


class MapSource:
    """The maps of a frozen 2D network, with gradients, all their channels."""

    def __init__(self, maps: FeatureMaps) -> None:
        self.maps = SliceMaps(maps.backbone, maps.layers, maps.planes, maps.slices, ())
        self.maps.projections = nn.ModuleList(nn.Identity() for _ in maps.stacks)

    def __call__(self, suv: torch.Tensor) -> list[torch.Tensor]:
        """Each stack of maps, (channels, slices, height, width)."""
        as_they_are = isinstance(self.maps.network, PETLesionNetwork)  # not enlarged to pictures
        self.maps.recomputes = not (as_they_are and suv.numel() <= FEW_VOXELS)
        return [one[0] for one in self.maps(suv[None, None])]


class StackPathway(Pathway):
    """Of a network on stacked maps and stacks of the image."""

    def __init__(self, model: StackedMapsModel, cohort: Cohort) -> None:
        self.head = _Head(model, cohort)
        self.networks = [network for network in model.networks_ if isinstance(network, PlanesNetwork)]
        self.inputs: StackInputs = replace(model.inputs_, maps=model.maps if model.uses_maps else None)
        self.shape = cohort.grid.shape
        self.source = MapSource(self.inputs.maps) if self.inputs.maps else None
        self.projections = {name: FixedProjection(one) for name, one in self.inputs.projections.items()}

    def look(self, suv: torch.Tensor) -> list[torch.Tensor]:
        """The maps of each plane, then the windows of the image and the logarithm of its SUV."""
        image = [_channels(suv, self.inputs.images.windows_suv)] if self.inputs.images.names else []
        return [*(self.source(suv) if self.source else ()), *image]

    def place(self) -> list[Placement]:
        """Those of the maps, and the voxels."""
        image = [Placement.of_voxels(self.shape)] if self.inputs.images.names else []
        return [*(place_maps(self.inputs.maps, self.shape) if self.inputs.maps else ()), *image]

    def judge(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """As the networks do on average."""
        stacks = self._stacks(layers)
        return self.head([network([*stacks, *self.head.covariates]) for network in self.networks])

    def _stacks(self, layers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        names = iter(self.inputs.stacks)
        stacks = []
        for values in layers[: len(self.inputs.maps.stacks) if self.inputs.maps else 0]:
            for what in self.inputs.of_maps:
                pooled = values if what == "maps" else pool_stack(values, "image" if what == "map-image" else "profile")
                stacks.append(self._project(next(names), pooled))
        windows = len(self.inputs.images.windows_suv)
        for name in self.inputs.images.names:
            channels = layers[-1] if name == "profile" else layers[-1][:windows]
            stacks.append(self._project(next(names), pool_stack(channels, name)))
        return stacks

    def _project(self, name: str, values: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.projections[name](values.transpose(0, 1)).transpose(0, 1)
        return projected[None]


class TunedPathway(Pathway):
    """Of networks that have a 2D network of their own each."""

    def __init__(self, model: StackedMapsModel, cohort: Cohort) -> None:
        self.head = _Head(model, cohort)
        self.networks = [network for network in model.networks_ if isinstance(network, EndToEnd)]
        inputs = replace(model.inputs_, maps=model.maps)
        self.maps, self.shape = model.maps, cohort.grid.shape
        others = replace(inputs, maps=None, end_to_end=False)
        own = {str(name): others.projections[name] for name in others.images.names}
        self.others = [one.values for one in replace(others, projections=own).transform(cohort)]

    def look(self, suv: torch.Tensor) -> list[torch.Tensor]:
        """The projected maps of every network, one network after another."""
        return [one[0] for network in self.networks for one in network.maps(suv[None, None])]

    def place(self) -> list[Placement]:
        """The same for every network."""
        return place_maps(self.maps, self.shape) * len(self.networks)

    def judge(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """As the networks do on average; stacks of the image stay as they are."""
        each = len(self.maps.stacks)
        outputs = [
            network.top(
                [*(one[None] for one in layers[each * i : each * (i + 1)]), *self.others, *self.head.covariates]
            )
            for i, network in enumerate(self.networks)
        ]
        return self.head(outputs)


class VolumePathway(Pathway):
    """Of a 3D network on the volume: what lies between is what its first stage gives."""

    def __init__(self, model: CNN3D, cohort: Cohort) -> None:
        self.head = _Head(model, cohort)
        self.networks = [network for network in model.networks_ if isinstance(network, VolumeNetwork)]
        self.parts = [_split_body(network.body) for network in self.networks]
        self.windows_suv, self.shape = model.windows_suv, cohort.grid.shape

    def look(self, suv: torch.Tensor) -> list[torch.Tensor]:
        """What the first stage of each network gives."""
        windows = _windows(suv, self.windows_suv)[None]
        return [first(windows)[0] for first, _ in self.parts]

    def place(self) -> list[Placement]:
        """The same for every network."""
        return [place_volume_layer(self.parts[0][0], len(self.windows_suv), self.shape)] * len(self.parts)

    def judge(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """As the networks do on average."""
        outputs = []
        for network, (_, rest), values in zip(self.networks, self.parts, layers, strict=True):
            features = network.head[:-1](rest(values[None]))
            outputs.append(network.head[-1](torch.cat([features, *self.head.covariates], dim=1)))
        return self.head(outputs)


class PooledPathway(Pathway):
    """Of pooled maps and a linear model of their statistics."""

    def __init__(self, model: PooledModel, cohort: Cohort) -> None:
        assert model.ridge_ is not None
        self.model, self.ridge = model, model.ridge_
        self.source, self.shape = MapSource(model.maps), cohort.grid.shape
        self.slope, self.shift = 1.0, 0.0
        if model.encoder_ is not None and model.joined_ is not None:
            joined = model.joined_
            known = np.concatenate([[0.0], model.encoder_.encode(cohort.subjects)[0]])
            self.slope = float(joined.weights[0] / joined.scale[0])
            self.shift = float(joined.risk(known[None])[0])

    def look(self, suv: torch.Tensor) -> list[torch.Tensor]:
        """The maps of each plane."""
        return self.source(suv)

    def place(self) -> list[Placement]:
        """Those of the maps."""
        return place_maps(self.model.maps, self.shape)

    def judge(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """The linear model of the statistics of the maps, and of the covariates."""
        planes, groups = len(self.model.planes), []
        for first in range(0, len(layers), planes):
            by_plane = torch.stack([_pool(values) for values in layers[first : first + planes]])  # planes, 3, channels
            if self.model.pool_planes:
                mean, largest, deviation = by_plane.unbind(1)
                variance = (deviation**2).mean(0) + mean.var(0, correction=0)
                by_plane = torch.stack([mean.mean(0), largest.amax(0), variance.sqrt()])[None]
            asked = [STATISTICS.index(statistic) for statistic in self.model.statistics]
            groups.append(by_plane[:, asked].flatten())
        x = torch.cat(groups).double()
        ridge = self.ridge
        weights = torch.from_numpy(ridge.weights / ridge.scale)
        return self.shift + self.slope * ((x - torch.from_numpy(ridge.mean)) @ weights + ridge.bias)


class _Head:
    """From the outputs of an ensemble to one risk, and the covariates of the patient, shape (1, columns), if any."""

    def __init__(self, model: NeuralModel, cohort: Cohort) -> None:
        self.intervals = len(model.edges_)
        known = [] if model.encoder_ is None else [model.encoder_.encode(cohort.subjects)]
        self.covariates = [torch.from_numpy(one).float() for one in known]

    def __call__(self, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        own = torch.stack([one.reshape(-1)[: max(1, self.intervals)] for one in outputs])
        if not self.intervals:
            return own[:, 0].mean()
        hazard = torch.nn.functional.softplus(own.double()).clamp(SMALLEST_HAZARD, LARGEST_HAZARD)
        return hazard.cumsum(-1).mean(-1).log().mean()


def _windows(suv: torch.Tensor, windows_suv: Sequence[float]) -> torch.Tensor:
    return torch.stack([(suv / upper).clamp(0.0, 1.0) for upper in windows_suv])


def _channels(suv: torch.Tensor, windows_suv: Sequence[float]) -> torch.Tensor:
    """The channels of the stacks of the image, see :func:`~twobe3.features.stacks.pool_image`."""
    return torch.cat([_windows(suv, windows_suv), torch.log(suv.clamp(min=0.0) + FLOOR_SUV)[None]])


def _pool(values: torch.Tensor) -> torch.Tensor:
    """Mean, maximum and standard deviation of every channel, shape (3, channels)."""
    positions = values.flatten(1)
    return torch.stack([positions.mean(1), positions.amax(1), positions.std(1, correction=0)])


def _split_body(body: nn.Module) -> tuple[nn.Sequential, nn.Sequential]:
    """A 3D network's stem and first stage, at a stride of 4 voxels, and the rest."""
    if hasattr(body, "class_layers"):  # MONAI's DenseNet
        named = list(body.features.named_children())  # type: ignore[union-attr]
        end = 1 + [name for name, _ in named].index("denseblock1")
        parts = [module for _, module in named]
        return nn.Sequential(*parts[:end]), nn.Sequential(*parts[end:], body.class_layers)  # type: ignore[arg-type]
    stem = [body.conv1, body.bn1, body.act, *([] if body.no_max_pool else [body.maxpool]), body.layer1]
    last = [] if body.fc is None else [body.fc]
    rest = [body.layer2, body.layer3, body.layer4, body.avgpool, nn.Flatten(), *last]
    return nn.Sequential(*stem), nn.Sequential(*rest)  # type: ignore[arg-type]
