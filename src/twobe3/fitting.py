"""Every model on every fold: what has to be computed, where it runs, and what an earlier run left."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twobe3 import __version__
from twobe3.artefact import digest
from twobe3.cohort import Cohort
from twobe3.compute import run_tasks
from twobe3.decisions import Deciding, fitted, observed_times, predicted
from twobe3.models.base import Model
from twobe3.models.fusion import depth, members_of
from twobe3.models.shared import content, remember, shared_fits
from twobe3.prediction import Prediction
from twobe3.splits import Fold, Scheme
from twobe3.store import Arrays, ArrayStore

log = logging.getLogger("twobe3")
Fit = tuple[str, int, int]  # endpoint, position of the model, position of the fold
PREDICTED = ("risk", "probability", "threshold", "cutoff", "survival", "times")  # what a fold gives
USABLE = "usable"  # which of a fold's tested patients have a row, where not all do


@dataclass(frozen=True)
class Fits:
    """The fits of a study: its models, and for each endpoint the cohort and the folds.

    Attributes
    ----------
    models : tuple of Model
        Unfitted, of different names.
    cohort : Cohort
        With all endpoints.
    cohorts : mapping
        Endpoint to the patients whose outcome is known.
    splits : mapping
        Endpoint to its folds.
    how : Deciding
        How each fold decides with its training patients.
    """

    models: tuple[Model, ...]
    cohort: Cohort
    cohorts: Mapping[str, Cohort]
    splits: Mapping[str, tuple[Fold, ...]]
    how: Deciding

    @classmethod
    def of(cls, models: Sequence[Model], cohort: Cohort, scheme: Scheme, how: Deciding | None = None) -> Fits:
        """Split a cohort for each of its endpoints.

        Raises
        ------
        UsageError
            Whatever keeps the scheme from splitting the cohort, see :mod:`twobe3.splits`.
        ValueError
            Two models of one name.
        """
        names = [model.name for model in models]
        if len(set(names)) < len(names):
            raise ValueError(f"models must have different names, got {', '.join(names)}")
        endpoints = [outcomes.endpoint.name for outcomes in cohort.endpoints]
        cohorts = {endpoint: cohort.for_endpoint(endpoint) for endpoint in endpoints}
        splits = {endpoint: scheme.split(subset.sample) for endpoint, subset in cohorts.items()}
        return cls(tuple(models), cohort, cohorts, splits, how or Deciding())

    def keys(self) -> dict[Fit, str]:
        """For each fit the digest of everything that its predictions and decisions depend on."""
        contents = {
            (endpoint, position, beside): digest(
                part for cohort in self.parts(endpoint, position) for part in content(cohort, beside=beside)
            )
            for endpoint, split in self.splits.items()
            for position in range(len(split))
            for beside in {model.learns_beside for model in self.models}
        }
        made_by = [digest([__version__, model.identity(), self.how.identity()]) for model in self.models]
        times = {endpoint: observed_times(cohort.outcomes).tobytes() for endpoint, cohort in self.cohorts.items()}
        return {
            (endpoint, number, position): digest(
                [by, times[endpoint], contents[endpoint, position, self.models[number].learns_beside]]
            )
            for endpoint, split in self.splits.items()
            for number, by in enumerate(made_by)
            for position in range(len(split))
        }

    def counts(self) -> dict[str, int]:
        """How many folds a repeat has, how many repeats there are, and the folds of an inner cross-validation."""
        split = next(iter(self.splits.values()))
        repeats = len({fold.repeat for fold in split})
        return {"folds": len(split) // repeats, "repeats": repeats, "inner_folds": self.how.inner_folds}

    def tested(self) -> dict[str, set[str]]:
        """For each endpoint the patients who are tested in some fold."""
        patients = {endpoint: cohort.patients for endpoint, cohort in self.cohorts.items()}
        return {
            endpoint: {patients[endpoint][i] for fold in split for i in fold.test.tolist()}
            for endpoint, split in self.splits.items()
        }

    def parts(self, endpoint: str, position: int) -> tuple[Cohort, Cohort]:
        """Who trains and who is tested in a fold."""
        cohort, fold = self.cohorts[endpoint], self.splits[endpoint][position]
        return cohort.take(fold.train), cohort.take(fold.test)


def require_enough(fits: Fits) -> None:
    """Refuse a fold whose training patients a model cannot learn from, before anything is fitted.

    Raises
    ------
    UsageError
        ``NOTHING_USABLE``, ``ONE_CLASS``: see :meth:`~twobe3.models.base.Model.require_enough`.
    """
    for model in fits.models:
        left_out = {exclusion.patient for exclusion in model.unusable(fits.cohort)}
        for endpoint, split in fits.splits.items() if left_out else ():
            cohort = fits.cohorts[endpoint]
            usable = np.array([study.patient not in left_out for study in cohort.studies])
            for fold in split:
                training = cohort.take(fold.train[usable[fold.train]])
                where = f" of {endpoint!r}, repeat {fold.repeat}, fold {fold.fold},"
                model.require_enough(training, len(fold.train), where)


def compute_features(fits: Fits, workers: int) -> None:
    """Compute what the models' stores lack, scan by scan, and say in the log how much that was."""
    stores = (fits.cohort.volumes, *(model.store for model in fits.models))
    if any(store.folder is None for store in stores):
        workers = 1  # what a worker keeps in its memory is lost with it
    scans = range(len(fits.cohort))
    counts = [
        count for _, count in run_tasks(_prepare_scan, scans, shared=fits, workers=workers, description="features")
    ]
    computed, reused = (sum(numbers) for numbers in zip(*counts, strict=True))
    log.info("features and measurements: %d computed, %d found in the cache", computed, reused)


def _prepare_scan(fits: Fits, position: int) -> tuple[int, int]:
    """Compute what one scan lacks; gives how many entries were computed and found."""
    stores = {id(model.store): model.store for model in fits.models}.values()
    before = [(store.computed, store.reused) for store in stores]
    for model in fits.models:
        model.prepare(fits.cohort.take([position]))
    computed = sum(store.computed - made for store, (made, _) in zip(stores, before, strict=True))
    reused = sum(store.reused - found for store, (_, found) in zip(stores, before, strict=True))
    return computed, reused


def out_of_fold(fits: Fits, checkpoints: ArrayStore, workers: int) -> dict[Fit, Arrays]:
    """What every fold predicts and decides, and its seconds; folds of an earlier run are not made again."""
    keys = fits.keys()
    made = {fit: arrays for fit, key in keys.items() if (arrays := checkpoints.get(key)) is not None}
    if made:
        log.info("cross-validation: %d of %d folds were there from an earlier run", len(made), len(keys))
    missing = [fit for fit in keys if fit not in made]
    tasks = together(fits, missing)
    for task, found in run_tasks(fit_folds, tasks, shared=fits, workers=workers, description="cross-validation"):
        for fit, arrays in zip(task, found, strict=True):
            checkpoints.put(keys[fit], arrays)
            made[fit] = arrays
    return made


def together(fits: Fits, missing: Sequence[Fit]) -> list[tuple[Fit, ...]]:
    """Which fits make one task: of a fold those of fusions, after their members, whose fits they take over."""
    fused = {member.identity() for model in fits.models for member in members_of(model)}
    shared = [depth(model) > 0 or model.identity() in fused for model in fits.models]
    tasks: dict[tuple[str, int, int], list[Fit]] = {}
    for endpoint, number, position in missing:
        task = (endpoint, -1 if shared[number] else number, position)
        tasks.setdefault(task, []).append((endpoint, number, position))
    return [tuple(sorted(task, key=lambda fit: depth(fits.models[fit[1]]))) for task in tasks.values()]


def fit_folds(fits: Fits, task: Sequence[Fit]) -> list[Arrays]:
    """:func:`fit_fold` for several fits, which share what they fit on the same patients."""
    with shared_fits() if len(task) > 1 else nullcontext():
        return [fit_fold(fits, fit) for fit in task]


def fit_fold(fits: Fits, fit: Fit) -> Arrays:
    """One fit: the arrays of :data:`PREDICTED` that the model gives, the seconds it took, and :data:`USABLE`."""
    endpoint, number, position = fit
    begin = time.perf_counter()
    times = observed_times(fits.cohorts[endpoint].outcomes)
    training, tested = fits.parts(endpoint, position)
    prediction = predicted(fits.models[number], training, tested, times, fits.how)
    remember(fits.models[number], training)
    values = {name: getattr(prediction, name) for name in PREDICTED}
    arrays = {"seconds": np.array([time.perf_counter() - begin])}
    if prediction.patients != tested.patients:
        arrays[USABLE] = np.isin(tested.patients, prediction.patients)
    return arrays | {name: array for name, array in values.items() if array is not None}


def joined(fits: Fits, made: Mapping[Fit, Arrays], endpoint: str, number: int) -> Prediction:
    """One model's predictions of all test parts, as far as it can use the scans."""
    cohort, parts = fits.cohorts[endpoint], []
    for position, fold in enumerate(fits.splits[endpoint]):
        arrays = made[endpoint, number, position]
        tested = fold.test[arrays[USABLE]] if USABLE in arrays else fold.test
        values: dict[str, Any] = {name: np.asarray(arrays[name], np.float64) for name in PREDICTED if name in arrays}
        part = Prediction(fits.models[number].name, endpoint, cohort.take(tested).patients, **values)
        parts.append(part.in_fold(fold.repeat, fold.fold))
    return Prediction.concatenate([part for part in parts if len(part)] or parts[:1])


def fit_final(fits: Fits, folder: Path, workers: int) -> dict[tuple[str, int], Path]:
    """Fit every model on all patients and save it, unless the same one is there already.

    Returns
    -------
    dict
        By endpoint and position of the model, its file.
    """
    targets = {}
    for endpoint, cohort in fits.cohorts.items():
        for number, model in enumerate(fits.models):
            recalibrated = [fits.how.identity()] if fits.how.recalibrate else []
            made_of = digest(
                [__version__, model.identity(), *recalibrated, *content(cohort, beside=model.learns_beside)]
            )
            name = f"{file_name(endpoint)}.{file_name(model.name)}.{made_of[:12]}.safetensors"
            targets[endpoint, number] = folder / name
    tasks = together(fits, [(*which, 0) for which, target in targets.items() if not target.exists()])
    shared = (fits, targets)
    for _ in run_tasks(_fit_and_save, tasks, shared=shared, workers=workers, description="models on all patients"):
        pass
    return targets


def _fit_and_save(shared: tuple[Fits, Mapping[tuple[str, int], Path]], task: Sequence[Fit]) -> None:
    fits, targets = shared
    with shared_fits() if len(task) > 1 else nullcontext():
        for endpoint, number, _ in task:
            model = fitted(fits.models[number], fits.cohorts[endpoint], fits.how)
            model.save(targets[endpoint, number])
            remember(model, fits.cohorts[endpoint])


def file_name(name: str) -> str:
    """A name made safe as part of a file name: ``"tlg (SUV > 4)"`` becomes ``"tlg-suv-4"``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or digest([name])[:12]
