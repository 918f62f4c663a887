"""The picture of a map: a PNG of the same bytes, whatever is drawn on it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread

from twobe3.report.overlays import CTOverlay, draw_overlay

SUV = np.random.default_rng(0).gamma(2.0, 0.5, (20, 16, 18)).astype(np.float32)
MAP = np.zeros_like(SUV)
MAP[12, 5, 6] = 1.0


def draw(**how: object) -> np.ndarray:
    return np.asarray(imread(io.BytesIO(draw_overlay(SUV, (4.0, 4.0, 4.0), **{"relevance": MAP, **how})), format="png"))


def orange(picture: np.ndarray) -> int:
    red, _, blue = np.moveaxis(picture[..., :3], -1, 0)
    return int((red - blue > 0.3).sum())


def test_the_same_input_gives_the_same_bytes() -> None:
    first, second = (draw_overlay(SUV, (4.0, 4.0, 4.0), MAP) for _ in range(2))
    assert first == second


def test_a_map_that_failed_says_so_over_the_picture() -> None:
    with_words = draw(failed=["deletion"])
    assert (np.abs(with_words[..., :3] - np.array([0.667, 0.067, 0.067])).max(-1) < 0.02).sum() > 500  # the red band
    assert not (np.abs(draw()[..., :3] - np.array([0.667, 0.067, 0.067])).max(-1) < 0.02).any()


def test_what_raises_the_risk_is_orange_and_what_lowers_it_is_not() -> None:
    nothing = orange(draw(relevance=np.zeros_like(MAP)))
    assert orange(draw()) > nothing
    assert orange(draw(relevance=-MAP)) <= orange(draw()) - 20


@pytest.mark.parametrize("suv", [np.zeros((8, 8, 8), np.float32), SUV])
def test_odd_scans_are_drawn_too(suv: np.ndarray) -> None:
    contour = np.zeros(suv.shape, np.bool_)
    contour[3:5, 3:5, 3:5] = True
    assert draw_overlay(suv, (4.0, 2.0, 3.0), np.zeros_like(suv), contour, title="<x>").startswith(b"\x89PNG")


def test_the_ct_has_a_row_of_its_own_in_colours_of_its_own() -> None:
    hu = np.where(SUV > 0.5, np.float32(40), np.float32(-1000))
    nothing, faint = np.zeros_like(MAP), 1e-3 * MAP
    alone = draw(relevance=nothing)
    without, with_map = (draw(relevance=nothing, ct=CTOverlay(hu, one)) for one in (nothing, faint))
    assert len(without) > 1.5 * len(alone)
    assert orange(with_map) > orange(without)  # a thousandth of what a PET's map may be
