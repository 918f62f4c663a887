"""Losses of linear risks and their derivatives: Cox's against statsmodels, all against the losses of networks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from statsmodels.discrete.discrete_model import Logit
from statsmodels.duration.hazard_regression import PHReg
from torch.nn import functional

from twobe3.models.learners.losses import CoxLoss, LogLoss, SquaredError
from twobe3.models.nn.heads import cox_loss

FloatArray = npt.NDArray[np.float64]


def drawn(seed: int, *, ties: bool) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    time = rng.integers(1, 7, 40).astype(float) if ties else rng.permutation(40) + 1.0
    return rng.normal(0.0, 1.0, (40, 3)), time, rng.random(40) < 0.6


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_cox_loss_score_and_information_are_those_of_statsmodels(seed: int, ties: bool) -> None:
    x, time, event = drawn(seed, ties=ties)
    weights = np.array([0.5, -1.0, 2.0])
    loss, risk = CoxLoss(time, event), x @ weights
    reference = PHReg(time, x, status=event.astype(int), ties="efron")
    assert loss.value(risk) == pytest.approx(-reference.loglike(weights), rel=1e-12)
    np.testing.assert_allclose(loss.gradient(risk) @ x, -reference.score(weights), atol=1e-10)
    np.testing.assert_allclose(loss.curvature(risk, x), -reference.hessian(weights), atol=1e-9)


def test_log_loss_score_and_information_are_those_of_statsmodels() -> None:
    x, _, event = drawn(0, ties=False)
    weights = np.array([0.5, -1.0, 2.0])
    loss, risk, reference = LogLoss(event), x @ weights, Logit(event.astype(float), x)
    assert loss.value(risk) == pytest.approx(-reference.loglike(weights), rel=1e-12)
    np.testing.assert_allclose(loss.gradient(risk) @ x, -reference.score(weights), atol=1e-12)
    np.testing.assert_allclose(loss.curvature(risk, x), -reference.hessian(weights), atol=1e-12)


def test_squared_error_of_a_difference_of_2_is_4_its_slope_4_and_its_curvature_2() -> None:
    loss = SquaredError(np.array([1.0]))
    assert loss.value(np.array([3.0])) == 4.0
    assert loss.gradient(np.array([3.0])) == 4.0
    assert loss.curvature(np.array([3.0]), np.ones((1, 1))) == 2.0


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("size", [1.0, 100.0, 1e4])
def test_risks_of_any_size_have_the_loss_and_gradient_of_automatic_differentiation(size: float, ties: bool) -> None:
    x, time, event = drawn(1, ties=ties)
    risk = torch.tensor(size * x[:, 0], requires_grad=True)
    expected = int(event.sum()) * cox_loss(risk, torch.from_numpy(time), torch.from_numpy(event))
    (gradient,) = torch.autograd.grad(expected, risk)
    loss, ours = CoxLoss(time, event), size * x[:, 0]
    assert loss.value(ours) == pytest.approx(expected.item(), rel=1e-7)  # torch's shares of ties are in 32 bits
    np.testing.assert_allclose(loss.gradient(ours), gradient.numpy(), atol=1e-6)
    assert np.isfinite(loss.curvature(ours, x)).all()


@pytest.mark.parametrize("size", [1.0, 100.0, 1e4])
def test_log_loss_of_risks_of_any_size_is_that_of_torch(size: float) -> None:
    x, _, event = drawn(1, ties=False)
    risk = size * x[:, 0]
    target = torch.from_numpy(event).double()
    expected = functional.binary_cross_entropy_with_logits(torch.from_numpy(risk), target, reduction="sum")
    assert LogLoss(event).value(risk) == pytest.approx(expected.item(), rel=1e-12)
    assert np.isfinite(LogLoss(event).curvature(risk, x)).all()


def test_everybody_with_the_event_at_once_is_expected_to_have_it_once() -> None:
    """With equal risks each of n tied patients has n · 1/n expected events, whatever Efron's shares are."""
    loss = CoxLoss(np.ones(5), np.ones(5, dtype=bool))
    np.testing.assert_allclose(loss.gradient(np.zeros(5)), 0.0, atol=1e-15)
    assert loss.value(np.zeros(5)) == pytest.approx(np.log([5, 4, 3, 2, 1]).sum())


def test_without_an_event_cox_loss_and_its_derivatives_are_zero() -> None:
    loss, x = CoxLoss(np.arange(1.0, 5.0), np.zeros(4, dtype=bool)), np.eye(4)
    assert loss.value(np.arange(4.0)) == 0.0
    assert not loss.gradient(np.arange(4.0)).any()
    assert not loss.curvature(np.arange(4.0), x).any()
