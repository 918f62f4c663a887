"""Predicted probabilities of staying free of the event, between the times at which a model gave them."""

from __future__ import annotations

import numpy as np

from twobe3.outcome import FloatArray, IntArray


class SurvivalCurves:
    """Predicted survival, linear between the times given; from 1 at time zero.

    Parameters
    ----------
    survival : ndarray, shape (n, k)
        Probability of each patient of being free of the event at each of ``times``.
    times : ndarray, shape (k,)
        Ascending, in the endpoint's unit; the last one above 0.

    Attributes
    ----------
    last : float
        The last of the times; later nothing was predicted.
    """

    def __init__(self, survival: FloatArray, times: FloatArray) -> None:
        if times[0] > 0:
            times, survival = np.append(0.0, times), np.column_stack([np.ones(len(survival)), survival])
        self._times, self._survival = times, survival
        self.last = float(times[-1])

    def at(self, times: FloatArray) -> FloatArray:
        """Every patient's survival at each of some times; shape (n, len(times)), NaN beyond the last prediction."""
        after, share = self._between(times)
        values = self._survival[:, after - 1] * (1 - share) + self._survival[:, after] * share
        return np.where(times > self.last, np.nan, values)

    def at_own(self, times: FloatArray) -> FloatArray:
        """Each patient's survival at a time of its own; shape (n,), NaN beyond the last prediction."""
        after, share = self._between(times)
        rows = np.arange(len(times))
        values = self._survival[rows, after - 1] * (1 - share) + self._survival[rows, after] * share
        return np.where(times > self.last, np.nan, values)

    def _between(self, times: FloatArray) -> tuple[IntArray, FloatArray]:
        """Which predicted time follows each time, and how much of the way to it from the one before has passed."""
        after = np.clip(np.searchsorted(self._times, times), 1, len(self._times) - 1)
        start, end = self._times[after - 1], self._times[after]
        return after, np.clip((times - start) / (end - start), 0.0, 1.0)
