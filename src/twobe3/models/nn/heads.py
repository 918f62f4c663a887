"""Heads of networks, and the losses they are trained with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from twobe3.core.outcomes import Loss, Outcomes

FloatArray = npt.NDArray[np.float64]


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

    Parameters
    ----------
    loss : {"cross-entropy", "cox", "squared-error"}
        Of the endpoint.
    risk : Tensor, shape (n,)
        What the network gives: log-odds, log-hazard ratio, or the value.
    value, event : Tensor, shape (n,)
        As in :class:`twobe3.core.outcomes.Outcomes`.
    """
    if loss == "cross-entropy":
        return functional.binary_cross_entropy_with_logits(risk.double(), event.double())
    if loss == "cox":
        return cox_loss(risk, value, event)
    return functional.mse_loss(risk.double(), value.double())


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
        self._loss = outcomes.endpoint.loss
        self._origin, self._unit = _origin_and_unit(outcomes)
        self._bias = _log_odds(outcomes.n_events, len(outcomes)) if outcomes.endpoint.has_classes else 0.0
        self._value = torch.from_numpy((outcomes.value - self._origin) / self._unit)
        self._event = torch.from_numpy(outcomes.event)
        self._covariates = None if covariates is None else covariates / self._unit

    def loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """See :func:`~twobe3.models.nn.heads.outcome_loss`."""
        return outcome_loss(self._loss, raw, self._value[index], self._event[index])

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
        """See :func:`~twobe3.models.nn.heads.hazard_loss`."""
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
    if outcomes.endpoint.loss != "squared-error":
        return 0.0, 1.0
    return float(outcomes.value.mean()), float(outcomes.value.std()) or 1.0


def _log_odds(events: int, n: int) -> float:
    share = events / n
    return math.log(share / (1 - share)) if 0 < share < 1 else 0.0


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

    @property
    def outputs(self) -> int:
        """Those of all heads."""
        return sum(self._sizes)

    def loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Mean over the endpoints."""
        return torch.stack([self._loss(number, raw, index) for number in range(len(self._heads))]).mean()

    def stopping_loss(self, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Of the own endpoint."""
        return self._loss(0, raw, index)

    def start(self, last: nn.Linear) -> None:
        """As each head starts with its rows."""
        for head, rows in self._layers(last):
            head.start(rows)

    def finish(self, last: nn.Linear) -> None:
        """As each head finishes its rows."""
        for head, rows in self._layers(last):
            head.finish(rows)

    def resume(self, last: nn.Linear) -> None:
        """As each head resumes its rows."""
        for head, rows in self._layers(last):
            head.resume(rows)

    def _loss(self, number: int, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        rows = self._rows[number][index]
        known = rows >= 0
        said = torch.split(raw.view(len(index), self.outputs), self._sizes, dim=1)[number][known]
        if not known.any():
            return said.double().sum()
        return self._heads[number].loss(said.squeeze(1) if said.shape[1] == 1 else said, rows[known])

    def _layers(self, last: nn.Linear) -> Iterator[tuple[Head, nn.Linear]]:
        """Each head with its rows of the last layer, as a layer that shares their memory."""
        weights, biases = (torch.split(values.data, self._sizes) for values in (last.weight, last.bias))
        for head, weight, bias in zip(self._heads, weights, biases, strict=True):
            rows = nn.Linear(last.in_features, head.outputs, device="meta")  # draws no random number
            rows.weight, rows.bias = nn.Parameter(weight), nn.Parameter(bias)
            yield head, rows


def _rows(patients: Sequence[str], known: Sequence[str]) -> torch.Tensor:
    """For each patient the place among those who are known, −1 where the patient is not; shape (n,)."""
    place = {patient: row for row, patient in enumerate(known)}
    return torch.tensor([place.get(patient, -1) for patient in patients])
