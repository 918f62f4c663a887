"""Losses of risks with their first and second derivatives, summed over patients or events, in double precision."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from twobe3.core.outcomes import FloatArray, Outcomes

SMALLEST_LOG_HAZARD = -600.0
"""Below the largest: what is less is taken for that in second derivatives, where it would be 0 by underflow."""


class SummedLoss(ABC):
    """The loss of n patients, as a function of their risks."""

    @abstractmethod
    def value(self, risk: FloatArray) -> float:
        """The loss of risks, shape (n,)."""

    @abstractmethod
    def gradient(self, risk: FloatArray) -> FloatArray:
        """Its derivative by the risk of each patient, shape (n,)."""

    @abstractmethod
    def curvature(self, risk: FloatArray, x: FloatArray) -> FloatArray:
        """Its second derivative by the weights of columns, ``x`` of shape (n, p), whose sum the risk is: (p, p)."""


class LogLoss(SummedLoss):
    """The negative log likelihood of logistic regression.

    Parameters
    ----------
    event : ndarray of bool, shape (n,)
        Who has the event; risks are log-odds.
    """

    def __init__(self, event: npt.NDArray[np.bool_]) -> None:
        self.event = event.astype(np.float64)

    def value(self, risk: FloatArray) -> float:
        """Of risks of any size."""
        return float((np.logaddexp(0.0, risk) - self.event * risk).sum())

    def gradient(self, risk: FloatArray) -> FloatArray:
        """Probability less outcome."""
        return np.asarray(expit(risk) - self.event)

    def curvature(self, risk: FloatArray, x: FloatArray) -> FloatArray:
        """Rows weighted by the variance of their outcome."""
        return np.asarray(x.T @ ((expit(risk) * expit(-risk))[:, None] * x))


class SquaredError(SummedLoss):
    """The sum of squared differences.

    Parameters
    ----------
    observed : ndarray, shape (n,)
        In the unit of the risks.
    """

    def __init__(self, observed: FloatArray) -> None:
        self.observed = observed

    def value(self, risk: FloatArray) -> float:
        """Of risks that are values."""
        return float(((risk - self.observed) ** 2).sum())

    def gradient(self, risk: FloatArray) -> FloatArray:
        """Twice the differences."""
        return np.asarray(2.0 * (risk - self.observed))

    def curvature(self, risk: FloatArray, x: FloatArray) -> FloatArray:
        """The same for every risk."""
        return np.asarray(2.0 * (x.T @ x))


class CoxLoss(SummedLoss):
    r"""The negative log partial likelihood of Cox's model; ties by Efron.

    .. math:: -\sum_{i: e_i = 1} \Big[ r_i
              - \log\Big( \sum_{t_j \ge t_i} e^{r_j} - \frac{k_i}{d_i} \sum_{j \in D_i} e^{r_j} \Big) \Big]

    where :math:`D_i` are the :math:`d_i` events at :math:`t_i` and :math:`k_i` of them stand before *i*.
    Source: Efron, J Am Stat Assoc 1977;72:557, equation 4.7. Patients are sorted by time once, so that sums over
    patients at risk are cumulative ones: time and memory grow with n, not with its square.

    Parameters
    ----------
    time : ndarray, shape (n,)
        In any unit; risks are log hazard ratios.
    event : ndarray of bool, shape (n,)
        False: censored at its time.
    """

    def __init__(self, time: FloatArray, event: npt.NDArray[np.bool_]) -> None:
        self.order = np.argsort(time, kind="stable")
        sorted_time = time[self.order]
        self.event = event[self.order]
        event_time = sorted_time[self.event]
        # Of each event: the first patient at risk, and its place among the events of its time.
        self.at_risk = np.searchsorted(sorted_time, event_time)
        _, self.tie_begin, self.tie, size = np.unique(
            event_time, return_index=True, return_inverse=True, return_counts=True
        )
        self.share = (np.arange(len(event_time)) - self.tie_begin[self.tie]) / size[self.tie]
        # Of each patient: how many events there are until its time, or for an event, before its time.
        until = np.searchsorted(event_time, sorted_time, side="right")
        until[self.event] = self.tie_begin[self.tie]
        self.until = until

    def value(self, risk: FloatArray) -> float:
        """Of risks of any size; 0 where nobody has the event."""
        ordered = risk[self.order]
        return float((self._log_totals(ordered) - ordered[self.event]).sum())

    def gradient(self, risk: FloatArray) -> FloatArray:
        """Expected less observed events: the negative of martingale residuals under Efron's baseline."""
        gradient = np.empty(len(risk))
        ordered = risk[self.order]
        gradient[self.order] = self._expected(ordered) - self.event
        return gradient

    def curvature(self, risk: FloatArray, x: FloatArray) -> FloatArray:
        """The variance of each column, and the covariance of two, among patients at risk, summed over events."""
        ordered, rows = risk[self.order], x[self.order]
        if not self.event.any():
            return np.zeros((x.shape[1],) * 2)
        hazard = np.exp(np.maximum(ordered - ordered.max(), SMALLEST_LOG_HAZARD))[:, None]
        means = self._totals(hazard * rows) / self._totals(hazard)
        return np.asarray(rows.T @ (self._expected(ordered)[:, None] * rows) - means.T @ means)

    def _totals(self, values: FloatArray) -> FloatArray:
        """For each event the sum over patients at risk less its share of those who are tied, shape (events, p)."""
        tied = np.add.reduceat(values[self.event], self.tie_begin)
        return np.asarray(values[::-1].cumsum(axis=0)[::-1][self.at_risk] - self.share[:, None] * tied[self.tie])

    def _log_totals(self, ordered: FloatArray) -> FloatArray:
        """For each event the logarithm of that sum of the hazards, for risks of any size."""
        if not self.event.any():
            return np.zeros(0)
        log_at_risk = np.logaddexp.accumulate(ordered[::-1])[::-1][self.at_risk]
        log_tied = np.logaddexp.reduceat(ordered[self.event], self.tie_begin)[self.tie]
        return np.asarray(log_at_risk + np.log1p(-self.share * np.exp(log_tied - log_at_risk)))

    def _expected(self, ordered: FloatArray) -> FloatArray:
        """The events that each patient is expected to have while at risk."""
        expected, log_totals = np.zeros(len(ordered)), self._log_totals(ordered)
        if not len(log_totals):
            return expected
        cumulative = np.logaddexp.accumulate(-log_totals)
        some = self.until > 0
        expected[some] = np.exp(ordered[some] + cumulative[self.until[some] - 1])
        own = np.logaddexp.reduceat(np.log1p(-self.share) - log_totals, self.tie_begin)[self.tie]
        expected[self.event] += np.exp(ordered[self.event] + own)
        return expected


def choose_loss(outcomes: Outcomes) -> SummedLoss:
    """The loss of an endpoint: log loss, Cox's partial likelihood, or squared error."""
    match outcomes.endpoint.loss:
        case "cross-entropy":
            return LogLoss(outcomes.event)
        case "cox":
            return CoxLoss(outcomes.value, outcomes.event)
        case "squared-error":
            return SquaredError(outcomes.value)
