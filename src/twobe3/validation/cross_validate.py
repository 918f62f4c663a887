"""Every model on every fold: what has to be computed, where it runs, and what an earlier run left."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from twobe3 import __version__
from twobe3.cohort.cohort import Cohort
from twobe3.cohort.duplicates import with_duplicates_joined
from twobe3.cohort.splits import CrossValidation, Fold, Scheme, unassigned
from twobe3.core.prediction import Prediction
from twobe3.evaluation.horizons import check_horizons
from twobe3.io.cache import CACHE_VERSION, Arrays, Cache
from twobe3.io.files import digest
from twobe3.models.fit_cache import FitCache, content
from twobe3.models.fusion import depth, members_of, share_fits
from twobe3.models.model import Model, check_training
from twobe3.runtime.parallel import run_tasks
from twobe3.validation.provenance import Stopwatch, found_left_out, run_record, told_cautions, told_few_events
from twobe3.validation.recalibration import observed_times
from twobe3.validation.result import CVResult, judged
from twobe3.validation.thresholds import ThresholdPolicy, fitted, predicted

log = logging.getLogger("twobe3")
Fit = tuple[str, int, int]  # endpoint, position of the model, position of the fold
PREDICTED = ("risk", "probability", "threshold", "cutoff", "survival", "times")  # what a fold gives
USABLE = "usable"  # which of a fold's tested patients have a row, where not all do


@dataclass(frozen=True)
class CVPlan:
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
    how : ThresholdPolicy
        How each fold decides with its training patients.
    """

    models: tuple[Model, ...]
    cohort: Cohort
    cohorts: Mapping[str, Cohort]
    splits: Mapping[str, tuple[Fold, ...]]
    how: ThresholdPolicy

    @classmethod
    def of(cls, models: Sequence[Model], cohort: Cohort, scheme: Scheme, how: ThresholdPolicy | None = None) -> CVPlan:
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
        return cls(tuple(models), cohort, cohorts, splits, how or ThresholdPolicy())

    def keys(self) -> dict[Fit, str]:
        """For each fit the digest of everything that its predictions and decisions depend on."""
        contents = {
            (endpoint, position, multitask): digest(
                part for cohort in self.parts(endpoint, position) for part in content(cohort, multitask=multitask)
            )
            for endpoint, split in self.splits.items()
            for position in range(len(split))
            for multitask in {model.multitask for model in self.models}
        }
        made_by = [digest([__version__, model.cache_key(), self.how.cache_key()]) for model in self.models]
        times = {endpoint: observed_times(cohort.outcomes).tobytes() for endpoint, cohort in self.cohorts.items()}
        return {
            (endpoint, number, position): digest(
                [by, times[endpoint], contents[endpoint, position, self.models[number].multitask]]
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
        return cohort.subset(fold.train), cohort.subset(fold.test)


def require_enough(fits: CVPlan) -> None:
    """Refuse a fold whose training patients a model cannot learn from, before anything is fitted.

    Raises
    ------
    ConfigurationError
        ``NOTHING_USABLE``, ``ONE_CLASS``: see :func:`~twobe3.models.model.check_training`.
    """
    for model in fits.models:
        left_out = {exclusion.patient for exclusion in model.report(fits.cohort.without_outcomes()).exclusions}
        for endpoint, split in fits.splits.items() if left_out else ():
            cohort = fits.cohorts[endpoint]
            usable = np.array([subject.patient not in left_out for subject in cohort.subjects])
            for fold in split:
                training = cohort.subset(fold.train[usable[fold.train]])
                where = f" of {endpoint!r}, repeat {fold.repeat}, fold {fold.fold},"
                check_training(model, training, len(fold.train), where)


def precompute(fits: CVPlan, workers: int) -> None:
    """Compute what the models' stores lack, scan by scan, and say in the log how much that was."""
    stores = (fits.cohort.volumes, *(model.cache for model in fits.models))
    if any(cache.folder is None for cache in stores):
        workers = 1  # what a worker keeps in its memory is lost with it
    scans = range(len(fits.cohort))
    counts = [
        count for _, count in run_tasks(_prepare_scan, scans, shared=fits, workers=workers, description="features")
    ]
    computed, reused = (sum(numbers) for numbers in zip(*counts, strict=True))
    log.info("features and measurements: %d computed, %d found in the cache", computed, reused)


def _prepare_scan(fits: CVPlan, position: int) -> tuple[int, int]:
    """Compute what one scan lacks; gives how many entries were computed and found."""
    stores = {id(model.cache): model.cache for model in fits.models}.values()
    before = [(cache.computed, cache.reused) for cache in stores]
    for model in fits.models:
        model.precompute(fits.cohort.subset([position]))
    computed = sum(cache.computed - made for cache, (made, _) in zip(stores, before, strict=True))
    reused = sum(cache.reused - found for cache, (_, found) in zip(stores, before, strict=True))
    return computed, reused


def out_of_fold(fits: CVPlan, checkpoints: Cache, workers: int) -> dict[Fit, Arrays]:
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


def together(fits: CVPlan, missing: Sequence[Fit]) -> list[tuple[Fit, ...]]:
    """Which fits make one task: of a fold those of fusions, after their members, whose fits they take over."""
    fused = {member.cache_key() for model in fits.models for member in members_of(model)}
    shared = [depth(model) > 0 or model.cache_key() in fused for model in fits.models]
    tasks: dict[tuple[str, int, int], list[Fit]] = {}
    for endpoint, number, position in missing:
        task = (endpoint, -1 if shared[number] else number, position)
        tasks.setdefault(task, []).append((endpoint, number, position))
    return [tuple(sorted(task, key=lambda fit: depth(fits.models[fit[1]]))) for task in tasks.values()]


def fit_folds(fits: CVPlan, task: Sequence[Fit]) -> list[Arrays]:
    """:func:`fit_fold` for several fits, which share what they fit on the same patients."""
    with share_fits(fits.models) as cache:
        return [fit_fold(fits, fit, cache) for fit in task]


def fit_fold(fits: CVPlan, fit: Fit, cache: FitCache | None = None) -> Arrays:
    """One fit: the arrays of :data:`PREDICTED` that the model gives, the seconds it took, and :data:`USABLE`."""
    endpoint, number, position = fit
    begin = time.perf_counter()
    times = observed_times(fits.cohorts[endpoint].outcomes)
    training, tested = fits.parts(endpoint, position)
    prediction = predicted(fits.models[number], training, tested, times, fits.how)
    if cache is not None:
        cache.put(fits.models[number], training)
    values = {name: getattr(prediction, name) for name in PREDICTED}
    arrays = {"seconds": np.array([time.perf_counter() - begin])}
    if prediction.patients != tested.patients:
        arrays[USABLE] = np.isin(tested.patients, prediction.patients)
    return arrays | {name: array for name, array in values.items() if array is not None}


def concat_folds(fits: CVPlan, made: Mapping[Fit, Arrays], endpoint: str, number: int) -> Prediction:
    """One model's predictions of all test parts, as far as it can use the scans."""
    cohort, parts = fits.cohorts[endpoint], []
    for position, fold in enumerate(fits.splits[endpoint]):
        arrays = made[endpoint, number, position]
        tested = fold.test[arrays[USABLE]] if USABLE in arrays else fold.test
        values: dict[str, Any] = {name: np.asarray(arrays[name], np.float64) for name in PREDICTED if name in arrays}
        part = Prediction(fits.models[number].name, endpoint, cohort.subset(tested).patients, **values)
        parts.append(part.in_fold(fold.repeat, fold.fold))
    return Prediction.concatenate([part for part in parts if len(part)] or parts[:1])


def fit_final(fits: CVPlan, folder: Path, workers: int) -> dict[tuple[str, int], Path]:
    """Fit every model on all patients and save it, unless the same one is there already.

    Returns
    -------
    dict
        By endpoint and position of the model, its file.
    """
    targets = {}
    for endpoint, cohort in fits.cohorts.items():
        for number, model in enumerate(fits.models):
            recalibrated = [fits.how.cache_key()] if fits.how.recalibrate else []
            made_of = digest(
                [
                    str(CACHE_VERSION),
                    __version__,
                    model.cache_key(),
                    *recalibrated,
                    *content(cohort, multitask=model.multitask),
                ]
            )
            name = f"{file_name(endpoint)}.{file_name(model.name)}.{made_of[:12]}.safetensors"
            targets[endpoint, number] = folder / name
    tasks = together(fits, [(*which, 0) for which, target in targets.items() if not target.exists()])
    shared = (fits, targets)
    for _ in run_tasks(_fit_and_save, tasks, shared=shared, workers=workers, description="models on all patients"):
        pass
    return targets


def _fit_and_save(shared: tuple[CVPlan, Mapping[tuple[str, int], Path]], task: Sequence[Fit]) -> None:
    fits, targets = shared
    with share_fits(fits.models) as cache:
        for endpoint, number, _ in task:
            model = fitted(fits.models[number], fits.cohorts[endpoint], fits.how)
            model.save(targets[endpoint, number])
            cache.put(model, fits.cohorts[endpoint])


def file_name(name: str) -> str:
    """A name made safe as part of a file name: ``"tlg (SUV > 4)"`` becomes ``"tlg-suv-4"``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or digest([name])[:12]


def cross_validate(
    models: Sequence[Model],
    cohort: Cohort,
    *,
    folds: int = 5,
    repeats: int = 5,
    seed: int = 0,
    scheme: Scheme | None = None,
    recalibrate: bool = False,
    inner_folds: int = 4,
    resamples: int = 2000,
    horizons: Mapping[str, Sequence[float]] | None = None,
    checkpoints: Cache | None = None,
    workers: int = 1,
) -> CVResult:
    """Predict every patient out of fold with every model, on the same folds, and evaluate the predictions.

    Scans with the same content, or nearly the same picture, under different patient ids are warned about and stay in
    one fold, see :mod:`twobe3.cohort.duplicates`.

    Parameters
    ----------
    models : sequence of Model
        Unfitted, of different names.
    cohort : Cohort
        With one endpoint or several; patients without an endpoint's outcome are left out for that endpoint.
    folds, repeats, seed : int
        See :class:`twobe3.cohort.splits.CrossValidation`.
    scheme : CrossValidation, LeaveOneCentreOut, PredefinedSplit or FoldsFile, optional
        Instead of that.
    recalibrate : bool
        Whether an inner cross-validation in each training part recalibrates the predictions and chooses thresholds,
        see :func:`twobe3.validation.thresholds.predicted`.
    inner_folds : int
        Of that one.
    resamples : int
        Bootstrap samples for the intervals.
    horizons : mapping, optional
        From the name of a time-to-event endpoint to the times at which it is judged, in its unit; the quartiles of
        its event times where it names none.
    checkpoints : Cache, optional
        Where the predictions of each fold are kept, so that an interrupted run goes on where it stopped.
    workers : int
        Processes that fit side by side; the results are the same bits for any number. See
        :func:`twobe3.runtime.parallel.run_tasks` for what a script must do that asks for more than one.

    Returns
    -------
    CVResult
        With the table, the comparisons, and the report.

    Raises
    ------
    ConfigurationError
        ``ONE_CLASS``, ``FEWER_PATIENTS_THAN_FOLDS``, ``FEWER_EVENTS_THAN_FOLDS``, ``TOO_FEW_CENTRES``,
        ``SPLIT_INVALID``, ``FOLDS_MISMATCH``, ``HORIZON_INVALID``.
    ValueError
        Two models of one name.
    """
    for outcomes in cohort.endpoints:
        check_horizons(outcomes, (horizons or {}).get(outcomes.endpoint.name, ()))
    scheme = scheme or CrossValidation(folds, repeats, seed)
    # Refuse what cannot be split before any feature is computed.
    fits = CVPlan.of(models, with_duplicates_joined(cohort), scheme, ThresholdPolicy(recalibrate, inner_folds, seed))
    validation = {
        "scheme": scheme.name, **fits.counts(), "seed": seed, "resamples": resamples, "recalibrate": recalibrate,
    }  # fmt: skip
    result, _ = _validated(fits, {"validation": validation}, checkpoints or Cache(), workers, horizons or {})
    notes = [*_without_part(fits, scheme), *result.record["notes"]]
    return replace(result, record={**result.record, "notes": notes})


def _validated(
    fits: CVPlan,
    configuration: dict[str, Any],
    checkpoints: Cache,
    workers: int,
    horizons: Mapping[str, Sequence[float]],
) -> tuple[CVResult, dict[Fit, Arrays]]:
    """Predict out of fold and evaluate; gives what every fold predicted too."""
    watch, models, cohort = Stopwatch(), fits.models, fits.cohort
    with watch.step("features"):
        precompute(fits, workers)
        left_out = found_left_out(models, cohort)
        require_enough(fits)
    notes = [*told_few_events(models, cohort), *told_cautions(models, cohort)]
    with watch.step("cross-validation"):
        made = out_of_fold(fits, checkpoints, workers)
    predictions = [concat_folds(fits, made, endpoint, n) for endpoint in fits.cohorts for n in range(len(models))]
    seconds = {model.name: 0.0 for model in models}
    for (_, number, _), arrays in made.items():
        seconds[models[number].name] += float(arrays["seconds"][0])
    resamples, seed = (configuration["validation"][key] for key in ("resamples", "seed"))
    with watch.step("evaluation"):
        evaluations, comparisons, behind = judged(
            predictions, models, cohort, fits.tested(), horizons, resamples, seed
        )  # fmt: skip
    record = run_record(models, cohort, seconds, watch, configuration, notes)
    result = CVResult(
        cohort, models, tuple(predictions), evaluations, comparisons, record, behind, fits.splits, left_out
    )
    return result, made


def _without_part(fits: CVPlan, scheme: Scheme) -> list[str]:
    """Who takes no part in the validation, a sentence for each endpoint with such patients; told in the log too."""
    said = [unassigned(split, fits.cohorts[endpoint].sample, scheme) for endpoint, split in fits.splits.items()]
    for sentence in filter(None, said):
        log.warning("%s", sentence)
    return [sentence for sentence in said if sentence]
