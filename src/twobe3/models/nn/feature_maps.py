"""The maps of a frozen 2D network that models see: of which network, layers and planes, and of PET or CT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.features.augment import Augmentation
from twobe3.features.backbones import Backbone, build_backbone, load_backbone
from twobe3.features.ct import Window
from twobe3.features.maps import MapExtractor
from twobe3.features.slices import Plane, SliceSpec
from twobe3.io.cache import Arrays, Cache
from twobe3.io.model_file import unnest
from twobe3.runtime.device import CPU, Device

PET_LESIONS = "pet-lesions"
BACKBONE = "backbone."  # how the names of the 2D network's arrays begin in a model file


@dataclass(eq=False)
class FeatureMaps:
    """The maps of a frozen 2D network: a stack for each plane, of several layers one for each plane of each.

    The first parameters are those of :class:`~twobe3.models.stacked_maps.StackedMapsModel`; maps are computed on
    ``device`` and kept in ``cache``; the 2D network, ``loaded``, is loaded on first use. With ``windows_hu`` they are
    maps of the CT, and the names of their stacks begin with ``ct-``.
    """

    name: str
    weights: str
    layer: int | tuple[int, ...]
    planes: tuple[Plane, ...]
    slices: SliceSpec
    cache: Cache = field(default_factory=Cache)
    device: Device = CPU
    loaded: Backbone | None = None
    windows_hu: tuple[Window, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.planes)) < len(self.planes):
            raise ValueError(f"each plane may stand once, got {self.planes}")
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ValueError(f"`layer` must be one layer or several different ones, got {self.layer}")

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers whose maps are used."""
        return self.layer if isinstance(self.layer, tuple) else (self.layer,)

    @property
    def stacks(self) -> dict[str, Plane]:
        """The plane of each stack, by the name of the stack."""
        several = len(self.layers) > 1
        ct = "ct-" if self.windows_hu else ""
        return {
            f"{ct}{plane}-{layer}" if several else f"{ct}{plane}": plane
            for layer in self.layers
            for plane in self.planes
        }

    @property
    def _prefix(self) -> str:
        return f"ct_{BACKBONE}" if self.windows_hu else BACKBONE

    @property
    def backbone(self) -> Backbone:
        """The 2D network; an error says what is wrong with its name, its weights or the layers."""
        if self.loaded is None:
            self.loaded = load_backbone(self.name, self.weights)
        for layer in self.layers:
            self.loaded.require_layer(layer)
        return self.loaded

    def at(self, cache: Cache, device: Device) -> FeatureMaps:
        """The same maps of the same 2D network, kept and computed elsewhere."""
        return replace(self, cache=cache, device=device, loaded=self.backbone)

    def cache_key(self) -> str:
        """Text that differs whenever the maps may differ; the weights count, not their path."""
        return " ".join(extractor.cache_key() for extractor in self.extractors())

    def extractors(self, augmentation: Augmentation | None = None) -> list[MapExtractor]:
        """A feature extractor for each layer, of scans or of an augmented version of them."""
        return [
            MapExtractor(
                self.backbone, layer, self.planes, self.slices, self.cache, augmentation, self.device, self.windows_hu
            )
            for layer in self.layers
        ]

    def extract(
        self, cohort: Cohort, subject: Subject, augmentation: Augmentation | None = None
    ) -> Iterator[tuple[str, npt.NDArray[np.float16]]]:
        """Name and maps of each stack of a scan, (channels, n_slices, height, width), in the order of `stacks`."""
        names = iter(self.stacks)
        for extractor in self.extractors(augmentation):
            for maps in extractor.extract(cohort, subject).values():
                yield next(names), maps

    def arrays(self) -> Arrays:
        """The parameters of the 2D network."""
        return {f"{self._prefix}{key}": value.numpy() for key, value in self.backbone.network.state_dict().items()}

    def notes(self) -> dict[str, Any]:
        """Its input normalisation."""
        return {"mean": self.backbone.mean, "std": self.backbone.std}

    def restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        """Take the 2D network from what :meth:`arrays` and :meth:`notes` gave."""
        state = {key: torch.from_numpy(array) for key, array in unnest(self._prefix, arrays).items()}
        mean, std = tuple(notes["mean"]), tuple(notes["std"])
        self.loaded = build_backbone(self.name, state, mean=mean, std=std, weights=self.weights)


def make_ct_maps(
    name: str,
    weights: str,
    layer: int | tuple[int, ...],
    planes: tuple[Plane, ...],
    slices: SliceSpec,
    windows_hu: tuple[Window, ...],
) -> FeatureMaps:
    """The maps of the CT of a 2D network that knows pictures. Raises ValueError for one that knows SUV alone."""
    if name == PET_LESIONS:
        raise ValueError(f"`ct_backbone` can't be {PET_LESIONS!r}, which knows SUV alone")
    if len(windows_hu) not in (1, 3):
        raise ValueError(f"a 2D network takes one window of `windows_hu` or three, got {len(windows_hu)}")
    return FeatureMaps(name, weights, layer, planes, slices, windows_hu=windows_hu)
