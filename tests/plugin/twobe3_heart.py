"""A model outside of twobe3: all that one has to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass

from twobe3.cohort.cohort import Cohort
from twobe3.models.learners.linear import RidgeModel, fit_ridge
from twobe3.models.model import CONFIG, Model


@dataclass(kw_only=True, config=CONFIG)
class HeartModel(Model):
    """Ridge regression on the largest SUV of the image.

    Parameters
    ----------
    penalty : float
        Of the ridge regression.
    """

    kind: ClassVar[str] = "heart"
    summary: ClassVar[str] = "the largest SUV of the image, from another distribution"

    penalty: float = Field(default=1.0, gt=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ridge_: RidgeModel | None = None

    def _fit(self, cohort: Cohort) -> None:
        self.ridge_ = fit_ridge(self._largest(cohort), cohort.outcomes, self.penalty)

    def _risk(self, cohort: Cohort) -> npt.NDArray[np.float64]:
        assert self.ridge_ is not None
        return self.ridge_.risk(self._largest(cohort))

    def _largest(self, cohort: Cohort) -> npt.NDArray[np.float64]:
        return np.array([[cohort.volume(subject).max()] for subject in cohort.subjects], np.float64)

    def _arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        assert self.ridge_ is not None
        return self.ridge_.arrays()

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]], notes: Mapping[str, Any]) -> None:
        self.ridge_ = RidgeModel.from_arrays(arrays)
