"""Random survival forests, against scikit-survival's own predictions."""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt
import pytest
from sksurv.ensemble import RandomSurvivalForest

from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary, TimeToEvent
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.core.outcomes import Outcomes
from twobe3.models.learners.learner import FITTED, fit_learner
from twobe3.models.learners.trees import fit_survival_forest

FloatArray = npt.NDArray[np.float64]


def drawn(n: int, seed: int) -> tuple[FloatArray, Outcomes]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)).astype(np.float32).astype(np.float64)
    time = np.ceil(50.0 * rng.exponential(np.exp(-2.0 * x[:, 0])))
    patients = tuple(f"p{i}" for i in range(n))
    return x, Outcomes(TimeToEvent("y", "t", "e"), patients, np.minimum(time, 100.0), time <= 100.0)


def test_risks_are_the_logarithm_of_scikit_survivals_mortality() -> None:
    (x, outcomes), (new, _) = drawn(90, 0), drawn(200, 1)
    observed = np.array(list(zip(outcomes.event, outcomes.value, strict=True)), dtype=[("e", bool), ("t", float)])
    reference = RandomSurvivalForest(30, min_samples_leaf=3, max_features="sqrt", random_state=4).fit(x, observed)
    ours = fit_survival_forest(x, outcomes, trees=30, smallest_leaf=3, seed=4)
    np.testing.assert_allclose(np.exp(ours.risk(new)), reference.predict(new), rtol=1e-9)


def test_a_fitted_forest_comes_back_from_its_arrays_where_scikit_survival_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, outcomes = drawn(60, 2)
    learner = fit_learner("random-survival-forest", x, outcomes, trees=20, seed=1)
    monkeypatch.setitem(sys.modules, "sksurv.ensemble", None)
    again = FITTED["random-survival-forest"].from_arrays(learner.arrays())
    assert (again.risk(x) == learner.risk(x)).all()
    with pytest.raises(EnvironmentFailure, match=r"twobe3\[survival-forest\]") as caught:
        fit_survival_forest(x, outcomes, trees=2, smallest_leaf=3, seed=0)
    assert caught.value.code is Code.EXTRA_MISSING


def test_without_any_hazard_a_risk_is_finite() -> None:
    x, event = np.arange(40.0)[:, None], np.arange(40) >= 20
    time = np.where(event, np.arange(40) - 19.0, 100.0)  # the other half has no event ever
    outcomes = Outcomes(TimeToEvent("y", "t", "e"), tuple(f"p{i}" for i in range(40)), time, event)
    risk = fit_survival_forest(x, outcomes, trees=5, smallest_leaf=3, seed=0).risk(np.array([[-100.0], [100.0]]))
    assert risk[0] == pytest.approx(np.log(0.5 / 5))
    assert risk[1] > 0


def test_other_endpoints_are_refused() -> None:
    x, outcomes = drawn(20, 0)
    binary = Outcomes(Binary("relapse", "y"), outcomes.patients, outcomes.event.astype(float), outcomes.event)
    with pytest.raises(ConfigurationError, match="'relapse' is none") as caught:
        fit_learner("random-survival-forest", x, binary)
    assert caught.value.code is Code.STUDY_FILE_INVALID
