"""Paired comparison of two models, and how many patients it would take to see a difference."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.nearest import name_nearest
from twobe3.core.outcomes import Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.alignment import AlignedPredictions
from twobe3.evaluation.binary import delong
from twobe3.evaluation.bootstrap import LEVEL, RESAMPLES, PatientBootstrap, Replicates, Statistic
from twobe3.evaluation.metrics import Metric, find_metric
from twobe3.evaluation.primary_metric import choose_primary_metric
from twobe3.evaluation.results import Comparison, DifferenceTest, none_if_nan


def compare(
    predictions: Sequence[Prediction],
    outcomes: Outcomes,
    *,
    metric: str | None = None,
    reference: str | None = None,
    baselines: Collection[str] = (),
    horizons: Sequence[float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Every model against every other, or every other model against a reference, by paired bootstrap.

    Both models of a pair are evaluated on the patients that both predicted, in the same bootstrap samples. With the
    standard error s of the difference d in them, the interval is d ± 1.96 s and p = 2 Φ(−|d| / s), adjusted by Holm
    (Scandinavian Journal of Statistics 6 (1979) 65–70) over all comparisons of the call. Beside it stand DeLong's
    test, for the AUC, and the corrected resampled t-test across the folds, each adjusted in the same way, and the
    number of patients who would be needed to see a difference of 0.05.

    Parameters
    ----------
    predictions : sequence of Prediction
        Of different models for one endpoint.
    outcomes : Outcomes
        Of all patients predicted.
    metric : str, optional
        Name of the metric by which all are compared; by default chosen by
        :func:`~twobe3.evaluation.primary_metric.choose_primary_metric`, whose reason is part of each comparison.
    reference : str, optional
        Name of the model against which each of the others is compared; it is then ``model_b``.
    baselines : collection of str
        Names of models that others must beat: two of them are not compared, since each comparison makes the others'
        adjusted p larger. Where all models are baselines, they are.
    horizons : sequence of float, optional
        Over which a mean over horizons is taken, as in :func:`~twobe3.evaluation.evaluate.evaluate`.
    resamples, seed : int
        Number of bootstrap samples, and the seed of their generator.

    Returns
    -------
    tuple of Comparison
        In the order of the predictions; empty for fewer than two.

    Raises
    ------
    ConfigurationError
        ``UNKNOWN_NAME`` for a metric or reference that is not there; ``PREDICTION_INVALID`` for a model that stands
        twice, for several endpoints, for a metric of probabilities that a model doesn't give, and as in
        :func:`~twobe3.evaluation.evaluate.evaluate`.
    """
    row = find_metric(metric or outcomes.endpoint.primary_metric, outcomes.endpoint.kind)
    models = _by_name(predictions, row)
    for prediction in predictions:
        AlignedPredictions.of(prediction, outcomes, horizons=horizons)
    primary = choose_primary_metric(predictions, outcomes, metric)
    row = find_metric(primary.metric, outcomes.endpoint.kind)
    if reference is None:
        pairs = [
            pair for pair in combinations(models, 2) if not set(baselines) >= set(pair) or set(baselines) >= set(models)
        ]
    elif reference in models:
        pairs = [(name, reference) for name in models if name != reference]
    else:
        reason = f"there is no model {reference!r}; {name_nearest(reference, models)}"
        raise ConfigurationError(Code.UNKNOWN_NAME, reason, remedy=f"choose one of {', '.join(models)}")
    paired = _Paired(models, outcomes, row, primary.reason, horizons, resamples, seed)
    return _with_holm([paired.compare(a, b) for a, b in pairs])


@dataclass(eq=False)
class _Paired:
    """Compares pairs of models, replicating each model once for each set of patients."""

    models: dict[str, Prediction]
    outcomes: Outcomes
    row: Metric
    reason: str
    horizons: Sequence[float] | None
    resamples: int
    seed: int

    def __post_init__(self) -> None:
        self.draw, self.replicate, self.in_folds = cache(self._draw), cache(self._replicate), cache(self._in_folds)

    def compare(self, a: str, b: str) -> Comparison:
        common = frozenset(self.models[a].patients) & frozenset(self.models[b].patients)
        endpoint, metric = self.outcomes.endpoint.name, self.row.name
        if not common:
            why = "no patient was predicted by both"
            return Comparison(endpoint, metric, a, b, 0, None, None, None, None, None, why, reason=self.reason)
        (in_a, first, estimator), (in_b, second, estimator_b) = (self.replicate(model, common) for model in (a, b))
        if estimator_b != estimator:
            estimator = f"{estimator} less {estimator_b}"
        difference = first - second
        low, high = difference.normal_interval() or (None, None)
        return Comparison(
            endpoint,
            metric,
            a,
            b,
            len(common),
            none_if_nan(difference.value),
            low,
            high,
            difference.p_value(),
            None,
            f"{estimator}; paired bootstrap over patients, {self.resamples} samples, normal interval and p; Holm",
            self._tests(a, b, in_a, in_b, common),
            patients_needed(len(common), difference.standard_error()),
            self.reason,
        )

    def _tests(
        self, a: str, b: str, in_a: AlignedPredictions, in_b: AlignedPredictions, common: frozenset[str]
    ) -> tuple[DifferenceTest, ...]:
        p, method = t_test_across_folds(self.in_folds(a, common), self.in_folds(b, common))
        across_folds = DifferenceTest("corrected_t", p, None, method)
        if self.row.name not in ("auc", "auc_within_folds"):
            return (across_folds,)
        within = self.row.name == "auc_within_folds"
        method = "DeLong's test of paired AUCs" + (", of the pairs tested in one fold" if within else "")
        return DifferenceTest("delong", delong_p(in_a, in_b, within_folds=within), None, method), across_folds

    def _in_folds(self, model: str, common: frozenset[str]) -> dict[tuple[int, int], FoldValue]:
        """The metric in each fold of each repeat."""
        prediction = self.models[model]
        prediction = prediction.rows(np.array([patient in common for patient in prediction.patients], dtype=np.bool_))
        values = {}
        for repeat, fold in sorted(set(zip(prediction.repeat.tolist(), prediction.fold.tolist(), strict=True))):
            in_repeat = prediction.repeat == repeat
            tested = in_repeat & (prediction.fold == fold)
            _, statistic = self._align(prediction.rows(tested))
            n = int(tested.sum())
            values[repeat, fold] = FoldValue(statistic.value(n), n, int(in_repeat.sum()) - n)
        return values

    def _draw(self, common: frozenset[str]) -> PatientBootstrap:
        event = self.outcomes.of([patient for patient in self.outcomes.patients if patient in common]).event
        return PatientBootstrap.draw(event, stratified=self.row.stratified, resamples=self.resamples, seed=self.seed)

    def _replicate(self, model: str, common: frozenset[str]) -> tuple[AlignedPredictions, Replicates, str]:
        aligned, statistic = self._align(self.models[model], common)
        return aligned, self.draw(common).replicate(statistic), statistic.estimator

    def _align(
        self, prediction: Prediction, among: frozenset[str] | None = None
    ) -> tuple[AlignedPredictions, Statistic]:
        aligned = AlignedPredictions.of(prediction, self.outcomes, among, self.horizons)
        statistic = self.row.over_repeats(aligned)
        assert statistic is not None  # models without such scores were refused
        return aligned, statistic


def _by_name(predictions: Sequence[Prediction], row: Metric) -> dict[str, Prediction]:
    models = {prediction.model: prediction for prediction in predictions}
    if len(models) < len(predictions):
        raise ConfigurationError(Code.PREDICTION_INVALID, "a model stands twice among the predictions to compare")
    endpoints = sorted({prediction.endpoint for prediction in predictions})
    if len(endpoints) > 1:
        raise ConfigurationError(
            Code.PREDICTION_INVALID,
            f"predictions of several endpoints, {endpoints}, can't be compared",
            remedy="compare one endpoint at a time",
        )
    silent = [name for name, prediction in models.items() if getattr(prediction, row.scores) is None]
    if silent:
        raise ConfigurationError(
            Code.PREDICTION_INVALID,
            f"metric {row.name!r} needs {row.scores}, which {silent} don't give",
            remedy="choose a metric of the risk",
        )
    if not row.resampled:
        raise ConfigurationError(
            Code.UNKNOWN_NAME, f"models can't be compared by {row.name!r}", remedy="choose another metric"
        )
    return models


def _with_holm(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """Adjust the p of the bootstrap, and those of each further test, for all comparisons."""
    adjusted = holm([comparison.p for comparison in comparisons])
    held = [replace(comparison, p_holm=p) for comparison, p in zip(comparisons, adjusted, strict=True)]
    tests = [{test.name: test for test in comparison.tests} for comparison in comparisons]
    for name in sorted({name for of_pair in tests for name in of_pair}):
        adjusted = holm([of_pair[name].p if name in of_pair else None for of_pair in tests])
        for of_pair, p in zip(tests, adjusted, strict=True):
            if name in of_pair:
                of_pair[name] = replace(of_pair[name], p_holm=p)
    return tuple(replace(one, tests=tuple(of_pair.values())) for one, of_pair in zip(held, tests, strict=True))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's adjustment (Scandinavian Journal of Statistics 1979;6:65) of the p-values that are known.

    statsmodels has it, but collects all garbage of the process with it, which takes longer than a bootstrap.
    """
    known = np.array([p for p in p_values if p is not None])
    order = np.argsort(known)
    stepped = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1))
    adjusted = np.empty_like(known)
    adjusted[order] = np.minimum(stepped, 1.0)
    each = iter(adjusted.tolist())
    return [None if p is None else next(each) for p in p_values]


POWER = 0.8
DIFFERENCE = 0.05


def delong_p(a: AlignedPredictions, b: AlignedPredictions, *, within_folds: bool = False) -> float | None:
    """Two-sided p of the hypothesis that two models have the same AUC (DeLong et al., Biometrics 44 (1988) 837–845).

    Both are aligned on the same patients. With several repeats the AUC of a model is the mean over its repeats, and the
    covariance of all of them together counts: repeats of one cross-validation evaluate the same patients.
    ``within_folds`` as in :func:`~twobe3.evaluation.binary.delong`. None when a class has fewer than two patients, a
    repeat lacks a patient or has no pair in a fold, or the difference doesn't vary; 1 for models that order the
    patients alike.
    """
    event = a.outcomes.event
    if min(event.sum(), (~event).sum()) < 2 or not (a.present.all() and b.present.all()):
        return None
    folds = np.stack([scores.fold for one in (a, b) for scores in one.scores]) if within_folds else None
    try:
        areas, covariance = delong(np.concatenate([a.risk, b.risk]), event, folds)
    except ValueError:
        return None  # the folds of a repeat hold no pair
    weights = np.concatenate([np.full(a.repeats, 1 / a.repeats), np.full(b.repeats, -1 / b.repeats)])
    difference, variance = float(weights @ areas), float(weights @ covariance @ weights)
    if variance <= np.finfo(float).eps:
        return 1.0 if abs(difference) <= np.finfo(float).eps else None
    return 2 * float(norm.sf(abs(difference) / math.sqrt(variance)))


@dataclass(frozen=True)
class FoldValue:
    """A metric of one model in one fold, NaN where it is not estimable, and how many patients tested and trained it."""

    value: float
    tested: int
    trained: int


def t_test_across_folds(
    a: Mapping[tuple[int, int], FoldValue], b: Mapping[tuple[int, int], FoldValue]
) -> tuple[float | None, str]:
    """The corrected resampled t-test of two models across the folds of a (repeated) cross-validation.

    The J differences d of the folds are not independent: their training parts overlap. So the variance of their mean
    is taken as (1/J + n_test/n_train) s², and t has J − 1 degrees of freedom (Nadeau & Bengio, Machine Learning 52
    (2003) 239–281; for repeated cross-validation Bouckaert & Frank, PAKDD 2004, LNCS 3056, 3–12). n_test/n_train is
    its mean over the folds.

    ``a`` and ``b`` lead from (repeat, fold) to the metric there. Returns the two-sided p, and what was done or why
    nothing could be: p is None when fewer than two folds allow an estimate, the folds of the two differ, or all
    differences are the same, unless they are 0: then 1.
    """
    if {key: (f.tested, f.trained) for key, f in a.items()} != {key: (f.tested, f.trained) for key, f in b.items()}:
        return None, "the models were not tested in the same folds"
    estimable = [key for key in sorted(a) if math.isfinite(a[key].value - b[key].value) and a[key].trained]
    if len(estimable) < 2:
        return None, "fewer than two folds allow an estimate"
    differences = np.array([a[key].value - b[key].value for key in estimable])
    share = float(np.mean([a[key].tested / a[key].trained for key in estimable]))
    method = f"corrected resampled t-test across {len(estimable)} of {len(a)} folds, n_test/n_train = {share:.3g}"
    mean, variance = float(differences.mean()), float(differences.var(ddof=1))
    if variance <= np.finfo(float).eps ** 2:
        return (1.0 if abs(mean) <= np.finfo(float).eps else None), method
    t = mean / math.sqrt((1 / len(differences) + share) * variance)
    return 2 * float(student.sf(abs(t), df=len(differences) - 1)), method


def patients_needed(n: int, standard_error: float | None, difference: float = DIFFERENCE) -> int | None:
    """Patients with whom a true difference of two models would be seen (p < 0.05) with a power of 0.8.

    N = n ((z₀.₉₇₅ + z₀.₈) s / Δ)²: the standard error s of the paired difference, seen with n patients, falls as 1/√n
    (the normal approximation of Obuchowski & McClish, Statistics in Medicine 16 (1997) 1529–1542, its variance taken
    from the bootstrap), Δ is ``difference``. Of patients like these, and of these models as they stand: that models
    trained with more patients become better is not counted. None where the standard error is not known, or 0: models
    that order the patients alike never differ.
    """
    if not standard_error:
        return None
    quantiles = float(norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER))
    return math.ceil(n * (quantiles * standard_error / difference) ** 2)
