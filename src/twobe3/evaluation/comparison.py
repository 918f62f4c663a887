"""Is one model better than another, on the same patients?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from statsmodels.stats.multitest import multipletests

from twobe3.errors import Code, UsageError
from twobe3.evaluation.aligned import Aligned
from twobe3.evaluation.intervals import RESAMPLES, PatientBootstrap, Replicates
from twobe3.evaluation.metrics import MetricRow, find_metric
from twobe3.evaluation.results import Comparison, none_if_nan
from twobe3.outcome import Outcomes
from twobe3.prediction import Prediction


def compare(
    predictions: Sequence[Prediction],
    outcomes: Outcomes,
    *,
    metric: str | None = None,
    reference: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Every model against every other, or every other model against a reference, by paired bootstrap.

    Both models of a pair are judged on the patients that both predicted, in the same bootstrap samples. With the
    standard error s of the difference d in them, the interval is d ± 1.96 s and p = 2 Φ(−|d| / s), adjusted by Holm
    (Scandinavian Journal of Statistics 6 (1979) 65–70) over all comparisons of the call.

    Parameters
    ----------
    predictions : sequence of Prediction
        Of different models for one endpoint.
    outcomes : Outcomes
        Of all patients predicted.
    metric : str, optional
        Name of the metric; the primary one of the endpoint's kind by default.
    reference : str, optional
        Name of the model against which each of the others is compared; it is then ``model_b``.
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
        Aligned.of(prediction, outcomes)
    if reference is None:
        pairs = list(combinations(models, 2))
    elif reference in models:
        pairs = [(name, reference) for name in models if name != reference]
    else:
        raise UsageError(
            Code.UNKNOWN_NAME, f"there is no model {reference!r}", remedy=f"choose one of {', '.join(models)}"
        )
    paired = _Paired(models, outcomes, row, resamples, seed)
    return _holm([paired.compare(a, b) for a, b in pairs])


class _Paired:
    """Compares pairs of models, replicating each model once for each set of patients."""

    def __init__(
        self, models: dict[str, Prediction], outcomes: Outcomes, row: MetricRow, resamples: int, seed: int
    ) -> None:
        self._models, self._outcomes, self._row = models, outcomes, row
        self._resamples, self._seed = resamples, seed
        self._bootstraps: dict[frozenset[str], PatientBootstrap] = {}
        self._replicates: dict[tuple[str, frozenset[str]], tuple[Replicates, str]] = {}

    def compare(self, a: str, b: str) -> Comparison:
        common = frozenset(self._models[a].patients) & frozenset(self._models[b].patients)
        endpoint, metric = self._outcomes.endpoint.name, self._row.name
        if not common:
            why = "no patient was predicted by both"
            return Comparison(endpoint, metric, a, b, 0, None, None, None, None, None, why)
        (first, estimator), (second, estimator_b) = (self._replicate(model, common) for model in (a, b))
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
        )

    def _replicate(self, model: str, common: frozenset[str]) -> tuple[Replicates, str]:
        key = model, common
        if key not in self._replicates:
            aligned = Aligned.of(self._models[model], self._outcomes, common)
            statistic = aligned.statistic(self._row)
            assert statistic is not None  # models without probabilities were refused
            if common not in self._bootstraps:
                self._bootstraps[common] = PatientBootstrap.draw(
                    aligned.outcomes.event,
                    stratified=self._row.stratified,
                    resamples=self._resamples,
                    seed=self._seed,
                )
            self._replicates[key] = self._bootstraps[common].replicate(statistic), statistic.estimator
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
    silent = [name for name, prediction in models.items() if prediction.probability is None]
    if row.scores == "probability" and silent:
        raise UsageError(
            Code.PREDICTION_INVALID,
            f"metric {row.name!r} needs probabilities, which {silent} don't give",
            remedy="choose a metric of the risk",
        )
    return models


def _holm(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    p_values = [comparison.p for comparison in comparisons if comparison.p is not None]
    if not p_values:
        return tuple(comparisons)
    adjusted = iter(multipletests(p_values, method="holm")[1].tolist())
    return tuple(
        comparison if comparison.p is None else replace(comparison, p_holm=next(adjusted)) for comparison in comparisons
    )
