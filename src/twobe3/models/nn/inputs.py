"""What networks see of all patients: stacks of projected feature maps, or SUV volumes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import torch

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.cohort.ct import read_hu
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid, Modality
from twobe3.core.outcomes import IntArray
from twobe3.core.volume import AIR_HU
from twobe3.features.augment import Augmentation
from twobe3.features.slices import AXIS, LEFT_RIGHT_AXIS, Plane
from twobe3.features.stacks import ImageStack, ImageStacks, pool_stack
from twobe3.io.cache import Arrays
from twobe3.io.model_file import nest, unnest
from twobe3.models.nn.feature_maps import FeatureMaps
from twobe3.models.nn.networks import Shape, Spacing
from twobe3.models.nn.pca import Projection
from twobe3.models.nn.rows import new_rows, take_rows

MapStack = Literal["maps", "map-image", "map-profile", "map-coronal", "map-sagittal"]
MAP_STACKS: tuple[MapStack, ...] = get_args(MapStack)
POOLED_AS: dict[MapStack, ImageStack] = {
    "map-image": "image", "map-profile": "profile", "map-coronal": "image-coronal", "map-sagittal": "image-sagittal",
}  # fmt: skip


@dataclass(frozen=True)
class ModelInput:
    """One input of a network for all patients, a row each."""

    values: torch.Tensor
    left_right_axis: int | None  # from the end; runs from the patient's right to the left; None for what is no picture
    augmented: tuple[torch.Tensor, ...] = ()  # of augmented scans, in the same order for every input of a network
    folder: Path | None = None  # where large copies may lie

    @property
    def versions(self) -> tuple[torch.Tensor, ...]:
        """The scan itself, and its augmentations."""
        return (self.values, *self.augmented)

    def to(self, device: torch.device) -> ModelInput:
        """The same on a device."""
        return replace(self, values=self.values.to(device), augmented=tuple(one.to(device) for one in self.augmented))

    def subset(self, rows: IntArray) -> ModelInput:
        """The input of some patients."""
        index = torch.from_numpy(rows)
        values, *augmented = (take_rows(one, index, self.folder) for one in self.versions)
        return replace(self, values=values, augmented=tuple(augmented))


class Inputs(ABC):
    """How scans become inputs of a network."""

    @abstractmethod
    def fit(self, cohort: Cohort) -> Self:
        """A copy that has learnt from the training patients what the inputs are made with."""

    @abstractmethod
    def transform(self, cohort: Cohort, augmentations: Sequence[Augmentation] = ()) -> list[ModelInput]:
        """The inputs of all patients, with a version of each for every augmentation."""

    def arrays(self) -> Arrays:
        """What was learnt, and is needed to predict, as arrays."""
        return {}

    def notes(self) -> dict[str, Any]:
        """What was learnt and is no array."""
        return {}

    def restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> Self:
        """A copy with what :meth:`arrays` and :meth:`notes` gave."""
        return self


@dataclass(frozen=True)
class VolumeInputs(Inputs):
    """The volumes, (n, modalities, slices, rows, columns), for a network that needs some voxels along each axis."""

    network: str
    smallest: int
    modalities: tuple[Modality, ...] = ("pet",)

    def fit(self, cohort: Cohort) -> Self:
        """Refuse a grid that is too small. Raises ConfigurationError ``STUDY_FILE_INVALID``."""
        if min(cohort.grid.shape) < self.smallest:
            raise ConfigurationError(
                Code.STUDY_FILE_INVALID,
                f"{self.network} needs {self.smallest} voxels along each axis, the grid has {cohort.grid.shape}",
                remedy="lower `volume.spacing_mm`, or choose a ResNet",
            )
        return self

    def transform(self, cohort: Cohort, augmentations: Sequence[Augmentation] = ()) -> list[ModelInput]:
        """The volumes of all patients."""
        return [stack_volumes(cohort, augmentations, self.modalities)]


@dataclass(frozen=True, eq=False)
class StackInputs(Inputs):
    """Stacks of feature maps and of the SUV image, each (n, components, n_slices, height, width).

    Parameters
    ----------
    maps : FeatureMaps or None
        Of which 2D network; None: no stacks of maps.
    components : int
        Principal components of the maps' channels; channels of the image are standardised.
    images : ImageStacks
        The stacks of the image, after those of maps.
    of_maps : tuple of {"maps", "map-image", "map-profile", "map-coronal", "map-sagittal"}
        What each stack of maps gives: itself, and coarse stacks of it, see
        :func:`~twobe3.features.stacks.pool_stack`.
    projections, shapes, spacings_mm : mapping
        Of each stack, learnt: the components, where :meth:`fit` keeps those that there are; (components, slices,
        height, width); how far apart the positions are.
    ct_maps : FeatureMaps or None
        Of which 2D network the maps of the CT are, as stacks after those of the PET's maps; None: there are none.
    end_to_end : bool
        Whether the 2D network is a part of the network, which then sees the volumes in place of the maps.
    """

    maps: FeatureMaps | None
    components: int
    images: ImageStacks = field(default_factory=ImageStacks)
    of_maps: tuple[MapStack, ...] = ("maps",)
    projections: Mapping[str, Projection] = field(default_factory=dict)
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    spacings_mm: Mapping[str, Spacing] = field(default_factory=dict)
    end_to_end: bool = False
    ct_maps: FeatureMaps | None = None

    @property
    def stacks(self) -> dict[str, Plane]:
        """The plane of each stack, by the name of the stack."""
        planes = self.maps.stacks.items() if self.maps else ()
        maps = {_name(stack, what): plane for stack, plane in planes for what in self.of_maps}
        of_ct = self.ct_maps.stacks if self.ct_maps else {}
        return {**maps, **of_ct, **dict.fromkeys(self.images.names, "axial")}

    def fit(self, cohort: Cohort) -> Self:
        """Learn the components of each stack, one patient in memory at a time."""
        known = self.projections
        projections = {s: known[s] if s in known else self._fit_projection(cohort, s) for s in self.stacks}
        first = self.extract(cohort, cohort.subjects[0])
        shapes = {stack: projections[stack](values).shape for stack, values in first}
        spacings = {stack: map_spacing_mm(cohort.grid, plane, shapes[stack]) for stack, plane in self.stacks.items()}
        return replace(self, projections=projections, shapes=shapes, spacings_mm=spacings)

    def extract(
        self, cohort: Cohort, subject: Subject, augmentation: Augmentation | None = None
    ) -> Iterator[tuple[str, npt.NDArray[np.float16]]]:
        """Name and values of each stack of a scan, (channels, n_slices, height, width), in the order of `stacks`."""
        for stack, maps in self.maps.extract(cohort, subject, augmentation) if self.maps else ():
            for what in self.of_maps:
                yield _name(stack, what), _pool_maps(maps, what)
        if self.ct_maps:
            yield from self.ct_maps.extract(cohort, subject, augmentation)
        yield from self.images.extract(cohort, subject, augmentation)

    def precompute(self, cohort: Cohort, augmentations: Sequence[Augmentation] = ()) -> None:
        """Compute the stacks that the cache lacks."""
        for version in (None, *augmentations):
            for subject in cohort.subjects:
                for _ in self.extract(cohort, subject, version):
                    pass

    def transform(self, cohort: Cohort, augmentations: Sequence[Augmentation] = ()) -> list[ModelInput]:
        """The projected stacks of all patients; for maps their volumes where the network is trained end to end."""
        if self.end_to_end:
            own = {str(stack): self.projections[stack] for stack in self.images.names}
            others = replace(self, maps=None, projections=own, end_to_end=False)
            return [stack_volumes(cohort, augmentations), *others.transform(cohort, augmentations)]
        scans, *augmented = (self._project(cohort, version) for version in (None, *augmentations))
        return [
            ModelInput(
                scans[stack],
                LEFT_RIGHT_AXIS[plane],
                tuple(version[stack] for version in augmented),
                cohort.volumes.folder,
            )
            for stack, plane in self.stacks.items()
        ]

    def arrays(self) -> Arrays:
        """The 2D network and the projections."""
        arrays = {name: array for maps in (self.maps, self.ct_maps) if maps for name, array in maps.arrays().items()}
        for stack, projection in self.projections.items():
            arrays |= nest(f"projection.{stack}.", projection.arrays())
        return arrays

    def notes(self) -> dict[str, Any]:
        """The 2D network's normalisation, and the geometry of the stacks."""
        of_ct = {"ct_maps": self.ct_maps.notes()} if self.ct_maps else {}
        return {
            **(self.maps.notes() if self.maps else {}),
            **of_ct,
            "shapes": self.shapes,
            "spacings_mm": self.spacings_mm,
        }

    def restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> Self:
        """A copy with these projections; the 2D network is that of :attr:`maps`."""
        shapes = {stack: tuple(shape) for stack, shape in notes["shapes"].items()}
        spacings = {stack: tuple(spacing) for stack, spacing in notes["spacings_mm"].items()}
        projections = {stack: Projection.from_arrays(unnest(f"projection.{stack}.", arrays)) for stack in shapes}
        return replace(self, projections=projections, shapes=shapes, spacings_mm=spacings)

    def _fit_projection(self, cohort: Cohort, stack: str) -> Projection:
        of_image = stack in self.images.names
        of_ct = self.ct_maps is not None and stack in self.ct_maps.stacks  # the rest is not read
        source = replace(
            self,
            maps=None if of_image or of_ct else self.maps,
            ct_maps=self.ct_maps if of_ct else None,
            images=self.images if of_image else ImageStacks(),
        )
        values = (
            values for subject in cohort.subjects for name, values in source.extract(cohort, subject) if name == stack
        )
        few = of_image and not stack.endswith("wavelets")  # channels
        return Projection.standardise(values) if few else Projection.fit(values, self.components)

    def _project(self, cohort: Cohort, augmentation: Augmentation | None) -> dict[str, torch.Tensor]:
        """For each stack the projected values of all patients: (n, components, n_slices, height, width)."""
        rows: dict[str, torch.Tensor] = {}
        for place, subject in enumerate(cohort.subjects):
            for stack, values in self.extract(cohort, subject, augmentation):
                projected = self.projections[stack](values)
                if stack not in rows:
                    rows[stack] = new_rows((len(cohort), *projected.shape), cohort.volumes.folder)
                rows[stack][place] = torch.from_numpy(projected)
        return rows


def stack_volumes(
    cohort: Cohort, augmentations: Sequence[Augmentation], modalities: Sequence[Modality] = ("pet",)
) -> ModelInput:
    """Volumes of all patients, (n, modalities, slices, rows, columns), with a version of each for every augmentation.

    SUV, and HU above air, so that 0 is what lies outside in both.
    """
    folder, spacing = cohort.volumes.folder, cohort.grid.spacing_mm
    versions = [
        new_rows((len(cohort), len(modalities), *cohort.grid.shape), folder) for _ in range(1 + len(augmentations))
    ]
    for place, subject in enumerate(cohort.subjects):
        for channel, modality in enumerate(modalities):
            volume = cohort.volume(subject) if modality == "pet" else read_hu(cohort, subject) - np.float32(AIR_HU)
            for version, augmentation in zip(versions, (None, *augmentations), strict=True):
                shown = volume if augmentation is None else augmentation(volume, spacing)
                version[place, channel] = torch.from_numpy(shown)
    return ModelInput(versions[0], -1, tuple(versions[1:]), folder)


def _name(stack: str, what: MapStack) -> str:
    """The name of a stack that is made of one of maps, for instance ``axial-profile``."""
    return stack if what == "maps" else f"{stack}-{what.removeprefix('map-')}"


def _pool_maps(maps: npt.NDArray[np.float16], what: MapStack) -> npt.NDArray[np.float16]:
    if what == "maps":
        return maps
    values = torch.from_numpy(maps.astype(np.float32))
    return pool_stack(values, POOLED_AS[what]).half().numpy()


def map_spacing_mm(grid: Grid, plane: Plane, shape: Shape) -> Spacing:
    """How far apart the positions of a stack of maps are, in mm: along the stack, between rows, between columns."""
    lengths = [grid.spacing_mm[axis] * grid.shape[axis] for axis in range(3)]
    along = AXIS[plane]
    rows, columns = (length for axis, length in enumerate(lengths) if axis != along)
    _, slices, height, width = shape
    return lengths[along] / slices, rows / height, columns / width
