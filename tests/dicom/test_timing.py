import json
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from twobe3.cli import main as cli
from twobe3.cohort.read import cohort_document, read_cohort
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary
from twobe3.core.errors import EmptyInputError, UnusableScanError
from twobe3.dicom.attributes import SeriesAttributes, SliceAttributes, apply_policy
from twobe3.dicom.reference import frame_average_s
from twobe3.dicom.series import find_series
from twobe3.dicom.timing import Timing, check_reference, determine_timing
from twobe3.scans.scan import DicomScan
from twobe3.study import prepare
from twobe3.study import run as experiment
from twobe3.study.config import read_study

F18 = 6586.2
SLICE = SliceAttributes(1.0, 0.0, "20240301", "110000", frame_reference_time_ms=60e3, frame_duration_ms=120e3)
ATTRIBUTES = SeriesAttributes(
    "BQML",
    "START",
    ("ATTN", "DECY"),
    (SLICE,),
    series_date="20240301",
    series_time="110000",
    start_datetime="20240301100000",
)


def elapsed_s(attributes: SeriesAttributes, half_life_s: float = F18) -> float:
    return determine_timing(attributes, half_life_s).value.elapsed_s[0]


def test_across_midnight_with_times_only() -> None:
    """Acceptance row 7."""
    attributes = replace(ATTRIBUTES, start_datetime="", start_time="233000", series_time="003000")
    assert elapsed_s(replace(attributes, slices=(replace(SLICE, acquisition_time="003000"),))) == 3600


def test_equal_instants_across_a_clock_change() -> None:
    """Acceptance row 10."""
    # in central Europe 02:30 summer time and 02:30 winter time are an hour apart
    attributes = replace(
        ATTRIBUTES,
        zone="+0100",
        series_date="20241027",
        series_time="023000",
        start_datetime="20241027023000+0200",
        slices=(replace(SLICE, acquisition_date="20241027", acquisition_time="023000"),),
    )
    assert elapsed_s(attributes) == 3600


def test_instants_with_and_without_zone_are_not_mixed() -> None:
    attributes = replace(ATTRIBUTES, start_datetime="20240301100000+0100")
    with pytest.raises(UnusableScanError, match="TIMES_INCONSISTENT"):
        determine_timing(attributes, F18)
    with_clock = determine_timing(replace(attributes, start_time="101500"), F18)
    assert with_clock.value.elapsed_s == (2700,)
    assert with_clock.repairs[0].changes_value


def test_removed_dates_leave_clock_times() -> None:
    """Acceptance row 9."""
    bare = replace(
        ATTRIBUTES,
        series_date="",
        start_datetime="",
        start_time="233000",
        series_time="235000",
        slices=(replace(SLICE, acquisition_date="", acquisition_time="000500"),),
    )
    found = determine_timing(bare, F18)
    assert found.value.elapsed_s == (1200,)
    assert found.value.reference_text == "23:50:00"
    assert found.repairs[0].changes_value
    with pytest.raises(UnusableScanError, match="TIMES_MISSING"):
        determine_timing(bare, 78.4 * 3600)
    with pytest.raises(UnusableScanError, match="TIMES_MISSING"):
        determine_timing(replace(bare, start_time=""), F18)


def test_a_clock_time_does_not_date_the_injection_of_a_long_lived_nuclide() -> None:
    attributes = replace(ATTRIBUTES, start_datetime="", start_time="100000")
    with pytest.raises(UnusableScanError, match="TIMES_MISSING"):
        determine_timing(attributes, 78.4 * 3600)
    assert elapsed_s(replace(attributes, ge_injection_datetime="20240227100000"), 78.4 * 3600) == 3 * 86400 + 3600


def test_a_series_time_after_the_acquisition_is_not_the_reference() -> None:
    late = replace(ATTRIBUTES, series_time="113000")
    per_slice = elapsed_s(late)
    # a uniform frame of 120 s whose reference lies 60 s into the series: the reference is the frame's begin, to ms
    assert per_slice == pytest.approx(3600, abs=0.2)
    assert per_slice == pytest.approx(3600 + frame_average_s(F18, 120) - 60)
    assert elapsed_s(replace(late, ge_scan_datetime="20240301105500.00")) == 3300
    with pytest.raises(UnusableScanError, match="FrameReferenceTime"):
        determine_timing(replace(late, slices=(replace(SLICE, frame_reference_time_ms=None),)), F18)


def test_ge_injection_time_stands_in() -> None:
    assert elapsed_s(replace(ATTRIBUTES, start_datetime="", ge_injection_datetime="20240301101000.00")) == 3000


def test_reference_is_checked_against_decay_factor_and_siemens() -> None:
    right = Timing(datetime(2024, 3, 1, 10), (datetime(2024, 3, 1, 11),))
    later = replace(SLICE, acquisition_time="113000", frame_reference_time_ms=1800e3, decay_factor=2 ** (1800 / F18))
    attributes = replace(ATTRIBUTES, slices=(later,), siemens_decay_datetime="20240301110000.000000")
    assert check_reference(attributes, right, F18) == ()
    wrong = replace(attributes, slices=(replace(later, decay_factor=1.0),), siemens_decay_datetime="20240301103000")
    assert [repair.changes_value for repair in check_reference(wrong, right, F18)] == [False, False]


def repaired(attributes: SeriesAttributes, half_life_s: float = F18) -> tuple[float, str]:
    found = determine_timing(attributes, half_life_s)
    (repair,) = found.repairs
    assert (repair.code, repair.changes_value, repair.on_request) == (Code.TIMES_INCONSISTENT, True, "repair_dates")
    with pytest.raises(UnusableScanError, match=r"TIMES_INCONSISTENT.*repair_dates"):
        apply_policy(found.repairs, "lenient")
    with pytest.raises(UnusableScanError, match="TIMES_INCONSISTENT"):
        apply_policy(found.repairs, "strict", requested=("repair_dates",))
    (line,) = apply_policy(found.repairs, "lenient", requested=("repair_dates",))
    return found.value.elapsed_s[0], line


@pytest.mark.parametrize("day", ["20230301", "20240302", "20240229", "20250715"])
def test_an_injection_on_a_date_that_cannot_be_keeps_its_time_of_day(day: str) -> None:
    elapsed, line = repaired(replace(ATTRIBUTES, start_datetime=f"{day}100000"))
    assert elapsed == 3600
    assert line.endswith("by its time of day alone, 1.00 h; taken, as repair_dates asks")


def test_the_time_of_day_is_kept_across_midnight_and_zones() -> None:
    after_midnight = replace(ATTRIBUTES, series_time="003000", slices=(replace(SLICE, acquisition_time="003000"),))
    assert repaired(replace(after_midnight, start_datetime="20190301233000"))[0] == 3600
    abroad = replace(ATTRIBUTES, zone="+0200", start_datetime="20190301080000+0000")  # 10:00 where the scanner stands
    assert repaired(abroad)[0] == 3600
    assert repaired(replace(ATTRIBUTES, start_datetime="", ge_injection_datetime="20190301101500.00"))[0] == 2700


@pytest.mark.parametrize(
    ("changes", "half_life_s"),
    [
        ({"start_datetime": "20230301100000"}, 78.4 * 3600),  # zirconium is scanned days later
        ({"start_datetime": "20230301100000"}, 6.1 * 3600),
        ({"start_datetime": "20230301060000"}, 1223.0),  # fifteen half-lives of carbon-11 by the clock
        ({"start_datetime": "20230301113000"}, F18),  # 23.5 h before: no date was shifted, a clock is wrong
        ({"start_datetime": "20230301000000"}, F18),  # midnight sharp stands for a time that was removed
        ({"start_datetime": "20230301100000", "start_time": "093000"}, F18),  # two times of day
    ],
)
def test_a_date_that_the_time_of_day_does_not_settle_is_refused(changes: dict[str, str], half_life_s: float) -> None:
    with pytest.raises(UnusableScanError, match="TIMES_INCONSISTENT"):
        determine_timing(replace(ATTRIBUTES, **changes), half_life_s)


# -- the repair of dates on request: from the study file, the command line and the cohort


def shift_injection(slices: list[Dataset]) -> list[Dataset]:
    for one in slices:
        one.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime = "20190301100000"
    return slices


def test_a_scan_with_repaired_dates_is_another_scan_to_every_cache(bench: Any) -> None:
    (series,) = find_series([bench.save(shift_injection(bench.slices()))]).series
    scans = [DicomScan(series), DicomScan(series, repair_dates=True), DicomScan(series, "strict", repair_dates=True)]
    assert len({scan.digest for scan in scans}) == 3
    assert scans[1].suv().array.max() == pytest.approx(float(bench.read(bench.slices()).array.max()))


def test_the_command_line_repairs_dates_when_asked(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = bench.save(shift_injection(bench.slices())), bench.folder / "out"

    def entry(*arguments: str) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["twobe3", *arguments, str(folder), "--json"])
        try:
            cli.main()
        except SystemExit as end:
            assert end.code in (0, 3)  # noqa: PT017  the status of a series that cannot be used
        (found,) = json.loads(capsys.readouterr().out)["series"]
        return dict(found)

    assert entry("inspect")["code"] == "TIMES_INCONSISTENT"
    assert "repair_dates" in entry("inspect")["remedy"]
    assert entry("inspect", "--repair-dates", "--policy", "strict")["code"] == "TIMES_INCONSISTENT"
    assert entry("inspect", "--repair-dates")["usable"]
    written = Path(entry("convert", "--repair-dates", "--out", str(out))["output"]).name.removesuffix(".nii.gz")
    (warning,) = json.loads((out / f"{written}.json").read_text())["calibration"]["warnings"]
    assert warning.startswith("TIMES_INCONSISTENT")


def test_a_study_file_repairs_dates_when_asked(tiny_cohort: Any) -> None:
    folders = [tiny_cohort.scan("P1"), tiny_cohort.scan("P2")]
    for path in (path for folder in folders for path in folder.iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime = "20170101090000"
        dataset.save_as(path)
    table = tiny_cohort.table({"P1": (0,), "P2": (1,)})
    study = tiny_cohort.study()
    arguments: dict[str, Any] = {"clinical": table, "endpoints": [Binary("outcome", "outcome")]}
    with pytest.raises(EmptyInputError, match="2 TIMES_INCONSISTENT"):
        read_cohort(tiny_cohort.images, **arguments, repair_dates=read_study(study).cohort.repair_dates)
    study.write_text(study.read_text().replace("[cohort]", "[cohort]\nrepair_dates = true"))
    cohort = read_cohort(tiny_cohort.images, **arguments, repair_dates=read_study(study).cohort.repair_dates)
    assert len(cohort) == 2
    assert "repair_dates" in str(cohort_document(cohort)["subjects"][0]["calibration"]["warnings"])


def test_a_run_passes_on_what_its_study_file_asks(tiny_cohort: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def read(*_: Any, repair_dates: bool, **__: Any) -> None:
        asked.append(repair_dates)
        raise EmptyInputError(Code.NO_PET, "enough is known")

    monkeypatch.setattr(prepare, "read_cohort", read)
    tiny_cohort.scan("P1")
    tiny_cohort.table({f"P{i}": (i % 2,) for i in range(8)})
    study = tiny_cohort.study()
    for text in (study.read_text(), study.read_text().replace("[cohort]", "[cohort]\nrepair_dates = true")):
        study.write_text(text)
        with pytest.raises(EmptyInputError):
            experiment.run(study, tiny_cohort.images.parent / "out")
    assert asked == [False, True]


# -- an injection after the start of the scan (rule 22)

HALF_LIVES_S = {
    "O-15": 122.2, "Rb-82": 75.5, "N-13": 597.9, "C-11": 1223.0, "Ga-68": 4057.0, "F-18": F18, "Sc-44": 14292.0,
    "Cu-64": 45720.0, "Zr-89": 282240.0, "I-124": 360806.0,
}  # fmt: skip
ELEVEN = "20240301110000"
LONG_LIVED = ("Cu-64", "Zr-89", "I-124")


def frame(
    begin_s: float, duration_s: float, half_life_s: float = F18, start: str = "20240301110000"
) -> SliceAttributes:
    """A frame of a series that is corrected to its start, as a scanner writes it."""
    began = datetime.strptime(start, "%Y%m%d%H%M%S") + timedelta(seconds=begin_s)
    return SliceAttributes(
        1.0, 0.0, f"{began:%Y%m%d}", f"{began:%H%M%S.%f}",
        frame_reference_time_ms=(begin_s + frame_average_s(half_life_s, duration_s)) * 1e3,
        frame_duration_ms=duration_s * 1e3,
        decay_factor=2 ** (begin_s / half_life_s),
    )  # fmt: skip


def dynamic(
    half_life_s: float,
    *,
    shown: int = 2,
    start: str = "20240301110000",
    zone: str = "",
    decay_correction: str = "START",
) -> SeriesAttributes:
    """One frame of six minutes in three frames."""
    frames = [frame(begin, length, half_life_s, start) for begin, length in ((0, 30), (30, 60), (90, 270))]
    return SeriesAttributes(
        "BQML", decay_correction, ("ATTN", "DECY"), (frames[shown],), series_date=start[:8], series_time=start[8:],
        whole_series=(frames[0], frames[-1]), zone=zone,
    )  # fmt: skip


@pytest.mark.parametrize("lag_s", [5, 20, 100, 300])
@pytest.mark.parametrize("nuclide", HALF_LIVES_S)
def test_an_injection_after_the_start_of_a_dynamic_scan_gives_a_negative_interval(nuclide: str, lag_s: int) -> None:
    """Acceptance row 60."""
    half_life_s = HALF_LIVES_S[nuclide]
    injected = datetime(2024, 3, 1, 11) + timedelta(seconds=lag_s)
    for shown in range(3):
        series = replace(dynamic(half_life_s, shown=shown), start_datetime=f"{injected:%Y%m%d%H%M%S}")
        found = determine_timing(series, half_life_s)
        assert found.value.elapsed_s == (-lag_s,)
        assert [repair.changes_value for repair in found.repairs] == [False]
        by_clock = replace(series, start_datetime="", start_time=f"{injected:%H%M%S}")
        if nuclide in LONG_LIVED:  # a scan on the next day begins at much the same time
            with pytest.raises(UnusableScanError, match="TIMES_MISSING"):
                determine_timing(by_clock, half_life_s)
        else:
            assert determine_timing(by_clock, half_life_s).value.elapsed_s == (-lag_s,)


def test_an_injection_after_the_start_across_midnight_and_in_another_zone() -> None:
    for half_life_s in (F18, HALF_LIVES_S["Sc-44"], HALF_LIVES_S["C-11"]):
        late = dynamic(half_life_s, start="20240301235950")
        assert elapsed_s(replace(late, start_datetime="20240302000010"), half_life_s) == -20
        assert elapsed_s(replace(late, start_time="000010"), half_life_s) == -20
    abroad = replace(dynamic(F18, zone="+0100"), start_datetime="20240301100020+0000")
    assert elapsed_s(abroad) == -20
    assert elapsed_s(replace(abroad, start_datetime="", start_time="110020")) == -20


def test_an_injection_after_the_start_of_frames_that_are_not_corrected() -> None:
    """The interval of each frame is from the injection to its own begin: 90 s − 15 s."""
    series = replace(dynamic(F18, decay_correction="NONE"), start_datetime="20240301110015")
    assert elapsed_s(series) == 75
    assert elapsed_s(replace(series, start_datetime="", start_time="110015")) == 75
    assert elapsed_s(replace(dynamic(F18, shown=0, decay_correction="NONE"), start_time="110015")) == -15


def test_a_late_static_image_of_a_scan_that_began_before_the_injection() -> None:
    late = replace(ATTRIBUTES, slices=(frame(3000, 1200),), start_datetime="20240301110020")
    assert elapsed_s(late) == -20
    assert elapsed_s(replace(late, start_datetime="", start_time="110020")) == -20
    # 40 minutes: only what the frames say of themselves tells such a reference from a time that was changed
    assert elapsed_s(replace(late, start_datetime="20240301114000")) == -2400
    silent = replace(late.slices[0], decay_factor=None, frame_reference_time_ms=None)
    assert elapsed_s(replace(late, slices=(silent,))) == -20
    with pytest.raises(UnusableScanError, match="TIMES_INCONSISTENT"):
        determine_timing(replace(late, slices=(silent,), start_datetime="20240301114000"), F18)


@pytest.mark.parametrize(
    ("start", "series"),
    [
        ("20240301110601", dynamic(F18)),  # the six minutes of the scan are over
        ("20240301110101", ATTRIBUTES),  # more than half of the only frame came before
        ("20240302110015", dynamic(F18)),
        ("20240229110015", dynamic(F18)),  # the day before: 13 half-lives
    ],
)
def test_an_injection_outside_the_scan_is_refused(start: str, series: SeriesAttributes) -> None:
    with pytest.raises(UnusableScanError, match="TIMES_INCONSISTENT"):
        apply_policy(determine_timing(replace(series, start_datetime=start), F18).repairs, "lenient")


def test_a_clock_time_long_after_the_start_may_be_of_the_day_before() -> None:
    half_life_s = HALF_LIVES_S["Sc-44"]
    hours = [frame(begin, 1800, half_life_s) for begin in (0, 1800)]
    series = replace(ATTRIBUTES, slices=(hours[1],), whole_series=tuple(hours), start_datetime="")
    assert elapsed_s(replace(series, start_time="110900"), half_life_s) == -540
    with pytest.raises(UnusableScanError, match="or the day before"):
        determine_timing(replace(series, start_time="113000"), half_life_s)
    assert elapsed_s(replace(series, start_time="130000"), half_life_s) == 22 * 3600  # the scan was over by then


def test_a_shifted_date_of_an_injection_after_the_start_keeps_its_time_of_day() -> None:
    assert repaired(replace(dynamic(F18), start_datetime="20190301110020"))[0] == -20
