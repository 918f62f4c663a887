"""The 3D baseline: a CNN trained from scratch on the SUV volume itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, PositiveFloat
from pydantic.dataclasses import dataclass
from torch import nn

from twobe3.cohort import Cohort
from twobe3.models.base import CONFIG, Model, register
from twobe3.models.linear import FloatArray
from twobe3.models.networks import VolumeNetwork
from twobe3.models.training import (
    Stack,
    TrainingParameters,
    ensemble_risk,
    member_from_arrays,
    members_to_arrays,
    train_ensemble,
)
from twobe3.store import Arrays

LAYERS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2)}


@register
@dataclass(kw_only=True, config=CONFIG)
class CNN3D(Model, TrainingParameters):
    """A 3D ResNet on the SUV volume, trained from scratch.

    Parameters
    ----------
    depth : {10, 18}
        Of the ResNet.
    width : int
        Channels of its first stage; they double with every stage. A multiple of 4.
    windows_suv : tuple of float
        Upper ends of the SUV windows, a channel each.
    """

    kind: ClassVar[str] = "cnn3d"
    summary: ClassVar[str] = "3D ResNet on the SUV volume, trained from scratch"

    depth: int = Field(default=10)
    width: int = Field(default=16, ge=4, multiple_of=4)
    windows_suv: tuple[PositiveFloat, ...] = Field(default=(5.0, 10.0, 25.0), min_length=1)
    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=8, ge=2)
    members: int = Field(default=1, ge=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.depth not in LAYERS:
            raise ValueError(f"depth must be one of {list(LAYERS)}, got {self.depth}")
        self.networks_: list[nn.Module] = []

    def _fit(self, cohort: Cohort) -> None:
        self.networks_ = train_ensemble(self._network, _stacks(cohort), cohort.outcomes, self, self.seed)

    def _risk(self, cohort: Cohort) -> FloatArray:
        return ensemble_risk(self.networks_, _stacks(cohort), self.batch_size)

    def _network(self) -> VolumeNetwork:
        widths = [self.width * 2**stage for stage in range(4)]
        return VolumeNetwork(self.windows_suv, layers=LAYERS[self.depth], widths=widths, dropout=self.dropout)

    def _arrays(self) -> Arrays:
        return members_to_arrays(self.networks_)

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self.networks_ = [member_from_arrays(self._network(), arrays, member) for member in range(self.members)]


def _stacks(cohort: Cohort) -> list[Stack]:
    volumes = np.stack([cohort.volume(study) for study in cohort.studies])
    return [Stack(torch.from_numpy(volumes).unsqueeze(1), left_right_axis=-1)]
