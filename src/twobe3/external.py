"""A second cohort, on which the models that were fitted on all patients of the first are judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from twobe3.cohort import Cohort
from twobe3.compute import run_tasks
from twobe3.decisions import decided, inner_risks, observed_times
from twobe3.duplicates import without_duplicates_of
from twobe3.errors import Code, NothingUsable
from twobe3.fitting import Fits, compute_features
from twobe3.models.base import load_model
from twobe3.prediction import Prediction


@dataclass(frozen=True, eq=False)
class External:
    """The fits of a study and the cohort that they are judged on."""

    fits: Fits
    cohort: Cohort


def independent(cohort: Cohort, development: Cohort) -> Cohort:
    """The external cohort without scans that are in the development cohort, and with a warning where ids are in both.

    Raises
    ------
    NothingUsable
        ``NOTHING_USABLE``: no scan is left.
    """
    kept = without_duplicates_of(cohort, development)
    if not len(kept):
        raise NothingUsable(Code.NOTHING_USABLE, "every scan of the external cohort is in the first one too")
    both = len(set(kept.patients) & set(development.patients))
    said = f"{both} patient ids are in both cohorts: if they are the same patients, the figures are too good"
    return replace(kept, warnings=(*kept.warnings, said)) if both else kept


def predict_external(
    fits: Fits, cohort: Cohort, models: Mapping[tuple[str, int], Path], workers: int
) -> list[Prediction]:
    """Predict an external cohort with the models fitted on all patients; decisions are those patients' too.

    Parameters
    ----------
    fits : Fits
        Of the study.
    cohort : Cohort
        The external one, with the same endpoints.
    models : mapping
        What :func:`~twobe3.fitting.fit_final` gave.
    workers : int
        Processes.
    """
    external = External(fits, cohort)
    compute_features(replace(fits, cohort=cohort), workers)
    tasks = [(endpoint, number, path) for (endpoint, number), path in models.items()]
    done = run_tasks(_predict, tasks, shared=external, workers=workers, description="external cohort")
    found = {(endpoint, number): prediction for (endpoint, number, _), prediction in done}
    return [found[key] for key in models]


def _predict(external: External, task: tuple[str, int, Path]) -> Prediction:
    endpoint, number, path = task
    fits, model = external.fits, external.fits.models[number]
    training, tested = fits.cohorts[endpoint], external.cohort.for_endpoint(endpoint)
    inner = inner_risks(model, training, fits.how) if fits.how.recalibrate else None
    fitted = load_model(path, store=model.store, engine=model.engine)
    return decided(fitted, training, tested, observed_times(training.outcomes), inner)
