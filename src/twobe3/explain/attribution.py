"""What each voxel adds to the risk: integrated gradients, Grad-CAM over the stacked maps, occlusion of blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from scipy import ndimage

from twobe3.explain.images import Images, make_baseline
from twobe3.explain.pathway import Pathway

Method = Literal["integrated-gradients", "grad-cam", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)
FWHM_MM = 8.0
"""Full width at half maximum of what a PET scanner makes of a point, about."""
LEAST_ABOVE_AIR_HU = 50.0
"""Of the CT: what is more than air."""


def attribute(pathway: Pathway, images: Images, method: Method, spacing_mm: tuple[float, float, float]) -> Images:
    """What each voxel of each image adds to the risk by one method, shape (modalities, slices, rows, columns).

    Positive values raise the risk. In the unit of the risk; the sum over the voxels is about the difference of the risk
    from that of images that say nothing for integrated gradients, and has no such meaning for the others. Integrated
    gradients are smoothed by :func:`smooth`.
    """
    if method == "grad-cam":
        return grad_cam(pathway, images)
    if method == "occlusion":
        return occlude(pathway, images, spacing_mm)
    return smooth(integrated_gradients(pathway, images), spacing_mm)


def smooth(values: Images, spacing_mm: tuple[float, float, float]) -> Images:
    """Smooth contributions with a Gaussian as wide as a PET scanner sees, and keep their sum.

    Gradients through convolutions with strides differ from voxel to voxel in the pattern of the strides (Odena,
    Dumoulin & Olah, Distill 2016, doi 10.23915/distill.00003), and a scan holds nothing finer than :data:`FWHM_MM`.

    Parameters
    ----------
    values : ndarray of float32, shape (modalities, slices, rows, columns)
    spacing_mm : tuple of float
    """
    sigma = [0.0, *(FWHM_MM / math.sqrt(8 * math.log(2)) / mm for mm in spacing_mm)]
    return np.asarray(ndimage.gaussian_filter(values, sigma, mode="reflect"), np.float32)


def integrated_gradients(pathway: Pathway, images: Images, *, steps: int = 3) -> Images:
    r"""Integrated gradients along the straight way from images that say nothing.

    .. math:: a_i = (x_i - b_i) \int_0^1 \frac{\partial r(b + t (x - b))}{\partial x_i} \, dt

    Source: Sundararajan, Taly & Yan, ICML 2017, equation 1, with the baseline b of
    :func:`~twobe3.explain.images.make_baseline`: SUV 0 everywhere, and a CT of one tissue. The integral by
    Gauss-Legendre quadrature with ``steps`` nodes. The sum of all :math:`a_i` is r(x) − r(b) but for the error of the
    quadrature.

    Parameters
    ----------
    pathway : Pathway
    images : ndarray of float32, shape (modalities, slices, rows, columns)
    steps : int

    Returns
    -------
    ndarray of float32, shape of the images
    """
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    start, total = torch.from_numpy(make_baseline(images)), torch.zeros(images.shape)
    way = torch.from_numpy(images) - start
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        at = (start + float(node) * way).requires_grad_(True)
        (gradient,) = torch.autograd.grad(pathway(at), at)
        total += float(weight) * gradient
    return np.asarray((total * way).numpy())


def grad_cam(pathway: Pathway, images: Images) -> Images:
    r"""Grad-CAM over the stacked maps: each map weighed by the mean of the risk's gradient over its positions.

    .. math:: L_p = \sum_c \Big( \frac{1}{P} \sum_q \frac{\partial r}{\partial m_{cq}} \Big) m_{cp}

    Source: Selvaraju et al., ICCV 2017, equations 1 and 2, over three axes instead of two, and without the cut at 0:
    what lowers the risk stays negative. Layers of several planes are mapped back to voxels and summed. The CT
    gets what a layer has beyond that of a CT of one tissue, see :func:`~twobe3.explain.images.make_baseline`; the rest
    is the PET's, but for a layer of the CT alone.

    Parameters
    ----------
    pathway : Pathway
    images : ndarray of float32, shape (modalities, slices, rows, columns)

    Returns
    -------
    ndarray of float32, shape of the images
    """
    flat = images.copy()
    flat[1:] = make_baseline(images)[1:]
    with torch.no_grad():
        layers = pathway.look(torch.from_numpy(images))
        of_pet = pathway.look(torch.from_numpy(flat)) if len(images) > 1 else layers
    leaves = [values.detach().requires_grad_(True) for values in layers]
    gradients = torch.autograd.grad(pathway.judge(leaves), leaves)
    total = np.zeros(images.shape, np.float32)
    for values, without, gradient, placement in zip(layers, of_pet, gradients, pathway.place(), strict=True):
        weights = gradient.flatten(1).mean(dim=1)
        seen = {"pet": without, "ct": values - without}
        for modality in placement.modalities:
            added = placement.to_voxels(torch.einsum("c,cnhw->nhw", weights, seen[modality]).numpy())
            total[pathway.modalities.index(modality)] += added
    return total


@dataclass(frozen=True)
class Block:
    """A cuboid of voxels of one image, its first and the one after its last along each axis, that of images first."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """As an index."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def halve(self) -> Iterator[Block]:
        """The parts of half the length along every axis that has more than one voxel."""
        middle = [(a + b + 1) // 2 for a, b in zip(self.start, self.stop, strict=True)]
        for corner in np.ndindex(*(2 for _ in middle)):
            start = tuple(m if upper else a for upper, a, m in zip(corner, self.start, middle, strict=True))
            stop = tuple(b if upper else m for upper, m, b in zip(corner, middle, self.stop, strict=True))
            if all(a < b for a, b in zip(start, stop, strict=True)):
                yield Block(start, stop)


def occlude(
    pathway: Pathway,
    images: Images,
    spacing_mm: tuple[float, float, float],
    *,
    coarse_mm: float = 64.0,
    fine_mm: float = 16.0,
    refined: int = 8,
) -> Images:
    """How far the risk falls when blocks are replaced by what surrounds them; needs no gradient.

    Blocks of about ``coarse_mm`` first; then the ``refined`` ones that change the risk most are halved, until they are
    no longer than ``fine_mm``. A block of the PET becomes no hotter than the median of the tissue around it: what
    stands out is taken away. One of the CT becomes that median, where lies more than air. Blocks that stay as they are
    add 0.

    Source: occlusion is that of Zeiler & Fergus, ECCV 2014, section 4.2, where a block becomes grey.

    Returns
    -------
    ndarray of float32, shape of the images
        The fall of the risk, shared out evenly over the voxels of a block.
    """
    with torch.no_grad():
        before = float(pathway(torch.from_numpy(images)))
        falls = np.zeros(images.shape, np.float32)
        blocks = list(_cut_blocks(images.shape, [1, *(max(1, round(coarse_mm / mm)) for mm in spacing_mm)]))
        while blocks:
            found = []
            for block in blocks:
                fall = _measure_fall(pathway, images, block, before)
                falls[block.slices] = fall / falls[block.slices].size
                found.append((abs(fall), block))
            first = blocks[0].slices[1:]
            longest = max((one.stop - one.start) * mm for one, mm in zip(first, spacing_mm, strict=True))
            strongest = sorted((one for one in found if one[0] > 0), key=lambda one: one[0], reverse=True)[:refined]
            blocks = [part for _, block in strongest for part in block.halve()] if longest > fine_mm else []
    return falls


def _measure_fall(pathway: Pathway, images: Images, block: Block, before: float) -> float:
    image, *cuboid = block.slices
    around = tuple(slice(max(0, a - (b - a) // 2 - 1), b + (b - a) // 2 + 1) for a, b in _ends(cuboid))
    values = images[block.slices]
    level = np.median(images[(image, *around)])
    of_ct = pathway.modalities[image.start] == "ct"
    becomes = np.where(values > LEAST_ABOVE_AIR_HU, level, values) if of_ct else np.minimum(values, level)
    if np.abs(becomes - values).max() <= 1e-3:
        return 0.0
    changed = images.copy()
    changed[block.slices] = becomes
    return before - float(pathway(torch.from_numpy(changed)))


def _ends(cuboid: Sequence[slice]) -> Iterator[tuple[int, int]]:
    return ((one.start, one.stop) for one in cuboid)


def _cut_blocks(shape: tuple[int, ...], lengths: list[int]) -> Iterator[Block]:
    counts = [-(-whole // length) for whole, length in zip(shape, lengths, strict=True)]
    for place in np.ndindex(*counts):
        start = tuple(at * length for at, length in zip(place, lengths, strict=True))
        stop = tuple(min(a + length, whole) for a, length, whole in zip(start, lengths, shape, strict=True))
        yield Block(start, stop)
