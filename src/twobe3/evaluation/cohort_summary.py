"""The patients behind the figures: parts of the cohort, missing values, sample size.

References
----------
.. [1] R. D. Riley et al., Minimum sample size for developing a multivariable prediction model: Part II, binary and
   time-to-event outcomes, Statistics in Medicine 38 (2019) 1276–1296.
.. [2] R. D. Riley et al., Calculating the sample size required for developing a clinical prediction model, BMJ 368
   (2020) m441.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from scipy.special import xlogy
from scipy.stats import norm

from twobe3.core.outcomes import Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.bootstrap import RESAMPLES
from twobe3.evaluation.results import CohortSummary, Missing, ModelSize, SampleSize, Subgroup
from twobe3.evaluation.subgroups import evaluate_subgroups, levels


def count_missing(known: Mapping[str, Collection[str]], patients: Collection[str]) -> tuple[Missing, ...]:
    """Count of how many of the patients each thing is not known; ``known`` leads from it to those of whom it is."""
    wanted = set(patients)
    return tuple(Missing(what, len(wanted - set(there)), len(wanted)) for what, there in known.items())


SHRINKAGE = 0.9
OPTIMISM = 0.05
MARGIN = 0.05
EXPLAINED = 0.15  # of the largest possible R², where nothing is known of it: the advice of [2]


def sample_size(outcomes: Outcomes, parameters: Mapping[str, int]) -> SampleSize | None:
    """What the size of a cohort is enough for, and what each model needs, by its number of candidate parameters.

    None for a continuous endpoint, for which these criteria aren't made, or without an event.
    """
    n, events = len(outcomes), outcomes.n_events
    endpoint = outcomes.endpoint
    if not endpoint.has_events or not endpoint.has_contrast(outcomes):
        return None
    binary, rarer = endpoint.loss == "cross-entropy", endpoint.effective_sample_size(outcomes)
    most = largest_r2(n, events, binary=binary)
    r2 = EXPLAINED * most
    borne = math.floor(n * (SHRINKAGE - 1) * math.log(1 - r2 / SHRINKAGE))
    share = events / n if binary else None
    models = tuple(
        ModelSize(model, p, rarer / p, max(patients_for(p, r2, most, share).values()))
        for model, p in parameters.items()
    )
    return SampleSize(endpoint.name, n, rarer, r2, borne, models)


def patients_for(parameters: int, r2: float, most: float, share: float | None = None) -> dict[str, int]:
    """The least number of patients for p candidate parameters by each criterion of [1]_; a model needs the largest.

    ``shrinkage``: p / ((S − 1) ln(1 − R²/S)) with a shrinkage of S = 0.9 and the Cox–Snell R² expected; ``optimism``:
    the same with S = R² / (R² + 0.05 max R²), so that Nagelkerke's R² is too high by 0.05 at most, ``most`` being max
    R², see :func:`largest_r2`; ``risk``: (1.96/0.05)² φ(1 − φ), so that the overall ``share`` of events φ is known
    within 0.05 (binary only).
    """
    for_optimism = r2 / (r2 + OPTIMISM * most)
    needed = {"shrinkage": _for_shrinkage(parameters, r2, SHRINKAGE)}
    needed["optimism"] = _for_shrinkage(parameters, r2, for_optimism)
    if share is not None:
        needed["risk"] = math.ceil((float(norm.ppf(0.975)) / MARGIN) ** 2 * share * (1 - share))
    return needed


def largest_r2(n: int, events: int, *, binary: bool) -> float:
    """The largest Cox–Snell R² that a model can reach: 1 − exp(2 ln L₀ / n) [1]_.

    ln L₀ is the log-likelihood of a model that tells nobody apart: of one probability for all, or of one hazard for
    all, E ln(E/n) − E.
    """
    share = events / n
    null = n * float(xlogy(share, share) + xlogy(1 - share, 1 - share)) if binary else events * (np.log(share) - 1)
    return 1 - math.exp(2 * null / n)


def _for_shrinkage(parameters: int, r2: float, shrinkage: float) -> int:
    return math.ceil(parameters / ((shrinkage - 1) * math.log(1 - r2 / shrinkage)))


def summarize_cohort(
    predictions: Sequence[Prediction],
    endpoints: Iterable[Outcomes],
    *,
    factors: Mapping[str, Mapping[str, float | str | None]],
    known: Iterable[tuple[Mapping[str, Collection[str]], Collection[str]]] = (),
    parameters: Mapping[str, int] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> CohortSummary:
    """Summarise the patients of a study, with the predictions of every model and the outcomes of every endpoint.

    ``factors`` leads from a factor to its value in each patient, see :func:`~twobe3.evaluation.subgroups.levels`;
    ``known`` holds mappings from a thing to the patients of whom it is known, each with those of whom it should be;
    ``parameters`` are the candidate parameters of the models whose number is known.
    """
    divided = {factor: levels(values) for factor, values in factors.items()}
    divided = {factor: level_of for factor, level_of in divided.items() if level_of}
    subgroups: list[Subgroup] = []
    sizes = []
    for outcomes in endpoints:
        of_endpoint = [item for item in predictions if item.endpoint == outcomes.endpoint.name]
        subgroups += evaluate_subgroups(of_endpoint, outcomes, divided, resamples=resamples, seed=seed)
        sizes.append(sample_size(outcomes, parameters or {}))
    missing = [row for what, patients in known for row in count_missing(what, patients)]
    return CohortSummary(tuple(subgroups), tuple(missing), tuple(size for size in sizes if size is not None))
