"""Do the models say the same? Rank correlation of their risks, patient by patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from twobe3.core.outcomes import FloatArray
from twobe3.core.prediction import Prediction


@dataclass(frozen=True)
class Agreement:
    """Spearman's ρ between the risks of every two models; None where one of them is constant."""

    models: tuple[str, ...]
    rho: tuple[tuple[float | None, ...], ...]


def agreement(predictions: Sequence[Prediction]) -> Agreement:
    """Correlate the models' risks for one endpoint.

    Risks are ranked within each repeat, since models fitted in different repeats need not share a scale, and a
    patient's ranks are averaged over the repeats; Pearson's correlation of those ranks, ranked again, is Spearman's ρ
    (Spearman 1904, Am J Psychol 15, 72–101). There is one prediction for each model, in the order to show; only
    patients whom all of them predict count.
    """
    if not predictions:
        return Agreement((), ())
    ranks = [_mean_ranks(prediction) for prediction in predictions]
    common = sorted(set.intersection(*(set(of_patient) for of_patient in ranks)))
    table = [rankdata([of_patient[patient] for patient in common]) for of_patient in ranks]
    return Agreement(
        tuple(prediction.model for prediction in predictions),
        tuple(tuple(_correlation(a, b) for b in table) for a in table),
    )


def _mean_ranks(prediction: Prediction) -> dict[str, float]:
    """Mean rank of each patient over the repeats."""
    of_patient: dict[str, list[float]] = defaultdict(list)
    for repeat in np.unique(prediction.repeat):
        (rows,) = np.nonzero(prediction.repeat == repeat)
        for row, rank in zip(rows, rankdata(prediction.risk[rows]), strict=True):
            of_patient[prediction.patients[row]].append(float(rank))
    return {patient: float(np.mean(ranks)) for patient, ranks in of_patient.items()}


def _correlation(a: FloatArray, b: FloatArray) -> float | None:
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
