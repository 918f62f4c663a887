"""Random forests, gradient boosting and survival forests whose trees are arrays: a model file holds no pickle."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import logit

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.core.outcomes import FloatArray, IntArray, Outcomes
from twobe3.io.model_file import ArrayFields
from twobe3.models.learners.losses import choose_loss

T = TypeVar("T", bound="Trees")


@dataclass(frozen=True, eq=False)
class Trees(ArrayFields):
    """The sum of regression trees.

    Attributes
    ----------
    start : ndarray of float64, shape (1,)
        Added to the sum.
    roots : ndarray of int64, shape (trees,)
        Where each tree begins in the arrays below.
    feature, left, right : ndarray of int64, shape (nodes,)
        Which column a node asks, and where it sends the patient: left where the value, as a 32-bit number, is at most
        the threshold. −1 in a leaf.
    threshold, value : ndarray of float64, shape (nodes,)
        What it compares with; what a leaf adds.
    log_odds : ndarray of float64, shape (1,)
        1 where the sum is a probability, of which the risk is the log-odds; else 0.
    """

    start: FloatArray
    roots: IntArray
    feature: IntArray
    left: IntArray
    right: IntArray
    threshold: FloatArray
    value: FloatArray
    log_odds: FloatArray

    def sums(self, x: FloatArray) -> FloatArray:
        """The start and what all trees give, shape (n,)."""
        columns, rows = x.astype(np.float32), np.arange(len(x))
        total = np.full(len(x), self.start[0])
        for root in self.roots:
            node = np.full(len(x), root)
            while (inner := self.feature[node] >= 0).any():
                goes_left = columns[rows, self.feature[node]] <= self.threshold[node]
                node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)
            total += self.value[node]
        return total

    def risk(self, x: FloatArray) -> FloatArray:
        """Risk of each row of ``x``, shape (n, p)."""
        sums = self.sums(x)
        if not self.log_odds[0]:
            return sums
        least = 0.5 / max(len(self.roots), 1)  # a forest that agrees is sure to half a tree
        return np.asarray(logit(np.clip(sums, least, 1.0 - least)))


class SurvivalForest(Trees):
    """Trees whose sum is the mortality, averaged over trees: a leaf's cumulative hazard, summed over event times."""

    def risk(self, x: FloatArray) -> FloatArray:
        """The logarithm of the mortality of each row of ``x``, shape (n, p)."""
        least = 0.5 / len(self.roots)  # a forest without any hazard: half an event in one tree
        return np.log(np.maximum(self.sums(x), least))


def fit_forest(x: FloatArray, outcomes: Outcomes, *, trees: int, smallest_leaf: int = 3, seed: int) -> Trees:
    """A random forest on what the outcomes leave unexplained without features.

    Binary: trees on 0 and 1, whose splits are those of the Gini index, and the log-odds of their mean. Continuous:
    their mean. Time-to-event: trees on the martingale residuals of the null model (Therneau, Grambsch & Fleming,
    Biometrika 1990;77:147; Keles & Segal, Stat Med 2002;21:313). For a random survival forest, whose implementations
    are under the GPL, see :func:`fit_survival_forest`.

    Parameters
    ----------
    x, outcomes
        Training patients, as of :func:`~twobe3.models.learners.linear.fit_ridge`.
    trees, smallest_leaf : int
        Number of trees; patients in a leaf. Each split looks at √p features.
    seed : int
        Of bootstrap samples and features.
    """
    endpoint = outcomes.endpoint
    target = outcomes.value if not endpoint.has_times else residuals(np.zeros(len(x)), outcomes)
    from sklearn.ensemble import RandomForestRegressor  # here and below: slow to import, and for fits alone

    forest = RandomForestRegressor(trees, min_samples_leaf=smallest_leaf, max_features="sqrt", random_state=seed)
    forest.fit(x, target)
    return _concat_trees(Trees, list(forest.estimators_), 1.0 / trees, log_odds=endpoint.has_classes)


def fit_survival_forest(
    x: FloatArray, outcomes: Outcomes, *, trees: int, smallest_leaf: int = 3, seed: int
) -> SurvivalForest:
    """Grow a random survival forest: trees split by the log-rank test (Ishwaran et al., Ann Appl Stat 2008;2:841).

    Parameters are those of :func:`fit_forest`; the outcomes are times to an event.

    Raises
    ------
    ConfigurationError
        ``STUDY_FILE_INVALID``: the endpoint is no time to an event.
    EnvironmentFailure
        ``EXTRA_MISSING``: scikit-survival is not installed.
    """
    if not outcomes.endpoint.has_times:
        reason = f"a random survival forest needs times to an event; {outcomes.endpoint.name!r} is none"
        raise ConfigurationError(Code.STUDY_FILE_INVALID, reason, remedy='take learner = "random-forest"')
    try:
        grower = importlib.import_module("sksurv.ensemble").RandomSurvivalForest
    except ImportError:
        raise EnvironmentFailure(
            Code.EXTRA_MISSING,
            "a random survival forest needs scikit-survival, which is under the GPL",
            remedy="pip install 'twobe3[survival-forest]', or take learner = \"random-forest\"",
        ) from None
    observed = np.empty(len(outcomes), dtype=[("event", bool), ("time", float)])
    observed["event"], observed["time"] = outcomes.event, outcomes.value
    forest = grower(trees, min_samples_leaf=smallest_leaf, max_features="sqrt", random_state=seed, n_jobs=1)
    grown = list(forest.fit(x, observed).estimators_)
    mortality = [one.tree_.value[:, one.is_event_time_, 0].sum(axis=1) for one in grown]
    return _concat_trees(SurvivalForest, grown, 1.0 / trees, values=mortality)


def fit_boosting(
    x: FloatArray,
    outcomes: Outcomes,
    *,
    trees: int,
    depth: int = 2,
    learning_rate: float = 0.05,
    share: float = 0.8,
    seed: int,
) -> Trees:
    """Gradient boosting of the endpoint's own loss: log loss, Cox's partial likelihood, or squared error.

    Each tree fits the negative gradient of the summed loss (Friedman, Ann Stat 2001;29:1189; for Cox: Ridgeway,
    Comput Sci Stat 1999;31:172), each on its own random share of the patients (Friedman, Comput Stat Data Anal
    2002;38:367).

    Parameters
    ----------
    x, outcomes, trees, seed
        As of :func:`fit_forest`.
    depth : int
        Of each tree.
    learning_rate : float
        What a tree's leaves are multiplied by.
    share : float
        Of the patients for each tree, above 0; 1 takes all.
    """
    from sklearn.tree import DecisionTreeRegressor

    rng = np.random.default_rng(seed)
    start = outcomes.endpoint.constant_risk(outcomes)
    risk, grown = np.full(len(x), start), []
    for _ in range(trees):
        tree = DecisionTreeRegressor(max_depth=depth, random_state=int(rng.integers(2**31)))
        sample = rng.permutation(len(x))[: max(round(share * len(x)), 2)] if share < 1.0 else np.arange(len(x))
        tree.fit(x[sample], residuals(risk, outcomes)[sample])
        risk = risk + learning_rate * tree.predict(x)
        grown.append(tree)
    return _concat_trees(Trees, grown, learning_rate, start)


def residuals(risk: FloatArray, outcomes: Outcomes) -> FloatArray:
    """What risks leave unexplained: the negative derivative of the summed loss by the risk of each patient.

    Binary: the outcome less its probability. Time-to-event: martingale residuals. Continuous: differences.
    """
    half = 0.5 if outcomes.endpoint.loss == "squared-error" else 1.0
    return -half * choose_loss(outcomes).gradient(risk)


def _concat_trees(
    kind: type[T],
    grown: Sequence[Any],
    factor: float,
    start: float = 0.0,
    *,
    values: Sequence[FloatArray] | None = None,
    log_odds: bool = False,
) -> T:
    """Trees of scikit-learn, or grown as it grows them, as arrays; their nodes add their own or the given values."""
    sizes = [one.tree_.node_count for one in grown]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)

    def column(name: str, shift: bool = False) -> npt.NDArray[Any]:
        parts = [np.asarray(getattr(one.tree_, name)).reshape(one.tree_.node_count) for one in grown]
        moved = (np.where(p >= 0, p + root, -1) for p, root in zip(parts, roots, strict=True)) if shift else parts
        return np.concatenate(list(moved))

    return kind(
        start=np.array([start]),
        roots=roots,
        feature=np.where(column("children_left") < 0, -1, column("feature")).astype(np.int64),
        left=column("children_left", shift=True).astype(np.int64),
        right=column("children_right", shift=True).astype(np.int64),
        threshold=column("threshold").astype(np.float64),
        value=factor * (column("value") if values is None else np.concatenate(list(values))).astype(np.float64),
        log_odds=np.array([float(log_odds)]),
    )
