"""What a cross-validation gave: its table, its artefacts, its report."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from twobe3.artefact import write_artefact, write_atomic
from twobe3.cohort import Cohort
from twobe3.evaluation.background import Background
from twobe3.evaluation.difference import needed_text
from twobe3.evaluation.metrics import METRICS
from twobe3.evaluation.results import Comparison, Evaluation, Metric, to_json
from twobe3.evaluation.table import write_decisions, write_predictions, write_survival
from twobe3.intake import cohort_document
from twobe3.models.base import Model
from twobe3.prediction import Prediction
from twobe3.report import write_report
from twobe3.splits import Fold, folds_document
from twobe3.store import ArrayStore


@dataclass(frozen=True, eq=False)
class Result:
    """What a cross-validation gave.

    Attributes
    ----------
    cohort : Cohort
        On which.
    models : tuple of Model
        As they were given.
    predictions : tuple of Prediction
        Of every model and endpoint, out of fold.
    evaluations, comparisons : tuple
        Their metrics and paired differences, with intervals.
    record : dict
        What ``run.json`` says: configuration, times, platform.
    background : Background
        Parts of the cohort, what is missing, and its size.
    splits : mapping
        Endpoint to its folds, as positions among the patients whose outcome is known.
    """

    cohort: Cohort
    models: tuple[Model, ...]
    predictions: tuple[Prediction, ...]
    evaluations: tuple[Evaluation, ...]
    comparisons: tuple[Comparison, ...]
    record: dict[str, Any]
    background: Background = field(default_factory=Background)
    splits: Mapping[str, tuple[Fold, ...]] = field(default_factory=dict)

    def table(self) -> str:
        """Every model with its primary metric and interval, best first, and the patients a comparison takes; text."""
        width = max((len(evaluation.model) for evaluation in self.evaluations), default=0)
        lines = []
        for outcomes in self.cohort.endpoints:
            primary = {e.model: e.metrics[0] for e in self.evaluations if e.endpoint == outcomes.endpoint.name}
            name = next(iter(primary.values())).name
            lines.append(f"{outcomes.endpoint.name}: {name}, {len(outcomes)} patients, {outcomes.n_events} events")
            for model, metric in sorted(primary.items(), key=lambda item: _rank(item[1])):
                lines.append(f"  {model:<{width}}  {_with_interval(metric)}")
            compared = [pair for pair in self.comparisons if pair.endpoint == outcomes.endpoint.name]
            lines += [f"  {line}" for line in needed_text(compared)]
        return "\n".join(lines)

    def write(self, folder: Path) -> None:
        """Write the artefacts.

        ``cohort.json``, ``folds.json``, ``predictions.csv``, ``evaluation.json``, ``run.json``; ``decisions.csv`` and
        ``survival.csv`` as far as the models gave any.
        """
        cohort = cohort_document(self.cohort)
        inputs = {"configuration_digest": self.record["configuration_digest"], "cohort_digest": cohort["digest"]}
        write_artefact(folder / "cohort.json", cohort)
        patients = {name: self.cohort.for_endpoint(name).patients for name in self.splits}
        write_artefact(folder / "folds.json", {**inputs, "endpoints": folds_document(self.splits, patients)})
        write_predictions(folder / "predictions.csv", self.predictions)
        write_decisions(folder / "decisions.csv", self.predictions)
        write_survival(folder / "survival.csv", self.predictions)
        judged = {**to_json(self.evaluations, self.comparisons), **self.background.document()}
        write_artefact(folder / "evaluation.json", {**inputs, **judged})
        write_artefact(folder / "run.json", {**inputs, **self.record})

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


def _rank(metric: Metric) -> float:
    """The better the lower; what could not be estimated comes last."""
    if metric.value is None:
        return np.inf
    return metric.value if METRICS[metric.name].higher_is_better is False else -metric.value


def _with_interval(metric: Metric) -> str:
    if metric.value is None:
        return "not estimable"
    interval = f"{metric.low:.2f} to {metric.high:.2f}" if metric.low is not None and metric.high is not None else "–"
    return f"{metric.value:.3f}  ({interval})"
