"""Kaplan–Meier and Aalen–Johansen estimates, risk groups and the log-rank test, of many counted samples at once.

Outcomes are those of n patients, in the order of the other arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, norm
from statsmodels.duration.survfunc import CumIncidenceRight, SurvfuncRight, survdiff

from twobe3.core.counts import format_count
from twobe3.core.endpoints import TimeToEvent
from twobe3.core.outcomes import BoolArray, FloatArray, Outcomes
from twobe3.evaluation.bootstrap import LEVEL
from twobe3.evaluation.results import Curve, Group, RiskGroups

MOST_TIMES = 6
REMEMBERED = 6  # three estimates of the bootstrap samples, and of the cohort without each patient
_MONTHS = (1.0, 2.0, 3.0, 6.0, 12.0, 24.0, 36.0, 60.0, 120.0)


@dataclass(frozen=True, eq=False)
class Split:
    """Who of n patients is in the group of high risk, and the cut-off with where it comes from."""

    high: BoolArray
    cutoff: str

    def groups(self) -> Iterator[tuple[str, BoolArray]]:
        """Name and members of each group that has patients."""
        yield from ((name, who) for name, who in (("low", ~self.high), ("high", self.high)) if who.any())


def split_by_risk(
    risk: FloatArray, present: BoolArray, cutoff: FloatArray | None = None, given: float | None = None
) -> Split:
    """Divide patients by their out-of-fold risks; arrays have the shape (repeats, n).

    With ``cutoff``, what the training patients of each patient's own fold chose (folds are different models, whose
    risks need not share a scale), a patient is in the group of high risk when the risk lies above it in at least half
    of the repeats. A ``given`` cut-off, for all, of the mean risk over repeats takes precedence. With neither it is the
    median of those means: then the groups were chosen with the very patients that they describe, and ``Split.cutoff``
    says so.
    """
    times = present.sum(axis=0)
    if given is None and cutoff is not None:
        above = ((risk > cutoff) & present).sum(axis=0)
        majority = "" if len(risk) == 1 else f", in at least half of {len(risk)} repeats"
        return Split(above * 2 >= times, f"cut-off of the training patients of each fold{majority}")
    mean = np.where(present, risk, 0.0).sum(axis=0) / times
    value = float(np.median(mean)) if given is None else given
    origin = "given cut-off" if given is not None else "median of the out-of-fold risks, which these patients chose"
    return Split(mean > value, f"{value:.4g}, {origin}")


def risk_groups(split: Split, outcomes: Outcomes) -> RiskGroups:
    """How many of each group are at risk when, and the log-rank test of the two.

    A patient is at risk at a time when neither event nor censoring came before it.
    """
    times = _round_times(outcomes)
    groups = tuple(
        Group(
            name,
            int(members.sum()),
            int(outcomes.event[members].sum()),
            tuple(int((outcomes.value[members] >= time).sum()) for time in times),
        )
        for name, members in split.groups()
    )
    return RiskGroups(split.cutoff, logrank_p(outcomes, split.high), times, groups)


def kaplan_meier(split: Split, outcomes: Outcomes) -> tuple[Curve, ...]:
    """Kaplan–Meier curves of the groups of low and of high risk; a competing event counts as a censoring.

    x: time; y: share without the event; limits: pointwise 95 % on the log(−log) scale, Greenwood's variance
    (Kalbfleisch & Prentice, The Statistical Analysis of Failure Time Data, 2nd ed. 2002, §1.4), NaN where y is 0 or 1.
    """
    p = logrank_p(outcomes, split.high)
    test = "log-rank test not estimable" if p is None else f"log-rank p = {p:.3g}"
    curves = []
    for name, members in split.groups():
        time, event = outcomes.value[members], outcomes.event[members]
        sample = f"{format_count(len(time), 'patient')}, {format_count(int(event.sum()), 'event')}"
        label = f"{name} risk ({split.cutoff}), {sample}; {test}"
        estimate = SurvfuncRight(time, event.astype(int))
        last = (estimate.surv_prob[-1:], estimate.surv_prob_se[-1:]) if event.any() else ([1.0], [np.nan])
        x = np.concatenate([[0.0], estimate.surv_times, [time.max()]])
        y = np.concatenate([[1.0], estimate.surv_prob, last[0]])
        error = np.concatenate([[np.nan], estimate.surv_prob_se, last[1]])
        curves.append(Curve(f"kaplan_meier_{name}", label, x, y, *_limits(y, error)))
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


def cumulative_incidence(outcomes: Outcomes, split: Split | None = None) -> tuple[Curve, ...]:
    """Probability of the event and of the competing event by each time, neither counted as a censoring of the other.

    Of all patients and, with a split, of the event in its groups. Aalen & Johansen, Scandinavian Journal of Statistics
    5 (1978) 141–150; limits: pointwise 95 % on the log(−log) scale, variance by the delta method (Dinse & Larson,
    Biometrika 73 (1986) 379–386, eq. 6); NaN where y is 0 or 1, and where nobody is left at risk.
    """
    all_patients = np.ones(len(outcomes), dtype=np.bool_)
    curves = [
        _incidence_curve("event", outcomes, outcomes.event, all_patients, "the event, all"),
        _incidence_curve("competing", outcomes, outcomes.competing, all_patients, "competing events, all"),
    ]
    for name, members in () if split is None else split.groups():
        curves.append(_incidence_curve(name, outcomes, outcomes.event, members, f"the event, {name} risk"))
    return tuple(curves)


def _incidence_curve(name: str, outcomes: Outcomes, cause: BoolArray, members: BoolArray, what: str) -> Curve:
    time, this = outcomes.value[members], cause[members]
    other = (outcomes.event | outcomes.competing)[members] & ~this
    # Where all who are left have an event at one time, the variance divides by nobody.
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = CumIncidenceRight(time, np.where(this, 1, np.where(other, 2, 0)))
    y, error = np.zeros(len(estimate.times)), np.full(len(estimate.times), np.nan)
    if this.any():
        y, error = estimate.cinc[0], estimate.cinc_se[0]
    x, y, error = np.append(0.0, estimate.times), np.append(0.0, y), np.append(np.nan, error)
    sample = f"{format_count(len(time), 'patient')}, {format_count(int(this.sum()), 'event')}"
    label = f"cumulative incidence of {what}: {sample}"
    return Curve(f"cumulative_incidence_{name}", label, x, y, *_limits(y, error))


def _limits(y: FloatArray, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Pointwise 95 % limits on the log(−log) scale; NaN where y is 0 or 1."""
    inside = (y > 0) & (y < 1)
    safe = np.where(inside, y, 0.5)
    margin = np.where(inside, norm.ppf((1 + LEVEL) / 2) * error / (safe * np.abs(np.log(safe))), np.nan)
    return safe ** np.exp(margin), safe ** np.exp(-margin)


def _round_times(outcomes: Outcomes) -> tuple[float, ...]:
    """0 and the multiples of a round step within the follow-up: at most six."""
    latest = float(outcomes.value.max())
    monthly = isinstance(outcomes.endpoint, TimeToEvent) and outcomes.endpoint.unit == "month"
    steps = np.sort(np.outer((1.0, 2.0, 5.0), 10.0 ** np.arange(-6, 12)).ravel())
    if monthly:
        steps = np.concatenate([steps[steps < 1], _MONTHS, steps[steps > max(_MONTHS)]])
    step = float(steps[np.argmax(latest / steps < MOST_TIMES)])
    return tuple(float(round(i * step, 9)) for i in range(int(latest / step) + 1))


class FollowUp:
    """Product-limit estimates of counted samples of the same n patients.

    With ``competing_censors`` a competing event counts as a censoring, as it does for the hazard of the event alone;
    for the probability of the event it doesn't, since it precludes the event. ``times``, shape (m,), are the distinct
    times at which somebody's follow-up ended, ``position``, shape (n,), is that of each patient's time among them, and
    ``ended`` says whether an event ended the follow-up, rather than a censoring.
    """

    def __init__(self, outcomes: Outcomes, *, competing_censors: bool) -> None:
        self.outcomes = outcomes
        self.ended: BoolArray = outcomes.event.copy() if competing_censors else outcomes.event | outcomes.competing
        self.times, self.position = np.unique(outcomes.value, return_inverse=True)
        self._order = np.argsort(outcomes.value, kind="stable")
        self._starts = np.searchsorted(outcomes.value[self._order], self.times)

    def probability_uncensored(self, counts: FloatArray) -> FloatArray:
        """Estimated probability G(t) of being uncensored beyond each of ``times``; shape (samples, m).

        Events at a time precede the censorings at it, so those patients are not at risk of being censored then.
        """
        total, ended = self._at_times(counts), self._at_times(counts * self.ended)
        at_risk = _sum_from_end(total) - ended
        kept: FloatArray = 1 - (total - ended) / np.maximum(at_risk, 1.0)
        return np.asarray(kept.cumprod(axis=1))

    def weight_at_own_time(self, counts: FloatArray) -> FloatArray:
        """Inverse probability of censoring weight 1/G(T−) of an event at each patient's own time T; (samples, n).

        An event at T is seen in whoever is not censored before T (Gerds & Schumacher, Biometrical Journal 48 (2006)
        1029–1040). G(T−) is 0 only where a sample has nobody left to follow until T; 1 stands there.
        """
        after = self.probability_uncensored(counts)
        before = np.concatenate([np.ones((len(counts), 1)), after[:, :-1]], axis=1)[:, self.position]
        return np.asarray(1 / np.where(before > 0, before, 1.0))

    def incidence(self, counts: FloatArray) -> FloatArray:
        """Estimated probability of the event by each of ``times``; shape (samples, m).

        Aalen & Johansen, Scandinavian Journal of Statistics 5 (1978) 141–150: F(t) = Σ S(u−) d(u) / n(u) over u ≤ t,
        with S the probability of no event of either kind. Without competing events it is 1 − Kaplan–Meier.
        """
        at_risk = np.maximum(_sum_from_end(self._at_times(counts)), 1.0)
        free = np.cumprod(1 - self._at_times(counts * self.ended) / at_risk, axis=1)
        free_before = np.concatenate([np.ones((len(counts), 1)), free[:, :-1]], axis=1)
        return np.cumsum(free_before * self._at_times(counts * self.outcomes.event) / at_risk, axis=1)

    def at(self, curve: FloatArray, time: float, before: float) -> FloatArray:
        """A step curve of :attr:`times` at one time, shape (samples,); ``before`` is its value before the first."""
        last = int(np.searchsorted(self.times, time, side="right")) - 1
        return curve[:, last] if last >= 0 else np.full(len(curve), before)

    def _at_times(self, counts: FloatArray) -> FloatArray:
        """Sum of the counts of the patients whose follow-up ended at each of ``times``."""
        return np.asarray(np.add.reduceat(counts[:, self._order], self._starts, axis=1))


class SharedFollowUp(FollowUp):
    """A follow-up that remembers its estimates of the last tables of counts.

    The metrics of all repeats and horizons ask for the same ones. A competing event is no censoring here.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        super().__init__(outcomes, competing_censors=False)
        self._known: list[tuple[str, FloatArray, FloatArray]] = []  # what was asked for last stands last

    def probability_uncensored(self, counts: FloatArray) -> FloatArray:
        """As of :class:`FollowUp`."""
        return self._recall("uncensored", counts, super().probability_uncensored)

    def incidence(self, counts: FloatArray) -> FloatArray:
        """As of :class:`FollowUp`."""
        return self._recall("incidence", counts, super().incidence)

    def weighted(self, counts: FloatArray) -> FloatArray:
        """Count over G(T−) of each patient whose follow-up an event ended at T, else 0; shape (samples, n)."""
        return self._recall("weighted", counts, lambda table: table * self.ended * self.weight_at_own_time(table))

    def _recall(self, what: str, counts: FloatArray, estimate: Callable[[FloatArray], FloatArray]) -> FloatArray:
        for position, (known, table, value) in enumerate(self._known):
            if known == what and table is counts:
                self._known.append(self._known.pop(position))
                return value
        value = estimate(counts)
        if len(counts) > 1:  # the cohort itself costs nothing
            self._known = [*self._known, (what, counts, value)][-REMEMBERED:]
        return value


def _sum_from_end(values: FloatArray) -> FloatArray:
    return np.asarray(np.cumsum(values[:, ::-1], axis=1)[:, ::-1])
