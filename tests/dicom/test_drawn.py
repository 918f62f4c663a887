"""Names of regions as people type them, and how far planes reach."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from twobe3.core.errors import UnusableScanError
from twobe3.dicom.drawn import (
    find_extents_mm,
    find_steps_mm,
    find_steps_of_blocks_mm,
    match_names,
    merge_planes,
)

NAMES = ("GTV Läsion", "gtv", "GTV", "Straße", "GTV_½")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (unicodedata.normalize("NFC", "GTV Läsion"), "GTV Läsion"),
        (unicodedata.normalize("NFD", "GTV Läsion"), "GTV Läsion"),
        (unicodedata.normalize("NFD", "gtvläsion"), "GTV Läsion"),
        (" GTV\u00a0LÄSION", "GTV Läsion"),
        ("GTV", "GTV"),
        ("Gtv", "gtv"),  # of two that are alike the first
        ("STRASSE", "Straße"),
        ("ＧＴＶ", "gtv"),  # full width
    ],
)
def test_a_name_is_found_as_it_is_typed(asked: str, found: str) -> None:
    assert match_names([NAMES], [asked]) == [{found}]


def test_a_decomposed_name_in_one_file_and_a_composed_one_in_another_are_one() -> None:
    both = (unicodedata.normalize("NFC", "Läsion"), unicodedata.normalize("NFD", "Läsion"))
    assert match_names([both], both[:1]) == [set(both)]
    assert match_names([both[:1], both[1:]], both[:1]) == [{both[0]}, {both[1]}]


def test_a_name_in_another_case_is_another_region_of_its_file_and_the_same_one_in_another_file() -> None:
    assert match_names([("gtv", "GTV"), ("gtv", "node"), ("G T V",)], ["GTV"]) == [{"GTV"}, {"gtv"}, {"G T V"}]
    assert match_names([("GTV",), ("node",)], ["gtv", "Node"]) == [{"GTV"}, {"node"}]


def test_all_names_or_one_that_is_not_there() -> None:
    assert match_names([NAMES, ("a",)], None) == [set(NAMES), {"a"}]
    with pytest.raises(UnusableScanError, match="CONTOUR_UNUSABLE: there is no region 'node'; there are: a, b"):
        match_names([("a", "b"), ("a",)], ["a", "node"])


def test_planes_reach_half_way_and_half_the_usual_step_at_the_ends() -> None:
    planes = np.array([0.0, 3, 5, 20, 23])
    extents = find_extents_mm(planes, find_steps_of_blocks_mm(planes, 3.0)) + 0.1
    np.testing.assert_allclose(extents, [[-1.5, 1.5], [1.5, 4], [4, 6.5], [18.5, 21.5], [21.5, 24.5]])
    np.testing.assert_allclose(find_extents_mm(np.array([7.0]), np.array([1.0])) + 0.05, [[6.5, 7.5]])


def test_a_block_of_equal_steps_has_a_usual_step_of_its_own() -> None:
    planes = np.array([0.0, 3, 6, 9, 14, 19])
    steps = find_steps_of_blocks_mm(planes, 3.0)
    np.testing.assert_allclose(steps, [3, 3, 3, 5, 5, 5])
    ends = find_extents_mm(planes, steps)[[0, 3, 4, 5]] + 0.1
    np.testing.assert_allclose(ends, [[-1.5, 1.5], [7.5, 11.5], [11.5, 16.5], [16.5, 21.5]])
    np.testing.assert_allclose(find_steps_of_blocks_mm(np.array([0.0, 3.1, 6.3, 9.4]), 3.1), 3.1)  # rounded: one block
    np.testing.assert_allclose(find_steps_of_blocks_mm(np.array([0.0, 3, 6, 26, 46]), 3.0), 3.0)  # no neighbours


def test_planes_that_noise_parts_are_one_and_far_ones_no_neighbours() -> None:
    planes = merge_planes([6.0, 0.0, 3.0004, 3.0, 2.9996, 40.0])
    np.testing.assert_allclose(planes, [0, 2.9996, 6, 40])
    np.testing.assert_allclose(find_steps_mm(planes), [2.9996, 3.0004])
