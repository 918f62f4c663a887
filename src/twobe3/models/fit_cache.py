"""Fitted models that several models of a study share: a fusion takes its members from here, fitted already."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator

from twobe3.cohort.cohort import Cohort
from twobe3.io.files import digest
from twobe3.models.model import Model, drop_unusable


class FitCache:
    """Fitted models by their parameters and training patients, in memory.

    Parameters
    ----------
    asked : collection of str, optional
        The :meth:`~twobe3.models.model.Model.cache_key` of each model that somebody may ask for, whose fits alone are
        kept; by default those of all models.
    """

    def __init__(self, asked: Collection[str] | None = None) -> None:
        self._asked, self._fits = asked, dict[str, Model]()

    def put(self, model: Model, training: Cohort) -> None:
        """Keep a copy of a model that was fitted on these patients."""
        if self._asked is None or model.cache_key() in self._asked:
            self._fits[_key(model, training)] = copy.copy(model)

    def get(self, model: Model, training: Cohort) -> Model | None:
        """A copy of the same model as it was fitted on the same patients, if there is one."""
        found = self._fits.get(_key(model, training)) if self._fits else None
        return None if found is None else copy.copy(found)


def content(cohort: Cohort, *, multitask: bool) -> Iterator[bytes | str]:
    """Everything that a model may learn from a cohort with one endpoint.

    With ``multitask`` the outcomes of other endpoints are among it, see :attr:`~twobe3.models.model.Model.multitask`.
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
    return digest([model.cache_key(), *content(drop_unusable(model, training), multitask=model.multitask)])
