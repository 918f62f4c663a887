"""Every model on every fold: what has to be computed, where it runs, and what an earlier run left."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twobe3 import __version__
from twobe3.artefact import digest
from twobe3.cohort import Cohort, Fold
from twobe3.compute import run_tasks
from twobe3.models.base import Model
from twobe3.prediction import Prediction
from twobe3.store import Arrays, ArrayStore

log = logging.getLogger("twobe3")
Fit = tuple[str, int, int]  # endpoint, position of the model, position of the fold


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
    """

    models: tuple[Model, ...]
    cohort: Cohort
    cohorts: Mapping[str, Cohort]
    splits: Mapping[str, tuple[Fold, ...]]

    @classmethod
    def of(cls, models: Sequence[Model], cohort: Cohort, *, folds: int, repeats: int, seed: int) -> Fits:
        """Split a cohort for each of its endpoints.

        Raises
        ------
        UsageError
            ``FEWER_PATIENTS_THAN_FOLDS``, ``FEWER_EVENTS_THAN_FOLDS``.
        ValueError
            Two models of one name.
        """
        names = [model.name for model in models]
        if len(set(names)) < len(names):
            raise ValueError(f"models must have different names, got {', '.join(names)}")
        endpoints = [outcomes.endpoint.name for outcomes in cohort.endpoints]
        cohorts = {endpoint: cohort.for_endpoint(endpoint) for endpoint in endpoints}
        splits = {endpoint: subset.folds(folds, repeats, seed) for endpoint, subset in cohorts.items()}
        return cls(tuple(models), cohort, cohorts, splits)


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
    """Risks, probabilities and seconds of every fold; those of an earlier run are not made again."""
    keys = {
        (endpoint, number, position): _fold_key(model, fits.cohorts[endpoint], fold)
        for endpoint, split in fits.splits.items()
        for number, model in enumerate(fits.models)
        for position, fold in enumerate(split)
    }
    made = {fit: arrays for fit, key in keys.items() if (arrays := checkpoints.get(key)) is not None}
    if made:
        log.info("cross-validation: %d of %d folds were there from an earlier run", len(made), len(keys))
    missing = [fit for fit in keys if fit not in made]
    for fit, arrays in run_tasks(_fit_fold, missing, shared=fits, workers=workers, description="cross-validation"):
        checkpoints.put(keys[fit], arrays)
        made[fit] = arrays
    return made


def _fit_fold(fits: Fits, fit: Fit) -> Arrays:
    endpoint, number, position = fit
    cohort, fold = fits.cohorts[endpoint], fits.splits[endpoint][position]
    begin = time.perf_counter()
    prediction = fits.models[number].fit(cohort.take(fold.train)).predict(cohort.take(fold.test))
    arrays = {"risk": prediction.risk, "seconds": np.array([time.perf_counter() - begin])}
    return arrays if prediction.probability is None else {**arrays, "probability": prediction.probability}


def joined(fits: Fits, made: Mapping[Fit, Arrays], endpoint: str, number: int) -> Prediction:
    """One model's predictions of all test parts."""
    cohort, parts = fits.cohorts[endpoint], []
    for position, fold in enumerate(fits.splits[endpoint]):
        arrays = made[endpoint, number, position]
        probability = np.asarray(arrays["probability"], np.float64) if "probability" in arrays else None
        risk = np.asarray(arrays["risk"], np.float64)
        patients = cohort.take(fold.test).patients
        part = Prediction(fits.models[number].name, endpoint, patients, risk, probability)
        parts.append(part.in_fold(fold.repeat, fold.fold))
    return Prediction.concatenate(parts)


def _fold_key(model: Model, cohort: Cohort, fold: Fold) -> str:
    """Digest of everything that the predictions of one fold depend on."""
    outcomes = cohort.outcomes
    parts: list[bytes | str] = [__version__, model.identity(), str(cohort.endpoint)]
    for index in (fold.train, fold.test):
        for study in cohort.take(index).studies:
            parts += [cohort.volume_key(study), study.patient_id, study.centre, str(sorted(study.covariates.items()))]
        parts += [outcomes.value[index].tobytes(), outcomes.event[index].tobytes()]
    return digest(parts)


def fit_final(fits: Fits, folder: Path, workers: int) -> None:
    """Fit every model on all patients and save it, unless the same one is there already."""
    targets = {}
    for endpoint, cohort in fits.cohorts.items():
        everyone = np.arange(len(cohort))
        for number, model in enumerate(fits.models):
            made_of = _fold_key(model, cohort, Fold(0, 0, everyone, everyone[:0]))
            name = f"{file_name(endpoint)}.{file_name(model.name)}.{made_of[:12]}.safetensors"
            targets[endpoint, number] = folder / name
    missing = [(endpoint, number, target) for (endpoint, number), target in targets.items() if not target.exists()]
    for _ in run_tasks(_fit_one, missing, shared=fits, workers=workers, description="models on all patients"):
        pass


def _fit_one(fits: Fits, task: tuple[str, int, Path]) -> None:
    endpoint, number, target = task
    fits.models[number].fit(fits.cohorts[endpoint]).save(target)


def file_name(name: str) -> str:
    """A name made safe as part of a file name: ``"tlg (SUV > 4)"`` becomes ``"tlg-suv-4"``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or digest([name])[:12]
