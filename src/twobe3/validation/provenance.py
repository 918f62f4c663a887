"""What is written down of a run: how long each step took, where it ran, what its models are, what they leave out."""

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
from typing import Any, Self

import numpy as np
import torch

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.counts import format_count
from twobe3.core.errors import Exclusion
from twobe3.evaluation.provenance import ModelProvenance, Platform, Timing
from twobe3.models.fit_report import UndefinedFeature
from twobe3.models.model import Model, drop_unusable

FEW_EVENTS = 10
log = logging.getLogger("twobe3")


@dataclass(frozen=True)
class ModelExclusions:
    """What a model cannot use of a cohort, and so is neither fitted nor evaluated on."""

    model: str
    n: int  # scans of the cohort
    scans: tuple[Exclusion, ...]  # those that it cannot use, and why
    features: tuple[UndefinedFeature, ...]  # those that are not defined in some of the other scans

    @classmethod
    def of(cls, model: Model, cohort: Cohort) -> Self:
        """What a model cannot use of a cohort."""
        report = model.report(cohort.without_outcomes())
        return cls(model.name, len(cohort), report.exclusions, report.undefined)

    @property
    def exclusions(self) -> tuple[Exclusion, ...]:
        """Scans, and features that a model fitted on all scans leaves out."""
        return (*self.scans, *(one.exclusion for one in self.features if one.left_out))

    def text(self) -> str:
        """One line with counts by code; empty where everything can be used."""
        parts = [f"{len(self.scans)} of {self.n} scans left out ({_by_code(self.scans)})"] if self.scans else []
        features = self.exclusions[len(self.scans) :]
        parts += [f"{format_count(len(features), 'feature')} left out ({_by_code(features)})"] if features else []
        return f"{self.model}: {', '.join(parts)}" if parts else ""


def exclusions_document(excluded: Sequence[ModelExclusions]) -> dict[str, Any]:
    """As JSON: ``{"exclusions": [...], "undefined_features": [...]}``, each row with its model."""
    return {
        "exclusions": [{"model": one.model, **asdict(item)} for one in excluded for item in one.exclusions],
        "undefined_features": [{"model": one.model, **asdict(item)} for one in excluded for item in one.features],
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
            self.add(name, time.perf_counter() - begin)

    def add(self, name: str, seconds: float) -> None:
        """Add seconds to a step."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def read(self) -> dict[str, Any]:
        """The attributes of a :class:`Provenance` that are measured, until now."""
        return {
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": time.perf_counter() - self.begun,
            "peak_memory_mib": peak_memory_mib(),
            "timings": tuple(Timing(step, seconds) for step, seconds in self.seconds.items()),
        }


def describe_platform(models: Sequence[Model]) -> Platform:
    """Where a run computes."""
    devices = [model.device.describe() for model in models]
    return Platform(
        python=platform.python_version(),
        torch=torch.__version__,
        numpy=np.__version__,
        processor=platform.machine(),
        cores=os.cpu_count(),
        **{key: ", ".join(sorted({device[key] for device in devices})) for key in ("device", "precision", "maps")},
    )


def describe_model(
    model: Model, cohort: Cohort, seconds: float, parts: Mapping[str, Mapping[str, float]]
) -> ModelProvenance:
    """What a run says of a model that was validated on a cohort in some seconds; ``parts`` are its shares of risk."""
    names = [outcomes.endpoint.name for outcomes in cohort.endpoints]
    sizes = {name: dict(model.report(drop_unusable(model, cohort.for_endpoint(name))).size) for name in names}
    sizes = {name: size for name, size in sizes.items() if size}
    imputed = dict(model.report(cohort.without_outcomes()).imputed)
    return ModelProvenance(
        model.name, model.kind, model.summary, model.public_parameters(), seconds, imputed, sizes, parts
    )


def warn_of_few_events(models: Sequence[Model], cohort: Cohort) -> list[str]:
    """A sentence for each endpoint with fewer than 10 events (binary: of the rarer class), also logged.

    Each model is named with its events per parameter: one that it may fit, or of a network one that it trains, see
    :mod:`twobe3.evaluation.cohort_summary`.
    """
    lines = []
    for outcomes in cohort.endpoints:
        events = outcomes.endpoint.effective_sample_size(outcomes)
        if not outcomes.endpoint.has_events or events >= FEW_EVENTS:
            continue
        subset = cohort.for_endpoint(outcomes.endpoint.name)
        ratios = ", ".join(filter(None, (_events_per_parameter(model, subset, events) for model in models)))
        lines.append(
            f"{outcomes.endpoint.name}: only {events} {'events' if events != 1 else 'event'}, fewer than {FEW_EVENTS}; "
            f"what a model seems to find may be chance. Events per parameter (parameters): {ratios}."
        )
        log.warning("%s: %s", Code.FEW_EVENTS.name, lines[-1])
    return lines


def collect_warnings(models: Sequence[Model], cohort: Cohort) -> list[str]:
    """What the models want said of their results on a cohort, each sentence once, also logged."""
    lines = list(dict.fromkeys(line for model in models for line in model.report(cohort.without_outcomes()).warnings))
    for line in lines:
        log.warning("%s", line)
    return lines


def find_exclusions(models: Sequence[Model], cohort: Cohort) -> tuple[ModelExclusions, ...]:
    """What each model cannot use of a cohort, also logged."""
    found = tuple(ModelExclusions.of(model, cohort) for model in models)
    for one in found:
        if one.text():
            log.info("%s", one.text())
    return found


def _events_per_parameter(model: Model, cohort: Cohort, events: int) -> str:
    report = model.report(cohort)
    count = report.n_parameters or report.size.get("trainable_parameters")
    return f"{model.name} {events / count:.2g} ({count})" if count else ""


def peak_memory_mib() -> float:
    """Largest resident memory so far of any one process: this one, or a worker that has ended."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10
