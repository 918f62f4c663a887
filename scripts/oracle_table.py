"""Print every metric beside what another library computes from the same patients.

python scripts/oracle_table.py [--markdown]

Real data: veteran, GBSG2, WHAS500, bone marrow transplantation (bmt) and graft-versus-host disease (cgvhd) as shipped
with scikit-survival; breast cancer and diabetes as shipped with scikit-learn. Every other patient trains a model, the
rest is judged. Hard cases are made of them: coarse times and risks with many ties, everybody censored from a time on,
a single event, 20 patients.

Whatever weighs for censoring stands beside values of R, which ``tests/reference/survival.R`` wrote: scikit-survival
weighs an event at T by 1/G(T), not 1/G(T−), which is another number where events and censorings share their times.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn.metrics as sk
import statsmodels.api as sm
from scipy.stats import chisquare, spearmanr, uniform
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sksurv import datasets
from sksurv import metrics as sks
from sksurv.compare import compare_survival
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.nonparametric import cumulative_incidence_competing_risks
from sksurv.util import Surv
from statsmodels.duration.survfunc import SurvfuncRight

from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.outcomes import BoolArray, FloatArray, Outcomes
from twobe3.evaluation import binary, calibration, horizons, survival
from twobe3.evaluation import binary as continuous
from twobe3.evaluation import kaplan_meier as groups
from twobe3.evaluation.bootstrap import Statistic
from twobe3.evaluation.calibration import BINS, d_calibration
from twobe3.evaluation.horizons import SurvivalCurves
from twobe3.evaluation.kaplan_meier import SharedFollowUp, cumulative_incidence

FOLDS = 5
SKSURV, SKLEARN, STATSMODELS, SCIPY, NUMPY = (
    f"{name} {version(name)}" for name in ("scikit-survival", "scikit-learn", "statsmodels", "scipy", "numpy")
)
REFERENCE = Path(__file__).parents[1] / "tests" / "reference"


@dataclass(frozen=True)
class Row:
    """One metric of one case; NaN where it is not estimable."""

    metric: str
    case: str
    n: int
    events: int
    ours: float
    oracle: float
    library: str


@dataclass(frozen=True)
class Survival:
    """A model judged on patients with a time to an event."""

    name: str
    outcomes: Outcomes
    risk: FloatArray
    survival: FloatArray
    times: FloatArray


def rows() -> Iterator[Row]:
    for case in survival_cases():
        yield from of_survival(case)
    yield from of_survival_in_r()
    yield from of_competing()
    yield from of_binary()
    yield from of_continuous()


def outcomes_of(time: FloatArray, event: BoolArray, competing: BoolArray | None = None) -> Outcomes:
    names = tuple(f"p{i}" for i in range(len(time)))
    none = np.zeros(len(time), dtype=bool)
    return Outcomes(TimeToEvent("event", "time", "event"), names, time, event, none if competing is None else competing)


def survival_cases() -> Iterator[Survival]:
    loaded = {
        "veteran": datasets.load_veterans_lung_cancer(),
        "GBSG2": datasets.load_gbsg2(),
        "WHAS500": datasets.load_whas500(),
    }
    whole = {name: _cox(name, *data) for name, data in loaded.items()}
    yield from whole.values()
    veteran, gbsg2 = whole["veteran"], whole["GBSG2"]
    months = np.ceil(gbsg2.outcomes.value / 91)
    yield _alter(gbsg2, "GBSG2, quarters, risk to 0.5: ties", months, gbsg2.outcomes.event, step=0.5, unit=91)
    until = np.minimum(gbsg2.outcomes.value, 1200.0)
    observed = gbsg2.outcomes.event & (gbsg2.outcomes.value < 1000)
    yield _alter(gbsg2, "GBSG2, all censored after day 1000", until, observed)
    single = np.arange(len(veteran.risk)) == int(np.argsort(veteran.outcomes.value)[20])
    yield _alter(veteran, "veteran, one event", veteran.outcomes.value, single)
    yield _part(whole["WHAS500"], np.arange(0, 240, 12), "WHAS500, 20 patients")
    table, truth = loaded["veteran"]
    early = truth.copy()
    early["Status"] &= truth["Survival_in_days"] < 100
    early["Survival_in_days"] = np.minimum(truth["Survival_in_days"], 100)
    yield _cox("veteran, trained on 100 days", table, truth, early)


def _cox(name: str, table: pd.DataFrame, truth: np.ndarray, seen: np.ndarray | None = None) -> Survival:
    """Train on every other patient, as far as ``seen``, and evaluate on the rest."""
    columns = table.select_dtypes("number").to_numpy(float)
    event, time = (truth[field] for field in truth.dtype.names)
    train = np.arange(len(time)) % 2 == 0
    model = CoxPHSurvivalAnalysis(ties="efron").fit(columns[train], (truth if seen is None else seen)[train])
    predicted = model.predict_survival_function(columns[~train], return_array=True)
    times = model.unique_times_[::4]
    outcomes = outcomes_of(time[~train], event[~train])
    return Survival(name, outcomes, model.predict(columns[~train]), predicted[:, ::4], times)


def _alter(
    case: Survival, name: str, time: FloatArray, event: BoolArray, step: float = 0.0, unit: float = 1.0
) -> Survival:
    risk = np.round(case.risk / step) * step if step else case.risk
    return Survival(name, outcomes_of(time, event), risk, case.survival, case.times / unit)


def _part(case: Survival, kept: np.ndarray, name: str) -> Survival:
    outcomes = outcomes_of(case.outcomes.value[kept], case.outcomes.event[kept])
    return Survival(name, outcomes, case.risk[kept], case.survival[kept], case.times)


def of_survival(case: Survival) -> Iterator[Row]:
    outcomes, risk = case.outcomes, case.risk
    time, event = outcomes.value, outcomes.event
    truth = Surv.from_arrays(event, time)
    n = len(time)

    def row(metric: str, ours: Statistic | float, oracle: float, library: str = SKSURV) -> Row:
        value = ours.value(n) if isinstance(ours, Statistic) else ours
        return Row(metric, case.name, n, outcomes.n_events, value, float(oracle), library)

    yield row("harrell_c", survival.harrell_c(risk, outcomes), sks.concordance_index_censored(event, time, risk)[0])
    fold = np.arange(n) % FOLDS
    yield row("harrell_c_within_folds", survival.harrell_c_within_folds(risk, outcomes, fold), _c_by_fold(case, fold))

    at, follow_up = horizons.Horizons.of(outcomes), SharedFollowUp(outcomes)
    curves, last = SurvivalCurves(case.survival, case.times), float(case.times[-1])
    expected = np.array([np.interp(at.at, np.append(0, case.times), np.append(1, own)) for own in case.survival])
    kaplan_meier = SurvfuncRight(time, event.astype(int))
    for k, horizon in enumerate(at.at):
        if horizon > last:
            continue  # beyond what the model learnt, nothing was predicted
        free = kaplan_meier.surv_prob[kaplan_meier.surv_times <= horizon][-1]
        ratio = (1 - free) / (1 - expected[:, k]).mean()
        ours = horizons.observed_expected(curves, follow_up, horizon)
        yield row(f"observed_expected@{horizon:g}", ours, ratio, STATSMODELS)
    p = chisquare(_d_calibration_bins(case)).pvalue
    yield row("d_calibration", d_calibration(curves, outcomes), p, f"{SCIPY} chisquare")
    high = risk > np.median(risk)
    yield row("log-rank p", groups.logrank_p(outcomes, high) or np.nan, compare_survival(truth, high)[1])


def of_survival_in_r() -> Iterator[Row]:
    """What weighs for censoring, and with it what R says of the same patients without weights."""
    document = json.loads((REFERENCE / "survival.json").read_text())
    library = {name: f"R {name} {number}" for name, number in document["versions"].items()}
    for case in document["cases"]:
        time, status, risk = (np.array(case[key], dtype=float) for key in ("time", "status", "risk"))
        outcomes, n = outcomes_of(time, status == 1, status == 2), len(time)
        follow_up, times = SharedFollowUp(outcomes), np.array(case["times"], dtype=float)
        curves = SurvivalCurves(np.exp(-np.outer(np.exp(risk), case["hazard"])), times)
        at, grid = np.atleast_1d(case["horizons"]).astype(float), np.array(case["grid"])
        found = [
            ("harrell_c", survival.harrell_c(risk, outcomes), case["harrell_c"], "survival"),
            ("uno_c", survival.uno_c(risk, outcomes), case["uno_c"], "survival"),
            ("cumulative_auc", horizons.mean_cumulative_auc(risk, follow_up, at), case["mean_auc"], "riskRegression"),
            (
                "integrated_brier", horizons.integrated_brier(curves, follow_up, grid), case["integrated_brier"],
                "riskRegression",
            ),
        ]  # fmt: skip
        for k, horizon in enumerate(at):
            area, brier = (
                horizons.cumulative_auc(risk, follow_up, horizon), horizons.brier_at(curves, follow_up, horizon),
            )  # fmt: skip
            ratio = horizons.observed_expected(curves, follow_up, horizon)
            found += [
                (f"cumulative_auc@{horizon:g}", area, np.atleast_1d(case["auc"])[k], "riskRegression"),
                (f"brier@{horizon:g}", brier, np.atleast_1d(case["brier"])[k], "riskRegression"),
                (f"observed_expected@{horizon:g}", ratio, np.atleast_1d(case["observed_expected"])[k], "survival"),
            ]
            if "brier_pec" in case:
                found.append((f"brier@{horizon:g}", brier, np.atleast_1d(case["brier_pec"])[k], "pec"))
        for metric, ours, oracle, package in found:
            yield Row(metric, case["name"], n, outcomes.n_events, ours.value(n), float(oracle), library[package])


def _c_by_fold(case: Survival, fold: np.ndarray) -> float:
    """Concordant and comparable pairs of every fold, summed."""
    won = comparable = 0.0
    for one in range(FOLDS):
        of = fold == one
        try:
            _, concordant, discordant, tied, _ = sks.concordance_index_censored(
                case.outcomes.event[of], case.outcomes.value[of], case.risk[of]
            )
        except (sks.NoComparablePairException, ValueError):  # the fold has no event, or none before the last time
            continue
        won, comparable = won + concordant + tied / 2, comparable + concordant + discordant + tied
    return won / comparable


def _d_calibration_bins(case: Survival) -> FloatArray:
    """Haider et al. 2020, figure 8, patient by patient; an event at a shared time is anywhere in the step before it."""
    bins, edges = np.zeros(BINS), np.linspace(0, 1, BINS + 1)
    shared = Counter(case.outcomes.value[case.outcomes.event].tolist())
    fullest = max(shared.values(), default=0)
    coarse = sorted(time for time, held in shared.items() if 10 * held >= fullest and held > 1 and len(shared) > 1)
    step = min((after - before for before, after in pairwise([0.0, *coarse])), default=0.0)
    for time, event, own in zip(case.outcomes.value, case.outcomes.event, case.survival, strict=True):
        known = event and time <= case.times[-1]
        start = time - step if known and time in coarse else time
        high, low = np.interp([start, time], np.append(0, case.times), np.append(1, own))
        low = low if known else 0.0
        bins += np.diff(uniform(low, high - low).cdf(edges)) if high > low else np.histogram(low, edges)[0]
    return bins


def of_competing() -> Iterator[Row]:
    for name, (table, truth) in {"bmt": datasets.load_bmt(), "cgvhd": datasets.load_cgvhd()}.items():
        status, time = truth["status"].astype(int), truth["ftime"]
        risk = table[table.columns[-1]].to_numpy(float)
        yield from _competing(name, time, status, risk)
        yield from _competing_without_censoring(
            f"{name}, uncensored", time[status > 0], status[status > 0], risk[status > 0]
        )


def _competing(name: str, time: FloatArray, status: np.ndarray, risk: FloatArray) -> Iterator[Row]:
    outcomes = outcomes_of(time, status == 1, status > 1)
    never = np.where(status > 1, time.max() + 1, time)
    oracle = sks.concordance_index_censored(status == 1, never, risk)[0]
    ours = survival.cause_specific_c(risk, outcomes).value(len(time))
    yield Row("cause_specific_c", name, len(time), outcomes.n_events, ours, oracle, SKSURV)
    x, incidence, limits = cumulative_incidence_competing_risks(
        np.minimum(status, 2), time, conf_type="log-log", var_type="Dinse_Approx"
    )
    for cause, curve in enumerate(cumulative_incidence(outcomes), start=1):
        middle = len(x) // 2
        of = int(np.searchsorted(curve.x, x[middle], side="right")) - 1
        expected = {"": incidence[cause, middle], ", low": limits[cause, 0, middle], ", high": limits[cause, 1, middle]}
        found = {"": curve.y[of], ", low": curve.low[of], ", high": curve.high[of]}
        for part, value in expected.items():
            metric = f"{curve.name} at {x[middle]:.3g}{part}"
            yield Row(metric, name, len(time), outcomes.n_events, float(found[part]), float(value), SKSURV)


def _competing_without_censoring(name: str, time: FloatArray, status: np.ndarray, risk: FloatArray) -> Iterator[Row]:
    """Where nobody is censored, everybody's state at a horizon is known, and it is a binary outcome."""
    outcomes = outcomes_of(time, status == 1, status > 1)
    follow_up = SharedFollowUp(outcomes)
    horizon = float(np.median(time[status == 1]))
    by_then = (time <= horizon) & (status == 1)
    probability = 1 / (1 + np.exp(-(risk - risk.mean()) / (risk.std() + 1)))
    curves = SurvivalCurves(1 - probability[:, None], np.array([horizon]))
    pairs = {
        f"cumulative_auc@{horizon:g}": (
            horizons.cumulative_auc(risk, follow_up, horizon), sk.roc_auc_score(by_then, risk),
        ),
        f"brier@{horizon:g}": (
            horizons.brier_at(curves, follow_up, horizon), sk.brier_score_loss(by_then, probability),
        ),
        f"observed_expected@{horizon:g}": (
            horizons.observed_expected(curves, follow_up, horizon), by_then.mean() / probability.mean(),
        ),
    }  # fmt: skip
    for metric, (ours, oracle) in pairs.items():
        value = ours.value(len(time))
        yield Row(metric, name, len(time), outcomes.n_events, value, float(oracle), SKLEARN)


def of_binary() -> Iterator[Row]:
    data, target = load_breast_cancer(return_X_y=True)
    train = np.arange(len(target)) % 2 == 0
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.001)).fit(data[train, :10], target[train])
    probability, event = model.predict_proba(data[~train, :10])[:, 1], target[~train] == 1
    few = np.arange(0, len(event), 14)
    cases = {
        "breast cancer": (probability, event),
        "breast cancer, probability to 0.1: ties": (np.round(probability, 1), event),
        "breast cancer, 21 patients": (probability[few], event[few]),
        "breast cancer, one positive": (probability, np.arange(len(event)) == int(np.flatnonzero(event)[3])),
    }
    for name, (score, label) in cases.items():
        yield from _binary(name, score, label)


def _binary(name: str, score: FloatArray, label: BoolArray) -> Iterator[Row]:
    n = len(label)
    outcomes = Outcomes(Binary("event", "event"), tuple(f"p{i}" for i in range(n)), label.astype(float), label)
    fold = np.arange(n) % FOLDS
    threshold = np.array([0.5, 0.55, 0.6, 0.65, 0.7])[fold]
    called = score >= threshold
    computed: dict[str, tuple[Statistic, float, str]] = {
        "auc": (binary.auc(score, outcomes), sk.roc_auc_score(label, score), SKLEARN),
        "average_precision": (
            binary.average_precision(score, outcomes), sk.average_precision_score(label, score), SKLEARN,
        ),
        "auc_within_folds": (
            binary.auc_within_folds(score, outcomes, fold), _auc_by_fold(score, label, fold), SKLEARN,
        ),
        "balanced_accuracy": (
            binary.balanced_accuracy(score, outcomes, threshold), sk.balanced_accuracy_score(label, called), SKLEARN,
        ),
        "sensitivity": (binary.sensitivity(score, outcomes, threshold), sk.recall_score(label, called), SKLEARN),
        "specificity": (binary.specificity(score, outcomes, threshold), sk.recall_score(~label, ~called), SKLEARN),
        "brier": (binary.brier(score, outcomes), sk.brier_score_loss(label, score), SKLEARN),
        "log_loss": (binary.log_loss(score, outcomes), sk.log_loss(label, score), SKLEARN),
        "observed_expected": (
            calibration.observed_expected(score, outcomes), label.mean() / score.mean(), NUMPY,
        ),
    }  # fmt: skip
    logit = np.log(np.clip(score, 1e-6, 1 - 1e-6) / (1 - np.clip(score, 1e-6, 1 - 1e-6)))
    family = sm.families.Binomial()
    beside, slope = (
        sm.GLM(label.astype(float), sm.add_constant(logit), family=family).fit(tol=1e-12, maxiter=200).params
    )
    intercept = sm.GLM(label.astype(float), np.ones(n), family=family, offset=logit).fit(tol=1e-12).params[0]
    computed["calibration_slope"] = calibration.calibration_slope(score, outcomes), slope, STATSMODELS
    computed["recalibration_intercept"] = calibration.recalibration_intercept(score, outcomes), beside, STATSMODELS
    computed["calibration_intercept"] = calibration.calibration_intercept(score, outcomes), intercept, STATSMODELS
    for metric, (ours, oracle, library) in computed.items():
        yield Row(metric, name, n, int(label.sum()), ours.value(n), float(oracle), library)


def _auc_by_fold(score: FloatArray, label: BoolArray, fold: np.ndarray) -> float:
    """AUC of every fold with both classes, weighted by its pairs."""
    parts = [(label[fold == one], score[fold == one]) for one in range(FOLDS)]
    both = [(sk.roc_auc_score(y, s), y.sum() * (~y).sum()) for y, s in parts if 0 < y.sum() < len(y)]
    return sum(area * pairs for area, pairs in both) / sum(pairs for _, pairs in both)


def of_continuous() -> Iterator[Row]:
    data, target = load_diabetes(return_X_y=True)
    train = np.arange(len(target)) % 2 == 0
    predicted = Ridge(1.0).fit(data[train], target[train]).predict(data[~train])
    observed = target[~train]
    oracles: dict[Callable[[FloatArray, Outcomes], Statistic], Callable[[FloatArray, FloatArray], float]] = {
        continuous.spearman: lambda y, x: spearmanr(x, y).statistic,
        continuous.mean_absolute_error: sk.mean_absolute_error,
        continuous.r2: sk.r2_score,
    }
    names = {continuous.spearman: "spearman", continuous.mean_absolute_error: "mae", continuous.r2: "r2"}
    for case, (x, y) in {
        "diabetes": (predicted, observed),
        "diabetes, to 20: ties": (np.round(predicted / 20) * 20, np.round(observed / 20) * 20),
        "diabetes, 20 patients": (predicted[:20], observed[:20]),
    }.items():
        n = len(y)
        outcomes = Outcomes(Continuous("y", "y"), tuple(f"p{i}" for i in range(n)), y, np.ones(n, dtype=bool))
        for metric, oracle in oracles.items():
            library = SCIPY if metric is continuous.spearman else SKLEARN
            yield Row(names[metric], case, n, n, metric(x, outcomes).value(n), float(oracle(y, x)), library)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markdown", action="store_true", help="a Markdown table")
    markdown = parser.parse_args().markdown
    found = list(rows())
    if markdown:
        print(
            "| metric | case | n | events | ours | oracle | difference | library |\n|---|---|---|---|---|---|---|---|"
        )
    line = (
        "| {} | {} | {} | {} | {} | {} | {} | {} |" if markdown else "{:<43} {:<39}{:>5}{:>5}  {:<13} {:<13} {:<7} {}"
    )
    for row in found:
        numbers = f"{row.ours:.7g}", f"{row.oracle:.7g}", f"{abs(row.ours - row.oracle):.0e}"
        print(line.format(row.metric, row.case, row.n, row.events, *numbers, row.library))
    worst = max(abs(row.ours - row.oracle) for row in found)
    print(f"\n{len(found)} comparisons, largest difference {worst:.1e}")


if __name__ == "__main__":
    main()
