"""How often D-calibration rejects the truth, by size of the cohort and by how times were recorded.

Times to the event are exponential with the rate exp(x) / 5 years, x standard normal, follow-up is uniform from 0 to 8
years, and the model says the true survival. Times are recorded exactly, or rounded up to whole years: those of events
alone, or of censorings too.

    python benchmarks/d_calibration.py [--cohorts 500]
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt

from twobe3.core.endpoints import TimeToEvent
from twobe3.core.outcomes import Outcomes
from twobe3.evaluation.calibration import d_calibration
from twobe3.evaluation.horizons import SurvivalCurves

FloatArray = npt.NDArray[np.float64]
SIZES = (300, 1000, 3000, 10_000)
RECORDED = ("exactly", "events in whole years", "events and censorings in whole years")
MEAN_YEARS, LONGEST_YEARS, LEVEL = 5.0, 8.0, 0.05


def p_value(n: int, recorded: str, rng: np.random.Generator) -> float:
    """Of one cohort whose predicted survival is right."""
    rate = np.exp(rng.normal(size=n)) / MEAN_YEARS
    dies, leaves = rng.exponential(1 / rate), rng.uniform(0, LONGEST_YEARS, size=n)
    event, time = dies <= leaves, np.minimum(dies, leaves)
    if recorded == RECORDED[1]:
        time = np.where(event, np.ceil(time), time)
    if recorded == RECORDED[2]:
        time = np.ceil(time)
    grid = np.linspace(0, LONGEST_YEARS, 401)
    curves = SurvivalCurves(np.exp(-np.outer(rate, grid)), grid)
    outcomes = Outcomes(TimeToEvent("death", "t", "e", "year"), tuple(map(str, range(n))), time, event)
    return float(d_calibration(curves, outcomes).compute(np.ones((1, n)))[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cohorts", type=int, default=500)
    cohorts = parser.parse_args().cohorts
    print(f"share of {cohorts} cohorts in which the truth is rejected at {LEVEL:.0%}\n")
    print(f"| times recorded | {' | '.join(f'{n:,} patients' for n in SIZES)} |")
    print(f"|---|{'---|' * len(SIZES)}")
    for recorded in RECORDED:
        cells = []
        for n in SIZES:
            rng = np.random.default_rng(n)
            cells.append(f"{np.mean([p_value(n, recorded, rng) < LEVEL for _ in range(cohorts)]):.1%}")
        print(f"| {recorded} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
