"""What each voxel adds to the risk: integrated gradients, Grad-CAM over the stacked maps, occlusion of blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from twobe3.explain.pathway import Pathway

Method = Literal["integrated-gradients", "grad-cam", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)
Volume = npt.NDArray[np.float32]
FWHM_MM = 8.0
"""Full width at half maximum of what a PET scanner makes of a point, about."""


def attribute(pathway: Pathway, suv: Volume, method: Method, spacing_mm: tuple[float, float, float]) -> Volume:
    """What each voxel of a scan adds to the risk by one method, on the grid of the scan.

    Positive values raise the risk. In the unit of the risk; the sum over the voxels is about the difference of the risk
    from that of an empty scan for integrated gradients, and has no such meaning for the others. Integrated gradients
    are smoothed by :func:`smooth`.
    """
    if method == "grad-cam":
        return grad_cam(pathway, suv)
    if method == "occlusion":
        return occlude(pathway, suv, spacing_mm)
    return smooth(integrated_gradients(pathway, suv), spacing_mm)


def smooth(values: Volume, spacing_mm: tuple[float, float, float]) -> Volume:
    """Smooth contributions with a Gaussian as wide as a PET scanner sees, and keep their sum.

    Gradients through convolutions with strides differ from voxel to voxel in the pattern of the strides (Odena,
    Dumoulin & Olah, Distill 2016, doi 10.23915/distill.00003), and a scan holds nothing finer than :data:`FWHM_MM`.

    Parameters
    ----------
    values : ndarray of float32, shape (slices, rows, columns)
    spacing_mm : tuple of float
    """
    sigma = [FWHM_MM / math.sqrt(8 * math.log(2)) / mm for mm in spacing_mm]
    return np.asarray(ndimage.gaussian_filter(values, sigma, mode="reflect"), np.float32)


def integrated_gradients(pathway: Pathway, suv: Volume, *, steps: int = 3) -> Volume:
    r"""Integrated gradients along the straight way from an empty scan.

    .. math:: a_i = x_i \int_0^1 \frac{\partial r(t x)}{\partial x_i} \, dt

    Source: Sundararajan, Taly & Yan, ICML 2017, equation 1, with SUV 0 everywhere as baseline; the integral by
    Gauss-Legendre quadrature with ``steps`` nodes. The sum of all :math:`a_i` is r(x) − r(0) but for the error of
    the quadrature.

    Parameters
    ----------
    pathway : Pathway
    suv : ndarray of float32, shape (slices, rows, columns)
    steps : int

    Returns
    -------
    ndarray of float32, shape (slices, rows, columns)
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    scan, total = torch.from_numpy(suv), torch.zeros(suv.shape)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        at = (float(node) * scan).requires_grad_(True)
        (gradient,) = torch.autograd.grad(pathway(at), at)
        total += float(weight) * gradient
    return np.asarray((total * scan).numpy())


def grad_cam(pathway: Pathway, suv: Volume) -> Volume:
    r"""Grad-CAM over the stacked maps: each map weighed by the mean of the risk's gradient over its positions.

    .. math:: L_p = \sum_c \Big( \frac{1}{P} \sum_q \frac{\partial r}{\partial m_{cq}} \Big) m_{cp}

    Source: Selvaraju et al., ICCV 2017, equations 1 and 2, over three axes instead of two, and without the cut at 0:
    what lowers the risk stays negative. Layers of several planes are mapped back to voxels and summed.

    Parameters
    ----------
    pathway : Pathway
    suv : ndarray of float32, shape (slices, rows, columns)

    Returns
    -------
    ndarray of float32, shape (slices, rows, columns)
    """
    with torch.no_grad():
        layers = pathway.look(torch.from_numpy(suv))
    leaves = [values.detach().requires_grad_(True) for values in layers]
    gradients = torch.autograd.grad(pathway.judge(leaves), leaves)
    total = np.zeros(suv.shape, np.float32)
    for values, gradient, placement in zip(layers, gradients, pathway.place(), strict=True):
        weights = gradient.flatten(1).mean(dim=1)
        total += placement.to_voxels(torch.einsum("c,cnhw->nhw", weights, values).numpy())
    return total


@dataclass(frozen=True)
class Block:
    """A cuboid of voxels, its first and the one after its last along each axis."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """As an index."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def halve(self) -> Iterator[Block]:
        """The parts of half the length along every axis that has more than one voxel."""
        middle = [(a + b + 1) // 2 for a, b in zip(self.start, self.stop, strict=True)]
        for corner in np.ndindex(2, 2, 2):
            start = tuple(m if upper else a for upper, a, m in zip(corner, self.start, middle, strict=True))
            stop = tuple(b if upper else m for upper, m, b in zip(corner, middle, self.stop, strict=True))
            if all(a < b for a, b in zip(start, stop, strict=True)):
                yield Block(start, stop)


def occlude(
    pathway: Pathway,
    suv: Volume,
    spacing_mm: tuple[float, float, float],
    *,
    coarse_mm: float = 64.0,
    fine_mm: float = 16.0,
    refined: int = 8,
) -> Volume:
    """How far the risk falls when blocks are replaced by what surrounds them; needs no gradient.

    Blocks of about ``coarse_mm`` first; then the ``refined`` ones that change the risk most are halved, until they are
    no longer than ``fine_mm``. A block becomes no hotter than the median of the tissue around it: what stands out is
    taken away. Blocks with nothing above that stay, and add 0.

    Source: occlusion is that of Zeiler & Fergus, ECCV 2014, section 4.2, where a block becomes grey.

    Returns
    -------
    ndarray of float32, shape (slices, rows, columns)
        The fall of the risk, shared out evenly over the voxels of a block.
    """
    with torch.no_grad():
        before = float(pathway(torch.from_numpy(suv)))
        falls = np.zeros(suv.shape, np.float32)
        blocks = list(_cut_blocks(suv.shape, [max(1, round(coarse_mm / mm)) for mm in spacing_mm]))
        while blocks:
            found = []
            for block in blocks:
                fall = _measure_fall(pathway, suv, block, before)
                falls[block.slices] = fall / falls[block.slices].size
                found.append((abs(fall), block))
            longest = max((b - a) * mm for a, b, mm in zip(blocks[0].start, blocks[0].stop, spacing_mm, strict=True))
            strongest = sorted((one for one in found if one[0] > 0), key=lambda one: one[0], reverse=True)[:refined]
            blocks = [part for _, block in strongest for part in block.halve()] if longest > fine_mm else []
    return falls


def _measure_fall(pathway: Pathway, suv: Volume, block: Block, before: float) -> float:
    around = tuple(
        slice(max(0, a - (b - a) // 2 - 1), b + (b - a) // 2 + 1) for a, b in zip(block.start, block.stop, strict=True)
    )
    level = float(np.median(suv[around]))
    if suv[block.slices].max() <= level + 1e-3:
        return 0.0
    changed = suv.copy()
    np.minimum(changed[block.slices], level, out=changed[block.slices])
    return before - float(pathway(torch.from_numpy(changed)))


def _cut_blocks(shape: tuple[int, ...], lengths: list[int]) -> Iterator[Block]:
    counts = [-(-whole // length) for whole, length in zip(shape, lengths, strict=True)]
    for place in np.ndindex(*counts):
        start = tuple(at * length for at, length in zip(place, lengths, strict=True))
        stop = tuple(min(a + length, whole) for a, length, whole in zip(start, lengths, shape, strict=True))
        yield Block(start, stop)
