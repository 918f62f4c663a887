"""The train-free variant: frozen feature maps, pooled over position, and a ridge head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, PositiveFloat
from pydantic.dataclasses import dataclass

from twobe3.cohort import Cohort
from twobe3.features.slices import Plane
from twobe3.models.base import CONFIG, register
from twobe3.models.linear import FloatArray, RidgeModel, choose_penalty, fit_ridge
from twobe3.models.mapped import MapModel
from twobe3.store import Arrays

PENALTIES = tuple(float(penalty) for penalty in np.logspace(0, 5, 11))


@register
@dataclass(kw_only=True, config=CONFIG)
class PooledFeatures(MapModel):
    """Mean, maximum and standard deviation of each frozen map, and ridge regression on them.

    Parameters
    ----------
    penalties : tuple of float
        Candidates, of which an inner cross-validation of the training patients chooses.
    inner_folds : int
        Parts of that cross-validation.
    """

    kind: ClassVar[str] = "pooled"
    summary: ClassVar[str] = "frozen feature maps pooled over position, ridge logistic or Cox head"

    planes: tuple[Plane, ...] = Field(default=("axial", "coronal", "sagittal"), min_length=1)
    penalties: tuple[PositiveFloat, ...] = Field(default=PENALTIES, min_length=1)
    inner_folds: int = Field(default=4, ge=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ridge_: RidgeModel | None = None

    def prepare(self, cohort: Cohort) -> None:
        """Compute the pooled feature maps that the store lacks."""
        self._pooled(cohort)

    def candidate_parameters(self, cohort: Cohort) -> int:
        """One for each pooled map."""
        return int(self._pooled(cohort.take([0])).shape[1])

    def _fit(self, cohort: Cohort) -> None:
        x, outcomes = self._pooled(cohort), cohort.outcomes
        penalty = choose_penalty(x, outcomes, self.penalties, inner_folds=self.inner_folds, seed=self.seed)
        self.ridge_ = fit_ridge(x, outcomes, penalty)

    def _risk(self, cohort: Cohort) -> FloatArray:
        assert self.ridge_ is not None
        return self.ridge_.risk(self._pooled(cohort))

    def _pooled(self, cohort: Cohort) -> FloatArray:
        """Shape (patients, 3 · channels · planes)."""
        extractor = self.extractor()
        return np.stack([extractor.pooled(cohort, study) for study in cohort.studies])

    def _arrays(self) -> Arrays:
        assert self.ridge_ is not None
        return {**self._backbone_arrays(), **self.ridge_.arrays()}

    def _notes(self) -> dict[str, Any]:
        return self._backbone_notes()

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self._restore_backbone(arrays, notes)
        self.ridge_ = RidgeModel.from_arrays(arrays)
