"""Metrics and curves of a right-censored time to an event."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2, norm
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from twobe3.evaluation.binary import greater, ratio
from twobe3.evaluation.intervals import LEVEL, Statistic
from twobe3.evaluation.results import Curve
from twobe3.outcome import BoolArray, FloatArray, Outcomes, TimeToEvent

MINIMUM_UNCENSORED = 0.1


def harrell_c(risk: FloatArray, outcomes: Outcomes) -> Statistic:
    """Harrell's concordance: of the comparable pairs, the share in which the earlier event has the higher risk.

    A pair is comparable when one patient has the event and the other is still under observation without it: a later
    time, or the same time censored. Two events at one time are no pair. Ties in risk count ½. (Harrell et al., JAMA
    247 (1982) 2543–2546.)

    Parameters
    ----------
    risk : ndarray, shape (n,)
        Higher for an earlier event.
    outcomes : Outcomes
        Of the same n patients, in the same order.
    """
    event = outcomes.event
    outlives, wins = _pairs(risk, outcomes)

    def compute(counts: FloatArray) -> FloatArray:
        events = counts[:, event]
        return ratio(((events @ wins) * counts).sum(axis=1), ((events @ outlives) * counts).sum(axis=1))

    return Statistic(
        compute,
        "Harrell's C, ties in risk count ½, an event and a censoring at one time are comparable, two events are not",
    )


def uno_c(risk: FloatArray, outcomes: Outcomes, truncation: float | None = None) -> Statistic:
    """Uno's concordance up to a time τ: Harrell's, with each pair weighted by 1/G(t)² of its event's time t < τ.

    G is the Kaplan–Meier estimate of staying uncensored, from the patients evaluated, and again from every bootstrap
    sample (Uno et al., Statistics in Medicine 30 (2011) 1105–1117, eq. 6). Unlike Harrell's it doesn't depend on
    how the cohort was censored.

    Parameters
    ----------
    risk : ndarray, shape (n,)
        Higher for an earlier event.
    outcomes : Outcomes
        Of the same n patients, in the same order.
    truncation : float, optional
        τ, in the endpoint's unit; :func:`truncation_time` by default. The same τ serves every bootstrap sample.
    """
    tau = truncation_time(outcomes) if truncation is None else truncation
    event = outcomes.event
    before_tau = outcomes.value[event] < tau
    outlives, wins = _pairs(risk, outcomes)

    def compute(counts: FloatArray) -> FloatArray:
        uncensored = _uncensored(outcomes, counts)[:, event]
        weighable = uncensored > 0
        weight = (before_tau & weighable) / np.where(weighable, uncensored, 1.0) ** 2
        events = counts[:, event] * weight
        value = ratio(((events @ wins) * counts).sum(axis=1), ((events @ outlives) * counts).sum(axis=1))
        # An event at the last time of a sample, with a censoring there, makes a pair without a finite weight.
        unweighable = (counts[:, event] * (before_tau & ~weighable)).any(axis=1)
        return np.where(unweighable, np.nan, value)

    unit = f" {outcomes.endpoint.unit}s" if isinstance(outcomes.endpoint, TimeToEvent) else ""
    return Statistic(compute, f"Uno's C of events before {tau:g}{unit}, ties in risk count ½")


def truncation_time(outcomes: Outcomes) -> float:
    """The default τ of :func:`uno_c`, in the endpoint's unit: until then no event weighs more than 100.

    The first observed time at which less than 0.1 of the patients are estimated to be still uncensored; the last
    observed time when there is none.
    """
    uncensored = _uncensored(outcomes, np.ones((1, len(outcomes))))[0]
    late = outcomes.value[uncensored < MINIMUM_UNCENSORED]
    return float(late.min() if len(late) else outcomes.value.max())


def kaplan_meier(risk: FloatArray, outcomes: Outcomes, cutoff: float | None = None) -> tuple[Curve, ...]:
    """Kaplan–Meier curves of the patients below and above a cut-off of the risk, and the log-rank test of the two.

    Parameters
    ----------
    risk : ndarray, shape (n,)
        One risk for each patient: its mean over repeats.
    outcomes : Outcomes
        Of the same n patients, in the same order.
    cutoff : float, optional
        High risk is above it. The median of ``risk`` by default; then the groups were chosen with the very patients
        that they describe, and the label says so.

    Returns
    -------
    tuple of Curve
        ``kaplan_meier_low`` and ``kaplan_meier_high``; a group without patients has none. x: time; y: share without
        the event; limits: pointwise 95 % on the log(−log) scale, Greenwood's variance (Kalbfleisch & Prentice,
        The Statistical Analysis of Failure Time Data, 2nd ed. 2002, §1.4), NaN where y is 0 or 1.
    """
    origin = "median of the out-of-fold risks" if cutoff is None else "given cut-off"
    cutoff = float(np.median(risk)) if cutoff is None else cutoff
    high = risk > cutoff
    p = logrank_p(outcomes, high)
    test = "log-rank test not estimable" if p is None else f"log-rank p = {p:.3g}"
    curves = []
    for name, sign, group in (("low", "≤", ~high), ("high", ">", high)):
        if group.any():
            events = int(outcomes.event[group].sum())
            label = f"risk {sign} {cutoff:.4g} ({origin}), {int(group.sum())} patients, {events} events; {test}"
            curves.append(_curve(f"kaplan_meier_{name}", outcomes.value[group], outcomes.event[group], label))
    return tuple(curves)


def logrank_p(outcomes: Outcomes, group: BoolArray) -> float | None:
    """p-value of the log-rank test of two groups (Mantel 1966); None when no event tells the groups apart."""
    # Only an event while both groups are observed tells them apart, and only if it leaves somebody.
    times = np.unique(outcomes.value[outcomes.event])[:, None]
    at_risk = outcomes.value >= times
    dying = ((outcomes.value == times) & outcomes.event).sum(axis=1)
    both = at_risk[:, group].any(axis=1) & at_risk[:, ~group].any(axis=1)
    if not (both & (at_risk.sum(axis=1) > dying)).any():
        return None
    statistic, _ = survdiff(outcomes.value, outcomes.event.astype(int), group.astype(int))
    return float(chi2.sf(statistic, df=1))


def _pairs(risk: FloatArray, outcomes: Outcomes) -> tuple[FloatArray, FloatArray]:
    """For each patient with the event (rows) against all (columns): is the pair comparable, and its concordance."""
    event, time = outcomes.event, outcomes.value
    later = time[None, :] > time[event][:, None]
    censored_then = (time[None, :] == time[event][:, None]) & ~event
    outlives = (later | censored_then).astype(np.float64)
    return outlives, greater(risk[event], risk) * outlives


def _uncensored(outcomes: Outcomes, counts: FloatArray) -> FloatArray:
    """Kaplan–Meier estimate of being uncensored beyond each patient's time, in each sample; shape (samples, n).

    Events at a time precede the censorings at it, so those patients are not at risk of being censored then.
    """
    times, position = np.unique(outcomes.value, return_inverse=True)
    at_time = (position[:, None] == np.arange(len(times))).astype(np.float64)
    total = counts @ at_time
    events = (counts * outcomes.event) @ at_time
    at_risk = np.cumsum(total[:, ::-1], axis=1)[:, ::-1] - events
    kept = 1 - (total - events) / np.maximum(at_risk, 1.0)
    survival: FloatArray = np.cumprod(kept, axis=1)[:, position]
    return survival


def _curve(name: str, time: FloatArray, event: BoolArray, label: str) -> Curve:
    estimate = SurvfuncRight(time, event.astype(int))
    x = np.concatenate([[0.0], estimate.surv_times, [time.max()]])
    y = np.concatenate([[1.0], estimate.surv_prob, estimate.surv_prob[-1:] if event.any() else [1.0]])
    error = np.concatenate([[np.nan], estimate.surv_prob_se, estimate.surv_prob_se[-1:] if event.any() else [np.nan]])
    inside = (y > 0) & (y < 1)
    safe = np.where(inside, y, 0.5)
    margin = np.where(inside, norm.ppf((1 + LEVEL) / 2) * error / (safe * np.abs(np.log(safe))), np.nan)
    return Curve(name, x, y, safe ** np.exp(margin), safe ** np.exp(-margin), label)
