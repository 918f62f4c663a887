"""What a fold decides with its training patients: thresholds and cut-offs."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit
from sklearn.metrics import roc_curve

from twobe3.cohort.cohort import Cohort
from twobe3.core.outcomes import FloatArray, Outcomes
from twobe3.core.prediction import Prediction
from twobe3.models.fit_cache import FitCache
from twobe3.models.inner_cv import cross_val_predict, inner_split
from twobe3.models.model import Model, drop_unusable, risk_of_fitted
from twobe3.validation.recalibration import bootstrap_platt, breslow, cox_slope, platt, survival_at

log = logging.getLogger("twobe3")


@dataclass(frozen=True)
class ThresholdPolicy:
    """How a fold decides.

    With ``recalibrate`` an inner cross-validation of the model recalibrates its predictions and chooses threshold and
    cut-off; otherwise they come from the fitted model's own training patients.
    """

    recalibrate: bool = False
    inner_folds: int = 4  # fewer where the rarer class has fewer patients
    seed: int = 0

    def cache_key(self) -> str:
        """Text that differs whenever the decisions may differ; part of the checkpoints' keys."""
        return f"decisions {self if self.recalibrate else 'of the training patients'}"


def fit_predict(
    model: Model,
    training: Cohort,
    tested: Cohort,
    times: FloatArray,
    policy: ThresholdPolicy,
    cache: FitCache | None = None,
) -> Prediction:
    """Fit a model on training patients, decide with them, and predict the tested ones, whose outcomes nobody sees.

    Binary: ``threshold`` is the event rate of the training patients, which for calibrated probabilities gives the
    largest sum of sensitivity and specificity. Time-to-event: ``survival`` is the model's own, where it has curves;
    otherwise that of the fitted risks as log hazard ratios over Breslow's baseline of the training patients; competing
    events count as censored, so the hazard is cause-specific. ``cutoff`` is the median risk of the training patients.

    With ``policy.recalibrate`` the risks that an inner cross-validation gives the training patients take the place of
    their fitted ones: binary, Platt's scaling of the risk and the threshold of the largest Youden index;
    time-to-event, the slope of a Cox model on the risk, and the baseline that belongs to it; the cut-off is their
    median. The risk itself is never changed, and of a continuous endpoint nothing but the cut-off.

    The cohorts have one endpoint, and no patient is in both; survival is given at ``times``, shape (k,), in its unit.
    Scans that the model cannot use neither train, decide, nor have a row in the prediction. What is fitted is put into
    ``cache``.
    """
    inner = cross_val_risk(model, training, policy, cache) if policy.recalibrate else None
    model.fit(training)
    if cache is not None:
        cache.put(model, training)
    return apply_thresholds(model, training, tested, times, inner)


def fit_final(model: Model, training: Cohort, policy: ThresholdPolicy, cache: FitCache | None = None) -> Model:
    """The model fitted on the training patients, for patients to come: with the recalibration that a fold would have.

    Platt's scaling of a binary endpoint then is part of the model, see :func:`fit_predict`. Of other endpoints nothing
    that a model predicts by itself is ever recalibrated. What is fitted is put into ``cache``.
    """
    recalibrates = policy.recalibrate and training.endpoint.has_classes
    inner = cross_val_risk(model, training, policy, cache) if recalibrates else None
    model.fit(training)
    if cache is not None:
        cache.put(model, training)
    if inner is not None:
        outcomes = drop_unusable(model, training).outcomes
        model.recalibration_ = platt(inner, outcomes)
        model.calibrations_ = bootstrap_platt(inner, outcomes, seed=policy.seed)
    return model


def apply_thresholds(
    model: Model, training: Cohort, tested: Cohort, times: FloatArray, inner: FloatArray | None = None
) -> Prediction:
    """What :func:`fit_predict` gives, of a model that is fitted already and the inner risks, if any."""
    training = drop_unusable(model, training)
    outcomes = training.outcomes
    prediction = model.predict(tested.without_outcomes())
    n = len(prediction)
    own = model.predict(training.without_outcomes()).risk
    origin = outcomes.endpoint.origin(own)
    risks = own - origin if inner is None else inner
    prediction = replace(prediction, cutoff=np.full(n, origin + float(np.median(risks))))
    if outcomes.endpoint.has_classes:
        threshold = outcomes.n_events / len(outcomes)
        if inner is not None:
            slope, intercept = platt(inner, outcomes)
            prediction = replace(prediction, probability=expit(slope * prediction.risk + intercept))
            threshold = youden(expit(slope * inner + intercept), outcomes)
        return replace(prediction, threshold=np.full(n, threshold))
    if outcomes.endpoint.has_times:
        if inner is None and prediction.survival is not None:
            return replace(prediction, survival=survival_at(prediction, times), times=times)
        slope = 1.0 if inner is None else cox_slope(inner, outcomes)
        baseline = breslow(slope * risks, outcomes)
        survival = baseline.survival(slope * (prediction.risk - origin), times)
        return replace(prediction, survival=survival, times=times)
    return prediction


def youden(probability: FloatArray, outcomes: Outcomes) -> float:
    """The probability from which on saying yes gives the largest sensitivity + specificity; the highest of several.

    Youden, Cancer 1950;3:32. The event rate where no threshold does better than chance.
    """
    false, true, thresholds = roc_curve(outcomes.event, probability, drop_intermediate=False)
    best = int(np.argmax(true - false))
    return float(thresholds[best]) if best else outcomes.n_events / len(outcomes)


def cross_val_risk(
    model: Model, training: Cohort, policy: ThresholdPolicy, cache: FitCache | None = None
) -> FloatArray | None:
    """Each training patient's risk by a model fitted without the patient; None where there are too few to split.

    Of the training patients whose scans the model can use, in their order. Risks of a time to an event have no
    origin: each inner model's are counted from the mean of its own patients.
    """
    training = drop_unusable(model, training)
    split = inner_split(
        training.outcomes, policy.inner_folds, policy.seed, centres=training.centres, min_patients=model.min_patients
    )
    if not split:
        log.info("%s: too few patients to recalibrate", model.name)
        return None
    keep = None if cache is None else cache.put
    return cross_val_predict(risk_of_fitted(model, training, keep), training.outcomes, split)
