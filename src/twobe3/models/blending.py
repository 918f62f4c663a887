"""What a fusion is made of: members as they were fitted, and the weights of their risks."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import Fold
from twobe3.core.outcomes import Endpoint, FloatArray, Outcomes
from twobe3.io.cache import Arrays
from twobe3.io.model_file import nest, unnest
from twobe3.models.learners.elastic_net import fit_nonnegative
from twobe3.models.learners.linear import RidgeModel
from twobe3.models.model import Model

# Of learnt weights: as many as members, so no more than keeps the fit finite where they separate the classes.
PENALTY = 1.0
# Spread of risks, relative to their size, that is rounding: such a member says the same of everybody.
NEGLIGIBLE = 1e-9


@dataclass(frozen=True, eq=False)
class FittedMember:
    """A member as it was fitted: once on all training patients, or once without each fold of them.

    Attributes
    ----------
    models : tuple of Model
        Its fits, one or one for each fold.
    origins : ndarray, shape (models,)
        What their risks count from: for log hazard ratios the mean of the patients whom the model was fitted on.
    """

    models: tuple[Model, ...]
    origins: FloatArray

    @classmethod
    def of(cls, fits: Sequence[tuple[Model, Cohort]]) -> Self:
        """The member of fitted models, each with its training patients."""
        origins = [
            0.0 if training.endpoint.risk_has_origin else training.endpoint.origin(_risk(model, training))
            for model, training in fits
        ]
        return cls(tuple(model for model, _ in fits), np.array(origins))

    def risk(self, cohort: Cohort) -> FloatArray:
        """Mean of the models' risks, shape (patients,)."""
        risks = [_risk(model, cohort) - origin for model, origin in zip(self.models, self.origins, strict=True)]
        return np.asarray(np.mean(risks, axis=0))

    def risk_out_of_fold(self, cohort: Cohort, split: Sequence[Fold]) -> FloatArray:
        """Risk of each training patient by the model that was fitted without the patient's fold, shape (patients,)."""
        risks = np.zeros(len(cohort))
        for model, origin, fold in zip(self.models, self.origins, split, strict=True):
            risks[fold.test] = _risk(model, cohort.subset(fold.test)) - origin
        return risks

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What was learnt; of arrays that are the same in every model, such as a frozen 2D network, the first."""
        arrays: dict[str, npt.NDArray[Any]] = {"origins": self.origins}
        for number, model in enumerate(self.models):
            own = {name: array for name, array in model._arrays().items() if name not in self._shared[number]}
            arrays |= nest(f"{number}.", own)
        return arrays

    def notes(self) -> list[dict[str, Any]]:
        """What was learnt and is no array, of each model, and which arrays it shares with the first."""
        return [
            {"notes": model._notes(), "shared": shared} for model, shared in zip(self.models, self._shared, strict=True)
        ]

    @cached_property
    def _shared(self) -> list[list[str]]:
        """For each model the names of its arrays that are the same in the first; none for the first itself."""
        first, *others = (model._arrays() for model in self.models)
        return [
            [],
            *(
                sorted(name for name in own if name in first and np.array_equal(own[name], first[name]))
                for own in others
            ),
        ]

    @classmethod
    def restore(cls, member: Model, arrays: Arrays, notes: Sequence[Mapping[str, Any]]) -> Self:
        """The member that :meth:`arrays` and :meth:`notes` described, its endpoint and grid those of ``member``."""
        models, first = [], unnest("0.", arrays)
        for number, one in enumerate(notes):
            model = copy.copy(member)
            model._restore(unnest(f"{number}.", arrays) | {name: first[name] for name in one["shared"]}, one["notes"])
            models.append(model)
        return cls(tuple(models), arrays["origins"])


def _risk(model: Model, cohort: Cohort) -> FloatArray:
    return model.predict(cohort.without_outcomes()).risk


def weigh_equally(risks: FloatArray, endpoint: Endpoint) -> RidgeModel:
    """Mean of standardised risks of the training patients, (n, members), on the scale that members have on average."""
    mean, spread, unit = _moments(risks)
    p = len(mean)
    origin = float(mean.mean()) if endpoint.risk_has_origin else 0.0
    return RidgeModel(mean, unit, np.full(p, float(spread.mean()) / p), origin, 0.0)


def learn_weights(risks: FloatArray, outcomes: Outcomes) -> RidgeModel:
    """Ridge regression with weights that are not negative, on standardised risks.

    ``risks``, (n, members), and outcomes are of patients whom the members were not fitted on.
    """
    mean, _, unit = _moments(risks)
    weights, bias = fit_nonnegative((risks - mean) / unit, outcomes, PENALTY)
    return RidgeModel(mean, unit, weights, bias, PENALTY)


def _moments(risks: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mean, standard deviation, and what to divide by: the deviation, or 1 where it is rounding."""
    mean, spread = risks.mean(axis=0), risks.std(axis=0)
    spread = np.where(spread > NEGLIGIBLE * np.maximum(np.abs(mean), 1.0), spread, 0.0)
    return mean, spread, np.where(spread > 0, spread, 1.0)
