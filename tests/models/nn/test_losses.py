"""Losses: Cox's partial likelihood against statsmodels and scikit-survival, finite for any risk."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_expit
from sksurv.linear_model.coxph import CoxPHOptimizer
from statsmodels.duration.hazard_regression import PHReg
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from twobe3.models.nn.heads import cox_loss, hazard_loss, outcome_loss


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_risks_of_plus_and_minus_100_give_the_likelihood_of_statsmodels(dtype: torch.dtype) -> None:
    _, time, event = drawn(0, ties=True)
    risk = torch.where(torch.arange(40) % 3 == 0, 100.0, -100.0).to(dtype).requires_grad_()
    reference = PHReg(
        time.numpy(), risk.detach().double().numpy()[:, None], status=event.numpy().astype(int), ties="efron"
    )
    loss = cox_loss(risk, time, event)
    loss.backward()
    assert loss.item() == pytest.approx(-reference.loglike(np.ones(1)) / int(event.sum()))
    assert risk.grad is not None
    assert torch.isfinite(risk.grad).all()


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
    assert outcome_loss("cross-entropy", risk, value, value.bool()).item() == pytest.approx(log_loss)
    assert outcome_loss("squared-error", risk, value, torch.ones(3).bool()).item() == pytest.approx((1 + 1 + 1) / 3)
    time = torch.tensor([3.0, 1.0, 2.0])
    assert outcome_loss("cox", risk, time, value.bool()) == cox_loss(risk, time, value.bool())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_odds_of_plus_and_minus_100_give_the_log_loss_of_scipy(dtype: torch.dtype) -> None:
    risk = torch.tensor([100.0, -100.0, 100.0, -100.0], dtype=dtype).requires_grad_()
    event = torch.tensor([True, True, False, False])
    loss = outcome_loss("cross-entropy", risk, event.double(), event)
    loss.backward()
    signed = np.where(event.numpy(), 1.0, -1.0) * risk.detach().double().numpy()
    assert loss.item() == pytest.approx(-log_expit(signed).mean())
    assert risk.grad is not None
    assert torch.isfinite(risk.grad).all()


EDGES = np.array([1.0, 2.0, 4.0, 6.0])


def person_periods(time: torch.Tensor, event: torch.Tensor) -> tuple[list[int], list[int], list[bool]]:
    """One row for each patient and interval survived or ended in, by the rule in words."""
    patients, intervals, ended = [], [], []
    for i, (t, e) in enumerate(zip(time.tolist(), event.tolist(), strict=True)):
        for j, (start, end) in enumerate(zip([0.0, *EDGES[:-1]], EDGES, strict=True)):
            if e and start < t <= end:
                patients.append(i), intervals.append(j), ended.append(True)
            elif t > end or (not e and t >= (start + end) / 2):
                patients.append(i), intervals.append(j), ended.append(False)
    return patients, intervals, ended


def test_hazard_loss_is_the_binomial_likelihood_of_the_table_of_person_periods() -> None:
    risk, time, event = drawn(4, ties=False)
    time = time / 6.0
    logits = risk[:, None] + torch.arange(4.0)
    patients, intervals, ended = person_periods(time, event)
    linear = logits.numpy()[patients, intervals]
    reference = GLM(np.array(ended, float), linear[:, None], family=Binomial()).loglike(np.ones(1))
    got = hazard_loss(logits, time, event, torch.from_numpy(EDGES)).item()
    assert got * len(time) == pytest.approx(-reference)


def test_the_hazards_that_minimise_the_loss_are_events_over_patients_at_risk() -> None:
    _, time, event = drawn(5, ties=False)
    time = time / 6.0
    logits = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    for _ in range(300):
        loss = hazard_loss(logits.expand(40, 4), time, event, torch.from_numpy(EDGES))
        (gradient,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= 4.0 * gradient
    _, intervals, ended = person_periods(time, event)
    shares = [np.mean([e for i, e in zip(intervals, ended, strict=True) if i == j]) for j in range(4)]
    assert torch.sigmoid(logits).tolist() == pytest.approx(shares, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [100.0, 1e4])
def test_hazards_of_any_size_give_a_finite_loss_and_gradient(size: float, dtype: torch.dtype) -> None:
    _, time, event = drawn(0, ties=True)
    logits = (size * torch.where(torch.arange(160).view(40, 4) % 3 == 0, 1.0, -1.0)).to(dtype).requires_grad_()
    loss = hazard_loss(logits, time, event, torch.from_numpy(EDGES))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_gradient_of_the_hazard_loss_equals_finite_differences() -> None:
    _, time, event = drawn(3, ties=True)
    logits = torch.randn(40, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: hazard_loss(x, time, event, torch.from_numpy(EDGES)), logits)
