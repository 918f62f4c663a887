"""A second cohort, on which the models that were fitted on all patients of the first are evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.duplicates import drop_duplicates_of
from twobe3.core.codes import Code
from twobe3.core.errors import EmptyInputError
from twobe3.core.prediction import Prediction
from twobe3.evaluation.provenance import Provenance
from twobe3.models.registry import load_model
from twobe3.runtime.parallel import Workers, run_tasks
from twobe3.validation.plan import CVPlan, precompute
from twobe3.validation.provenance import collect_warnings, find_exclusions
from twobe3.validation.recalibration import observed_times
from twobe3.validation.result import CVResult, evaluate_models
from twobe3.validation.thresholds import apply_thresholds, cross_val_risk


def validate_external(
    plan: CVPlan,
    cohort: Cohort,
    models: Mapping[tuple[str, int], Path],
    provenance: Provenance,
    *,
    horizons: Mapping[str, Sequence[float]],
    resamples: int,
    seed: int,
    workers: Workers,
) -> CVResult:
    """Evaluate the models fitted on all patients on a second cohort; thresholds are those patients' too.

    ``plan`` and ``provenance`` are of the validation on the first cohort, ``models`` is what
    :func:`~twobe3.validation.cross_validate.fit_final_models` gave. Scans that the first cohort has too are left out,
    and patient ids that are in both are warned about, see :func:`keep_independent`.
    """
    cohort = keep_independent(cohort, plan.cohort)
    external = replace(plan, cohort=cohort, cohorts={}, splits={})
    cohort = precompute(external, workers)
    external = replace(external, cohort=cohort)
    tasks = [(endpoint, number, path) for (endpoint, number), path in models.items()]
    done = run_tasks(
        _predict, tasks, shared=(plan, cohort), workers=workers, description="external cohort",
        name=lambda task: f"{task[0]!r} with {plan.models[task[1]].name}",
    )  # fmt: skip
    found = {(endpoint, number): prediction for (endpoint, number, _), prediction in done}
    predictions = tuple(found[key] for key in models)
    tested = {outcomes.endpoint.name: set(cohort.patients) for outcomes in cohort.endpoints}
    evaluations, comparisons, summary = evaluate_models(
        predictions, plan.models, cohort, tested, horizons, resamples, seed
    )
    told = f"Models fitted on all {len(plan.cohort)} patients of the study, judged on patients of a second cohort."
    validation = {**provenance.configuration["validation"], "scheme": "external cohort", "folds": 1, "repeats": 1}
    provenance = replace(
        provenance,
        study=f"{provenance.study}: external cohort",
        configuration={**provenance.configuration, "validation": validation},
        notes=(told, *collect_warnings(plan.models, cohort)),
        audit=None,
    )
    excluded = find_exclusions(plan.models, cohort)
    return CVResult(external, predictions, evaluations, comparisons, provenance, summary, excluded)


def keep_independent(cohort: Cohort, development: Cohort) -> Cohort:
    """The external cohort without scans of the development cohort, and with a warning where ids are in both.

    Raises
    ------
    EmptyInputError
        ``NOTHING_USABLE``: no scan is left.
    """
    kept = drop_duplicates_of(cohort, development)
    if not len(kept):
        raise EmptyInputError(Code.NOTHING_USABLE, "every scan of the external cohort is in the first one too")
    both = len(set(kept.patients) & set(development.patients))
    warning = f"{both} patient ids are in both cohorts: if they are the same patients, the figures are too good"
    return replace(kept, warnings=(*kept.warnings, warning)) if both else kept


def _predict(shared: tuple[CVPlan, Cohort], task: tuple[str, int, Path]) -> Prediction:
    (plan, cohort), (endpoint, number, path) = shared, task
    model, training = plan.models[number], plan.cohorts[endpoint]
    inner = cross_val_risk(model, training, plan.policy) if plan.policy.recalibrate else None
    final = load_model(path, cache=model.cache, device=model.device)
    return apply_thresholds(final, training, cohort.for_endpoint(endpoint), observed_times(training.outcomes), inner)
