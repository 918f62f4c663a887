"""The losses of the dense tasks against MONAI's and torch's, and the scores against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses.focal_loss import FocalLoss
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn
from torch.nn import functional

from twobe3.features.pet_lesions import OUTPUTS
from twobe3.pretraining.dense import dense_loss, focal_loss, score_dense
from twobe3.pretraining.simulation import DenseSlices, simulate_generic_slices


@pytest.fixture(scope="module")
def slices() -> DenseSlices:
    return simulate_generic_slices([9, 1], 24)


class Oracle(nn.Module):
    """Says of every slice what is known of it, or the opposite."""

    def __init__(self, slices: DenseSlices, sign: float = 1.0) -> None:
        super().__init__()
        self.slices, self.sign = slices, sign

    def forward(self, suv: torch.Tensor) -> dict[str, torch.Tensor]:
        here = self.slices
        logits = {name: self.sign * 20 * (getattr(here, name) - 0.5) for name in ("lesion", "centre")}
        others = {"excess": here.excess, "denoised": here.denoised, "lesion-free": here.lesion_free}
        organ = torch.zeros(len(suv), OUTPUTS["organ"], *here.depth.shape[-2:])
        return {**logits, **others, "depth": here.depth, "organ": organ}


@pytest.mark.parametrize("focus", [0.0, 1.0, 2.0])
def test_for_targets_of_0_and_1_the_focal_loss_is_that_of_monai(focus: float) -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(3, 1, 8, 8, generator=generator)
    target = (torch.rand(3, 1, 8, 8, generator=generator) < 0.2).float()
    total = FocalLoss(gamma=focus, reduction="none")(logits, target).sum()
    torch.testing.assert_close(focal_loss(logits, target, focus), total / (target.sum() + 1))


def test_with_soft_targets_it_is_least_where_the_likelihood_is_the_target() -> None:
    target = torch.tensor([0.1, 0.5, 0.9])
    logits = torch.logit(target).requires_grad_(True)
    focal_loss(logits, target).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros(3))
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    torch.testing.assert_close(focal_loss(logits, target, 0.0), entropy / (target.sum() + 1))


def test_who_knows_everything_has_less_loss_than_who_is_wrong_in_any_task(slices: DenseSlices) -> None:
    right = Oracle(slices)(slices.suv)
    best = float(dense_loss(right, slices))
    for name in ("lesion", "centre", "excess", "denoised", "lesion-free", "depth"):
        assert float(dense_loss({**right, name: -right[name] - 1.0}, slices)) > best + 0.05
    known = slices.depth_known
    unknown = {**right, "depth": torch.where(known.view(-1, 1, 1, 1), right["depth"], torch.tensor(99.0))}
    assert float(dense_loss(unknown, slices)) == pytest.approx(best)


def test_scores_are_those_of_scikit_learn(slices: DenseSlices) -> None:
    class Noisy(Oracle):
        def forward(self, suv: torch.Tensor) -> dict[str, torch.Tensor]:
            dense = super().forward(suv)
            noise = torch.randn(dense["lesion"].shape, generator=torch.Generator().manual_seed(4))
            return {**dense, "lesion": dense["lesion"] + 8 * noise, "excess": -dense["excess"]}

    scores = score_dense(Noisy(slices), slices)
    outputs, truth = Noisy(slices)(slices.suv)["lesion"].numpy().ravel(), slices.lesion.numpy().ravel() >= 0.5
    assert scores["lesion_dice"] == pytest.approx(f1_score(truth, outputs > 0))
    assert scores["lesion_auc"] == pytest.approx(roc_auc_score(truth, outputs))
    assert scores["excess_r"] == pytest.approx(-1.0)
    assert scores["denoised_r"] == pytest.approx(1.0)
    assert "organ_accuracy" not in scores
    assert np.isfinite(list(scores.values())).all()
