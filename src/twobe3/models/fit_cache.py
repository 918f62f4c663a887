"""CVPlan that several models of a study share: a fusion takes its members from here instead of fitting them again."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from twobe3.cohort.cohort import Cohort
from twobe3.io.files import digest
from twobe3.models.model import Model

_fits: dict[str, Model] | None = None  # of this process, while it works on one fold


@contextmanager
def shared_fits() -> Iterator[None]:
    """Keep the models that are remembered inside, and forget them at the end."""
    global _fits
    before, _fits = _fits, {}
    try:
        yield
    finally:
        _fits = before


def remember(model: Model, training: Cohort) -> None:
    """Keep a model that was fitted on these patients; only inside :func:`shared_fits`."""
    if _fits is not None:
        _fits[_key(model, training)] = copy.copy(model)


def recall(model: Model, training: Cohort) -> Model | None:
    """A copy of the same model as it was fitted on the same patients, where one is remembered."""
    found = _fits.get(_key(model, training)) if _fits else None
    return None if found is None else copy.copy(found)


def content(cohort: Cohort, *, multitask: bool) -> Iterator[bytes | str]:
    """Everything that a model may learn from a cohort with one endpoint.

    Parameters
    ----------
    cohort : Cohort
        With one endpoint.
    multitask : bool
        Whether the outcomes of other endpoints are among it, see :attr:`~twobe3.models.model.Model.multitask`.
    """
    outcomes = cohort.outcomes
    yield str(cohort.endpoint)
    for subject in cohort.subjects:
        yield cohort.volume_key(subject)
        yield from (subject.patient_id, subject.group, subject.centre, str(sorted(subject.covariates.items())))
    yield from (array.tobytes() for array in (outcomes.value, outcomes.event, outcomes.competing))
    for other in cohort.other_endpoints if multitask else ():
        yield from (str(other.endpoint), *other.patients)
        yield from (array.tobytes() for array in (other.value, other.event, other.competing))


def _key(model: Model, training: Cohort) -> str:
    return digest([model.cache_key(), *content(model.usable(training), multitask=model.multitask)])
