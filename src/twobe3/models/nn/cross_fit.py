"""Experts that are trained apart and weighed by what they can predict: one network a stack, cross-fitted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from twobe3.cohort.splits import Fold
from twobe3.core.outcomes import FloatArray, IntArray, Outcomes
from twobe3.models.fusion import learn_weights
from twobe3.models.learners.linear import RidgeModel
from twobe3.models.nn.inputs import ModelInput
from twobe3.models.nn.networks import PlanesNetwork
from twobe3.models.nn.training import TrainingParameters, ensemble_outputs, train_ensemble
from twobe3.runtime.device import Device

log = logging.getLogger("twobe3")


@dataclass(frozen=True, eq=False)
class Expert:
    """A network that sees one part of the inputs: what makes a fresh one, and what it sees of all patients."""

    make: Callable[[], PlanesNetwork]
    inputs: Sequence[ModelInput]


def train_cross_fitted(
    experts: Mapping[str, Expert],
    outcomes: Outcomes,
    split: Sequence[Fold],
    how: TrainingParameters,
    seed: int,
    device: Device,
) -> tuple[list[dict[str, PlanesNetwork]], list[FloatArray], RidgeModel]:
    """Train every expert without each inner fold, and learn their weights on the risks of who was left out.

    No network is trained on all patients: a prediction is the mean over the inner folds, so that what is weighed is of
    the kind that was weighed. The weights are not negative (Breiman, Machine Learning 1996;24:49); an expert that finds
    nothing, or learns its training patients by heart, gets none.

    Parameters
    ----------
    experts, outcomes
        The n training patients, as they are seen, and their outcomes.
    split : sequence of Fold
        Of :func:`~twobe3.models.inner_cv.inner_split`.
    how, seed
        Of :func:`~twobe3.models.nn.training.train_ensemble`; fold ``k`` has the seed of member ``k``.
    device : Device
        Where it is trained.

    Returns
    -------
    list of mapping of PlanesNetwork
        For each fold the experts by name.
    list of ndarray, shape (experts,)
        For each fold from where the experts' risks count: 0 where the endpoint has an origin.
    RidgeModel
        The weights.
    """
    one, risks = replace(how, ensemble_size=1), np.zeros((len(outcomes), len(experts)))
    folds: list[dict[str, PlanesNetwork]] = []
    origins: list[FloatArray] = []
    for number, fold in enumerate(split):
        trained: dict[str, PlanesNetwork] = {}
        origin = np.zeros(len(experts))
        for column, (name, expert) in enumerate(experts.items()):
            some = [_subset(values, fold.train) for values in expert.inputs]
            member_seed = seed + len(split) * column + number
            (network,) = train_ensemble(expert.make, some, outcomes.subset(fold.train), one, member_seed, device=device)
            assert isinstance(network, PlanesNetwork)
            found = ensemble_outputs([network], expert.inputs, one, device)[..., 0].mean(dim=0).numpy()
            if not outcomes.endpoint.risk_has_origin:
                origin[column] = outcomes.endpoint.origin(found[fold.train])
            risks[fold.test, column] = found[fold.test] - origin[column]
            trained[name] = network
        folds.append(trained)
        origins.append(origin)
    weights = learn_weights(risks, outcomes)
    log.info("experts: %s", ", ".join(f"{name} {w:.2f}" for name, w in zip(experts, weights.weights, strict=True)))
    return folds, origins, weights


def compose(network: PlanesNetwork, experts: Sequence[PlanesNetwork], origin: FloatArray, blend: RidgeModel) -> None:
    """Fill a network of all branches with those of experts, so that it gives their weighed sum.

    ``experts`` are in the order of the branches; an expert of covariates, which has no branch, is the last.
    """
    slopes = blend.weights / blend.scale
    lasts = [expert.last for expert in experts]
    with torch.no_grad():
        for expert in experts:
            for stack, branch in expert.branches.items():
                network.branches[stack].load_state_dict(branch.state_dict())
        parts = [slope * last.weight for slope, last in zip(slopes, lasts, strict=True)]
        network.last.weight.copy_(torch.cat(parts, dim=1))
        shifts = np.array([float(last.bias) for last in lasts]) - origin - blend.mean
        network.last.bias.fill_(float(blend.bias + slopes @ shifts))


def _subset(values: ModelInput, index: IntArray) -> ModelInput:
    rows = torch.from_numpy(index)
    return ModelInput(values.values[rows], values.left_right_axis, tuple(one[rows] for one in values.augmented))
