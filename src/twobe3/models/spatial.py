"""The closed-form model of where uptake lies: correlograms and the hottest voxels, and a ridge head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, PositiveFloat
from pydantic.dataclasses import dataclass

from twobe3.cohort.cohort import Cohort
from twobe3.core.outcomes import FloatArray
from twobe3.features.correlograms import PARTS, extract_spatial_features
from twobe3.io.cache import Arrays
from twobe3.models.fit_report import FitReport
from twobe3.models.learners.learner import RIDGE_PENALTIES
from twobe3.models.learners.linear import RidgeModel, choose_penalty, fit_ridge
from twobe3.models.model import CONFIG, Model
from twobe3.models.registry import register


@register
@dataclass(kw_only=True, config=CONFIG)
class SpatialModel(Model):
    """Correlograms of the SUV image's profiles and means of its hottest voxels, and ridge regression on them.

    Needs no region and no network, see :func:`~twobe3.features.correlograms.spatial_features`. What the columns of each
    axis and the hottest voxels add to the risk are its contributions.

    Parameters
    ----------
    penalties : tuple of float
        Candidates, of which an inner cross-validation of the training patients chooses.
    inner_folds : int
        Parts of that cross-validation.
    """

    kind: ClassVar[str] = "spatial"
    summary: ClassVar[str] = "correlograms of profiles of the SUV image and its hottest voxels, ridge head"

    penalties: tuple[PositiveFloat, ...] = Field(default=RIDGE_PENALTIES, min_length=1)
    inner_folds: int = Field(default=4, ge=2)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ridge_: RidgeModel | None = None

    def precompute(self, cohort: Cohort) -> None:
        """Compute the features that the cache lacks."""
        self._features(cohort)

    def report(self, cohort: Cohort) -> FitReport:
        """Count the features, which are as many for every scan."""
        return replace(super().report(cohort), n_parameters=sum(PARTS.values()))

    def contributions(self, cohort: Cohort) -> dict[str, FloatArray]:
        """What the features of each axis, and the hottest voxels, add to the risk."""
        assert self.ridge_ is not None
        terms = (self._features(cohort) - self.ridge_.mean) / self.ridge_.scale * self.ridge_.weights
        parts = np.split(terms, np.cumsum(list(PARTS.values()))[:-1], axis=1)
        return {name: part.sum(axis=1) for name, part in zip(PARTS, parts, strict=True)}

    def _features(self, cohort: Cohort) -> FloatArray:
        """Shape (patients, features)."""
        return np.stack([extract_spatial_features(cohort, subject, self.cache) for subject in cohort.subjects])

    def _fit(self, cohort: Cohort) -> None:
        x, outcomes = self._features(cohort), cohort.outcomes
        penalty = choose_penalty(x, outcomes, self.penalties, inner_folds=self.inner_folds, seed=self.seed)
        self.ridge_ = fit_ridge(x, outcomes, penalty)

    def _risk(self, cohort: Cohort) -> FloatArray:
        assert self.ridge_ is not None
        return self.ridge_.risk(self._features(cohort))

    def _arrays(self) -> Arrays:
        assert self.ridge_ is not None
        return self.ridge_.arrays()

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        self.ridge_ = RidgeModel.from_arrays(arrays)
