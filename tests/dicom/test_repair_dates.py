"""The repair of dates on request, from the study file, the command line and the cohort."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from twobe3.cli import main as cli
from twobe3.cohort.read import cohort_document, read_cohort
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary
from twobe3.core.errors import EmptyInputError
from twobe3.dicom.series import find_series
from twobe3.scans.scan import DicomScan
from twobe3.study import run as experiment
from twobe3.study.config import read_study


def shifted(slices: list[Dataset]) -> list[Dataset]:
    for one in slices:
        one.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartDateTime = "20190301100000"
    return slices


def test_a_scan_with_repaired_dates_is_another_scan_to_every_cache(bench: Any) -> None:
    (series,) = find_series([bench.save(shifted(bench.slices()))]).series
    scans = [DicomScan(series), DicomScan(series, repair_dates=True), DicomScan(series, "strict", repair_dates=True)]
    assert len({scan.digest for scan in scans}) == 3
    assert scans[1].suv().array.max() == pytest.approx(float(bench.read(bench.slices()).array.max()))


def test_the_command_line_repairs_dates_when_asked(
    bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = bench.save(shifted(bench.slices())), bench.folder / "out"

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

    monkeypatch.setattr(experiment, "read_cohort", read)
    tiny_cohort.scan("P1")
    tiny_cohort.table({f"P{i}": (i % 2,) for i in range(8)})
    study = tiny_cohort.study()
    for text in (study.read_text(), study.read_text().replace("[cohort]", "[cohort]\nrepair_dates = true")):
        study.write_text(text)
        with pytest.raises(EmptyInputError):
            experiment.run(study, tiny_cohort.images.parent / "out")
    assert asked == [False, True]
