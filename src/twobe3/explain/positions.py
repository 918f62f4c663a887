"""Where on the grid each position of a layer lies: strides and paddings undone, to the fraction of a voxel."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from twobe3.core.grid import Modality
from twobe3.core.outcomes import FloatArray
from twobe3.features.backbones import intermediates
from twobe3.features.pet_lesions import STRIDE, PETLesionNetwork
from twobe3.features.slices import AXIS, Plane
from twobe3.models.nn.feature_maps import FeatureMaps

Array = npt.NDArray[np.float32]
NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
DEEPEST = 32  # the largest stride of the networks of the table
# Pixels of the picture that tells where positions are: more than any position sees, in 2D at stride 16.
PROBE_2D, PROBE_3D = 768, 64
KEPT = 8  # networks whose positions are remembered, from one scan to the next


@dataclass(frozen=True, eq=False)
class Placement:
    """The centres of a layer's positions along each of its axes, in voxels of the grid.

    Attributes
    ----------
    shape : tuple of int
        Of the grid: slices, rows, columns.
    plane : {"axial", "coronal", "sagittal"}
        Along which the layer's slices follow each other; its second axis runs from the head to the feet but in axial
        slices, see :func:`~twobe3.features.slices.cut`.
    centres : tuple of three ndarray
        Along the layer's axes, in voxels of the plane's slices; increasing.
    modalities : tuple of {"pet", "ct"}
        Of which images the layer is made.
    """

    shape: tuple[int, ...]
    plane: Plane
    centres: tuple[FloatArray, FloatArray, FloatArray]
    modalities: tuple[Modality, ...] = ("pet",)

    @classmethod
    def of_voxels(cls, shape: tuple[int, ...], modality: Modality = "pet") -> Placement:
        """Of the grid's voxels themselves."""
        a, b, c = (np.arange(length, dtype=np.float64) for length in shape)
        return cls(shape, "axial", (a, b, c), (modality,))

    def to_voxels(self, values: Array) -> Array:
        """Values of positions, (n, height, width), as values of voxels of the grid, whose sum stays about the same.

        Linear between the centres of positions, constant beyond the outermost.
        """
        lengths = _slice_shape(self.shape, self.plane)
        share = float(np.prod([len(one) for one in self.centres]) / np.prod(lengths))
        for axis, (centres, length) in enumerate(zip(self.centres, lengths, strict=True)):
            values = np.moveaxis(np.tensordot(_interpolation(centres, length), values, (1, axis)), 0, axis)
        values = share * values
        if self.plane != "axial":
            values = values[:, ::-1]
        return np.ascontiguousarray(np.moveaxis(values, 0, AXIS[self.plane]), dtype=np.float32)


def place_maps(maps: FeatureMaps, shape: tuple[int, ...]) -> list[Placement]:
    """Where the maps of each stack lie on a grid."""
    placements = []
    for layer in maps.layers:
        for plane in maps.planes:
            n, height, width = _slice_shape(shape, plane)
            along = np.arange(n, dtype=np.float64)
            rows, columns = _map_centres(maps, layer, height, width)
            of: Modality = "ct" if maps.windows_hu else "pet"
            placements.append(Placement(shape, plane, (along, rows, columns), (of,)))
    return placements


def _map_centres(maps: FeatureMaps, layer: int, height: int, width: int) -> tuple[FloatArray, FloatArray]:
    """The centres of a layer's positions in slices of so many voxels."""
    network = maps.backbone.network
    if isinstance(network, PETLesionNetwork):
        cell = STRIDE if layer == 0 else 2**layer  # positions are cells from the first voxel on
        rows, columns = (cell * np.arange(-(-length // cell)) + (cell - 1) / 2 for length in (height, width))
        return rows, columns
    size = maps.slices.size
    centres = _picture_centres(network, layer, size)
    # Pixels of the picture to which a slice was resized: both have their edges in common.
    return (centres + 0.5) * height / size - 0.5, (centres + 0.5) * width / size - 0.5


@lru_cache(maxsize=KEPT)
def _picture_centres(network: nn.Module, layer: int, size: int) -> FloatArray:
    """The centres of a layer's positions along either axis of a square picture, in its pixels."""
    with torch.inference_mode():
        count = intermediates(network, torch.zeros(1, 3, size, size), [layer])[0].shape[-1]
    if hasattr(network, "patch_embed"):  # a transformer, whose positions are patches
        return np.asarray((np.arange(count) + 0.5) * size / count - 0.5)
    simple = _simplify(network)
    (centres, _) = find_centres(
        lambda pictures: intermediates(simple, pictures, [layer])[0], 3, (size, size), (count, count), PROBE_2D
    )
    return centres


@lru_cache(maxsize=KEPT)
def place_volume_layer(network: nn.Module, channels: int, shape: tuple[int, ...]) -> Placement:
    """Where the positions of a layer of a 3D network lie on a grid; ``network`` leads from the windows to the layer."""
    counts = copy.deepcopy(network).to("meta")(torch.zeros(1, channels, *shape, device="meta")).shape[2:]
    a, b, c = find_centres(_simplify(network), channels, shape, counts, PROBE_3D)
    return Placement(shape, "axial", (a, b, c))


def find_centres(
    network: Callable[[torch.Tensor], torch.Tensor],
    channels: int,
    lengths: Sequence[int],
    counts: Sequence[int],
    probe: int,
) -> list[FloatArray]:
    """The centres of so many positions along each axis of an input of such lengths, in its pixels.

    Of a network of equal weights, see :func:`_simplify`, the gradient of one output is symmetric about the centre of
    what it sees, so its centre of gravity is that centre, wherever nothing is cut off at an edge. Two neighbours
    in the middle of an input of about ``probe`` pixels tell stride and offset; paddings that differ between the two
    sides, which depend on whether a length is a multiple of the strides, are seen too.
    """
    sizes = [probe + length % DEEPEST for length in lengths]
    picture = torch.ones(1, channels, *sizes, requires_grad=True)
    outputs = network(picture).sum(dim=1)[0]
    middle = [length // 2 for length in outputs.shape]
    centres = []
    for axis, count in enumerate(counts):
        found = []
        for step in (0, 1):
            place = list(middle)
            place[axis] += step
            (gradient,) = torch.autograd.grad(outputs[tuple(place)], picture, retain_graph=True)
            others = [other + 1 for other in range(len(sizes)) if other != axis]
            weights = gradient[0].double().sum(dim=[0, *others])
            found.append(float(weights @ torch.arange(len(weights), dtype=torch.float64) / weights.sum()))
        stride = round(found[1] - found[0])
        centres.append(np.asarray(found[0] + stride * (np.arange(count) - middle[axis]), np.float64))
    return centres


def _simplify(network: nn.Module) -> nn.Module:
    """A copy of equal positive weights without normalisation, which is linear for a picture of ones.

    A sum of weights is 1, so that activations that are cut at 6 are not cut.
    """
    network = copy.deepcopy(network).eval()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, NORMS):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d):  # which would give its gradient to the first of equals
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
            elif isinstance(child, nn.MaxPool3d):
                setattr(module, name, nn.AvgPool3d(child.kernel_size, child.stride, child.padding))
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        with torch.no_grad():
            if isinstance(weight, torch.Tensor):
                weight.fill_(1.0 / weight[0].numel())
            if isinstance(bias, torch.Tensor):
                bias.zero_()
    return network


def _slice_shape(shape: Sequence[int], plane: Plane) -> tuple[int, ...]:
    rest = [length for axis, length in enumerate(shape) if axis != AXIS[plane]]
    return shape[AXIS[plane]], *rest


def _interpolation(centres: FloatArray, length: int) -> Array:
    """Weights of linear interpolation from positions to voxels, shape (length, positions)."""
    voxels = np.arange(length)
    columns = [np.interp(voxels, centres, unit) for unit in np.eye(len(centres))]
    return np.asarray(np.stack(columns, axis=1), dtype=np.float32)
