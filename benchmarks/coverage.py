"""How often the 95 % intervals cover the truth, on simulated cohorts whose truth is known.

Three cohorts (binary, time to an event, continuous) and pairs of models on the first two. The truths are computed
without the package: normal and logistic integrals by quadrature, and for the concordances of censored times twenty
million simulated pairs. A metric whose estimand depends on the cohort (the truncation time of Uno's C, the
range of the integrated Brier score) is compared with the truth for that cohort.

    python benchmarks/coverage.py [--simulations 500] [--processes 2]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, roots_hermitenorm
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.outcomes import Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.alignment import AlignedPredictions
from twobe3.evaluation.bootstrap import PatientBootstrap, Statistic
from twobe3.evaluation.horizons import Horizons
from twobe3.evaluation.metrics import Metric, find_metric
from twobe3.evaluation.survival import truncation_time

FloatArray = npt.NDArray[np.float64]
SIZES = (60, 100, 200)
LEVEL = 0.95

# Binary: log odds of the event −0.6 + 1.2 x, x standard normal; the model says −0.4 + 0.9 x.
INTERCEPT, SLOPE, PREDICTED_INTERCEPT, PREDICTED_SLOPE = -0.6, 1.2, -0.4, 0.9
# Binormal: x of the events is shifted by this; three in eight have the event.
SHIFT, SHARE = 1.0, 0.375
# Time to an event: exponential with the rate exp(x) / 900 days, censored uniformly; the model says exp(0.8 x) / 800.
MEAN_DAYS, PREDICTED_DAYS, PREDICTED_LOG_HAZARD, CENSORED, HORIZON = 900.0, 800.0, 0.8, (200.0, 2000.0), 500.0
# Continuous: y = x + noise; the model says x.
NOISE = 1.2
# Pairs of models: each sees x with noise of its own.
NOISES = (0.5, 1.0)

_NODES, _WEIGHTS = roots_hermitenorm(80)


def mean(values: FloatArray) -> FloatArray:
    """Mean over x, standard normal, of values at the nodes (last axis)."""
    result: FloatArray = values @ _WEIGHTS / _WEIGHTS.sum()
    return result


def above(x: FloatArray, case: FloatArray, control: FloatArray) -> float:
    """P(a case's x > a control's), for weights of cases and controls on an even grid of x."""
    below = np.cumsum(control) - control / 2
    return float(case @ below / case.sum() / control.sum())


# -- cohorts: each draws a prediction and outcomes, and gives the truth of every metric for them

Truths = Mapping[str, float]
Draw = Callable[[int, np.random.Generator], tuple[list[Prediction], Outcomes, Truths]]


def patients(n: int) -> tuple[str, ...]:
    return tuple(map(str, range(n)))


def draw_probabilities(n: int, rng: np.random.Generator) -> tuple[list[Prediction], Outcomes, Truths]:
    """A binary outcome and probabilities that are a little off."""
    x = rng.normal(size=n)
    event = rng.random(n) < expit(INTERCEPT + SLOPE * x)
    predicted = expit(PREDICTED_INTERCEPT + PREDICTED_SLOPE * x)
    outcomes = Outcomes(Binary("y", "y"), patients(n), event.astype(float), event)
    return [Prediction("m", "y", patients(n), x, predicted)], outcomes, truths_of_probabilities()


@cache
def truths_of_probabilities() -> Truths:
    p, predicted = expit(INTERCEPT + SLOPE * _NODES), expit(PREDICTED_INTERCEPT + PREDICTED_SLOPE * _NODES)
    shift = brentq(lambda c: float(mean(p - expit(c + PREDICTED_INTERCEPT + PREDICTED_SLOPE * _NODES))), -3, 3)
    x = np.linspace(-8, 8, 40_001)
    event, density = expit(INTERCEPT + SLOPE * x), norm.pdf(x)
    called = x >= -PREDICTED_INTERCEPT / PREDICTED_SLOPE
    sensitivity = float((density * event)[called].sum() / (density * event).sum())
    specificity = float((density * (1 - event))[~called].sum() / (density * (1 - event)).sum())
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "brier": float(mean(predicted**2 - 2 * predicted * p + p)),
        "log_loss": float(mean(-p * np.log(predicted) - (1 - p) * np.log1p(-predicted))),
        "calibration_slope": SLOPE / PREDICTED_SLOPE,
        "calibration_intercept": shift,
        "average_precision": average_precision(density * event, density),
    }


def average_precision(event: FloatArray, everybody: FloatArray) -> float:
    """∫ precision d recall, for densities on an ascending grid of x."""
    found, called = np.cumsum(event[::-1]), np.cumsum(everybody[::-1])
    return float((event[::-1] * found / called).sum() / event.sum())


def draw_binormal(n: int, rng: np.random.Generator) -> tuple[list[Prediction], Outcomes, Truths]:
    """A normal risk, shifted in the patients with the event: AUC = Φ(shift / √2)."""
    event = rng.random(n) < SHARE
    risk = rng.normal(size=n) + SHIFT * event
    outcomes = Outcomes(Binary("y", "y"), patients(n), event.astype(float), event)
    return [Prediction("m", "y", patients(n), risk)], outcomes, {"auc": float(norm.cdf(SHIFT / np.sqrt(2)))}


def draw_binormal_pair(n: int, rng: np.random.Generator) -> tuple[list[Prediction], Outcomes, Truths]:
    """Two risks with a common part: the difference of their AUCs."""
    event = rng.random(n) < SHARE
    common = rng.normal(size=n) + SHIFT * event
    risks = [common + rng.normal(scale=noise, size=n) for noise in NOISES]
    outcomes = Outcomes(Binary("y", "y"), patients(n), event.astype(float), event)
    a, b = (float(norm.cdf(SHIFT / np.sqrt(2 * (1 + noise**2)))) for noise in NOISES)
    return name_pair(risks), outcomes, {"auc": a - b}


def draw_times(n: int, rng: np.random.Generator) -> tuple[list[Prediction], Outcomes, Truths]:
    """Exponential times with proportional hazards, uniform censoring, and predicted survival a little off."""
    x, outcomes = follow_up(n, rng)
    times = np.linspace(10, 2000, 200)
    prediction = Prediction("m", "death", patients(n), x, survival=predict_survival(x, times), times=times)
    grid = Horizons.of(outcomes).grid
    truths = {
        "harrell_c": concordance().harrell,
        "uno_c": float(np.interp(truncation_time(outcomes), concordance().taus, concordance().by_tau)),
        f"cumulative_auc@{HORIZON:g}": auc_at(HORIZON),
        f"brier@{HORIZON:g}": float(brier(np.array([HORIZON]))[0]),
        f"observed_expected@{HORIZON:g}": float(
            mean(1 - survival(_NODES, HORIZON)) / mean(1 - predict_survival(_NODES, np.array([HORIZON]))[:, 0])
        ),
        "integrated_brier": float(np.trapezoid(brier(grid), grid) / (grid[-1] - grid[0])),
    }
    return [prediction], outcomes, truths


def draw_times_pair(n: int, rng: np.random.Generator) -> tuple[list[Prediction], Outcomes, Truths]:
    """The same with two risks: the difference of their Harrell's C."""
    x, outcomes = follow_up(n, rng)
    truth = concordance()
    return (
        name_pair([x + rng.normal(scale=noise, size=n) for noise in NOISES]),
        outcomes,
        {"harrell_c": truth.difference},
    )


def name_pair(risks: Iterable[FloatArray]) -> list[Prediction]:
    return [Prediction(name, "y", patients(len(risk)), risk) for name, risk in zip("ab", risks, strict=True)]


def follow_up(n: int, rng: np.random.Generator) -> tuple[FloatArray, Outcomes]:
    x = rng.normal(size=n)
    dies, leaves = rng.exponential(MEAN_DAYS * np.exp(-x)), rng.uniform(*CENSORED, size=n)
    return x, Outcomes(TimeToEvent("death", "t", "e"), patients(n), np.minimum(dies, leaves), dies <= leaves)


def survival(x: FloatArray, time: FloatArray | float) -> FloatArray:
    return np.exp(-np.exp(x) * time / MEAN_DAYS)


def predict_survival(x: FloatArray, times: FloatArray) -> FloatArray:
    return np.exp(-np.outer(np.exp(PREDICTED_LOG_HAZARD * x), times) / PREDICTED_DAYS)


def brier(times: FloatArray) -> FloatArray:
    predicted, alive = predict_survival(_NODES, times).T, survival(_NODES[None, :], times[:, None])
    return mean(predicted**2 - 2 * predicted * alive + alive)


def auc_at(horizon: float) -> float:
    x = np.linspace(-8, 8, 40_001)
    alive, density = survival(x, horizon), norm.pdf(x)
    return above(x, density * (1 - alive), density * alive)


@dataclass(frozen=True)
class Concordance:
    """Truths of 20 million simulated pairs."""

    harrell: float
    difference: float
    taus: FloatArray
    by_tau: FloatArray


@cache
def concordance(pairs: int = 20_000_000, block: int = 1_000_000) -> Concordance:
    rng = np.random.default_rng(20260101)
    taus = np.linspace(50, 2000, 40)
    comparable = harrell = 0.0
    noisy, before, right = np.zeros(2), np.zeros(len(taus)), np.zeros(len(taus))
    for _ in range(pairs // block):
        x = rng.normal(size=(2, block))
        dies = rng.exponential(MEAN_DAYS * np.exp(-x))
        leaves = rng.uniform(*CENSORED, size=(2, block))
        first, last = (np.where(dies[0] < dies[1], one, other) for one, other in ((0, 1), (1, 0)))
        columns = np.arange(block)
        earlier = dies[first, columns]
        ordered = x[first, columns] > x[last, columns]
        # The earlier of two deaths is seen while both are under observation.
        seen = earlier < leaves.min(axis=0)
        comparable += seen.sum()
        harrell += (ordered & seen).sum()
        for i, scale in enumerate(NOISES):
            risk = x + rng.normal(scale=scale, size=x.shape)
            noisy[i] += ((risk[first, columns] > risk[last, columns]) & seen).sum()
        before += np.histogram(earlier, np.append(0, taus))[0].cumsum()
        right += np.histogram(earlier[ordered], np.append(0, taus))[0].cumsum()
    return Concordance(harrell / comparable, (noisy[0] - noisy[1]) / comparable, taus, right / before)


def draw_numbers(n: int, rng: np.random.Generator) -> tuple[list[Prediction], Outcomes, Truths]:
    """A continuous outcome."""
    x = rng.normal(size=n)
    y = x + rng.normal(scale=NOISE, size=n)
    outcomes = Outcomes(Continuous("y", "y"), patients(n), y, np.ones(n, dtype=np.bool_))
    correlation = 1 / np.sqrt(1 + NOISE**2)
    truths = {
        "spearman": 6 / np.pi * np.arcsin(correlation / 2),
        "mae": NOISE * np.sqrt(2 / np.pi),
        "r2": 1 - NOISE**2 / (1 + NOISE**2),
    }
    return [Prediction("m", "y", patients(n), x)], outcomes, truths


COHORTS: dict[str, Draw] = {
    "binormal": draw_binormal,
    "calibrated": draw_probabilities,
    "censored": draw_times,
    "measured": draw_numbers,
    "difference, binormal": draw_binormal_pair,
    "difference, censored": draw_times_pair,
}

# -- the simulation

Interval = tuple[str, float, float | None, float | None]


def simulate(cohort: str, n: int, seed: int, resamples: int) -> list[Interval]:
    """Metric, truth and interval of one simulated cohort, as ``evaluate`` and ``compare`` make them, without curves."""
    predictions, outcomes, truths = COHORTS[cohort](n, np.random.default_rng([seed, n]))
    aligned = [AlignedPredictions.of(prediction, outcomes) for prediction in predictions]
    bootstraps = {
        stratified: PatientBootstrap.draw(outcomes.event, stratified=stratified, resamples=resamples, seed=seed)
        for stratified in (True, False)
    }
    intervals = []
    for name, truth in truths.items():
        row = find_metric(name, outcomes.endpoint.kind)
        one, *other = (bootstraps[row.stratified].replicate(statistic_of(model, row)) for model in aligned)
        if other:
            limits = (one - other[0]).normal_interval()
        else:
            limits = one.interval()
            if limits is None and row.bound is not None and one.value in (0.0, 1.0):
                limits = row.bound(one.value, outcomes)[:2]
        intervals.append((name, truth, *(limits or (None, None))))
    return intervals


def statistic_of(model: AlignedPredictions, row: Metric) -> Statistic:
    statistic = row.over_repeats(model)
    assert statistic is not None  # the models predict everything that is evaluated
    return statistic


@dataclass(frozen=True)
class Coverage:
    """How the intervals of one metric lay in the simulations."""

    cohort: str
    n: int
    metric: str
    covered: int
    too_high: int
    too_low: int
    none: int

    @property
    def estimable(self) -> int:
        return self.covered + self.too_high + self.too_low

    @property
    def share(self) -> float:
        return self.covered / self.estimable

    @property
    def error(self) -> float:
        """Monte-Carlo standard error of the share, at the nominal level."""
        return float(np.sqrt(LEVEL * (1 - LEVEL) / self.estimable))


Run = Callable[[Callable[[int], list[Interval]], Iterable[int]], Iterable[list[Interval]]]


def coverage(cohort: str, n: int, seeds: Sequence[int], resamples: int, run: Run = map) -> list[Coverage]:
    """Coverage of every metric of a cohort, in one simulation for each seed."""
    results = list(run(partial(simulate, cohort, n, resamples=resamples), seeds))
    rows = []
    for metric in dict.fromkeys(name for result in results for name, *_ in result):
        of_metric = [interval for result in results for interval in result if interval[0] == metric]
        there = [(truth, low, high) for _, truth, low, high in of_metric if low is not None and high is not None]
        too_high = sum(low > truth for truth, low, _ in there)
        too_low = sum(high < truth for truth, _, high in there)
        covered = len(there) - too_high - too_low
        rows.append(Coverage(cohort, n, metric, covered, too_high, too_low, len(of_metric) - len(there)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--first-seed", type=int, default=0, help="other seeds are other cohorts")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--cohorts", nargs="+", choices=COHORTS, default=list(COHORTS))
    options = parser.parse_args()
    print(f"{options.simulations} simulations, {options.resamples} bootstrap samples")
    print("| cohort | n | metric | covered, % | ± | truth below, % | truth above, % | no interval |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with threadpool_limits(1):
        concordance()
        with ProcessPoolExecutor(options.processes) as pool:
            for cohort in options.cohorts:
                for n in options.sizes:
                    run = partial(pool.map, chunksize=5)
                    seeds = range(options.first_seed, options.first_seed + options.simulations)
                    for row in coverage(cohort, n, seeds, options.resamples, run):
                        print(
                            f"| {row.cohort} | {row.n} | {row.metric} | {100 * row.share:.1f} | {100 * row.error:.1f}"
                            f" | {100 * row.too_high / row.estimable:.1f} | {100 * row.too_low / row.estimable:.1f}"
                            f" | {row.none} |",
                            flush=True,
                        )


if __name__ == "__main__":
    main()
