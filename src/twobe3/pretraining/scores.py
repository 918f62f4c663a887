"""How well each task is learnt, on patients who were never trained on, with intervals over patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import expit

from twobe3.core.endpoints import Binary, Continuous
from twobe3.core.outcomes import BoolArray, FloatArray, Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.bootstrap import PatientBootstrap, Statistic
from twobe3.evaluation.evaluate import evaluate
from twobe3.evaluation.results import none_if_nan
from twobe3.pretraining.labels import POSITIVE, Labels, Scale

CLASS_METRICS, NUMBER_METRICS = ("auc",), ("r2", "spearman", "mae")
UNITS = {"age_years": "years", "weight_kg": "kg"}
ERRORS = ("masked_error",)  # figures that are better when they are lower
FIGURES = {
    "masked_error": "error at masked voxels, log SUV",
    "lesion_dice": "Dice of lesions",
    "lesion_auc": "AUC of lesions",
}
SLICES = {"scans": "held-out scans", "phantoms": "simulated phantoms", "generic": "simulated shapes"}
Verdict = Literal["better", "worse", "open"]


@dataclass(frozen=True)
class Score:
    """One metric of one task on the held-out patients, with the 95 % interval; None where it cannot be estimated.

    ``stage`` is ``"slices"`` for the 2D network with its linear heads, ``"stacks"`` for the 3D head; ``n`` counts
    scans, one a patient.
    """

    stage: str
    task: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Evaluator:
    """Scores the network of a stage on patients, by pseudonym, with bootstrap intervals."""

    stage: str
    patients: tuple[str, ...]
    resamples: int
    seed: int

    def score_labels(self, labels: Labels, raw: FloatArray) -> list[Score]:
        """Score the predictions of several labels, (n, labels), in units of their scales."""
        true = labels.values.astype(np.float64)
        return [
            score
            for i, scale in enumerate(labels.scales)
            for score in self._score_label(scale, raw[:, i], true[:, i], labels.known[:, i])
        ]

    def _score_label(self, scale: Scale, raw: FloatArray, true: FloatArray, known: BoolArray) -> list[Score]:
        patients = tuple(patient for patient, there in zip(self.patients, known, strict=True) if there)
        if not patients:
            return []
        predicted, value = (part[known] * scale.unit + scale.origin for part in (raw, true))
        if scale.binary:
            outcomes = Outcomes(Binary(scale.name, scale.name, POSITIVE), patients, value, value > 0.5)
        else:
            endpoint = Continuous(scale.name, scale.name, UNITS.get(scale.name, ""))
            outcomes = Outcomes(endpoint, patients, value, np.ones(len(patients), dtype=np.bool_))
        probability = expit(predicted) if scale.binary else None
        prediction = Prediction(self.stage, scale.name, patients, predicted, probability)
        evaluation = evaluate(prediction, outcomes, resamples=self.resamples, seed=self.seed)
        metrics = {metric.name: metric for metric in evaluation.metrics}
        return [
            Score(self.stage, scale.name, name, metric.value, metric.low, metric.high, metric.n)
            for name in (CLASS_METRICS if scale.binary else NUMBER_METRICS)
            if (metric := metrics.get(name)) is not None
        ]

    def explained_variance(self, task: str, error: FloatArray, spread: FloatArray) -> Score:
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
        return Score(self.stage, task, "explained", none_if_nan(replicates.value), low, high, len(error))


@dataclass(frozen=True)
class Change:
    """A figure of the 2D network before and after it went on learning, on ``slices`` that it never learnt from.

    ``before`` and ``after`` are means over ``n`` scans, phantoms or groups of simulated slices; ``low`` and ``high``
    the 95 % interval of the mean paired difference, ``change``. None where it cannot be estimated.
    """

    slices: str
    figure: str
    before: float | None
    after: float | None
    change: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def verdict(self) -> Verdict:
        """Whether the interval of the difference lies wholly on one side of 0; ``"open"`` where it does not."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "open"
        return "better" if (self.high < 0) == (self.figure in ERRORS) else "worse"


def compare(
    slices: str, before: Mapping[str, FloatArray], after: Mapping[str, FloatArray], *, resamples: int, seed: int
) -> list[Change]:
    """Compare figures by name, each (n,), of the same scans before and after; NaN where a scan has none.

    The interval is the difference plus and minus as many bootstrap standard errors as
    :meth:`~twobe3.evaluation.bootstrap.Replicates.reach` says, which few scans make more.
    """
    return [_compare(slices, name, before[name], after[name], resamples, seed) for name in before]


def _compare(slices: str, figure: str, before: FloatArray, after: FloatArray, resamples: int, seed: int) -> Change:
    known = np.isfinite(before) & np.isfinite(after)
    before, after = before[known], after[known]
    n = int(known.sum())
    if n == 0:
        return Change(slices, figure, None, None, None, None, None, 0)
    differences = after - before
    statistic = Statistic(lambda counts: counts @ differences / counts.sum(axis=1), "mean paired difference")
    low = high = None
    if n > 1:
        bootstrap = PatientBootstrap.draw(np.zeros(n, dtype=np.bool_), resamples=resamples, seed=seed)
        replicates = bootstrap.replicate(statistic)
        error = replicates.standard_error()
        if error is not None:
            margin = error * replicates.reach() if error > 0 else 0.0
            low, high = replicates.value - margin, replicates.value + margin
    return Change(slices, figure, float(before.mean()), float(after.mean()), float(differences.mean()), low, high, n)


def conclude(changes: Sequence[Change]) -> str:
    """Say in a sentence whether the network got better."""
    told = {verdict: [change for change in changes if change.verdict == verdict] for verdict in ("better", "worse")}
    better, worse = (", ".join(f"{FIGURES[one.figure]} on {SLICES[one.slices]}" for one in told[key]) for key in told)
    if better and worse:
        return f"It got better in some figures ({better}) and worse in others ({worse})."
    if better:
        return f"It got better: {better}; no figure got worse beyond chance."
    if worse:
        return f"It got worse: {worse}; no figure got better beyond chance. Do not start from it."
    return "Whether it got better cannot be told from these scans: every interval of a difference holds 0."
