"""Contours of one plane, on pixels of 2 × 2 mm."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path as Outline

from twobe3.dicom.polygons import combine

SHAPE, SPACING_MM = (20, 30), (2.0, 2.0)


def square(low: float, high: float, shift: float = 0.0) -> np.ndarray:
    """Corners between rows ``low`` and ``high``, and the same columns moved by ``shift``."""
    return np.array([(low, low + shift), (low, high + shift), (high, high + shift), (high, low + shift)])


def area(*outlines: np.ndarray, exclusive: bool = False) -> int:
    return int(combine(outlines, SHAPE, SPACING_MM, exclusive=exclusive).inside.sum())


def test_any_polygon_is_filled_as_matplotlib_does() -> None:
    """On pixels so large that the tolerance of the path is nothing."""
    rng = np.random.default_rng(3)
    centres = np.moveaxis(np.indices(SHAPE), 0, -1).reshape(-1, 2)
    for _ in range(50):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 40))
        radius = rng.uniform(3, 12, (40, 1))
        outline = [9.3, 14.1] + radius * np.column_stack([np.sin(angle), np.cos(angle)])
        expected = Outline(np.vstack([outline, outline[:1]]), closed=True).contains_points(centres)
        np.testing.assert_array_equal(combine([outline], SHAPE, (1e6, 1e6)).inside.ravel(), expected)


@pytest.mark.parametrize("noise", [0.0, 1e-12, -1e-12, 2e-3, -2e-3])
def test_points_on_the_path_are_inside_and_noise_decides_nothing(noise: float) -> None:
    assert area(square(3 + noise, 8 - noise)) == 36
    diamond = np.array([(5, 2), (8, 5), (5, 8), (2, 5)]) + noise
    assert area(diamond) == 25  # of |row| + |column| <= 3
    assert area(np.array([(4.0, 4.0)]) + noise) == 1  # what OpenCV makes of a single pixel
    assert area(np.array([(4.0, 4.0), (4, 7)]) + noise) == 4
    assert area(square(3, 8), square(5 + noise, 7 - noise)) == 35  # the path of the hole belongs to the region, too


def test_a_point_off_the_path_by_more_than_the_tolerance_is_not_on_it() -> None:
    assert area(square(3.01, 7.99)) == 16  # 0.02 mm


def test_nested_contours_are_holes_and_islands_in_any_order() -> None:
    nested = [square(1.5, 12.5), square(3.5, 10.5), square(5.5, 8.5)]
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        found = combine([nested[k] for k in order], SHAPE, SPACING_MM)
        assert (found.inside.sum(), found.repeated, found.overlapping) == (121 - 49 + 9, 0, 0)
    assert area(*nested, exclusive=True) == 81


def test_a_hole_may_share_a_part_of_the_outer_path() -> None:
    assert area(square(1.5, 12.5), np.array([(1.5, 5.5), (1.5, 8.5), (4.5, 8.5), (4.5, 5.5)])) == 121 - 9


def test_a_keyhole_makes_a_hole() -> None:
    outer, inner = square(1.5, 12.5), square(4.5, 8.5)[[0, 3, 2, 1]]
    keyhole = np.vstack([outer, outer[:1], inner, inner[:1]])
    assert area(keyhole) == 121 - 16


def test_a_contour_stored_twice_counts_once() -> None:
    one = square(2.5, 8.5)
    closed, turned, rounded = np.vstack([one, one[:1]]), one[[2, 1, 0, 3]], one + 0.02
    for again in (one, closed, turned, rounded, rounded[::-1]):
        for exclusive in (False, True):
            found = combine([one, again], SHAPE, SPACING_MM, exclusive=exclusive)
            assert (found.inside.sum(), found.repeated) == (36, 1)
    found = combine([square(1.5, 12.5), one, one], SHAPE, SPACING_MM)  # a hole stored twice is a hole
    assert (found.inside.sum(), found.repeated) == (121 - 36, 1)


def test_contours_that_overlap_in_part_are_united_unless_they_are_exclusive() -> None:
    a, b = square(2.5, 8.5), square(2.5, 8.5, shift=4)
    found = combine([a, b], SHAPE, SPACING_MM)
    assert (found.inside.sum(), found.overlapping) == (36 + 36 - 12, 1)
    found = combine([a, b], SHAPE, SPACING_MM, exclusive=True)
    assert (found.inside.sum(), found.overlapping) == (36 + 36 - 24, 1)
    crossing = np.array([(0.5, 4.5), (0.5, 6.5), (12.5, 6.5), (12.5, 4.5)])  # no corner lies in the other one
    assert combine([a, crossing], SHAPE, SPACING_MM).overlapping == 1
    hole = np.array([(4.5, 6.5), (4.5, 8.4), (6.5, 8.4), (6.5, 6.5)])  # in both
    assert area(a, b, hole) == 36 + 36 - 12 - 4


def test_neighbours_that_touch_do_not_overlap() -> None:
    found = combine([square(2.5, 6.5), square(2.5, 6.5, shift=4)], SHAPE, SPACING_MM)
    assert (found.inside.sum(), found.overlapping) == (32, 0)


def test_what_reaches_beyond_the_image_is_cut() -> None:
    assert area(square(-1000.5, 1000.5)) == 600
    assert area(square(-50.5, -40.5)) == 0
