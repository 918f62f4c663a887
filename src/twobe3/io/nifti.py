"""NIfTI files, in and out; nibabel is imported when one is written or read, so that ``inspect`` starts fast."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import LPS_TO_RAS, MAX_VOXELS, CTVolume, FloatArray, Geometry, Mask, SUVVolume
from twobe3.io.files import write_atomic

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

SUFFIXES = (".nii", ".nii.gz")
_MM = {1: 1000.0, 3: 0.001}  # codes of metre and micron; everything else is taken as mm
# What a damaged header makes infinite is refused as such, without a warning about it.
_quiet = np.errstate(all="ignore")


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI, by its name."""
    return path.name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """Name of a NIfTI file without ``.nii`` or ``.nii.gz``."""
    return path.name[: path.name.lower().rindex(".nii")]


def write_nifti(path: Path, image: SUVVolume | CTVolume | Mask) -> None:
    """Write a volume as float32 NIfTI, or a region as 0 and 1 in bytes; whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in ``.nii`` or ``.nii.gz``.
    image : SUVVolume, CTVolume or Mask

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    content = image.to_nifti().to_bytes()
    # Noise hardly gets smaller with more effort; without a time stamp the same volume gives the same bytes.
    write_atomic(path, gzip.compress(content, compresslevel=1, mtime=0) if path.suffix == ".gz" else content)


@_quiet
def read_nifti(path: Path) -> tuple[npt.NDArray[np.float32], Geometry]:
    """Read a three-dimensional NIfTI file.

    Parameters
    ----------
    path : Path
        Ends in ``.nii`` or ``.nii.gz``.

    Returns
    -------
    array : ndarray of float32, shape (slices, rows, columns)
        Scaled as the header says.
    geometry : Geometry
        In LPS.

    Raises
    ------
    UnusableScanError
        What :func:`read_geometry` raises; ``CORRUPT_FILE`` also when voxels are missing.
    """
    image = _open(path)
    geometry = _find_geometry(image)
    try:
        array = image.get_fdata(dtype=np.float32, caching="unchanged")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _corrupt_error(f"voxels of a NIfTI file are missing ({type(error).__name__})") from None
    return array.reshape(geometry.shape[::-1], order="F").T, geometry


@_quiet
def read_geometry(path: Path) -> Geometry:
    """Where the voxels of a NIfTI file lie, in LPS; the voxels themselves are not read.

    The sform is taken where it has a code, else the qform (NIfTI-1 standard, methods 3 and 2); a file with neither
    does not say which side is left, and is refused. Raises ``CORRUPT_FILE``: no NIfTI file, or not of real numbers.
    ``NOT_STATIC``: more than three dimensions. ``TOO_LARGE``, ``AFFINE_INVALID``, ``SHEARED``.
    """
    return _find_geometry(_open(path))


def _open(path: Path) -> Nifti1Image:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.nifti1 import Nifti1Image
    from nibabel.spatialimages import HeaderDataError

    try:
        image = nibabel.load(path)
    except (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise _corrupt_error(f"a file cannot be read as NIfTI ({type(error).__name__})") from None
    if not isinstance(image, Nifti1Image) or image.get_data_dtype().kind not in "iuf":
        raise _corrupt_error("a file holds no NIfTI image of real numbers")
    return image


def _find_geometry(image: Nifti1Image) -> Geometry:
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        reason = f"a NIfTI file has {len(shape)} dimensions: {_format_shape(shape)}"
        raise UnusableScanError(Code.NOT_STATIC, reason, remedy="write one frame of it as a file of its own")
    if len(shape) < 3 or min(shape) < 1:
        raise _corrupt_error(f"a NIfTI file holds no volume: {_format_shape(shape) or 'no voxels'}")
    if math.prod(map(int, shape)) > MAX_VOXELS:
        raise UnusableScanError(Code.TOO_LARGE, f"a NIfTI file announces {_format_shape(shape)} voxels")
    columns, rows, slices = shape
    return to_geometry((slices, rows, columns), _find_affine(image))


def to_geometry(shape: tuple[int, int, int], affine: FloatArray) -> Geometry:
    """The geometry of a foreign affine, in LPS. Raises ``AFFINE_INVALID``, ``SHEARED``."""
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UnusableScanError(Code.AFFINE_INVALID, "the axes of the affine do not span space")
    if not np.array_equal(affine[3], (0, 0, 0, 1)):
        raise UnusableScanError(Code.AFFINE_INVALID, "the last row of the affine is not 0, 0, 0, 1")
    try:
        return Geometry(shape, affine)
    except ValueError:
        raise UnusableScanError(Code.SHEARED, "the axes of the affine are not perpendicular") from None


def _find_affine(image: Nifti1Image) -> FloatArray:
    """From (slice, row, column) to LPS mm."""
    header = image.header
    if not int(header["sform_code"]) and not int(header["qform_code"]):
        raise UnusableScanError(Code.AFFINE_INVALID, "a NIfTI file has neither an sform nor a qform")
    to_mm = np.diag([*(_MM.get(int(header["xyzt_units"]) & 7, 1.0),) * 3, 1.0])
    return np.asarray(to_mm @ LPS_TO_RAS @ np.asarray(image.affine, dtype=np.float64)[:, [2, 1, 0, 3]])


def _format_shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _corrupt_error(reason: str) -> UnusableScanError:
    return UnusableScanError(Code.CORRUPT_FILE, reason, remedy="convert the scan again")
