from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.conftest import TinyCohort

from twobe3.core.volume import Acquisition
from twobe3.dicom.series import find_series
from twobe3.dicom.volume import read_suv


def acquisition(folder: Path) -> Acquisition:
    (series,) = find_series([folder]).series
    return read_suv(series).acquisition


def test_an_hour_lies_between_injection_and_first_frame(tiny_cohort: TinyCohort) -> None:
    """Injected at 9, started at 10, 300 MBq: as the fixture writes them."""
    folder = tiny_cohort.scan("p", ReconstructionMethod="OSEM\x1b[31m")
    assert acquisition(folder) == Acquisition("OSEM[31m", 60.0, 3e8)


@pytest.mark.parametrize(
    ("tags", "uptake_min", "dose_bq"),
    [
        ({}, 60.0, 3e8),
        ({"AcquisitionDate": "", "SeriesDate": "", "StudyDate": "", "ContentDate": ""}, 60.0, 3e8),
    ],
)
def test_dates_are_not_needed(tiny_cohort: TinyCohort, tags: dict[str, Any], uptake_min: float, dose_bq: float) -> None:
    found = acquisition(tiny_cohort.scan("p", **tags))
    assert (found.uptake_min, found.injected_dose_bq) == (uptake_min, dose_bq)


def test_where_the_scanner_stored_suv_dose_and_times_may_lack(tiny_cohort: TinyCohort) -> None:
    folder = tiny_cohort.scan("p", Units="GML", SUVType="BW", RadiopharmaceuticalInformationSequence=[])
    assert acquisition(folder) == Acquisition("OSEM")


def test_real_whole_body_agrees_with_its_header(real_data: Path) -> None:
    """What the header says: 379.62 MBq as stored; the calibration's own decay is that of the same interval."""
    (series,) = find_series([real_data / "ge_whole_body"]).series
    volume = read_suv(series)
    found, calibration = volume.acquisition, volume.calibration
    assert found.injected_dose_bq == calibration.injected_dose_bq
    assert found.uptake_min is not None
    assert calibration.decay_factor is not None
    assert calibration.half_life_s is not None
    assert 2 ** (-found.uptake_min * 60 / calibration.half_life_s) == pytest.approx(calibration.decay_factor, rel=2e-3)
