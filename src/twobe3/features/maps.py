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
from twobe3.cohort.ct import ct_key, read_hu
from twobe3.core.volume import AIR_HU
from twobe3.features.augment import Augmentation
from twobe3.features.backbones import Backbone
from twobe3.features.ct import Window, apply_hu_windows, augment_ct
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
    each of the planes and shown as ``slices`` say; ``device`` says what computes them. With ``windows_hu`` they are
    those of the CT in these windows, as of a network that knows pictures.
    """

    backbone: Backbone
    layer: int
    planes: tuple[Plane, ...] = ("axial",)
    slices: SliceSpec = field(default_factory=SliceSpec)
    cache: Cache = field(default_factory=Cache)
    augmentation: Augmentation | None = None
    device: Device = CPU
    windows_hu: tuple[Window, ...] = ()

    def key(self, cohort: Cohort, subject: Subject, plane: Plane) -> str:
        """Digest of everything that the maps depend on."""
        scan = ct_key(cohort, subject) if self.windows_hu else cohort.volume_key(subject)
        return digest([self.cache_key(), scan, plane])

    def cache_key(self) -> str:
        """Text that differs whenever the maps of the same scan and plane may differ; part of cache keys."""
        network = self.backbone
        made_by = (network.name, network.weights_digest, network.mean, network.std, self.layer)
        changed = f" {self.augmentation.cache_key()}" if self.augmentation else ""
        shown = f" {self.windows_hu}" if self.windows_hu else ""
        return f"maps {self.slices}{shown} {made_by}{changed}{self.device.maps_key()}"

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
        padding = np.float32(AIR_HU if self.windows_hu else 0.0)
        slices = cut(self._read(cohort, subject), plane)
        filled = (slices != padding).any(axis=(1, 2))
        # Slices of nothing but padding all have the same maps: compute them once, as picture 0.
        different = np.concatenate([np.full_like(slices[:1], padding), slices[filled]])
        batch = BATCH[self.device.kind]
        parts = [self._compute_batch(different[start : start + batch]) for start in range(0, len(different), batch)]
        maps = torch.cat(parts).numpy()
        position = np.zeros(len(slices), dtype=np.int64)
        position[filled] = np.arange(1, len(different))
        return np.ascontiguousarray(np.moveaxis(maps[position], 1, 0))

    def _read(self, cohort: Cohort, subject: Subject) -> npt.NDArray[np.float32]:
        """SUV or HU of the scan, or of the version of it."""
        spacing_mm = cohort.grid.spacing_mm
        if self.windows_hu:
            return augment_ct(read_hu(cohort, subject), self.augmentation, spacing_mm)
        volume = cohort.volume(subject)
        return volume if self.augmentation is None else self.augmentation(volume, spacing_mm)

    def _compute_batch(self, slices: npt.NDArray[np.float32]) -> torch.Tensor:
        values = torch.from_numpy(slices).to(self.device.torch_device())
        shown = show(self.backbone.network, values, self.slices, self.windows_hu)
        maps = self.backbone.maps(shown, self.layer, self.device)
        return maps.half().contiguous().cpu()


def show(
    network: nn.Module, values: torch.Tensor, slices: SliceSpec, windows_hu: tuple[Window, ...] = ()
) -> torch.Tensor:
    """What a 2D network is shown of slices of SUV, or of HU in windows of them, (n, height, width).

    Windows as the channels of pictures of one size, (n, 3, size, size); a network that knows PET sees the SUV on the
    slice's own voxels, (n, 1, height, width).
    """
    if windows_hu:
        return resize(torch.stack(apply_hu_windows(values, windows_hu), dim=1), slices.size)
    if isinstance(network, PETLesionNetwork):
        return values.unsqueeze(1)
    return to_pictures(values, slices)


def to_pictures(suv: torch.Tensor, slices: SliceSpec) -> torch.Tensor:
    """Slices of SUV, (n, height, width), in their windows, a channel each, and of one size: (n, 3, size, size)."""
    return resize(apply_windows(suv, slices.windows_suv), slices.size)


def resize(channels: torch.Tensor, size: int) -> torch.Tensor:
    """Pictures of one or three channels, (n, channels, height, width), to (n, 3, size, size)."""
    if channels.shape[1] == 1:
        channels = channels.expand(-1, 3, -1, -1)
    resized = functional.interpolate(channels, (size, size), mode="bilinear", antialias=True)
    return resized.contiguous(memory_format=torch.channels_last)
