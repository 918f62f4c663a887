"""Concordance of risks with right-censored times.

Each metric takes the risk of n patients, higher for an earlier event, and the outcomes of the same patients in the same
order, and gives a :class:`~twobe3.evaluation.bootstrap.Statistic`. ``fold`` says in which fold each patient was tested.
"""

from __future__ import annotations

import numpy as np

from twobe3.core.endpoints import TimeToEvent
from twobe3.core.outcomes import BoolArray, FloatArray, IntArray, Outcomes
from twobe3.evaluation.bootstrap import Statistic
from twobe3.evaluation.kaplan_meier import FollowUp

MINIMUM_UNCENSORED = 0.1
TIES = "ties in risk count ½, an event and a censoring at one time are comparable, two events are not"


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Numerator over denominator, NaN where the denominator is not positive."""
    positive = denominator > 0
    return np.where(positive, numerator / np.where(positive, denominator, 1.0), np.nan)


def greater(first: FloatArray, second: FloatArray) -> FloatArray:
    """For every pair, shape (len(first), len(second)): 1 where the first is larger, ½ where they tie, else 0."""
    return np.heaviside(first[:, None] - second[None, :], 0.5)


class RiskOrder:
    """Patients in ascending order of risk, within blocks: only two patients of one block make a pair."""

    def __init__(self, risk: FloatArray, block: IntArray | None = None) -> None:
        block = np.zeros(len(risk), dtype=np.int64) if block is None else block
        self._order = np.lexsort((risk, block))
        risk, block = risk[self._order], block[self._order]
        new_block = np.append(True, block[1:] != block[:-1])
        self._starts = np.flatnonzero(new_block | np.append(True, risk[1:] != risk[:-1]))
        # Of each group of tied risks, the block to which it belongs; of each block, its first group.
        self._block = np.cumsum(new_block)[self._starts] - 1
        self._first = np.flatnonzero(new_block[self._starts])

    def pairs(self, cases: FloatArray, controls: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Weight of the pairs in which the case has the higher risk, and of all pairs of a case and a control.

        Both have shape (samples,). ``cases`` and ``controls``, shape (samples, n), are the weights of each
        patient as a case and as a control; a pair weighs their product, and ties in risk count ½.
        """
        cases, controls = (self._tied(weights) for weights in (cases, controls))
        below = np.cumsum(controls, axis=1) - controls
        below -= below[:, self._first][:, self._block]
        of_block = [np.add.reduceat(weights, self._first, axis=1) for weights in (cases, controls)]
        return (cases * (below + controls / 2)).sum(axis=1), (of_block[0] * of_block[1]).sum(axis=1)

    def _tied(self, weights: FloatArray) -> FloatArray:
        """Sum of the weights of each group of tied risks."""
        ordered = weights[:, self._order]
        if len(self._starts) == ordered.shape[1]:
            return ordered  # nothing is tied
        return np.asarray(np.add.reduceat(ordered, self._starts, axis=1))


def harrell_c(risk: FloatArray, outcomes: Outcomes) -> Statistic:
    """Harrell's concordance: of the comparable pairs, the share in which the earlier event has the higher risk.

    A pair is comparable when one patient has the event and the other is still under observation without it: a later
    time, or the same time censored. Two events at one time are no pair. Ties in risk count ½. (Harrell et al., JAMA
    247 (1982) 2543–2546.)
    """
    estimator = f"Harrell's C, {TIES}{_competing_censored(outcomes)}"
    return _concordance(risk, outcomes, comparable_pairs(outcomes), estimator)


def harrell_c_within_folds(risk: FloatArray, outcomes: Outcomes, fold: IntArray) -> Statistic:
    """:func:`harrell_c` of the pairs of patients that were tested in one fold, and so by one model."""
    comparable = comparable_pairs(outcomes) & (fold[outcomes.event][:, None] == fold[None, :])
    estimator = f"Harrell's C of the pairs tested in one fold, {TIES}{_competing_censored(outcomes)}"
    return _concordance(risk, outcomes, comparable, estimator)


def cause_specific_c(risk: FloatArray, outcomes: Outcomes) -> Statistic:
    """Concordance with competing events: does the patient who has the event first have the higher risk of it?

    As :func:`harrell_c`, but one who had the competing event can't have this one any more and stays comparable, as if
    observed for ever without it (Wolbers et al., Epidemiology 20 (2009) 555–561).
    """
    return _concordance(
        risk,
        outcomes,
        comparable_pairs(outcomes) | outcomes.competing,
        f"Wolbers' C, a patient with the competing event is comparable as one who never has this one, {TIES}",
    )


def uno_c(risk: FloatArray, outcomes: Outcomes, truncation: float | None = None) -> Statistic:
    """Uno's concordance up to a time τ: Harrell's, with each pair weighted by 1/G(t−)² of its event's time t < τ.

    G(t−) is the Kaplan–Meier estimate of not being censored before t, from the patients evaluated, and again from every
    bootstrap sample (Uno et al., Statistics in Medicine 30 (2011) 1105–1117, eq. 6). Unlike Harrell's it doesn't depend
    on how the cohort was censored. τ is ``truncation``, in the endpoint's unit, or :func:`truncation_time`; it serves
    every bootstrap sample.
    """
    tau = truncation_time(outcomes) if truncation is None else truncation
    event = outcomes.event
    before_tau = outcomes.value[event] < tau
    comparable = comparable_pairs(outcomes)
    outlives, wins = comparable.astype(np.float64), greater(risk[event], risk) * comparable
    follow_up = FollowUp(outcomes, competing_censors=True)

    def compute(counts: FloatArray) -> FloatArray:
        events = counts[:, event] * before_tau * follow_up.weight_at_own_time(counts)[:, event] ** 2
        return ratio(((events @ wins) * counts).sum(axis=1), ((events @ outlives) * counts).sum(axis=1))

    unit = f" {outcomes.endpoint.unit}s" if isinstance(outcomes.endpoint, TimeToEvent) else ""
    return Statistic(
        compute, f"Uno's C of events before {tau:g}{unit}, {TIES}, weights 1/G(t−)²{_competing_censored(outcomes)}"
    )


def truncation_time(outcomes: Outcomes) -> float:
    """The default τ of :func:`uno_c`, in the endpoint's unit: until then no event weighs more than 100.

    The first observed time at which less than 0.1 of the patients are estimated to be still uncensored; the last
    observed time when there is none.
    """
    follow_up = FollowUp(outcomes, competing_censors=True)
    uncensored = follow_up.probability_uncensored(np.ones((1, len(outcomes))))[0]
    late = follow_up.times[uncensored < MINIMUM_UNCENSORED]
    return float(late.min() if len(late) else follow_up.times[-1])


def comparable_pairs(outcomes: Outcomes) -> BoolArray:
    """For each patient with the event (rows) against all (columns): was the other observed longer, without it?"""
    event, time = outcomes.event, outcomes.value
    later = time[None, :] > time[event][:, None]
    censored_then = (time[None, :] == time[event][:, None]) & ~event
    return np.asarray(later | censored_then)


def _concordance(risk: FloatArray, outcomes: Outcomes, comparable: BoolArray, estimator: str) -> Statistic:
    """Share of the comparable pairs in which the patient with the event has the higher risk."""
    event = outcomes.event
    wins, pairs = greater(risk[event], risk) * comparable, comparable.astype(np.float64)

    def compute(counts: FloatArray) -> FloatArray:
        events = counts[:, event]
        return ratio(((events @ wins) * counts).sum(axis=1), ((events @ pairs) * counts).sum(axis=1))

    return Statistic(compute, estimator)


def _competing_censored(outcomes: Outcomes) -> str:
    return "; a competing event counts as a censoring" if outcomes.competing.any() else ""
