"""Competing risks: a patient who dies without a relapse can't relapse any more."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm
from statsmodels.duration.survfunc import CumIncidenceRight

from twobe3.evaluation.groups import Split
from twobe3.evaluation.intervals import LEVEL
from twobe3.evaluation.results import Curve
from twobe3.outcome import BoolArray, Outcomes


def cumulative_incidence(outcomes: Outcomes, split: Split | None = None) -> tuple[Curve, ...]:
    """Probability of the event and of the competing event by each time, neither counted as a censoring of the other.

    Aalen & Johansen, Scandinavian Journal of Statistics 5 (1978) 141–150; limits: pointwise 95 % on the log(−log)
    scale, variance by the delta method (Dinse & Larson, Biometrika 73 (1986) 379–386, eq. 6).

    Parameters
    ----------
    outcomes : Outcomes
        Of n patients.
    split : Split, optional
        Their groups of low and high risk.

    Returns
    -------
    tuple of Curve
        ``cumulative_incidence_event`` and ``cumulative_incidence_competing`` of all patients; with a split, of the
        event ``cumulative_incidence_low`` and ``cumulative_incidence_high``. x: time; y: probability; a limit is NaN
        where y is 0 or 1, and where nobody is left at risk.
    """
    everybody = np.ones(len(outcomes), dtype=np.bool_)
    curves = [
        _curve("event", outcomes, outcomes.event, everybody, "cumulative incidence of the event, all"),
        _curve("competing", outcomes, outcomes.competing, everybody, "cumulative incidence of competing events, all"),
    ]
    for name, members in () if split is None else (("low", ~split.high), ("high", split.high)):
        if members.any():
            label = f"cumulative incidence of the event, {name} risk"
            curves.append(_curve(name, outcomes, outcomes.event, members, label))
    return tuple(curves)


def _curve(name: str, outcomes: Outcomes, cause: BoolArray, members: BoolArray, label: str) -> Curve:
    time, this = outcomes.value[members], cause[members]
    other = (outcomes.event | outcomes.competing)[members] & ~this
    # Where all who are left have an event at one time, the variance divides by nobody.
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = CumIncidenceRight(time, np.where(this, 1, np.where(other, 2, 0)))
    x, y, error = estimate.times, np.zeros(len(estimate.times)), np.full(len(estimate.times), np.nan)
    if this.any():
        y, error = estimate.cinc[0], estimate.cinc_se[0]
    inside = (y > 0) & (y < 1)
    safe = np.where(inside, y, 0.5)
    margin = np.where(inside, norm.ppf((1 + LEVEL) / 2) * error / (safe * np.abs(np.log(safe))), np.nan)
    low, high = safe ** np.exp(margin), safe ** np.exp(-margin)
    whole = f"{label}: {int(members.sum())} patients, {int(this.sum())} events"
    start = np.array([np.nan])
    return Curve(
        f"cumulative_incidence_{name}",
        np.append(0.0, x),
        np.append(0.0, y),
        np.append(start, low),
        np.append(start, high),
        whole,
    )
