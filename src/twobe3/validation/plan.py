"""The plan of a validation: models, folds, and what has to be computed before anything is fitted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from twobe3 import __version__
from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import Fold, Scheme, describe_unassigned
from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure, Exclusion
from twobe3.explain.attribution import FWHM_MM
from twobe3.io.cache import Cache
from twobe3.io.files import digest
from twobe3.models.fit_cache import content
from twobe3.models.model import Model, check_training
from twobe3.runtime.parallel import Workers, run_tasks
from twobe3.validation.recalibration import observed_times
from twobe3.validation.thresholds import ThresholdPolicy

log = logging.getLogger("twobe3")


class FoldTask(NamedTuple):
    """One fit: an endpoint's name, the position of the model, and the position of the fold."""

    endpoint: str
    model: int
    fold: int


@dataclass(frozen=True)
class CVPlan:
    """The models of a validation, and for each endpoint the cohort and the folds."""

    models: tuple[Model, ...]  # unfitted, of different names
    cohort: Cohort  # with all endpoints
    cohorts: Mapping[str, Cohort]  # endpoint to the patients whose outcome is known
    splits: Mapping[str, tuple[Fold, ...]]  # endpoint to its folds, as positions in its cohort
    policy: ThresholdPolicy  # how each fold chooses thresholds on its training patients
    # Which models explain the patients of the first repeat out of fold, by name, and where their maps are kept.
    explained: frozenset[str] = frozenset()
    maps: Cache = field(default_factory=Cache)

    @classmethod
    def of(
        cls, models: Sequence[Model], cohort: Cohort, scheme: Scheme, policy: ThresholdPolicy | None = None
    ) -> CVPlan:
        """Split a cohort for each of its endpoints.

        Raises
        ------
        ConfigurationError
            Whatever keeps the scheme from splitting the cohort, see :mod:`twobe3.cohort.splits`.
        ValueError
            Two models of one name.
        """
        names = [model.name for model in models]
        if len(set(names)) < len(names):
            raise ValueError(f"models must have different names, got {', '.join(names)}")
        endpoints = [outcomes.endpoint.name for outcomes in cohort.endpoints]
        cohorts = {endpoint: cohort.for_endpoint(endpoint) for endpoint in endpoints}
        splits = {endpoint: scheme.split(subset.sample) for endpoint, subset in cohorts.items()}
        return cls(tuple(models), cohort, cohorts, splits, policy or ThresholdPolicy())

    def on(self, cohort: Cohort, scheme: Scheme) -> CVPlan:
        """The same plan where fewer scans can be used; raises what :meth:`of` raises."""
        if cohort is self.cohort:
            return self
        fewer = CVPlan.of(self.models, cohort, scheme, self.policy)
        return replace(fewer, explained=self.explained, maps=self.maps)

    def keys(self) -> dict[FoldTask, str]:
        """For each fit the digest of everything that its predictions and thresholds depend on."""
        contents = {
            (endpoint, position, multitask): digest(
                part for cohort in self.parts(endpoint, position) for part in content(cohort, multitask=multitask)
            )
            for endpoint, split in self.splits.items()
            for position in range(len(split))
            for multitask in {model.multitask for model in self.models}
        }
        policy = self.policy.cache_key()
        explained = f"explained {FWHM_MM}"
        made_by = [
            digest([__version__, model.cache_key(), policy, *([explained] if self.explains(number) else [])])
            for number, model in enumerate(self.models)
        ]
        times = {endpoint: observed_times(cohort.outcomes).tobytes() for endpoint, cohort in self.cohorts.items()}
        return {
            FoldTask(endpoint, number, position): digest(
                [by, times[endpoint], contents[endpoint, position, self.models[number].multitask]]
            )
            for endpoint, split in self.splits.items()
            for number, by in enumerate(made_by)
            for position in range(len(split))
        }

    def explains(self, model: int) -> bool:
        """Whether the model at this position explains the patients of the first repeat."""
        return self.models[model].name in self.explained

    def counts(self) -> dict[str, int]:
        """Folds of a repeat, repeats, and folds of the inner cross-validation."""
        split = next(iter(self.splits.values()))
        repeats = len({fold.repeat for fold in split})
        return {"folds": len(split) // repeats, "repeats": repeats, "inner_folds": self.policy.inner_folds}

    def test_patients(self) -> dict[str, set[str]]:
        """For each endpoint the patients who are tested in some fold."""
        patients = {endpoint: cohort.patients for endpoint, cohort in self.cohorts.items()}
        return {
            endpoint: {patients[endpoint][i] for fold in split for i in fold.test.tolist()}
            for endpoint, split in self.splits.items()
        }

    def parts(self, endpoint: str, position: int) -> tuple[Cohort, Cohort]:
        """Who trains and who is tested in a fold."""
        cohort, fold = self.cohorts[endpoint], self.splits[endpoint][position]
        return cohort.subset(fold.train), cohort.subset(fold.test)


def require_enough(plan: CVPlan) -> None:
    """Refuse a fold whose training patients a model cannot learn from, before anything is fitted.

    Raises
    ------
    ConfigurationError
        ``NOTHING_USABLE``, ``ONE_CLASS``: see :func:`~twobe3.models.model.check_training`.
    """
    for model in plan.models:
        left_out = {exclusion.patient for exclusion in model.report(plan.cohort.without_outcomes()).exclusions}
        for endpoint, split in plan.splits.items() if left_out else ():
            cohort = plan.cohorts[endpoint]
            usable = np.array([subject.patient not in left_out for subject in cohort.subjects])
            for fold in split:
                training = cohort.subset(fold.train[usable[fold.train]])
                where = f" of {endpoint!r}, repeat {fold.repeat}, fold {fold.fold},"
                check_training(model, training, len(fold.train), where)


def warn_of_unassigned(plan: CVPlan, scheme: Scheme) -> list[str]:
    """A sentence for each endpoint of which some patients take no part in the validation, also logged."""
    texts = [describe_unassigned(split, plan.cohorts[name].sample, scheme) for name, split in plan.splits.items()]
    for text in filter(None, texts):
        log.warning("%s", text)
    return [text for text in texts if text]


def precompute(plan: CVPlan, workers: Workers) -> Cohort:
    """Compute scan by scan what the models' caches lack, and log how much that was.

    Gives the plan's cohort, where each scan that ended two workers, for lack of memory for instance, is excluded.

    Raises
    ------
    EnvironmentFailure
        ``WORKER_DIED``: no scan is left.
    """
    caches = (plan.cohort.volumes, *(model.cache for model in plan.models))
    if any(cache.folder is None for cache in caches):
        workers = 1  # what a worker keeps in its memory is lost with it
    scans = range(len(plan.cohort))
    subjects = plan.cohort.subjects
    done = run_tasks(
        _precompute_scan, scans, shared=plan, workers=workers, description="features",
        name=lambda position: subjects[position].patient, instead=lambda position: None,
    )  # fmt: skip
    counts = dict(done)
    lost = sorted(position for position, count in counts.items() if count is None)
    computed, reused = (sum(count[i] for count in counts.values() if count) for i in range(2))
    log.info("features and measurements: %d computed, %d found in the cache", computed, reused)
    return exclude_lost(plan.cohort, lost) if lost else plan.cohort


def exclude_lost(cohort: Cohort, lost: Sequence[int]) -> Cohort:
    """The cohort without the scans at these positions, whose features ended two workers each."""
    died = EnvironmentFailure(Code.WORKER_DIED, "two workers each ended while they computed features of the scan")
    if len(lost) == len(cohort):
        raise died
    gone = [cohort.subjects[position] for position in lost]
    excluded = [Exclusion.of(died, patient=one.patient, series=str(one.description.get("series", ""))) for one in gone]
    kept = cohort.subset([position for position in range(len(cohort)) if position not in lost])
    return replace(kept, exclusions=(*cohort.exclusions, *excluded))


def _precompute_scan(plan: CVPlan, position: int) -> tuple[int, int] | None:
    """Compute what one scan lacks; gives how many entries were computed and found."""
    caches = {id(model.cache): model.cache for model in plan.models}.values()
    before = [(cache.computed, cache.reused) for cache in caches]
    for model in plan.models:
        model.precompute(plan.cohort.subset([position]))
    differences = [(one.computed - made, one.reused - found) for one, (made, found) in zip(caches, before, strict=True)]
    computed, reused = (sum(numbers) for numbers in zip(*differences, strict=True))
    return computed, reused
