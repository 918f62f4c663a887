from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from twobe3.report.scan_quality import robust_limits, scan_quality
from twobe3.report.study_folder import StudyFolder


def test_limits_are_those_of_the_modified_z_score() -> None:
    values = np.random.default_rng(0).normal(60, 10, 40)
    low, high = robust_limits(values.tolist()) or (0, 0)
    reach = 3.5 * median_abs_deviation(values, scale="normal")
    assert (low, high) == pytest.approx((np.median(values) - reach, np.median(values) + reach), rel=1e-4)


def test_few_or_equal_values_have_no_limits() -> None:
    assert robust_limits([1.0, 2.0, 3.0, 4.0]) is None
    assert robust_limits([70.0] * 6 + [1.0]) is None


def test_one_long_uptake_stands_out_and_what_is_not_stated_is_counted(study: Path) -> None:
    quality = scan_quality(StudyFolder.read(study).cohort)
    uptake, dose = quality.quantities  # no weight is known, and no dose per weight
    assert (uptake.label, uptake.unit, uptake.n, uptake.low, uptake.high) == ("Uptake time", "min", 9, 58.0, 240.0)
    assert uptake.outliers == (("pa-000000000002", 240.0),)
    assert uptake.strip is not None
    assert [beyond for _, beyond in uptake.strip.dots] == [False] * 8 + [True]
    assert (dose.label, dose.median, dose.limits, dose.outliers) == ("Injected dose", 350.0, None, ())
    assert quality.of_scan[1] == ((None, False), (350.0, False))
    assert quality.of_scan[2] == ((240.0, True), (350.0, False))
    assert sum(n for _, _, n in quality.scanners) == 10
    assert quality.scanners[0][1:] == ("OSEM", 9)
