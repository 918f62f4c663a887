"""What a network on slices learns at every position: the tasks of the PET network, and how well it does them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from monai.losses.dice import DiceLoss
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from twobe3.pretraining.simulation import UNKNOWN, DenseSlices

FOCUS = 2.0  # γ of the focal loss
SURE = 0.5  # share of a position that must lie in a lesion for it to count as one
CHUNK = 128
# One minus the soft Dice coefficient of all positions of a batch (Milletari et al., 3DV 2016).
_DICE = DiceLoss(sigmoid=True, squared_pred=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)


def focal_loss(logits: torch.Tensor, target: torch.Tensor, focus: float = FOCUS) -> torch.Tensor:
    r"""Cross-entropy weighted by how wrong a position is, :math:`|y - p|^\gamma`, divided by the sum of the targets.

    For targets of 0 and 1 it is the focal loss of Lin et al. (ICCV 2017, equation 4, without α); targets between
    them are taken as Li et al. do (NeurIPS 2020, equation 7).

    Parameters
    ----------
    logits, target : Tensor
        Of one shape; targets between 0 and 1.
    focus : float
        γ.

    Returns
    -------
    Tensor, shape ()
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((target - logits.sigmoid()).abs() ** focus * entropy).sum() / (target.sum() + 1.0)


def excess_loss(excess: torch.Tensor, target: torch.Tensor, lesion: torch.Tensor) -> torch.Tensor:
    """Smooth L1 loss of which half is that of positions in lesions, which are few, and half that of all.

    All tensors have one shape, ``lesion`` the share of each position that lies in one.
    """
    each = functional.smooth_l1_loss(excess, target, beta=0.1, reduction="none")
    return 0.5 * (each * lesion).sum() / (lesion.sum() + 1.0) + 0.5 * each.mean()


def lesion_loss(outputs: Mapping[str, torch.Tensor], slices: DenseSlices) -> torch.Tensor:
    """The sum of the losses of lesions, their centres and their excess."""
    loss: torch.Tensor = focal_loss(outputs["lesion"], slices.lesion) + _DICE(outputs["lesion"], slices.lesion)
    loss = loss + focal_loss(outputs["centre"], slices.centre)
    return loss + excess_loss(outputs["excess"], slices.excess, slices.lesion)


def masked_voxel_loss(denoised: torch.Tensor, target: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Mean smooth L1 loss over the hidden positions alone; 0 where nothing is hidden.

    All tensors have one shape; ``denoised`` and ``target`` are log(SUV + 0.1).
    """
    each = functional.smooth_l1_loss(denoised, target, beta=0.1, reduction="none")
    return torch.where(hidden, each, 0.0).sum() / hidden.sum().clamp(min=1)


def dense_loss(outputs: Mapping[str, torch.Tensor], slices: DenseSlices) -> torch.Tensor:
    """The sum of the losses of all tasks.

    ``outputs`` are those of :class:`~twobe3.features.pet_lesions.PETLesionNetwork`. Depth counts where there is a
    surface, organs where they are known.
    """
    smooth = functional.smooth_l1_loss
    loss = lesion_loss(outputs, slices)
    loss = loss + smooth(outputs["denoised"], slices.denoised, beta=0.1)
    loss = loss + smooth(outputs["lesion-free"], slices.lesion_free, beta=0.1)
    known = slices.depth_known
    if known.any():
        loss = loss + smooth(outputs["depth"][known], slices.depth[known], beta=0.1)
    if (slices.organ != UNKNOWN).any():
        loss = loss + 0.5 * functional.cross_entropy(outputs["organ"], slices.organ, ignore_index=UNKNOWN)
    return loss


def score_dense(network: nn.Module, slices: DenseSlices) -> dict[str, float]:
    """How well a network in evaluation mode does the tasks, on slices that it was not trained on.

    ``lesion_dice``: overlap of positions above 0.5; ``lesion_auc``: of all positions; ``excess_r`` and
    ``denoised_r``: correlations; ``organ_accuracy``: share of the positions whose organ is known. The first two are NaN
    where the slices show no lesion.
    """
    with torch.inference_mode():
        parts = [network(some) for some in torch.split(slices.suv, CHUNK)]
    outputs = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    truth, found = slices.lesion >= SURE, outputs["lesion"] > 0
    ill = bool(truth.any()) and not bool(truth.all())
    scores = {
        "lesion_dice": float(2 * (truth & found).sum() / (truth.sum() + found.sum())) if ill else np.nan,
        "lesion_auc": float(roc_auc_score(truth.flatten(), outputs["lesion"].flatten())) if ill else np.nan,
        "excess_r": _correlate(outputs["excess"], slices.excess),
        "denoised_r": _correlate(outputs["denoised"], slices.denoised),
    }
    known = slices.organ != UNKNOWN
    if known.any():
        scores["organ_accuracy"] = float((outputs["organ"].argmax(dim=1) == slices.organ)[known].float().mean())
    return scores


def _correlate(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1])
