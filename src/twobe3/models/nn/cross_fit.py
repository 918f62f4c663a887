"""Experts that are trained apart and weighed by what they can predict: one network a stack, cross-fitted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from twobe3.cohort.splits import Fold
from twobe3.core.outcomes import FloatArray, IntArray, Outcomes
from twobe3.models.blending import learn_weights
from twobe3.models.encoder import initial_weights
from twobe3.models.learners.linear import RidgeModel
from twobe3.models.nn.heads import RiskHead
from twobe3.models.nn.inputs import ModelInput
from twobe3.models.nn.networks import PlanesNetwork
from twobe3.models.nn.training import TrainingParameters, ensemble_outputs, train_ensemble
from twobe3.runtime.device import Device

log = logging.getLogger("twobe3")


@dataclass(frozen=True, eq=False)
class Expert:
    """A network that sees one part of the inputs: what makes a fresh one, and what it sees of all patients.

    Where it has no branch it sees covariates, and starts from a ridge regression on them, see
    :func:`~twobe3.models.encoder.initial_weights`.
    """

    make: Callable[[], PlanesNetwork]
    values: ModelInput
    covariates: bool = False


def train_cross_fitted(
    experts: Mapping[str, Expert],
    whole: Callable[[], PlanesNetwork],
    outcomes: Outcomes,
    split: Sequence[Fold],
    how: TrainingParameters,
    seed: int,
    device: Device,
) -> tuple[list[PlanesNetwork], dict[str, float]]:
    """Train every expert without each inner fold, and learn their weights on the risks of who was left out.

    No network is trained on all patients: a prediction is the mean over the inner folds, so that what is weighed is of
    the kind that the weights were learnt on. They are not negative (Breiman, Machine Learning 1996;24:49): an expert
    that finds nothing, or learns its training patients by heart, gets none.

    Parameters
    ----------
    experts, outcomes
        What sees the n training patients, by name, and their outcomes.
    whole : callable
        Makes a network with the branches of all experts, in their order.
    split : sequence of Fold
        Of :func:`~twobe3.models.inner_cv.inner_split`.
    how, seed
        Of :func:`~twobe3.models.nn.training.train_ensemble`.
    device : Device
        Where they are trained.

    Returns
    -------
    list of PlanesNetwork
        For each fold the weighed sum of its experts, in evaluation mode.
    dict of float
        What a standard deviation of each expert's risk adds to the sum.
    """
    one, risks = replace(how, ensemble_size=1), np.zeros((len(outcomes), len(experts)))
    folds: list[tuple[list[PlanesNetwork], FloatArray]] = []
    for number, fold in enumerate(split):
        trained, origins = [], np.zeros(len(experts))
        for column, expert in enumerate(experts.values()):
            drawn = 1000 * seed + len(split) * column + number
            network, found = _train(expert, fold.train, outcomes, one, drawn, device)
            if not outcomes.endpoint.risk_has_origin:
                origins[column] = outcomes.endpoint.origin(found[fold.train])
            risks[fold.test, column] = found[fold.test] - origins[column]
            trained.append(network)
        folds.append((trained, origins))
    blend = learn_weights(risks, outcomes)
    weights = dict(zip(experts, blend.weights.tolist(), strict=True))
    log.info("weights of the stacks: %s", ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items()))
    if not any(weights.values()):
        log.warning("no input tells the patients left out apart: everybody has the same risk")
    return [_compose(whole(), trained, origins, blend) for trained, origins in folds], weights


def _train(
    expert: Expert, rows: IntArray, outcomes: Outcomes, how: TrainingParameters, seed: int, device: Device
) -> tuple[PlanesNetwork, FloatArray]:
    """An expert that has learnt from some patients, and its risk of all."""
    some, known = expert.values.subset(rows), outcomes.subset(rows)
    start = initial_weights(some.values.double().numpy(), known, seed=seed) if expert.covariates else None
    (network,) = train_ensemble(expert.make, [some], known, how, seed, RiskHead(known, start), device)
    assert isinstance(network, PlanesNetwork)
    return network, ensemble_outputs([network], [expert.values], how, device)[..., 0].mean(dim=0).numpy()


def _compose(
    whole: PlanesNetwork, experts: Sequence[PlanesNetwork], origins: FloatArray, blend: RidgeModel
) -> PlanesNetwork:
    """Fill a network of all branches with those of experts, so that it gives the weighed sum of their risks.

    Covariates, which have no branch, are the last of the experts.
    """
    slopes = blend.weights / blend.scale
    biases = np.array([expert.last.bias.item() for expert in experts])
    with torch.no_grad():
        for expert in experts:
            for stack, branch in expert.branches.items():
                whole.branches[stack].load_state_dict(branch.state_dict())
        parts = [slope * expert.last.weight for slope, expert in zip(slopes, experts, strict=True)]
        whole.last.weight.copy_(torch.cat(parts, dim=1))
        whole.last.bias.fill_(float(blend.bias + slopes @ (biases - origins - blend.mean)))
    return whole.eval()
