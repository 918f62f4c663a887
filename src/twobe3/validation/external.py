"""A second cohort, on which the models that were fitted on all patients of the first are judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.duplicates import without_duplicates_of
from twobe3.core.codes import Code
from twobe3.core.errors import EmptyInputError
from twobe3.core.prediction import Prediction
from twobe3.models.registry import load_model
from twobe3.runtime.parallel import run_tasks
from twobe3.validation.cross_validate import CVPlan, precompute
from twobe3.validation.recalibration import observed_times
from twobe3.validation.thresholds import decided, inner_risks


@dataclass(frozen=True, eq=False)
class External:
    """The fits of a study and the cohort that they are judged on."""

    fits: CVPlan
    cohort: Cohort


def independent(cohort: Cohort, development: Cohort) -> Cohort:
    """The external cohort without scans that are in the development cohort, and with a warning where ids are in both.

    Raises
    ------
    EmptyInputError
        ``NOTHING_USABLE``: no scan is left.
    """
    kept = without_duplicates_of(cohort, development)
    if not len(kept):
        raise EmptyInputError(Code.NOTHING_USABLE, "every scan of the external cohort is in the first one too")
    both = len(set(kept.patients) & set(development.patients))
    said = f"{both} patient ids are in both cohorts: if they are the same patients, the figures are too good"
    return replace(kept, warnings=(*kept.warnings, said)) if both else kept


def predict_external(
    fits: CVPlan, cohort: Cohort, models: Mapping[tuple[str, int], Path], workers: int
) -> list[Prediction]:
    """Predict an external cohort with the models fitted on all patients; decisions are those patients' too.

    Parameters
    ----------
    fits : CVPlan
        Of the study.
    cohort : Cohort
        The external one, with the same endpoints.
    models : mapping
        What :func:`~twobe3.validation.cross_validate.fit_final` gave.
    workers : int
        Processes.
    """
    external = External(fits, cohort)
    precompute(replace(fits, cohort=cohort), workers)
    tasks = [(endpoint, number, path) for (endpoint, number), path in models.items()]
    done = run_tasks(_predict, tasks, shared=external, workers=workers, description="external cohort")
    found = {(endpoint, number): prediction for (endpoint, number, _), prediction in done}
    return [found[key] for key in models]


def _predict(external: External, task: tuple[str, int, Path]) -> Prediction:
    endpoint, number, path = task
    fits, model = external.fits, external.fits.models[number]
    training, tested = fits.cohorts[endpoint], external.cohort.for_endpoint(endpoint)
    inner = inner_risks(model, training, fits.how) if fits.how.recalibrate else None
    fitted = load_model(path, cache=model.cache, device=model.device)
    return decided(fitted, training, tested, observed_times(training.outcomes), inner)
