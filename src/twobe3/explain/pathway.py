"""A fitted model as one function from the SUV volume to the risk, with gradients, and what lies between the two."""

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
from twobe3.explain.positions import KEPT, Placement, place_maps, place_volume_layer
from twobe3.features.backbones import intermediates, normalise
from twobe3.features.maps import show
from twobe3.features.pet_lesions import PETLesionNetwork
from twobe3.features.slices import AXIS
from twobe3.features.stacks import FLOOR_SUV, SHAPED_AS, pool_stack, pool_wavelets
from twobe3.models.cnn3d import CNN3D
from twobe3.models.learners.linear import RidgeModel
from twobe3.models.model import Model
from twobe3.models.nn.feature_maps import FeatureMaps
from twobe3.models.nn.inputs import POOLED_AS, StackInputs
from twobe3.models.nn.lora import EndToEnd, FixedProjection, SliceMaps
from twobe3.models.nn.networks import PlanesNetwork, VolumeNetwork
from twobe3.models.nn.neural_model import NeuralModel
from twobe3.models.pooled import STATISTICS, PooledModel
from twobe3.models.stacked_maps import StackedMapsModel

SMALLEST_HAZARD, LARGEST_HAZARD = 1e-12, 1e3  # as of `twobe3.models.nn.heads.mortality`


class Pathway(ABC):
    """From the SUV volume of one patient, (slices, rows, columns), to the risk that a fitted model gives.

    Gradients flow; the risk differs from the model's by the rounding of what it keeps in half precision.

    Attributes
    ----------
    covariates : Tensor, shape (1, columns)
        Those of the patient, encoded; no column where the model has none.
    rounded : bool
        Whether it rounds as the model does, which leaves no difference and no use in gradients.
    """

    covariates: torch.Tensor
    rounded: bool = False

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

    def keep(self, values: torch.Tensor) -> torch.Tensor:
        """Values that the model keeps in half precision."""
        return values.half().float() if self.rounded else values


def has_pathway(model: Model) -> bool:
    """Whether a model sees voxels of the PET alone, so that :func:`build_pathway` leads from them to its risk."""
    return isinstance(model, StackedMapsModel | CNN3D | PooledModel) and not model.sees_ct


def build_pathway(model: Model, cohort: Cohort) -> Pathway:
    """The pathway of a fitted model for the only patient of a cohort; no scan is read.

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


MOST_KEPT_BYTES = 2**30
"""Of activations of the 2D network that are kept for the way back; where they are more, they are computed again."""


class MapSource:
    """The maps of a frozen 2D network, with gradients, all their channels."""

    def __init__(self, maps: FeatureMaps) -> None:
        backbone, size = maps.backbone, maps.slices.size
        noise = torch.rand(1, size, size, generator=torch.Generator().manual_seed(0))
        picture = normalise(show(backbone.network, 10 * noise, maps.slices), backbone.mean, backbone.std)
        folded = backbone.fold(picture.shape[1:], maps.layers)
        self.maps = SliceMaps(replace(backbone, network=folded), maps.layers, maps.planes, maps.slices, ())
        self.maps.projections = nn.ModuleList(nn.Identity() for _ in maps.stacks)
        self.bytes_per_pixel = _measure_activations(folded, picture, maps.layers) / size**2
        self.size = None if isinstance(folded, PETLesionNetwork) else size  # of its pictures; else that of the slices

    def __call__(self, suv: torch.Tensor) -> list[torch.Tensor]:
        """Each stack of maps, (channels, slices, height, width)."""
        slices = [suv.shape[AXIS[plane]] for plane in self.maps.planes]
        pixels = sum(n * self.size**2 if self.size else suv.numel() for n in slices)
        self.maps.recomputes = pixels * self.bytes_per_pixel > MOST_KEPT_BYTES
        return [one[0] for one in self.maps(suv[None, None])]


def _measure_activations(network: nn.Module, picture: torch.Tensor, layers: Sequence[int]) -> int:
    """Bytes of what a network keeps for the gradient of the maps of one picture, besides its weights."""
    weights = {one.data_ptr() for one in network.parameters()}
    kept: dict[int, int] = {}

    def keep(values: torch.Tensor) -> torch.Tensor:
        if values.data_ptr() not in weights:
            kept[values.data_ptr()] = values.nbytes
        return values

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
        intermediates(network, picture.clone().requires_grad_(True), layers)
    return sum(kept.values())


class _StacksPathway(Pathway):
    """Of networks on stacks of maps and of the image: what they share, which is the image."""

    def __init__(self, model: StackedMapsModel, cohort: Cohort) -> None:
        self.head, self.covariates = _Head(model), _encode(model, cohort)
        self.inputs: StackInputs = replace(model.inputs_, maps=model.maps if model.uses_maps else None)
        self.shape = cohort.grid.shape
        self.projections = {name: FixedProjection(one) for name, one in self.inputs.projections.items()}

    def look_at_image(self, suv: torch.Tensor) -> list[torch.Tensor]:
        """The windows of the image and the logarithm of its SUV, if the networks see it."""
        return [_channels(suv, self.inputs.images.windows_suv)] if self.inputs.images.names else []

    def place(self) -> list[Placement]:
        """Those of the maps, and the voxels."""
        image = [Placement.of_voxels(self.shape)] if self.inputs.images.names else []
        return [*(place_maps(self.inputs.maps, self.shape) if self.inputs.maps else ()), *image]

    def image_stacks(self, channels: torch.Tensor) -> list[torch.Tensor]:
        """The projected stacks of what :meth:`look_at_image` gave."""
        windows = len(self.inputs.images.windows_suv)
        of_stack = {name: channels if name == "profile" else channels[:windows] for name in self.inputs.images.names}
        stacks = {
            name: pool_wavelets(values) if name == "wavelets" else pool_stack(values, SHAPED_AS[name])
            for name, values in of_stack.items()
        }
        return [self.project(name, self.keep(values)) for name, values in stacks.items()]

    def project(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """The components of a stack, with an axis for the patient."""
        projected: torch.Tensor = self.projections[name](values.transpose(0, 1)).transpose(0, 1)
        return projected[None]


class StackPathway(_StacksPathway):
    """Of a network on stacked maps and stacks of the image."""

    def __init__(self, model: StackedMapsModel, cohort: Cohort) -> None:
        super().__init__(model, cohort)
        self.networks = [network for network in model.networks_ if isinstance(network, PlanesNetwork)]
        self.source = MapSource(self.inputs.maps) if self.inputs.maps else None

    def look(self, suv: torch.Tensor) -> list[torch.Tensor]:
        """The maps of each plane, then the windows of the image and the logarithm of its SUV."""
        maps = map(self.keep, self.source(suv)) if self.source else ()
        return [*maps, *self.look_at_image(suv)]

    def judge(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """As the networks do on average."""
        names, stacks = iter(self.inputs.stacks), []
        maps = layers[: len(self.inputs.maps.stacks) if self.inputs.maps else 0]
        for values in maps:
            for what in self.inputs.of_maps:
                pooled = values
                if what != "maps":
                    pooled = self.keep(pool_stack(values, POOLED_AS[what]))
                stacks.append(self.project(next(names), pooled))
        for channels in layers[len(maps) :]:
            stacks += self.image_stacks(channels)
        return self.head([network([*stacks, self.covariates]) for network in self.networks])


class TunedPathway(_StacksPathway):
    """Of networks that have a 2D network of their own each."""

    def __init__(self, model: StackedMapsModel, cohort: Cohort) -> None:
        super().__init__(model, cohort)
        self.networks = [network for network in model.networks_ if isinstance(network, EndToEnd)]
        self.maps = model.maps

    def look(self, suv: torch.Tensor) -> list[torch.Tensor]:
        """The projected maps of every network, one network after another, then the image."""
        maps = [one[0] for network in self.networks for one in network.maps(suv[None, None])]
        return [*maps, *self.look_at_image(suv)]

    def place(self) -> list[Placement]:
        """The same for the maps of every network."""
        maps = place_maps(self.maps, self.shape)
        return [*maps * len(self.networks), *super().place()[len(maps) :]]

    def judge(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        """As the networks do on average."""
        each, n = len(self.maps.stacks), len(self.networks)
        image = [stack for channels in layers[each * n :] for stack in self.image_stacks(channels)]
        own = [[one[None] for one in layers[each * i : each * (i + 1)]] for i in range(n)]
        return self.head(
            [network.top([*maps, *image, self.covariates]) for network, maps in zip(self.networks, own, strict=True)]
        )


class VolumePathway(Pathway):
    """Of a 3D network on the volume: what lies between is what its first stage gives."""

    def __init__(self, model: CNN3D, cohort: Cohort) -> None:
        self.head, self.covariates = _Head(model), _encode(model, cohort)
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
            outputs.append(network.head[-1](torch.cat([features, self.covariates], dim=1)))
        return self.head(outputs)


class PooledPathway(Pathway):
    """Of pooled maps and a linear model of their statistics."""

    def __init__(self, model: PooledModel, cohort: Cohort) -> None:
        assert model.ridge_ is not None
        self.model, self.ridge = model, model.ridge_
        self.source, self.shape = MapSource(model.maps), cohort.grid.shape
        self.covariates = _encode(model, cohort)

    def look(self, suv: torch.Tensor) -> list[torch.Tensor]:
        """The maps of each plane."""
        return [self.keep(values) for values in self.source(suv)]

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


def _windows(suv: torch.Tensor, windows_suv: Sequence[float]) -> torch.Tensor:
    return torch.stack([(suv / upper).clamp(0.0, 1.0) for upper in windows_suv])


def _channels(suv: torch.Tensor, windows_suv: Sequence[float]) -> torch.Tensor:
    """The channels of the stacks of the image, see :func:`~twobe3.features.stacks.pool_image`."""
    return torch.cat([_windows(suv, windows_suv), torch.log(suv.clamp(min=0.0) + FLOOR_SUV)[None]])


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
