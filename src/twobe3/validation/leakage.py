"""The leakage audit: is anything learnt from the patients who are tested, or from what must not matter?"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import Scheme
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.binary import auc_within_folds
from twobe3.evaluation.survival import harrell_c_within_folds
from twobe3.io.cache import Arrays, Cache
from twobe3.runtime.device import CPU
from twobe3.runtime.parallel import run_tasks
from twobe3.validation.cross_validate import (
    PREDICTED,
    CVPlan,
    Fit,
    concat_folds,
    fit_fold,
    fit_folds,
    require_enough,
    together,
)

LEVEL = 0.95
log = logging.getLogger("twobe3")


@dataclass(frozen=True)
class Permuted:
    """What a model predicts of outcomes that were dealt out to the patients at random.

    Attributes
    ----------
    endpoint, model, metric : str
        Their names; the metric counts pairs that were tested in one fold only, so that its expectation is ½.
    permutations : int
        Cross-validations, each on outcomes of its own, that could be judged.
    mean, low, high : float or None
        The metric's mean over permutations, and its 95 % interval (Student's t); None for fewer than two.
    """

    endpoint: str
    model: str
    metric: str
    permutations: int
    mean: float | None
    low: float | None
    high: float | None

    @property
    def covers_half(self) -> bool:
        """Whether the interval covers ½, as it must unless something leaks; not where it isn't estimable."""
        return self.low is not None and self.high is not None and self.low <= 0.5 <= self.high


@dataclass(frozen=True)
class Audit:
    """What was looked for, and found.

    Attributes
    ----------
    folds : int
        Checked, of all endpoints.
    shared : tuple of str
        Folds in which a person, or a duplicate of one, both trains and is tested.
    joined : int
        Patient ids that are another patient's too: scans of the same content or nearly the same picture.
    seeing : tuple of str
        Models whose predictions or decisions change with the outcomes of the patients they are tested on.
    permuted : tuple of Permuted
        For each model of each binary and time-to-event endpoint.
    site : str or None
        The model that knows the centre alone; None where there is none.
    """

    folds: int
    shared: tuple[str, ...]
    joined: int
    seeing: tuple[str, ...]
    permuted: tuple[Permuted, ...]
    site: str | None

    @property
    def passed(self) -> bool:
        """Whether no test patient was seen; an interval that misses ½ is told, but 1 in 20 does by chance."""
        return not (self.shared or self.seeing)

    def text(self) -> str:
        """One line for the report."""
        rows = [row for row in self.permuted if row.low is not None]
        covering = sum(row.covers_half for row in rows)
        said = [
            f"{len(self.shared)} of {self.folds} folds have a person on both sides",
            f"{self.joined} ids are duplicates of another and stay in its fold",
            f"{len(self.seeing)} models change with the outcomes of the patients they are tested on",
        ]
        if rows:
            said.append(f"with permuted outcomes the interval of {covering} of {len(rows)} models covers 0.5")
        said.append(
            "what the centre alone predicts is " + (f"in the table ({self.site})" if self.site else "not asked")
        )
        return f"Leakage audit {'passed' if self.passed else 'FAILED'}: {'; '.join(said)}."

    def document(self) -> dict[str, Any]:
        """As JSON types."""
        rows = [{**asdict(row), "covers_half": row.covers_half} for row in self.permuted]
        return {"passed": self.passed, "text": self.text(), **asdict(self), "permuted": rows}


def audit(
    fits: CVPlan,
    made: Mapping[Fit, Arrays],
    scheme: Scheme,
    *,
    permutations: int = 20,
    seed: int = 0,
    checkpoints: Cache | None = None,
    workers: int = 1,
) -> Audit:
    """Audit a validation.

    Every model is fitted once more on the first fold of each endpoint with the outcomes of that fold's tested patients
    changed, those of other endpoints too: all that it predicts and decides must be the same bits (what was computed on
    a GPU is compared on the CPU). And the whole validation, splits included, is repeated with permuted outcomes.

    Parameters
    ----------
    fits : CVPlan
        What was validated.
    made : mapping
        What :func:`~twobe3.validation.cross_validate.out_of_fold` gave for it.
    scheme : Scheme
        How it was split.
    permutations : int
        Validations with permuted outcomes.
    seed : int
        Permutation ``k`` is drawn by ``(seed, k)``.
    checkpoints : Cache, optional
        Where their folds are kept.
    workers : int
        Processes.
    """
    folds = [(endpoint, fold) for endpoint, split in fits.splits.items() for fold in split]
    found = Audit(
        len(folds),
        tuple(shared_persons(fits)),
        sum(bool(subject.duplicate_of) for subject in fits.cohort.subjects),
        tuple(sorted(_seeing(fits, made, workers))),
        permuted_outcomes(fits, scheme, permutations, seed, checkpoints or Cache(), workers),
        next((model.name for model in fits.models if model.get_params().get("variable") == "centre"), None),
    )
    (log.info if found.passed else log.warning)("%s", found.text())
    return found


def shared_persons(fits: CVPlan) -> Iterator[str]:
    """The folds in which a person is on both sides, under whatever id."""
    for endpoint, split in fits.splits.items():
        groups = np.array([subject.group for subject in fits.cohorts[endpoint].subjects])
        for fold in split:
            if np.isin(groups[fold.train], groups[fold.test]).any():
                yield f"{endpoint}: repeat {fold.repeat}, fold {fold.fold}"


def permuted_outcomes(
    fits: CVPlan, scheme: Scheme, permutations: int, seed: int, checkpoints: Cache, workers: int
) -> tuple[Permuted, ...]:
    """Repeat the whole validation with outcomes that were dealt out at random."""
    values: dict[tuple[str, str], list[float]] = {
        (outcomes.endpoint.name, model.name): []
        for outcomes in fits.cohort.endpoints
        if outcomes.endpoint.has_events
        for model in fits.models
    }
    dealt = list(_dealt(fits, scheme, permutations, seed))
    made = _all_folds(dealt, checkpoints, workers)
    for permuted, folds in zip(dealt, made, strict=True):
        for (endpoint, model), found in values.items():
            position = next(i for i, item in enumerate(fits.models) if item.name == model)
            prediction = concat_folds(permuted, folds, endpoint, position)
            found.append(_within_folds(prediction, permuted.cohorts[endpoint].outcomes))
    metric = {o.endpoint.name: f"{o.endpoint.primary_metric}_within_folds" for o in fits.cohort.endpoints}
    return tuple(_summary(endpoint, model, metric[endpoint], found) for (endpoint, model), found in values.items())


def _dealt(fits: CVPlan, scheme: Scheme, permutations: int, seed: int) -> Iterator[CVPlan]:
    """The same study with permuted outcomes, without those that by chance leave a part nothing to learn from."""
    for number in range(permutations):
        rng = np.random.default_rng([seed, number])
        endpoints = tuple(
            replace(outcomes.subset(rng.permutation(len(outcomes))), patients=outcomes.patients, groups=outcomes.groups)
            for outcomes in fits.cohort.endpoints
        )
        try:
            dealt = CVPlan.of(fits.models, replace(fits.cohort, endpoints=endpoints), scheme, fits.how)
            require_enough(dealt)
            yield dealt
        except ConfigurationError as error:
            if error.code not in (Code.ONE_CLASS, Code.FEWER_EVENTS_THAN_FOLDS):
                raise


def _all_folds(dealt: Sequence[CVPlan], checkpoints: Cache, workers: int) -> list[dict[Fit, Arrays]]:
    """Every fold of every permutation, from its checkpoint where there is one."""
    keys = {(number, fit): key for number, fits in enumerate(dealt) for fit, key in fits.keys().items()}
    made = {task: arrays for task, key in keys.items() if (arrays := checkpoints.get(key)) is not None}
    missing = [
        (number, task)
        for number, fits in enumerate(dealt)
        for task in together(fits, [fit for of, fit in keys if of == number and (of, fit) not in made])
    ]
    done = run_tasks(_fit, missing, shared=dealt, workers=workers, description="audit: permuted outcomes")
    for (number, task), found in done:
        for fit, arrays in zip(task, found, strict=True):
            checkpoints.put(keys[number, fit], arrays)
            made[number, fit] = arrays
    folds: list[dict[Fit, Arrays]] = [{} for _ in dealt]
    for number, fit in keys:
        folds[number][fit] = made[number, fit]
    return folds


def _fit(dealt: Sequence[CVPlan], task: tuple[int, tuple[Fit, ...]]) -> list[Arrays]:
    number, fits = task
    return fit_folds(dealt[number], fits)


def _within_folds(prediction: Prediction, outcomes: Outcomes) -> float:
    """AUC or C over pairs tested in one fold, mean over repeats; NaN where a repeat has no such pair."""
    assert prediction.repeat is not None
    assert prediction.fold is not None
    statistic = harrell_c_within_folds if outcomes.endpoint.has_times else auc_within_folds
    if not len(prediction):
        return float("nan")  # the model could use none of the scans
    patients = np.array(prediction.patients)
    values = []
    for repeat in np.unique(prediction.repeat):
        rows = prediction.repeat == repeat
        told = outcomes.of(patients[rows].tolist())
        computed = statistic(prediction.risk[rows], told, prediction.fold[rows]).compute(np.ones((1, len(told))))
        values.append(float(computed[0]))
    return float(np.mean(values))


def _summary(endpoint: str, model: str, metric: str, values: list[float]) -> Permuted:
    known = np.array([value for value in values if np.isfinite(value)])
    if len(known) < 2:
        return Permuted(endpoint, model, metric, len(known), None, None, None)
    mean, error = float(known.mean()), float(known.std(ddof=1) / np.sqrt(len(known)))
    margin = float(stats.t.ppf((1 + LEVEL) / 2, len(known) - 1)) * error
    return Permuted(endpoint, model, metric, len(known), mean, mean - margin, mean + margin)


def _seeing(fits: CVPlan, made: Mapping[Fit, Arrays], workers: int) -> Iterator[str]:
    """Models that predict or decide otherwise when the outcomes of the first fold's tested patients are others.

    What was not computed on the CPU is fitted there twice: elsewhere two fits may differ for no reason.
    """
    here = replace(fits, models=tuple(model.clone(device=CPU) for model in fits.models))
    tasks = [(endpoint, number, 0) for endpoint in fits.cohorts for number in range(len(fits.models))]
    elsewhere = [fit for fit in tasks if here.models[fit[1]].cache_key() != fits.models[fit[1]].cache_key()]
    how: dict[str, Any] = {"workers": workers, "description": "audit: outcomes"}
    expected = {**made, **dict(run_tasks(fit_fold, elsewhere, shared=here, **how) if elsewhere else ())}
    tampered = replace(here, cohorts={endpoint: _tampered(fits, endpoint) for endpoint in fits.cohorts})
    for fit, arrays in run_tasks(fit_fold, tasks, shared=tampered, **how):
        if not all(np.array_equal(arrays[name], expected[fit][name]) for name in PREDICTED if name in arrays):
            yield f"{fits.models[fit[1]].name} ({fit[0]})"


def _tampered(fits: CVPlan, endpoint: str) -> Cohort:
    """The cohort of an endpoint where the patients tested in its first fold have other outcomes, of all endpoints."""
    cohort, fold = fits.cohorts[endpoint], fits.splits[endpoint][0]
    tested = {cohort.patients[i] for i in fold.test}
    others = tuple(_changed(outcomes, tested) for outcomes in cohort.other_endpoints)
    return replace(cohort, endpoints=(_changed(cohort.outcomes, tested),), other_endpoints=others)


def _changed(outcomes: Outcomes, patients: Collection[str]) -> Outcomes:
    """Other outcomes for these patients.

    Two classes change places; times and values are dealt out in reverse, so that the times observed stay the same.
    """
    which = np.flatnonzero([patient in patients for patient in outcomes.patients])
    if outcomes.endpoint.has_classes:
        event = outcomes.event.copy()
        event[which] = ~event[which]
        return replace(outcomes, event=event, value=event.astype(np.float64))
    order = np.arange(len(outcomes))
    order[which] = which[::-1]
    return replace(outcomes.subset(order), patients=outcomes.patients, groups=outcomes.groups)
