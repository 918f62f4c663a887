"""A fitted model as one function from the images to the risk, with gradients, and what lies between the two."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import nn

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Modality
from twobe3.explain.images import ImageLayers, modalities_of, show_hu, show_suv
from twobe3.explain.map_source import MapSource
from twobe3.explain.positions import KEPT, Placement, place_maps, place_volume_layer
from twobe3.features.stacks import pool_stack
from twobe3.models.cnn3d import CNN3D
from twobe3.models.learners.linear import RidgeModel
from twobe3.models.model import Model
from twobe3.models.nn.inputs import POOLED_AS, StackInputs
from twobe3.models.nn.lora import EndToEnd, FixedProjection
from twobe3.models.nn.networks import PlanesNetwork, VolumeNetwork
from twobe3.models.nn.neural_model import NeuralModel
from twobe3.models.pooled import STATISTICS, PooledModel
from twobe3.models.stacked_maps import StackedMapsModel

_PLACE = {"pet": 0, "ct": 1}  # of each modality among the images
SMALLEST_HAZARD, LARGEST_HAZARD = 1e-12, 1e3  # as of `twobe3.models.nn.heads.mortality`


class Pathway(ABC):
    """From the images of one patient to the risk that a fitted model gives.

    The images are (modalities, slices, rows, columns), see :func:`~twobe3.explain.images.read_images`. Gradients flow;
    the risk differs from the model's by the rounding of what it keeps in half precision.

    Attributes
    ----------
    modalities : tuple of {"pet", "ct"}
        Which images.
    covariates : Tensor, shape (1, columns)
        Those of the patient, encoded; no column where the model has none.
    rounded : bool
        Whether it rounds as the model does, which leaves no difference and no use in gradients.
    """

    modalities: tuple[Modality, ...] = ("pet",)
    covariates: torch.Tensor
    rounded: bool = False

    @abstractmethod
    def look(self, images: torch.Tensor) -> list[torch.Tensor]:
        """What lies between, each (channels, slices, height, width): maps of a plane, or channels of the image."""

    @abstractmethod
    def place(self) -> list[Placement]:
        """Where on the grid the positions of each of these lie."""

    @abstractmethod
    def judge(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """The risk, of shape (), from the values of the layers."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The risk, of shape ()."""
        return self.judge(self.look(images))

    def keep(self, values: torch.Tensor) -> torch.Tensor:
        """Values that the model keeps in half precision."""
        return values.half().float() if self.rounded else values


def has_pathway(model: Model) -> bool:
    """Whether a model sees voxels, so that :func:`build_pathway` leads from them to its risk."""
    return isinstance(model, StackedMapsModel | CNN3D | PooledModel)


def build_pathway(model: Model, cohort: Cohort) -> Pathway:
    """The pathway of a fitted model for the only patient of a cohort; at most the CT is read, to know the tissues.

    Raises
    ------
    ConfigurationError
        ``NO_PATHWAY``: nothing leads from voxels to the risk of this kind of model with gradients.
    UnusableScanError
        The CT cannot be used.
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


class _StacksPathway(Pathway):
    """Of networks on stacks of maps and of the images: what they share, which is the images."""

    def __init__(self, model: StackedMapsModel, cohort: Cohort) -> None:
        self.modalities = modalities_of(model)
        self.head, self.covariates = _Head(model), _encode(model, cohort)
        self.inputs: StackInputs = replace(
            model.inputs_, maps=model.maps if model.uses_maps else None, ct_maps=model.ct_maps
        )
        self.shape = cohort.grid.shape
        self.layers = ImageLayers(self.inputs.images, cohort)
        self.projections = {name: FixedProjection(one) for name, one in self.inputs.projections.items()}

    def image_stacks(self, layers: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The projected stacks of the channels of the images."""
        return [self.project(name, self.keep(values)) for name, values in self.layers.stacks(layers)]

    def project(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """The components of a stack, with an axis for the patient."""
        projected: torch.Tensor = self.projections[name](values.transpose(0, 1)).transpose(0, 1)
        return projected[None]


class StackPathway(_StacksPathway):
    """Of a network on stacked maps and stacks of the images."""

    def __init__(self, model: StackedMapsModel, cohort: Cohort) -> None:
        super().__init__(model, cohort)
        self.networks = [network for network in model.networks_ if isinstance(network, PlanesNetwork)]
        self.sources = {
            modality: MapSource(maps, self.shape)
            for modality, maps in (("pet", self.inputs.maps), ("ct", self.inputs.ct_maps))
            if maps
        }

    def look(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The maps of each plane, those of the PET first, then the channels of the images."""
        maps = [values for name, source in self.sources.items() for values in source(images[_PLACE[name]])]
        return [*map(self.keep, maps), *self.layers.look(images)]

    def place(self) -> list[Placement]:
        """Those of the maps, and the voxels."""
        return [*(one for source in self.sources.values() for one in source.place()), *self.layers.place()]

    def judge(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """As the networks do on average."""
        left, stacks = list(layers), []
        names = iter(self.inputs.stacks)
        for modality, source in self.sources.items():
            for _ in source.source.stacks:
                maps = left.pop(0)
                for what in self.inputs.of_maps if modality == "pet" else ("maps",):
                    pooled = maps if what == "maps" else self.keep(pool_stack(maps, POOLED_AS[what]))
                    stacks.append(self.project(next(names), pooled))
        stacks += self.image_stacks(left)
        return self.head([network([*stacks, self.covariates]) for network in self.networks])


class TunedPathway(_StacksPathway):
    """Of networks that have a 2D network of their own each."""

    def __init__(self, model: StackedMapsModel, cohort: Cohort) -> None:
        super().__init__(model, cohort)
        self.networks = [network for network in model.networks_ if isinstance(network, EndToEnd)]
        self.maps = model.maps

    def look(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The projected maps of every network, one network after another, then the image."""
        maps = [one[0] for network in self.networks for one in network.maps(images[:1, None])]
        return [*maps, *self.layers.look(images)]

    def place(self) -> list[Placement]:
        """The same for the maps of every network."""
        return [*place_maps(self.maps, self.shape) * len(self.networks), *self.layers.place()]

    def judge(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """As the networks do on average."""
        each, n = len(self.maps.stacks), len(self.networks)
        image = self.image_stacks(layers[each * n :])
        own = [[one[None] for one in layers[each * i : each * (i + 1)]] for i in range(n)]
        return self.head(
            [network.top([*maps, *image, self.covariates]) for network, maps in zip(self.networks, own, strict=True)]
        )


class VolumePathway(Pathway):
    """Of a 3D network on the volumes: what lies between is what its first stage gives, of all of them together."""

    def __init__(self, model: CNN3D, cohort: Cohort) -> None:
        self.modalities = modalities_of(model)
        self.head, self.covariates = _Head(model), _encode(model, cohort)
        self.networks = [network for network in model.networks_ if isinstance(network, VolumeNetwork)]
        self.parts = [_split_body(network.body) for network in self.networks]
        self.windows_suv, self.windows_hu = self.networks[0].windows_suv, self.networks[0].windows_hu
        self.seen = model.modalities
        self.shape = cohort.grid.shape

    def look(self, images: torch.Tensor) -> list[torch.Tensor]:
        """What the first stage of each network gives."""
        show = {
            "pet": lambda: show_suv(images[0], self.windows_suv),
            "ct": lambda: show_hu(images[1], self.windows_hu),
        }
        windows = torch.cat([show[modality]() for modality in self.seen])[None]
        return [first(windows)[0] for first, _ in self.parts]

    def place(self) -> list[Placement]:
        """The same for every network."""
        channels = len(self.windows_suv) + len(self.windows_hu)
        placed = place_volume_layer(self.parts[0][0], channels, self.shape)
        return [replace(placed, modalities=self.seen)] * len(self.parts)

    def judge(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """As the networks do on average."""
        outputs = []
        for network, (_, rest), values in zip(self.networks, self.parts, layers, strict=True):
            features = network.head[:-1](rest(values[None]))
            outputs.append(network.head[-1](torch.cat([features, self.covariates], dim=1)))
        return self.head(outputs)


class PooledPathway(Pathway):
    """Of pooled maps and a linear model of their statistics."""

    def __init__(self, model: PooledModel, cohort: Cohort) -> None:
        assert model.ridge_ is not None
        self.model, self.ridge, self.modalities = model, model.ridge_, modalities_of(model)
        self.sources = {name: MapSource(maps, cohort.grid.shape) for name, maps in model.all_maps.items()}
        self.covariates = _encode(model, cohort)

    def look(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The maps of each plane, those of the PET first."""
        return [self.keep(values) for name, source in self.sources.items() for values in source(images[_PLACE[name]])]

    def place(self) -> list[Placement]:
        """Those of the maps."""
        return [one for source in self.sources.values() for one in source.place()]

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
        risk = _apply_ridge(self.ridge, torch.cat(groups).double())
        if self.model.joined_ is None:
            return risk
        return _apply_ridge(self.model.joined_, torch.cat([risk[None], self.covariates[0].double()]))


class _Head:
    """From the outputs of an ensemble to one risk."""

    def __init__(self, model: NeuralModel) -> None:
        self.intervals = len(model.edges_)

    def __call__(self, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        own = torch.stack([one.reshape(-1)[: max(1, self.intervals)] for one in outputs])
        if not self.intervals:
            return own[:, 0].mean()
        hazard = torch.nn.functional.softplus(own).double().clamp(SMALLEST_HAZARD, LARGEST_HAZARD)
        return hazard.cumsum(-1).mean(-1).log().mean()


def _encode(model: NeuralModel | PooledModel, cohort: Cohort) -> torch.Tensor:
    """The covariates of the only patient, shape (1, columns)."""
    if model.encoder_ is None:
        return torch.zeros(1, 0)
    return torch.from_numpy(model.encoder_.encode(cohort.subjects)).float()


def _apply_ridge(ridge: RidgeModel, x: torch.Tensor) -> torch.Tensor:
    """The risk that a linear model gives to features, (columns,)."""
    weights = torch.from_numpy(ridge.weights / ridge.scale)
    return (x - torch.from_numpy(ridge.mean)) @ weights + ridge.bias


def _pool(values: torch.Tensor) -> torch.Tensor:
    """Mean, maximum and standard deviation of every channel, shape (3, channels)."""
    positions = values.flatten(1)
    return torch.stack([positions.mean(1), positions.amax(1), positions.std(1, correction=0)])


@lru_cache(maxsize=KEPT)
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
