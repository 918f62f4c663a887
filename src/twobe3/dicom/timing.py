"""When was it injected, when acquired, to when is it decay-corrected (rules 11 to 14)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, timezone

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.dicom.attributes import Repair, SeriesAttributes, SliceAttributes, WithRepairs

LONG_HALF_LIFE_S = 6 * 3600.0
"""Beyond it a scan may well be made on a later day than the injection, so a clock time alone does not say when."""

PLAUSIBLE_HALF_LIVES = 10.0
"""After ten half-lives a thousandth of the dose is left and nobody scans: a longer interval is a wrong date."""

LONGEST_UPTAKE = timedelta(hours=12)
"""Of an injection whose date is repaired: were it longer, its time of day would not say which day it was."""

REPAIR_DATES = "repair_dates"
"""The option that asks for the repair of an injection's date."""

_NO_DATE = date(2000, 1, 1)
_FIRST_YEAR, _LAST_YEAR = 1800, 2500  # wide enough for birth dates and for dates shifted by de-identification
_TIME = re.compile(r"(\d{2})(?:(\d{2})(?:(\d{2})(?:\.(\d{1,6}))?)?)?")
_DATE_TIME = re.compile(r"(\d{8})(\d{2}[\d.]*)([+-]\d{4})?")


@dataclass(frozen=True)
class Timing:
    """The times of a series, one of each for every slice where they are lists.

    Attributes
    ----------
    injected : datetime
        Start of the injection.
    reference : tuple of datetime
        To when each slice is decay-corrected; for an uncorrected series, when its frame began.
    dated : bool
        False when the dates were removed and only clock times remain.
    """

    injected: datetime
    reference: tuple[datetime, ...]
    dated: bool = True

    @property
    def elapsed_s(self) -> tuple[float, ...]:
        """Seconds from the injection to each slice's reference."""
        return tuple((reference - self.injected).total_seconds() for reference in self.reference)

    @property
    def reference_text(self) -> str:
        """The earliest reference, ISO 8601; without a date where there is none."""
        earliest = min(self.reference)
        return earliest.isoformat() if self.dated else earliest.timetz().isoformat()


def parse_date(text: str) -> date | None:
    """DICOM DA, ``YYYYMMDD`` or the old ``YYYY.MM.DD`` (PS3.5 6.2); None where it is neither, or no year of a scan."""
    try:
        found = datetime.strptime(text.strip().replace(".", ""), "%Y%m%d").date()
    except ValueError:
        return None
    return found if _FIRST_YEAR <= found.year <= _LAST_YEAR else None


def parse_time(text: str, zone: timezone | None = None) -> time | None:
    """DICOM TM, ``HHMMSS.FFFFFF`` shortened at will, or the old ``HH:MM:SS`` (PS3.5 6.2)."""
    match = _TIME.fullmatch(text.strip().replace(":", ""))
    if match is None:
        return None
    hours, minutes, seconds, fraction = match.groups(default="0")
    try:
        # second 60 is a leap second
        return time(int(hours), int(minutes), min(int(seconds), 59), int(fraction.ljust(6, "0")), tzinfo=zone)
    except ValueError:
        return None


def parse_zone(text: str) -> timezone | None:
    """DICOM offset from UTC, ``+0100`` (PS3.3 C.12.1.1.8)."""
    if not re.fullmatch(r"[+-]\d{4}", text.strip()):
        return None
    text = text.strip()
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:]))
    return timezone(-offset if text[0] == "-" else offset) if offset < timedelta(hours=24) else None


def parse_datetime(text: str, zone: timezone | None = None) -> datetime | None:
    """DICOM DT with at least the hour (PS3.5 6.2); its own offset goes before the data set's."""
    match = _DATE_TIME.fullmatch(text.strip())
    if match is None:
        return None
    return _combine(match[1], match[2], parse_zone(match[3] or "") or zone)


def frame_average_s(half_life_s: float, duration_s: float) -> float:
    """When within a frame the activity equals its mean over the frame, in seconds after its begin.

    (1/λ)·ln(λT / (1 − e^(−λT))), from averaging e^(−λt) over [0, T]: T_ave of DICOM PS3.3 C.8.9.4.1.5.
    """
    return math.log(frame_decay(half_life_s, duration_s)) * half_life_s / math.log(2)


def frame_decay(half_life_s: float, duration_s: float) -> float:
    """Decay within a frame: activity at its begin over its mean, λT / (1 − e^(−λT)) (DICOM PS3.3 C.8.9.4.1.5)."""
    x = math.log(2) / half_life_s * duration_s
    return x / -math.expm1(-x) if x > 0 else 1.0


def determine_timing(attributes: SeriesAttributes, half_life_s: float) -> WithRepairs[Timing]:
    """Injection and reference times of a series. Raises ``TIMES_MISSING`` or ``TIMES_INCONSISTENT``."""
    undated = replace_missing_dates(attributes)
    if undated:
        if half_life_s > LONG_HALF_LIFE_S:
            raise UnusableScanError(Code.TIMES_MISSING, "the dates are removed and the half-life is long")
        attributes = undated.value
    reference = reference_times(attributes, half_life_s)
    injected = injection_time(attributes, min(reference.value), half_life_s)
    require_plausible("", max(reference.value) - injected.value, half_life_s)
    repairs = (undated.repairs if undated else ()) + reference.repairs + injected.repairs
    return WithRepairs(Timing(injected.value, reference.value, dated=undated is None), repairs)


def replace_missing_dates(attributes: SeriesAttributes) -> WithRepairs[SeriesAttributes] | None:
    """The same attributes on one arbitrary day, if the images carry clock times only; None where they carry dates."""
    dates = {attributes.series_date}
    dates.update(day for s in attributes.slices for day in (s.acquisition_date, s.acquisition_datetime[:8]))
    if any(parse_date(text) for text in dates):
        return None
    clock = attributes.start_time
    if not parse_time(clock) and (dated := parse_datetime(attributes.start_datetime)):
        clock = dated.strftime("%H%M%S.%f")
    repair = Repair(
        Code.TIMES_MISSING, "the dates are removed; clock times are taken, the injection within a day before"
    )
    attributes = replace(attributes, series_date=f"{_NO_DATE:%Y%m%d}", start_time=clock, start_datetime="")
    return WithRepairs(replace(attributes, ge_injection_datetime="", ge_scan_datetime=""), (repair,))


def acquisition_times(attributes: SeriesAttributes) -> tuple[datetime | None, ...]:
    """When each slice's acquisition began; the series' date stands in for a missing one."""
    zone = parse_zone(attributes.zone)
    series = _combine(attributes.series_date, attributes.series_time, zone)

    def acquisition_time(slice_: SliceAttributes) -> datetime | None:
        whole = _combine(slice_.acquisition_date, slice_.acquisition_time, zone)
        whole = whole or parse_datetime(slice_.acquisition_datetime, zone)
        if whole is not None:
            return whole
        guessed = _combine(attributes.series_date, slice_.acquisition_time, zone)
        if guessed and series and series - guessed > timedelta(hours=12):  # past midnight
            guessed += timedelta(days=1)
        return guessed

    return tuple(acquisition_time(slice_) for slice_ in attributes.slices)


def reference_times(attributes: SeriesAttributes, half_life_s: float) -> WithRepairs[tuple[datetime, ...]]:
    """To when each slice's activity is decay-corrected (rule 11); for decay NONE, when its frame began (rule 9).

    The series' date-time, unless it is later than the first acquisition, as it is in reprocessed series; then GE's
    private scan time; then per slice, from what DICOM PS3.3 C.8.9.4.1.5 says of FrameReferenceTime. After the vendor-
    neutral pseudo-code of the QIBA FDG-PET/CT profile. Raises ``TIMES_MISSING``.
    """
    acquired = acquisition_times(attributes)
    of_the_series = (*attributes.slices, *((attributes.first_acquired,) if attributes.first_acquired else ()))
    known = [instant for instant in acquisition_times(replace(attributes, slices=of_the_series)) if instant is not None]
    if attributes.decay_correction == "NONE":
        return WithRepairs(_require_all(acquired))
    zone = parse_zone(attributes.zone)
    series = _combine(attributes.series_date, attributes.series_time, zone)
    if series and known and all(_is_comparable(series, t) and series <= t for t in known):
        return WithRepairs((series,) * len(acquired))
    if scan := parse_datetime(attributes.ge_scan_datetime, zone):
        return WithRepairs((scan,) * len(acquired))
    text = "the series' time is absent or later than its acquisition; the reference comes from FrameReferenceTime"
    return WithRepairs(
        tuple(
            instant + timedelta(seconds=_from_begin_to_reference_s(slice_, half_life_s))
            for instant, slice_ in zip(_require_all(acquired), attributes.slices, strict=True)
        ),
        (_disagreement(text),),
    )


def injection_time(attributes: SeriesAttributes, reference: datetime, half_life_s: float) -> WithRepairs[datetime]:
    """When the tracer was injected (rules 12 to 14).

    RadiopharmaceuticalStartDateTime; else RadiopharmaceuticalStartTime on the day of the reference, or the day
    before; else GE's private date-time (QIBA vendor-neutral pseudo-code). Instants with and without a time zone are
    never compared (DICOM PS3.5 6.2). Raises ``TIMES_MISSING``; ``TIMES_INCONSISTENT`` when the injection is later
    than the reference or more than ten half-lives earlier, which is what shifting one date only leaves, and its time
    of day does not help.
    """
    zone = parse_zone(attributes.zone)
    repairs: list[Repair] = []
    candidates = [("(0018,1078)", parse_datetime(attributes.start_datetime, zone))]
    if half_life_s <= LONG_HALF_LIFE_S:
        candidates.append(("(0018,1072)", _find_last_before(reference, parse_time(attributes.start_time, zone))))
    candidates.append(("GE (0009,xx3B)", parse_datetime(attributes.ge_injection_datetime, zone)))
    for tag, instant in candidates:
        if instant is None:
            continue
        if not _is_comparable(instant, reference):
            text = f"{tag} is left out: of it and the scan, one has a time zone"
            repairs.append(Repair(Code.TIMES_INCONSISTENT, text))
            continue
        found = WithRepairs(instant)
        if not is_plausible(reference - instant, half_life_s):
            found = keep_clock_time(attributes, f" {tag}", instant, reference, half_life_s)
        return WithRepairs(found.value, (*repairs, *found.repairs))
    if repairs:
        raise UnusableScanError(Code.TIMES_INCONSISTENT, repairs[0].text)
    reason = "neither (0018,1078) nor a usable (0018,1072) says when the tracer was injected"
    raise UnusableScanError(Code.TIMES_MISSING, reason)


def is_plausible(interval: timedelta, half_life_s: float) -> bool:
    """Rule 13: the reference must lie after the injection, by no more than ten half-lives, a bound of ours."""
    return 0 <= interval.total_seconds() <= PLAUSIBLE_HALF_LIVES * half_life_s


def require_plausible(tag: str, interval: timedelta, half_life_s: float) -> None:
    """Refuse what rule 13 calls implausible: ``TIMES_INCONSISTENT``."""
    if not is_plausible(interval, half_life_s):
        raise UnusableScanError(
            Code.TIMES_INCONSISTENT,
            f"the injection{tag} is {_hours(interval)} before the reference time; the half-life is "
            f"{half_life_s / 3600:.2f} h",
        )


def keep_clock_time(
    attributes: SeriesAttributes, tag: str, stated: datetime, reference: datetime, half_life_s: float
) -> WithRepairs[datetime]:
    """Rule 13's repair: of an injection with an implausible date, the time of day, on the last day that it fits.

    De-identification that shifts the date of the scan or that of the injection, not both, leaves the times of day.
    The repair is refused unless :data:`REPAIR_DATES` was asked for. Raises ``TIMES_INCONSISTENT``: the half-life is
    above 6 h, so the injection may well have been on an earlier day; or the time of day is midnight sharp, which
    stands for none, is no more plausible, or (0018,1072) says another.
    """
    kept = _find_last_before(reference, stated.timetz()) or stated
    uptake = reference - kept
    other = _find_last_before(reference, parse_time(attributes.start_time, parse_zone(attributes.zone)))
    if (
        half_life_s > LONG_HALF_LIFE_S
        or stated.time() == time(0)
        or uptake > LONGEST_UPTAKE
        or not is_plausible(uptake, half_life_s)
        or (other and _is_comparable(other, kept) and abs(other - kept) > timedelta(minutes=1))
    ):
        require_plausible(tag, reference - stated, half_life_s)
    text = f"the injection{tag} is {_hours(reference - stated)} before the reference time; by its time of day alone, "
    return WithRepairs(kept, (Repair(Code.TIMES_INCONSISTENT, text + _hours(uptake), on_request=REPAIR_DATES),))


def check_reference(attributes: SeriesAttributes, timing: Timing, half_life_s: float) -> tuple[Repair, ...]:
    """Compare the reference time with what DecayFactor (0054,1321) and Siemens (0071,xx22) imply (rule 11).

    A DecayFactor fits if it is, to 2 %, the decay from the reference to the frame's begin, with or without the decay
    within the frame: vendors differ. Where all slices have one acquisition time, which some vendors write for all bed
    positions, FrameReferenceTime may explain it as well.
    """
    repairs = []
    siemens = parse_datetime(attributes.siemens_decay_datetime, parse_zone(attributes.zone))
    if siemens and timing.dated and _is_comparable(siemens, timing.reference[0]):
        apart_s = max(abs((siemens - t).total_seconds()) for t in timing.reference)
        if apart_s > 60:
            repairs.append(_disagreement(f"Siemens (0071,xx22) is {apart_s:.0f} s from the reference time taken"))
    rate = math.log(2) / half_life_s
    misfits = 0
    acquired = acquisition_times(attributes)
    one_time = len(set(acquired)) == 1
    for slice_, began, reference in zip(attributes.slices, acquired, timing.reference, strict=True):
        if not slice_.decay_factor or slice_.decay_factor <= 0:
            continue
        elapsed = [(began - reference).total_seconds()] if began and _is_comparable(began, reference) else []
        if slice_.frame_reference_time_ms is not None and one_time:
            elapsed.append(slice_.frame_reference_time_ms / 1000)
        within = frame_decay(half_life_s, (slice_.frame_duration_ms or 0) / 1000)
        logs = [rate * seconds + extra for seconds in elapsed for extra in (0.0, math.log(within))]
        misfits += bool(logs) and min(abs(math.log(slice_.decay_factor) - x) for x in logs) > 0.02
    if misfits:
        repairs.append(_disagreement(f"DecayFactor (0054,1321) of {misfits} slices does not fit the reference time"))
    return tuple(repairs)


def _hours(interval: timedelta) -> str:
    return f"{interval.total_seconds() / 3600:.2f} h"


def _disagreement(text: str) -> Repair:
    return Repair(Code.TIMES_INCONSISTENT, text, changes_value=False)


def _from_begin_to_reference_s(slice_: SliceAttributes, half_life_s: float) -> float:
    if slice_.frame_duration_ms is None or slice_.frame_reference_time_ms is None:
        raise UnusableScanError(
            Code.TIMES_MISSING,
            "the series' time is later than its acquisition, and FrameReferenceTime (0054,1300) or "
            "ActualFrameDuration (0018,1242) is absent",
        )
    seconds = frame_average_s(half_life_s, slice_.frame_duration_ms / 1000) - slice_.frame_reference_time_ms / 1000
    if not abs(seconds) <= PLAUSIBLE_HALF_LIVES * half_life_s:
        reason = f"FrameReferenceTime (0054,1300) is {seconds:.0f} s off the frame"
        raise UnusableScanError(Code.TIMES_INCONSISTENT, reason)
    return seconds


def _require_all(instants: tuple[datetime | None, ...]) -> tuple[datetime, ...]:
    known = tuple(instant for instant in instants if instant is not None)
    if len(known) < len(instants):
        missing = len(instants) - len(known)
        reason = f"{missing} of {len(instants)} slices lack AcquisitionTime (0008,0032)"
        raise UnusableScanError(Code.TIMES_MISSING, reason)
    if not all(_is_comparable(instant, known[0]) for instant in known):
        raise UnusableScanError(Code.TIMES_INCONSISTENT, "some acquisition times have a time zone and others have none")
    return known


def _find_last_before(reference: datetime, clock: time | None) -> datetime | None:
    """The last moment not after the reference at which the clock showed this time."""
    if clock is None:
        return None
    if reference.tzinfo and clock.tzinfo:
        reference = reference.astimezone(clock.tzinfo)
    instant = datetime.combine(reference.date(), clock)
    return instant - timedelta(days=1) if _is_comparable(instant, reference) and instant > reference else instant


def _combine(day: str, clock: str, zone: timezone | None) -> datetime | None:
    parsed_day, parsed_clock = parse_date(day), parse_time(clock, zone)
    return datetime.combine(parsed_day, parsed_clock) if parsed_day and parsed_clock else None


def _is_comparable(a: datetime, b: datetime) -> bool:
    return (a.tzinfo is None) == (b.tzinfo is None)
