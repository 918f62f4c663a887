"""When was it injected, and by which reference time of those that there are (rules 11 to 14 and 22)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.dicom.attributes import Repair, SeriesAttributes, WithRepairs
from twobe3.dicom.clock import find_last_before, is_comparable, parse_date, parse_datetime, parse_time, parse_zone
from twobe3.dicom.reference import (
    PLAUSIBLE_HALF_LIVES,
    Reference,
    count_misfits,
    derive_reference,
    describe_interval,
    disagree,
    frames_agree,
    latest_injection,
    list_stated_references,
    require_acquisition_times,
)

LONG_HALF_LIFE_S = 6 * 3600.0
"""Beyond it a scan may well be made on a later day than the injection, so a clock time alone does not say when."""

LONGEST_UPTAKE = timedelta(hours=12)
"""Of an injection whose date is repaired: were it longer, its time of day would not say which day it was."""

SHORTLY_AFTER = timedelta(minutes=10)
"""By how much an injection may follow a reference time that no frame confirms: longer, and one of the two is wrong."""

REPAIR_DATES = "repair_dates"
"""The option that asks for the repair of an injection's date."""

_NO_DATE = date(2000, 1, 1)


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
    further : tuple of datetime
        Start of each injection after the first.
    """

    injected: datetime
    reference: tuple[datetime, ...]
    dated: bool = True
    further: tuple[datetime, ...] = ()

    @property
    def elapsed_s(self) -> tuple[float, ...]:
        """Seconds from the first injection to each slice's reference; below 0 where it came after."""
        return self.elapsed_of_each_s[0]

    @property
    def elapsed_of_each_s(self) -> tuple[tuple[float, ...], ...]:
        """The same for every injection."""
        injected = (self.injected, *self.further)
        return tuple(tuple((reference - one).total_seconds() for reference in self.reference) for one in injected)

    @property
    def reference_text(self) -> str:
        """The earliest reference, ISO 8601; without a date where there is none."""
        earliest = min(self.reference)
        return earliest.isoformat() if self.dated else earliest.timetz().isoformat()


@dataclass(frozen=True)
class Scan:
    """What an injection is placed by.

    Attributes
    ----------
    reference : datetime
        The earliest reference of a slice.
    latest : datetime or None
        Before when the tracer must have been injected for the scan to show it.
    agrees : bool or None
        Whether what the frames say of themselves fits the reference; None where they say nothing.
    """

    reference: datetime
    latest: datetime | None
    agrees: bool | None

    def covers(self, injected: datetime) -> bool:
        """Rule 22: the injection follows the reference, and the scan goes on.

        By no more than :data:`SHORTLY_AFTER`, unless the frames confirm the reference.
        """
        if self.latest is None or not is_comparable(injected, self.latest) or self.agrees is False:
            return False
        in_time = self.agrees or injected - self.reference <= SHORTLY_AFTER
        return in_time and self.reference < injected < self.latest


def determine_timing(attributes: SeriesAttributes, half_life_s: float) -> WithRepairs[Timing]:
    """Injection and reference times of a series (rules 11 to 14, 22 and 23).

    The first reference time that fits the acquisition and every injection is taken: those that the header states, then
    what the frames say. Raises ``TIMES_MISSING`` or ``TIMES_INCONSISTENT``.
    """
    undated = replace_missing_dates(attributes)
    if undated:
        if half_life_s > LONG_HALF_LIFE_S:
            raise UnusableScanError(Code.TIMES_MISSING, "the dates are removed and the half-life is long")
        attributes = undated.value
    repairs = undated.repairs if undated else ()
    if attributes.decay_correction == "NONE":
        began = WithRepairs(Reference("acquisition", require_acquisition_times(attributes)))
        found = _place_injections(attributes, began, half_life_s)
    else:
        found = _choose_reference(attributes, half_life_s)
    return WithRepairs(replace(found.value, dated=undated is None), repairs + found.repairs)


def _choose_reference(attributes: SeriesAttributes, half_life_s: float) -> WithRepairs[Timing]:
    stated, notes = list_stated_references(attributes, half_life_s)
    refusals: list[UnusableScanError] = []
    on_request: list[WithRepairs[Timing]] = []
    for one in (*stated, None):  # None: what the frames say
        try:
            reference = WithRepairs(one, notes) if one else derive_reference(attributes, half_life_s)
            found = _place_injections(attributes, reference, half_life_s)
        except UnusableScanError as error:
            refusals.append(error)
            if one:
                notes = (*notes, Repair(error.code, f"{one.source} is left out: {error.reason}"))
            continue
        if not one:
            found = WithRepairs(found.value, notes + found.repairs)
        if not any(repair.on_request for repair in found.repairs):
            return found
        on_request.append(found)
    if on_request:
        return on_request[0]
    if notes and not stated:
        reason = f"{notes[0].text}; {refusals[0].reason}"
        raise UnusableScanError(Code.TIMES_INCONSISTENT, reason)
    raise refusals[0]


def _place_injections(
    attributes: SeriesAttributes, reference: WithRepairs[Reference], half_life_s: float
) -> WithRepairs[Timing]:
    """The injections by one reference."""
    instants = reference.value.instants
    uncorrected = attributes.decay_correction == "NONE"
    scan = Scan(
        min(instants), latest_injection(attributes), uncorrected or frames_agree(attributes, instants, half_life_s)
    )
    injected = [injection_time(one, scan, half_life_s) for one in attributes.injections]
    for one in injected:
        require_plausible("", max(max(instants) - one.value, timedelta(0)), half_life_s)
    repairs = (*reference.repairs, *(repair for one in injected for repair in one.repairs))
    return WithRepairs(Timing(injected[0].value, instants, further=tuple(one.value for one in injected[1:])), repairs)


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


def injection_time(attributes: SeriesAttributes, scan: Scan, half_life_s: float) -> WithRepairs[datetime]:
    """When the tracer was injected (rules 12 to 14 and 22).

    RadiopharmaceuticalStartDateTime; else RadiopharmaceuticalStartTime shortly before the reference, or within the
    scan; else GE's private date-time (QIBA vendor-neutral pseudo-code). Instants with and without a time zone are
    never compared (DICOM PS3.5 6.2). Raises ``TIMES_MISSING``; ``TIMES_INCONSISTENT`` when the injection is later
    than the reference and not within the scan, or more than ten half-lives earlier, which is what shifting one date
    only leaves, and its time of day does not help.
    """
    zone = parse_zone(attributes.zone)
    repairs: list[Repair] = []
    candidates = [("(0018,1078)", parse_datetime(attributes.start_datetime, zone))]
    clock = parse_time(attributes.start_time, zone)
    if half_life_s <= LONG_HALF_LIFE_S and not candidates[0][1]:
        candidates.append(("(0018,1072)", find_by_clock(clock, scan, half_life_s)))
    elif half_life_s <= LONG_HALF_LIFE_S:
        candidates.append(("(0018,1072)", find_last_before(scan.reference, clock)))
    candidates.append(("GE (0009,xx3B)", parse_datetime(attributes.ge_injection_datetime, zone)))
    for tag, instant in candidates:
        if instant is None:
            continue
        if not is_comparable(instant, scan.reference):
            text = f"{tag} is left out: of it and the scan, one has a time zone"
            repairs.append(Repair(Code.TIMES_INCONSISTENT, text))
            continue
        found = WithRepairs(instant)
        if scan.covers(instant):
            text = f"the injection {tag} is {describe_interval(instant - scan.reference)} after the reference time"
            found = WithRepairs(instant, (disagree(f"{text}, within the scan"),))
        elif not is_plausible(scan.reference - instant, half_life_s):
            found = keep_clock_time(attributes, f" {tag}", instant, scan, half_life_s)
        return WithRepairs(found.value, (*repairs, *found.repairs))
    if repairs:
        raise UnusableScanError(Code.TIMES_INCONSISTENT, repairs[0].text)
    reason = "neither (0018,1078) nor a usable (0018,1072) says when the tracer was injected"
    raise UnusableScanError(Code.TIMES_MISSING, reason)


def find_by_clock(clock: time | None, scan: Scan, half_life_s: float, tag: str = "(0018,1072)") -> datetime | None:
    """When a clock showed the time of an injection: within the scan, else the last time before it.

    Raises ``TIMES_INCONSISTENT``: between the reference and the scan, by more than :data:`SHORTLY_AFTER`, and nothing
    confirms the reference; or within the scan so late that it may as well have been the day before.
    """
    before = find_last_before(scan.reference, clock)
    if before is None or not is_comparable(before, scan.reference):
        return before
    after = before + timedelta(days=1)
    if scan.latest is None or not is_comparable(after, scan.latest) or not scan.reference < after < scan.latest:
        return before
    lag = after - scan.reference
    doubtful = lag > SHORTLY_AFTER and is_plausible(scan.reference - before, half_life_s)
    if doubtful or not scan.covers(after):
        reason = f"the injection {tag} is {describe_interval(lag)} after the reference time, or the day before"
        raise UnusableScanError(Code.TIMES_INCONSISTENT, reason)
    return after


def is_plausible(interval: timedelta, half_life_s: float) -> bool:
    """Rule 13: the reference must lie after the injection, by no more than ten half-lives, a bound of ours."""
    return 0 <= interval.total_seconds() <= PLAUSIBLE_HALF_LIVES * half_life_s


def require_plausible(tag: str, interval: timedelta, half_life_s: float) -> None:
    """Refuse what rule 13 calls implausible: ``TIMES_INCONSISTENT``."""
    if not is_plausible(interval, half_life_s):
        raise UnusableScanError(
            Code.TIMES_INCONSISTENT,
            f"the injection{tag} is {describe_interval(interval)} before the reference time; the half-life is "
            f"{half_life_s / 3600:.2f} h",
        )


def keep_clock_time(
    attributes: SeriesAttributes, tag: str, stated: datetime, scan: Scan, half_life_s: float
) -> WithRepairs[datetime]:
    """Rule 13's repair: of an injection with an implausible date, the time of day, on the last day that it fits.

    De-identification that shifts the date of the scan or that of the injection, not both, leaves the times of day.
    The repair is refused unless :data:`REPAIR_DATES` was asked for. Raises ``TIMES_INCONSISTENT``: the half-life is
    above 6 h, so the injection may well have been on an earlier day; or the time of day is midnight sharp, which
    stands for none, is no more plausible, or (0018,1072) says another.
    """
    reference = scan.reference
    kept = find_by_clock(stated.timetz(), scan, half_life_s, tag.strip()) or stated
    uptake = reference - kept
    other = find_last_before(reference, parse_time(attributes.start_time, parse_zone(attributes.zone)))
    minute, day = timedelta(minutes=1), timedelta(days=1)
    if (
        half_life_s > LONG_HALF_LIFE_S
        or stated.time() == time(0)
        or uptake > LONGEST_UPTAKE
        or not (scan.covers(kept) or is_plausible(uptake, half_life_s))
        or (other and is_comparable(other, kept) and minute < (other - kept) % day < day - minute)
    ):
        require_plausible(tag, reference - stated, half_life_s)
    interval = describe_interval(reference - stated)
    text = f"the injection{tag} is {interval} before the reference time; by its time of day alone, "
    repair = Repair(Code.TIMES_INCONSISTENT, text + describe_interval(uptake), on_request=REPAIR_DATES)
    return WithRepairs(kept, (repair,))


def check_reference(attributes: SeriesAttributes, timing: Timing, half_life_s: float) -> tuple[Repair, ...]:
    """Compare the reference time with what DecayFactor (0054,1321) and Siemens (0071,xx22) imply (rule 11)."""
    repairs = []
    siemens = parse_datetime(attributes.siemens_decay_datetime, parse_zone(attributes.zone))
    if siemens and timing.dated and is_comparable(siemens, timing.reference[0]):
        apart_s = max(abs((siemens - t).total_seconds()) for t in timing.reference)
        if apart_s > 60:
            repairs.append(disagree(f"Siemens (0071,xx22) is {apart_s:.0f} s from the reference time taken"))
    if misfits := count_misfits(attributes, timing.reference, half_life_s):
        repairs.append(disagree(f"DecayFactor (0054,1321) of {misfits} slices does not fit the reference time"))
    return tuple(repairs)
