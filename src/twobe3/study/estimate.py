"""How long a study will take and how much disk it needs, estimated from a few scans and from short trainings.

Fits are timed on the first fold as it is, patients and outcomes, in which a few scans stand for all: so nothing is
computed of the others. A network trains one epoch and then two there; the difference counts for every epoch.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from twobe3.cohort.cohort import Cohort
from twobe3.core.errors import TwoBe3Error
from twobe3.explain.explain import explain
from twobe3.io.cache import Cache, ReadOnlyCache
from twobe3.models import Fusion, Model
from twobe3.models.model import training_record
from twobe3.models.nn.neural_model import NeuralModel
from twobe3.runtime.process import one_thread
from twobe3.runtime.progress import track
from twobe3.validation.plan import CVPlan

SAMPLE = 3
"""Scans that stand for all."""
PATIENTS = 40
"""Training patients of a fit that is timed, at most; the time of more is taken to be in proportion."""


@dataclass(frozen=True)
class ModelCost:
    """What one model costs, in one process.

    Attributes
    ----------
    fit_s, explain_s, record_s : float
        Seconds of a fit in one fold with its prediction, of the explanation of one patient, and of what a model file
        tells of its training patients; NaN where no fit could be timed.
    file_bytes : int
        Size of the fitted model.
    """

    fit_s: float
    explain_s: float
    record_s: float
    file_bytes: int


@dataclass(frozen=True)
class Costs:
    """What the scans and the models of a study cost, in one process.

    Attributes
    ----------
    features_s : float
        Seconds that features of all models take of one scan.
    features_bytes : float
        Their size.
    models : tuple of ModelCost
        In the order of the plan.
    """

    features_s: float
    features_bytes: float
    models: tuple[ModelCost, ...]


def measure(plan: CVPlan, cache: ReadOnlyCache) -> Costs:
    """Measure what a few scans and one fit of each model cost.

    Parameters
    ----------
    plan : CVPlan
    cache : ReadOnlyCache
        That of the models, which keeps what is computed.
    """
    with one_thread(), _silence():
        sample = _draw_sample(plan.cohort)
        seconds = [_time(partial(_precompute, plan, sample.subset([i]))) for i in range(len(sample))]
        training, tested = plan.parts(next(iter(plan.splits)), 0)
        several = max(1.0, len(training) / PATIENTS)
        training, tested = (_stand_in(part.subset(_spread(len(part), PATIENTS)), sample) for part in (training, tested))
        costs: dict[str, ModelCost] = {}
        for number, model in enumerate(track(plan.models, "timing of models")):
            if not isinstance(model, Fusion):
                costs[model.name] = _measure_model(model, training, tested, several, plan.explains(number))
    for model in plan.models:
        if isinstance(model, Fusion):
            costs[model.name] = _cost_of_fusion(model, costs)
    return Costs(
        statistics.median(seconds), cache.size_bytes() / len(sample), tuple(costs[m.name] for m in plan.models)
    )


@contextmanager
def _silence() -> Iterator[None]:
    """Without messages: what they say of trainings that are not meant is not true."""
    logger = logging.getLogger("twobe3")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def _time(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _draw_sample(cohort: Cohort) -> Cohort:
    """A few scans, evenly from the whole cohort, in memory."""
    sample = replace(cohort.subset(_spread(len(cohort), SAMPLE)), volumes=Cache(), contours=Cache())
    for subject in sample.subjects:
        sample.volume(subject)
        sample.contour(subject)
    return sample


def _spread(n: int, most: int) -> list[int]:
    """At most so many of n positions, evenly from the first to the last."""
    return [*range(n)] if n <= most else np.linspace(0, n - 1, most).round().astype(int).tolist()


def _precompute(plan: CVPlan, scan: Cohort) -> None:
    for model in plan.models:
        model.precompute(scan)


def _stand_in(cohort: Cohort, sample: Cohort) -> Cohort:
    """The same patients and outcomes with the scans of the sample, in turn."""
    subjects = tuple(
        replace(subject, scan=other.scan, description=other.description)
        for i, subject in enumerate(cohort.subjects)
        for other in (sample.subjects[i % len(sample)],)
    )
    return replace(cohort, subjects=subjects, volumes=sample.volumes, contours=sample.contours)


def _measure_model(model: Model, training: Cohort, tested: Cohort, several: float, explained: bool) -> ModelCost:
    """One fit, its prediction, its record and one explanation; for several times as many patients."""
    try:
        seconds, fitted = _time_fit(model, training, several)
        seconds += several * _time(lambda: fitted.predict(tested.without_outcomes()))
        record_s = several * _time(lambda: training_record(fitted))
        alone = tested.subset([0]).without_outcomes()
        contour = alone.contour(alone.subjects[0])
        explain_s = _time(lambda: explain(fitted, alone, contour=contour)) if explained else 0.0
    except (TwoBe3Error, ValueError):  # the scans of the sample are none for this model
        return ModelCost(math.nan, math.nan, math.nan, 0)
    return ModelCost(seconds, explain_s, record_s, sum(array.nbytes for array in fitted._arrays().values()))


def _time_fit(model: Model, training: Cohort, several: float) -> tuple[float, Model]:
    """Seconds of a whole fit for several times as many patients, and a fitted model."""
    if not isinstance(model, NeuralModel):
        return several * _time(lambda: model.fit(training)), model
    steps = max(1, math.ceil(several * len(training) / model.batch_size))
    epochs = model.training.epochs_of(steps)
    one, two = (model.clone().set_params(epochs=n) for n in (1, 2))
    first, second = _time(lambda: one.fit(training)), _time(lambda: two.fit(training))
    return several * (first + (epochs - 1) * max(0.0, second - first)), two


def _cost_of_fusion(model: Fusion, costs: dict[str, ModelCost]) -> ModelCost:
    """Members are fitted once for the study; learnt weights need them once more for each inner fold."""
    members = [
        costs.get(one.name) or (_cost_of_fusion(one, costs) if isinstance(one, Fusion) else None) for one in model.of
    ]
    again = 0 if model.weights == "equal" else model.inner_folds
    known = [one for one in members if one is not None]
    return ModelCost(
        again * sum(one.fit_s for one in known),
        sum(one.explain_s for one in known),
        sum(one.record_s for one in known),
        sum(one.file_bytes for one in known),
    )
