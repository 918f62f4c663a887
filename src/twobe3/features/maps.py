"""Feature maps of a scan: every slice of every plane through the frozen 2D network, stacked again into a volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.features.augment import Augmentation
from twobe3.features.backbones import Backbone
from twobe3.features.pet_lesions import PETLesionNetwork
from twobe3.features.slices import Plane, SliceSpec, apply_windows, cut
from twobe3.io.cache import Cache
from twobe3.io.files import digest
from twobe3.runtime.device import CPU, Device

BATCH = {"cpu": 8, "cuda": 256}  # pictures at once: those of eight stay in a processor's cache


@dataclass(frozen=True)
class MapExtractor:
    """Feature maps by scan and plane, computed where the cache lacks them.

    They are those of a layer of a frozen 2D network, of scans or of an augmented version of them, which are cut along
    each of the planes and shown as ``slices`` say; ``device`` says what computes them.
    """

    backbone: Backbone
    layer: int
    planes: tuple[Plane, ...] = ("axial",)
    slices: SliceSpec = field(default_factory=SliceSpec)
    cache: Cache = field(default_factory=Cache)
    augmentation: Augmentation | None = None
    device: Device = CPU

    def key(self, cohort: Cohort, subject: Subject, plane: Plane) -> str:
        """Digest of everything that the maps depend on."""
        return digest([self.cache_key(), cohort.volume_key(subject), plane])

    def cache_key(self) -> str:
        """Text that differs whenever the maps of the same scan and plane may differ; part of cache keys."""
        network = self.backbone
        made_by = (network.name, network.weights_digest, network.mean, network.std, self.layer)
        changed = f" {self.augmentation.cache_key()}" if self.augmentation else ""
        return f"maps {self.slices} {made_by}{changed}{self.device.maps_key()}"

    def extract(self, cohort: Cohort, subject: Subject) -> dict[Plane, npt.NDArray[np.float16]]:
        """Maps of one scan: for each plane an array of shape (channels, n_slices, height, width)."""
        maps: dict[Plane, npt.NDArray[np.float16]] = {}
        for plane in self.planes:
            compute = partial(self._compute, cohort, subject, plane)
            maps[plane] = self._get_or_extract("maps", self.key(cohort, subject, plane), plane, compute).astype(
                np.float16, copy=False
            )
        return maps

    def extract_pooled(self, cohort: Cohort, subject: Subject) -> npt.NDArray[np.float64]:
        """Mean, maximum and standard deviation of every channel over the positions of each plane.

        Maps are read where the cache has them; otherwise they are not kept, being a thousand times larger. Shape
        (3 · channels · planes,), planes first.
        """
        parts = []
        for plane in self.planes:
            key = self.key(cohort, subject, plane)
            compute = partial(self._pool, cohort, subject, plane, key)
            parts.append(
                self._get_or_extract("pooled", digest(["pooled", key]), plane, compute).astype(np.float64, copy=False)
            )
        return np.concatenate(parts)

    def _get_or_extract(
        self, name: str, key: str, plane: Plane, compute: Callable[[], npt.NDArray[Any]]
    ) -> npt.NDArray[Any]:
        by = self.device.describe()["maps"]
        metadata = {"plane": plane, "backbone": self.backbone.name, "layer": str(self.layer), "computed by": by}
        return self.cache.get_or_compute(key, lambda: {name: compute()}, metadata=metadata)[name]

    def _pool(self, cohort: Cohort, subject: Subject, plane: Plane, key: str) -> npt.NDArray[np.float64]:
        stored = self.cache.get(key)
        maps = self._compute(cohort, subject, plane) if stored is None else stored["maps"]
        positions = maps.reshape(len(maps), -1).astype(np.float64)
        return np.concatenate([positions.mean(axis=1), positions.max(axis=1), positions.std(axis=1)])

    def _compute(self, cohort: Cohort, subject: Subject, plane: Plane) -> npt.NDArray[np.float16]:
        volume = cohort.volume(subject)
        if self.augmentation is not None:
            volume = self.augmentation(volume, cohort.grid.spacing_mm)
        slices = cut(volume, plane)
        filled = slices.any(axis=(1, 2))
        # Slices of nothing but padding all have the same maps: compute them once, as picture 0.
        different = np.concatenate([np.zeros_like(slices[:1]), slices[filled]])
        batch = BATCH[self.device.kind]
        parts = [self._compute_batch(different[start : start + batch]) for start in range(0, len(different), batch)]
        maps = torch.cat(parts).numpy()
        position = np.zeros(len(slices), dtype=np.int64)
        position[filled] = np.arange(1, len(different))
        return np.ascontiguousarray(np.moveaxis(maps[position], 1, 0))

    def _compute_batch(self, slices: npt.NDArray[np.float32]) -> torch.Tensor:
        suv = torch.from_numpy(slices).to(self.device.torch_device())
        maps = self.backbone.maps(show(self.backbone.network, suv, self.slices), self.layer, self.device)
        return maps.half().contiguous().cpu()


def show(network: nn.Module, suv: torch.Tensor, slices: SliceSpec) -> torch.Tensor:
    """What a 2D network is shown of slices of SUV, (n, height, width).

    SUV windows as the channels of pictures of one size, (n, 3, size, size); a network that knows PET sees the SUV on
    the slice's own voxels, (n, 1, height, width).
    """
    if isinstance(network, PETLesionNetwork):
        return suv.unsqueeze(1)
    return to_pictures(suv, slices)


def to_pictures(suv: torch.Tensor, slices: SliceSpec) -> torch.Tensor:
    """Slices of SUV, (n, height, width), in their windows, a channel each, and of one size: (n, 3, size, size)."""
    channels = apply_windows(suv, slices.windows_suv)
    if channels.shape[1] == 1:
        channels = channels.expand(-1, 3, -1, -1)
    resized = functional.interpolate(channels, (slices.size, slices.size), mode="bilinear", antialias=True)
    return resized.contiguous(memory_format=torch.channels_last)
