"""Patients in a group of low and one of high risk: Kaplan–Meier curves, log-rank test, numbers at risk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, norm
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from twobe3.evaluation.intervals import LEVEL
from twobe3.evaluation.results import Curve, Group, RiskGroups
from twobe3.outcome import BoolArray, FloatArray, Outcomes, TimeToEvent

MOST_TIMES = 6
_MONTHS = (1.0, 2.0, 3.0, 6.0, 12.0, 24.0, 36.0, 60.0, 120.0)


@dataclass(frozen=True, eq=False)
class Split:
    """Who is in the group of high risk.

    Attributes
    ----------
    high : ndarray of bool, shape (n,)
        The others are in the group of low risk.
    cutoff : str
        The cut-off and where it comes from.
    """

    high: BoolArray
    cutoff: str


def split_by_risk(
    risk: FloatArray, present: BoolArray, cutoff: FloatArray | None = None, given: float | None = None
) -> Split:
    """Divide patients by their out-of-fold risks.

    Parameters
    ----------
    risk : ndarray, shape (repeats, n)
    present : ndarray of bool, shape (repeats, n)
        Whether the patient was predicted in the repeat; in at least one.
    cutoff : ndarray, shape (repeats, n), optional
        What the training patients of the patient's own fold chose: folds are different models, whose risks need not
        share a scale. A patient is in the group of high risk when the risk lies above it in at least half of the
        repeats.
    given : float, optional
        One cut-off for all, of the mean risk over repeats; it takes precedence. With neither, the median of those
        means: then the groups were chosen with the very patients that they describe, and ``cutoff`` says so.
    """
    times = present.sum(axis=0)
    if given is None and cutoff is not None:
        above = ((risk > cutoff) & present).sum(axis=0)
        return Split(above * 2 >= times, "cut-off of the training patients of each fold" + _majority(len(risk)))
    mean = np.where(present, risk, 0.0).sum(axis=0) / times
    value = float(np.median(mean)) if given is None else given
    origin = "given cut-off" if given is not None else "median of the out-of-fold risks, which these patients chose"
    return Split(mean > value, f"{value:.4g}, {origin}")


def risk_groups(split: Split, outcomes: Outcomes) -> RiskGroups:
    """How many of each group are at risk when, and the log-rank test of the two.

    A patient is at risk at a time when neither event nor censoring came before it.
    """
    times = _round_times(outcomes)
    names = (("low", ~split.high), ("high", split.high))
    groups = tuple(
        Group(
            name,
            int(members.sum()),
            int(outcomes.event[members].sum()),
            tuple(int((outcomes.value[members] >= time).sum()) for time in times),
        )
        for name, members in names
        if members.any()
    )
    return RiskGroups(split.cutoff, logrank_p(outcomes, split.high), times, groups)


def kaplan_meier(split: Split, outcomes: Outcomes) -> tuple[Curve, ...]:
    """Kaplan–Meier curves of the groups of low and of high risk.

    Parameters
    ----------
    split : Split
        Of n patients.
    outcomes : Outcomes
        Of the same n patients, in the same order. A competing event counts as a censoring.

    Returns
    -------
    tuple of Curve
        ``kaplan_meier_low`` and ``kaplan_meier_high``; a group without patients has none. x: time; y: share without
        the event; limits: pointwise 95 % on the log(−log) scale, Greenwood's variance (Kalbfleisch & Prentice,
        The Statistical Analysis of Failure Time Data, 2nd ed. 2002, §1.4), NaN where y is 0 or 1.
    """
    p = logrank_p(outcomes, split.high)
    test = "log-rank test not estimable" if p is None else f"log-rank p = {p:.3g}"
    curves = []
    for name, members in (("low", ~split.high), ("high", split.high)):
        if members.any():
            events = int(outcomes.event[members].sum())
            label = f"{name} risk ({split.cutoff}), {int(members.sum())} patients, {events} events; {test}"
            curves.append(_curve(f"kaplan_meier_{name}", outcomes.value[members], outcomes.event[members], label))
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


def product_limit(time: FloatArray, event: BoolArray, at: float) -> tuple[float, float, float]:
    """The Kaplan–Meier estimate at one time with its 95 % limits, as :func:`kaplan_meier` makes them."""
    curve = _curve("", time, event, "")
    last = int(np.searchsorted(curve.x, at, side="right")) - 1
    assert curve.low is not None
    assert curve.high is not None
    return float(curve.y[last]), float(curve.low[last]), float(curve.high[last])


def _majority(repeats: int) -> str:
    return "" if repeats == 1 else f", in at least half of {repeats} repeats"


def _round_times(outcomes: Outcomes) -> tuple[float, ...]:
    """0 and the multiples of a round step within the follow-up: at most six."""
    latest = float(outcomes.value.max())
    monthly = isinstance(outcomes.endpoint, TimeToEvent) and outcomes.endpoint.unit == "month"
    tens = 10.0 ** np.arange(-6, 12)
    steps = np.sort(np.outer((1.0, 2.0, 5.0), tens).ravel())
    if monthly:
        steps = np.concatenate([steps[steps < 1], _MONTHS, steps[steps > max(_MONTHS)]])
    step = float(steps[np.argmax(latest / steps < MOST_TIMES)])
    return tuple(float(round(i * step, 9)) for i in range(int(latest / step) + 1))


def _curve(name: str, time: FloatArray, event: BoolArray, label: str) -> Curve:
    estimate = SurvfuncRight(time, event.astype(int))
    x = np.concatenate([[0.0], estimate.surv_times, [time.max()]])
    y = np.concatenate([[1.0], estimate.surv_prob, estimate.surv_prob[-1:] if event.any() else [1.0]])
    error = np.concatenate([[np.nan], estimate.surv_prob_se, estimate.surv_prob_se[-1:] if event.any() else [np.nan]])
    inside = (y > 0) & (y < 1)
    safe = np.where(inside, y, 0.5)
    margin = np.where(inside, norm.ppf((1 + LEVEL) / 2) * error / (safe * np.abs(np.log(safe))), np.nan)
    return Curve(name, x, y, safe ** np.exp(margin), safe ** np.exp(-margin), label)
