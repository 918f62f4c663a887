"""Is one model better than another, on the same patients?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from twobe3.errors import Code, UsageError
from twobe3.evaluation.aligned import Aligned
from twobe3.evaluation.basis import asked_for, choose_basis
from twobe3.evaluation.difference import FoldValue, corrected_t, delong_p, patients_needed
from twobe3.evaluation.intervals import RESAMPLES, PatientBootstrap, Replicates
from twobe3.evaluation.metrics import MetricRow, find_metric
from twobe3.evaluation.results import Comparison, DifferenceTest, none_if_nan
from twobe3.outcome import Outcomes
from twobe3.prediction import Prediction


def compare(
    predictions: Sequence[Prediction],
    outcomes: Outcomes,
    *,
    metric: str | None = None,
    reference: str | None = None,
    controls: Collection[str] = (),
    horizons: Sequence[float] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Every model against every other, or every other model against a reference, by paired bootstrap.

    Both models of a pair are judged on the patients that both predicted, in the same bootstrap samples. With the
    standard error s of the difference d in them, the interval is d ± 1.96 s and p = 2 Φ(−|d| / s), adjusted by Holm
    (Scandinavian Journal of Statistics 6 (1979) 65–70) over all comparisons of the call. Beside it stand DeLong's
    test, for the AUC, and the corrected resampled t-test across the folds, each adjusted in the same way, and the
    number of patients who would be needed to see a difference of 0.05.

    All models are compared by one metric. Where each was tested in several folds that is the AUC or C of the pairs
    tested in one fold, else that of all pairs; see :func:`~twobe3.evaluation.basis.choose_basis`, whose reason is
    part of each comparison.

    Parameters
    ----------
    predictions : sequence of Prediction
        Of different models for one endpoint.
    outcomes : Outcomes
        Of all patients predicted.
    metric : str, optional
        Name of the metric; chosen by default.
    reference : str, optional
        Name of the model against which each of the others is compared; it is then ``model_b``.
    controls : collection of str
        Names of models that others must beat: two of them are not compared, since each comparison makes the others'
        adjusted p larger. Where all models are controls, they are.
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
    UsageError
        ``UNKNOWN_NAME`` for a metric or reference that is not there; ``PREDICTION_INVALID`` for a model that stands
        twice, for several endpoints, for a metric of probabilities that a model doesn't give, and as in
        :func:`~twobe3.evaluation.evaluate.evaluate`.
    """
    row = find_metric(metric, outcomes.endpoint.kind)
    models = _by_name(predictions, row)
    for prediction in predictions:
        Aligned.of(prediction, outcomes, horizons=horizons)
    basis = choose_basis(predictions, outcomes) if metric is None else asked_for(metric, outcomes)
    row = find_metric(basis.metric, outcomes.endpoint.kind)
    if reference is None:
        pairs = [
            pair for pair in combinations(models, 2) if not set(controls) >= set(pair) or set(controls) >= set(models)
        ]
    elif reference in models:
        pairs = [(name, reference) for name in models if name != reference]
    else:
        raise UsageError(
            Code.UNKNOWN_NAME, f"there is no model {reference!r}", remedy=f"choose one of {', '.join(models)}"
        )
    paired = _Paired(models, outcomes, row, basis.reason, horizons, resamples, seed)
    return _with_holm([paired.compare(a, b) for a, b in pairs])


class _Paired:
    """Compares pairs of models, replicating each model once for each set of patients."""

    def __init__(
        self,
        models: dict[str, Prediction],
        outcomes: Outcomes,
        row: MetricRow,
        reason: str,
        horizons: Sequence[float] | None,
        resamples: int,
        seed: int,
    ) -> None:
        self._models, self._outcomes, self._row, self._horizons = models, outcomes, row, horizons
        self._reason, self._resamples, self._seed = reason, resamples, seed
        self._bootstraps: dict[frozenset[str], PatientBootstrap] = {}
        self._replicates: dict[tuple[str, frozenset[str]], tuple[Aligned, Replicates, str]] = {}
        self._folds: dict[tuple[str, frozenset[str]], dict[tuple[int, int], FoldValue]] = {}

    def compare(self, a: str, b: str) -> Comparison:
        common = frozenset(self._models[a].patients) & frozenset(self._models[b].patients)
        endpoint, metric = self._outcomes.endpoint.name, self._row.name
        if not common:
            why = "no patient was predicted by both"
            return Comparison(endpoint, metric, a, b, 0, None, None, None, None, None, why, reason=self._reason)
        (in_a, first, estimator), (in_b, second, estimator_b) = (self._replicate(model, common) for model in (a, b))
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
            f"{estimator}; paired bootstrap over patients, {self._resamples} samples, normal interval and p; Holm",
            self._tests(a, b, in_a, in_b, common),
            patients_needed(len(common), difference.standard_error()),
            self._reason,
        )

    def _tests(
        self, a: str, b: str, in_a: Aligned, in_b: Aligned, common: frozenset[str]
    ) -> tuple[DifferenceTest, ...]:
        p, method = corrected_t(self._in_folds(a, common), self._in_folds(b, common))
        across_folds = DifferenceTest("corrected_t", p, None, method)
        if self._row.name not in ("auc", "auc_within_folds"):
            return (across_folds,)
        within = self._row.name == "auc_within_folds"
        method = "DeLong's test of paired AUCs" + (", of the pairs tested in one fold" if within else "")
        return DifferenceTest("delong", delong_p(in_a, in_b, within_folds=within), None, method), across_folds

    def _in_folds(self, model: str, common: frozenset[str]) -> dict[tuple[int, int], FoldValue]:
        """The metric in each fold of each repeat."""
        key = model, common
        if key not in self._folds:
            self._folds[key] = self._by_fold(_restricted(self._models[model], common))
        return self._folds[key]

    def _by_fold(self, prediction: Prediction) -> dict[tuple[int, int], FoldValue]:
        assert prediction.repeat is not None  # both are filled when the prediction is made
        assert prediction.fold is not None
        values = {}
        for repeat, fold in sorted(set(zip(prediction.repeat.tolist(), prediction.fold.tolist(), strict=True))):
            in_repeat = prediction.repeat == repeat
            tested = in_repeat & (prediction.fold == fold)
            part = Aligned.of(prediction.rows(tested), self._outcomes, horizons=self._horizons)
            statistic = part.statistic(self._row)
            assert statistic is not None  # models without such scores were refused
            n = int(tested.sum())
            values[repeat, fold] = FoldValue(statistic.value(n), n, int(in_repeat.sum()) - n)
        return values

    def _replicate(self, model: str, common: frozenset[str]) -> tuple[Aligned, Replicates, str]:
        key = model, common
        if key not in self._replicates:
            aligned = Aligned.of(self._models[model], self._outcomes, common, self._horizons)
            statistic = aligned.statistic(self._row)
            assert statistic is not None  # models without probabilities were refused
            if common not in self._bootstraps:
                self._bootstraps[common] = PatientBootstrap.draw(
                    aligned.outcomes.event,
                    stratified=self._row.stratified,
                    resamples=self._resamples,
                    seed=self._seed,
                )
            replicates = self._bootstraps[common].replicate(statistic)
            self._replicates[key] = aligned, replicates, statistic.estimator
        return self._replicates[key]


def _by_name(predictions: Sequence[Prediction], row: MetricRow) -> dict[str, Prediction]:
    models = {prediction.model: prediction for prediction in predictions}
    if len(models) < len(predictions):
        raise UsageError(Code.PREDICTION_INVALID, "a model stands twice among the predictions to compare")
    endpoints = sorted({prediction.endpoint for prediction in predictions})
    if len(endpoints) > 1:
        raise UsageError(
            Code.PREDICTION_INVALID,
            f"predictions of several endpoints, {endpoints}, can't be compared",
            remedy="compare one endpoint at a time",
        )
    silent = [name for name, prediction in models.items() if getattr(prediction, row.scores) is None]
    if silent:
        raise UsageError(
            Code.PREDICTION_INVALID,
            f"metric {row.name!r} needs {row.scores}, which {silent} don't give",
            remedy="choose a metric of the risk",
        )
    if not row.resampled:
        raise UsageError(Code.UNKNOWN_NAME, f"models can't be compared by {row.name!r}", remedy="choose another metric")
    return models


def _restricted(prediction: Prediction, patients: frozenset[str]) -> Prediction:
    return prediction.rows(np.array([patient in patients for patient in prediction.patients], dtype=np.bool_))


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
