"""Heads: where a network starts, the intervals of discrete time, and curves that are those of Kaplan and Meier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression, Ridge
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.nonparametric import kaplan_meier_estimator
from torch import nn

from twobe3.models import heads
from twobe3.models.heads import HazardHead, RiskHead, Untrained, interval_edges, mortality, survival_curves
from twobe3.outcome import Binary, Continuous, Outcomes, TimeToEvent


def survived(time: list[float], event: list[bool]) -> Outcomes:
    patients = tuple(f"p{i}" for i in range(len(time)))
    return Outcomes(TimeToEvent("t", "t", "e"), patients, np.array(time), np.array(event))


def minimum(loss: Callable[[torch.Tensor], torch.Tensor], size: int) -> npt.NDArray[np.float64]:
    def objective(x: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        theta = torch.tensor(x, requires_grad=True)
        value = loss(theta)
        (gradient,) = torch.autograd.grad(value, theta)
        return value.item(), gradient.numpy()

    found: npt.NDArray[np.float64] = minimize(objective, np.zeros(size), jac=True, method="BFGS").x
    return found


def test_intervals_end_at_quantiles_of_the_event_times_alone() -> None:
    outcomes = survived([*range(1, 21), 50.0, 60.0], [True] * 20 + [False] * 2)
    assert interval_edges(outcomes, 4) == pytest.approx([5, 10, 15, 20])
    events = np.histogram(outcomes.value[outcomes.event], [0, *interval_edges(outcomes, 5) + 0.5])[0]
    assert list(events) == [4] * 5


def test_events_of_one_time_share_an_interval_and_without_events_there_is_one() -> None:
    assert interval_edges(survived([1.0, 1.0, 1.0, 9.0], [True] * 4), 10) == pytest.approx([1, 9])
    assert interval_edges(survived([3.0, 7.0], [False] * 2), 10) == pytest.approx([7])


def test_fitted_without_an_image_the_curve_is_that_of_kaplan_and_meier_of_scikit_survival() -> None:
    # An event at each of 1 … 15; who is censored is so in the first half of an interval, and not at risk in it.
    time = np.array([*range(1, 16), *range(1, 14, 2), 3, 9]) + np.array([0.0] * 15 + [0.1] * 9)
    event = np.arange(24) < 15
    outcomes = survived(list(time), list(event))
    edges = interval_edges(outcomes, 1000)
    head = HazardHead(outcomes, edges)
    logits = minimum(lambda x: head.loss(x.expand(24, -1), torch.arange(24)), len(edges))
    times, survival = kaplan_meier_estimator(event, time)
    assert survival_curves(logits) == pytest.approx(survival[np.searchsorted(times, edges)], abs=1e-5)


def test_the_untrained_network_starts_at_the_hazards_of_everybody() -> None:
    outcomes = survived(list(np.arange(1.0, 41.0)), [True] * 40)
    edges = interval_edges(outcomes, 4)
    last = nn.Linear(3, 4)
    HazardHead(outcomes, edges).start(last)
    # 10 of 40, 30, 20 and 10 at risk; half an event more keeps the last one finite.
    expected = [10.5 / 41, 10.5 / 31, 10.5 / 21, 10.5 / 11]
    assert torch.sigmoid(last.bias).tolist() == pytest.approx(expected, rel=1e-6)


def test_covariates_start_at_the_weights_that_are_given_in_the_unit_of_the_outcome() -> None:
    weights = np.array([0.5, -2.0])
    hazard, number = nn.Linear(5, 3), nn.Linear(5, 1)
    outcomes = survived([1.0, 2.0, 3.0], [True] * 3)
    HazardHead(outcomes, np.array([1.0, 2.0, 3.0]), weights).start(hazard)
    np.testing.assert_allclose(hazard.weight[:, 3:].detach(), np.tile(weights, (3, 1)))
    value = np.array([10.0, 20.0, 60.0])
    continuous = Outcomes(Continuous("y", "y"), outcomes.patients, value, np.ones(3, np.bool_))
    head = RiskHead(continuous, weights)
    head.start(number)
    head.finish(number)
    np.testing.assert_allclose(number.weight[0, 3:].detach(), weights, rtol=1e-6)
    assert number.bias.item() == pytest.approx(value.mean())


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> Untrained:
    """Features of 30 of 40 patients, whose penalty is 100."""
    monkeypatch.setattr(heads, "PENALTIES", (100.0,))
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(30, 4, generator=draw, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.8, 1.5]) + 3.0
    return Untrained(features, torch.randperm(40, generator=draw)[:30], 0)


def started(head: HazardHead | RiskHead, untrained: Untrained) -> npt.NDArray[np.float64]:
    """What the layer says of the same patients, of each output less its mean; its last two inputs are covariates."""
    last = nn.Linear(6, head.outputs)
    head.start(last, untrained)
    head.finish(last)
    images = nn.functional.pad(untrained.features, (0, 2)).float()
    said = last(images).detach().double().numpy()
    return np.asarray(said - said.mean(axis=0))


def standardised(untrained: Untrained) -> npt.NDArray[np.float64]:
    x = untrained.features.numpy()
    return np.asarray((x - x.mean(axis=0)) / x.std(axis=0))


def test_a_ridge_start_says_what_logistic_ridge_regression_of_scikit_learn_says(untrained: Untrained) -> None:
    event = np.arange(40) % 3 == 0
    outcomes = Outcomes(Binary("y", "y"), tuple(map(str, range(40))), event.astype(float), event)
    x = standardised(untrained)
    oracle = LogisticRegression(C=1 / 100, tol=1e-10).fit(x, event[untrained.index.numpy()])
    expected = oracle.decision_function(x)
    np.testing.assert_allclose(started(RiskHead(outcomes), untrained)[:, 0], expected - expected.mean(), atol=1e-4)
    weights = np.array([0.5, -2.0])
    last = nn.Linear(6, 1)
    RiskHead(outcomes, weights).start(last, untrained)
    np.testing.assert_allclose(last.weight[0, 4:].detach(), weights)  # covariates start as they do without it
    said = last(nn.functional.pad(untrained.features, (0, 2)).float()).mean().item()
    assert said == pytest.approx(np.log(14 / 26), abs=1e-5)


def test_a_ridge_start_of_a_number_is_in_its_unit(untrained: Untrained) -> None:
    value = 1000 + 50 * np.random.default_rng(1).normal(size=40)
    outcomes = Outcomes(Continuous("y", "y"), tuple(map(str, range(40))), value, np.ones(40, np.bool_))
    x = standardised(untrained)
    # Ours: sum of squares + penalty / 2 · |w|²; theirs: sum of squares + alpha · |w|².
    expected = Ridge(alpha=50.0).fit(x, value[untrained.index.numpy()]).predict(x)
    np.testing.assert_allclose(
        started(RiskHead(outcomes), untrained)[:, 0], expected - expected.mean(), rtol=1e-3, atol=1e-3
    )


def test_a_ridge_start_of_hazards_is_penalised_cox_regression_of_scikit_survival_in_every_interval(
    untrained: Untrained,
) -> None:
    time, event = np.random.default_rng(2).permutation(40) + 1.0, np.arange(40) % 2 == 0
    outcomes, index, x = survived(list(time), list(event)), untrained.index.numpy(), standardised(untrained)
    observed = np.array(list(zip(event[index], time[index], strict=True)), dtype=[("e", bool), ("t", float)])
    expected = x @ CoxPHSurvivalAnalysis(alpha=100.0, ties="efron", tol=1e-12, n_iter=500).fit(x, observed).coef_
    said = started(HazardHead(outcomes, interval_edges(outcomes, 3)), untrained)
    np.testing.assert_allclose(said, np.tile(expected[:, None], 3), atol=1e-4)


def test_a_channel_that_is_all_but_dead_gets_no_large_weight(untrained: Untrained) -> None:
    event = np.arange(40) % 3 == 0
    outcomes = Outcomes(Binary("y", "y"), tuple(map(str, range(40))), event.astype(float), event)
    told = torch.from_numpy(event[untrained.index.numpy()])
    features = untrained.features.clone()
    features[:, 1] = 1e-7 * told  # tells the outcome, and hardly varies
    last = nn.Linear(4, 1)
    RiskHead(outcomes).start(last, replace(untrained, features=features))
    assert last.weight.abs().max() < 2
    assert abs(last.weight[0, 1]) < 1e-5


def test_a_ridge_start_without_any_event_says_the_same_of_everybody(untrained: Untrained) -> None:
    outcomes = survived(list(np.arange(1.0, 41.0)), [False] * 40)
    np.testing.assert_allclose(started(RiskHead(outcomes), untrained), 0.0, atol=1e-6)


def test_classes_are_not_weighted_the_mean_probability_is_the_share_of_events() -> None:
    event = np.arange(20) % 10 == 0
    outcomes = Outcomes(Binary("y", "y"), tuple(map(str, range(20))), event.astype(float), event)
    head = RiskHead(outcomes)
    bias = minimum(lambda x: head.loss(x.expand(20), torch.arange(20)), 1)
    assert expit(bias).item() == pytest.approx(0.1, abs=1e-5)


def test_survival_is_the_product_of_one_minus_the_hazards_and_mortality_their_mean_sum() -> None:
    hazards = np.array([[0.1, 0.2, 0.5], [0.9, 0.9, 0.9]])
    logits = np.log(hazards / (1 - hazards))
    assert survival_curves(logits) == pytest.approx(np.cumprod(1 - hazards, axis=1))
    cumulative = -np.log(np.cumprod(1 - hazards, axis=1))
    assert mortality(logits) == pytest.approx(np.log(cumulative.mean(axis=1)))


@pytest.mark.parametrize("size", [-1e4, 1e4])
def test_curves_and_mortality_are_finite_for_hazards_of_any_size(size: float) -> None:
    logits = np.full((2, 5), size)
    assert np.isfinite(mortality(logits)).all()
    curves = survival_curves(logits)
    assert ((curves >= 0) & (curves <= 1) & (np.diff(curves, axis=1, prepend=1.0) <= 0)).all()
