"""Whether a probability of 0.3 comes true in 3 of 10 patients (Van Calster et al., BMC Medicine 17 (2019) 230).

Probabilities have the shape (n,), those of curves are means over repeats; outcomes are of the same n patients in the
same order, and counts, shape (samples, n), bootstrap samples of them, not stratified by event.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import expit, logit
from scipy.stats import chi2
from statsmodels.nonparametric.smoothers_lowess import lowess
from statsmodels.stats.proportion import proportion_confint

from twobe3.core.outcomes import BoolArray, FloatArray, IntArray, Outcomes
from twobe3.evaluation.bootstrap import LEVEL, TOLERANCE, Statistic, percentile_band
from twobe3.evaluation.horizons import SurvivalCurves
from twobe3.evaluation.kaplan_meier import FollowUp
from twobe3.evaluation.results import Curve
from twobe3.evaluation.survival import ratio

CLIP = 1e-6
PATIENTS_PER_BIN = 10
MAX_BINS = 10
SPAN = 0.75  # share of the patients that each point of the smooth curve looks at, the default of R's loess
SMOOTH_PATIENTS = 20
SMOOTH_POINTS = 41
WIDEST_GAP = 1 / 3
BAND_SAMPLES = 200
_ITERATIONS = 30
_CONVERGED = 1e-9
_STRIDE = 5.0  # longest step, in logits: one sample that separates the classes doesn't overflow


def calibration_slope(probability: FloatArray, outcomes: Outcomes) -> Statistic:
    """Slope b of logit P(event) = a + b logit(p): 1 is right, below 1 the probabilities are too extreme.

    Maximum likelihood, probabilities clipped to [1e-6, 1 − 1e-6]. Not estimable with one class, with constant
    probabilities, or when the classes are separated. It is the Slope of R's ``rms::val.prob``.
    """
    recalibrate = _recalibration(probability, outcomes)
    return Statistic(
        lambda counts: recalibrate(counts)[:, 1], "slope of the logistic recalibration, maximum likelihood"
    )


def recalibration_intercept(probability: FloatArray, outcomes: Outcomes) -> Statistic:
    """Intercept a of the same fit as the slope b: logit P(event) = a + b logit(p); 0 is right where the slope is 1.

    It is the Intercept of R's ``rms::val.prob``. Whether risks are too low or too high on the whole it doesn't say by
    itself; :func:`calibration_intercept` and :func:`observed_expected` do. Estimable where the slope is.
    """
    recalibrate = _recalibration(probability, outcomes)
    return Statistic(
        lambda counts: recalibrate(counts)[:, 0],
        "intercept of the logistic recalibration beside its slope, maximum likelihood",
    )


def calibration_intercept(probability: FloatArray, outcomes: Outcomes) -> Statistic:
    """Intercept a of logit P(event) = a + logit(p), the slope held at 1: 0 is right, above 0 the risks are too low.

    Maximum likelihood. Not estimable with one class.
    """
    offset = _logit(probability)
    event = outcomes.event.astype(np.float64)

    def compute(counts: FloatArray) -> FloatArray:
        return _fit(np.ones((1, len(event))), event, offset, counts)[:, 0]

    return Statistic(compute, "intercept of the logistic recalibration with slope 1, maximum likelihood")


def observed_expected(probability: FloatArray, outcomes: Outcomes) -> Statistic:
    """Calibration in the large: the share of patients with the event over the mean probability; best 1."""
    event = outcomes.event.astype(np.float64)
    return Statistic(
        lambda counts: ratio(counts @ event, counts @ probability), "share of events over the mean probability"
    )


def calibration_curve(probability: FloatArray, outcomes: Outcomes) -> Curve:
    """Observed share of events against the mean probability, in groups of equal size.

    At most ten groups of about ten patients or more, equal probabilities never split; limits: Wilson's 95 %.
    """
    group = _groups(probability)
    size = np.bincount(group)
    events = np.bincount(group, weights=outcomes.event)
    low, high = proportion_confint(events, size, alpha=1 - LEVEL, method="wilson")
    label = f"observed share of events in {len(size)} groups of the probability, {size.min()} patients or more in each"
    return Curve("calibration", label, np.bincount(group, weights=probability) / size, events / size, low, high)


def smooth_calibration(probability: FloatArray, outcomes: Outcomes, counts: FloatArray) -> Curve | None:
    """Observed share of events against the probability, smoothed by local lines (Cleveland's lowess).

    Austin & Steyerberg, Statistics in Medicine 33 (2014) 517–535, with a span of 0.75 and without the robust
    iterations, which would take a rare event for an outlier. The curve spans the range of the probabilities, held
    within [0, 1]; limits: pointwise percentiles of at most 200 samples. None for fewer than 20 patients or 10 different
    probabilities, or with a third of the range without any patient, as of a model that knows one yes or no: there it
    says nothing.
    """
    values = np.unique(probability)
    if len(probability) < SMOOTH_PATIENTS or len(values) < PATIENTS_PER_BIN:
        return None
    if np.diff(values).max() > WIDEST_GAP * np.ptp(values):
        return None
    x = np.linspace(probability.min(), probability.max(), SMOOTH_POINTS)

    def smooth(rows: IntArray) -> FloatArray:
        line = lowess(outcomes.event[rows].astype(np.float64), probability[rows], frac=SPAN, it=0, xvals=x)
        return np.asarray(np.clip(line, 0.0, 1.0))

    samples = counts[:BAND_SAMPLES].astype(np.int64)
    everybody = np.arange(len(probability))
    low, high = percentile_band(np.stack([smooth(np.repeat(everybody, sample)) for sample in samples]))
    label = f"smoothed by local lines over {SPAN:.0%} of the patients; band of {len(samples)} bootstrap samples"
    return Curve("calibration_smooth", label, x, smooth(everybody), low, high)


def calibration_at(probability: FloatArray, outcomes: Outcomes, horizon: float, counts: FloatArray) -> Curve:
    """Observed probability of the event by a horizon against the predicted one, in groups of equal size.

    Observed is 1 − Kaplan–Meier of the group, or the Aalen–Johansen incidence where there are competing events. Groups
    as in :func:`calibration_curve`; limits: percentiles of at most 200 samples, NaN for a group in which nobody or
    everybody has the event. The horizon lies within the follow-up.
    """
    follow_up, group = FollowUp(outcomes, competing_censors=False), _groups(probability)
    size = np.bincount(group)
    table = np.vstack([np.ones(len(probability)), counts[:BAND_SAMPLES]])

    def observed(members: BoolArray) -> FloatArray:
        return follow_up.at(follow_up.incidence(table * members), horizon, 0.0)

    y = np.stack([observed(group == g) for g in range(len(size))], axis=1)
    low, high = percentile_band(y[1:])
    flat = np.minimum(y[0], 1 - y[0]) <= TOLERANCE
    unit = getattr(outcomes.endpoint, "unit", "")
    label = (
        f"observed probability of the event by {horizon:g} {unit}s in {len(size)} groups of the predicted one, "
        f"{size.min()} patients or more in each"
    )
    x = np.bincount(group, weights=probability) / size
    return Curve("calibration", label, x, y[0], np.where(flat, np.nan, low), np.where(flat, np.nan, high))


def _groups(probability: FloatArray) -> IntArray:
    """Number of the group of each patient, by ascending probability: quantiles, equal probabilities never split."""
    bins = int(np.clip(len(probability) // PATIENTS_PER_BIN, 1, MAX_BINS))
    edges = np.unique(np.quantile(probability, np.arange(1, bins) / bins))
    _, group = np.unique(np.searchsorted(edges, probability, side="left"), return_inverse=True)
    return group


def _logit(probability: FloatArray) -> FloatArray:
    return np.asarray(logit(np.clip(probability, CLIP, 1 - CLIP)))


def _recalibration(probability: FloatArray, outcomes: Outcomes) -> Callable[[FloatArray], FloatArray]:
    """From counts to intercept and slope of the logistic recalibration; shape (samples, 2)."""
    z, event = _logit(probability), outcomes.event.astype(np.float64)
    mean, scale = float(z.mean()), float(z.std()) or 1.0
    design = np.stack([np.ones_like(z), (z - mean) / scale])

    def compute(counts: FloatArray) -> FloatArray:
        level, slope = (_fit(design, event, np.zeros_like(event), counts) / [1.0, scale]).T
        return np.column_stack([level - slope * mean, slope])

    return compute


def _fit(design: FloatArray, event: FloatArray, offset: FloatArray, counts: FloatArray) -> FloatArray:
    """Logistic regression of every sample at once by Newton's method; NaN where it doesn't converge.

    ``design`` has shape (k, n), ``counts`` (samples, n); the result has shape (samples, k).
    """
    positives = counts @ event
    both = (positives > 0) & (positives < counts.sum(axis=1))
    coefficients = np.zeros((len(counts), len(design)))
    k, n = design.shape
    products = (design[:, None, :] * design[None, :, :]).reshape(k * k, n)
    for _ in range(_ITERATIONS):
        probability = expit(offset + coefficients @ design)
        gradient = (counts * (event - probability)) @ design.T
        information = ((counts * probability * (1 - probability)) @ products.T).reshape(-1, k, k)
        # The pseudo-inverse leaves a direction without information alone; those samples are set aside below.
        step = np.einsum("bij,bj->bi", np.linalg.pinv(information, hermitian=True), gradient).clip(-_STRIDE, _STRIDE)
        coefficients = coefficients + step
        if np.abs(step).max() < _CONVERGED:
            break
    determined = np.linalg.matrix_rank(information, hermitian=True) == k
    converged = both & determined & (np.abs(step).max(axis=1) < _CONVERGED)
    return np.where(converged[:, None], coefficients, np.nan)


BINS = 10
FEWEST_TIED = 2


def d_calibration(curves: SurvivalCurves, outcomes: Outcomes) -> Statistic:
    """p-value of the hypothesis that the predicted survival at the own event time is uniform between 0 and 1.

    Pearson's χ² of ten equal bins, nine degrees of freedom (Haider et al., Journal of Machine Learning Research 21
    (2020) 85, section 3.3). A small p says that the curves are wrong; a large one, with few patients, says little.
    Censored patients are shared out over the bins that are left to them; so are those with a competing event, and those
    whose follow-up outlasts the predicted times, from then on. An event at a coarse time (:func:`rounding_of_times`) is
    shared out over the survival from S(T) to S(T − step), as in the non-randomised histogram of discrete outcomes
    (Czado et al., Biometrics 65 (2009) 1254–1261, section 2). What is shared out varies less than whole patients do, so
    that a right model is rejected less often than the level says.
    """
    shares, rounding = bin_shares(curves, outcomes), rounding_of_times(outcomes)

    def compute(counts: FloatArray) -> FloatArray:
        expected = counts.sum(axis=1, keepdims=True) / BINS
        statistic = ((counts @ shares - expected) ** 2 / expected).sum(axis=1)
        return np.asarray(chi2.sf(statistic, df=BINS - 1))

    censored = " and competing events" if outcomes.competing.any() else ""
    coarse = ""
    if rounding.any():
        share = f"{np.count_nonzero(rounding)} of {outcomes.n_events} events, at coarse times, shared out"
        coarse = (
            f"; {share} over the step before them ({rounding.max():.3g}, in {getattr(outcomes.endpoint, 'unit', '')}s)"
        )
    return Statistic(
        compute,
        f"D-calibration, p of Pearson's χ² of {BINS} bins of the predicted survival, {BINS - 1} degrees of freedom,"
        f" censorings{censored} shared out{coarse}",
    )


def bin_shares(curves: SurvivalCurves, outcomes: Outcomes) -> FloatArray:
    """How much each patient adds to each bin of predicted survival; shape (n, 10), rows sum to 1.

    A patient with the event adds 1 to the bin of S(T). One censored there could still have the event at any lower
    survival: to a bin from a to b it adds the share of [0, S(T)] that lies in it (Haider et al. 2020, eq. 9). One with
    the event at a coarse time adds the share of [S(T), S(T − step)].
    """
    time = np.minimum(outcomes.value, curves.last)
    observed = outcomes.event & (outcomes.value <= curves.last)
    low = np.where(observed, curves.at_own(time), 0.0)[:, None]
    high = curves.at_own(time - np.where(observed, rounding_of_times(outcomes), 0.0))[:, None]
    edges = np.arange(BINS + 1) / BINS
    inside = np.clip(np.minimum(high, edges[1:]) - np.maximum(low, edges[:-1]), 0.0, None)
    bin_of = np.minimum((high * BINS).astype(np.int64), BINS - 1)
    wide = high > low
    return np.asarray(np.where(wide, inside / np.where(wide, high - low, 1.0), bin_of == np.arange(BINS)))


def rounding_of_times(outcomes: Outcomes) -> FloatArray:
    """How much earlier than recorded each event may have come; shape (n,), 0 where its time is not coarse.

    A time is coarse that several events share, and at least a tenth as many as share the fullest one: those few that
    stand between whole years say nothing of the others. The step is the smallest from one coarse time to the next, or
    from 0 to the first; events that all come at one time show none. A time is taken as rounded up, as Kaplan–Meier
    takes it: 3 in whole years is all of (2, 3].
    """
    times, held = np.unique(outcomes.value[outcomes.event], return_counts=True)
    coarse = times[(held >= max(FEWEST_TIED, held.max(initial=0) / 10)) & (len(times) > 1)]
    step = np.diff(coarse, prepend=0.0).min(initial=np.inf)
    return np.where(outcomes.event & np.isin(outcomes.value, coarse), step, 0.0)
