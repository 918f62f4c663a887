"""Where a 2Be3-Net starts that was pre-trained: the file that ``twobe3 pretrain`` writes and ``init`` names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid
from twobe3.features.backbones import Backbone
from twobe3.features.slices import AXIS, Plane, SliceSpec
from twobe3.features.weights import State
from twobe3.io.cache import Arrays
from twobe3.io.files import digest
from twobe3.io.model_file import read_sealed, unnest, write_sealed
from twobe3.models.nn.feature_maps import FeatureMaps
from twobe3.models.nn.inputs import StackInputs, map_spacing_mm
from twobe3.models.nn.networks import Block, Shape, plan_blocks
from twobe3.scans.scan import TumourScan

KIND: Final = "pretrained"
# The parameters that decide what the maps are and which shapes the branches have; they must be those of the model.
SHARED: Final = (
    "backbone", "layer", "planes", "windows_suv", "slice_size", "components", "reduced_channels", "width", "anisotropy",
)  # fmt: skip
MARK_LENGTH = 32  # hexadecimal digits, 128 bits


@dataclass(frozen=True, eq=False)
class PretrainedCheckpoint:
    """A 2D network, projections and branches that were trained without any outcome.

    Attributes
    ----------
    parameters : mapping
        Those of :data:`SHARED`.
    grid : Grid
        Of the scans.
    inputs : StackInputs
        The 2D network, the principal components of each stack's maps, and the shapes of the stacks.
    branches : mapping of Tensor
        State of the branches of all stacks, as :class:`~twobe3.models.nn.networks.PlanesNetwork` names it; empty where
        the 2D network alone was trained.
    marks : frozenset of str
        Of the scans that were trained on, see :func:`marks_of`.
    digest : str
        Of the file; empty before it is written.
    """

    parameters: Mapping[str, Any]
    grid: Grid
    inputs: StackInputs
    branches: State
    marks: frozenset[str]
    digest: str = ""

    @property
    def backbone(self) -> Backbone:
        """The 2D network."""
        assert self.inputs.maps is not None
        return self.inputs.maps.backbone

    def save(self, path: Path) -> str:
        """Write the file; gives its digest."""
        arrays = {**self.inputs.arrays(), **{f"branches.{key}": value.numpy() for key, value in self.branches.items()}}
        header = {
            "kind": KIND,
            "parameters": dict(self.parameters),
            "grid": asdict(self.grid),
            "marks": sorted(self.marks),
            **self.inputs.notes(),
        }
        return write_sealed(path, header, arrays)

    @classmethod
    def read(cls, path: Path) -> PretrainedCheckpoint:
        """Read the file; nothing in it is executed.

        Raises ConfigurationError ``WEIGHTS_MISSING``: there is no such file; ``MODEL_INVALID``: it is another one, or
        was changed.
        """
        if not path.is_file():
            raise ConfigurationError(
                Code.WEIGHTS_MISSING,
                f"the file {path.name!r} that `init` names does not exist",
                remedy="`twobe3 pretrain` writes it; its path is relative to the study file",
            )
        header, arrays, sealed = read_sealed(path)
        if header.get("kind") != KIND:
            raise ConfigurationError(
                Code.MODEL_INVALID,
                f"{path.name!r} holds a {header.get('kind')!r}, not what `init` starts from",
                remedy="name a file that `twobe3 pretrain` wrote",
            )
        try:
            return cls._restore(header, arrays, sealed)
        except (KeyError, TypeError, ValueError):
            raise ConfigurationError(
                Code.MODEL_INVALID, f"{path.name!r} was written by another version of twobe3"
            ) from None

    @classmethod
    def _restore(cls, header: Mapping[str, Any], arrays: Arrays, sealed: str) -> PretrainedCheckpoint:
        parameters = {name: _as_tuple(header["parameters"][name]) for name in SHARED}
        slices = SliceSpec(parameters["windows_suv"], parameters["slice_size"])
        maps = FeatureMaps(parameters["backbone"], KIND, parameters["layer"], parameters["planes"], slices)
        maps.restore(arrays, header)
        return cls(
            parameters,
            Grid(**{name: tuple(values) for name, values in header["grid"].items()}),
            StackInputs(maps, parameters["components"]).restore(arrays, header),
            {key: torch.from_numpy(array) for key, array in unnest("branches.", arrays).items()},
            frozenset(header["marks"]),
            sealed,
        )

    def require_same(self, parameters: Mapping[str, Any], where: str) -> None:
        """Refuse a model whose maps or branches are others. Raises ConfigurationError ``WEIGHTS_MISMATCH``."""
        pairs = [(name, self.parameters[name], parameters[name]) for name in SHARED]
        differing = [f"`{name}` is {here!r}, there {there!r}" for name, there, here in pairs if here != there]
        if differing:
            raise mismatch(where, "; ".join(differing))

    def require_grid(self, grid: Grid, where: str) -> None:
        """Refuse a grid of another spacing, or one whose stacks need other blocks, likewise."""
        if grid.spacing_mm != self.grid.spacing_mm:
            raise mismatch(where, f"the voxels are {grid.spacing_mm} mm apart, there {self.grid.spacing_mm}")
        for stack, plane in self.inputs.stacks.items():
            there = self.inputs.shapes[stack]
            here = (there[0], grid.shape[AXIS[plane]], *there[2:])
            if self._plan(grid, plane, here) != self._plan(self.grid, plane, there):
                differing = f"the {stack} stack has {here[1]} slices, there {there[1]}, and so other blocks"
                raise mismatch(where, differing)

    def _plan(self, grid: Grid, plane: Plane, shape: Shape) -> tuple[Block, ...]:
        by_spacing = self.parameters["anisotropy"] == "spacing"
        return plan_blocks(shape[1:], map_spacing_mm(grid, plane, shape) if by_spacing else None)

    def count_seen(self, cohort: Cohort) -> int:
        """How many of a cohort's scans were trained on."""
        return sum(not self.marks.isdisjoint(marks_of(cohort, subject)) for subject in cohort.subjects)


def marks_of(cohort: Cohort, subject: Subject) -> tuple[str, str]:
    """By what a scan is known again: its files, and its voxels on the cohort's grid; digests, which tell no identity.

    Either may change, the files with an export or a contour, the voxels with the grid.
    """
    scan = subject.scan.scan if isinstance(subject.scan, TumourScan) else subject.scan
    voxels = digest([str(cohort.grid.spacing_mm), np.ascontiguousarray(cohort.volume(subject)).tobytes()])
    return scan.digest[:MARK_LENGTH], voxels[:MARK_LENGTH]


def mismatch(where: str, differing: str) -> ConfigurationError:
    """The error about an ``init`` that does not fit."""
    return ConfigurationError(
        Code.WEIGHTS_MISMATCH,
        f"{where}: `init` was pre-trained otherwise: {differing}",
        remedy="give the model what the card beside the file says, or pre-train again",
    )


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
