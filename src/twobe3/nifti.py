"""SUV volumes as NIfTI files; SimpleITK is imported when one is written or read, so that ``inspect`` starts fast."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twobe3.artefact import write_atomic
from twobe3.errors import Code, ToolError
from twobe3.volume import Geometry, SUVVolume

_TO_ITK = np.array([2, 1, 0])  # ITK counts (column, row, slice), and its world is LPS as ours


def write_nifti(path: Path, volume: SUVVolume) -> None:
    """Write a volume as float32 NIfTI, whole or not at all.

    NIfTI's world is RAS; the file's affine is the volume's with x and y negated.

    Parameters
    ----------
    path : Path
        Ends in ``.nii`` or ``.nii.gz``.
    volume : SUVVolume
        What to write.

    Raises
    ------
    ToolError
        ``WRITE_FAILED``.
    """
    import SimpleITK

    image = SimpleITK.GetImageFromArray(volume.array)
    spacing = np.array(volume.geometry.spacing_mm)
    axes = volume.geometry.affine[:3, :3] / spacing
    image.SetSpacing(spacing[_TO_ITK].tolist())
    image.SetDirection(axes[:, _TO_ITK].ravel().tolist())
    image.SetOrigin(volume.geometry.origin_mm)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=path.parent) as folder:
            partial = Path(folder, path.name)
            SimpleITK.WriteImage(image, str(partial))
            content = partial.read_bytes()
    except (OSError, RuntimeError) as error:
        raise ToolError(Code.WRITE_FAILED, f"{path.name} could not be written ({type(error).__name__})") from error
    write_atomic(path, content)


def read_nifti(path: Path) -> tuple[npt.NDArray[np.float32], Geometry]:
    """Read a three-dimensional NIfTI file.

    Returns
    -------
    array : ndarray of float32, shape (slices, rows, columns)
    geometry : Geometry
        In LPS.

    Raises
    ------
    ToolError
        ``ARTEFACT_DAMAGED``: not a three-dimensional image.
    """
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(path))
    except RuntimeError as error:
        raise ToolError(Code.ARTEFACT_DAMAGED, f"{path.name} cannot be read as NIfTI") from error
    if image.GetDimension() != 3:
        raise ToolError(Code.ARTEFACT_DAMAGED, f"{path.name} has {image.GetDimension()} dimensions, not 3")
    array = SimpleITK.GetArrayFromImage(image)
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, :3] = direction[:, _TO_ITK]
    affine[:3, 3] = image.GetOrigin()
    return array.astype(np.float32), Geometry(array.shape, affine)
