"""ComBat: features of several centres brought to one location and scale, learnt without looking at outcomes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twobe3.core.outcomes import FloatArray

# Patients; the spread of fewer says nothing, so they are left as they are, like a centre that nobody has seen.
SMALLEST_CENTRE = 3
log = logging.getLogger("twobe3")


@dataclass(frozen=True, eq=False)
class Combat:
    """What each centre's features are multiplied by, and what is added then.

    ``centres`` are the c with enough training patients; ``factor`` and ``shift`` of p features have the shape (c, p).
    """

    centres: tuple[str, ...]
    factor: FloatArray
    shift: FloatArray

    def apply(self, x: FloatArray, centres: Sequence[str]) -> FloatArray:
        """The harmonised features of patients, shape (n, p), of these n centres.

        Patients of a centre that is not known keep theirs, and the log counts them.
        """
        row = {centre: number for number, centre in enumerate(self.centres)}
        known = np.array([centre in row for centre in centres], dtype=np.bool_)
        if self.centres and not known.all():
            log.warning("ComBat: %d of %d patients are of a centre with fewer than %d training patients; their "
                        "features stay as they are", int((~known).sum()), len(known), SMALLEST_CENTRE)  # fmt: skip
        index = [row[centre] for centre in centres if centre in row]
        harmonised = np.array(x, dtype=np.float64)
        harmonised[known] = x[known] * self.factor[index] + self.shift[index]
        return harmonised


def fit_combat(x: FloatArray, centres: Sequence[str]) -> Combat:
    """Location and scale of each centre, shrunk towards what its other features show.

    Parametric empirical Bayes of Johnson WE, Li C, Rabinovic A, Biostatistics 2007;8:118–127, sections 3.1 and 3.2,
    without covariates: differences between centres that come from their patients are taken away too.

    ``x`` are the finite features of the training patients, shape (n, p), of these n centres. Nothing is changed where
    fewer than two centres have :data:`SMALLEST_CENTRE` patients.
    """
    where = np.array(centres)
    names = [name for name in sorted(set(centres)) if (where == name).sum() >= SMALLEST_CENTRE]
    if len(names) < 2:
        return Combat((), np.ones((0, x.shape[1])), np.zeros((0, x.shape[1])))
    groups = [x[where == name] for name in names]
    total = sum(len(group) for group in groups)
    grand = sum(len(group) * group.mean(axis=0) for group in groups) / total
    pooled = np.sqrt(sum(((group - group.mean(axis=0)) ** 2).sum(axis=0) for group in groups) / total)
    varies = pooled > 1e-12 * np.maximum(np.abs(grand), 1.0)
    factor, shift = np.ones((len(names), x.shape[1])), np.zeros((len(names), x.shape[1]))
    for number, group in enumerate(groups):
        location, variance = _posterior((group[:, varies] - grand[varies]) / pooled[varies])
        factor[number, varies] = 1.0 / np.sqrt(variance)
        away = grand[varies] + pooled[varies] * location
        shift[number, varies] = grand[varies] - away * factor[number, varies]
    return Combat(tuple(names), factor, shift)


def _posterior(z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Posterior location and variance of each standardised feature of one centre; z has shape (patients, p)."""
    n, p = z.shape
    location, variance = z.mean(axis=0), np.maximum(z.var(axis=0, ddof=1), 1e-6)
    if p < 2:
        return location, variance  # nothing to borrow from
    prior_mean, prior_variance = location.mean(), max(location.var(ddof=1), 1e-12)
    mean, spread = variance.mean(), max(variance.var(ddof=1), 1e-12)
    shape, scale = (2 * spread + mean**2) / spread, (mean * spread + mean**3) / spread
    gamma, delta = location, variance
    for _ in range(1000):
        new_gamma = (n * prior_variance * location + delta * prior_mean) / (n * prior_variance + delta)
        squares = ((z - new_gamma) ** 2).sum(axis=0)
        new_delta = (scale + squares / 2) / (n / 2 + shape - 1)
        change = max(np.abs(new_gamma - gamma).max(), np.abs(new_delta - delta).max())
        gamma, delta = new_gamma, new_delta
        if change < 1e-10:
            break
    return gamma, delta
