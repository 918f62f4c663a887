"""Are two equally good models told apart too often, when they are compared within the folds of a cross-validation?

Simulated cohorts, a third with the event, five stratified folds. Both models see the outcome shifted by one standard
deviation; the risks of each fold have an origin of their own, as those of different models may. Prints the spread of
the difference over the cohorts beside the mean standard errors of DeLong's components and of the paired bootstrap, how
often each has p < 0.05. Then how often noise is told from a model that knows the centre alone, where the centre has no
effect: by the bootstrap of all pairs, of the pairs of one fold, and by the corrected t-test across the folds.

    python benchmarks/within_folds.py [--simulations 600]
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from sklearn.model_selection import StratifiedKFold

from twobe3.core.endpoints import Binary
from twobe3.core.outcomes import Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation.binary import delong
from twobe3.evaluation.compare import compare
from twobe3.evaluation.results import Comparison

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
FOLDS, SHIFT, RESAMPLES, LEVEL = 5, 1.0, 200, 0.05
CASES = ((30, 5), (60, 1), (60, 5), (150, 5))  # patients and repeats


def cohort(event: npt.NDArray[np.bool_]) -> Outcomes:
    patients = tuple(f"p{i}" for i in range(len(event)))
    return Outcomes(Binary("event", "event"), patients, event.astype(float), event)


def prediction(name: str, outcomes: Outcomes, risk: FloatArray, fold: IntArray) -> Prediction:
    """Of risks and folds of shape (repeats, n)."""
    repeat = np.repeat(np.arange(len(risk)), len(outcomes))
    patients = outcomes.patients * len(risk)
    return Prediction(name, "event", patients, risk.ravel(), None, repeat, fold.ravel())


def equally_good(n: int, repeats: int, rng: np.random.Generator) -> tuple[Comparison, float]:
    """The comparison of two models of one cohort, and DeLong's standard error."""
    outcomes = cohort(np.arange(n) < n // 3)
    fold = np.zeros((repeats, n), dtype=np.int64)
    for row in fold:
        splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=int(rng.integers(2**31)))
        for number, (_, tested) in enumerate(splitter.split(row, outcomes.event)):
            row[tested] = number
    risks = [
        outcomes.event * SHIFT
        + rng.normal(size=n)
        + 0.5 * rng.normal(size=(repeats, n))
        + 3 * rng.normal(size=(repeats, FOLDS))[np.arange(repeats)[:, None], fold]
        for _ in range(2)
    ]
    models = [prediction(name, outcomes, risk, fold) for name, risk in zip("ab", risks, strict=True)]
    (pair,) = compare(models, outcomes, resamples=RESAMPLES, seed=int(rng.integers(2**31)))
    contrast = np.repeat([1 / repeats, -1 / repeats], repeats)
    _, covariance = delong(np.concatenate(risks), outcomes.event, np.concatenate([fold, fold]))
    return pair, float(np.sqrt(contrast @ covariance @ contrast))


def against_centre(rng: np.random.Generator, n: int = 60) -> list[float]:
    """p of noise against the share of events in the centre's training patients; three centres without any effect.

    By the bootstrap of all pairs, by that of the pairs of one fold, and across the folds.
    """
    outcomes, centre = cohort(np.arange(n) < n // 3), rng.integers(0, 3, n)
    fold, share = np.zeros((1, n), dtype=np.int64), np.zeros((1, n))
    splitter = StratifiedKFold(FOLDS, shuffle=True, random_state=int(rng.integers(2**31)))
    for number, (train, tested) in enumerate(splitter.split(centre, outcomes.event)):
        of_centre = [outcomes.event[train][centre[train] == one].mean() for one in range(3)]
        fold[0, tested], share[0, tested] = number, np.array(of_centre)[centre[tested]]
    risks = {"noise": rng.normal(size=(1, n)), "centre": share}
    models = [prediction(name, outcomes, risk, fold) for name, risk in risks.items()]
    seed = int(rng.integers(2**31))
    pooled, within = (
        compare(models, outcomes, metric=metric, resamples=RESAMPLES, seed=seed)[0] for metric in ("auc", None)
    )
    return [1.0 if p is None else p for p in (pooled.p, within.p, within.tests[1].p)]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=600)
    simulations = parser.parse_args().simulations
    rng = np.random.default_rng(1)
    print("| patients | repeats | spread | DeLong: error, p < 0.05 | bootstrap: error, p < 0.05 |")
    print("|---|---|---|---|---|")
    for n, repeats in CASES:
        made = [equally_good(n, repeats, rng) for _ in range(simulations)]
        spread = np.std([pair.difference for pair, _ in made])
        delongs = np.mean([error for _, error in made])
        bootstrap = np.mean([(pair.high - pair.low) / 2 / norm.ppf(0.975) for pair, _ in made])
        rejected = [
            np.mean([(p or 1.0) < LEVEL for p in values])
            for values in ([pair.tests[0].p for pair, _ in made], [pair.p for pair, _ in made])
        ]
        cells = (f"{error:.3f}, {share:.1%}" for error, share in zip((delongs, bootstrap), rejected, strict=True))
        print(f"| {n} | {repeats} | {spread:.3f} | {' | '.join(cells)} |")
    told = np.mean([np.array(against_centre(rng)) < LEVEL for _ in range(simulations)], axis=0)
    for said, share in zip(("all pairs", "pairs of one fold", "across folds"), told, strict=True):
        print(f"noise told from a centre without effect, {said}: {share:.1%}")


if __name__ == "__main__":
    main()
