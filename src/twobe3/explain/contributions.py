"""What each feature of a radiomics model, and each member or stack of a sum, adds to a risk."""

from __future__ import annotations

from collections.abc import Callable
from math import factorial

import numpy as np

from twobe3.cohort.cohort import Cohort
from twobe3.core.outcomes import FloatArray
from twobe3.models.learners.linear import RidgeModel
from twobe3.models.model import Model
from twobe3.models.radiomics import RadiomicsModel

MOST_EXACT = 10
"""Features up to which every set of them is tried: a thousand risks a patient."""
ORDERS = 50
"""Of more features: how many random orders, each with its reverse."""

Risk = Callable[[FloatArray], FloatArray]


def explain_by_parts(model: Model, cohort: Cohort) -> dict[str, FloatArray]:
    """What each part of a fitted model adds to the risk of each patient, by its name, shape (patients,).

    Members of a fusion, stacks of a network and covariates as the model says. The features of a radiomics model: of a
    linear one counted from the mean of the training patients, (x − mean) / scale · weight, which is exact; of any other
    Shapley values, see :func:`shapley_values`, counted from a patient with the median of every feature. Empty where
    the risk is no sum.
    """
    if not isinstance(model, RadiomicsModel):
        return model.contributions(cohort)
    names, x, learner = model.chosen_names, model.learner_inputs(cohort), model.learner_
    assert learner is not None
    if isinstance(learner, RidgeModel):
        terms = (x - learner.mean) / learner.scale * learner.weights
    else:
        usual = model.median_inputs(cohort)
        terms = np.array([shapley_values(learner.risk, *rows) for rows in zip(x, usual, strict=True)])
    return {name: np.asarray(term) for name, term in zip(names, terms.T, strict=True) if np.any(term)}


def shapley_values(risk: Risk, features: FloatArray, usual: FloatArray) -> FloatArray:
    r"""What each feature of a patient adds to the risk, counted from a usual patient; the sum is exact.

    .. math:: \phi_i = \sum_{S \not\ni i} \frac{|S|!\,(p - |S| - 1)!}{p!} \big( r(S \cup i) - r(S) \big)

    where :math:`r(S)` is the risk of a patient whose features in S are the patient's own and the others the usual ones.
    Source: baseline Shapley values, Sundararajan & Najmi, ICML 2020, section 2. Of more than ``MOST_EXACT`` features
    the mean over random orders of the features in their place (Castro, Gómez & Tejada, Comput. Oper. Res. 2009).

    Parameters
    ----------
    risk : callable
        Of patients, shape (n, p), to their risks, shape (n,).
    features, usual : ndarray, shape (p,)

    Returns
    -------
    ndarray, shape (p,)
        Their sum is ``risk(features) - risk(usual)``.
    """
    p = len(features)
    if p > MOST_EXACT:
        return _sample_orders(risk, features, usual)
    own = (np.arange(2**p)[:, None] >> np.arange(p)) & 1 == 1
    risks, sizes = risk(np.where(own, features, usual)), own.sum(axis=1)
    weights = np.array([factorial(s) * factorial(p - s - 1) / factorial(p) for s in range(p)])
    values = np.zeros(p)
    for i in range(p):
        without = np.flatnonzero(~own[:, i])
        values[i] = weights[sizes[without]] @ (risks[without + 2**i] - risks[without])
    return values


def _sample_orders(risk: Risk, features: FloatArray, usual: FloatArray) -> FloatArray:
    p, rng = len(features), np.random.default_rng(0)
    drawn = [rng.permutation(p) for _ in range(ORDERS)]
    values = np.zeros(p)
    for order in (*drawn, *(order[::-1] for order in drawn)):
        place = np.argsort(order)
        own = place[None, :] < np.arange(p + 1)[:, None]  # the first k of the order, for every k
        values[order] += np.diff(risk(np.where(own, features, usual)))
    return values / (2 * ORDERS)
