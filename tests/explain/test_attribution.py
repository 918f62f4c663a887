"""Methods on functions whose attributions are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from tests.explain.pathways import Corner

from twobe3.explain.attribution import FWHM_MM, attribute, grad_cam, integrated_gradients, occlude, smooth
from twobe3.explain.pathway import Pathway
from twobe3.explain.positions import Placement

SHAPE = (1, 8, 8, 8)
RNG = np.random.default_rng(3)
SCAN = RNG.gamma(2.0, 0.5, SHAPE).astype(np.float32)
WEIGHTS = torch.from_numpy(RNG.normal(size=(2, *SHAPE[1:])).astype(np.float32))


class Polynomial(Pathway):
    """Σ w x + Σ v x³ of the voxels, by two channels."""

    def look(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [torch.cat([images, images**3])]

    def place(self) -> list[Placement]:
        return [Placement.of_voxels(SHAPE[1:])]

    def judge(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
        return (layers[0] * WEIGHTS).sum()


def test_integrated_gradients_of_a_polynomial_are_exact() -> None:
    # Each voxel's own terms: w x + v x³, since no term holds two voxels; quadrature with 3 nodes is exact to degree 5.
    x = torch.from_numpy(SCAN)
    expected = (WEIGHTS[0] * x + WEIGHTS[1] * x**3).numpy()
    np.testing.assert_allclose(integrated_gradients(Polynomial(), SCAN), expected, rtol=2e-4, atol=1e-4)


def test_integrated_gradients_add_up_to_the_difference_from_an_empty_scan() -> None:
    pathway = Polynomial()
    difference = float(pathway(torch.from_numpy(SCAN)) - pathway(torch.zeros(SHAPE)))
    assert integrated_gradients(pathway, SCAN).sum() == pytest.approx(difference, rel=1e-3)


def test_grad_cam_weighs_channels_by_their_mean_gradient() -> None:
    weights = WEIGHTS.flatten(1).mean(dim=1).numpy()
    expected = weights[0] * SCAN + weights[1] * SCAN**3
    np.testing.assert_allclose(grad_cam(Polynomial(), SCAN), expected, rtol=1e-4, atol=1e-5)


def test_occlusion_finds_what_the_risk_is_made_of() -> None:
    scan = np.ones((1, 16, 16, 16), np.float32)
    scan[0, :2, :2, :2] = 9.0
    falls = occlude(Corner(), scan, (4.0, 4.0, 4.0), coarse_mm=32.0, fine_mm=8.0)
    # All of the fall, from 9 to the 1 around it, lies in the block of 8 mm that holds the corner.
    assert falls[0, :2, :2, :2].sum() == pytest.approx(8.0, rel=1e-5)
    assert np.count_nonzero(falls) == 8


def test_occlusion_of_an_even_scan_is_nothing() -> None:
    assert not occlude(Corner(), np.ones((1, 16, 16, 16), np.float32), (4.0, 4.0, 4.0)).any()


def test_a_smoothed_point_is_half_as_high_half_a_width_away_and_nothing_is_lost() -> None:
    point = np.zeros((33, 65, 65), np.float32)
    point[16, 32, 32] = 3.0
    spread = smooth(point[None], (2.0, 1.0, 1.0))[0]
    half = int(FWHM_MM / 2)
    for at in ((16 + half // 2, 32, 32), (16, 32 - half, 32), (16, 32, 32 + half)):
        assert spread[at] == pytest.approx(spread.max() / 2, rel=5e-3)
    assert spread.sum() == pytest.approx(3.0, rel=1e-5)
    edge = np.zeros((8, 8, 8), np.float32)
    edge[0, 0, 7] = -2.0
    assert smooth(edge[None], (4.0, 4.0, 4.0)).sum() == pytest.approx(-2.0, rel=1e-5)


def test_integrated_gradients_alone_are_smoothed() -> None:
    spacing, pathway = (4.0, 4.0, 4.0), Polynomial()
    found = attribute(pathway, SCAN, "integrated-gradients", spacing)
    np.testing.assert_array_equal(found, smooth(integrated_gradients(pathway, SCAN), spacing))
    assert found.sum() == pytest.approx(float(pathway(torch.from_numpy(SCAN))), rel=1e-3)
    np.testing.assert_array_equal(attribute(pathway, SCAN, "grad-cam", spacing), grad_cam(pathway, SCAN))
    np.testing.assert_array_equal(attribute(pathway, SCAN, "occlusion", spacing), occlude(pathway, SCAN, spacing))
