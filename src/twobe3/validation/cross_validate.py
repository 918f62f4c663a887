"""Every model on every fold: what has to be fitted, where it runs, and what an earlier run left."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from twobe3 import __version__
from twobe3.cohort.cohort import Cohort
from twobe3.cohort.duplicates import join_duplicates
from twobe3.cohort.splits import CrossValidation, Scheme
from twobe3.core.prediction import Prediction
from twobe3.evaluation.horizons import check_horizons
from twobe3.evaluation.provenance import Provenance
from twobe3.io.cache import CACHE_VERSION, Arrays, Cache
from twobe3.io.claims import claim
from twobe3.io.files import digest
from twobe3.io.model_file import is_there
from twobe3.models.fit_cache import FitCache, content
from twobe3.models.fusion import depth, members_of, share_fits
from twobe3.models.model import Model
from twobe3.models.record import CARD
from twobe3.runtime.parallel import Workers, run_tasks
from twobe3.runtime.process import available_cores
from twobe3.scans.regions import Region
from twobe3.validation.baselines import choose_baselines
from twobe3.validation.explanations import explain_fold, has_maps
from twobe3.validation.plan import CVPlan, FoldTask, precompute, require_enough, warn_of_unassigned
from twobe3.validation.provenance import (
    Stopwatch,
    collect_warnings,
    describe_model,
    describe_platform,
    find_exclusions,
    warn_of_few_events,
)
from twobe3.validation.recalibration import observed_times
from twobe3.validation.result import CVResult, evaluate_models
from twobe3.validation.thresholds import ThresholdPolicy, fit_final, fit_predict

log = logging.getLogger("twobe3")
PREDICTED = ("risk", "probability", "threshold", "cutoff", "survival", "times")  # what a fold gives
USABLE = "usable"  # which of a fold's tested patients have a row, where not all do
PART = "part "  # begins the names of the arrays of what parts of a model add to the risk


def cross_validate(
    models: Sequence[Model],
    cohort: Cohort,
    *,
    cv: Scheme | None = None,
    baselines: bool = False,
    region: Region | None = None,
    recalibrate: bool = False,
    inner_folds: int = 4,
    seed: int = 0,
    resamples: int = 2000,
    horizons: Mapping[str, Sequence[float]] | None = None,
    checkpoints: Cache | None = None,
    explain: Collection[str] = (),
    maps: Cache | None = None,
    n_jobs: Workers = 1,
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
    cv : CrossValidation, LeaveOneCentreOut, PredefinedSplit or FoldsFile, optional
        How the cohort is split; five folds, repeated five times, by default.
    baselines : bool
        Whether the default baselines are validated too, see :func:`~twobe3.validation.baselines.add_baselines`, as
        far as the training patients of every fold suffice for them.
    region : Region, optional
        Where the default baselines measure.
    recalibrate : bool
        Whether an inner cross-validation in each training part recalibrates the predictions and chooses thresholds,
        see :func:`twobe3.validation.thresholds.fit_predict`.
    inner_folds, seed : int
        Folds of that one, and the seed of its splits and of the bootstrap.
    resamples : int
        Bootstrap samples for the intervals.
    horizons : mapping, optional
        From the name of a time-to-event endpoint to the times at which it is evaluated, in its unit; the quartiles of
        its event times where it names none.
    checkpoints : Cache, optional
        Where the predictions of each fold are kept, so that an interrupted run goes on where it stopped.
    explain : collection of str
        Names of models that explain the patients of the first repeat, whom they did not see.
    maps : Cache, optional
        Where the maps of these explanations are kept.
    n_jobs : int or Cluster
        Processes that fit side by side, -1 for one each core; the results are the same bits for any number. See
        :func:`twobe3.runtime.parallel.run_tasks` for what a script must do that asks for more than one.

    Raises
    ------
    ConfigurationError
        ``ONE_CLASS``, ``FEWER_PATIENTS_THAN_FOLDS``, ``FEWER_EVENTS_THAN_FOLDS``, ``TOO_FEW_CENTRES``,
        ``SPLIT_INVALID``, ``FOLDS_MISMATCH``, ``HORIZON_INVALID``.
    ValueError
        Two models of one name.
    """
    horizons, workers, watch = horizons or {}, available_cores() if n_jobs == -1 else n_jobs, Stopwatch()
    for outcomes in cohort.endpoints:
        check_horizons(outcomes, horizons.get(outcomes.endpoint.name, ()))
    scheme, policy = cv or CrossValidation(5, 5, seed), ThresholdPolicy(recalibrate, inner_folds, seed)
    with watch.step("cohort"):
        cohort = join_duplicates(cohort)
    plan = CVPlan.of(models, cohort, scheme, policy)  # refuses what cannot be split before a feature is computed
    notes: list[str] = []
    if baselines:
        with watch.step("baselines"):
            plan, notes = choose_baselines(plan, scheme, region, workers)
    notes += warn_of_unassigned(plan, scheme)
    plan = replace(plan, explained=frozenset(explain), maps=maps or Cache())
    with watch.step("features"):
        plan = plan.on(precompute(plan, workers), scheme)
        cohort = plan.cohort
        excluded = find_exclusions(plan.models, cohort)
        require_enough(plan)
    notes += [*warn_of_few_events(plan.models, cohort), *collect_warnings(plan.models, cohort)]
    with watch.step("cross-validation"):
        folds = out_of_fold(plan, checkpoints or Cache(), workers)
    numbers = range(len(plan.models))
    predictions = tuple(concat_folds(plan, folds, endpoint, n) for endpoint in plan.cohorts for n in numbers)
    with watch.step("evaluation"):
        evaluations, comparisons, summary = evaluate_models(
            predictions, plan.models, cohort, plan.test_patients(), horizons, resamples, seed
        )
    configuration = {
        "validation": {
            "scheme": scheme.name, **plan.counts(), "seed": seed, "resamples": resamples, "recalibrate": recalibrate,
        }
    }  # fmt: skip
    provenance = Provenance(
        package_version=__version__,
        study="cross-validation",
        **watch.read(),
        configuration=configuration,
        configuration_digest=digest([str(configuration), *(model.cache_key() for model in plan.models)]),
        platform=describe_platform(plan.models),
        models=tuple(
            describe_model(plan.models[n], cohort, _seconds(folds, n), share_parts(plan, folds, n)) for n in numbers
        ),
        notes=tuple(notes),
    )
    return CVResult(plan, predictions, evaluations, comparisons, provenance, summary, excluded, folds)


def _seconds(folds: Mapping[FoldTask, Arrays], model: int) -> float:
    """What fitting and predicting took with one model, in all folds."""
    return sum(float(arrays["seconds"][0]) for task, arrays in folds.items() if task.model == model)


def share_parts(plan: CVPlan, folds: Mapping[FoldTask, Arrays], model: int) -> dict[str, dict[str, float]]:
    """By endpoint the share of each part of a model in the variance of its risk among patients tested together.

    The shares are the parts' covariances with the risk over its variance, both summed over folds, so they add up to 1;
    a part that works against the others has a negative one.
    """
    shares = {}
    for endpoint in plan.splits:
        fitted = [folds[task] for task in folds if (task.endpoint, task.model) == (endpoint, model)]
        names = sorted(name for name in fitted[0] if name.startswith(PART))
        products = np.zeros(len(names))
        for arrays in fitted if names else ():
            parts = np.stack([arrays[name] for name in names])
            parts -= parts.mean(axis=1, keepdims=True) if parts.size else 0.0
            products += parts @ parts.sum(axis=0)
        if products.sum() > 0:
            named = zip(names, (products / products.sum()).tolist(), strict=True)
            shares[endpoint] = {name.removeprefix(PART): share for name, share in named}
    return shares


def out_of_fold(plan: CVPlan, checkpoints: Cache, workers: Workers) -> dict[FoldTask, Arrays]:
    """What every fold gives, see :func:`fit_fold`; folds of an earlier run are not fitted again."""
    return fit_plans([plan], checkpoints, workers, "cross-validation")[0]


def fit_plans(
    plans: Sequence[CVPlan],
    checkpoints: Cache,
    workers: Workers,
    description: str,
    which: Callable[[FoldTask], bool] = lambda fit: True,
) -> list[dict[FoldTask, Arrays]]:
    """What every fold of several plans gives, or those asked for, from its checkpoint where there is one."""
    every = ((number, fit, key) for number, plan in enumerate(plans) for fit, key in plan.keys().items())
    keys = {(number, fit): key for number, fit, key in every if which(fit)}
    kept = {fit: arrays for fit, key in keys.items() if (arrays := checkpoints.get(key)) is not None}
    done = {(of, fit): arrays for (of, fit), arrays in kept.items() if has_maps(arrays, plans[of].maps)}
    if done:
        log.info("%s: %d of %d folds were there from an earlier run", description, len(done), len(keys))
    tasks = [
        (number, task)
        for number, plan in enumerate(plans)
        for task in group_tasks(plan, [fit for of, fit in keys if of == number and (of, fit) not in done])
    ]
    running = run_tasks(
        fit_folds, tasks, shared=(plans, checkpoints, keys), workers=workers, description=description,
        name=lambda task: name_fits(plans[task[0]], task[1]),
    )  # fmt: skip
    for (number, task), fitted in running:
        done.update({(number, fit): arrays for fit, arrays in zip(task, fitted, strict=True)})
    return [{fit: done[of, fit] for of, fit in keys if of == number} for number in range(len(plans))]


def group_tasks(plan: CVPlan, fits: Sequence[FoldTask]) -> list[tuple[FoldTask, ...]]:
    """Fits that are done together: of each fold those of fusions, after their members, whose fits they reuse."""
    fused = {member.cache_key() for model in plan.models for member in members_of(model)}
    shared = [depth(model) > 0 or model.cache_key() in fused for model in plan.models]
    groups: dict[tuple[str, int, int], list[FoldTask]] = {}
    for fit in fits:
        groups.setdefault((fit.endpoint, -1 if shared[fit.model] else fit.model, fit.fold), []).append(fit)
    return [tuple(sorted(group, key=lambda fit: depth(plan.models[fit.model]))) for group in groups.values()]


def name_fits(plan: CVPlan, fits: Sequence[FoldTask]) -> str:
    """How messages call fits that are done together."""
    endpoint, _, position = fits[0]
    fold = plan.splits[endpoint][position]
    return f"{endpoint!r}, repeat {fold.repeat}, fold {fold.fold} with {_name_models(plan, fits)}"


def _name_models(plan: CVPlan, fits: Sequence[FoldTask]) -> str:
    return ", ".join(plan.models[fit.model].name for fit in fits)


def fit_folds(
    shared: tuple[Sequence[CVPlan], Cache, Mapping[tuple[int, FoldTask], str]], task: tuple[int, Sequence[FoldTask]]
) -> list[Arrays]:
    """:func:`fit_fold` for several fits of one of the plans, which share what they fit on the same patients.

    Each is stored in the checkpoints under its key; what another run stored meanwhile is not fitted again.
    """
    (plans, checkpoints, keys), (number, fits) = shared, task
    plan, fitted = plans[number], []
    with checkpoints.claim(*(keys[number, fit] for fit in fits)), share_fits(plan.models) as cache:
        for fit in fits:
            arrays = checkpoints.get(keys[number, fit])
            if arrays is None or not has_maps(arrays, plan.maps):
                arrays = fit_fold(plan, fit, cache)
                checkpoints.put(keys[number, fit], arrays)
            fitted.append(arrays)
    return fitted


def fit_fold(plan: CVPlan, fit: FoldTask, cache: FitCache | None = None) -> Arrays:
    """The arrays of :data:`PREDICTED` that the model gives in a fold, the seconds it took, and :data:`USABLE`."""
    endpoint, number, position = fit
    model, begin = plan.models[number], time.perf_counter()
    times = observed_times(plan.cohorts[endpoint].outcomes)
    training, tested = plan.parts(endpoint, position)
    prediction = fit_predict(model, training, tested, times, plan.policy, cache)
    values = {name: getattr(prediction, name) for name in PREDICTED}
    arrays = {"seconds": np.array([time.perf_counter() - begin])}
    if prediction.patients != tested.patients:
        arrays[USABLE] = np.isin(tested.patients, prediction.patients)
        tested = tested.subset(np.flatnonzero(arrays[USABLE]))
    arrays |= {f"{PART}{name}": part for name, part in model.contributions(tested).items()}
    if plan.explains(number) and plan.splits[endpoint][position].repeat == 0:
        arrays |= explain_fold(model, training, tested, plan.maps)
    return arrays | {name: array for name, array in values.items() if array is not None}


def concat_folds(plan: CVPlan, folds: Mapping[FoldTask, Arrays], endpoint: str, model: int) -> Prediction:
    """One model's predictions of all test parts, as far as it can use the scans."""
    cohort, parts = plan.cohorts[endpoint], []
    for position, fold in enumerate(plan.splits[endpoint]):
        arrays = folds[FoldTask(endpoint, model, position)]
        tested = fold.test[arrays[USABLE]] if USABLE in arrays else fold.test
        values: dict[str, Any] = {name: np.asarray(arrays[name], np.float64) for name in PREDICTED if name in arrays}
        part = Prediction(plan.models[model].name, endpoint, cohort.subset(tested).patients, **values)
        parts.append(part.in_fold(fold.repeat, fold.fold))
    return Prediction.concatenate([part for part in parts if len(part)] or parts[:1])


def fit_final_models(plan: CVPlan, folder: Path, workers: Workers) -> dict[tuple[str, int], Path]:
    """Fit every model on all patients and save it, unless the same one is there already, and whole.

    Gives the file of each, by endpoint and position of the model.
    """
    targets = name_final_models(plan, folder)
    tasks = group_tasks(plan, [FoldTask(*which, 0) for which, target in targets.items() if not is_there(target)])
    shared = (plan, targets)
    running = run_tasks(
        _fit_and_save, tasks, shared=shared, workers=workers, description="models on all patients",
        name=lambda fits: f"{fits[0].endpoint!r} with {_name_models(plan, fits)}",
    )  # fmt: skip
    for _ in running:
        pass
    return targets


def name_final_models(plan: CVPlan, folder: Path) -> dict[tuple[str, int], Path]:
    """The files of :func:`fit_final_models`, by endpoint and position of the model."""
    policy = [plan.policy.cache_key()] if plan.policy.recalibrate else []
    targets = {}
    for endpoint, cohort in plan.cohorts.items():
        for number, model in enumerate(plan.models):
            patients = content(cohort, multitask=model.multitask)
            key = digest([str(CACHE_VERSION), __version__, CARD, model.cache_key(), *policy, *patients])
            name = f"{file_name(endpoint)}.{file_name(model.name)}.{key[:12]}.safetensors"
            targets[endpoint, number] = folder / name
    return targets


def _fit_and_save(shared: tuple[CVPlan, Mapping[tuple[str, int], Path]], fits: Sequence[FoldTask]) -> None:
    plan, targets = shared
    with share_fits(plan.models) as cache:
        for endpoint, number, _ in fits:
            cohort, target = plan.cohorts[endpoint], targets[endpoint, number]
            with claim(target):
                if not is_there(target):  # another run may have fitted it meanwhile
                    fit_final(plan.models[number], cohort, plan.policy, cache).save(target)


def file_name(name: str) -> str:
    """A name made safe as part of a file name: ``"tlg (SUV > 4)"`` becomes ``"tlg-suv-4"``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or digest([name])[:12]
