"""Heads of networks, and the losses they are trained with."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from twobe3.core.outcomes import FloatArray, Loss, Outcomes


def cox_loss(risk: torch.Tensor, time: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
    r"""Negative log partial likelihood of Cox's model, divided by the number of events; ties by Efron.

    .. math:: -\frac{1}{E} \sum_{i: e_i = 1} \Big[ r_i
              - \log\Big( \sum_{t_j \ge t_i} e^{r_j} - \frac{k_i}{d_i} \sum_{j \in D_i} e^{r_j} \Big) \Big]

    where :math:`D_i` are the :math:`d_i` events at :math:`t_i` and :math:`k_i` of them stand before *i*.
    Source: Efron, J Am Stat Assoc 1977;72:557, equation 4.7.

    Parameters
    ----------
    risk, time : Tensor, shape (n,)
        Log-hazard ratios, and times in any unit.
    event : Tensor of bool, shape (n,)
        False: censored at its time.

    Returns
    -------
    Tensor, shape ()
        0 when nobody has an event.
    """
    risk = risk.double()
    if not event.any():
        return 0.0 * risk.sum()
    index = torch.arange(len(risk), device=risk.device)
    at, own = time[event][:, None], index[event][:, None]
    nobody = torch.tensor(-torch.inf, dtype=risk.dtype, device=risk.device)
    tied = event[None, :] & (time[None, :] == at)
    log_at_risk = torch.where(time[None, :] >= at, risk, nobody).logsumexp(dim=1)
    log_tied = torch.where(tied, risk, nobody).logsumexp(dim=1)
    share = (tied & (index < own)).sum(dim=1) / tied.sum(dim=1)
    log_total = log_at_risk + torch.log1p(-share * torch.exp(log_tied - log_at_risk))
    return -(risk[event] - log_total).mean()


def hazard_loss(logits: torch.Tensor, time: torch.Tensor, event: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    r"""Negative log likelihood of the discrete-time logistic hazard model, a mean over patients.

    .. math:: -\frac{1}{n} \sum_i \Big[ \sum_{j \in S_i} \log(1 - h_{ij}) + \sum_{j \in F_i} \log h_{ij} \Big],
              \qquad h_{ij} = \operatorname{expit}(l_{ij})

    Patient *i* survived the intervals :math:`S_i`; an event lies in one interval :math:`F_i`. Who is censored is taken
    to have survived an interval when present for at least half of it.
    Source: Gensheimer & Narasimhan, PeerJ 2019;7:e6257, equations 5 and 6, and the paragraph on censoring.

    Parameters
    ----------
    logits : Tensor, shape (n, k)
        Log-odds of the hazard in each interval.
    time : Tensor, shape (n,)
        In any unit.
    event : Tensor of bool, shape (n,)
        False: censored at its time.
    edges : Tensor, shape (k,)
        Ends of the intervals, increasing, in the same unit; an end belongs to its interval, the first begins at 0.
        Who lives beyond the last end survived all of them.

    Returns
    -------
    Tensor, shape ()
    """
    logits = logits.double()
    starts = torch.cat([torch.zeros_like(edges[:1]), edges[:-1]])
    at = time[:, None]
    survived = torch.where(event[:, None], at > edges, at >= (starts + edges) / 2)
    failed = event[:, None] & (at > starts) & (at <= edges)
    # softplus(l) = −log(1 − h) and softplus(−l) = −log h, without overflow.
    return (survived * functional.softplus(logits) + failed * functional.softplus(-logits)).sum(dim=1).mean()


def outcome_loss(loss: Loss, risk: torch.Tensor, value: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
    """The mean loss of an endpoint: log loss, Cox's partial likelihood, or squared error.

    ``risk`` is what the network gives, log-odds, log-hazard ratio, or the value; all tensors have the shape (n,), value
    and event as in :class:`twobe3.core.outcomes.Outcomes`.
    """
    if loss == "cross-entropy":
        return functional.binary_cross_entropy_with_logits(risk.double(), event.double())
    if loss == "cox":
        return cox_loss(risk, value, event)
    return functional.mse_loss(risk.double(), value.double())


class Head(ABC):
    """The end of a network during training: a loss, and what the last layer starts and ends with.

    Parameters
    ----------
    bias : ndarray, shape (k,)
        Of the untrained layer: what is true of all patients together, so that no step is spent on it.
    covariates : ndarray, shape (q,) or (k, q), optional
        Where the weights of the layer's last q inputs start.
    origin, unit : float or ndarray of shape (k,)
        Where the trained layer's outputs begin, and what they are multiplied by, to be in the unit of the outcome.
    """

    def __init__(
        self,
        bias: FloatArray,
        covariates: FloatArray | None = None,
        origin: float | FloatArray = 0.0,
        unit: float | FloatArray = 1.0,
    ) -> None:
        self.outputs = len(bias)
        weights = np.zeros(0) if covariates is None else covariates
        self.bias, self.covariates = bias, np.broadcast_to(weights, (self.outputs, weights.shape[-1]))
        self.origin, self.unit = (np.broadcast_to(values, self.outputs) for values in (origin, unit))

    @abstractmethod
    def loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Loss of the patients at these positions, shape (): ``raw`` is (m,), or (m, outputs) for several outputs."""

    def stopping_loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """What tells when training should stop, likewise."""
        return self.loss(raw, index)

    @torch.no_grad()
    def start(self, last: nn.Linear) -> None:
        """Let the untrained layer say what is known before."""
        last.bias.copy_(torch.from_numpy(self.bias))
        inputs = last.in_features - self.covariates.shape[1]
        last.weight[:, inputs:] = torch.from_numpy(self.covariates.copy())

    @torch.no_grad()
    def finish(self, last: nn.Linear) -> None:
        """Bring the trained layer to the unit of the outcome."""
        origin, unit = self._origin_and_unit(last)
        last.weight *= unit[:, None]
        last.bias.mul_(unit).add_(origin)

    @torch.no_grad()
    def resume(self, last: nn.Linear) -> None:
        """Take back what :meth:`finish` did, for training to go on."""
        origin, unit = self._origin_and_unit(last)
        last.weight /= unit[:, None]
        last.bias.sub_(origin).div_(unit)

    def _origin_and_unit(self, last: nn.Linear) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor(self.origin, dtype=last.bias.dtype), torch.tensor(self.unit, dtype=last.bias.dtype)


class RiskHead(Head):
    """One number a patient: log-odds, log hazard ratio, or the value itself.

    Classes are not weighted: weights spoil the probabilities and gain no discrimination (van den Goorbergh et al.,
    J Am Med Inform Assoc 2022;29:1525). The bias starts at the log-odds of the positive class instead. A continuous
    outcome is learnt in units of its standard deviation, so that what is learnt does not depend on its unit; covariates
    are given in the unit of the outcome, shape (q,).
    """

    def __init__(self, outcomes: Outcomes, covariates: FloatArray | None = None) -> None:
        self._loss, origin, unit = outcomes.endpoint.loss, 0.0, 1.0
        if self._loss == "squared-error":
            origin, unit = float(outcomes.value.mean()), float(outcomes.value.std()) or 1.0
        bias = _log_odds(outcomes.n_events, len(outcomes)) if outcomes.endpoint.has_classes else 0.0
        super().__init__(np.array([bias]), None if covariates is None else covariates / unit, origin, unit)
        self._value = torch.from_numpy((outcomes.value - origin) / unit)
        self._event = torch.from_numpy(outcomes.event)

    def loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """See :func:`outcome_loss`."""
        return outcome_loss(self._loss, raw, self._value[index], self._event[index])


class HazardHead(Head):
    """The log-odds of the hazard in each interval of time; hazards need not stay proportional.

    The biases start at the log-odds of the hazards of all training patients together. Covariates are given as log
    hazard ratios, shape (q,), and the ends of the k intervals as :func:`interval_edges` has them.
    """

    def __init__(self, outcomes: Outcomes, edges: FloatArray, covariates: FloatArray | None = None) -> None:
        in_interval = np.searchsorted(edges, outcomes.value[outcomes.event])
        events = np.bincount(in_interval, minlength=len(edges))[: len(edges)]
        at_risk = np.array([(outcomes.value > start).sum() for start in (0.0, *edges[:-1])])
        # Half an event more and half a patient without: the last interval may take everybody who reached it.
        super().__init__(np.log((events + 0.5) / (at_risk - events + 0.5)), covariates)
        self._time, self._event = torch.from_numpy(outcomes.value), torch.from_numpy(outcomes.event)
        self._edges = torch.from_numpy(edges)

    def loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """See :func:`hazard_loss`."""
        logits = raw.view(len(index), self.outputs)  # a single interval comes without its axis
        return hazard_loss(logits, self._time[index], self._event[index], self._edges)


class MultitaskHead(Head):
    """A head for each endpoint, one after another over the outputs of the last layer.

    The loss is the mean of the endpoints' losses, each of the patients whose outcome is known for it; all of them are
    free of units, nats a patient or an event, or variances of the outcome. An endpoint that no patient of a step is
    known for adds 0 to it and moves nothing. The fit's own endpoint alone tells when to stop.

    Parameters
    ----------
    patients : sequence of str, length n
        Those who train.
    heads : sequence of (Head, sequence of str)
        The own endpoint first: its head, and the patients whose outcomes the head was given, in their order.
    """

    def __init__(self, patients: Sequence[str], heads: Sequence[tuple[Head, Sequence[str]]]) -> None:
        self._heads = [head for head, _ in heads]
        self._sizes = [head.outputs for head in self._heads]
        self._rows = [_rows(patients, known) for _, known in heads]
        bias, covariates, origin, unit = (
            np.concatenate([getattr(head, name) for head in self._heads])
            for name in ("bias", "covariates", "origin", "unit")
        )
        super().__init__(bias, covariates, origin, unit)

    def loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Mean over the endpoints."""
        return torch.stack([self._loss(number, raw, index) for number in range(len(self._heads))]).mean()

    def stopping_loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Of the own endpoint."""
        return self._loss(0, raw, index)

    def _loss(self, number: int, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        rows = self._rows[number][index]
        known = rows >= 0
        outputs = torch.split(raw.view(len(index), self.outputs), self._sizes, dim=1)[number][known]
        if not known.any():
            return outputs.double().sum()
        return self._heads[number].loss(outputs.squeeze(1) if outputs.shape[1] == 1 else outputs, rows[known])


def interval_edges(outcomes: Outcomes, intervals: int) -> FloatArray:
    """Ends of the intervals, increasing: quantiles of the times of events, so that each interval has its share of them.

    Gensheimer & Narasimhan (PeerJ 2019;7:e6257) advise intervals that grow with time; equal shares of the events do
    that, and leave none without an event. There are fewer intervals where events of the training patients share a time,
    and one, up to the last time, where there is no event.
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


def _log_odds(events: int, n: int) -> float:
    share = events / n
    return math.log(share / (1 - share)) if 0 < share < 1 else 0.0


def _rows(patients: Sequence[str], known: Sequence[str]) -> torch.Tensor:
    """For each patient the place among those who are known, −1 where the patient is not; shape (n,)."""
    place = {patient: row for row, patient in enumerate(known)}
    return torch.tensor([place.get(patient, -1) for patient in patients])
