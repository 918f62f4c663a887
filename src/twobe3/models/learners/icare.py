"""ICARE: signs instead of coefficients, averaged over bootstrap samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.io.model_file import ArrayFields
from twobe3.models.learners.selection import concordance, spearman, without_redundancy


@dataclass(frozen=True, eq=False)
class Icare(ArrayFields):
    """A fitted rule, which is a linear one: the mean over bootstrap samples of signed, standardised features.

    ``weights``, (p,), multiply the features, and ``bias``, (1,), is added; ``signs``, (p,), is the mean sign over the
    samples that used the feature, 0 where none did. All are float64.
    """

    weights: FloatArray
    bias: FloatArray
    signs: FloatArray

    def risk(self, x: FloatArray) -> FloatArray:
        """Risk of each row of ``x``, shape (n, p)."""
        return np.asarray(x @ self.weights + self.bias[0])


def fit_icare(
    x: FloatArray,
    outcomes: Outcomes,
    *,
    samples: int,
    rho: float = 0.7,
    least: float = 0.55,
    share: float = 0.5,
    seed: int,
) -> Icare:
    """Individual coefficient approximation for risk estimation, bagged.

    Of each bootstrap sample of patients: a random share of the features, in random order, each dropped that
    correlates with an earlier one; then of each remaining one only the sign with which it ranks the sample's patients,
    and nothing where it ranks them hardly better than chance. The sample's risk is the mean of its signed
    standardised features, itself standardised; the rule is the mean over samples. Nothing is optimised (Rebaud L,
    Escobar T, Khalid F, Girum K, Buvat I, *Simplicity is all you need*, HECKTOR 2022, LNCS 13626:121–129,
    doi 10.1007/978-3-031-27420-6_12).

    Parameters
    ----------
    x, outcomes
        Training patients, as of :func:`~twobe3.models.learners.linear.fit_ridge`.
    samples, seed : int
        Number of bootstrap samples; of the random choices.
    rho : float
        Largest absolute rank correlation between features of one sample.
    least : float
        Smallest concordance, counted from 0.5 upwards in either direction, of a feature that takes part.
    share : float
        Of the features that a sample looks at.
    """
    rng, (n, p) = np.random.default_rng(seed), x.shape
    weights, signs, used, bias = np.zeros(p), np.zeros(p), np.zeros(p), 0.0
    for _ in range(samples):
        patients = rng.integers(n, size=n)
        looked_at = rng.permutation(p)[: max(1, round(share * p))]
        sampled = x[patients]
        features = without_redundancy(spearman(sampled), looked_at, rho)
        ranking = concordance(sampled[:, features], outcomes.subset(patients)) - 0.5
        spread = sampled[:, features].std(axis=0)
        taken = (np.abs(ranking) >= least - 0.5) & (ranking != 0.0) & (spread > 0)
        features, sign = features[taken], np.sign(ranking[taken])
        signs[features] += sign
        used[features] += 1
        single = sign / spread[taken]
        rough = sampled[:, features] @ single
        scale = float(rough.std()) if len(features) else 0.0
        if scale > 0:
            weights[features] += single / scale / samples
            bias -= float(rough.mean()) / scale / samples
    return Icare(weights, np.array([bias]), np.divide(signs, used, out=np.zeros(p), where=used > 0))
