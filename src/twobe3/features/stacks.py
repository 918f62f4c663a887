"""Small stacks beside those of all feature maps: a coarse image, profile and projections, of SUV, HU or maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.cohort.ct import ct_key, read_hu
from twobe3.features.augment import Augmentation
from twobe3.features.ct import TISSUES_HU, WINDOWS_HU, Window, apply_hu_windows, augment_ct, split_by_tissue
from twobe3.features.wavelets import filter_slices
from twobe3.io.cache import Cache
from twobe3.io.files import digest

ImageStack = Literal["image", "profile", "image-coronal", "image-sagittal", "wavelets"]
Pool = Callable[[torch.Tensor], torch.Tensor]
Read = Callable[[], npt.NDArray[np.float32]]
Stored = dict[str, npt.NDArray[np.float16]]
IMAGE_STACKS: tuple[ImageStack, ...] = get_args(ImageStack)

CTStack = Literal["ct-image", "ct-profile", "ct-coronal", "ct-sagittal", "ct-wavelets"]
FusedStack = Literal["fused-image", "fused-coronal", "fused-sagittal"]
CT_STACKS: tuple[CTStack, ...] = get_args(CTStack)
FUSED_STACKS: tuple[FusedStack, ...] = get_args(FusedStack)

# Slices, rows and columns of each stack, whatever the grid is.
POSITIONS: dict[ImageStack, tuple[int, int, int]] = {
    "image": (24, 8, 8), "profile": (48, 1, 1), "image-coronal": (48, 1, 24), "image-sagittal": (48, 24, 1),
    "wavelets": (48, 4, 4),
}  # fmt: skip
POOLS = functional.adaptive_avg_pool3d, functional.adaptive_max_pool3d
SHAPED_AS: dict[str, ImageStack] = {
    **{name: name for name in IMAGE_STACKS},
    "ct-image": "image", "ct-profile": "profile", "ct-coronal": "image-coronal", "ct-sagittal": "image-sagittal",
    "ct-wavelets": "wavelets", "fused-image": "image", "fused-coronal": "image-coronal",
    "fused-sagittal": "image-sagittal",
}  # fmt: skip
BATCH = 16  # slices that are filtered at once
FLOOR_SUV = 0.1  # added before the logarithm, so that air is no deep hole


@dataclass(frozen=True)
class ImageStacks:
    """Stacks of the SUV image, of the CT, and of both by scan, computed where the cache lacks them.

    Parameters
    ----------
    names : tuple of str
        Which of :data:`IMAGE_STACKS`, :data:`CT_STACKS` and :data:`FUSED_STACKS`, in this order.
    windows_suv : tuple of float
        Upper ends of the SUV windows, as for the pictures of the 2D network.
    windows_hu : tuple of (float, float)
        From and to which HU the windows of the CT reach.
    cache : Cache
        Where they are kept.
    """

    names: tuple[ImageStack | CTStack | FusedStack, ...] = ()
    windows_suv: tuple[float, ...] = (5.0, 10.0, 25.0)
    cache: Cache = field(default_factory=Cache)
    windows_hu: tuple[Window, ...] = WINDOWS_HU

    def extract(
        self, cohort: Cohort, subject: Subject, augmentation: Augmentation | None = None
    ) -> Iterator[tuple[str, npt.NDArray[np.float16]]]:
        """Name and values of each stack of a scan, or of an augmented version of it.

        See :func:`pool_image`, :func:`pool_ct` and :func:`pool_fused`.
        """
        spacing_mm = cohort.grid.spacing_mm

        def suv() -> npt.NDArray[np.float32]:
            volume = cohort.volume(subject)
            return volume if augmentation is None else augmentation(volume, spacing_mm)

        def hu() -> npt.NDArray[np.float32]:
            return augment_ct(read_hu(cohort, subject), augmentation, spacing_mm)

        for name in self.names:
            shaped_as: ImageStack = SHAPED_AS[name]
            made_by = f"{name} {POSITIONS[shaped_as]} {self.windows_suv}"
            key, compute = cohort.volume_key(subject), partial(_pool_suv, suv, shaped_as, self.windows_suv)
            if name in CT_STACKS:
                made_by = f"{name} {POSITIONS[shaped_as]} {self.windows_hu}"
                key, compute = ct_key(cohort, subject), partial(_pool_hu, hu, shaped_as, self.windows_hu)
            elif name in FUSED_STACKS:
                made_by += f" {TISSUES_HU}"
                key, compute = ct_key(cohort, subject), partial(_pool_both, suv, hu, shaped_as, self.windows_suv)
            changed = augmentation.cache_key() if augmentation else ""
            stored = digest(["image stack", made_by, changed, key])
            yield name, self.cache.get_or_compute(stored, compute, metadata={"stack": name})["stack"]


def _pool_suv(suv: Read, stack: ImageStack, windows_suv: tuple[float, ...]) -> Stored:
    return {"stack": pool_image(suv(), stack, windows_suv)}


def _pool_hu(hu: Read, stack: ImageStack, windows_hu: tuple[Window, ...]) -> Stored:
    return {"stack": pool_ct(hu(), stack, windows_hu)}


def _pool_both(suv: Read, hu: Read, stack: ImageStack, windows_suv: tuple[float, ...]) -> Stored:
    return {"stack": pool_fused(suv(), hu(), stack, windows_suv)}


def pool_image(
    volume: npt.NDArray[np.float32], stack: ImageStack, windows_suv: tuple[float, ...]
) -> npt.NDArray[np.float16]:
    r"""Average and maximum of an image over the voxels of each position of a coarse grid, or of wavelets on its slices.

    Channels are SUV windows, 0 to the upper end mapped to 0 to 1. A profile has the logarithm of the SUV beside them.

    Parameters
    ----------
    volume : ndarray, shape (slices, rows, columns)
        SUV, from feet to head.
    stack : {"image", "profile", "image-coronal", "image-sagittal", "wavelets"}
        Which grid, see :data:`POSITIONS`: a coarse image; pieces along the body; the projections that readers look at
        first, from the front and from the side; what slices look like, see :func:`pool_wavelets`. Positions share
        voxels where the volume has fewer than the grid.
    windows_suv : tuple of float
        Upper ends of the windows.

    Returns
    -------
    ndarray of float16, shape (2 · channels, \*POSITIONS[stack])
        The averages of all channels, then the maxima.
    """
    suv, profile = torch.from_numpy(np.maximum(volume, 0.0))[None], stack == "profile"
    if stack == "wavelets":
        return pool_wavelets(torch.cat(_split_channels(suv, windows_suv, logarithm=False))).half().numpy()
    average, highest = pools_of(stack)
    averages = [average(channel) for channel in _split_channels(suv, windows_suv, logarithm=profile)]
    maxima = _split_channels(highest(suv), windows_suv, logarithm=profile)  # the channels rise with the SUV
    return torch.cat([*averages, *maxima]).half().numpy()


def pool_ct(
    hu: npt.NDArray[np.float32], stack: ImageStack, windows_hu: tuple[Window, ...] = WINDOWS_HU
) -> npt.NDArray[np.float16]:
    r"""Average and maximum of windows of HU, 0 to 1, over the voxels of each position, as :func:`pool_image` for SUV.

    Returns
    -------
    ndarray of float16, shape (2 · windows, \*POSITIONS[stack])
        The averages of all windows, then the maxima; of wavelets those of the mean of the windows.
    """
    windows = torch.cat(apply_hu_windows(torch.from_numpy(hu)[None], windows_hu))
    if stack == "wavelets":
        return pool_wavelets(windows).half().numpy()
    return pool_stack(windows, stack).half().numpy()


def pool_fused(
    suv: npt.NDArray[np.float32], hu: npt.NDArray[np.float32], stack: ImageStack, windows_suv: tuple[float, ...]
) -> npt.NDArray[np.float16]:
    r"""Average and maximum of SUV where the CT shows lung or gas, soft, and dense tissue, each by itself.

    What neither image shows alone: in which tissue the uptake lies.

    Returns
    -------
    ndarray of float16, shape (6 · windows, \*POSITIONS[stack])
        For each tissue the averages of all SUV windows, then the maxima.
    """
    tissues = split_by_tissue(torch.from_numpy(np.maximum(suv, 0.0))[None], torch.from_numpy(hu)[None])
    pooled = [pool_stack(torch.cat(_split_channels(tissue, windows_suv, logarithm=False)), stack) for tissue in tissues]
    return torch.cat(pooled).half().numpy()


def pool_wavelets(windows: torch.Tensor) -> torch.Tensor:
    r"""Average and maximum of a bank of wavelets on axial slices, over what lies at each position of a coarse grid.

    What is filtered is the mean of the windows, which rises ever slower with the SUV; of more slices than two for each
    position along the body neighbouring ones are merged, the higher values counting.

    Parameters
    ----------
    windows : Tensor, shape (windows, slices, rows, columns)
        SUV windows, 0 to 1.

    Returns
    -------
    Tensor, shape (50, \*POSITIONS["wavelets"])
        Averages of each of four levels of :func:`~twobe3.features.wavelets.filter_slices` and of the mean of the
        windows, then the maxima.
    """
    average, highest = pools_of("wavelets")
    thick = min(2 * POSITIONS["wavelets"][0], windows.shape[1])
    image = functional.adaptive_max_pool3d(windows.mean(dim=0, keepdim=True), (thick, *windows.shape[2:]))[0]
    batches = [_filter_batch(slices) for slices in torch.split(image, BATCH)]
    averages, maxima = torch.cat(batches, dim=2)  # (channels, slices, 4, 4) each
    return torch.cat([average(averages), highest(maxima)])


def _filter_batch(slices: torch.Tensor) -> torch.Tensor:
    """Slices, (n, rows, columns), to averages and maxima at their positions, (2, channels, n, 4, 4)."""
    pictures, places = slices[:, None], (len(slices), *POSITIONS["wavelets"][1:])
    levels = [level.movedim(0, 1) for level in (*filter_slices(pictures), pictures)]
    return torch.stack([torch.cat([pool(level, places) for level in levels]) for pool in POOLS])


def _split_channels(suv: torch.Tensor, windows_suv: tuple[float, ...], *, logarithm: bool) -> list[torch.Tensor]:
    windows = [(suv / upper).clamp(max=1.0) for upper in windows_suv]
    return [*windows, torch.log(suv + FLOOR_SUV)] if logarithm else windows


def pool_stack(values: torch.Tensor, stack: ImageStack) -> torch.Tensor:
    r"""Average, then maximum, of every channel over what lies at each position of a coarse grid.

    From (channels, slices, rows, columns), of voxels or of maps, to (2 · channels, \*POSITIONS[stack]).
    """
    return torch.cat([pool(values) for pool in pools_of(stack)])


def pools_of(stack: ImageStack) -> tuple[Pool, Pool]:
    """What takes the average, and what the maximum, over what lies at each position of a coarse grid."""
    average, highest = (partial(pool, output_size=POSITIONS[stack]) for pool in POOLS)
    return average, highest
