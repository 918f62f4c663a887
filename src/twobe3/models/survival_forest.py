"""A random survival forest, grown by scikit-survival (GPL-3.0, the optional part ``twobe3[survival-forest]``).

Only growing it needs scikit-survival. What was grown is kept as arrays and predicts without it.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twobe3.errors import Code, ToolError, UsageError
from twobe3.models.linear import FloatArray
from twobe3.models.trees import Trees, joined_trees
from twobe3.outcome import Outcomes


@dataclass(frozen=True, eq=False)
class SurvivalForest:
    """The logarithm of the mortality that trees predict on average.

    Attributes
    ----------
    trees : Trees
        Their sum is the mortality: the cumulative hazard of a patient's leaf, summed over the event times and averaged
        over trees.
    """

    trees: Trees

    def risk(self, x: FloatArray) -> FloatArray:
        """Risk of each row of ``x``, shape (n, p)."""
        least = 0.5 / len(self.trees.roots)  # a forest without any hazard: half an event in one tree
        return np.log(np.maximum(self.trees.sums(x), least))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Those of the trees, for a model file."""
        return self.trees.arrays()

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> SurvivalForest:
        """The forest that :meth:`arrays` described."""
        return cls(Trees.from_arrays(arrays))


def fit_survival_forest(
    x: FloatArray, outcomes: Outcomes, *, trees: int, smallest_leaf: int, seed: int
) -> SurvivalForest:
    """Grow a random survival forest: trees split by the log-rank test (Ishwaran et al., Ann Appl Stat 2008;2:841).

    Parameters
    ----------
    x : ndarray, shape (n, p)
        Training patients.
    outcomes : Outcomes
        Of the same patients, times to an event.
    trees, smallest_leaf : int
        Number of trees; patients in a leaf. Each split looks at √p features.
    seed : int
        Of bootstrap samples and features.

    Raises
    ------
    UsageError
        ``STUDY_FILE_INVALID``: the endpoint is no time to an event.
    ToolError
        ``EXTRA_MISSING``: scikit-survival is not installed.
    """
    if outcomes.endpoint.kind != "time-to-event":
        reason = f"a random survival forest needs times to an event; {outcomes.endpoint.name!r} is none"
        raise UsageError(Code.STUDY_FILE_INVALID, reason, remedy='take learner = "random-forest"')
    try:
        grower = importlib.import_module("sksurv.ensemble").RandomSurvivalForest
    except ImportError:
        raise ToolError(
            Code.EXTRA_MISSING,
            "a random survival forest needs scikit-survival, which is under the GPL",
            remedy="pip install 'twobe3[survival-forest]', or take learner = \"random-forest\"",
        ) from None
    observed = np.empty(len(outcomes), dtype=[("event", bool), ("time", float)])
    observed["event"], observed["time"] = outcomes.event, outcomes.value
    forest = grower(trees, min_samples_leaf=smallest_leaf, max_features="sqrt", random_state=seed, n_jobs=1)
    grown = list(forest.fit(x, observed).estimators_)
    mortality = [one.tree_.value[:, one.is_event_time_, 0].sum(axis=1) for one in grown]
    return SurvivalForest(joined_trees(grown, mortality, 1.0 / trees, 0.0, log_odds=False))
