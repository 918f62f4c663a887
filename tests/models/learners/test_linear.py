"""Ridge regression against scikit-learn and scikit-survival, and a penalty that fits the signal."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, Ridge
from sksurv.linear_model import CoxPHSurvivalAnalysis

from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.outcomes import Kind, Outcomes
from twobe3.models.learners import linear
from twobe3.models.learners.linear import RidgeModel, choose_penalty, fit_ridge
from twobe3.models.learners.losses import choose_loss

FloatArray = npt.NDArray[np.float64]
KINDS: tuple[Kind, ...] = ("binary", "time-to-event", "continuous")
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1e3, 1e4)


def drawn(kind: Kind, n: int, p: int, *, seed: int = 0, signal: float = 1.0) -> tuple[FloatArray, Outcomes]:
    rng = np.random.default_rng(seed)
    x = rng.normal(3.0, 2.0, (n, p)) * np.linspace(0.1, 10.0, p)
    true = signal * (x[:, :3] / np.linspace(0.1, 10.0, p)[:3] - 3.0).sum(axis=1) / 2.0
    patients = tuple(f"p{i}" for i in range(n))
    if kind == "binary":
        event = rng.random(n) < 1 / (1 + np.exp(-true))
        return x, Outcomes(Binary("y", "y"), patients, event.astype(float), event)
    if kind == "continuous":
        return x, Outcomes(Continuous("y", "y"), patients, 40.0 + true + rng.normal(0, 1, n), np.ones(n, bool))
    time = np.ceil(20.0 * rng.exponential(np.exp(-true)) + 1e-9)  # whole numbers: tied
    return x, Outcomes(TimeToEvent("y", "t", "e"), patients, np.minimum(time, 60.0), time <= 60.0)


def standardised(x: FloatArray) -> FloatArray:
    return np.asarray((x - x.mean(axis=0)) / x.std(axis=0))


@pytest.mark.parametrize("penalty", [0.1, 1.0, 100.0])
@pytest.mark.parametrize(("n", "p"), [(80, 6), (30, 200)])
def test_binary_is_logistic_regression_of_scikit_learn(n: int, p: int, penalty: float) -> None:
    x, outcomes = drawn("binary", n, p)
    model = fit_ridge(x, outcomes, penalty)
    reference = LogisticRegression(C=1.0 / penalty, tol=1e-10, max_iter=10_000)
    reference.fit(standardised(x), outcomes.event)
    np.testing.assert_allclose(model.weights, reference.coef_[0], atol=1e-4)
    assert model.bias == pytest.approx(reference.intercept_[0], abs=1e-4)
    chance = Binary("label", "label").probability(model.risk(x))
    assert chance is not None
    np.testing.assert_allclose(chance, reference.predict_proba(standardised(x))[:, 1], atol=1e-4)


@pytest.mark.parametrize("penalty", [0.1, 1.0, 100.0])
@pytest.mark.parametrize(("n", "p"), [(80, 6), (30, 200)])
def test_continuous_is_ridge_regression_of_scikit_learn(n: int, p: int, penalty: float) -> None:
    x, outcomes = drawn("continuous", n, p)
    model = fit_ridge(x, outcomes, penalty)
    # Ours: sum of squares + penalty / 2 · |w|²; theirs: sum of squares + alpha · |w|².
    reference = Ridge(alpha=penalty / 2, solver="svd").fit(standardised(x), outcomes.value)
    np.testing.assert_allclose(model.weights, reference.coef_, atol=1e-4)
    np.testing.assert_allclose(model.risk(x), reference.predict(standardised(x)), atol=1e-3)


@pytest.mark.parametrize("penalty", [0.1, 1.0, 100.0])
def test_time_to_event_is_penalised_cox_regression_of_scikit_survival(penalty: float) -> None:
    x, outcomes = drawn("time-to-event", 80, 6)
    assert len(set(outcomes.value)) < 60  # there are ties
    model = fit_ridge(x, outcomes, penalty)
    observed = np.array(list(zip(outcomes.event, outcomes.value, strict=True)), dtype=[("e", bool), ("t", float)])
    # Ours: -log likelihood + penalty / 2 · |w|²; theirs: that likelihood over n, + alpha / 2 · |w|² over n too.
    reference = CoxPHSurvivalAnalysis(alpha=penalty, ties="efron", tol=1e-12, n_iter=500).fit(standardised(x), observed)
    np.testing.assert_allclose(model.weights, reference.coef_, rtol=1e-9, atol=1e-9)
    assert model.bias == 0.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [0.0, 30.0])
def test_newton_steps_end_where_the_slope_is_zero_from_wherever_they_start(kind: Kind, start: float) -> None:
    x, outcomes = drawn(kind, 60, 4)
    objective = linear.RidgeObjective(standardised(x), choose_loss(outcomes), 0.5, kind != "time-to-event")
    found = linear.minimise(objective, np.full(5, start))
    np.testing.assert_allclose(objective.gradient(found), 0.0, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_more_columns_than_patients_give_the_minimum_over_all_columns(kind: Kind) -> None:
    x, outcomes = drawn(kind, 20, 60)
    model = fit_ridge(x, outcomes, 5.0)

    def objective(theta: FloatArray) -> float:
        rotated = RidgeModel(model.mean, model.scale, theta[:-1], 0.0 if kind == "time-to-event" else theta[-1], 5.0)
        return linear.sum_loss(rotated.risk(x), outcomes) + 2.5 * float(theta[:-1] @ theta[:-1])

    ours = np.append(model.weights, model.bias)
    best = minimize(objective, ours, method="L-BFGS-B").fun
    assert objective(ours) == pytest.approx(best, rel=1e-6)


def test_a_constant_column_weighs_nothing_and_stays_finite() -> None:
    x, outcomes = drawn("binary", 40, 5)
    x[:, 2] = 7.0
    model = fit_ridge(x, outcomes, 1.0)
    assert model.weights[2] == pytest.approx(0.0, abs=1e-12)
    assert np.isfinite(model.risk(x + 1.0)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_shifting_and_scaling_a_column_changes_no_risk(kind: Kind) -> None:
    x, outcomes = drawn(kind, 40, 5)
    moved = x * np.array([1.0, 1e3, 1e-3, 5.0, 1.0]) + 100.0
    expected = fit_ridge(x, outcomes, 1.0).risk(x)
    np.testing.assert_allclose(fit_ridge(moved, outcomes, 1.0).risk(moved), expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_gets_a_large_penalty_and_signal_a_smaller_one(kind: Kind) -> None:
    chosen = {
        signal: [
            choose_penalty(*drawn(kind, 80, 12, seed=seed, signal=signal), PENALTIES, inner_folds=4, seed=0)
            for seed in range(15)
        ]
        for signal in (0.0, 2.0)
    }
    assert np.median(chosen[0.0]) >= 100.0
    assert np.median(chosen[2.0]) <= 10.0


@pytest.mark.parametrize("kind", KINDS)
def test_equal_losses_choose_the_largest_penalty(kind: Kind) -> None:
    _, outcomes = drawn(kind, 40, 3)
    assert choose_penalty(np.ones((40, 3)), outcomes, (1.0, 100.0, 10.0), inner_folds=4, seed=0) == 100.0


def test_with_one_patient_of_the_rarer_class_the_largest_penalty_is_chosen() -> None:
    x, _ = drawn("binary", 20, 3)
    event = np.arange(20) == 0
    outcomes = Outcomes(Binary("y", "y"), tuple(map(str, range(20))), event.astype(float), event)
    assert choose_penalty(x, outcomes, (1.0, 10.0), inner_folds=4, seed=0) == 10.0


@pytest.mark.parametrize("censored", [0, 1])
def test_a_penalty_is_chosen_where_nearly_everyone_has_the_event(censored: int) -> None:
    x, drawn_outcomes = drawn("time-to-event", 40, 3, signal=2.0)
    event = np.arange(40) >= censored
    outcomes = Outcomes(drawn_outcomes.endpoint, drawn_outcomes.patients, drawn_outcomes.value, event)
    assert choose_penalty(x, outcomes, PENALTIES, inner_folds=4, seed=0) <= 100.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_spy_sees_the_training_patients_of_the_inner_fold_only(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acceptance row 39."""
    x, outcomes = drawn(kind, 40, 4)
    x[:, 0] = np.arange(40)  # says which patient a row is
    seen: list[tuple[set[int], set[str]]] = []
    fit = linear.fit_path

    def spy(rows: FloatArray, inner: Outcomes, penalties: tuple[float, ...]) -> dict[float, RidgeModel]:
        seen.append((set(rows[:, 0].astype(int)), set(inner.patients)))
        return fit(rows, inner, penalties)

    monkeypatch.setattr(linear, "fit_path", spy)
    choose_penalty(x, outcomes, (1.0, 10.0), inner_folds=4, seed=0)
    assert len(seen) == 4
    left_out = [set(range(40)) - rows for rows, _ in seen]
    assert sorted(i for part in left_out for i in part) == list(range(40))
    assert all({f"p{i}" for i in rows} == patients for rows, patients in seen)


def test_the_choice_does_not_depend_on_what_the_caller_holds_back() -> None:
    x, outcomes = drawn("binary", 60, 5)
    train = np.arange(40)
    changed = x.copy()
    changed[40:] = 1e6
    choices = {
        choose_penalty(data[train], outcomes.subset(train), PENALTIES, inner_folds=4, seed=0) for data in (x, changed)
    }
    assert len(choices) == 1


def test_arrays_round_trip() -> None:
    x, outcomes = drawn("binary", 40, 5)
    model = fit_ridge(x, outcomes, 3.0)
    again = RidgeModel.from_arrays(model.arrays())
    assert (again.risk(x) == model.risk(x)).all()
    assert again.penalty == 3.0


def test_probability_is_given_for_binary_endpoints_only_and_never_overflows() -> None:
    extreme = np.array([-1e4, 0.0, 1e4])
    assert Binary("label", "label").probability(extreme) == pytest.approx(np.array([0.0, 0.5, 1.0]))
    assert TimeToEvent("t", "t", "e").probability(extreme) is None
    assert Continuous("c", "c").probability(extreme) is None
