"""Heads: where a network starts, the intervals of discrete time, and curves that are those of Kaplan and Meier."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit
from sksurv.nonparametric import kaplan_meier_estimator
from torch import nn

from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.outcomes import Outcomes
from twobe3.models.nn.heads import HazardHead, RiskHead, interval_edges, mortality, survival_curves


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
