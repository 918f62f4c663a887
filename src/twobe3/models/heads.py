"""What the last layer of a network says, where it starts, and what it is trained with."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from twobe3.models.losses import hazard_loss, outcome_loss
from twobe3.outcome import Outcomes

FloatArray = npt.NDArray[np.float64]


class Head(Protocol):
    """The end of a network during training."""

    @property
    def outputs(self) -> int:
        """Numbers that the last layer gives for each patient."""

    def loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Loss of the patients at these positions, shape (): ``raw`` is (m,), or (m, outputs) for several outputs."""

    def stopping_loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """What tells when training should stop, likewise."""
        return self.loss(raw, index)

    def start(self, last: nn.Linear) -> None:
        """Let the untrained network say what is true of all patients together, so that no step is spent on it."""

    def finish(self, last: nn.Linear) -> None:
        """Bring the trained layer to the unit of the outcome."""

    def resume(self, last: nn.Linear) -> None:
        """Take back what :meth:`finish` did, for training to go on."""


class ResumedHead:
    """A head whose last layer was trained with the same outcomes before, and goes on from there.

    Parameters
    ----------
    head : Head
        With which it was trained.
    """

    def __init__(self, head: Head) -> None:
        self._head = head
        self.outputs, self.loss, self.stopping_loss = head.outputs, head.loss, head.stopping_loss
        self.finish, self.resume = head.finish, head.resume

    def start(self, last: nn.Linear) -> None:
        """Where the layer stands."""
        self._head.resume(last)


class RiskHead(Head):
    """One number a patient: log-odds, log hazard ratio, or the value itself.

    Classes are not weighted: weights spoil the probabilities and gain no discrimination (van den Goorbergh et al.,
    J Am Med Inform Assoc 2022;29:1525). The bias starts at the log-odds of the positive class instead. A continuous
    outcome is learnt in units of its standard deviation.

    Parameters
    ----------
    outcomes : Outcomes
        Of the training patients.
    covariates : ndarray, shape (q,), optional
        Where the weights of the layer's last q inputs start, in the unit of the outcome.
    """

    outputs = 1

    def __init__(self, outcomes: Outcomes, covariates: FloatArray | None = None) -> None:
        self._kind = outcomes.endpoint.kind
        self._origin, self._unit = _origin_and_unit(outcomes)
        self._bias = _log_odds(outcomes.n_events, len(outcomes)) if self._kind == "binary" else 0.0
        self._value = torch.from_numpy((outcomes.value - self._origin) / self._unit)
        self._event = torch.from_numpy(outcomes.event)
        self._covariates = None if covariates is None else covariates / self._unit

    def loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """See :func:`~twobe3.models.losses.outcome_loss`."""
        return outcome_loss(self._kind, raw, self._value[index], self._event[index])

    def start(self, last: nn.Linear) -> None:
        """The bias becomes the log-odds of the positive class, otherwise 0."""
        nn.init.constant_(last.bias, self._bias)
        _start_covariates(last, self._covariates)

    def finish(self, last: nn.Linear) -> None:
        """Take back the standardisation of a continuous outcome."""
        with torch.no_grad():
            last.weight *= self._unit
            last.bias.mul_(self._unit).add_(self._origin)

    def resume(self, last: nn.Linear) -> None:
        """Standardise a continuous outcome again."""
        with torch.no_grad():
            last.weight /= self._unit
            last.bias.sub_(self._origin).div_(self._unit)


class HazardHead(Head):
    """The log-odds of the hazard in each interval of time; hazards need not stay proportional.

    Parameters
    ----------
    outcomes : Outcomes
        Of the training patients.
    edges : ndarray, shape (k,)
        Ends of the intervals, see :func:`interval_edges`.
    covariates : ndarray, shape (q,), optional
        Where the weights of the layer's last q inputs start, as log hazard ratios.
    """

    def __init__(self, outcomes: Outcomes, edges: FloatArray, covariates: FloatArray | None = None) -> None:
        self._time, self._event = torch.from_numpy(outcomes.value), torch.from_numpy(outcomes.event)
        self._edges, self._covariates = torch.from_numpy(edges), covariates
        in_interval = np.searchsorted(edges, outcomes.value[outcomes.event])
        events = np.bincount(in_interval, minlength=len(edges))[: len(edges)]
        at_risk = np.array([(outcomes.value > start).sum() for start in (0.0, *edges[:-1])])
        # Half an event more and half a patient without: the last interval may take everybody who reached it.
        self._bias = torch.from_numpy(np.log((events + 0.5) / (at_risk - events + 0.5)))

    @property
    def outputs(self) -> int:
        """One for each interval."""
        return len(self._edges)

    def loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """See :func:`~twobe3.models.losses.hazard_loss`."""
        logits = raw.view(len(index), self.outputs)  # a single interval comes without its axis
        return hazard_loss(logits, self._time[index], self._event[index], self._edges)

    def start(self, last: nn.Linear) -> None:
        """The biases become the log-odds of the hazards of all training patients together."""
        with torch.no_grad():
            last.bias.copy_(self._bias)
        _start_covariates(last, self._covariates)

    def finish(self, last: nn.Linear) -> None:
        """Nothing: hazards have no unit."""

    def resume(self, last: nn.Linear) -> None:
        """Nothing."""


def interval_edges(outcomes: Outcomes, intervals: int) -> FloatArray:
    """Ends of the intervals: quantiles of the times of the events, so that each interval has its share of them.

    Gensheimer & Narasimhan (PeerJ 2019;7:e6257) advise intervals that grow with time; equal shares of the events do
    that, and leave none without an event.

    Parameters
    ----------
    outcomes : Outcomes
        Of the training patients. Without any event there is one interval, up to the last time.
    intervals : int
        Fewer where events share a time.

    Returns
    -------
    ndarray, shape (k,)
        Increasing; the last is the time of the last event.
    """
    if not outcomes.event.any():
        return np.array([outcomes.value.max()])
    shares = np.arange(1, intervals + 1) / intervals
    return np.unique(np.quantile(outcomes.value[outcomes.event], shares, method="inverted_cdf"))


def survival_curves(logits: FloatArray) -> FloatArray:
    """Survival at the end of each interval, the product of one minus the hazards; shape (…, k) to (…, k)."""
    return np.asarray(np.exp(-_cumulative_hazard(logits)))


def mortality(logits: FloatArray) -> FloatArray:
    """Logarithm of the mean cumulative hazard over the intervals, shape (…, k) to (…).

    One number of a whole curve, larger for earlier events: the ensemble mortality of Ishwaran et al. (Ann Appl Stat
    2008;2:841, section 3.2), over intervals that share the events out evenly.
    """
    return np.asarray(np.log(_cumulative_hazard(logits).mean(axis=-1)))


def _cumulative_hazard(logits: FloatArray) -> FloatArray:
    # Never 0, so that its logarithm is finite; nor is anybody's end certain.
    return np.asarray(np.cumsum(np.clip(np.logaddexp(0.0, logits), 1e-12, 1e3), axis=-1))


def _start_covariates(last: nn.Linear, weights: FloatArray | None) -> None:
    if weights is not None and len(weights):
        with torch.no_grad():
            last.weight[:, -len(weights) :] = torch.from_numpy(weights)


def _origin_and_unit(outcomes: Outcomes) -> tuple[float, float]:
    """Mean and standard deviation of a continuous outcome: what a network learns must not depend on its unit."""
    if outcomes.endpoint.kind != "continuous":
        return 0.0, 1.0
    return float(outcomes.value.mean()), float(outcomes.value.std()) or 1.0


def _log_odds(events: int, n: int) -> float:
    share = events / n
    return math.log(share / (1 - share)) if 0 < share < 1 else 0.0
