"""What turns a table of features into risks, under one protocol, each fitted and tuned on training patients alone."""

from __future__ import annotations

from collections.abc import Mapping
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
RIDGE_PENALTIES: tuple[float, ...] = tuple(float(penalty) for penalty in np.logspace(-1, 4, 11))
# Penalties as shares of the one under which no feature is left.
ELASTIC_SHARES_OF_LARGEST = tuple(float(share) for share in np.logspace(0, -2, 9))


class Learner(Protocol):
    """A fitted learner."""

    def risk(self, x: FloatArray) -> FloatArray:
        """Risk of each row."""

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """What was learnt."""


# What each learner is once it is fitted.
FITTED: dict[LearnerName, type[RidgeModel] | type[Trees] | type[Icare]] = {
    "elastic-net": RidgeModel,
    "ridge": RidgeModel,
    "random-forest": Trees,
    "random-survival-forest": SurvivalForest,
    "gradient-boosting": Trees,
    "icare": Icare,
}


def fit_learner(
    name: LearnerName,
    x: FloatArray,
    outcomes: Outcomes,
    *,
    l1_share: float = 0.5,
    trees: int = 200,
    inner_folds: int = 4,
    seed: int = 0,
) -> Learner:
    """Fit a learner; whatever it does not take here has the default of its own function.

    Parameters
    ----------
    name : str
        The penalty of ``elastic-net`` and ``ridge`` is chosen by inner cross-validation; ``random-survival-forest``
        needs ``twobe3[survival-forest]``.
    x, outcomes
        Training patients, as of :func:`~twobe3.models.learners.linear.fit_ridge`.
    l1_share : float
        Of the elastic net.
    trees : int
        Of forests and boosting; bootstrap samples of ICARE.
    inner_folds, seed : int
        Of the inner cross-validation; of every random choice.
    """
    match name:
        case "ridge":
            penalty = choose_penalty(x, outcomes, RIDGE_PENALTIES, inner_folds=inner_folds, seed=seed)
            return fit_ridge(x, outcomes, penalty)
        case "elastic-net":
            largest, path = largest_penalty(x, outcomes, l1_share), partial(fit_elastic_path, l1_share=l1_share)
            penalties = tuple(largest * share for share in ELASTIC_SHARES_OF_LARGEST)
            penalty = choose_penalty(x, outcomes, penalties, inner_folds=inner_folds, seed=seed, path=path)
            return path(x, outcomes, [one for one in penalties if one >= penalty])[penalty]
        case "random-forest":
            return fit_forest(x, outcomes, trees=trees, seed=seed)
        case "random-survival-forest":
            return fit_survival_forest(x, outcomes, trees=trees, seed=seed)
        case "gradient-boosting":
            return fit_boosting(x, outcomes, trees=trees, seed=seed)
        case "icare":
            return fit_icare(x, outcomes, samples=trees, seed=seed)
