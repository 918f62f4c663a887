"""What a model sees of one patient: SUV, and beside it HU above air where it sees the CT: 0 is nothing in both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_erosion

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.ct import read_hu
from twobe3.core.grid import Modality
from twobe3.core.volume import AIR_HU
from twobe3.explain.positions import Placement
from twobe3.features.ct import TISSUES_HU, Window, apply_hu_windows, split_by_tissue
from twobe3.features.stacks import CT_STACKS, FLOOR_SUV, FUSED_STACKS, SHAPED_AS, ImageStacks, pool_stack, pool_wavelets
from twobe3.models.model import Model
from twobe3.scans.registration import BODY_HU, BODY_SUV, find_body

Images = npt.NDArray[np.float32]
Source = Literal["pet", "ct", "fused"]


def modalities_of(model: Model) -> tuple[Modality, ...]:
    """Whose voxels lead to the risk of a model: those of the PET, and of the CT where it sees it."""
    return ("pet", "ct") if model.sees_ct else ("pet",)


def read_images(cohort: Cohort, modalities: Sequence[Modality]) -> Images:
    """The images of the only patient of a cohort, shape (modalities, slices, rows, columns): SUV, HU above air.

    Raises
    ------
    UnusableScanError
        The scan cannot become SUV, or a CT is asked for that cannot be used.
    """
    (subject,) = cohort.subjects
    suv = cohort.volume(subject)
    return np.stack([suv if one == "pet" else read_hu(cohort, subject) - np.float32(AIR_HU) for one in modalities])


def make_baseline(images: Images) -> Images:
    """Images that say nothing, from which contributions are counted: no uptake, and a body of one tissue.

    The HU of that tissue are the median of the body without lung and gas. The body is what the CT shows of it and what
    has uptake two voxels from its edge or deeper, so that lungs are in it however coarse the voxels are, and air at the
    skin is not; beyond it the CT stays as it is. A CT of air would be no such start: what is little denser, as lung,
    would add next to nothing whatever it means.

    Parameters
    ----------
    images : ndarray of float32, shape (modalities, slices, rows, columns)
        See :func:`read_images`.
    """
    baseline = np.zeros_like(images)
    deep = binary_erosion(images[0] > BODY_SUV, iterations=2, border_value=1)
    for above_air, flat in zip(images[1:], baseline[1:], strict=True):
        dense = above_air > BODY_HU - AIR_HU
        body = find_body(dense | deep)
        tissue = above_air[body & dense]
        flat[:] = np.where(body, np.median(tissue), above_air) if len(tissue) else above_air
    return baseline


class ImageLayers:
    """The channels of which stacks of the image are made, and those stacks, with gradients.

    Channels are those of SUV, of the CT, and of SUV told apart by tissue, as far as stacks of them are asked for. In
    which tissue a voxel lies is taken as the patient's CT has it: no gradient leads there.
    """

    def __init__(self, images: ImageStacks, cohort: Cohort) -> None:
        self.images, self.shape = images, cohort.grid.shape
        self.sources: tuple[Source, ...] = tuple(dict.fromkeys(map(_source_of, images.names)))
        (subject,) = cohort.subjects
        self.hu = torch.from_numpy(read_hu(cohort, subject)) if "fused" in self.sources else torch.zeros(0)

    def look(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The channels of each source, (channels, slices, rows, columns)."""
        return [self._channels(images, source) for source in self.sources]

    def place(self) -> list[Placement]:
        """The voxels, for each source."""
        return [Placement.of_voxels(self.shape, "ct" if source == "ct" else "pet") for source in self.sources]

    def stacks(self, layers: Sequence[torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and values of each stack, in the order in which networks take them."""
        by_source = dict(zip(self.sources, layers, strict=True))
        for name in self.images.names:
            source = _source_of(name)
            channels = by_source[source]
            if source == "pet" and name != "profile":
                channels = channels[: len(self.images.windows_suv)]  # without the logarithm
            if SHAPED_AS[name] == "wavelets":
                yield name, pool_wavelets(channels)
            else:
                parts = channels.chunk(len(TISSUES_HU) + 1) if source == "fused" else (channels,)
                yield name, torch.cat([pool_stack(part, SHAPED_AS[name]) for part in parts])

    def _channels(self, images: torch.Tensor, source: Source) -> torch.Tensor:
        suv, windows_suv = images[0], self.images.windows_suv
        if source == "ct":
            return show_hu(images[1], self.images.windows_hu)
        if source == "fused":
            return torch.cat([show_suv(tissue, windows_suv) for tissue in split_by_tissue(suv, self.hu)])
        return torch.cat([show_suv(suv, windows_suv), torch.log(suv.clamp(min=0.0) + FLOOR_SUV)[None]])


def show_suv(suv: torch.Tensor, windows_suv: Sequence[float]) -> torch.Tensor:
    """Windows of SUV, 0 to 1, as channels."""
    return torch.stack([(suv / upper).clamp(0.0, 1.0) for upper in windows_suv])


def show_hu(above_air: torch.Tensor, windows_hu: tuple[Window, ...]) -> torch.Tensor:
    """Windows of HU, 0 to 1, as channels, of HU above air."""
    return torch.stack(apply_hu_windows(above_air + AIR_HU, windows_hu))


def _source_of(stack: str) -> Source:
    return "ct" if stack in CT_STACKS else "fused" if stack in FUSED_STACKS else "pet"
