"""What a run of a study would do, without doing it: scans, endpoints, fits, what is there, and what it will cost."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.duplicates import join_duplicates
from twobe3.io.cache import Cache, ReadOnlyCache
from twobe3.runtime.device import DeviceName, Precision
from twobe3.runtime.process import available_cores
from twobe3.study.estimate import PATIENTS, SAMPLE, Costs, ModelCost, measure
from twobe3.study.prepare import PreparedStudy, prepare
from twobe3.study.sections import CohortSection, ExternalSection
from twobe3.validation.baselines import add_baselines
from twobe3.validation.cross_validate import name_final_models
from twobe3.validation.plan import CVPlan
from twobe3.validation.thresholds import ThresholdPolicy

VOXEL_BYTES, CONTOUR_BYTES = 4, 1  # of volumes and maps, float32; of contours, uint8


@dataclass(frozen=True)
class CohortPreview:
    """What was found of a cohort: series, usable scans, and how many stay out under each code."""

    found: int
    used: int
    excluded: Mapping[str, int]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class EndpointPreview:
    """An endpoint: patients whose outcome is known, those with the event, the folds of all repeats."""

    name: str
    kind: str
    patients: int
    events: int
    folds: int


@dataclass(frozen=True)
class Estimate:
    """What is left to do, in seconds by step and bytes by folder.

    Attributes
    ----------
    seconds, disk_bytes : mapping
        By step, by folder.
    processes : int
        That work side by side.
    basis : str
        From what it is made.
    untimed : tuple of str
        Models whose fits could not be timed, and are not in it.
    """

    seconds: Mapping[str, float]
    disk_bytes: Mapping[str, int]
    processes: int
    basis: str
    untimed: tuple[str, ...]


@dataclass(frozen=True)
class DryRun:
    """What a run would do.

    Attributes
    ----------
    study : str
    cohort : CohortPreview
    external : CohortPreview, optional
    endpoints : tuple of EndpointPreview
    models : tuple of str
        With the baselines that are added.
    tasks, there : mapping
        How many volumes, fits in folds, explanations and models on all patients there will be, and how many of them
        there are already.
    estimate : Estimate
    """

    study: str
    cohort: CohortPreview
    external: CohortPreview | None
    endpoints: tuple[EndpointPreview, ...]
    models: tuple[str, ...]
    tasks: Mapping[str, int]
    there: Mapping[str, int]
    estimate: Estimate

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON types."""
        return asdict(self)


def dry_run(
    study_file: Path | str,
    out: Path | str,
    *,
    update: bool = False,
    workers: int | None = None,
    device: DeviceName | None = None,
    precision: Precision | None = None,
) -> DryRun:
    """Say what :func:`~twobe3.study.run.run` would do and about how long it would take; nothing is written.

    Every scan is read and converted, since what cannot be used shows there alone. Scans of one patient under several
    ids are looked for when the study is run, and baselines for which a fold has too few patients are left out then.

    Parameters
    ----------
    study_file, out, update, workers, device, precision
        As of :func:`~twobe3.study.run.run`.

    Raises
    ------
    TwoBe3Error
        What :func:`~twobe3.study.run.run` refuses before it computes features.
    """
    study_file, out = Path(study_file).absolute(), Path(out).absolute()
    features = ReadOnlyCache(out / "features")
    ready = prepare(study_file, out, features, update=update, workers=workers, device=device, precision=precision)
    study, processes = ready.study, workers or ready.device.workers(available_cores())
    begin = time.perf_counter()
    cohort = _read(ready, study.cohort, out, processes)
    reading_s = time.perf_counter() - begin
    external = None
    if study.external is not None:
        external = _preview(_read(ready, study.external, out / "external", processes))
    if all(map(cohort.volumes.has, map(cohort.volume_key, cohort.subjects))):  # otherwise all would be read twice
        cohort = join_duplicates(cohort)
    plan = _make_plan(ready, cohort)
    todo = _list_work(plan, out)
    return DryRun(
        study.name,
        _preview(cohort),
        external,
        tuple(
            EndpointPreview(name, part.endpoint.kind, len(part), part.outcomes.n_events, len(plan.splits[name]))
            for name, part in plan.cohorts.items()
        ),
        tuple(model.name for model in plan.models),
        {name: work.total for name, work in todo.items()},
        {name: work.total - len(work.left) for name, work in todo.items()},
        _estimate(plan, measure(plan, features), todo, reading_s, processes),
    )


def _read(ready: PreparedStudy, section: CohortSection | ExternalSection, out: Path, workers: int) -> Cohort:
    table = ready.clinical if section is ready.study.cohort else section.read_clinical(ready.folder)
    volumes, contours = (ReadOnlyCache(out / name, keep=False) for name in ("volumes", "contours"))
    return ready.read(section, table, volumes, contours, workers)


def _preview(cohort: Cohort) -> CohortPreview:
    codes = Counter(exclusion.code for exclusion in cohort.exclusions)
    return CohortPreview(cohort.found, len(cohort), dict(sorted(codes.items())), cohort.warnings)


def _make_plan(ready: PreparedStudy, cohort: Cohort) -> CVPlan:
    """The plan of the validation, with the baselines that will be added."""
    study, validation, models = ready.study, ready.study.validation, list(ready.models)
    explained = frozenset(study.explained(models))
    if validation.baselines:
        models = add_baselines(
            models, cohort, scheme=ready.scheme, region=study.region, inner_folds=validation.inner_folds
        )
    policy = ThresholdPolicy(validation.recalibrate, validation.inner_folds, validation.seed)
    return replace(CVPlan.of(models, cohort, ready.scheme, policy), explained=explained)


class _Work(NamedTuple):
    """Tasks of one kind: how many there are in all, and of each that is left the position of its model."""

    total: int
    left: tuple[int, ...]


def _list_work(plan: CVPlan, out: Path) -> dict[str, _Work]:
    cohort, folds = plan.cohort, Cache(out / "folds")
    fits, maps, total_maps = [], [], 0
    for task, key in plan.keys().items():
        fold, there = plan.splits[task.endpoint][task.fold], folds.has(key)
        explained = len(fold.test) if plan.explains(task.model) and fold.repeat == 0 else 0
        total_maps += explained
        if not there:
            fits.append(task.model)
            maps += [task.model] * explained
    files = name_final_models(plan, out / "models")
    volumes = [i for i, one in enumerate(cohort.subjects) if not cohort.volumes.has(cohort.volume_key(one))]
    return {
        "scans on the grid": _Work(len(cohort), tuple(volumes)),
        "fits in folds": _Work(len(plan.keys()), tuple(fits)),
        "explanations": _Work(total_maps, tuple(maps)),
        "models on all patients": _Work(len(files), tuple(n for (_, n), file in files.items() if not file.exists())),
    }


def _estimate(plan: CVPlan, costs: Costs, todo: Mapping[str, _Work], reading_s: float, processes: int) -> Estimate:
    voxels, fits = math.prod(plan.cohort.grid.shape), 1 + plan.policy.inner_folds * plan.policy.recalibrate
    volumes, folds, maps, files = todo.values()
    drawn = sum(bool(subject.description.get("contour")) for subject in plan.cohort.subjects)
    timed = [cost if not math.isnan(cost.fit_s) else ModelCost(0.0, 0.0, 0.0, 0) for cost in costs.models]
    alone_s = {
        "features": costs.features_s * len(plan.cohort),
        "fits in folds": fits * sum(timed[n].fit_s for n in folds.left),
        "explanations": sum(timed[n].explain_s for n in maps.left),
        "models on all patients": sum(fits * timed[n].fit_s + timed[n].record_s for n in files.left),
    }
    return Estimate(
        {"scans on the grid": reading_s, **{step: seconds / processes for step, seconds in alone_s.items()}},
        {
            "volumes": VOXEL_BYTES * voxels * len(volumes.left),
            "contours": CONTOUR_BYTES * voxels * min(drawn, len(volumes.left)),
            "features": round(costs.features_bytes * len(plan.cohort)),
            "explanations": VOXEL_BYTES * voxels * len(maps.left),
            "models": sum(timed[n].file_bytes for n in files.left),
        },
        processes,
        f"every scan was read; features of {SAMPLE} of them, and one fit of each model (of a network two epochs) in "
        f"the first fold, with at most {PATIENTS} patients and these scans, were timed in one process, on a machine as "
        "busy as now; evaluation, report, audit and external cohort are not in it, nor that a training may stop early",
        tuple(model.name for model, one in zip(plan.models, costs.models, strict=True) if math.isnan(one.fit_s)),
    )
