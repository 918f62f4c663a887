"""Metrics of a time to an event at chosen times: discrimination, distance and calibration of predicted survival.

Censoring is weighted away: a patient whose state at a time t is known counts 1/G(T−) when an event came at T ≤ t, and
1/G(t) when observed beyond t. G(t) is the estimated probability of being uncensored beyond t, G(T−) of not being
censored before T, by Kaplan–Meier from the patients evaluated, and again from every bootstrap sample; at one time
events come before censorings. So the weights sum to n, whatever is tied. A competing event by t is a known state, "no
event", and no censoring. Risks (higher for an earlier event), curves and follow-up are of the same n patients in the
same order, times in the endpoint's unit and ascending.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.endpoints import TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import FloatArray, IntArray, Outcomes
from twobe3.evaluation.bootstrap import Statistic
from twobe3.evaluation.kaplan_meier import FollowUp, SharedFollowUp
from twobe3.evaluation.survival import MINIMUM_UNCENSORED, RiskOrder, ratio

QUARTILES = (0.25, 0.5, 0.75)
GRID_POINTS = 100
MINIMUM_FOLLOWED = 0.1
WEIGHTS = "inverse probability of censoring weights, of an event at T 1/G(T−)"


class SurvivalCurves:
    """Predicted survival, linear between the times given; from 1 at time zero.

    ``survival``, shape (n, k), is the probability of each patient of being free of the event at each of ``times``,
    shape (k,), the last of which (``last``, after which nothing was predicted) is above 0.
    """

    def __init__(self, survival: FloatArray, times: FloatArray) -> None:
        if times[0] > 0:
            times, survival = np.append(0.0, times), np.column_stack([np.ones(len(survival)), survival])
        self._times, self._survival = times, survival
        self.last = float(times[-1])

    def at(self, times: FloatArray) -> FloatArray:
        """Every patient's survival at each of some times; shape (n, len(times)), NaN beyond the last prediction."""
        return self._interpolate(slice(None), times)

    def at_own(self, times: FloatArray) -> FloatArray:
        """Each patient's survival at a time of its own; shape (n,), NaN beyond the last prediction."""
        return self._interpolate(np.arange(len(times)), times)

    def _interpolate(self, patients: slice | IntArray, times: FloatArray) -> FloatArray:
        """Survival on the way from the predicted time before each time to the one after it."""
        after = np.clip(np.searchsorted(self._times, times), 1, len(self._times) - 1)
        start, end = self._times[after - 1], self._times[after]
        share = np.clip((times - start) / (end - start), 0.0, 1.0)
        values = self._survival[patients, after - 1] * (1 - share) + self._survival[patients, after] * share
        return np.where(times > self.last, np.nan, values)


@dataclass(frozen=True, eq=False)
class Horizons:
    """When to look at the patients of a cohort: the horizons ``at``, and the ``grid`` of times to integrate over."""

    at: FloatArray
    grid: FloatArray

    @classmethod
    def of(cls, outcomes: Outcomes, horizons: Sequence[float] | None = None) -> Horizons:
        """The horizons of a whole cohort, so that all models are evaluated at the same ones.

        By default they are the quartiles of the observed event times, to six digits. The grid has 100 equidistant
        times, from the first observed one to the last at which a tenth of the patients are still under observation and
        a tenth are estimated to be still uncensored. Both are empty for another kind of endpoint.

        Raises
        ------
        ConfigurationError
            ``HORIZON_INVALID``: the endpoint isn't a time to an event, or a horizon isn't above 0.
        """
        if not isinstance(outcomes.endpoint, TimeToEvent):
            if horizons:
                raise ConfigurationError(
                    Code.HORIZON_INVALID, f"endpoint {outcomes.endpoint.name!r} is not a time to an event"
                )
            return cls(np.zeros(0), np.zeros(0))
        if horizons is None:
            event_times = outcomes.value[outcomes.event]
            horizons = np.quantile(event_times, QUARTILES, method="inverted_cdf").tolist() if len(event_times) else []
        bad = [horizon for horizon in horizons if not (np.isfinite(horizon) and horizon > 0)]
        if bad:
            raise ConfigurationError(Code.HORIZON_INVALID, f"horizons must be times above 0, got {bad}")
        return cls(np.unique([float(horizon_name(horizon)) for horizon in horizons]), _grid(outcomes))


def check_horizons(outcomes: Outcomes, horizons: Sequence[float]) -> None:
    """Refuse horizons at which the patients of a cohort can't be evaluated.

    Raises
    ------
    ConfigurationError
        ``HORIZON_INVALID``: as :meth:`Horizons.of`, or a horizon isn't before the last observed time.
    """
    if not horizons:
        return
    Horizons.of(outcomes, horizons)
    last = float(outcomes.value.max())
    late = [horizon for horizon in horizons if horizon >= last]
    if late:
        unit = outcomes.endpoint.unit if isinstance(outcomes.endpoint, TimeToEvent) else ""
        raise ConfigurationError(
            Code.HORIZON_INVALID,
            f"endpoint {outcomes.endpoint.name!r}: nobody is observed beyond {last:g} {unit}s, so it can't be evaluated"
            f" at {', '.join(map(horizon_name, late))}",
            remedy="name earlier horizons, in the unit of the endpoint",
        )


def horizon_name(horizon: float) -> str:
    """A horizon as it stands in the name of a metric."""
    return f"{horizon:g}"


def cumulative_auc(risk: FloatArray, follow_up: SharedFollowUp, horizon: float) -> Statistic:
    """Cumulative/dynamic AUC: of a patient with the event by the horizon and one without, is the first's risk higher?

    Uno et al., Journal of the American Statistical Association 102 (2007) 527–537; Hung & Chiang, Canadian Journal of
    Statistics 38 (2010) 8–26. With competing events the controls are all who didn't have the event by then (Blanche
    et al., Statistics in Medicine 32 (2013) 5381–5397). Ties in risk count ½.
    """
    areas = _areas(risk, follow_up, np.array([horizon]))
    return Statistic(
        lambda counts: areas(counts)[:, 0],
        f"cumulative/dynamic AUC at {_time(horizon, follow_up)}, {WEIGHTS}, ties in risk count ½{_rivals(follow_up)}",
    )


def mean_cumulative_auc(risk: FloatArray, follow_up: SharedFollowUp, horizons: FloatArray) -> Statistic:
    """Mean of the cumulative/dynamic AUC over horizons, each weighing the events that it adds.

    Σ AUC(tₖ) (F(tₖ) − F(tₖ₋₁)) / F(t_K) with F the estimated probability of the event (Lambert & Chevret, Statistical
    Methods in Medical Research 25 (2016) 2088–2102).
    """
    areas = _areas(risk, follow_up, horizons)

    def compute(counts: FloatArray) -> FloatArray:
        if not len(horizons):
            return np.full(len(counts), np.nan)
        incidence = follow_up.incidence(counts)
        by = np.stack([follow_up.at(incidence, float(horizon), 0.0) for horizon in horizons], axis=1)
        added = np.diff(by, axis=1, prepend=0.0)
        # A horizon that adds no event to a sample has no weight, and may have no AUC.
        parts = np.where(added > 0, areas(counts) * added, 0.0)
        return ratio(parts.sum(axis=1), by[:, -1])

    named = ", ".join(horizon_name(horizon) for horizon in horizons)
    return Statistic(
        compute,
        f"cumulative/dynamic AUC, mean over the horizons {named}{_unit(follow_up)} weighted by the events that each"
        f" adds, {WEIGHTS}, ties in risk count ½{_rivals(follow_up)}",
    )


def brier_at(curves: SurvivalCurves, follow_up: SharedFollowUp, horizon: float) -> Statistic:
    """Mean squared distance of predicted survival at the horizon and being free of the event, weighted for censoring.

    Graf et al., Statistics in Medicine 18 (1999) 2529–2545.
    """
    return Statistic(
        _brier(curves, follow_up, np.array([horizon]), np.ones(1)),
        f"Brier score at {_time(horizon, follow_up)}, {WEIGHTS}{_rivals(follow_up)}",
    )


def integrated_brier(curves: SurvivalCurves, follow_up: SharedFollowUp, grid: FloatArray) -> Statistic:
    """Mean over time of :func:`brier_at`, by the trapezoidal rule on a grid (Graf et al. 1999).

    What lies beyond the last prediction is left out.
    """
    grid = grid[grid <= curves.last]
    if len(grid) < 2:
        return Statistic(lambda counts: np.full(len(counts), np.nan), "integrated Brier score, predicted times too few")
    steps = np.diff(grid)
    weights = (np.append(steps, 0.0) + np.append(0.0, steps)) / 2 / (grid[-1] - grid[0])
    return Statistic(
        _brier(curves, follow_up, grid, weights),
        f"Brier score, mean from {grid[0]:.4g} to {grid[-1]:.4g}{_unit(follow_up)} (trapezoidal rule of {len(grid)})"
        f", {WEIGHTS}{_rivals(follow_up)}",
    )


def observed_expected(curves: SurvivalCurves, follow_up: SharedFollowUp, horizon: float) -> Statistic:
    """Calibration in the large: the observed probability of the event by the horizon over the mean predicted one.

    Above 1 the predicted risks are too low. Observed by Kaplan–Meier, with competing events by Aalen–Johansen
    (McLernon et al., Annals of Internal Medicine 176 (2023) 105–114).
    """
    predicted = 1 - curves.at(np.array([horizon]))[:, 0]

    def compute(counts: FloatArray) -> FloatArray:
        observed = follow_up.at(follow_up.incidence(counts), horizon, 0.0)
        value = ratio(observed * counts.sum(axis=1), counts @ predicted)
        unknown = follow_up.at(follow_up.probability_uncensored(counts), horizon, 1.0) <= 0
        return np.where(unknown, np.nan, value)

    method = "Aalen–Johansen" if follow_up.outcomes.competing.any() else "Kaplan–Meier"
    return Statistic(compute, f"{method} over mean predicted probability of the event by {_time(horizon, follow_up)}")


def _areas(risk: FloatArray, follow_up: SharedFollowUp, horizons: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """From counts to the AUC at each horizon; shape (samples, h)."""
    order, outcomes = RiskOrder(risk), follow_up.outcomes

    def compute(counts: FloatArray) -> FloatArray:
        weighted, uncensored = follow_up.weighted(counts), follow_up.probability_uncensored(counts)
        columns = []
        for horizon in horizons:
            early, late = outcomes.value <= horizon, outcomes.value > horizon
            at_horizon = follow_up.at(uncensored, float(horizon), 1.0)
            known = at_horizon > 0  # else the last patient under observation was censored before
            cases = weighted * (early & outcomes.event)
            rivals = weighted * (early & outcomes.competing)
            controls = rivals + counts * late / np.where(known, at_horizon, 1.0)[:, None]
            columns.append(np.where(known, ratio(*order.pairs(cases, controls)), np.nan))
        return np.stack(columns, axis=1) if columns else np.zeros((len(counts), 0))

    return compute


def _brier(
    curves: SurvivalCurves, follow_up: SharedFollowUp, grid: FloatArray, weights: FloatArray
) -> Callable[[FloatArray], FloatArray]:
    """From counts to Σ weight × Brier score over the times of the grid."""
    survival, outcomes = curves.at(grid), follow_up.outcomes
    time = outcomes.value[:, None]
    # The event by then should have had the prediction 0, anything else 1.
    error = (survival - ~(outcomes.event[:, None] & (time <= grid))) ** 2
    ended = (error * (follow_up.ended[:, None] & (time <= grid))) @ weights
    late = error * (time > grid) * weights

    def compute(counts: FloatArray) -> FloatArray:
        weighted, uncensored = follow_up.weighted(counts), follow_up.probability_uncensored(counts)
        at_grid = np.stack([follow_up.at(uncensored, float(t), 1.0) for t in grid], axis=1)
        observed = at_grid > 0
        beyond = (counts @ late) / np.where(observed, at_grid, 1.0)
        total = weighted @ ended + beyond.sum(axis=1)
        # Where the last patient under observation was censored before the end of the grid, the rest is unknown.
        return np.where(observed[:, -1], ratio(total, counts.sum(axis=1)), np.nan)

    return compute


def _grid(outcomes: Outcomes) -> FloatArray:
    follow_up = FollowUp(outcomes, competing_censors=False)
    uncensored = follow_up.probability_uncensored(np.ones((1, len(outcomes))))[0]
    followed = 1 - np.searchsorted(np.sort(outcomes.value), follow_up.times) / len(outcomes)
    supported = follow_up.times[(uncensored >= MINIMUM_UNCENSORED) & (followed >= MINIMUM_FOLLOWED)]
    if len(supported) < 2:
        return np.zeros(0)
    return np.linspace(supported[0], supported[-1], GRID_POINTS)


def _time(time: float, follow_up: SharedFollowUp) -> str:
    return f"{horizon_name(time)}{_unit(follow_up)}"


def _unit(follow_up: SharedFollowUp) -> str:
    endpoint = follow_up.outcomes.endpoint
    return f" {endpoint.unit}s" if isinstance(endpoint, TimeToEvent) else ""


def _rivals(follow_up: SharedFollowUp) -> str:
    return "; a competing event counts as no event" if follow_up.outcomes.competing.any() else ""
