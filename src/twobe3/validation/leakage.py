"""The leakage audit: is anything learnt from the patients who are tested, or from what must not matter?"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np
from scipy import stats

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import Scheme
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.alignment import AlignedPredictions
from twobe3.evaluation.metrics import METRICS, WITHIN_FOLDS
from twobe3.evaluation.provenance import Audit, PermutationResult
from twobe3.io.cache import Arrays, Cache
from twobe3.runtime.parallel import Workers
from twobe3.validation.cross_validate import PREDICTED, concat_folds, fit_plans
from twobe3.validation.plan import CVPlan, FoldTask, require_enough

LEVEL = 0.95
log = logging.getLogger("twobe3")


def audit(
    plan: CVPlan,
    folds: Mapping[FoldTask, Arrays],
    scheme: Scheme,
    *,
    permutations: int = 20,
    seed: int = 0,
    checkpoints: Cache | None = None,
    workers: Workers = 1,
) -> Audit:
    """Audit a validation.

    Every model is fitted once more on the first fold of each endpoint with the outcomes of that fold's tested patients
    changed, those of other endpoints too: all that it predicts and decides must be the same bits (what was computed on
    a GPU is compared on the CPU). And the whole validation, splits included, is repeated with permuted outcomes.

    ``plan``, ``folds`` (see :attr:`~twobe3.validation.result.CVResult.folds`) and ``scheme`` are those of the
    validation. Permutation ``k`` is drawn by ``(seed, k)``; ``checkpoints`` keeps the folds of all permutations.
    """
    found = Audit(
        sum(map(len, plan.splits.values())),
        tuple(find_shared_groups(plan)),
        sum(bool(subject.duplicate_of) for subject in plan.cohort.subjects),
        tuple(sorted(_find_peeking(plan, folds, workers))),
        permute_outcomes(plan, scheme, permutations, seed, checkpoints or Cache(), workers),
        next((model.name for model in plan.models if model.get_params().get("variable") == "centre"), None),
    )
    (log.info if found.passed else log.warning)("%s", found.text())
    return found


def find_shared_groups(plan: CVPlan) -> Iterator[str]:
    """The folds in which a group is on both sides."""
    for endpoint, split in plan.splits.items():
        groups = np.array([subject.group for subject in plan.cohorts[endpoint].subjects])
        for fold in split:
            if np.isin(groups[fold.train], groups[fold.test]).any():
                yield f"{endpoint}: repeat {fold.repeat}, fold {fold.fold}"


def permute_outcomes(
    plan: CVPlan, scheme: Scheme, permutations: int, seed: int, checkpoints: Cache, workers: Workers
) -> tuple[PermutationResult, ...]:
    """Repeat the whole validation with outcomes that were dealt out at random."""
    values: dict[tuple[str, str], list[float]] = {
        (outcomes.endpoint.name, model.name): []
        for outcomes in plan.cohort.endpoints
        if outcomes.endpoint.has_events
        for model in plan.models
    }
    plans = list(_permute(plan, scheme, permutations, seed))
    position = {model.name: number for number, model in enumerate(plan.models)}
    for permuted, folds in zip(plans, fit_plans(plans, checkpoints, workers, "audit: permuted outcomes"), strict=True):
        for (endpoint, model), found in values.items():
            prediction = concat_folds(permuted, folds, endpoint, position[model])
            found.append(_within_folds(prediction, permuted.cohorts[endpoint].outcomes))
    metric = {o.endpoint.name: WITHIN_FOLDS.get(o.endpoint.primary_metric, "") for o in plan.cohort.endpoints}
    return tuple(_summarize(endpoint, model, metric[endpoint], found) for (endpoint, model), found in values.items())


def _permute(plan: CVPlan, scheme: Scheme, permutations: int, seed: int) -> Iterator[CVPlan]:
    """The same study with permuted outcomes, without those that by chance leave a part nothing to learn from."""
    for number in range(permutations):
        rng = np.random.default_rng([seed, number])
        endpoints = tuple(
            replace(outcomes.subset(rng.permutation(len(outcomes))), patients=outcomes.patients, groups=outcomes.groups)
            for outcomes in plan.cohort.endpoints
        )
        try:
            permuted = CVPlan.of(plan.models, replace(plan.cohort, endpoints=endpoints), scheme, plan.policy)
            require_enough(permuted)
            yield permuted
        except ConfigurationError as error:
            if error.code not in (Code.ONE_CLASS, Code.FEWER_EVENTS_THAN_FOLDS):
                raise


def _within_folds(prediction: Prediction, outcomes: Outcomes) -> float:
    """AUC or C over pairs tested in one fold, mean over repeats; NaN where a repeat has no such pair."""
    if not len(prediction):
        return float("nan")  # the model could use none of the scans
    aligned = AlignedPredictions.of(prediction, outcomes)
    statistic = METRICS[WITHIN_FOLDS[outcomes.endpoint.primary_metric]].over_repeats(aligned)
    assert statistic is not None  # it needs the risk alone, which every model gives
    return statistic.value(len(aligned.outcomes))


def _summarize(endpoint: str, model: str, metric: str, values: list[float]) -> PermutationResult:
    known = np.array([value for value in values if np.isfinite(value)])
    if len(known) < 2:
        return PermutationResult(endpoint, model, metric, len(known), None, None, None)
    mean, error = float(known.mean()), float(known.std(ddof=1) / np.sqrt(len(known)))
    margin = float(stats.t.ppf((1 + LEVEL) / 2, len(known) - 1)) * error
    return PermutationResult(endpoint, model, metric, len(known), mean, mean - margin, mean + margin)


def _find_peeking(plan: CVPlan, folds: Mapping[FoldTask, Arrays], workers: Workers) -> Iterator[str]:
    """Models that predict or decide otherwise when the outcomes of the first fold's tested patients are others.

    What was not computed on the CPU is fitted there twice: elsewhere two fits may differ for no reason.
    """
    models = tuple(model.clone(device=model.device.on_cpu()) for model in plan.models)
    on_cpu = replace(plan, models=models, explained=frozenset())
    tampered = replace(on_cpu, cohorts={endpoint: _tamper(plan, endpoint) for endpoint in plan.cohorts})
    pairs = enumerate(zip(on_cpu.models, plan.models, strict=True))
    elsewhere = {number for number, (here, there) in pairs if here.cache_key() != there.cache_key()}

    def fit_first(of: CVPlan, models: Collection[int]) -> dict[FoldTask, Arrays]:
        def belongs(fit: FoldTask) -> bool:
            return fit.fold == 0 and fit.model in models

        return fit_plans([of], Cache(), workers, "audit: outcomes", belongs)[0]

    expected = {**folds, **fit_first(on_cpu, elsewhere)}
    for fit, arrays in fit_first(tampered, range(len(plan.models))).items():
        if not all(np.array_equal(arrays[name], expected[fit][name]) for name in PREDICTED if name in arrays):
            yield f"{plan.models[fit.model].name} ({fit.endpoint})"


def _tamper(plan: CVPlan, endpoint: str) -> Cohort:
    """The cohort of an endpoint where the patients tested in its first fold have other outcomes, of all endpoints."""
    cohort, fold = plan.cohorts[endpoint], plan.splits[endpoint][0]
    tested = {cohort.patients[i] for i in fold.test}
    others = tuple(_change(outcomes, tested) for outcomes in cohort.other_endpoints)
    return replace(cohort, endpoints=(_change(cohort.outcomes, tested),), other_endpoints=others)


def _change(outcomes: Outcomes, patients: Collection[str]) -> Outcomes:
    """Other outcomes for these patients.

    Two classes change places; times and values are dealt out in reverse, so that the times observed stay the same.
    """
    which = np.flatnonzero([patient in patients for patient in outcomes.patients])
    if outcomes.endpoint.has_classes:
        event = outcomes.event.copy()
        event[which] = ~event[which]
        return replace(outcomes, event=event, value=event.astype(np.float64))
    order = np.arange(len(outcomes))
    order[which] = which[::-1]
    return replace(outcomes.subset(order), patients=outcomes.patients, groups=outcomes.groups)
