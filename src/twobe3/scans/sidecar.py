"""Scans that are SUV already: NIfTI, and beside ``X.nii.gz`` a ``X.json`` that says what its numbers are.

``twobe3 convert`` writes both; foreign conversions need the keys of :class:`Sidecar` that say what nobody should guess.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from twobe3 import __version__
from twobe3.core.codes import Code
from twobe3.core.errors import Exclusion, UnusableScanError
from twobe3.core.volume import LPS_TO_RAS, CTVolume, FloatArray, Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.dicom.archive import require_inside
from twobe3.dicom.series import PETSeries, SearchResult, Unused
from twobe3.dicom.suv_types import SUV_TYPES
from twobe3.dicom.walk import list_files
from twobe3.io.files import SCHEMA_VERSION, digest, digest_file, write_json
from twobe3.io.nifti import is_nifti, read_geometry, read_nifti, stem, to_geometry, write_nifti
from twobe3.io.pseudonym import pseudonym

MAX_SIDECAR_BYTES = 2**20
_HEADER_ORDER = (
    f"{Code.GEOMETRY_MIXED.name}: `geometry.affine_lps_mm` was read in the order (i, j, k) of the NIfTI header"
)
log = logging.getLogger("twobe3")
Positive = Annotated[float, Field(gt=0)]


class _Keys(BaseModel):
    """An object of the JSON; keys that it does not know are other tools' own."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)


class Calibration(_Keys):
    """``calibration``: only ``type`` is needed, and ``per_bw`` where that is not ``"bw"``."""

    type: str
    rule: str = "NIFTI"
    factor_min: float = 1.0
    factor_max: float = 1.0
    weight_kg: float | None = None
    injected_dose_bq: float | None = None
    half_life_s: float | None = None
    decay_factor: float | None = None
    warnings: tuple[str, ...] = ()
    height_m: float | None = None
    sex: str | None = None
    per_bw: Positive | None = None


class Covariates(_Keys):
    """``covariates``: what is known of the patient."""

    age_years: Annotated[float, Field(ge=0)] | None = None
    sex: Literal["M", "F", "O"] | None = None
    weight_kg: Positive | None = None
    height_m: Positive | None = None


class Place(_Keys):
    """``geometry``: the affine in double precision, which the NIfTI header holds in single precision.

    It maps (k, j, i, 1), that is (slice, row, column, 1), to LPS mm; by the header the order (i, j, k, 1) is known too.
    """

    affine_lps_mm: Annotated[list[Annotated[list[float], Field(min_length=4, max_length=4)]], Field(min_length=4)]


class Sidecar(_Keys):
    """What the JSON beside a NIfTI file says.

    Attributes
    ----------
    calibration : Calibration
        That the voxels are SUV, and of which type.
    patient_id : str
        The user's own id, as in the clinical table; ``twobe3 convert`` never writes it.
    patient, series : str
        The pseudonyms that ``twobe3 convert`` writes instead.
    mask : str
        A NIfTI file beside it, 0 outside a region that somebody drew.
    mask_notes : tuple of str
        What was combined or left out to make it, see :class:`~twobe3.core.volume.Mask`.
    ct : str
        A NIfTI file beside it, the CT of the same patient in HU, in the same space.
    covariates : Covariates
    manufacturer, model, tracer : str
    geometry : Place or None
    history : tuple of str
    """

    calibration: Calibration
    patient_id: str = ""
    patient: Annotated[str, Field(pattern=r"^(pa-[0-9a-f]{12})?$")] = ""
    series: Annotated[str, Field(pattern=r"^(se-[0-9a-f]{12})?$")] = ""
    mask: str = ""
    mask_notes: tuple[str, ...] = ()
    ct: str = ""
    covariates: Covariates = Covariates()
    manufacturer: str = ""
    model: str = ""
    tracer: str = ""
    geometry: Place | None = None
    history: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _must_be_suv(self) -> Self:
        suv = self.calibration
        if suv.type not in SUV_TYPES:
            raise ValueError(f"calibration.type is not one of {', '.join(SUV_TYPES)}")
        if suv.type != "bw" and suv.per_bw is None:
            raise ValueError(f"SUV {suv.type} need calibration.per_bw, what SUV by body weight were multiplied by")
        if suv.type == "bw" and suv.per_bw not in (None, 1.0):
            raise ValueError("SUV by body weight have calibration.per_bw = 1")
        return self


@dataclass(frozen=True)
class NiftiSeries:
    """One SUV volume with its sidecar; the names are those of :class:`~twobe3.dicom.series.PETSeries`.

    Attributes
    ----------
    patient, series : str
        Pseudonymous ids: the sidecar's, else of its ``patient_id`` and of the file's content.
    patient_id : str
        The user's id, never printed, logged or written; empty where the sidecar has a pseudonym or nothing.
    path : Path
        The NIfTI file.
    contours : tuple of Path
        The NIfTI file of its region; empty without one.
    geometry : Geometry
        The sidecar's where it has one.
    sidecar : Sidecar
        What else it says.
    manufacturer, model, tracer : str
        As the sidecar says.
    covariates : mapping
        Those of ``age_years``, ``sex``, ``weight_kg``, ``height_m`` that the sidecar carries.
    warnings : tuple of str
        What was taken otherwise than it stands there, each one line that begins with its code.
    ct : Path or None
        The NIfTI file of its CT.
    """

    patient: str
    series: str
    patient_id: str = field(repr=False)
    path: Path = field(repr=False)
    contours: tuple[Path, ...] = field(repr=False)
    geometry: Geometry = field(repr=False)
    sidecar: Sidecar = field(repr=False)
    manufacturer: str
    model: str
    tracer: str
    covariates: Mapping[str, float | str] = field(hash=False)
    warnings: tuple[str, ...] = ()
    ct: Path | None = field(default=None, repr=False)

    @cached_property
    def digest(self) -> str:
        """Digest of the two files' content, and of what the sidecar says that changes voxels or their place."""
        suv, affine = self.sidecar.calibration, self.geometry.affine.tobytes()
        files = map(digest_file, (self.path, *self.contours))
        return digest(["nifti", *files, suv.type, str(suv.per_bw), affine])

    @property
    def slices(self) -> int:
        """Number of slices."""
        return self.geometry.shape[0]

    @property
    def coverage_mm(self) -> float:
        """From the first to the last slice."""
        return (self.slices - 1) * self.geometry.spacing_mm[0]


def find_nifti_series(paths: Sequence[Path], *, among_dicom: bool = False) -> SearchResult[NiftiSeries]:
    """Find the NIfTI files at or below some paths, but not in zip files, and what their sidecars say.

    Masks and CT that belong to a series are not counted. Symbolic links are followed: JSON, mask and CT are looked for
    beside the link, then beside what it leads to. If there are DICOM images too and no NIfTI file has a sidecar, they
    are taken for masks and the like of a DICOM archive, which nobody offers as scans, and are not counted. Raises
    ConfigurationError: a path does not exist.
    """
    files = _list_nifti(paths)
    sidecars = {path: _read_sidecar(path) for path in files}
    missing = [one for one in sidecars.values() if not isinstance(one, Sidecar) and one.code is Code.SIDECAR_MISSING]
    if among_dicom and files and len(missing) == len(files):
        log.warning("%d NIfTI files beside DICOM have no JSON that says they are SUV: not looked at", len(files))
        return SearchResult((), (), 0, frozenset())
    known = [(path, one) for path, one in sidecars.items() if isinstance(one, Sidecar)]
    masks = {_find_usable(path, name) for path, one in known for name in (one.mask, one.ct)}
    series: list[NiftiSeries] = []
    unused: list[Unused] = []
    for path, one in sidecars.items():
        if path.resolve() in masks and not _find_sidecar(path).exists():
            continue
        try:
            series.append(_describe(path, one))
        except UnusableScanError as error:
            patient = _patient_pseudonym(one) if isinstance(one, Sidecar) else ""
            exclusion = Exclusion.of(error, patient=patient, series=_own_id("series", path))
            unused.append(Unused(exclusion, files=(path,)))
    series.sort(key=lambda one: (one.patient, one.series, one.digest))
    unused.sort(key=lambda one: one.exclusion.series)
    patients = frozenset((*(one.patient for one in series), *(one.exclusion.patient for one in unused)))
    return SearchResult(tuple(series), tuple(unused), len(series) + len(unused), patients)


def _list_nifti(paths: Sequence[Path]) -> list[Path]:
    """Every NIfTI file, once with each JSON that lies beside it or beside a link to it."""
    listing = list_files(paths)
    found: dict[tuple[Path, Path | None], Path] = {}
    for path in filter(is_nifti, (*listing.files, *listing.aliases)):
        sidecar = _find_sidecar(path)
        found.setdefault((path.resolve(), sidecar.resolve() if sidecar.exists() else None), path)
    described = {image for image, sidecar in found if sidecar}
    return [path for (image, sidecar), path in found.items() if sidecar or image not in described]


def read_nifti_scan(series: NiftiSeries) -> SUVVolume:
    """Read a converted scan: SUV by body weight, whatever type the file holds.

    SUV of another type are divided by the sidecar's ``per_bw``. Raises ``CORRUPT_FILE``; ``VOXELS_INVALID``: a voxel
    is not finite, or none is above 0.
    """
    array, _ = read_nifti(series.path)
    n_invalid = int((~np.isfinite(array)).sum())
    if n_invalid:
        raise UnusableScanError(Code.VOXELS_INVALID, f"{n_invalid} of {array.size} voxels are not finite")
    if array.max() <= 0:
        raise UnusableScanError(Code.VOXELS_INVALID, f"the largest voxel is {array.max():g}")
    stated, history = series.sidecar.calibration, series.sidecar.history
    if stated.type != "bw":
        assert stated.per_bw is not None  # the sidecar was checked
        array = array / np.float32(stated.per_bw)
        history = (*history, f"SUV {stated.type} / {stated.per_bw:.6g} = SUV by body weight")
    warnings = (*stated.warnings, *series.warnings)
    calibration = SUVCalibration(**{**stated.model_dump(), "type": "bw", "per_bw": 1.0, "warnings": warnings})
    return SUVVolume(array, series.geometry, calibration, series.series, history)


def write_nifti_scan(
    folder: Path, volume: SUVVolume, series: PETSeries, region: Mask | None, ct: CTVolume | None = None
) -> Path:
    """Write a scan as NIfTI with its sidecar, its region where somebody drew one, and its CT; pseudonyms only.

    Gives the volume's file; the others lie beside it. Raises EnvironmentFailure ``WRITE_FAILED``.
    """
    target = folder / f"{volume.source}.nii.gz"
    mask, beside = (folder / f"{volume.source}.{kind}.nii.gz" for kind in ("mask", "ct"))
    write_nifti(target, volume)
    more: dict[str, Any] = {}
    if region is not None:
        write_nifti(mask, region)
        more = {"mask": mask.name, "mask_notes": list(region.notes)}
    if ct is not None:
        write_nifti(beside, ct)
        more["ct"] = beside.name
    write_json(_sidecar_path(target), _document(volume, series, more))
    return target


def _document(volume: SUVVolume, series: PETSeries, beside: Mapping[str, Any]) -> dict[str, Any]:
    geometry = volume.geometry
    return {
        "schema": SCHEMA_VERSION,
        "twobe3": __version__,
        "patient": series.patient,
        "series": volume.source,  # of one frame of a series it is the frame's own
        "manufacturer": series.manufacturer,
        "model": series.model,
        "tracer": series.tracer,
        "covariates": dict(series.covariates),
        "calibration": volume.calibration.document(),
        "history": list(volume.history),
        **beside,
        "geometry": {
            "shape": list(geometry.shape),
            "affine_lps_mm": geometry.affine.tolist(),
            "spacing_mm": list(geometry.spacing_mm),
        },
    }


def _sidecar_path(path: Path) -> Path:
    return path.with_name(f"{stem(path)}.json")


def _find_sidecar(path: Path) -> Path:
    """The JSON beside a NIfTI file; of a link that has none, beside what it leads to."""
    beside, image = _sidecar_path(path), path.resolve()
    return beside if beside.exists() or not is_nifti(image) else _sidecar_path(image)


def _read_sidecar(path: Path) -> Sidecar | UnusableScanError:
    beside = _find_sidecar(path)
    if not beside.is_file():
        return UnusableScanError(Code.SIDECAR_MISSING, "there is no JSON of its name beside a NIfTI file")
    try:
        if beside.stat().st_size > MAX_SIDECAR_BYTES:
            return UnusableScanError(Code.SIDECAR_INVALID, f"the JSON has {beside.stat().st_size} bytes")
        return Sidecar.model_validate_json(beside.read_bytes())
    except OSError as error:
        return UnusableScanError(Code.SIDECAR_INVALID, f"the JSON cannot be opened ({type(error).__name__})")
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        return UnusableScanError(
            Code.SIDECAR_INVALID, f"{place or 'the JSON'}: {problem['msg'].removeprefix('Value error, ')}"
        )


def _describe(path: Path, sidecar: Sidecar | UnusableScanError) -> NiftiSeries:
    if isinstance(sidecar, UnusableScanError):
        raise sidecar
    geometry, warnings = _read_geometry(path, sidecar.geometry)
    return NiftiSeries(
        patient=_patient_pseudonym(sidecar) or _own_id("patient", path),
        series=sidecar.series or _own_id("series", path),
        patient_id=sidecar.patient_id,
        path=path,
        contours=(_find_beside(path, "mask", sidecar.mask),) if sidecar.mask else (),
        geometry=geometry,
        sidecar=sidecar,
        manufacturer=sidecar.manufacturer,
        model=sidecar.model,
        tracer=sidecar.tracer,
        covariates=sidecar.covariates.model_dump(exclude_none=True),
        warnings=warnings,
        ct=_find_beside(path, "ct", sidecar.ct) if sidecar.ct else None,
    )


def _patient_pseudonym(sidecar: Sidecar) -> str:
    return pseudonym("patient", sidecar.patient_id) if sidecar.patient_id else sidecar.patient


def _own_id(kind: str, path: Path) -> str:
    """A pseudonym of the file's content: the same wherever the file lies and whatever its name."""
    return pseudonym(kind, f"nifti\0{digest_file(path)}")


def _find_beside(path: Path, key: str, name: str) -> Path:
    """The mask or CT of a name in the folder of a NIfTI file, or of what that links to."""
    require_inside("sidecar", name)
    for folder in (path.parent, path.resolve().parent):
        try:
            beside = folder / name
            if beside.is_file() and is_nifti(beside) and not beside.samefile(path):
                return beside
        except OSError:  # a name too long
            break
    raise UnusableScanError(Code.SIDECAR_INVALID, f"{key}: there is no other NIfTI file of this name in the folder")


def _find_usable(path: Path, name: str) -> Path | None:
    try:
        return _find_beside(path, "", name).resolve() if name else None
    except UnusableScanError:
        return None


def _read_geometry(path: Path, place: Place | None) -> tuple[Geometry, tuple[str, ...]]:
    """The header's geometry, with the sidecar's affine where both say the same but for the header's single precision.

    The order of the affine's axes is what the header shows it to be; a warning says so where it is not ours.
    """
    header = read_geometry(path)
    if place is None:
        return header, ()
    stated = np.array(place.affine_lps_mm)
    to_geometry(header.shape, stated)  # refused if it is no affine of an image
    orders: tuple[tuple[FloatArray, tuple[str, ...]], ...] = ((stated, ()), (stated[:, [2, 1, 0, 3]], (_HEADER_ORDER,)))
    for affine, warnings in orders:
        if _same_voxels(header, affine):
            return replace(header, affine=affine), warnings
    reason = "`geometry.affine_lps_mm` of the JSON is not the affine of the NIfTI header, in either order of its axes"
    remedy = "remove `geometry` from the JSON if the image was resampled"
    if any(_same_voxels(header, LPS_TO_RAS @ affine) for affine, _ in orders):
        reason = "`geometry.affine_lps_mm` of the JSON is in RAS, as the NIfTI header"
        remedy = "negate its first two rows, which makes it LPS, or remove it"
    raise UnusableScanError(Code.GEOMETRY_MIXED, reason, remedy=remedy)


def _same_voxels(header: Geometry, affine: FloatArray) -> bool:
    """Whether an affine puts every voxel where the header does, and axes of one voxel point alike too."""
    return replace(header, affine=affine).same_as(header) and np.allclose(affine, header.affine, atol=1e-2)
