"""From stored values to SUV: one pure function for each rule.

Order: validate, units, decay, normalise. What comes out is always SUV by body weight, in g/ml. Sources: the
QIBA vendor-neutral pseudo-code; *Standardizing SUV computation* (oncoray/suv_computation, manual and digital
reference objects); DICOM PS3.3 C.8.9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import FloatArray, SUVCalibration
from twobe3.dicom import body_size, dose, reference, timing
from twobe3.dicom.attributes import Policy, Repair, SeriesAttributes, WithRepairs, apply_policy


@dataclass(frozen=True)
class SUVFactors:
    """What stored value × slope is multiplied by, slice by slice, and how that came about."""

    per_slice: FloatArray
    calibration: SUVCalibration


@np.errstate(all="ignore")  # absurd numbers overflow to what is refused at the end
def calibrate(attributes: SeriesAttributes, *, policy: Policy = "lenient", repair_dates: bool = False) -> SUVFactors:
    """Factors from stored value × slope to SUV by body weight.

    Parameters
    ----------
    attributes : SeriesAttributes
        What the headers say.
    policy, repair_dates
        As for :func:`~twobe3.dicom.volume.read_suv`.

    Returns
    -------
    SUVFactors
        ``per_slice`` has shape (slices,), in the order of ``attributes.slices``.

    Raises
    ------
    UnusableScanError
        Under the code of the rule that fails.
    """
    require_attenuation_corrected(attributes)
    require_static(attributes)
    repairs = require_decay_as_announced(attributes)
    require_valid_rescale(attributes)
    match attributes.units:
        case "GML":
            found = scale_grams_per_ml(attributes)
        case "CM2ML":
            found = scale_square_centimetres_per_ml(attributes)
        case "CNTS":
            found = convert_philips_counts(attributes)
        case "BQML":
            found = convert_activity(attributes, np.ones(len(attributes.slices)))
        case other:
            raise UnusableScanError(Code.UNITS_UNSUPPORTED, f"Units (0054,1001) is {other!r}")
    factors, calibration = found.value.per_slice, found.value.calibration
    if not (np.isfinite(factors).all() and (factors > 0).all()):
        raise UnusableScanError(Code.RESCALE_INVALID, f"rule {calibration.rule} gives a factor that is not positive")
    requested = (timing.REPAIR_DATES,) if repair_dates else ()
    warnings = apply_policy((*repairs, *found.repairs), policy, requested=requested)
    return SUVFactors(factors, replace(calibration, warnings=warnings))


def require_attenuation_corrected(attributes: SeriesAttributes) -> None:
    """Rule 1: CorrectedImage (0028,0051) must hold ATTN (DICOM PS3.3 C.8.9.1)."""
    if "ATTN" not in attributes.corrections:
        held = "\\".join(attributes.corrections) or "empty"
        raise UnusableScanError(Code.NOT_ATTN, f"CorrectedImage (0028,0051) is {held}, without ATTN")


def require_decay_as_announced(attributes: SeriesAttributes) -> tuple[Repair, ...]:
    """Rule 2: DECY must be there when DecayCorrection (0054,1102) is START or ADMIN (DICOM PS3.3 C.8.9.1.1.5)."""
    applied, announced = "DECY" in attributes.corrections, attributes.decay_correction
    if announced in ("START", "ADMIN") and not applied:
        reason = f"DecayCorrection (0054,1102) is {announced}, CorrectedImage lacks DECY"
        raise UnusableScanError(Code.NOT_DECAY_CORRECTED, reason)
    if announced == "NONE" and applied:
        text = "CorrectedImage holds DECY but DecayCorrection is NONE, which is taken"
        return (Repair(Code.NOT_DECAY_CORRECTED, text),)
    return ()


def require_valid_rescale(attributes: SeriesAttributes) -> None:
    """Rule 3: intercept 0 and a positive, finite slope in every slice (DICOM PS3.3 C.8.9.4)."""
    for slice_ in attributes.slices:
        if slice_.intercept:
            reason = f"RescaleIntercept (0028,1052) is {slice_.intercept:g}, not 0"
            raise UnusableScanError(Code.RESCALE_INVALID, reason)
        if slice_.slope is None or not (math.isfinite(slice_.slope) and slice_.slope > 0):
            shown = "absent" if slice_.slope is None else f"{slice_.slope:g}"
            raise UnusableScanError(Code.RESCALE_INVALID, f"RescaleSlope (0028,1053) is {shown}")


def require_static(attributes: SeriesAttributes) -> None:
    """Rule 20: SeriesType (0054,1000) must not be DYNAMIC or GATED (DICOM PS3.3 C.8.9.1)."""
    if attributes.series_type and attributes.series_type[0] in ("DYNAMIC", "GATED"):
        raise UnusableScanError(Code.NOT_STATIC, f"SeriesType (0054,1000) is {attributes.series_type[0]}")


def scale_grams_per_ml(attributes: SeriesAttributes) -> WithRepairs[SUVFactors]:
    """Rule 4: GML is SUV already; one normalised by another mass than the weight gets × weight / norm.

    Units: DICOM PS3.3 C.8.9.1.1.3. SUVType (0054,1006): C.8.9.1; empty means body weight.
    """
    kind = attributes.suv_type
    if not attributes.norm_fields:
        return _scale_all(attributes, "GML_BW", 1.0)
    if kind not in body_size.NORMS:
        raise UnusableScanError(Code.SUV_TYPE_UNSUPPORTED, f"SUVType (0054,1006) is {kind!r} with Units GML")
    body = body_size.weight_and_height(attributes.weight, attributes.height)
    weight_kg, height_m = body.value
    factor = weight_kg / body_size.norm_kg(kind, attributes.sex, weight_kg, height_m)
    return _scale_all(attributes, f"GML_{kind}", factor, body.repairs)


def scale_square_centimetres_per_ml(attributes: SeriesAttributes) -> WithRepairs[SUVFactors]:
    """Rule 5: CM2ML is SUV by body surface; × weight in g / surface in cm² = weight_kg / (10 · BSA_m²).

    DICOM PS3.3 C.8.9.1.1.3.
    """
    kind = attributes.suv_type
    if kind not in ("", "BSA"):
        raise UnusableScanError(Code.SUV_TYPE_UNSUPPORTED, f"SUVType (0054,1006) is {kind!r} with Units CM2ML")
    body = body_size.weight_and_height(attributes.weight, attributes.height)
    weight_kg, height_m = body.value
    return _scale_all(
        attributes, "CM2ML", weight_kg / (10 * body_size.surface_m2(weight_kg, height_m * 100)), body.repairs
    )


def convert_philips_counts(attributes: SeriesAttributes) -> WithRepairs[SUVFactors]:
    """Rule 6: CNTS of Philips. × (7053,xx00) is SUV; else × (7053,xx09) is Bq/ml. Zero means absent.

    Philips DICOM conformance statement, private group 7053; QIBA vendor-neutral pseudo-code.
    """
    suv = _positive_or_none([slice_.philips_suv for slice_ in attributes.slices])
    activity = _positive_or_none([slice_.philips_activity for slice_ in attributes.slices])
    repairs: tuple[Repair, ...] = ()
    if not attributes.philips_creator:
        text = "the Philips factor is taken although its private creator was removed"
        repairs = (Repair(Code.NO_SCALE_FACTOR, text),)
    if suv is not None:
        if activity is not None:
            repairs += compare_philips_factors(attributes, suv, activity)
        return WithRepairs(_to_factors("PHILIPS_SUV", suv), repairs)
    if activity is not None:
        found = convert_activity(attributes, activity)
        calibration = replace(found.value.calibration, rule=f"PHILIPS_{found.value.calibration.rule}")
        return WithRepairs(replace(found.value, calibration=calibration), repairs + found.repairs)
    raise UnusableScanError(Code.NO_SCALE_FACTOR, "Units CNTS; neither Philips (7053,xx00) nor (7053,xx09) is above 0")


def compare_philips_factors(attributes: SeriesAttributes, suv: FloatArray, activity: FloatArray) -> tuple[Repair, ...]:
    """Rule 6: record that the two Philips factors differ by more than 2 %, a bound of ours; nothing without both."""
    try:
        found = convert_activity(attributes, activity)
    except UnusableScanError:
        return ()
    apart = float(np.abs(found.value.per_slice / suv - 1).max())
    if apart <= 0.02 or any(repair.on_request for repair in found.repairs):
        return ()
    text = f"Philips (7053,xx00) is taken; by (7053,xx09) the SUV would differ by {apart:.0%}"
    return (Repair(Code.NO_SCALE_FACTOR, text, changes_value=False),)


def convert_activity(attributes: SeriesAttributes, becquerel_per_ml: FloatArray) -> WithRepairs[SUVFactors]:
    """Rules 8 to 10 and 24: SUV = activity × weight in g / dose, both decay-corrected to one time.

    Of several injections of one nuclide the doses add up, each decay-corrected from its own start.

    DICOM PS3.3 C.8.9.1.1.5 on what DecayCorrection (0054,1102) refers to.
    """
    united = dose.unite_injections(attributes)
    attributes = united.value
    match attributes.decay_correction:
        case "ADMIN":
            found = convert_activity_at_injection(attributes, becquerel_per_ml)
        case "START":
            found = convert_activity_at_start(attributes, becquerel_per_ml)
        case "NONE":
            found = convert_uncorrected_activity(attributes, becquerel_per_ml)
        case other:
            reason = f"DecayCorrection (0054,1102) is {other!r}, not START, ADMIN or NONE"
            raise UnusableScanError(Code.NOT_DECAY_CORRECTED, reason)
    return WithRepairs(found.value, united.repairs + found.repairs)


def convert_activity_at_injection(
    attributes: SeriesAttributes, becquerel_per_ml: FloatArray
) -> WithRepairs[SUVFactors]:
    """Rule 8, ADMIN: SUV = A·w / D, no times needed (DICOM PS3.3 C.8.9.1.1.5; QIBA)."""
    dose.require_one_start(attributes)
    given = _measure(attributes)
    weight_kg, doses_bq = given.value
    total_bq = sum(doses_bq)
    factors = becquerel_per_ml * weight_kg * 1000 / total_bq
    return WithRepairs(
        _to_factors("BQML_ADMIN", factors, weight_kg=weight_kg, injected_dose_bq=total_bq), given.repairs
    )


def convert_uncorrected_activity(attributes: SeriesAttributes, becquerel_per_ml: FloatArray) -> WithRepairs[SUVFactors]:
    """Rule 9, NONE: SUV = A·w/D · λT/(1−e^(−λT)) · e^(λ(t_acq − t_adm)), T the frame's duration, per slice.

    What was measured is the mean over the frame: DICOM PS3.3 C.8.9.4.1.5.
    """
    durations_ms = [slice_.frame_duration_ms for slice_ in attributes.slices]
    half_life = dose.physical_half_life_s(attributes)
    if None in durations_ms:
        reason = "ActualFrameDuration (0018,1242) is absent and decay is not corrected"
        raise UnusableScanError(Code.TIMES_MISSING, reason)
    within = np.array([reference.frame_decay(half_life.value, (duration or 0.0) / 1000) for duration in durations_ms])
    return _convert_with_decay("BQML_NONE", attributes, becquerel_per_ml, half_life, within)


def convert_activity_at_start(attributes: SeriesAttributes, becquerel_per_ml: FloatArray) -> WithRepairs[SUVFactors]:
    """Rule 10, START: SUV = A·w / (D·e^(−λ(t_ref − t_adm))) (QIBA vendor-neutral pseudo-code)."""
    return _convert_with_decay("BQML_START", attributes, becquerel_per_ml, dose.physical_half_life_s(attributes))


def _convert_with_decay(
    rule: str,
    attributes: SeriesAttributes,
    becquerel_per_ml: FloatArray,
    half_life: WithRepairs[float],
    within_frame: FloatArray | float = 1.0,
) -> WithRepairs[SUVFactors]:
    given = _measure(attributes)
    weight_kg, doses_bq = given.value
    times = timing.determine_timing(attributes, half_life.value)
    elapsed_s = np.array(times.value.elapsed_of_each_s)
    total_bq = sum(doses_bq)
    remains = np.array(doses_bq) @ np.exp2(-elapsed_s / half_life.value) / total_bq
    repairs = given.repairs + half_life.repairs + times.repairs
    if rule == "BQML_START":
        repairs += timing.check_reference(attributes, times.value, half_life.value)
    found = _to_factors(
        rule,
        becquerel_per_ml * weight_kg * 1000 / (total_bq * remains) * within_frame,
        weight_kg=weight_kg,
        injected_dose_bq=total_bq,
        half_life_s=half_life.value,
        decay_factor=float(remains.min()),
        reference_time=times.value.reference_text,
    )
    return WithRepairs(found, repairs)


def _measure(attributes: SeriesAttributes) -> WithRepairs[tuple[float, list[float]]]:
    """Body weight in kg and every injected dose in Bq (rules 16, 17 and 24)."""
    doses = [dose.injected_dose_bq(one.dose) for one in attributes.injections]
    weight = body_size.weight_of_body_kg(attributes.weight, attributes.height)
    doubts = dose.check_dose(attributes, sum(one.value for one in doses), weight.value)
    repairs = (*(repair for one in doses for repair in one.repairs), *weight.repairs, *doubts)
    return WithRepairs((weight.value, [one.value for one in doses]), repairs)


def _scale_all(
    attributes: SeriesAttributes, rule: str, factor: float, repairs: tuple[Repair, ...] = ()
) -> WithRepairs[SUVFactors]:
    return WithRepairs(_to_factors(rule, np.full(len(attributes.slices), factor)), repairs)


def _to_factors(rule: str, factors: FloatArray, **inputs: Any) -> SUVFactors:
    return SUVFactors(factors, SUVCalibration("bw", rule, float(factors.min()), float(factors.max()), **inputs))


def _positive_or_none(factors: Sequence[float | None]) -> FloatArray | None:
    """The factor of every slice, or None unless all are above 0."""
    values = np.array([factor or 0.0 for factor in factors])
    return values if (values > 0).all() else None
