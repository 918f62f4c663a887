"""Images in space: geometry, SUV volumes, CT and masks.

Conventions, everywhere in twobe3: arrays are (slices, rows, columns); positions are DICOM patient
coordinates, LPS, in millimetres (x to the patient's left, y to the back, z to the head).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from twobe3.core.html import html_picture, html_table
from twobe3.core.mip import find_patient_axes, mip, orient_to_patient, png

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Image

FloatArray = npt.NDArray[np.float64]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # and back
AIR_HU = -1000.0
MAX_VOXELS = 2**30
"""Four gigabytes of SUV; the largest PET scanners of today make a quarter of it."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the voxels of an array lie.

    Parameters
    ----------
    shape : tuple of int
        (slices, rows, columns).
    affine : ndarray, shape (4, 4)
        Maps the homogeneous voxel index (slice, row, column, 1) to (x, y, z, 1) in LPS mm; voxel centres.
    frame_of_reference : str, optional
        FrameOfReferenceUID (0020,0052); contours must share it.

    Raises
    ------
    ValueError
        The affine is not finite, not invertible, or its axes are not perpendicular.
    """

    shape: tuple[int, int, int]
    affine: FloatArray
    frame_of_reference: str = ""

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError(f"affine must be a finite 4×4 matrix, got shape {affine.shape}")
        axes = affine[:3, :3]
        lengths = np.linalg.norm(axes, axis=0)
        if (lengths <= 0).any():
            raise ValueError(f"spacing must be positive, got {tuple(lengths)} mm")
        cosines = (axes / lengths).T @ (axes / lengths)
        if not np.allclose(cosines, np.eye(3), atol=1e-3):
            raise ValueError("the axes of the affine must be perpendicular")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres along slices, rows and columns."""
        a, b, c = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(a), float(b), float(c)

    @property
    def origin_mm(self) -> tuple[float, float, float]:
        """LPS position of the centre of voxel (0, 0, 0)."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Size of the image along slices, rows and columns, voxel edges included."""
        a, b, c = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return a, b, c

    def along_patient(self, lengths: tuple[float, float, float]) -> tuple[float, float, float]:
        """Three lengths, one for each axis of the array, in the order along the body, front to back, right to left."""
        a, b, c = find_patient_axes(self.affine)
        return lengths[a], lengths[b], lengths[c]

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    def to_mm(self, index: npt.ArrayLike) -> FloatArray:
        """Voxel indices (…, 3) to LPS mm (…, 3)."""
        return np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, position_mm: npt.ArrayLike) -> FloatArray:
        """LPS mm (…, 3) to fractional voxel indices (…, 3)."""
        return (np.asarray(position_mm, dtype=np.float64) - self.affine[:3, 3]) @ np.linalg.inv(self.affine[:3, :3]).T

    def same_as(self, other: Geometry, tolerance_mm: float = 1e-2) -> bool:
        """Whether both describe the same voxels, to a tolerance at the eight corners."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij")).reshape(3, -1).T
        return bool(np.abs(self.to_mm(corners) - other.to_mm(corners)).max() <= tolerance_mm)


@dataclass(frozen=True)
class SUVCalibration:
    """How stored values became SUV: the rule, its inputs and every repair.

    Attributes
    ----------
    type : str
        Normalisation: ``"bw"`` (body weight), or another of :data:`twobe3.dicom.suv_types.SUV_TYPES`.
    rule : str
        Name of the rule that gave the factor, for instance ``"BQML_START"``.
    factor_min, factor_max : float
        Smallest and largest factor from activity to SUV over the slices.
    weight_kg, injected_dose_bq, half_life_s, decay_factor : float or None
        Inputs; None where the rule does not need them. ``decay_factor`` is the smallest over the slices of what
        remains of the dose at the reference time.
    reference_time : str or None
        ISO date-time to which the activity is decay-corrected.
    warnings : tuple of str
        Repairs and cross-checks that failed, each one line that begins with its code.
    height_m : float or None
    sex : str or None
        Inputs of the other SUV types.
    per_bw : float
        What SUV by body weight were multiplied by to give this type; ``factor_min`` and ``factor_max`` are before it.
    """

    type: str
    rule: str
    factor_min: float
    factor_max: float
    weight_kg: float | None = None
    injected_dose_bq: float | None = None
    half_life_s: float | None = None
    decay_factor: float | None = None
    reference_time: str | None = None
    warnings: tuple[str, ...] = ()
    height_m: float | None = None
    sex: str | None = None
    per_bw: float = 1.0

    def document(self) -> dict[str, Any]:
        """The calibration as JSON types, without the reference time: the date of a scan can identify a patient."""
        fields = asdict(self)
        del fields["reference_time"]
        return fields


@dataclass(frozen=True)
class Acquisition:
    """How a scan was made, as far as its quality depends on it; what is not known is None or empty.

    Attributes
    ----------
    reconstruction : str
        ReconstructionMethod (0054,1103).
    uptake_min : float or None
        Minutes from the injection to the beginning of the first frame.
    injected_dose_bq : float or None
        The dose of all injections.
    """

    reconstruction: str = ""
    uptake_min: float | None = None
    injected_dose_bq: float | None = None


@dataclass(frozen=True, eq=False)
class SUVVolume:
    """A PET scan in SUV.

    Parameters
    ----------
    array : ndarray of float32, shape (slices, rows, columns)
        SUV of every voxel.
    geometry : Geometry
        Where the voxels lie.
    calibration : SUVCalibration
        How the SUV were made.
    source : str
        Pseudonymous id of the series.
    history : tuple of str
        What was done since, in order.
    acquisition : Acquisition
        How the scan was made.

    Raises
    ------
    ValueError
        Array and geometry differ in shape, or a value is not finite.
    """

    array: npt.NDArray[np.float32]
    geometry: Geometry
    calibration: SUVCalibration
    source: str = ""
    history: tuple[str, ...] = field(default=())
    acquisition: Acquisition = Acquisition()

    def __post_init__(self) -> None:
        _check_shape(self.array, self.geometry)
        if not np.isfinite(self.array).all():
            raise ValueError("SUV must be finite in every voxel")
        object.__setattr__(self, "array", np.ascontiguousarray(self.array, dtype=np.float32))

    def _repr_html_(self) -> str:
        array, (slice_mm, _, column_mm) = orient_to_patient(self.array, self.affine)
        grey = mip(array, "front")
        spacing = " × ".join(f"{mm:.3g}" for mm in self.geometry.spacing_mm)
        rows = [
            ("series", self.source),
            ("voxels", f"{' × '.join(map(str, self.array.shape))}, {spacing} mm"),
            ("SUV", f"{self.array.min():.3g} to {self.array.max():.3g}, SUV{self.calibration.type}"),
            ("calibration", self.calibration.rule),
            *(("warning", warning) for warning in self.calibration.warnings),
        ]
        picture = html_picture(png(grey), grey.shape[1] * column_mm, grey.shape[0] * slice_mm, "seen from the front")
        return html_table([row for row in rows if row[1]], caption="PET scan") + picture

    @property
    def affine(self) -> FloatArray:
        """From (slice, row, column, 1) to (x, y, z, 1) in LPS mm, shape (4, 4)."""
        return self.geometry.affine

    def to_nifti(self, path: Path | str | None = None) -> Nifti1Image:
        """The scan as a NIfTI image of float32, axes (column, row, slice), world RAS; written where a path is given."""
        return _to_nifti(self.array, self.geometry, path)


@dataclass(frozen=True, eq=False)
class CTVolume:
    """A CT scan in Hounsfield units.

    Parameters
    ----------
    array : ndarray of float32, shape (slices, rows, columns)
        HU of every voxel.
    geometry : Geometry
        Where the voxels lie.
    source : str
        Pseudonymous id of the series.
    history : tuple of str
        What was done since, in order.
    warnings : tuple of str
        Repairs, each one line that begins with its code.
    """

    array: npt.NDArray[np.float32]
    geometry: Geometry
    source: str = ""
    history: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_shape(self.array, self.geometry)
        object.__setattr__(self, "array", np.ascontiguousarray(self.array, dtype=np.float32))

    @property
    def affine(self) -> FloatArray:
        """From (slice, row, column, 1) to (x, y, z, 1) in LPS mm, shape (4, 4)."""
        return self.geometry.affine

    def to_nifti(self, path: Path | str | None = None) -> Nifti1Image:
        """The CT as a NIfTI image of float32, see :meth:`SUVVolume.to_nifti`."""
        return _to_nifti(self.array, self.geometry, path)


@dataclass(frozen=True, eq=False)
class Mask:
    """A region of interest on the voxels of a scan.

    Parameters
    ----------
    array : ndarray of bool, shape (slices, rows, columns)
        True inside.
    geometry : Geometry
        Where the voxels lie.
    name : str
        Name of the region, for instance ``"GTV_Mass"`` or ``"SUV>4.0"``.
    notes : tuple of str
        What was combined or left out to make it that somebody should look at, each one line that begins with its code.
    """

    array: npt.NDArray[np.bool_]
    geometry: Geometry
    name: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_shape(self.array, self.geometry)
        object.__setattr__(self, "array", np.ascontiguousarray(self.array, dtype=np.bool_))

    @property
    def volume_ml(self) -> float:
        """Volume of the region in millilitres."""
        return float(self.array.sum()) * self.geometry.voxel_volume_ml

    def to_nifti(self, path: Path | str | None = None) -> Nifti1Image:
        """The region as a NIfTI image of bytes, 1 inside; see :meth:`SUVVolume.to_nifti`."""
        return _to_nifti(self.array.astype(np.uint8), self.geometry, path)


def _to_nifti(array: npt.NDArray[Any], geometry: Geometry, path: Path | str | None) -> Nifti1Image:
    from nibabel.nifti1 import Nifti1Image

    image = Nifti1Image(array.T, None)
    affine = LPS_TO_RAS @ geometry.affine[:, [2, 1, 0, 3]]  # NIfTI counts (column, row, slice)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    if path is not None:
        image.to_filename(path)
    return image


def _check_shape(array: npt.NDArray[Any], geometry: Geometry) -> None:
    if array.shape != geometry.shape:
        raise ValueError(f"array has shape {array.shape}, its geometry {geometry.shape}")
