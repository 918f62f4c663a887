"""Dynamic and gated series: refused as a whole, and right frame by frame once one is chosen (rule 20)."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds

from twobe3.cli import main as cli
from twobe3.core.errors import UnusableScanError
from twobe3.dicom.frames import choose_frame
from twobe3.dicom.reader import quietly
from twobe3.dicom.series import PETSeries, find_series
from twobe3.dicom.volume import read_suv

HALF_LIFE_S, RATE = 6586.2, math.log(2) / 6586.2
STARTED = datetime(2024, 3, 1, 11)
AN_HOUR = 2 ** (3600 / HALF_LIFE_S)


def series_of(folder: Path) -> PETSeries:
    (series,) = find_series([folder]).series
    return series


def frames_of(bench: Any, n: int, set_frame: Callable[[Dataset, int], None]) -> list[Dataset]:
    """A series of n frames, frame k (from 0) stored with k + 1 times the slope of the first; files in no order."""
    first = bench.slices()
    found = []
    for k in range(n):
        for one in first:
            copy = pydicom.Dataset.from_json(one.to_json())
            copy.file_meta, copy.SOPInstanceUID = one.file_meta, generate_uid()
            copy.SeriesType, copy.RescaleSlope = ["DYNAMIC", "IMAGE"], 100 * (k + 1)
            set_frame(copy, k)
            found.append(copy)
    return [found[i] for i in np.random.default_rng(n).permutation(len(found))]


def by_time(one: Dataset, k: int) -> None:
    one.AcquisitionTime = f"11{5 * k:02}00"


def by_gate(one: Dataset, k: int) -> None:
    one.SeriesType, one.TriggerTime = ["GATED", "IMAGE"], 80 * k


def by_reference_time(one: Dataset, k: int) -> None:
    one.FrameReferenceTime = 60000 + 300_000 * k


def by_temporal_position(one: Dataset, k: int) -> None:
    one.TemporalPositionIdentifier = k + 1


def by_index(one: Dataset, k: int) -> None:
    place = round((float(one.ImagePositionPatient[2]) - 100) / 3)
    one.ImageIndex, one.NumberOfSlices = 4 * k + place + 1, 4


@pytest.mark.parametrize(
    ("set_frame", "order"),
    [
        (by_time, "acquisition time"),
        (by_reference_time, "FrameReferenceTime"),
        (by_gate, "TriggerTime"),
        (by_temporal_position, "TemporalPositionIdentifier"),
        (by_index, "ImageIndex"),
    ],
)
def test_each_frame_is_the_series_of_its_own_slices(bench: Any, set_frame: Any, order: str) -> None:
    """Acceptance row 21."""
    series = series_of(bench.save(frames_of(bench, 3, set_frame)))
    with pytest.raises(
        UnusableScanError, match=r"NOT_STATIC: the series is (dynamic|gated): 3 frames of 4 slices .*1 to 3"
    ):
        read_suv(series)
    plain = bench.read(bench.slices()).array
    for frame in (1, 2, 3):
        chosen = choose_frame(series, frame)
        volume = read_suv(chosen)
        np.testing.assert_allclose(volume.array, plain * frame, rtol=1e-6)
        assert order in volume.history[1]
        assert volume.history[1].startswith(f"frame {frame} of 3 of a {series.frames} series")
    identities = [(one.series, one.content_digest) for one in (series, *(choose_frame(series, n) for n in (1, 2, 3)))]
    assert len({name for name, _ in identities}) == len({digest for _, digest in identities}) == 4


@pytest.mark.parametrize("decay", ["START", "NONE"])
def test_a_constant_uptake_is_the_same_in_every_frame_of_a_real_series(
    real_data: Path, decay: str, tmp_path: Path
) -> None:
    """A real scan, stored as three frames of ten minutes; each holds what a scanner would measure of that uptake."""
    source = series_of(real_data / "sts" / "dicom" / "STS_019")
    expected = read_suv(source)
    paths = sorted(source.files, key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))[10:16]
    uid = generate_uid()
    for k, path in ((k, path) for k in range(3) for path in paths):
        dataset = pydicom.dcmread(path)
        with quietly():
            dataset.remove_private_tags()
        begin_s, duration_s = 3600 + 600.0 * k, 600.0
        remains = math.exp(-RATE * 3600)
        if decay == "NONE":
            remains = (math.exp(-RATE * begin_s) - math.exp(-RATE * (begin_s + duration_s))) / (RATE * duration_s)
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = uid, generate_uid()
        dataset.SeriesType, dataset.Units, dataset.DecayCorrection = ["DYNAMIC", "IMAGE"], "BQML", decay
        del dataset.SUVType
        dataset.CorrectedImage = ["ATTN"] if decay == "NONE" else ["ATTN", "DECY"]
        dataset.PatientWeight = 70
        dataset.RescaleSlope = format_number_as_ds(float(dataset.RescaleSlope) * remains * 370e6 / 70e3)
        tracer = dataset.RadiopharmaceuticalInformationSequence[0]
        tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = 370e6, HALF_LIFE_S
        tracer.RadiopharmaceuticalStartDateTime = (STARTED - timedelta(hours=1)).strftime("%Y%m%d%H%M%S")
        dataset.ActualFrameDuration = 600_000
        acquired = STARTED + timedelta(seconds=600 * k)
        dataset.SeriesDate = dataset.AcquisitionDate = "20240301"
        dataset.SeriesTime, dataset.AcquisitionTime = "110000", acquired.strftime("%H%M%S")
        dataset.DecayFactor = 1
        dataset.save_as(tmp_path / f"{uid[-6:]}-{k}-{dataset.SOPInstanceUID[-6:]}.dcm")
    series = series_of(tmp_path)
    for frame in (1, 2, 3):
        volume = read_suv(choose_frame(series, frame))
        assert volume.calibration.rule == f"BQML_{decay}"
        np.testing.assert_allclose(volume.array, expected.array[10:16], rtol=1e-6)


def test_the_reference_of_a_frame_is_that_of_its_series(bench: Any) -> None:
    """A series time after the first frame began is no reference (rule 11), not for a later frame either."""

    def late(one: Dataset, k: int) -> None:
        by_time(one, k)
        one.SeriesTime = "110300"
        one.FrameReferenceTime = 60_000 + 300_000 * k

    series = series_of(bench.save(frames_of(bench, 2, late)))
    volume = read_suv(choose_frame(series, 2))
    # 11:05 and the frame's mean, less 360 s: within half a second of 11:00, an hour after the injection
    assert volume.array.max() == pytest.approx(119 * 200 * 70e3 / 370e6 * AN_HOUR, rel=1e-4)
    assert volume.calibration.warnings[0].startswith("TIMES_INCONSISTENT")


def test_frames_that_nothing_tells_apart_are_refused(bench: Any) -> None:
    series = series_of(bench.save(frames_of(bench, 2, lambda one, k: None)))
    for attempt in (lambda: read_suv(series), lambda: choose_frame(series, 1)):
        with pytest.raises(
            UnusableScanError, match="NOT_STATIC: there are 2 slices at each of 4 positions, and nothing tells"
        ):
            attempt()


def test_frames_of_different_extent_are_refused(bench: Any) -> None:
    series = series_of(bench.save(frames_of(bench, 2, by_time)[1:]))
    with pytest.raises(
        UnusableScanError, match="NOT_STATIC: the series is dynamic, and its positions have from 1 to 2 slices"
    ):
        choose_frame(series, 1)


@pytest.mark.parametrize("frame", [0, -1, 4])
def test_a_frame_that_is_not_there_is_refused(bench: Any, frame: int) -> None:
    series = series_of(bench.save(frames_of(bench, 3, by_time)))
    with pytest.raises(
        UnusableScanError, match=rf"NOT_STATIC: frame {frame} of a dynamic .* 3 frames \(choose one from 1 to 3"
    ):
        choose_frame(series, frame)


def test_a_frame_must_be_right_in_itself(bench: Any) -> None:
    """Every rule holds within the frame: here the second one lacks a slice's position between two others."""
    slices = [one for one in frames_of(bench, 2, by_time) if float(one.ImagePositionPatient[2]) != 103]
    with pytest.raises(UnusableScanError, match="SLICE_GAP"):
        read_suv(choose_frame(series_of(bench.save(slices)), 2))


def test_the_command_line_converts_the_frame_that_is_named(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = bench.save(frames_of(bench, 2, by_time), "in/dynamic"), bench.folder / "out"
    bench.save(bench.slices(patient="P2"), "in/static")

    def entries(*arguments: str) -> list[dict[str, Any]]:
        monkeypatch.setattr(sys, "argv", ["twobe3", *arguments, str(folder.parent), "--json"])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0
        return sorted(json.loads(capsys.readouterr().out)["series"], key=lambda entry: entry["path"])

    dynamic, static = entries("inspect")
    assert (dynamic["code"], static["usable"]) == ("NOT_STATIC", True)
    assert "2 frames of 4 slices" in dynamic["reason"]
    assert "--frame N, from 1 to 2" in dynamic["remedy"]
    dynamic, static = entries("convert", "--out", str(out), "--frame", "2")
    assert Path(dynamic["output"]).name == f"{dynamic['series_uid']}-frame-2.nii.gz"
    assert Path(static["output"]).name == f"{static['series_uid']}.nii.gz"
    assert dynamic["suv"]["max"] == pytest.approx(2 * static["suv"]["max"])
    beside = json.loads((out / f"{dynamic['series_uid']}-frame-2.json").read_text())
    assert beside["history"][1].startswith("frame 2 of 2 of a dynamic series")
    dynamic, static = entries("convert", "--out", str(out), "--frame", "3")
    assert (dynamic["code"], static["usable"]) == ("NOT_STATIC", True)


def test_a_static_series_is_its_own_only_frame(bench: Any) -> None:
    series = series_of(bench.save(bench.slices()))
    np.testing.assert_array_equal(read_suv(choose_frame(series, 1)).array, read_suv(replace(series)).array)
