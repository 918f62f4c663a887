"""How far a prediction of a fitted model may be off, as far as the model itself can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from twobe3.cohort.cohort import Cohort
from twobe3.models.model import Model

INTERVAL = (2.5, 97.5)  # percentiles of a bootstrap


@dataclass(frozen=True)
class Uncertainty:
    """Two intervals of one prediction; None where the model can give none.

    Neither is a confidence interval of the patient's risk: what another cohort, another scanner or a wrong model would
    change is in neither, and a narrow one does not make a prediction right.

    Attributes
    ----------
    risk_low, risk_high : float or None
        The lowest and the highest risk that the members of an ensemble give. They saw the same patients and differ in
        their seeds, or in the fold that they did not see; three members say little about a tail.
    probability_low, probability_high : float or None
        Where the probability was recalibrated, the 2.5th and 97.5th percentile of the probabilities that this risk has
        under calibrations of bootstrap samples of the training patients; the risk itself counts as known. Else the
        probabilities of the two risks.
    """

    risk_low: float | None = None
    risk_high: float | None = None
    probability_low: float | None = None
    probability_high: float | None = None


def find_uncertainty(model: Model, alone: Cohort, risk: float) -> Uncertainty:
    """The intervals of the prediction of one patient.

    Parameters
    ----------
    model : Model
        Fitted.
    alone : Cohort
        The patient.
    risk : float
        That the model gives the patient.
    """
    members = model._member_risks(alone)
    spread = None if members is None else np.array([members.min(), members.max()])
    chances = None
    if model.calibrations_ is not None:
        slopes, intercepts = model.calibrations_.T
        chances = np.percentile(expit(slopes * risk + intercepts), INTERVAL)
    elif spread is not None and model.endpoint_ is not None and model.recalibration_ is None:
        chances = model.endpoint_.probability(spread)
    limits = [None, None] if spread is None else spread.tolist()
    return Uncertainty(*limits, *([None, None] if chances is None else chances.tolist()))
