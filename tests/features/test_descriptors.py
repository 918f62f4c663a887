"""Tests of the descriptors of a scan: a box of known uptake in a larger one, whose numbers can be written down."""

from __future__ import annotations

import numpy as np
import pytest

from twobe3.features.descriptors import DESCRIPTORS, describe_volume

SPACING_MM = (4.0, 2.0, 5.0)


def test_a_box_in_a_box_has_the_numbers_that_it_must_have() -> None:
    suv = np.zeros((20, 20, 20), np.float32)
    suv[2:12, 4:14, 5:15] = 1.0  # 1000 voxels of 40 mm³
    suv[4:6, 6:8, 7:9] = 9.0  # 8 of them
    values = dict(zip(DESCRIPTORS, describe_volume(suv, SPACING_MM).tolist(), strict=True))
    assert values["body volume (ml)"] == pytest.approx(40.0)
    assert values["extent along the body (mm)"] == 40.0
    assert values["extent front to back (mm)"] == 20.0
    assert values["extent right to left (mm)"] == 50.0
    assert values["SUV, percentile 5 of the body"] == values["SUV, percentile 95 of the body"] == 1.0
    assert values["SUV, maximum"] == 9.0
    assert values["volume above SUV 2.5 (ml)"] == pytest.approx(0.32)
    # 3 · 900 pairs of neighbours in the body; 24 faces of the small cube lead from 9 to 1.
    assert values["roughness (mean difference of neighbours, SUV)"] == pytest.approx(24 * 8.0 / 2700)


def test_where_nothing_is_body_everything_is_0() -> None:
    assert not describe_volume(np.zeros((8, 8, 8), np.float32), SPACING_MM).any()


def test_specks_in_the_air_do_not_widen_the_body() -> None:
    suv = np.zeros((30, 30, 30), np.float32)
    suv[10:20, 10:20, 10:20] = 1.0
    before = describe_volume(suv, SPACING_MM)[1:4]
    suv[0, 0, 0] = suv[29, 29, 29] = 1.0
    np.testing.assert_array_equal(describe_volume(suv, SPACING_MM)[1:4], before)
