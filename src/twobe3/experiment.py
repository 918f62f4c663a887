"""The study as a whole: every model on the same folds, judged and compared; resumable at every step."""

from __future__ import annotations

import logging
import os
import platform
import re
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from twobe3 import __version__
from twobe3.artefact import SCHEMA_VERSION, digest, write_atomic, write_json
from twobe3.cohort import Cohort, Fold
from twobe3.config import StudyConfig, read_study
from twobe3.errors import Code, UsageError
from twobe3.evaluation.evaluate import compare, evaluate
from twobe3.evaluation.results import Comparison, Evaluation, to_json
from twobe3.evaluation.table import write_predictions
from twobe3.features.maps import FeatureStore
from twobe3.intake import cohort_document, read_cohort
from twobe3.models.base import Model
from twobe3.outcome import Prediction
from twobe3.progress import track
from twobe3.report import write_report
from twobe3.store import ArrayStore

log = logging.getLogger("twobe3")


@dataclass(frozen=True, eq=False)
class Result:
    """What a cross-validation gave.

    Attributes
    ----------
    cohort : Cohort
        On which.
    models : tuple of Model
        As they were given, unfitted.
    predictions : tuple of Prediction
        Of every model and endpoint, out of fold.
    evaluations, comparisons : tuple
        Their metrics and paired differences, with intervals.
    record : dict
        What ``run.json`` says: configuration, times, platform.
    """

    cohort: Cohort
    models: tuple[Model, ...]
    predictions: tuple[Prediction, ...]
    evaluations: tuple[Evaluation, ...]
    comparisons: tuple[Comparison, ...]
    record: dict[str, Any]

    def table(self) -> str:
        """Every model with its primary metric, 95 % interval, patients and events, best first; plain text."""
        width = max(len(evaluation.model) for evaluation in self.evaluations)
        lines = []
        for outcomes in self.cohort.endpoints:
            judged = [item for item in self.evaluations if item.endpoint == outcomes.endpoint.name]
            metric = judged[0].metrics[0].name
            lines.append(f"{outcomes.endpoint.name}: {metric}, {len(outcomes)} patients, {outcomes.n_events} events")
            for item in sorted(judged, key=lambda item: -(item.metrics[0].value or 0.0)):
                lines.append(f"  {item.model:<{width}}  {_with_interval(item)}")
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write ``cohort.json``, ``predictions.csv``, ``evaluation.json`` and ``run.json``."""
        write_json(folder / "cohort.json", _artefact(cohort_document(self.cohort)))
        write_predictions(folder / "predictions.csv", self.predictions)
        write_json(folder / "evaluation.json", _artefact(to_json(self.evaluations, self.comparisons)))
        write_json(folder / "run.json", _artefact(self.record))

    def report(self, path: Path | str) -> Path:
        """Write the report as one offline HTML file, without leaving the artefacts beside it."""
        path = Path(path)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            shown = replace(self.cohort, volumes=ArrayStore(folder / "volumes"))
            for study in self.cohort.studies:
                shown.volumes.put(shown.volume_key(study), {"suv": self.cohort.volume(study)}, metadata=shown.notes())
            self.write(folder)
            write_atomic(path, write_report(folder).read_bytes())
        return path


@dataclass
class Stopwatch:
    """Seconds by step, in the order in which the steps began."""

    started: float = field(default_factory=time.perf_counter)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


def cross_validate(
    models: Sequence[Model],
    cohort: Cohort,
    *,
    folds: int = 5,
    repeats: int = 5,
    seed: int = 0,
    resamples: int = 2000,
    checkpoints: ArrayStore | None = None,
) -> Result:
    """Predict every patient out of fold with every model, on the same folds, and judge the predictions.

    Parameters
    ----------
    models : sequence of Model
        Unfitted, of different names.
    cohort : Cohort
        With one endpoint or several; patients without an endpoint's outcome are left out for that endpoint.
    folds, repeats, seed : int
        See :meth:`twobe3.cohort.Cohort.folds`.
    resamples : int
        Bootstrap samples for the intervals.
    checkpoints : ArrayStore, optional
        Where the predictions of each fold are kept, so that an interrupted run goes on where it stopped.

    Returns
    -------
    Result
        With the table, the comparisons, and the report.

    Raises
    ------
    UsageError
        ``ONE_CLASS``, ``FEWER_PATIENTS_THAN_FOLDS``, ``FEWER_EVENTS_THAN_FOLDS``.
    """
    watch, checkpoints = Stopwatch(), checkpoints or ArrayStore()
    # Refuse what cannot be split before any feature is computed.
    splits = {
        outcomes.endpoint.name: cohort.for_endpoint(outcomes.endpoint.name).folds(folds, repeats, seed)
        for outcomes in cohort.endpoints
    }
    with watch.step("features"):
        for model in models:
            model.prepare(cohort)
    predictions: list[Prediction] = []
    seconds = {model.name: 0.0 for model in models}
    with watch.step("cross-validation"):
        for name, split in splits.items():
            subset = cohort.for_endpoint(name)
            for model in models:
                prediction, spent = _out_of_fold(model, subset, split, checkpoints)
                predictions.append(prediction)
                seconds[model.name] += spent
    with watch.step("evaluation"):
        evaluations, comparisons = _judge(predictions, cohort, resamples, seed)
    validation = {"folds": folds, "repeats": repeats, "seed": seed, "resamples": resamples}
    record = _record(watch, models, seconds, {"validation": validation})
    return Result(cohort, tuple(models), tuple(predictions), evaluations, comparisons, record)


def run(study_file: Path | str, out: Path | str, *, update: bool = False) -> Result:
    """Run a whole study: cohort, features, models, evaluation, report, and the models fitted on all patients.

    What stands in the output folder from an interrupted run is not computed again.

    Parameters
    ----------
    study_file : path
        The study file, see ``examples/sts.toml``.
    out : path
        Output folder.
    update : bool
        Allow a folder that holds another study: what both share is reused, the artefacts are replaced.

    Raises
    ------
    TwoBe3Error
        Whatever is wrong with the study file, the table or the scans.
    """
    study_file, out = Path(study_file), Path(out)
    study = read_study(study_file)
    _claim(out, study, update)
    store, watch, started = FeatureStore(out / "features"), Stopwatch(), datetime.now(UTC)
    models = study.models(study_file.parent, store)
    with watch.step("cohort"):
        cohort = read_cohort(
            study_file.parent / study.cohort.images,
            clinical=study_file.parent / study.cohort.clinical,
            endpoints=[section.endpoint() for section in study.endpoint],
            patient=study.cohort.patient,
            centre=study.cohort.centre,
            spec=study.volume.spec(),
            volumes=out / "volumes",
            policy=study.cohort.policy,
        )
    validation = study.validation
    result = cross_validate(
        models,
        cohort,
        folds=validation.folds,
        repeats=validation.repeats,
        seed=validation.seed,
        resamples=validation.resamples,
        checkpoints=ArrayStore(out / "folds"),
    )
    with watch.step("final models"):
        _fit_final(models, cohort, out / "models")
    timings = [{"step": "cohort", "seconds": watch.seconds["cohort"]}, *result.record["timings"]]
    record = {
        **result.record,
        "study": study.name,
        "started": started.isoformat(timespec="seconds"),
        "seconds": time.perf_counter() - watch.started,
        "peak_memory_mib": peak_memory_mib(),
        "configuration": study.document(),
        "configuration_digest": study.identity(),
        "timings": [*timings, {"step": "final models", "seconds": watch.seconds["final models"]}],
        "notes": list(study.notes),
    }
    result = replace(result, record=record)
    write_json(
        out / "folds.json", _artefact(_folds_document(cohort, validation.folds, validation.repeats, validation.seed))
    )
    result.write(out)
    write_report(out)
    return result


def peak_memory_mib() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


def file_name(name: str) -> str:
    """A name made safe as part of a file name: ``"tlg (SUV > 4)"`` becomes ``"tlg-suv-4"``."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or digest([name])[:12]


def _out_of_fold(
    model: Model, cohort: Cohort, split: Sequence[Fold], checkpoints: ArrayStore
) -> tuple[Prediction, float]:
    """Predictions of all test parts, and the seconds that fitting and predicting took when it was done."""
    parts, spent, reused = [], 0.0, 0
    for fold in track(split, model.name):
        key = _fold_key(model, cohort, fold)
        arrays = checkpoints.get(key)
        reused += arrays is not None
        if arrays is None:
            begin = time.perf_counter()
            prediction = model.fit(cohort.take(fold.train)).predict(cohort.take(fold.test))
            arrays = {"risk": prediction.risk, "seconds": np.array([time.perf_counter() - begin])}
            if prediction.probability is not None:
                arrays["probability"] = prediction.probability
            checkpoints.put(key, arrays)
        spent += float(arrays["seconds"][0])
        probability = np.asarray(arrays["probability"], np.float64) if "probability" in arrays else None
        patients = cohort.take(fold.test).patients
        risk = np.asarray(arrays["risk"], np.float64)
        part = Prediction(model.name, cohort.endpoint.name, patients, risk, probability)
        parts.append(part.in_fold(fold.repeat, fold.fold))
    if reused:
        log.info("%s: %d of %d folds were there from an earlier run", model.name, reused, len(split))
    return Prediction.concatenate(parts), spent


def _fold_key(model: Model, cohort: Cohort, fold: Fold) -> str:
    """Digest of everything that the predictions of one fold depend on."""
    outcomes = cohort.outcomes
    parts: list[bytes | str] = [__version__, model.identity(), str(cohort.endpoint)]
    for index in (fold.train, fold.test):
        for study in cohort.take(index).studies:
            parts += [cohort.volume_key(study), study.patient_id, study.centre, str(sorted(study.covariates.items()))]
        parts += [outcomes.value[index].tobytes(), outcomes.event[index].tobytes()]
    return digest(parts)


def _judge(
    predictions: Sequence[Prediction], cohort: Cohort, resamples: int, seed: int
) -> tuple[tuple[Evaluation, ...], tuple[Comparison, ...]]:
    evaluations: list[Evaluation] = []
    comparisons: list[Comparison] = []
    for outcomes in cohort.endpoints:
        of_endpoint = [item for item in predictions if item.endpoint == outcomes.endpoint.name]
        for prediction in track(of_endpoint, f"intervals: {outcomes.endpoint.name}"):
            evaluations.append(evaluate(prediction, outcomes, resamples=resamples, seed=seed))
        comparisons += compare(of_endpoint, outcomes, resamples=resamples, seed=seed)
    return tuple(evaluations), tuple(comparisons)


def _fit_final(models: Sequence[Model], cohort: Cohort, folder: Path) -> None:
    """Fit every model on all patients and save it, unless the same one is there already."""
    work = [(outcomes.endpoint.name, model) for outcomes in cohort.endpoints for model in models]
    for name, model in track(work, "models on all patients"):
        subset = cohort.for_endpoint(name)
        everyone = np.arange(len(subset))
        made_of = _fold_key(model, subset, Fold(0, 0, everyone, everyone[:0]))
        target = folder / f"{file_name(name)}.{file_name(model.name)}.{made_of[:12]}.safetensors"
        if not target.exists():
            model.fit(subset).save(target)


def _claim(out: Path, study: StudyConfig, update: bool) -> None:
    """Make the folder this study's; refuse one that holds another."""
    marker = out / "study.sha256"
    there = marker.read_text().strip() if marker.exists() else None
    if there not in (None, study.identity()) and not update:
        raise UsageError(
            Code.OUTPUT_EXISTS,
            "the output folder holds the results of another study file, or of an earlier state of this one",
            remedy="choose another folder, or add --update to replace them and reuse what both share",
        )
    write_atomic(marker, f"{study.identity()}\n".encode())


def _folds_document(cohort: Cohort, folds: int, repeats: int, seed: int) -> dict[str, Any]:
    endpoints = []
    for outcomes in cohort.endpoints:
        subset = cohort.for_endpoint(outcomes.endpoint.name)
        parts = [
            {"repeat": fold.repeat, "fold": fold.fold, "test": [subset.studies[i].patient for i in fold.test]}
            for fold in subset.folds(folds, repeats, seed)
        ]
        endpoints.append({"endpoint": outcomes.endpoint.name, "folds": parts})
    return {"seed": seed, "endpoints": endpoints}


def _record(
    watch: Stopwatch, models: Sequence[Model], seconds: dict[str, float], configuration: dict[str, Any]
) -> dict[str, Any]:
    return {
        "study": "cross-validation",
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": time.perf_counter() - watch.started,
        "peak_memory_mib": peak_memory_mib(),
        "configuration": configuration,
        "configuration_digest": digest([str(configuration), *(model.identity() for model in models)]),
        "platform": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
        "timings": [{"step": step, "seconds": spent} for step, spent in watch.seconds.items()],
        "models": [
            {
                "name": model.name,
                "kind": model.kind,
                "description": model.summary,
                "parameters": _shown(model),
                "seconds": seconds[model.name],
            }
            for model in models
        ],
        "notes": [],
    }


def _shown(model: Model) -> dict[str, Any]:
    """Parameters without folders: a weights file is told by its name."""
    parameters = model.parameters()
    return {**parameters, **({"weights": Path(parameters["weights"]).name} if "weights" in parameters else {})}


def _with_interval(evaluation: Evaluation) -> str:
    metric = evaluation.metrics[0]
    if metric.value is None:
        return "not estimable"
    interval = f"{metric.low:.2f} to {metric.high:.2f}" if metric.low is not None and metric.high is not None else "–"
    return f"{metric.value:.3f}  ({interval})"


def _artefact(document: dict[str, Any]) -> dict[str, Any]:
    return {"schema": SCHEMA_VERSION, "package_version": __version__, **document}
