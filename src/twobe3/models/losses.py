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
