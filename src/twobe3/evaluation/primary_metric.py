"""By which metric models are compared: the pairs of patients tested in one fold, or all pairs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from twobe3.core.outcomes import BoolArray, Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.alignment import AlignedPredictions
from twobe3.evaluation.metrics import WITHIN_FOLDS, find_metric
from twobe3.evaluation.results import PrimaryMetric
from twobe3.evaluation.survival import comparable_pairs

PATIENTS_PER_PAIR = 2


def choose_primary_metric(
    predictions: Sequence[Prediction], outcomes: Outcomes, metric: str | None = None
) -> PrimaryMetric:
    """The metric by which these predictions can be compared fairly, one for all of them; or the one asked for.

    A risk has a meaning within one model. Of several folds, each with a model of its own, only the pairs of patients
    tested in one fold are compared, since pooled risks put a model that knows nothing below ½ (Airola et al.,
    Computational Statistics and Data Analysis 55 (2011) 1828–1844): ``auc_within_folds``, ``harrell_c_within_folds``.
    All pairs are compared, with ``auc`` or ``harrell_c``,

    - where everybody was tested by one model, as far as the predictions tell: an external cohort, a named split, a
      table without folds;
    - where the folds are so small that in some repeat they hold fewer comparable pairs than half the patients, as
      when one patient is left out at a time;
    - where one of these holds for one of the models, so that all are evaluated alike; a model that predicted fewer than
      half as many patients as another, since it can use few of the scans, is not asked.

    A continuous endpoint has no such pair of metrics, and its first one is taken.

    Raises
    ------
    ConfigurationError
        ``UNKNOWN_NAME``: the kind of endpoint has no such metric.
    """
    if metric is not None:
        return PrimaryMetric(find_metric(metric, outcomes.endpoint.kind).name, "as asked for")
    primary = outcomes.endpoint.primary_metric
    within = WITHIN_FOLDS.get(primary)
    aligned = [AlignedPredictions.of(prediction, outcomes) for prediction in predictions if len(prediction)]
    if within is None or not aligned:
        return PrimaryMetric(primary, "the first metric of the endpoint's kind")
    most = max(len(one.outcomes) for one in aligned)
    aligned = [one for one in aligned if 2 * len(one.outcomes) >= most]
    unfolded = sum(not one.has_folds for one in aligned)
    if unfolded == len(aligned):
        return PrimaryMetric(primary, "all patients were tested in one part, as far as the predictions tell")
    if unfolded:
        return PrimaryMetric(
            primary, f"{unfolded} of {len(aligned)} models were tested in one part, or don't tell their folds"
        )
    if not all(enough_pairs(one) for one in aligned):
        return PrimaryMetric(primary, "the folds of some repeat hold fewer comparable pairs than half its patients")
    return PrimaryMetric(
        within, "risks of different folds come from different models, so only those of one fold are compared"
    )


def enough_pairs(aligned: AlignedPredictions) -> bool:
    """Whether in every repeat the folds hold at least one comparable pair for every two patients."""
    event, comparable = aligned.outcomes.event, _comparable(aligned.outcomes)
    for scores, present in zip(aligned.scores, aligned.present, strict=True):
        together = (scores.fold[event][:, None] == scores.fold[None, :]) & present[event][:, None] & present[None, :]
        if np.sum(comparable & together) * PATIENTS_PER_PAIR < present.sum():
            return False
    return True


def _comparable(outcomes: Outcomes) -> BoolArray:
    """For each patient with the event (rows) against all (columns): can their risks be right or wrong?"""
    if outcomes.endpoint.kind == "time-to-event":
        return comparable_pairs(outcomes)
    return np.broadcast_to(~outcomes.event, (outcomes.n_events, len(outcomes)))
