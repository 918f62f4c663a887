"""To when the activity of a series is decay-corrected (rules 9, 11 and 23)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache, lru_cache

import numpy as np

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import FloatArray
from twobe3.dicom.attributes import Repair, SeriesAttributes, SliceAttributes, WithRepairs
from twobe3.dicom.clock import combine, is_comparable, parse_datetime, parse_zone

PLAUSIBLE_HALF_LIVES = 10.0
"""After ten half-lives a thousandth of the dose is left and nobody scans: a longer interval is a wrong date."""

LONGEST_BEFORE_SCAN = timedelta(days=1)
"""Of a reference before the first acquisition: longer, and it stands for a date that was removed."""

TOLERANCE = 0.02
"""Of the activity, by which what the frames say may differ from a reference time."""

_ROUNDING = timedelta(seconds=1)  # some vendors write one time of a scan in whole seconds and another in fractions
_ONE_INJECTION = timedelta(minutes=1)
_LONGEST_FRAME_MS = 86_400e3


@dataclass(frozen=True)
class Reference:
    """To when each slice is decay-corrected, and which elements say so."""

    source: str
    instants: tuple[datetime, ...]


@lru_cache(maxsize=64)  # the frames of a series mostly last equally long
def frame_average_s(half_life_s: float, duration_s: float) -> float:
    """When within a frame the activity equals its mean over the frame, in seconds after its begin.

    (1/λ)·ln(λT / (1 − e^(−λT))), from averaging e^(−λt) over [0, T]: T_ave of DICOM PS3.3 C.8.9.4.1.5.
    """
    return math.log(frame_decay(half_life_s, duration_s)) * half_life_s / math.log(2)


@lru_cache(maxsize=64)
def frame_decay(half_life_s: float, duration_s: float) -> float:
    """Decay within a frame: activity at its begin over its mean, λT / (1 − e^(−λT)) (DICOM PS3.3 C.8.9.4.1.5)."""
    x = math.log(2) / half_life_s * duration_s
    return x / -math.expm1(-x) if x > 0 else 1.0


def acquisition_times(attributes: SeriesAttributes) -> tuple[datetime | None, ...]:
    """When each slice's acquisition began; the series' date stands in for a missing one."""
    zone = parse_zone(attributes.zone)
    series = combine(attributes.series_date, attributes.series_time, zone)

    def acquisition_time(slice_: SliceAttributes) -> datetime | None:
        whole = combine(slice_.acquisition_date, slice_.acquisition_time, zone)
        whole = whole or parse_datetime(slice_.acquisition_datetime, zone)
        if whole is not None:
            return whole
        guessed = combine(attributes.series_date, slice_.acquisition_time, zone)
        if guessed and series and series - guessed > timedelta(hours=12):  # past midnight
            guessed += timedelta(days=1)
        return guessed

    return tuple(acquisition_time(slice_) for slice_ in attributes.slices)


def latest_injection(attributes: SeriesAttributes) -> datetime | None:
    """Before when the tracer must have been injected for the frames to show it; None where no time is known.

    One volume: half of each of its frames must come after the injection. A frame of a dynamic series may come before
    it, as the first ones do, the end of the series may not. Both are bounds of ours.
    """
    whole = bool(attributes.whole_series)
    slices = attributes.whole_series or attributes.slices
    times = [
        begin + timedelta(milliseconds=min(slice_.frame_duration_ms or 0.0, _LONGEST_FRAME_MS) * (1 if whole else 0.5))
        for begin, slice_ in zip(acquisition_times(replace(attributes, slices=slices)), slices, strict=True)
        if begin is not None and not (slice_.frame_duration_ms or 0.0) < 0
    ]
    if not times or not all(is_comparable(one, times[0]) for one in times):
        return None
    return max(times) if whole else min(times)


def require_acquisition_times(attributes: SeriesAttributes) -> tuple[datetime, ...]:
    """When each frame began. Raises ``TIMES_MISSING``; ``TIMES_INCONSISTENT``: only some have a time zone."""
    instants = acquisition_times(attributes)
    known = tuple(instant for instant in instants if instant is not None)
    if len(known) < len(instants):
        missing = len(instants) - len(known)
        reason = f"{missing} of {len(instants)} slices lack AcquisitionTime (0008,0032)"
        raise UnusableScanError(Code.TIMES_MISSING, reason)
    if not all(is_comparable(instant, known[0]) for instant in known):
        raise UnusableScanError(Code.TIMES_INCONSISTENT, "some acquisition times have a time zone and others have none")
    return known


def list_stated_references(
    attributes: SeriesAttributes, half_life_s: float
) -> tuple[tuple[Reference, ...], tuple[Repair, ...]]:
    """The reference times that the header states and that its acquisition times do not contradict, best first.

    The series' date-time; DecayCorrectionDateTime (0018,9701); the private times of GE and Siemens. None may be later
    than the first acquisition, as the series' time is in reprocessed series, nor earlier by more than a day or ten
    half-lives (rule 23), unless it is the time of the injection. After the vendor-neutral pseudo-code of the QIBA
    FDG-PET/CT profile. Second come notes on those that are too early.
    """
    zone = parse_zone(attributes.zone)
    slices = (*attributes.slices, *attributes.whole_series)
    acquired = [one for one in acquisition_times(replace(attributes, slices=slices)) if one is not None]
    series = combine(attributes.series_date, attributes.series_time, zone)
    stated = (
        ("the series' time (0008,0021), (0008,0031)", series if acquired else None),
        ("DecayCorrectionDateTime (0018,9701)", parse_datetime(attributes.decay_correction_datetime, zone)),
        ("GE (0009,xx0D)", parse_datetime(attributes.ge_scan_datetime, zone)),
        ("Siemens (0071,xx22)", parse_datetime(attributes.siemens_decay_datetime, zone)),
    )
    longest = min(LONGEST_BEFORE_SCAN, timedelta(seconds=PLAUSIBLE_HALF_LIVES * half_life_s))
    injections = [parse_datetime(one.start_datetime, zone) for one in attributes.injections]
    found, notes = [], []
    for source, instant in stated:
        if instant is None or not all(is_comparable(instant, one) for one in acquired):
            continue
        before = min(acquired) - instant if acquired else timedelta(0)
        injected_then = any(
            one and is_comparable(one, instant) and abs(one - instant) <= _ONE_INJECTION for one in injections
        )
        if before > longest and not injected_then:
            notes.append(disagree(f"{source} is {describe_interval(before)} before the first acquisition and left out"))
        elif before >= -_ROUNDING:
            found.append(Reference(source, (instant,) * len(attributes.slices)))
    return tuple(found), tuple(notes)


def derive_reference(attributes: SeriesAttributes, half_life_s: float) -> WithRepairs[Reference]:
    """The reference time by what FrameReferenceTime and DecayFactor say of the frames (rules 11 and 23).

    Where all frames have one acquisition time, which some vendors write for all bed positions, it is that of the first.
    Raises ``TIMES_MISSING``; ``TIMES_INCONSISTENT``: the two contradict each other, or the frames one another.
    """
    frames = (*attributes.slices, *attributes.whole_series)
    began = require_acquisition_times(replace(attributes, slices=frames))
    elapsed = _derive_elapsed_s(frames, half_life_s)
    seconds = elapsed.value
    if not (np.abs(seconds) <= PLAUSIBLE_HALF_LIVES * half_life_s).all():
        reason = f"FrameReferenceTime (0054,1300) is {np.abs(seconds).max():.0f} s off the frame"
        raise UnusableScanError(Code.TIMES_INCONSISTENT, reason)
    if len(set(began)) == 1:
        seconds = np.full(len(frames), seconds.min())
    own = len(attributes.slices)
    instants = tuple(begin - timedelta(seconds=float(s)) for begin, s in zip(began[:own], seconds[:own], strict=True))
    spread_s = (max(instants) - min(instants)).total_seconds()
    if spread_s * math.log(2) / half_life_s > TOLERANCE:
        reason = f"by FrameReferenceTime (0054,1300) the reference times of the frames are {spread_s:.0f} s apart"
        raise UnusableScanError(Code.TIMES_INCONSISTENT, reason)
    return WithRepairs(Reference("the frames", instants), elapsed.repairs)


def _derive_elapsed_s(slices: Sequence[SliceAttributes], half_life_s: float) -> WithRepairs[FloatArray]:
    """Seconds from the reference to the begin of each frame.

    FrameReferenceTime lies T_ave after it (DICOM PS3.3 C.8.9.4.1.5), with GE at the begin of the frame; DecayFactor
    holds the decay within the frame as well, or not. Where both are there, the readings that fit each other are taken;
    none by which the first frame begins before the reference, if another one is left.
    """
    rate = math.log(2) / half_life_s
    if any(one.frame_duration_ms is None for one in slices):
        raise UnusableScanError(Code.TIMES_MISSING, f"{_NONE_FITS}, and ActualFrameDuration (0018,1242) is absent")
    average_s = np.array([frame_average_s(half_life_s, (one.frame_duration_ms or 0.0) / 1000) for one in slices])
    times_ms = [one.frame_reference_time_ms for one in slices]
    time_s = None if None in times_ms else np.array(times_ms, dtype=np.float64) / 1000
    factors = np.array([one.decay_factor or 0.0 for one in slices])
    factor_s = np.log2(factors) * half_life_s if (factors > 0).all() else None
    if time_s is not None and factor_s is not None:
        apart = [
            min(float(np.abs(time - factor).max()) * rate for factor in (factor_s, factor_s - average_s))
            for time in (time_s - average_s, time_s)
        ]
        if min(apart) <= TOLERANCE:
            nearer = apart[1] < apart[0] - 0.25 * rate * float(average_s.max())
            at_begin = apart[1] <= TOLERANCE and (nearer or _is_early(time_s - average_s))
            text = f"{_NONE_FITS}; the reference comes from FrameReferenceTime, which DecayFactor confirms"
            return WithRepairs(time_s if at_begin else time_s - average_s, (disagree(text),))
        if factor_s.any():
            reason = (
                f"{_NONE_FITS}, and FrameReferenceTime (0054,1300) and DecayFactor (0054,1321) contradict each other"
            )
            raise UnusableScanError(Code.TIMES_INCONSISTENT, reason)
    if time_s is not None:
        text = f"{_NONE_FITS}; the reference comes from FrameReferenceTime"
        return WithRepairs(time_s if _is_early(time_s - average_s) else time_s - average_s, (disagree(text),))
    if factor_s is None or float(average_s.max()) * rate > TOLERANCE:
        raise UnusableScanError(Code.TIMES_MISSING, f"{_NONE_FITS}, and FrameReferenceTime (0054,1300) is absent")
    without = _is_early(factor_s - average_s)
    text = f"{_NONE_FITS}; the reference comes from DecayFactor, the decay within the frame {'not ' * without}in it"
    return WithRepairs(factor_s if without else factor_s - average_s, (Repair(Code.TIMES_INCONSISTENT, text),))


def _is_early(elapsed_s: FloatArray) -> bool:
    """Whether a frame would begin before its reference, which none does: it was read in a way that isn't meant."""
    return bool(elapsed_s.min() < -_ROUNDING.total_seconds())


_NONE_FITS = "no time that the header states as the reference fits its acquisition"


def count_misfits(attributes: SeriesAttributes, reference: Sequence[datetime], half_life_s: float) -> int:
    """Slices whose DecayFactor (0054,1321) does not fit the reference.

    It fits if it is, to 2 %, the decay from the reference to the frame's begin, with or without the decay within the
    frame: vendors differ. Where all slices have one acquisition time, which some vendors write for all bed positions,
    FrameReferenceTime may explain it as well.
    """
    acquired = acquisition_times(attributes)
    one_time = len(set(acquired)) == 1

    @cache  # the slices of one bed position say the same
    def misfits(
        factor: float | None, time_ms: float | None, duration_ms: float, began: datetime | None, instant: datetime
    ) -> bool:
        if not factor or factor <= 0:
            return False
        elapsed = [(began - instant).total_seconds()] if began and is_comparable(began, instant) else []
        if time_ms is not None:
            elapsed.append(time_ms / 1000)
        within = math.log(frame_decay(half_life_s, duration_ms / 1000))
        logs = [math.log(2) / half_life_s * seconds + extra for seconds in elapsed for extra in (0.0, within)]
        return bool(logs) and min(abs(math.log(factor) - x) for x in logs) > TOLERANCE

    return sum(
        misfits(one.decay_factor, one.frame_reference_time_ms if one_time else None, one.frame_duration_ms or 0.0, *at)
        for one, *at in zip(attributes.slices, acquired, reference, strict=True)
    )


def frames_agree(attributes: SeriesAttributes, reference: Sequence[datetime], half_life_s: float) -> bool | None:
    """Whether DecayFactor, else FrameReferenceTime, fits a reference; None where neither says anything.

    A DecayFactor of 1 in every slice may stand for none.
    """
    factors = [one.decay_factor or 0.0 for one in attributes.slices]
    fits = count_misfits(attributes, reference, half_life_s) == 0
    if all(factor > 0 for factor in factors) and (fits or set(factors) != {1.0}):
        return fits
    rate = math.log(2) / half_life_s
    apart = []
    for slice_, began, instant in zip(attributes.slices, acquisition_times(attributes), reference, strict=True):
        time_ms, duration_s = slice_.frame_reference_time_ms, (slice_.frame_duration_ms or 0.0) / 1000
        if time_ms is not None and began is not None and is_comparable(began, instant):
            off_s = time_ms / 1000 - (began - instant).total_seconds()
            within = (0.0, frame_average_s(half_life_s, duration_s), duration_s / 2)
            apart.append(min(abs(off_s - one) for one in within) * rate)
    if not apart:
        return None
    one_time = len(set(acquisition_times(attributes))) == 1
    return (min(apart) if one_time else max(apart)) <= TOLERANCE


def describe_interval(interval: timedelta) -> str:
    """An interval in the unit in which a person thinks of it."""
    seconds = interval.total_seconds()
    if abs(seconds) < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.2f} h" if abs(seconds) < 2 * 86400 else f"{seconds / 86400:.1f} days"


def disagree(text: str) -> Repair:
    """A cross-check of times that failed: it is recorded, and changes no value."""
    return Repair(Code.TIMES_INCONSISTENT, text, changes_value=False)
