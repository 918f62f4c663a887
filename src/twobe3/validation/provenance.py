"""What ``run.json`` says of a run: its configuration, how long each step took, where it ran."""

from __future__ import annotations

import logging
import os
import platform
import resource
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.errors import Exclusion
from twobe3.io.files import digest
from twobe3.models.model import Model, UndefinedFeature, drop_unusable

FEW_EVENTS = 10
log = logging.getLogger("twobe3")


@dataclass(frozen=True)
class ModelExclusions:
    """What a model cannot use of a cohort, and so is neither fitted nor judged on.

    Attributes
    ----------
    model : str
        Its name.
    n : int
        Scans of the cohort.
    scans : tuple of Exclusion
        Those that it cannot use, and why.
    features : tuple of UndefinedFeature
        Features that are not defined in some of the others.
    """

    model: str
    n: int
    scans: tuple[Exclusion, ...]
    features: tuple[UndefinedFeature, ...]

    @classmethod
    def of(cls, model: Model, cohort: Cohort) -> ModelExclusions:
        """What a model cannot use of a cohort."""
        report = model.report(cohort.without_outcomes())
        return cls(model.name, len(cohort), report.exclusions, report.undefined)

    @property
    def exclusions(self) -> tuple[Exclusion, ...]:
        """Scans, and features that a model fitted on all scans leaves out."""
        return (*self.scans, *(one.exclusion for one in self.features if one.left_out))

    def text(self) -> str:
        """One line with counts by code; empty where everything can be used."""
        said = [f"{len(self.scans)} of {self.n} scans left out ({_by_code(self.scans)})"] if self.scans else []
        features = self.exclusions[len(self.scans) :]
        said += [f"{len(features)} features left out ({_by_code(features)})"] if features else []
        return f"{self.model}: {', '.join(said)}" if said else ""


def left_out_document(left_out: Sequence[ModelExclusions]) -> dict[str, Any]:
    """As JSON: ``{"exclusions": [...], "undefined_features": [...]}``, each row with its model."""
    return {
        "exclusions": [{"model": one.model, **asdict(item)} for one in left_out for item in one.exclusions],
        "undefined_features": [{"model": one.model, **asdict(item)} for one in left_out for item in one.features],
    }


def _by_code(exclusions: Sequence[Exclusion]) -> str:
    counted = Counter(exclusion.code for exclusion in exclusions)
    return ", ".join(f"{n} {code}" for code, n in sorted(counted.items()))


@dataclass
class Stopwatch:
    """Seconds by step, in the order in which the steps began."""

    begun: float = field(default_factory=time.perf_counter)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time what runs inside."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin

    def timings(self) -> dict[str, Any]:
        """When it started, the seconds until now, the memory used so far, and the steps."""
        return {
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": time.perf_counter() - self.begun,
            "peak_memory_mib": peak_memory_mib(),
            "timings": [{"step": step, "seconds": spent} for step, spent in self.seconds.items()],
        }


def run_record(
    models: Sequence[Model],
    cohort: Cohort,
    seconds: Mapping[str, float],
    watch: Stopwatch,
    configuration: dict[str, Any],
    notes: Sequence[str],
) -> dict[str, Any]:
    """The record of a cross-validation.

    Parameters
    ----------
    models : sequence of Model
        All of them.
    cohort : Cohort
        On which.
    seconds : mapping
        By the name of each model, what fitting and predicting took.
    watch : Stopwatch
        That ran along.
    configuration : dict
        How it was validated.
    notes : sequence of str
        What a reader should know, a sentence each.
    """
    return {
        "study": "cross-validation",
        **watch.timings(),
        "configuration": configuration,
        "configuration_digest": digest([str(configuration), *(model.cache_key() for model in models)]),
        "platform": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            **_where(models),
        },
        "models": [
            {
                "name": model.name,
                "kind": model.kind,
                "description": model.summary,
                "parameters": model.public_parameters(),
                "seconds": seconds[model.name],
                "imputed": dict(model.report(cohort.without_outcomes()).imputed),
                "size": _sizes(model, cohort),
            }
            for model in models
        ],
        "notes": list(notes),
    }


def _where(models: Sequence[Model]) -> dict[str, str]:
    """On which kind of device, and in which precision, the models' networks compute."""
    told = [model.device.describe() for model in models]
    return {key: ", ".join(sorted({one[key] for one in told})) for key in ("device", "precision")}


def few_events(models: Sequence[Model], cohort: Cohort) -> list[str]:
    """A line for each endpoint with fewer than 10 events, of a binary one fewer than 10 of the rarer class.

    Each model is told with the events that it has for each parameter: one that it may fit, or of a network one that it
    trains, see :mod:`twobe3.evaluation.cohort_summary`.
    """
    lines = []
    for outcomes in cohort.endpoints:
        events = outcomes.endpoint.effective_sample_size(outcomes)
        if not outcomes.endpoint.has_events or events >= FEW_EVENTS:
            continue
        told = [_events_for_each(model, cohort.for_endpoint(outcomes.endpoint.name), events) for model in models]
        for_each = ", ".join(filter(None, told))
        lines.append(
            f"{outcomes.endpoint.name}: only {events} {'events' if events != 1 else 'event'}, fewer than {FEW_EVENTS}; "
            f"what a model seems to find may be chance. Events per parameter (parameters): {for_each}."
        )
    return lines


def told_few_events(models: Sequence[Model], cohort: Cohort) -> list[str]:
    """The lines of :func:`few_events`, told in the log too."""
    lines = few_events(models, cohort)
    for line in lines:
        log.warning("%s: %s", Code.FEW_EVENTS.name, line)
    return lines


def told_cautions(models: Sequence[Model], cohort: Cohort) -> list[str]:
    """What the models want said of their results on a cohort, once where several say the same; told in the log too."""
    lines = list(dict.fromkeys(line for model in models for line in model.report(cohort.without_outcomes()).warnings))
    for line in lines:
        log.warning("%s", line)
    return lines


def found_left_out(models: Sequence[Model], cohort: Cohort) -> tuple[ModelExclusions, ...]:
    """What each model cannot use of a cohort, told in the log too."""
    found = tuple(ModelExclusions.of(model, cohort) for model in models)
    for one in found:
        if one.text():
            log.info("%s", one.text())
    return found


def _events_for_each(model: Model, cohort: Cohort, events: int) -> str:
    report = model.report(cohort)
    count = report.n_parameters or report.size.get("trainable_parameters")
    return f"{model.name} {events / count:.2g} ({count})" if count else ""


def _sizes(model: Model, cohort: Cohort) -> dict[str, Any]:
    """By endpoint, what the model says of its size beyond its parameters."""
    names = [outcomes.endpoint.name for outcomes in cohort.endpoints]
    sizes = {name: dict(model.report(drop_unusable(model, cohort.for_endpoint(name))).size) for name in names}
    return {name: size for name, size in sizes.items() if size}


def peak_memory_mib() -> float:
    """Largest resident memory so far of any one process: this one, or a worker that has ended."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10
