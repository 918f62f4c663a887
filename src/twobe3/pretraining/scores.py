"""How well each task is learnt, on patients who were never trained on, with intervals over patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from twobe3.core.endpoints import Binary, Continuous
from twobe3.core.outcomes import BoolArray, Endpoint, FloatArray, Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.bootstrap import PatientBootstrap, Statistic
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.results import none_if_nan
from twobe3.pretraining.labels import POSITIVE, Scale

OF_CLASSES, OF_NUMBERS = ("auc",), ("r2", "spearman", "mae")  # metrics that are shown
UNITS = {"age_years": "years", "weight_kg": "kg"}


@dataclass(frozen=True)
class Figure:
    """One figure of one task.

    Attributes
    ----------
    stage : {"slices", "stacks"}
        Which network was judged: the 2D network with its linear heads, or the 3D head.
    task, metric : str
        What it learnt, and by what it is judged.
    value, low, high : float or None
        With the 95 % interval; None where it cannot be estimated.
    n : int
        Scans judged, one a patient.
    """

    stage: str
    task: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Judge:
    """Whom the figures are of, and how intervals are drawn.

    Attributes
    ----------
    stage : {"slices", "stacks"}
        Which network is judged.
    patients : tuple of str
        Pseudonyms.
    resamples, seed : int
        Of the bootstrap.
    """

    stage: str
    patients: tuple[str, ...]
    resamples: int
    seed: int

    def label(self, scale: Scale, raw: FloatArray, true: FloatArray, known: BoolArray) -> list[Figure]:
        """A label of the patients who have it: what the network says and what is true, in units of the scale."""
        patients = tuple(patient for patient, there in zip(self.patients, known, strict=True) if there)
        if not patients:
            return []
        said, value = (part[known] * scale.unit + scale.origin for part in (raw, true))
        endpoint: Endpoint = Continuous(scale.name, scale.name, UNITS.get(scale.name, ""))
        event = np.ones(len(patients), dtype=np.bool_)
        if scale.binary:
            endpoint, event = Binary(scale.name, scale.name, POSITIVE), value > 0.5
        prediction = Prediction(self.stage, scale.name, patients, said, expit(said) if scale.binary else None)
        outcomes = Outcomes(endpoint, patients, value, event)
        judged = evaluate(prediction, outcomes, resamples=self.resamples, seed=self.seed)
        there = {metric.name: metric for metric in judged.metrics}
        return [
            Figure(self.stage, scale.name, name, one.value, one.low, one.high, one.n)
            for name in (OF_CLASSES if scale.binary else OF_NUMBERS)
            if (one := there.get(name)) is not None
        ]

    def explained(self, task: str, error: FloatArray, spread: FloatArray) -> Figure:
        """Share of the sum of squares about the training mean that is explained, 1 − Σ error / Σ spread.

        ``error`` and ``spread`` have a value for each patient, whose slices stay together in the bootstrap.
        """

        def compute(counts: FloatArray) -> FloatArray:
            total = counts @ spread
            left: FloatArray = np.divide(counts @ error, total, out=np.full(len(total), np.nan), where=total > 0)
            return 1 - left

        bootstrap = PatientBootstrap.draw(
            np.zeros(len(error), dtype=np.bool_), resamples=self.resamples, seed=self.seed
        )
        replicates = bootstrap.replicate(Statistic(compute, "share of the squares about the training mean explained"))
        low, high = replicates.interval() or (None, None)
        return Figure(self.stage, task, "explained", none_if_nan(replicates.value), low, high, len(error))


def of_labels(
    judge: Judge, scales: Sequence[Scale], raw: FloatArray, true: FloatArray, known: BoolArray
) -> list[Figure]:
    """The figures of several labels, each a column."""
    columns = enumerate(scales)
    return [one for i, scale in columns for one in judge.label(scale, raw[:, i], true[:, i], known[:, i])]
