"""How long evaluating and comparing models takes, and the same C-indices and AUCs by scikit-survival and scikit-learn.

Simulated predictions of several models, each with repeats and survival curves, for a binary endpoint and for a time
to an event: every metric with its interval, the curves, and every pair compared, on one thread. In the same run
the AUC and the two C-indices are bootstrapped with the oracles' functions, sample by sample; where that would take
too long it is done for fewer samples and scaled up, and the table says so.

    python benchmarks/evaluation.py
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw
from threadpoolctl import threadpool_limits

from twobe3.core.endpoints import Binary, TimeToEvent
from twobe3.core.outcomes import Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation import binary, survival
from twobe3.evaluation.bootstrap import PatientBootstrap, Statistic
from twobe3.evaluation.compare import compare
from twobe3.evaluation.evaluate import evaluate

FOLDS = 5
FloatArray = npt.NDArray[np.float64]


def cohort(kind: str, n: int, rng: np.random.Generator) -> tuple[FloatArray, Outcomes]:
    """A latent risk, and the outcomes that come of it: a third with the event, or half censored."""
    latent, patients = rng.normal(size=n), tuple(f"P{i}" for i in range(n))
    if kind == "binary":
        event = latent + rng.logistic(size=n) > 0.8
        return latent, Outcomes(Binary("relapse", "relapse"), patients, event.astype(float), event)
    dies, leaves = rng.exponential(900 * np.exp(-latent)), rng.exponential(1200, size=n)
    return latent, Outcomes(TimeToEvent("death", "t", "e"), patients, np.minimum(dies, leaves), dies <= leaves)


def predictions(latent: FloatArray, kind: str, models: int, repeats: int, rng: np.random.Generator) -> list[Prediction]:
    """What models of different noise say of the patients, out of fold, with everything that a prediction may carry."""
    n, parts = len(latent), []
    for model in range(models):
        risk = (latent + rng.normal(scale=0.5 + 0.2 * model, size=(repeats, n))).ravel()
        times = np.linspace(100, 1500, 15)
        curves = np.exp(-np.outer(np.exp(risk) / 900, times))
        parts.append(
            Prediction(
                f"model {model}",
                "relapse" if kind == "binary" else "death",
                tuple(f"P{i}" for i in range(n)) * repeats,
                risk,
                1 / (1 + np.exp(0.8 - risk)) if kind == "binary" else None,
                np.repeat(np.arange(repeats), n),
                np.tile(np.arange(n) % FOLDS, repeats),
                np.full(n * repeats, 0.5) if kind == "binary" else None,
                np.zeros(n * repeats),
                curves if kind == "time-to-event" else None,
                times if kind == "time-to-event" else None,
            )
        )
    return parts


def time_seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def oracle_seconds(metric: Callable[..., object], outcomes: Outcomes, risk: FloatArray, samples: int) -> float:
    """Seconds of one bootstrap of one repeat of one model, sample by sample."""
    counts = PatientBootstrap.draw(outcomes.event, resamples=samples).counts.astype(int)
    event, duration = outcomes.event, outcomes.value

    def bootstrap() -> None:
        for row in counts:
            sample = np.repeat(np.arange(len(risk)), row)
            metric(event[sample], duration[sample], risk[sample])

    return time_seconds(bootstrap)


def uno_by_oracle(event: npt.NDArray[np.bool_], duration: FloatArray, risk: FloatArray, tau: float) -> object:
    structured = np.array(list(zip(event, duration, strict=True)), dtype=[("event", bool), ("time", float)])
    return concordance_index_ipcw(structured, structured, risk, tau=tau)


def beside_oracles(kind: str, outcomes: Outcomes, parts: list[Prediction], resamples: int, few: int) -> list[str]:
    """A table row for each metric: seconds of ours, of the oracle, and how many times longer that is."""
    risks = [risk for part in parts for risk in np.split(part.risk, len(part) // len(outcomes))]
    bootstrap = PatientBootstrap.draw(outcomes.event, resamples=resamples)
    cases: list[tuple[str, Callable[[FloatArray, Outcomes], Statistic], Callable[..., object]]]
    if kind == "binary":
        cases = [("AUC", binary.auc, lambda event, duration, risk: roc_auc_score(event, risk))]
    else:
        tau = survival.truncation_time(outcomes)
        cases = [
            ("Harrell's C", survival.harrell_c, concordance_index_censored),
            ("Uno's C", survival.uno_c, lambda *sample: uno_by_oracle(*sample, tau=tau)),
        ]
    rows = []
    for name, ours, oracle in cases:
        mine = time_seconds(lambda: [ours(risk, outcomes).compute(bootstrap.counts) for risk in risks])  # noqa: B023
        theirs = oracle_seconds(oracle, outcomes, risks[0], few) * resamples / few * len(risks)
        rows.append(f"| {name} | {mine:.2f} | {theirs:.0f} | {theirs / mine:.0f} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--oracle-resamples", type=int, default=200, help="of one repeat of one model, scaled up")
    options = parser.parse_args()
    print(
        f"{options.models} models, {options.repeats} repeats, {options.patients} patients, {options.resamples} samples"
    )
    rows = []
    for kind in ("binary", "time-to-event"):
        rng = np.random.default_rng(0)
        latent, outcomes = cohort(kind, options.patients, rng)
        parts = predictions(latent, kind, options.models, options.repeats, rng)
        with threadpool_limits(1):
            cpu = time.process_time()
            judging = time_seconds(lambda: [evaluate(part, outcomes, resamples=options.resamples) for part in parts])  # noqa: B023
            comparing = time_seconds(lambda: compare(parts, outcomes, resamples=options.resamples))  # noqa: B023
            cpu = time.process_time() - cpu
            peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{kind}: judging {judging:.1f} s, comparing {comparing:.1f} s, together {judging + comparing:.1f} s"
                f" ({cpu:.1f} s of one core); peak memory so far {peak_mib:.0f} MiB",
                flush=True,
            )
            rows += beside_oracles(kind, outcomes, parts, options.resamples, options.oracle_resamples)
    print(
        f"bootstrap of all models and repeats; the oracles' seconds from {options.oracle_resamples} samples, scaled up"
    )
    print("| metric | twobe3, s | oracle, s | ratio |\n|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
