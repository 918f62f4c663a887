"""What a validation found, written into the cards of the models fitted on all patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from twobe3.core.counts import format_count
from twobe3.core.outcomes import FloatArray
from twobe3.core.prediction import Prediction
from twobe3.evaluation.results import Evaluation
from twobe3.models.card import Performance
from twobe3.models.record import add_performance
from twobe3.validation.plan import CVPlan
from twobe3.validation.result import CVResult


def record_performance(
    result: CVResult, files: Mapping[tuple[str, int], Path], scheme: str, horizons: Mapping[str, Sequence[float]]
) -> None:
    """Write the out-of-fold performance of every model into its file.

    Out-of-fold risks, the mean over the repeats of each patient, become those among which percentiles are told. Not so
    for log hazard ratios, which the models of the folds count from different origins: there the training risks stay.

    Parameters
    ----------
    result : CVResult
        The validation.
    files : mapping
        What :func:`~twobe3.validation.cross_validate.fit_final_models` gave.
    scheme : str
        Name of the scheme of validation.
    horizons : mapping
        From endpoint to the times at which the study evaluates it.

    Raises
    ------
    ConfigurationError
        ``MODEL_INVALID``: one of the files was changed.
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    evaluations = {(one.endpoint, one.model): one for one in result.evaluations}
    predictions = {(one.endpoint, one.model): one for one in result.predictions}
    told = describe_validation(result.plan, scheme)
    for (endpoint, number), path in files.items():
        key = endpoint, result.models[number].name
        performance = summarize_performance(evaluations[key], told, tuple(horizons.get(endpoint, ())))
        has_origin = result.plan.cohorts[endpoint].endpoint.risk_has_origin
        add_performance(path, performance, average_risks(predictions[key]) if has_origin else None)


def describe_validation(plan: CVPlan, scheme: str) -> str:
    """How patients were left out, in words."""
    counts = plan.counts()
    repeats = f", repeated {format_count(counts['repeats'], 'time')}" if counts["repeats"] > 1 else ""
    recalibrated = ", recalibrated inside each fold" if plan.policy.recalibrate else ""
    return f"{scheme}, {format_count(counts['folds'], 'fold')}{repeats}{recalibrated}"


def summarize_performance(evaluation: Evaluation, validation: str, horizons: tuple[float, ...]) -> Performance:
    """What a card says of an evaluation: the metric by which the study ranks its models."""
    found = evaluation.headline
    return Performance(
        metric=evaluation.primary_metric.metric,
        value=found.value if found else None,
        low=found.low if found else None,
        high=found.high if found else None,
        n=evaluation.n,
        events=evaluation.events,
        validation=validation,
        estimator=found.estimator if found else "",
        horizons=horizons,
    )


def average_risks(prediction: Prediction) -> FloatArray | None:
    """Mean risk of each patient over the repeats, shape (patients,); None where nobody was predicted."""
    if not len(prediction):
        return None
    _, which = np.unique(prediction.patients, return_inverse=True)
    return np.asarray(np.bincount(which, prediction.risk) / np.bincount(which), dtype=np.float64)
