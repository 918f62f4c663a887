"""Radiomic features of a region: what IBSI defines, through MIRP, and what only PET has.

MIRP (Zwanenburg A et al., *J Open Source Softw* 9:6413, 2024, doi 10.21105/joss.06413; EUPL-1.2) is the optional part
``twobe3[radiomics]`` and is imported when it is first needed. Features have the tags of the Image Biomarker
Standardisation Initiative (Zwanenburg A et al., *Radiology* 295:328–338, 2020, doi 10.1148/radiol.2020191145) without
the suffix of the aggregation, which is always that of the whole volume in 3D, merged over directions.
"""

from __future__ import annotations

import logging
import math
import re
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy
from threadpoolctl import threadpool_limits

from twobe3.cohort.cohort import Subject
from twobe3.core.codes import Code
from twobe3.core.errors import UnusableScanError
from twobe3.core.grid import resample_array
from twobe3.core.volume import AIR_HU, FloatArray, Mask, SUVVolume
from twobe3.dicom.body_size import surface_m2
from twobe3.features.measurements import bounding_box, measure_lesions, pack_error, unpack_error
from twobe3.features.mirp import exact_autocorrelation, import_mirp, silence
from twobe3.io.cache import Arrays, Cache
from twobe3.io.files import digest
from twobe3.scans.ct_summary import read_beside
from twobe3.scans.regions import Region
from twobe3.scans.scan import Scan

# Of a region, by a layer of voxels, as another reader might have drawn it.
Change = Literal["none", "eroded", "dilated"]
# Of a region: where they are, or each at the place of another one, so that only its shape and its histogram remain.
Voxels = Literal["measured", "shuffled"]
# Of image kept around the region: further away nothing reaches the region through splines, filters or spheres.
MARGIN_MM = 40.0
IBSI_FAMILIES = ("morph", "loc_int", "stat", "ih", "ivh", "cm", "rlm", "szm", "dzm", "ngtdm", "ngldm")
log = logging.getLogger("twobe3")


@dataclass(frozen=True)
class RadiomicsSettings:
    """How features are computed.

    Attributes
    ----------
    spacing_mm : float or None
        Isotropic voxels on which they are computed; cubic splines for the image, linear for the mask, half of a voxel
        for inclusion. 4 mm is near the voxels of clinical PET. None leaves the voxels.
    bin_width_suv : float or None
        Width of the bins of grey levels, the first of which begins at SUV 0. None takes the values as levels.
    n_bins : int or None
        So many bins between the lowest and the highest SUV of the region instead, for signatures that were published
        with them. Levels are then relative to the lesion's own range, and textures do not say how hot it is.
    log_sigma_mm : tuple of float
        Laplacians of Gaussians as IBSI 2 defines them (Whybra P et al., *Radiology* 310:e231319, 2024); each adds the
        statistics of its response.
    """

    spacing_mm: float | None = 4.0
    bin_width_suv: float | None = 0.5
    log_sigma_mm: tuple[float, ...] = ()
    n_bins: int | None = None

    @property
    def modality(self) -> str:
        """What MIRP takes the image for; it bins PET by itself, levels that are levels already it must not."""
        return "ct" if self.bin_width_suv is None and self.n_bins is None else "pet"

    def to_mirp(self) -> dict[str, Any]:
        """The keyword arguments of MIRP."""
        arguments: dict[str, Any] = {"base_feature_families": list(IBSI_FAMILIES), "new_spacing": self.spacing_mm}
        if self.n_bins is not None:
            arguments |= {"base_discretisation_method": "fixed_bin_number", "base_discretisation_n_bins": self.n_bins}
        elif self.bin_width_suv is not None:
            arguments |= {
                "base_discretisation_method": "fixed_bin_size",
                "base_discretisation_bin_width": self.bin_width_suv,
            }
        else:
            arguments |= {"base_discretisation_method": "none", "ivh_discretisation_method": "none"}
        if self.modality == "pet":
            arguments["resegmentation_intensity_range"] = [0.0, math.nan]
        if self.log_sigma_mm:
            arguments |= {
                "filter_kernels": ["laplacian_of_gaussian"],
                "laplacian_of_gaussian_sigma": list(self.log_sigma_mm),
                "response_map_feature_families": ["statistics"],
            }
        return arguments


@dataclass(frozen=True, eq=False)
class FeatureVector:
    """Features of one scan, for instance ``"cm_contrast"`` or ``"pet_mtv_ml"``; NaN where a feature is not defined."""

    names: tuple[str, ...]
    values: FloatArray

    def __getitem__(self, name: str) -> float:
        return float(self.values[self.names.index(name)])

    def extend(self, more: dict[str, float]) -> FeatureVector:
        """Append features."""
        return FeatureVector((*self.names, *more), np.concatenate([self.values, list(more.values())]))


def radiomic_features(
    subject: Subject,
    region: Region,
    settings: RadiomicsSettings,
    cache: Cache,
    *,
    change: Change = "none",
    voxels: Voxels = "measured",
) -> FeatureVector:
    """Features of a patient's scan, extracted once.

    Besides those of :func:`extract` they hold what needs the patient's size: ``pet_dmax_per_bsa`` and
    ``pet_spread_per_bsa``, in metres over square metres of body surface, NaN without ``weight_kg`` and ``height_m``
    (SDmax: Cottereau A-S et al., *Ann Oncol* 32:404–411, 2021, doi 10.1016/j.annonc.2020.11.019).

    Parameters
    ----------
    subject, region, settings
        Whose features, of which part of the scan, and how they are computed.
    cache : Cache
        Keeps features and refusals.
    change, voxels
        Of the region, for the stability of features; whether its voxels are permuted first, see :func:`shuffle_voxels`.

    Raises
    ------
    UnusableScanError
        The scan has no region, ``CONTOUR_MISSING`` among other codes, or none that is usable: see :func:`extract`.
    EnvironmentFailure
        ``EXTRA_MISSING``: MIRP is not installed, and the store lacks the features.
    """
    arrays = cache.get_or_compute(
        radiomics_key(subject.scan, region, settings, change, voxels),
        lambda: _extract(subject.scan, region, settings, change, voxels),
    )
    found = unpack(arrays)
    surface = _surface_m2(subject)
    names = ("dmax", "spread")
    return found.extend({f"pet_{name}_per_bsa": found[f"pet_{name}_mm"] / 1000.0 / surface for name in names})


def radiomics_key(
    scan: Scan, region: Region, settings: RadiomicsSettings, change: Change = "none", voxels: Voxels = "measured"
) -> str:
    """Digest of everything that the features depend on."""
    return digest(["radiomics", scan.digest, region.label, change, str(asdict(settings)), voxels])


def pack(features: FeatureVector | UnusableScanError) -> Arrays:
    """Encode features, or why there are none, as arrays for the cache."""
    if isinstance(features, UnusableScanError):
        return {"refusal": pack_error(features)}
    return {"names": np.frombuffer("\n".join(features.names).encode(), np.uint8), "values": features.values}


def unpack(arrays: Arrays) -> FeatureVector:
    """Decode what :func:`pack` encoded; an encoded error is raised."""
    if "refusal" in arrays:
        error = unpack_error(arrays["refusal"])
        assert error is not None
        raise error
    return FeatureVector(tuple(arrays["names"].tobytes().decode().split("\n")), np.asarray(arrays["values"]))


def extract(volume: SUVVolume, mask: Mask, settings: RadiomicsSettings) -> FeatureVector:
    """Features of a region: IBSI's through MIRP, in memory and on one thread, and those of :func:`measure_lesions`.

    MIRP sees the region's part of the image with :data:`MARGIN_MM` around it, and lays its grid on the centre of
    that part, so that a lesion has the same features however much of the body was scanned. Moran's I and Geary's C
    are exact (:func:`spatial_autocorrelation`); MIRP would sample them, which takes most of its time.

    Raises
    ------
    UnusableScanError
        ``CONTOUR_UNUSABLE``: the region lies on other voxels than the scan. ``REGION_EMPTY``. ``REGION_TOO_SMALL``: it
        has one voxel, or vanishes on the new voxels. ``REGION_CONSTANT``: it has one SUV throughout.
    EnvironmentFailure
        ``EXTRA_MISSING``: MIRP is not installed.
    """
    _require_usable(volume, mask)
    spacing = np.array(volume.geometry.spacing_mm)
    reach_mm = MARGIN_MM + 4.0 * max(settings.log_sigma_mm, default=0.0)
    box = bounding_box(mask, np.ceil(reach_mm / spacing).astype(np.int64))
    ibsi = ibsi_features(volume.array[box], mask.array[box], volume.geometry.spacing_mm, settings)
    return ibsi.extend({f"pet_{name}": value for name, value in asdict(measure_lesions(volume, mask)).items()})


def ct_features(
    subject: Subject,
    region: Region,
    settings: RadiomicsSettings,
    bin_width_hu: float,
    cache: Cache,
    *,
    voxels: Voxels = "measured",
) -> FeatureVector:
    """IBSI's features of the CT in the region of the PET, named ``"ct_…"``, extracted once.

    The CT is brought onto the PET's voxels first, smoothed so that nothing aliases. Grey levels are bins of a fixed
    size from -1000 HU on, as IBSI advises for calibrated units.

    Raises
    ------
    UnusableScanError
        Why the scan has no CT that lies over it; what :func:`radiomic_features` raises.
    """
    how = (region.label, str(asdict(settings)), str(bin_width_hu), voxels)
    key = digest(["ct radiomics", subject.scan.digest, subject.scan.ct_digest, *how])

    def compute() -> Arrays:
        try:
            volume = subject.scan.suv()
            ct, summary = read_beside(subject.scan, volume)
            if ct is None:
                return pack(UnusableScanError(Code[summary.code or ""], summary.reason or "", remedy=summary.remedy))
            hu = resample_array(ct.array, ct.geometry, volume.geometry, outside=AIR_HU)
            mask = region.find(subject.scan, volume)
            shown = replace(volume, array=hu)
            _require_usable(shown, mask)
            if voxels == "shuffled":
                hu = shuffle_voxels(shown, mask, subject.scan.digest).array
            box = bounding_box(mask, np.ceil(MARGIN_MM / np.array(volume.geometry.spacing_mm)).astype(np.int64))
            binned = replace(settings, bin_width_suv=bin_width_hu, log_sigma_mm=())
            found = ibsi_features(hu[box], mask.array[box], volume.geometry.spacing_mm, binned, of_ct=True)
        except UnusableScanError as refusal:
            if refusal.code is Code.CODEC_MISSING:
                raise
            return pack(refusal)
        return pack(FeatureVector(tuple(f"ct_{name}" for name in found.names), found.values))

    return unpack(cache.get_or_compute(key, compute) if subject.scan.ct_digest else compute())


def shuffle_voxels(volume: SUVVolume, mask: Mask, seed: str) -> SUVVolume:
    """A scan whose voxels inside a region are permuted; those outside stay.

    Volume, shape and histogram of the region are the same, and its texture is lost: features that predict as well
    afterwards never needed it (Welch ML et al., *Radiother Oncol* 130:2–9, 2019, doi 10.1016/j.radonc.2018.10.027).

    The permutation depends on the seed alone, for instance the digest of the scan.
    """
    array, random = volume.array.copy(), np.random.default_rng(int(digest([seed]), 16))
    array[mask.array] = random.permutation(array[mask.array])
    return replace(volume, array=array)


def _extract(
    scan: Scan, region: Region, settings: RadiomicsSettings, change: Change, voxels: Voxels = "measured"
) -> Arrays:
    start = time.perf_counter()
    try:
        volume = scan.suv()
        mask = _morph(region.find(scan, volume), change)
        if voxels == "shuffled" and mask.geometry.same_as(volume.geometry):
            volume = shuffle_voxels(volume, mask, scan.digest)
        features: FeatureVector | UnusableScanError = extract(volume, mask, settings)
    except UnusableScanError as refusal:
        if refusal.code is Code.CODEC_MISSING:
            raise  # not the scan's fault, and gone when the codec is installed: nothing to keep
        if refusal.code is not Code.CONTOUR_MISSING:
            log.warning("%s: %s; no radiomic features of this scan", refusal.code.name, refusal.reason)
        features = refusal
    log.debug("radiomic features of a scan: %.1f s", time.perf_counter() - start)
    return pack(features)


def _morph(mask: Mask, change: Change) -> Mask:
    if change == "none":
        return mask
    operation = scipy.ndimage.binary_erosion if change == "eroded" else scipy.ndimage.binary_dilation
    return Mask(operation(mask.array), mask.geometry, f"{mask.name}, {change}")


def _require_usable(volume: SUVVolume, mask: Mask) -> None:
    def unusable(code: Code, reason: str) -> UnusableScanError:
        return UnusableScanError(code, f"the region {mask.name!r} {reason}")

    if not mask.geometry.same_as(volume.geometry):
        raise unusable(Code.CONTOUR_UNUSABLE, "lies on other voxels than the scan")
    voxels = int(mask.array.sum())
    if voxels == 0:
        raise unusable(Code.REGION_EMPTY, "is empty")
    if voxels == 1:
        raise unusable(Code.REGION_TOO_SMALL, "has a single voxel, in which nothing varies")
    if np.ptp(volume.array[mask.array]) == 0:
        raise unusable(Code.REGION_CONSTANT, "has one SUV throughout, so it has no texture")


def ibsi_features(
    image: npt.NDArray[np.float32],
    inside: npt.NDArray[np.bool_],
    spacing_mm: tuple[float, float, float],
    settings: RadiomicsSettings,
    *,
    of_ct: bool = False,
) -> FeatureVector:
    """IBSI's features of a region, through MIRP, in memory and on one thread; the grid lies on the image's centre.

    ``image`` holds intensities, ``inside`` says which of the voxels are the region, both (slices, rows, columns), along
    which ``spacing_mm`` is. ``of_ct``: the intensities are HU, whose bins begin at -1000.

    Raises
    ------
    UnusableScanError
        ``REGION_TOO_SMALL``: the region vanishes on the new voxels.
    EnvironmentFailure
        ``EXTRA_MISSING``: MIRP is not installed.
    """
    mirp, import_image, import_mask = import_mirp()
    with silence(), threadpool_limits(1), exact_autocorrelation():
        (scan,) = import_image(image.copy(), sample_name="scan", image_modality="ct" if of_ct else settings.modality)
        (mask,) = import_mask(inside.copy(), sample_name="scan")
        scan.image_spacing = mask.image_spacing = spacing_mm  # its importer of arrays takes none
        call = {"export_features": True, "num_cpus": None, **settings.to_mirp()}
        if of_ct:
            call["resegmentation_intensity_range"] = [AIR_HU, math.nan]
        try:
            tables = list(mirp.extract_features_generator(image=scan, mask=mask, **call))
        except TypeError as error:  # how MIRP 2.7 ends where resampling leaves nothing of the region
            if "'NoneType' has no len()" not in str(error):
                raise
            tables = [None]
    if tables[0] is None:
        reason = f"the region vanishes on voxels of {settings.spacing_mm} mm"
        raise UnusableScanError(Code.REGION_TOO_SMALL, reason, remedy="check the contour, or choose smaller voxels")
    table = tables[0].filter(regex=r"^(morph|loc|stat|ih|ivh|cm|rlm|szm|dzm|ngt|ngl|log)_")
    values = table.iloc[0].to_numpy(dtype=np.float64)
    return FeatureVector(tuple(map(_tag, table.columns)), np.where(np.isfinite(values), values, np.nan))


def _tag(column: str) -> str:
    """``"cm_contrast_d1_3d_v_mrg_fbs_w0.5"`` becomes ``"cm_contrast"``."""
    return re.sub(r"(_d1)?(_a0\.0)?(_3d(_v_mrg)?)?(_fb(s_w|n_n)[0-9.]+)?$", "", column)


def _surface_m2(subject: Subject) -> float:
    weight_kg, height_m = (float(subject.covariates.get(name, math.nan)) for name in ("weight_kg", "height_m"))
    return surface_m2(weight_kg, 100.0 * height_m) if weight_kg > 0 and height_m > 0 else math.nan
