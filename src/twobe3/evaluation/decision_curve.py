"""Decision curves: would it be better to act on a model's probability than on all patients, or on none?

References
----------
.. [1] A. J. Vickers, E. B. Elkin, Decision curve analysis, Medical Decision Making 26 (2006) 565–574.
.. [2] A. J. Vickers et al., Extensions to decision curve analysis, BMC Medical Informatics and Decision Making 8
   (2008) 53 (time to an event, with censoring and competing events).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from twobe3.core.outcomes import BoolArray, FloatArray, Outcomes
from twobe3.evaluation.bootstrap import percentile_band
from twobe3.evaluation.kaplan_meier import FollowUp
from twobe3.evaluation.results import Curve
from twobe3.evaluation.survival import ratio

THRESHOLDS = np.round(np.arange(0.02, 0.99, 0.02), 2)
BAND_SAMPLES = 200

# From a table of counts (samples, n) and who is called (n,) to the weights of true and of false positives (samples,).
Positives = Callable[[FloatArray, BoolArray], tuple[FloatArray, FloatArray]]


def decision_curves(
    probability: FloatArray,
    present: BoolArray,
    outcomes: Outcomes,
    counts: FloatArray,
    horizon: float | None = None,
) -> tuple[Curve, ...]:
    """Net benefit of acting on every patient whose probability reaches a threshold.

    At a threshold p the net benefit is TP/n − FP/n · p/(1 − p): the true positives less the false ones, these weighted
    by what p says of the harm of acting in vain [1]_. Acting on nobody has the net benefit 0. For a time to an event
    the share of true positives among the patients called is the probability of the event by a horizon, estimated from
    these patients alone (1 − Kaplan–Meier, or Aalen–Johansen where there are competing events) [2]_.

    ``probability`` and ``present``, whether the patient was predicted in the repeat, have the shape (repeats, n);
    ``counts``, shape (samples, n), are bootstrap samples, not stratified by event. ``net_benefit`` is the mean over
    repeats, with pointwise percentile limits of at most 200 samples, ``net_benefit_all`` that of acting on all. x:
    threshold from 0.02 to 0.98; y: true positives per patient.
    """
    positives = _count_positives(outcomes) if horizon is None else _estimate_positives(outcomes, horizon)
    table = np.vstack([np.ones(len(outcomes)), counts[:BAND_SAMPLES]])
    values = [
        [_net_benefit(positives, table * there, chance >= threshold, threshold) for threshold in THRESHOLDS]
        for chance, there in zip(probability, present, strict=True)
    ]
    model = np.mean(values, axis=0).T
    low, high = percentile_band(model[1:])
    everybody = np.ones(len(outcomes), dtype=np.bool_)
    of_all = [_net_benefit(positives, table[:1], everybody, threshold)[0] for threshold in THRESHOLDS]
    by = "" if horizon is None else f" by {horizon:g} {getattr(outcomes.endpoint, 'unit', '')}s"
    repeats = "" if len(probability) == 1 else f", mean of {len(probability)} repeats"
    label = f"the model: act from the threshold on{by}{repeats}; band of {len(table) - 1} bootstrap samples"
    return (
        Curve("net_benefit", label, THRESHOLDS, model[0], low, high),
        Curve("net_benefit_all", f"act on all{by}", THRESHOLDS, np.array(of_all)),
    )


def _net_benefit(positives: Positives, counts: FloatArray, called: BoolArray, threshold: float) -> FloatArray:
    true, false = positives(counts, called)
    # A sample may hold nobody whom a repeat predicted.
    return ratio(true - false * threshold / (1 - threshold), counts.sum(axis=1))


def _count_positives(outcomes: Outcomes) -> Positives:
    """True and false positives where every outcome is known."""

    def positives(counts: FloatArray, called: BoolArray) -> tuple[FloatArray, FloatArray]:
        return counts @ (called & outcomes.event).astype(float), counts @ (called & ~outcomes.event).astype(float)

    return positives


def _estimate_positives(outcomes: Outcomes, horizon: float) -> Positives:
    """Some follow-up ended before the horizon: the share with the event is estimated among those who are called."""
    # What comes after the horizon tells nothing of it, and costs time.
    late = outcomes.value > horizon
    until = replace(
        outcomes,
        value=np.minimum(outcomes.value, np.nextafter(horizon, np.inf)),
        event=outcomes.event & ~late,
        competing=outcomes.competing & ~late,
    )
    follow_up = FollowUp(until, competing_censors=False)

    def positives(counts: FloatArray, called: BoolArray) -> tuple[FloatArray, FloatArray]:
        total = counts @ called.astype(float)
        true = total * follow_up.at(follow_up.incidence(counts * called), horizon, 0.0)
        return true, total - true

    return positives
