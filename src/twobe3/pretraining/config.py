"""The file of a pre-training: which scans, which networks, what they learn and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, NonNegativeInt, ValidationError, model_validator

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.dicom.attributes import Policy
from twobe3.features.slices import Plane
from twobe3.features.weights import WeightsSource
from twobe3.io.cache import Cache
from twobe3.models import TwoBe3Net
from twobe3.models.pretrained import SHARED
from twobe3.runtime.device import Device
from twobe3.scans.regions import ThresholdSUV
from twobe3.study.compute_section import DeviceSection
from twobe3.study.config import first_problem, read_sections
from twobe3.study.section import Section
from twobe3.study.sections import ImagesSection, VolumeSection

Task = Literal["sex", "age_years", "weight_kg", "slice_position", "lesions", "masked_voxels", "masked_features"]
DENSE_BACKBONE: Final = "pet-lesions"  # the 2D network that has an output for every position
OF_PATIENTS: Final[tuple[Task, ...]] = ("sex", "age_years", "weight_kg")
POSITION: Final = "slice_position"
LESIONS: Final = "lesions"
MASKED_VOXELS: Final = "masked_voxels"
MASKED: Final = "masked_features"
OF_PICTURES: Final[tuple[Task, ...]] = (*OF_PATIENTS, POSITION)  # what a 2D network on pictures can learn
DENSE: Final[tuple[Task, ...]] = (LESIONS, MASKED_VOXELS)  # what the one with an output for every position can
OF_STACKS: Final[tuple[Task, ...]] = (*OF_PATIENTS, MASKED)  # what the 3D head can learn


class UnlabelledSection(ImagesSection):
    """``[cohort]``: where the scans are. There is no clinical table: no outcome can be looked at."""

    policy: Policy = "lenient"
    repair_dates: bool = False


def default_tasks(backbone: str) -> tuple[Task, ...]:
    """All that a 2D network and the 3D head on its maps can learn together."""
    return (*(DENSE if backbone == DENSE_BACKBONE else OF_PICTURES), MASKED)


class PretrainSection(Section):
    """``[pretrain]``: the 2D network and its maps, as in a ``2be3-net``; the tasks; who is held out."""

    backbone: str = DENSE_BACKBONE
    weights: str = "pretrained"
    layer: NonNegativeInt | tuple[NonNegativeInt, ...] = 3
    planes: tuple[Plane, ...] = Field(default=("axial",), min_length=1)
    windows_suv: tuple[float, ...] = (5.0, 10.0, 25.0)
    slice_size: int = 128
    components: int = Field(default=32, ge=1)
    reduced_channels: int = Field(default=16, ge=1)
    width: int = Field(default=16, ge=1)
    anisotropy: Literal["shape", "spacing"] = "shape"
    tasks: tuple[Task, ...] = Field(default_factory=lambda told: default_tasks(told["backbone"]), min_length=1)
    held_out: float = Field(default=0.2, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)
    resamples: int = Field(default=2000, ge=100)

    @model_validator(mode="after")
    def _must_be_learnable(self) -> Self:
        if len(set(self.tasks)) < len(self.tasks):
            raise ValueError(f"each task may stand once, got {self.tasks}")
        if not self.is_dense and (unlearnable := [task for task in self.tasks if task in DENSE]):
            raise ValueError(
                f"{unlearnable[0]!r} is learnt at every position, which {self.backbone!r} has no output for: "
                f"give backbone = {DENSE_BACKBONE!r}, or leave it out of `tasks`"
            )
        if POSITION in self.tasks and "axial" not in self.planes:
            raise ValueError(f"{POSITION!r} is the height of an axial slice: `planes` must have 'axial'")
        return self

    @property
    def is_dense(self) -> bool:
        """Whether the 2D network is the one that knows PET."""
        return self.backbone == DENSE_BACKBONE

    @property
    def of_slices(self) -> tuple[Task, ...]:
        """The tasks that the first stage can learn with this network."""
        return tuple(task for task in self.tasks if task in (DENSE if self.is_dense else OF_PICTURES))


class SlicesSection(Section):
    """``[slices]``: the first stage, in which the 2D network learns from single slices, unless it has 0 epochs.

    The last three are for the network that knows PET: the SUV above which lesions are looked for, the share of every
    batch that is simulated, and how many phantoms are simulated for it.
    """

    epochs: int = Field(default=5, ge=0)
    per_scan: int = Field(default=8, ge=1)
    batch_size: int = Field(default=32, ge=2)
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    threshold_suv: ThresholdSUV = 4.0
    simulated_share: float = Field(default=0.5, ge=0, lt=1)
    simulated_phantoms: int = Field(default=40, ge=1)


class StacksSection(Section):
    """``[stacks]``: the second stage, in which the 3D head learns from stacks of maps, unless it has 0 epochs."""

    epochs: int = Field(default=30, ge=0)
    batch_size: int = Field(default=16, ge=2)
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    masked_share: float = Field(default=0.3, gt=0, lt=1)
    masked_weight: float = Field(default=10.0, gt=0)


class Recipe(Section):
    """A whole file; ``name`` and ``notes`` are printed on the card."""

    name: str = "pre-training"
    notes: tuple[str, ...] = ()
    cohort: UnlabelledSection
    volume: VolumeSection = VolumeSection()
    pretrain: PretrainSection = PretrainSection()
    slices: SlicesSection = SlicesSection()
    stacks: StacksSection = StacksSection()
    compute: DeviceSection = DeviceSection()

    @model_validator(mode="after")
    def _must_learn_something(self) -> Self:
        section = self.pretrain
        labels = [task for task in section.tasks if task in OF_PICTURES]
        if section.is_dense and self.slices.epochs and labels:
            raise ValueError(
                f"{DENSE_BACKBONE!r} has an output for every position and none for {labels[0]!r}: give "
                f"tasks = {list(default_tasks(DENSE_BACKBONE))}, or [slices] epochs = 0, with which the 3D head alone "
                "learns labels of patients"
            )
        on_stacks = set(section.tasks) & {*OF_STACKS}
        if not ((self.slices.epochs and section.of_slices) or (self.stacks.epochs and on_stacks)):
            raise ValueError("nothing is learnt: give a stage epochs, and `tasks` something that it can learn")
        return self

    def model(self, folder: Path, cache: Cache, device: Device) -> TwoBe3Net:
        """The network that is pre-trained, as a study would fit it; a ``weights`` file is relative to ``folder``.

        Raises ConfigurationError ``STUDY_FILE_INVALID``.
        """
        section = self.pretrain
        weights = str(WeightsSource.parse(section.weights).relative_to(folder))
        shared = {name: getattr(section, name) for name in SHARED}
        try:
            return TwoBe3Net(
                **shared, inputs=("maps",), weights=weights, dropout=self.stacks.dropout, seed=section.seed,
                cache=cache, device=device,
            )  # fmt: skip
        except (ValidationError, ValueError) as error:
            raise ConfigurationError(Code.STUDY_FILE_INVALID, f"[pretrain] {first_problem(error)}") from None

    def parameters(self) -> dict[str, Any]:
        """How it is trained, without the folders of this machine."""
        document = self.model_dump(mode="json", include={"volume", "pretrain", "slices", "stacks"})
        document["pretrain"]["weights"] = WeightsSource.parse(self.pretrain.weights).label
        return document


SECTIONS: dict[str, type[Section]] = {
    name: field.annotation for name, field in Recipe.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}  # fmt: skip


def read_recipe(path: Path) -> Recipe:
    """Read the file of a pre-training.

    Raises
    ------
    ConfigurationError
        ``STUDY_FILE_INVALID``; ``UNKNOWN_KEY`` naming the nearest known key.
    """
    return read_sections(path, Recipe, SECTIONS)
