"""What turns a table of features into risks, under one protocol, each fitted and tuned on training patients alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.models.learners.elastic_net import fit_elastic_path, largest_penalty
from twobe3.models.learners.icare import Icare, fit_icare
from twobe3.models.learners.linear import RidgeModel, choose_penalty, fit_ridge
from twobe3.models.learners.trees import SurvivalForest, Trees, fit_boosting, fit_forest, fit_survival_forest

LearnerName = Literal["elastic-net", "ridge", "random-forest", "random-survival-forest", "gradient-boosting", "icare"]
RIDGE_PENALTIES = tuple(float(penalty) for penalty in np.logspace(-1, 4, 11))
ELASTIC_SHARES_OF_LARGEST = tuple(float(share) for share in np.logspace(0, -2, 9))
"""Penalties as shares of the one under which no feature is left."""


class Learner(Protocol):
    """A fitted learner."""

    def risk(self, x: FloatArray) -> FloatArray:
        """Risk of each row."""

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """What was learnt."""


FITTED: dict[LearnerName, type[RidgeModel] | type[Trees] | type[Icare]] = {
    "elastic-net": RidgeModel,
    "ridge": RidgeModel,
    "random-forest": Trees,
    "random-survival-forest": SurvivalForest,
    "gradient-boosting": Trees,
    "icare": Icare,
}
"""What each learner is once it is fitted."""


@dataclass(frozen=True)
class LearnerSpec:
    """Which learner, and its constants.

    Attributes
    ----------
    name : str
        ``elastic-net`` and ``ridge`` (their penalty by inner cross-validation), ``random-forest``,
        ``random-survival-forest`` (needs ``twobe3[survival-forest]``), ``gradient-boosting``, ``icare``.
    l1_share : float
        Of the elastic net.
    trees, depth, smallest_leaf : int
        Of forests and boosting; bootstrap samples of ICARE.
    learning_rate, patient_share : float
        Of boosting.
    icare_rho, icare_least, icare_feature_share : float
        Of ICARE: largest correlation, smallest concordance, share of features in a sample.
    inner_folds, seed : int
        Of the inner cross-validation; of every random choice.
    """

    name: LearnerName
    l1_share: float = 0.5
    trees: int = 200
    depth: int = 2
    smallest_leaf: int = 3
    learning_rate: float = 0.05
    patient_share: float = 0.8
    icare_rho: float = 0.7
    icare_least: float = 0.55
    icare_feature_share: float = 0.5
    inner_folds: int = 4
    seed: int = 0

    def fit(self, x: FloatArray, outcomes: Outcomes) -> Learner:
        """Fit on training patients; x has shape (patients, features)."""
        match self.name:
            case "ridge":
                penalty = choose_penalty(x, outcomes, RIDGE_PENALTIES, inner_folds=self.inner_folds, seed=self.seed)
                return fit_ridge(x, outcomes, penalty)
            case "elastic-net":
                return self._elastic_net(x, outcomes)
            case "random-forest":
                return fit_forest(x, outcomes, trees=self.trees, smallest_leaf=self.smallest_leaf, seed=self.seed)
            case "random-survival-forest":
                return fit_survival_forest(
                    x, outcomes, trees=self.trees, smallest_leaf=self.smallest_leaf, seed=self.seed
                )
            case "gradient-boosting":
                return fit_boosting(
                    x, outcomes, trees=self.trees, depth=self.depth, learning_rate=self.learning_rate,
                    share=self.patient_share, seed=self.seed,
                )  # fmt: skip
            case "icare":
                return fit_icare(
                    x, outcomes, samples=self.trees, rho=self.icare_rho, least=self.icare_least,
                    share=self.icare_feature_share, seed=self.seed,
                )  # fmt: skip

    def _elastic_net(self, x: FloatArray, outcomes: Outcomes) -> RidgeModel:
        largest = largest_penalty(x, outcomes, self.l1_share)
        penalties = tuple(largest * share for share in ELASTIC_SHARES_OF_LARGEST)
        path = partial(fit_elastic_path, l1_share=self.l1_share)
        penalty = choose_penalty(x, outcomes, penalties, inner_folds=self.inner_folds, seed=self.seed, path=path)
        return path(x, outcomes, [one for one in penalties if one >= penalty])[penalty]
