"""Maximum-intensity projections as PET readers know them, inverted grey, SUV 0 to 7; windows of CT; the PNG format."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

SUV_WINDOW = (0.0, 7.0)
SOFT_TISSUE_HU, LUNG_HU, BONE_HU = (-160.0, 240.0), (-1350.0, 150.0), (-500.0, 1300.0)
"""Windows of CT, from and to: level 40 and width 400, level -600 and width 1500, level 400 and width 1800."""
THIN_HU, THINNEST_HU = -400.0, -950.0
"""Below the one is lung or gas, for which there is the window of the lung; below the other is air."""
View = Literal["front", "side"]
DEPTH = {"front": 1, "side": 2}  # the axis along which is projected: rows, columns


def orient_to_patient(
    array: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], tuple[float, float, float]]:
    """A view of a volume whose slices go to the head, rows to the back and columns to the patient's left.

    Axes are permuted and turned, nothing is interpolated: what lies oblique stays so.

    Parameters
    ----------
    array : ndarray, shape (a, b, c)
    affine : ndarray, shape (4, 4)
        From the voxel index to LPS mm.

    Returns
    -------
    array : ndarray
    spacing_mm : tuple of float
        Along its axes.
    """
    left, back, head = affine[:3, :3]
    axes = find_patient_axes(affine)
    turned = array.transpose(axes)
    for place, direction in enumerate((head, back, left)):
        turned = np.flip(turned, place) if direction[axes[place]] < 0 else turned
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return turned, (float(lengths[axes[0]]), float(lengths[axes[1]]), float(lengths[axes[2]]))


def choose_hu_window(hu: npt.NDArray[np.float32], at: Sequence[int]) -> tuple[float, float]:
    """The window in which a CT, (slices, rows, columns), is shown at a voxel: of the lung in lung, else soft tissue."""
    around = hu[tuple(slice(max(0, i - 2), i + 3) for i in at)]
    thin = (around > THINNEST_HU) & (around < THIN_HU)
    return LUNG_HU if thin.mean() > 2 / 3 else SOFT_TISSUE_HU


def find_patient_axes(affine: npt.NDArray[np.float64]) -> tuple[int, int, int]:
    """Which axes of an array run along the body, from front to back and from right to left, whatever their sense.

    ``affine``, shape (4, 4), leads from the voxel index to LPS mm; of an oblique axis the nearest direction counts.
    """
    left, back, head = affine[:3, :3]
    axes: list[int] = []
    for direction in (head, back, left):
        axes.append(max((axis for axis in range(3) if axis not in axes), key=lambda axis: abs(direction[axis])))
    return axes[0], axes[1], axes[2]


def mip(suv: npt.NDArray[np.float32], view: View) -> npt.NDArray[np.uint8]:
    """Maximum-intensity projection, seen from the front or from the patient's left.

    Parameters
    ----------
    suv : ndarray of float32, shape (slices, rows, columns)
        Slices increase towards the head, rows towards the back, columns towards the patient's left.
    view : {"front", "side"}

    Returns
    -------
    ndarray of uint8, shape (slices, columns) or (slices, rows)
        Head on top; the patient's right, or front, on the left; 255 is SUV 0 and below, 0 is SUV 7 and above.
    """
    low, high = SUV_WINDOW
    shade = np.clip((suv.max(axis=DEPTH[view])[::-1] - low) / (high - low), 0, 1)
    grey: npt.NDArray[np.uint8] = np.round(255 * (1 - shade)).astype(np.uint8)
    return grey


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode an 8-bit picture (W3C Portable Network Graphics, third edition, sections 5 and 9).

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width) or (height, width, 4)
        Grey, 0 is black; or red, green, blue and opacity.
    """
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 6, 0, 0, 0)
    unfiltered = np.pad(pixels.reshape(height, -1), ((0, 0), (1, 0)))  # a line begins with its filter type, 0 for none
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(name, data)
        for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(unfiltered.tobytes(), 9)), (b"IEND", b""))
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
