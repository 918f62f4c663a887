"""Losses: Cox's partial likelihood against statsmodels and scikit-survival, finite for any risk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sksurv.linear_model.coxph import CoxPHOptimizer
from statsmodels.duration.hazard_regression import PHReg

from twobe3.models.losses import cox_loss, outcome_loss


def drawn(seed: int, *, ties: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    time = rng.integers(1, 7, 40).astype(float) if ties else rng.permutation(40) + 1.0
    return torch.from_numpy(rng.normal(0, 2, 40)), torch.from_numpy(time), torch.from_numpy(rng.random(40) < 0.6)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_cox_loss_is_efrons_partial_likelihood_of_statsmodels(seed: int, ties: bool) -> None:
    risk, time, event = drawn(seed, ties=ties)
    reference = PHReg(time.numpy(), risk.numpy()[:, None], status=event.numpy().astype(int), ties="efron")
    assert cox_loss(risk, time, event).item() == pytest.approx(-reference.loglike(np.ones(1)) / int(event.sum()))


@pytest.mark.parametrize("seed", range(3))
def test_gradient_along_the_risks_is_that_of_scikit_survival(seed: int) -> None:
    risk, time, event = drawn(seed, ties=True)
    optimiser = CoxPHOptimizer(risk.numpy()[:, None], event.numpy(), time.numpy(), alpha=np.zeros(1), ties="efron")
    scale = torch.ones(1, dtype=torch.float64, requires_grad=True)
    loss = cox_loss(scale * risk, time, event)
    (gradient,) = torch.autograd.grad(loss, scale)
    optimiser.update(np.ones(1))
    ours = gradient.item() * int(event.sum()) / len(risk)  # theirs is divided by the number of patients
    assert loss.item() * int(event.sum()) / len(risk) == pytest.approx(optimiser.nlog_likelihood(np.ones(1)))
    assert ours == pytest.approx(optimiser.gradient.item())


@pytest.mark.parametrize("size", [100.0, 1e4])
def test_risks_of_any_size_give_a_finite_loss_and_gradient(size: float) -> None:
    _, time, event = drawn(0, ties=True)
    risk = (size * torch.where(torch.arange(40) % 3 == 0, 1.0, -1.0)).float().requires_grad_()
    loss = cox_loss(risk, time, event)
    loss.backward()
    assert torch.isfinite(loss)
    assert risk.grad is not None
    assert torch.isfinite(risk.grad).all()
    assert risk.grad.abs().max() > 0


def test_tied_events_far_above_all_others_give_a_finite_gradient() -> None:
    risk = torch.tensor([1e4, 1e4, 1e4, -1e4], dtype=torch.float64, requires_grad=True)
    loss = cox_loss(risk, torch.tensor([1.0, 1.0, 1.0, 2.0]), torch.tensor([True, True, True, False]))
    loss.backward()
    # The three tied denominators are 3, 2 and 1 times exp(1e4).
    assert loss.item() == pytest.approx(np.log([3, 2, 1]).mean())
    assert risk.grad is not None
    assert torch.isfinite(risk.grad).all()


def test_without_an_event_the_loss_is_zero_and_so_is_its_gradient() -> None:
    risk, time, event = drawn(0, ties=True)
    risk.requires_grad_()
    loss = cox_loss(risk, time, torch.zeros_like(event))
    loss.backward()
    assert loss.item() == 0
    assert risk.grad is not None
    assert (risk.grad == 0).all()


def test_a_constant_added_to_all_risks_changes_nothing() -> None:
    risk, time, event = drawn(1, ties=True)
    assert cox_loss(risk + 1e3, time, event).item() == pytest.approx(cox_loss(risk, time, event).item())


def test_the_order_of_patients_and_the_unit_of_time_change_nothing() -> None:
    risk, time, event = drawn(2, ties=True)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    expected = cox_loss(risk, time, event).item()
    assert cox_loss(risk[order], time[order] / 365.25, event[order]).item() == pytest.approx(expected)


def test_gradient_of_the_cox_loss_equals_finite_differences() -> None:
    risk, time, event = drawn(3, ties=True)
    assert torch.autograd.gradcheck(lambda r: cox_loss(r, time, event), risk.requires_grad_())


def test_binary_and_continuous_losses_are_log_loss_and_mean_squared_error() -> None:
    risk, value = torch.tensor([0.0, 2.0, -1.0]), torch.tensor([1.0, 1.0, 0.0])
    chance = 1 / (1 + np.exp(-np.array([0.0, 2.0, -1.0])))
    log_loss = -np.log([chance[0], chance[1], 1 - chance[2]]).mean()
    assert outcome_loss("binary", risk, value, value.bool()).item() == pytest.approx(log_loss)
    assert outcome_loss("continuous", risk, value, torch.ones(3).bool()).item() == pytest.approx((1 + 1 + 1) / 3)
    time = torch.tensor([3.0, 1.0, 2.0])
    assert outcome_loss("time-to-event", risk, time, value.bool()) == cox_loss(risk, time, value.bool())
