"""To when a series is decay-corrected, where the time that stands for it was removed, shifted or changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from twobe3.core.errors import UnusableScanError
from twobe3.dicom.attributes import SeriesAttributes, SliceAttributes, apply_policy
from twobe3.dicom.reference import describe_interval, frame_average_s, frame_decay
from twobe3.dicom.timing import determine_timing

F18 = 6586.2
START = datetime(2024, 3, 1, 11)
DURATION_S = 120.0


def bed(begin_s: float, convention: str = "siemens", half_life_s: float = F18) -> SliceAttributes:
    """A bed position of a series corrected to its start.

    Siemens: FrameReferenceTime is the time of the mean activity, DecayFactor holds the decay within the frame. GE: the
    former is that of the frame's begin. Philips: DecayFactor is absent. ``"begin"``: DecayFactor leaves that decay out.
    """
    began = START + timedelta(seconds=begin_s)
    within_s = frame_average_s(half_life_s, DURATION_S)
    factor = 2 ** (begin_s / half_life_s)
    return SliceAttributes(
        1.0,
        0.0,
        f"{began:%Y%m%d}",
        f"{began:%H%M%S}",
        frame_reference_time_ms=(begin_s + (0 if convention == "ge" else within_s)) * 1e3,
        frame_duration_ms=DURATION_S * 1e3,
        decay_factor={"philips": None, "begin": factor}.get(
            convention, round(factor * frame_decay(half_life_s, DURATION_S), 5)
        ),
    )


def whole_body(convention: str = "siemens", half_life_s: float = F18) -> SeriesAttributes:
    return SeriesAttributes(
        "BQML",
        "START",
        ("ATTN", "DECY"),
        tuple(bed(begin, convention, half_life_s) for begin in (0, 150, 300)),
        series_date="20240301",
        series_time="110000",
        start_datetime="20240301100000",
    )


def elapsed_s(series: SeriesAttributes, half_life_s: float = F18, policy: str = "lenient") -> tuple[float, ...]:
    found = determine_timing(series, half_life_s)
    apply_policy(found.repairs, policy)  # type: ignore[arg-type]
    return found.value.elapsed_s


PLACEHOLDERS = [
    ("20240209", "110000"),  # three weeks before
    ("20240229", "100000"),  # a day and an hour before
    ("19000101", "000000"),
    ("19700101", "110000"),
    ("20990101", "000000"),
    ("20240301", "114500"),  # after the scan: changed by reprocessing
    ("", ""),
]


@pytest.mark.parametrize("policy", ["lenient", "strict"])
@pytest.mark.parametrize(("day", "clock"), PLACEHOLDERS)
@pytest.mark.parametrize("convention", ["siemens", "ge", "philips", "begin"])
def test_what_the_frames_say_stands_in_for_a_placeholder(convention: str, day: str, clock: str, policy: str) -> None:
    """Acceptance row 61: three beds of a series that was corrected to 11:00, an hour after the injection."""
    series = replace(whole_body(convention), series_date=day, series_time=clock)
    assert elapsed_s(series, policy=policy) == pytest.approx((3600,) * 3, abs=1)
    by_clock = replace(series, start_datetime="", start_time="100000")
    assert elapsed_s(by_clock, policy=policy) == pytest.approx((3600,) * 3, abs=1)


@pytest.mark.parametrize(("day", "clock"), PLACEHOLDERS)
@pytest.mark.parametrize("source", ["ge_scan_datetime", "siemens_decay_datetime", "decay_correction_datetime"])
def test_another_time_that_the_header_states_stands_in_for_a_placeholder(source: str, day: str, clock: str) -> None:
    silent = tuple(replace(one, decay_factor=None, frame_reference_time_ms=None) for one in whole_body().slices)
    series = replace(whole_body(), series_date=day, series_time=clock, slices=silent)
    with pytest.raises(UnusableScanError, match="TIMES_"):
        elapsed_s(series)
    assert elapsed_s(replace(series, **{source: "20240301110000.00"}), policy="strict") == (3600,) * 3
    with pytest.raises(UnusableScanError, match="TIMES_"):  # shifted with it
        elapsed_s(replace(series, **{source: "20240209110000.00"}))


def test_a_time_removed_from_a_right_date_is_not_the_reference() -> None:
    """Midnight is 10 h before the injection; on the day before it would be 14 h before midnight: eight half-lives."""
    for start in ({"start_datetime": "20240301100000"}, {"start_datetime": "", "start_time": "100000"}):
        series = replace(whole_body(), series_time="000000", **start)
        assert elapsed_s(series) == pytest.approx((3600,) * 3, abs=1)
        with pytest.raises(UnusableScanError, match="TIMES_INCONSISTENT"):  # two times contradict each other
            elapsed_s(series, policy="strict")
        silent = tuple(replace(one, decay_factor=None, frame_reference_time_ms=None) for one in series.slices)
        with pytest.raises(UnusableScanError, match="TIMES_INCONSISTENT"):
            elapsed_s(replace(series, slices=silent))


@pytest.mark.parametrize("half_life_s", [F18, 1223.0])
@pytest.mark.parametrize("shown", ["both", "FrameReferenceTime", "DecayFactor"])
def test_no_frame_begins_before_its_reference(half_life_s: float, shown: str) -> None:
    """Both count from the first frame's begin: read as times of the mean, they put the reference after it."""
    slices = tuple(
        replace(
            bed(begin, "begin", half_life_s),
            frame_reference_time_ms=None if shown == "DecayFactor" else begin * 1e3,
            **({"decay_factor": None} if shown == "FrameReferenceTime" else {}),
        )
        for begin in (0, 150, 300)
    )
    series = replace(whole_body(), series_date="20240209", slices=slices)
    if shown == "DecayFactor" and half_life_s != F18:
        with pytest.raises(UnusableScanError, match="TIMES_"):
            elapsed_s(series, half_life_s)
        return
    assert elapsed_s(series, half_life_s) == pytest.approx((3600,) * 3, abs=0.01)


def test_one_acquisition_time_for_all_beds_is_that_of_the_first() -> None:
    """As GE writes it; the private time of the scan was removed, and the series was rebuilt later."""
    series = whole_body("ge")
    slices = tuple(replace(one, acquisition_time="110000") for one in series.slices)
    assert elapsed_s(replace(series, series_time="114500", slices=slices)) == pytest.approx((3600,) * 3, abs=1)


def test_frames_that_contradict_each_other_are_refused() -> None:
    placeholder = replace(whole_body(), series_date="20240209")
    apart = [replace(one, decay_factor=one.decay_factor * 1.07) for one in placeholder.slices if one.decay_factor]
    with pytest.raises(UnusableScanError, match="contradict each other"):
        elapsed_s(replace(placeholder, slices=tuple(apart)))
    zeros = tuple(
        replace(one, decay_factor=None, frame_reference_time_ms=0.0, acquisition_time=f"11{i:02}00")
        for i, one in zip((0, 5, 10), placeholder.slices, strict=True)
    )
    with pytest.raises(UnusableScanError, match="apart"):
        elapsed_s(replace(placeholder, slices=zeros))


def test_a_decay_factor_alone_is_a_guess() -> None:
    alone = tuple(replace(one, frame_reference_time_ms=None) for one in whole_body().slices)
    series = replace(whole_body(), series_date="20240209", slices=alone)
    assert elapsed_s(series) == pytest.approx((3600,) * 3, abs=1)
    with pytest.raises(UnusableScanError, match="TIMES_INCONSISTENT"):
        elapsed_s(series, policy="strict")
    rubidium = tuple(replace(bed(t, half_life_s=75.5), frame_reference_time_ms=None) for t in (0, 150, 300))
    with pytest.raises(UnusableScanError, match="TIMES_"):  # with or without the decay within two minutes?
        elapsed_s(replace(series, slices=rubidium, start_datetime="20240301105900"), 75.5)


@pytest.mark.parametrize(("half_life_s", "before_s"), [(75.5, 700), (F18, 17 * 3600), (360806.0, 23 * 3600)])
def test_a_reference_is_plausible_for_ten_half_lives_and_a_day(half_life_s: float, before_s: int) -> None:
    """Corrected to a time long before the scan, as the frames confirm."""
    began = START + timedelta(seconds=before_s)
    late = replace(bed(0, half_life_s=half_life_s), frame_reference_time_ms=None, decay_factor=None)
    late = replace(late, acquisition_date=f"{began:%Y%m%d}", acquisition_time=f"{began:%H%M%S}")
    series = replace(whole_body(), slices=(late,), start_datetime="20240301105800")
    assert elapsed_s(series, half_life_s) == (120,)
    too_late = began + timedelta(hours=2)
    late = replace(late, acquisition_date=f"{too_late:%Y%m%d}", acquisition_time=f"{too_late:%H%M%S}")
    with pytest.raises(UnusableScanError, match="TIMES_"):
        elapsed_s(replace(series, slices=(late,)), half_life_s)


def test_a_reference_at_the_injection_days_before_is_what_it_says() -> None:
    """Zr-89, corrected to the injection five days before, as an enhanced object says it."""
    series = replace(whole_body(), series_date="20240225", series_time="090000", start_datetime="20240225090000")
    assert elapsed_s(series, 282240.0, "strict") == (0,) * 3


def test_a_date_shifted_in_some_elements_only() -> None:
    """The acquisition keeps its date; an injection by the clock is on the day of the scan."""
    for changes in ({"series_date": "20230817"}, {"series_date": "20250101"}):
        series = replace(whole_body(), start_datetime="", start_time="100000", **changes)
        assert elapsed_s(series) == pytest.approx((3600,) * 3, abs=1)
        both = replace(series, start_datetime="20230817100000")
        with pytest.raises(UnusableScanError, match="TIMES_INCONSISTENT"):
            elapsed_s(both)


def test_intervals_are_said_as_a_person_thinks_of_them() -> None:
    assert [describe_interval(timedelta(seconds=s)) for s in (20, 5400, 20 * 86400)] == ["20 s", "1.50 h", "20.0 days"]
