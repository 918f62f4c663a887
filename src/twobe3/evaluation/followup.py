"""Who is under observation when: the Kaplan–Meier and Aalen–Johansen estimates of many counted samples at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from twobe3.outcome import BoolArray, FloatArray, Outcomes

REMEMBERED = 6  # three estimates of the bootstrap samples, and of the cohort without each patient


class FollowUp:
    """Product-limit estimates of counted samples of the same patients.

    Parameters
    ----------
    outcomes : Outcomes
        Of n patients.
    competing_censors : bool
        Whether a competing event counts as a censoring, as it does for the hazard of the event alone; for the
        probability of the event it doesn't, since it precludes the event.

    Attributes
    ----------
    times : ndarray of float64, shape (m,)
        The distinct times at which somebody's follow-up ended.
    position : ndarray of int64, shape (n,)
        Of each patient's time among ``times``.
    ended : ndarray of bool, shape (n,)
        Whether an event ended the follow-up, rather than a censoring.
    """

    def __init__(self, outcomes: Outcomes, *, competing_censors: bool) -> None:
        self.ended: BoolArray = outcomes.event.copy() if competing_censors else outcomes.event | outcomes.competing
        self._event = outcomes.event
        self.times, self.position = np.unique(outcomes.value, return_inverse=True)
        self._order = np.argsort(outcomes.value, kind="stable")
        self._starts = np.searchsorted(outcomes.value[self._order], self.times)

    def uncensored(self, counts: FloatArray) -> FloatArray:
        """Estimated probability G(t) of being uncensored beyond each of ``times``; shape (samples, m).

        Events at a time precede the censorings at it, so those patients are not at risk of being censored then.
        """
        total, ended = self._at_times(counts), self._at_times(counts * self.ended)
        at_risk = _from_the_end(total) - ended
        kept: FloatArray = 1 - (total - ended) / np.maximum(at_risk, 1.0)
        uncensored: FloatArray = kept.cumprod(axis=1)
        return uncensored

    def incidence(self, counts: FloatArray) -> FloatArray:
        """Estimated probability of the event by each of ``times``; shape (samples, m).

        Aalen & Johansen, Scandinavian Journal of Statistics 5 (1978) 141–150: F(t) = Σ S(u−) d(u) / n(u) over u ≤ t,
        with S the probability of no event of either kind. Without competing events it is 1 − Kaplan–Meier.
        """
        at_risk = np.maximum(_from_the_end(self._at_times(counts)), 1.0)
        free = np.cumprod(1 - self._at_times(counts * self.ended) / at_risk, axis=1)
        free_before = np.concatenate([np.ones((len(counts), 1)), free[:, :-1]], axis=1)
        incidence: FloatArray = np.cumsum(free_before * self._at_times(counts * self._event) / at_risk, axis=1)
        return incidence

    def at(self, curve: FloatArray, time: float, before: float) -> FloatArray:
        """A step curve of :attr:`times` at one time, shape (samples,); ``before`` is its value before the first."""
        last = int(np.searchsorted(self.times, time, side="right")) - 1
        return curve[:, last] if last >= 0 else np.full(len(curve), before)

    def _at_times(self, counts: FloatArray) -> FloatArray:
        """Sum of the counts of the patients whose follow-up ended at each of ``times``."""
        sums: FloatArray = np.add.reduceat(counts[:, self._order], self._starts, axis=1)
        return sums


class SharedFollowUp(FollowUp):
    """A follow-up that remembers its estimates of the last tables of counts.

    The metrics of all repeats and horizons ask for the same ones. A competing event is no censoring here.

    Attributes
    ----------
    outcomes : Outcomes
        Whose follow-up it is.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        super().__init__(outcomes, competing_censors=False)
        self.outcomes = outcomes
        self._known: list[tuple[str, FloatArray, FloatArray]] = []  # what was asked for last stands last

    def uncensored(self, counts: FloatArray) -> FloatArray:
        """As of :class:`FollowUp`."""
        return self._remembered("uncensored", counts, super().uncensored)

    def incidence(self, counts: FloatArray) -> FloatArray:
        """As of :class:`FollowUp`."""
        return self._remembered("incidence", counts, super().incidence)

    def weighted(self, counts: FloatArray) -> FloatArray:
        """Count over G(T) of each patient whose follow-up an event ended, else 0; shape (samples, n).

        0 also for an event at the last time of a sample with a censoring there, which has no finite weight: G is 0
        then, and no horizon from there on can be judged.
        """
        return self._remembered("weighted", counts, self._weighted)

    def _weighted(self, counts: FloatArray) -> FloatArray:
        uncensored = self.uncensored(counts)[:, self.position]
        weighable = uncensored > 0
        weighted: FloatArray = counts * (self.ended & weighable) / np.where(weighable, uncensored, 1.0)
        return weighted

    def _remembered(self, what: str, counts: FloatArray, estimate: Callable[[FloatArray], FloatArray]) -> FloatArray:
        for position, (known, table, value) in enumerate(self._known):
            if known == what and table is counts:
                self._known.append(self._known.pop(position))
                return value
        value = estimate(counts)
        if len(counts) > 1:  # the cohort itself costs nothing
            self._known = [*self._known, (what, counts, value)][-REMEMBERED:]
        return value


def _from_the_end(values: FloatArray) -> FloatArray:
    sums: FloatArray = np.cumsum(values[:, ::-1], axis=1)[:, ::-1]
    return sums
