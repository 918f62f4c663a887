"""How a model does in parts of the cohort: by sex, age, centre, scanner, or whatever a patient is known to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from twobe3.core.counts import format_count
from twobe3.core.outcomes import Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.alignment import AlignedPredictions
from twobe3.evaluation.bootstrap import RESAMPLES, PatientBootstrap
from twobe3.evaluation.metrics import Metric, find_metric
from twobe3.evaluation.primary_metric import choose_primary_metric, enough_pairs
from twobe3.evaluation.results import Subgroup, none_if_nan

FEW = 10
MAX_LEVELS = 8
FEW_VALUES = 5
UNKNOWN = "not stated"
OTHER = "other"


def evaluate_subgroups(
    predictions: Sequence[Prediction],
    outcomes: Outcomes,
    factors: Mapping[str, Mapping[str, str]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Subgroup, ...]:
    """The metric of each model in each level of each factor, with its interval; by model, factor and level.

    It is the metric by which the models are compared, see
    :func:`~twobe3.evaluation.primary_metric.choose_primary_metric`. Levels of one factor are not compared: with the few
    patients that a level has, intervals that overlap are no evidence of equality. ``factors`` leads from a factor to
    each patient's level, see :func:`levels`; a patient who isn't there is of "not stated", and a factor that is the
    same for all patients is left out.
    """
    row = find_metric(choose_primary_metric(predictions, outcomes).metric, outcomes.endpoint.kind)
    found = []
    for prediction in predictions:
        predicted = set(prediction.patients)
        for factor, level_of in factors.items():
            members: dict[str, set[str]] = {}
            for patient in predicted:
                members.setdefault(level_of.get(patient, UNKNOWN), set()).add(patient)
            if len(members) > 1:
                found += [
                    _subgroup(
                        AlignedPredictions.of(prediction, outcomes, members[level]), row, factor, level, resamples, seed
                    )
                    for level in sorted(members, key=lambda level: _place(level, level_of))
                ]
    return tuple(found)


def levels(values: Mapping[str, float | str | None]) -> dict[str, str]:
    """The level of each patient whose value is known (not None or empty), in the order in which to show them.

    A text is its own level; of more than eight, the rarest are joined as "other". Numbers, also as text, with more
    than five different values are cut at their tertiles: the cuts depend on the patients, never on their outcomes.
    """
    known = {patient: value for patient, value in values.items() if value is not None and value != ""}
    try:
        numbers = {patient: float(value) for patient, value in known.items()}
    except ValueError:
        numbers = {}
    if len(set(numbers.values())) > FEW_VALUES:
        return _tertiles(numbers)
    texts = {p: f"{value:g}" if isinstance(value, float | int) else str(value) for p, value in known.items()}
    common = [level for level, _ in sorted(Counter(texts.values()).items(), key=lambda item: (-item[1], item[0]))]
    if len(common) > MAX_LEVELS:
        common = common[: MAX_LEVELS - 1]
    texts = {patient: level if level in common else OTHER for patient, level in texts.items()}
    return dict(sorted(texts.items(), key=lambda item: (item[1] == OTHER, item[1])))


def _tertiles(numbers: Mapping[str, float]) -> dict[str, str]:
    cuts = np.unique(np.quantile(list(numbers.values()), [1 / 3, 2 / 3], method="inverted_cdf"))
    between = [f"> {low:g} to {high:g}" for low, high in pairwise(cuts)]
    names = [f"≤ {cuts[0]:g}", *between, f"> {cuts[-1]:g}"]
    ordered = sorted(numbers.items(), key=lambda item: item[1])
    return {patient: names[int(np.searchsorted(cuts, value, side="left"))] for patient, value in ordered}


def _place(level: str, level_of: Mapping[str, str]) -> int:
    """Where a level stands: in the order of the mapping, what is not known last."""
    return next((i for i, one in enumerate(level_of.values()) if one == level), len(level_of))


def _subgroup(aligned: AlignedPredictions, row: Metric, factor: str, level: str, resamples: int, seed: int) -> Subgroup:
    outcomes = aligned.outcomes
    statistic = row.over_repeats(aligned)
    assert statistic is not None  # it needs the risk alone, which every model gives
    bootstrap = PatientBootstrap.draw(outcomes.event, stratified=row.stratified, resamples=resamples, seed=seed)
    replicates = bootstrap.replicate(statistic)
    low, high = replicates.interval() or (None, None)
    return Subgroup(
        outcomes.endpoint.name,
        aligned.model,
        row.name,
        factor,
        level,
        len(outcomes),
        outcomes.n_events,
        none_if_nan(replicates.value),
        low,
        high,
        _warn_of_few(aligned, row),
    )


def _warn_of_few(aligned: AlignedPredictions, row: Metric) -> str:
    """What there is too little of: fewer than ten of what the metric is made of, or pairs within the folds."""
    outcomes = aligned.outcomes
    if outcomes.endpoint.effective_sample_size(outcomes) >= FEW:
        return "few pairs within the folds" if row.needs == "folds" and not enough_pairs(aligned) else ""
    n, events = len(outcomes), outcomes.n_events
    if not outcomes.endpoint.has_events:
        return f"only {format_count(n, 'patient')}"
    return f"only {events} with the event" if events < FEW else f"only {n - events} without the event"
