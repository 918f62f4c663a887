"""Training losses; risks may have any size, sums are in double precision."""

from __future__ import annotations

import torch
from torch.nn import functional

from twobe3.outcome import Kind


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


def outcome_loss(kind: Kind, risk: torch.Tensor, value: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
    """The loss of an endpoint kind: log loss, Cox's partial likelihood, or squared error.

    Parameters
    ----------
    kind : {"binary", "time-to-event", "continuous"}
        Of the endpoint.
    risk : Tensor, shape (n,)
        What the network gives: log-odds, log-hazard ratio, or the value.
    value, event : Tensor, shape (n,)
        As in :class:`twobe3.outcome.Outcomes`.
    """
    if kind == "binary":
        return functional.binary_cross_entropy_with_logits(risk.double(), event.double())
    if kind == "time-to-event":
        return cox_loss(risk, value, event)
    return functional.mse_loss(risk.double(), value.double())
