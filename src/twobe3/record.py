"""What ``run.json`` says of a run: its configuration, how long each step took, where it ran."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from twobe3.artefact import digest
from twobe3.models.base import Model


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
    models: Sequence[Model], seconds: Mapping[str, float], watch: Stopwatch, configuration: dict[str, Any]
) -> dict[str, Any]:
    """The record of a cross-validation.

    Parameters
    ----------
    models : sequence of Model
        All of them.
    seconds : mapping
        By the name of each model, what fitting and predicting took.
    watch : Stopwatch
        That ran along.
    configuration : dict
        How it was validated.
    """
    return {
        "study": "cross-validation",
        **watch.timings(),
        "configuration": configuration,
        "configuration_digest": digest([str(configuration), *(model.identity() for model in models)]),
        "platform": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
        "models": [
            {
                "name": model.name,
                "kind": model.kind,
                "description": model.summary,
                "parameters": model.public_parameters(),
                "seconds": seconds[model.name],
            }
            for model in models
        ],
        "notes": [],
    }


def peak_memory_mib() -> float:
    """Largest resident memory so far of any one process: this one, or a worker that has ended."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10
