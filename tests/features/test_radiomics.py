"""Radiomic features: the published reference values, invariants, refusals, and what the store keeps."""

from __future__ import annotations

import csv
import importlib
import logging
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.cohort.splits import PredefinedSplit
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary
from twobe3.core.errors import EnvironmentFailure, UnusableScanError
from twobe3.core.grid import Grid
from twobe3.core.outcomes import Outcomes
from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.features import radiomics
from twobe3.features.radiomics import (
    Change,
    RadiomicsSettings,
    extract,
    pack,
    radiomic_features,
    radiomics_key,
    shuffle_voxels,
    unpack,
)
from twobe3.io.cache import Cache
from twobe3.io.nifti import read_nifti
from twobe3.models import RadiomicsModel
from twobe3.scans.regions import Region
from twobe3.scans.scan import ArrayScan
from twobe3.validation.cross_validate import cross_validate

# IBSI's suffixes of the aggregations that this project uses; the others are of slices.
SUFFIXES = ("", "_3D_comb", "_3D")
DEFAULT = RadiomicsSettings()
CHANGES: tuple[Change, ...] = ("eroded", "dilated")


def volume_of(array: npt.NDArray[Any], spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0)) -> SUVVolume:
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.eye(3)) * np.array(spacing_mm)
    geometry = Geometry(array.shape, affine)
    return SUVVolume(array.astype(np.float32), geometry, SUVCalibration("bw", "TEST", 1, 1))


@pytest.fixture(scope="module")
def lesion() -> tuple[SUVVolume, Mask]:
    """A lesion of uneven uptake in the middle of an image, 60 mm and more from its borders."""
    rng = np.random.default_rng(0)
    array = rng.gamma(4.0, 0.25, (45, 44, 46))
    inside = np.linalg.norm(np.indices(array.shape) - np.array([[[[22]]], [[[21]]], [[[23]]]]), axis=0) < 6.0
    array[inside] += rng.gamma(9.0, 1.0, int(inside.sum()))
    volume = volume_of(array, (3.0, 4.0, 4.0))
    return volume, Mask(inside, volume.geometry, "lesion")


@pytest.fixture(scope="module")
def mirp() -> Any:
    return pytest.importorskip("mirp", reason="MIRP is not installed: pip install 'twobe3[radiomics]'")


def reference(path: Path) -> dict[str, tuple[float, float]]:
    """Value and tolerance by IBSI tag; tags without a consensus have none."""
    with path.open() as lines:
        rows = list(csv.DictReader(lines, delimiter=";"))
    return {
        row["tag"]: (float(row["reference value"]), float(row["tolerance"])) for row in rows if row["reference value"]
    }


def test_the_ibsi_1_digital_phantom_has_its_published_values(mirp: Any, real_data: Path) -> None:
    """All values of the 3D aggregations, to the published tolerance or, where that is 0, to the digits published."""
    folder = real_data / "ibsi1"
    labels, geometry = read_nifti(folder / "digital_phantom" / "mask.nii.gz")
    levels, _ = read_nifti(folder / "digital_phantom" / "phantom.nii.gz")
    volume = SUVVolume(levels.astype(np.float32), geometry, SUVCalibration("bw", "TEST", 1, 1))
    found = extract(volume, Mask(labels > 0, geometry), RadiomicsSettings(spacing_mm=None, bin_width_suv=None))
    published = reference(folder / "ibsi_1_dig_phantom.csv")
    of_slices = ("_2D", "_2_5D", "_3D_avg")
    expected = {tag: pair for tag, pair in published.items() if not any(part in tag for part in of_slices)}
    assert len(expected) == 169
    by_tag = {
        name + suffix: value for name, value in zip(found.names, found.values, strict=True) for suffix in SUFFIXES
    }
    wrong = {
        tag: (by_tag[tag], value, tolerance)
        for tag, (value, tolerance) in expected.items()
        if abs(by_tag[tag] - value) > tolerance and float(f"{by_tag[tag]:.3g}") != value
    }
    assert not wrong


def test_the_wrapper_gives_what_mirp_gives_when_called_directly(mirp: Any, lesion: tuple[SUVVolume, Mask]) -> None:
    volume, mask = lesion
    (image,) = importlib.import_module("mirp.data_import.import_image").import_image(volume.array, image_modality="pet")
    (region,) = importlib.import_module("mirp.data_import.import_mask").import_mask(mask.array)
    image.image_spacing = region.image_spacing = (3.0, 4.0, 4.0)
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)  # without one, MIRP writes the log to standard output from now on
    (table,) = mirp.extract_features(
        image=image,
        mask=region,
        new_spacing=4.0,
        base_discretisation_method="fixed_bin_size",
        base_discretisation_bin_width=0.5,
        base_feature_families=["stat", "morph", "cm"],
        resegmentation_intensity_range=[0.0, math.nan],
    )
    logging.getLogger().removeHandler(handler)
    found = extract(volume, mask, DEFAULT)
    for ours, theirs in (
        ("stat_mean", "stat_mean"),
        ("stat_p90", "stat_p90"),
        ("morph_volume", "morph_volume"),
        ("morph_sphericity", "morph_sphericity"),
        ("morph_geary_c", "morph_geary_c"),
        ("cm_contrast", "cm_contrast_d1_3d_v_mrg_fbs_w0.5"),
    ):
        # The same but for the place of the grid of 4 mm, which here lies on the centre of the whole image.
        assert found[ours] == pytest.approx(float(table[theirs].iloc[0]), rel=0.05), ours


def test_a_lesion_has_the_same_features_however_much_of_the_body_was_scanned(
    mirp: Any, lesion: tuple[SUVVolume, Mask]
) -> None:
    volume, mask = lesion
    extent = tuple(slice(1, -1) for _ in range(3))
    longer = volume_of(np.pad(volume.array, ((40, 10), (3, 2), (0, 9)), mode="reflect"), (3.0, 4.0, 4.0))
    inside = np.pad(mask.array, ((40, 10), (3, 2), (0, 9)))
    shorter = volume_of(volume.array[extent], (3.0, 4.0, 4.0))
    first = extract(shorter, Mask(mask.array[extent], shorter.geometry), DEFAULT)
    second = extract(longer, Mask(inside, longer.geometry), DEFAULT)
    assert first.names == second.names
    np.testing.assert_allclose(first.values, second.values, rtol=2e-3, atol=1e-6)


def test_twice_the_uptake_doubles_the_intensities_and_leaves_the_shape(
    mirp: Any, lesion: tuple[SUVVolume, Mask]
) -> None:
    volume, mask = lesion
    once = extract(volume, mask, DEFAULT)
    hotter = extract(replace(volume, array=2.0 * volume.array), mask, replace(DEFAULT, bin_width_suv=1.0))
    for name, once_value, twice_value in zip(once.names, once.values, hotter.values, strict=True):
        family = name.split("_")[0]
        if name in ("morph_integ_int", "stat_mean", "stat_max", "loc_peak_glob", "pet_suv_peak", "pet_tlg_ml"):
            assert twice_value == pytest.approx(2 * once_value, rel=1e-4), name
        elif family in ("morph", "cm", "szm", "ngl") and name not in ("morph_com", "morph_moran_i", "morph_geary_c"):
            assert twice_value == pytest.approx(once_value, rel=1e-4), name  # the bins grew with the uptake


def test_extraction_twice_gives_the_same_bits(mirp: Any, lesion: tuple[SUVVolume, Mask]) -> None:
    first, second = (extract(*lesion, DEFAULT) for _ in range(2))
    assert first.names == second.names
    assert first.values.tobytes() == second.values.tobytes()


def test_filters_add_the_statistics_of_their_responses(mirp: Any, lesion: tuple[SUVVolume, Mask]) -> None:
    plain = extract(*lesion, DEFAULT)
    filtered = extract(*lesion, replace(DEFAULT, log_sigma_mm=(6.0,)))
    added = set(filtered.names) - set(plain.names)
    assert added == {f"log_s_6.0_{name}" for name in plain.names if name.startswith("stat_")}
    assert filtered["log_s_6.0_stat_mean"] < 0  # at a hot blob the Laplacian of a Gaussian is negative


def laplacian_of_gaussian(image: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[np.float64]:
    """The response by the definition of IBSI 2: kernel cut at 4 σ, in voxels, of which σ is given in voxels too."""
    reach = int(np.floor(4.0 * sigma + 0.5))
    square = (np.mgrid[[slice(-reach, reach + 1)] * 3] ** 2).sum(axis=0) / sigma**2
    kernel = -((2.0 * np.pi * sigma**2) ** -1.5) / sigma**2 * (3.0 - square) * np.exp(-square / 2.0)
    return np.asarray(scipy.ndimage.convolve(image.astype(np.float64), kernel, mode="reflect"))


@pytest.mark.parametrize(("phantom", "sigma_mm"), [("impulse", 3.0), ("checkerboard", 5.0)])
def test_the_laplacian_is_that_of_ibsi_2_on_its_digital_phantoms(mirp: Any, phantom: str, sigma_mm: float) -> None:
    """Its test images 2.a and 2.b, 64 voxels of 2 mm along each axis, where no border is near."""
    place = np.indices((64, 64, 64))
    image = np.zeros(place.shape[1:], np.float32)
    if phantom == "impulse":
        image[32, 32, 32] = 255.0
    else:
        image[(place // 8).sum(axis=0) % 2 == 1] = 255.0
    inside = (np.abs(place - 32) <= 12).all(axis=0)
    settings = RadiomicsSettings(spacing_mm=None, log_sigma_mm=(sigma_mm,))
    found = radiomics.ibsi_features(image, inside, (2.0, 2.0, 2.0), settings)
    response = laplacian_of_gaussian(image, sigma_mm / 2.0)[inside]
    expected = {
        "mean": response.mean(), "var": response.var(), "min": response.min(), "max": response.max(),
        "p10": np.percentile(response, 10), "p90": np.percentile(response, 90), "rms": np.sqrt((response**2).mean()),
    }  # fmt: skip
    for name, value in expected.items():
        scale = float(np.abs(response).max())
        assert found[f"log_s_{sigma_mm}_stat_{name}"] == pytest.approx(value, rel=1e-4, abs=1e-5 * scale), name
    if phantom == "impulse":
        assert found["log_s_3.0_stat_min"] == pytest.approx(-255.0 * 3.0 / 1.5**2 * (2.0 * np.pi * 1.5**2) ** -1.5)


def test_a_number_of_bins_divides_the_range_of_the_region(mirp: Any, lesion: tuple[SUVVolume, Mask]) -> None:
    volume, mask = lesion
    settings = RadiomicsSettings(spacing_mm=None, n_bins=32)
    found = extract(volume, mask, settings)
    inside = volume.array[mask.array].astype(np.float64)
    level = np.minimum(np.floor(32.0 * (inside - inside.min()) / np.ptp(inside)) + 1.0, 32.0)
    assert (found["ih_min"], found["ih_max"]) == (1.0, 32.0)
    assert found["ih_mean"] == pytest.approx(level.mean(), rel=1e-6)
    hotter = extract(replace(volume, array=2.0 * volume.array), mask, settings)
    for name in found.names:
        if name.startswith(("ih_", *TEXTURE)):
            assert hotter[name] == pytest.approx(found[name], rel=1e-4), name  # the levels are the lesion's own
    assert found.names == extract(volume, mask, replace(settings, n_bins=None)).names


def test_nothing_is_written_to_standard_output_and_the_root_logger_stays_as_it_was(
    mirp: Any, lesion: tuple[SUVVolume, Mask], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    handlers = list(logging.getLogger().handlers)
    with caplog.at_level(logging.INFO):
        extract(*lesion, DEFAULT)
        logging.getLogger("twobe3").info("heard again")
    assert [record.message for record in caplog.records] == ["heard again"]
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().handlers == handlers


def refused(volume: SUVVolume, mask: Mask) -> str:
    with pytest.raises(UnusableScanError) as caught:
        extract(volume, mask, DEFAULT)
    assert caught.value.remedy
    return f"{caught.value.code.name}: {caught.value.reason}"


def test_a_region_without_anything_to_describe_is_refused_with_its_reason() -> None:
    volume = volume_of(np.random.default_rng(0).gamma(4.0, 1.0, (20, 20, 20)))
    empty, one, even = (np.zeros(volume.array.shape, np.bool_) for _ in range(3))
    one[3, 4, 5] = True
    even[:4] = True
    assert "REGION_EMPTY" in refused(volume, Mask(empty, volume.geometry))
    assert "REGION_TOO_SMALL" in refused(volume, Mask(one, volume.geometry))
    assert "REGION_CONSTANT" in refused(replace(volume, array=np.ones_like(volume.array)), Mask(even, volume.geometry))
    elsewhere = Geometry((20, 20, 20), np.diag([1.0, 1.0, 1.0, 1.0]))
    assert "CONTOUR_UNUSABLE" in refused(volume, Mask(even, elsewhere))


def test_a_region_that_vanishes_on_the_new_voxels_is_refused(mirp: Any) -> None:
    volume = volume_of(np.random.default_rng(0).gamma(4.0, 1.0, (20, 20, 20)), (1.0, 1.0, 1.0))
    thin = np.zeros(volume.array.shape, np.bool_)
    thin[10, 10, 9:11] = True
    assert "REGION_TOO_SMALL" in refused(volume, Mask(thin, volume.geometry))


def study_of(lesion: tuple[SUVVolume, Mask], **covariates: float) -> Subject:
    return Subject("MRN-1", ArrayScan(*lesion), covariates=covariates)


def small(volume: SUVVolume, mask: Mask, settings: RadiomicsSettings) -> radiomics.FeatureVector:
    """In place of the extraction, for tests of what is around it."""
    return radiomics.FeatureVector(("pet_dmax_mm", "pet_spread_mm"), np.array([580.0, mask.volume_ml]))


def test_distances_are_normalised_by_the_body_surface(
    lesion: tuple[SUVVolume, Mask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(radiomics, "extract", small)
    cache = Cache()
    known = radiomic_features(study_of(lesion, weight_kg=70.0, height_m=1.75), Region(), DEFAULT, cache)
    assert known["pet_dmax_per_bsa"] == pytest.approx(0.58 / 1.85, rel=5e-3)  # Du Bois: 1.85 m² for 70 kg and 175 cm
    unknown = radiomic_features(study_of(lesion, weight_kg=70.0), Region(), DEFAULT, cache)
    assert math.isnan(unknown["pet_dmax_per_bsa"])
    assert (cache.computed, cache.reused) == (1, 1)  # the patient's size is not part of what is stored


def test_features_are_kept_by_region_and_settings_and_refusals_with_them(
    lesion: tuple[SUVVolume, Mask], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(radiomics, "extract", small)
    cache = Cache(tmp_path)
    volume, mask = lesion
    drawn, undrawn = study_of(lesion), Subject("MRN-2", ArrayScan(volume))
    regions = [Region(), Region("threshold"), Region("relative")]
    volumes = [radiomic_features(drawn, region, DEFAULT, cache)["pet_spread_mm"] for region in regions]
    voxel_ml, hottest = volume.geometry.voxel_volume_ml, volume.array[mask.array].max()
    above = [mask.array, volume.array > 4.0, mask.array & (volume.array >= 0.41 * hottest)]
    assert volumes == pytest.approx([one.sum() * voxel_ml for one in above])
    layers = [radiomic_features(drawn, Region(), DEFAULT, cache, change=c)["pet_spread_mm"] for c in CHANGES]
    assert layers[0] < volumes[0] < layers[1]
    radiomic_features(drawn, Region(), replace(DEFAULT, bin_width_suv=0.25), cache)
    assert cache.computed == 6
    for _ in range(2):
        with pytest.raises(UnusableScanError, match="has no contour") as caught:
            radiomic_features(undrawn, Region(), DEFAULT, cache)
        assert caught.value.code is Code.CONTOUR_MISSING
    assert (cache.computed, cache.reused) == (7, 1)


def test_a_missing_codec_is_not_kept_as_if_it_were_the_scans_fault(
    lesion: tuple[SUVVolume, Mask], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_codec(scan: ArrayScan) -> SUVVolume:
        raise UnusableScanError(Code.CODEC_MISSING, "JPEG 2000 needs a decoder")

    cache = Cache()
    with monkeypatch.context() as before:
        before.setattr(ArrayScan, "suv", without_codec)
        with pytest.raises(UnusableScanError, match="JPEG 2000"):
            radiomic_features(study_of(lesion), Region(), DEFAULT, cache)
    monkeypatch.setattr(radiomics, "extract", small)
    assert radiomic_features(study_of(lesion), Region(), DEFAULT, cache)["pet_dmax_mm"] == 580.0


def test_packed_features_come_back() -> None:
    vector = radiomics.FeatureVector(("a", "b"), np.array([1.0, np.nan]))
    again = unpack(pack(vector))
    assert again.names == vector.names
    np.testing.assert_array_equal(again.values, vector.values)


def test_without_mirp_the_extra_is_named(lesion: tuple[SUVVolume, Mask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mirp", None)
    with pytest.raises(EnvironmentFailure, match=r"twobe3\[radiomics\]") as caught:
        extract(*lesion, DEFAULT)
    assert caught.value.code is Code.EXTRA_MISSING


def test_features_of_a_real_tumour(mirp: Any, real_data: Path) -> None:
    """Volume and SUV of STS_001 as its independently converted files have them."""
    folder = real_data / "sts" / "nifti" / "STS_001"
    volume, mask = read_sts(folder)
    found = extract(volume, mask, DEFAULT)
    inside = volume.array[mask.array]
    assert found["pet_suv_max"] == pytest.approx(inside.max())
    assert found["pet_mtv_ml"] == pytest.approx(inside.size * 4.6875**2 * 3.27 / 1000, rel=1e-5)
    assert found["morph_vol_approx"] / 1000 == pytest.approx(found["pet_mtv_ml"], rel=0.02)
    assert found["stat_mean"] == pytest.approx(found["pet_suv_mean"], rel=0.02)
    assert found["loc_peak_glob"] == pytest.approx(found["pet_suv_peak"], rel=0.05)
    assert np.isfinite(found.values).all()


def read_sts(folder: Path) -> tuple[SUVVolume, Mask]:
    suv, geometry = read_nifti(folder / "PET_image.nii.gz")
    labels, _ = read_nifti(folder / "PET_mask.nii.gz")
    return SUVVolume(suv, geometry, SUVCalibration("bw", "TEST", 1, 1)), Mask(labels > 0, geometry)


SHAPE = (15, 15, 15)
SPEC = Grid((4.0,) * 3, (60.0,) * 3)
BALL = np.linalg.norm(np.indices(SHAPE) - 7.0, axis=0) < 3.5
# What depends on which value lies where: centre of mass, autocorrelation, and the peak, a mean over a sphere.
OF_PLACES = ("morph_com", "morph_moran_i", "morph_geary_c", "pet_suv_peak")
TEXTURE = ("cm_", "rlm_", "szm_", "dzm_", "ngt_", "ngl_")


def ball_scan(inside: npt.NDArray[np.float64]) -> ArrayScan:
    """A ball with these values in an image of SUV 1."""
    affine = np.eye(4)
    affine[:3, :3] = 4.0 * np.fliplr(np.eye(3))
    geometry, array = Geometry(SHAPE, affine), np.ones(SHAPE, np.float32)
    array[BALL] = inside
    return ArrayScan(SUVVolume(array, geometry, SUVCalibration("bw", "TEST", 1, 1)), Mask(BALL, geometry, "ball"))


def gradient(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Values that rise smoothly through the ball."""
    place = np.argwhere(BALL) @ rng.normal(size=3)
    values = np.empty(len(place))
    values[np.argsort(place)] = np.linspace(3.0, 12.0, len(place))
    return values


def test_the_values_of_the_region_stay_and_everything_outside_does() -> None:
    scan = ball_scan(gradient(np.random.default_rng(0)))
    assert scan.region is not None
    shuffled = shuffle_voxels(scan.volume, scan.region, "seed").array
    np.testing.assert_array_equal(np.sort(shuffled[BALL]), np.sort(scan.volume.array[BALL]))
    np.testing.assert_array_equal(shuffled[~BALL], scan.volume.array[~BALL])
    assert (shuffled[BALL] != scan.volume.array[BALL]).mean() > 0.9
    again, other = (shuffle_voxels(scan.volume, scan.region, seed).array for seed in ("seed", "another"))
    np.testing.assert_array_equal(shuffled, again)
    assert (shuffled != other).any()


def test_shape_and_histogram_have_their_features_and_texture_has_others(mirp: Any) -> None:
    scan = ball_scan(gradient(np.random.default_rng(0)))
    assert scan.region is not None
    settings = RadiomicsSettings(spacing_mm=None)
    before = extract(scan.volume, scan.region, settings)
    after = extract(shuffle_voxels(scan.volume, scan.region, "seed"), scan.region, settings)
    assert after.names == before.names
    kept = [name for name in before.names if name.startswith(("morph_", "stat_", "ih_", "ivh_", "pet_"))]
    kept = [name for name in kept if name not in OF_PLACES]
    assert len(kept) > 70
    assert [after[name] for name in kept] == pytest.approx([before[name] for name in kept], abs=1e-6, nan_ok=True)
    texture = [name for name in before.names if name.startswith(TEXTURE)]
    changed = [name for name in texture if after[name] != pytest.approx(before[name])]
    assert len(changed) > 0.8 * len(texture)
    assert all(after[name] != pytest.approx(before[name]) for name in OF_PLACES)
    assert after["cm_contrast"] > 2.0 * before["cm_contrast"]  # neighbours of a gradient are alike


def test_a_scan_is_shuffled_the_same_way_in_any_company(mirp: Any) -> None:
    first, second = (Subject(f"P{i}", ball_scan(gradient(np.random.default_rng(i)))) for i in range(2))
    where, how = Region("contour"), RadiomicsSettings()

    def features(*subjects: Subject) -> list[list[float]]:
        cache = Cache()
        found = [radiomic_features(subject, where, how, cache, voxels="shuffled") for subject in subjects]
        return [list(one.values) for one in found]

    np.testing.assert_array_equal(features(first, second), features(second, first)[::-1])


def test_measured_voxels_keep_their_place_in_the_cache() -> None:
    scan, where, how = ball_scan(gradient(np.random.default_rng(0))), Region("contour"), RadiomicsSettings()
    assert radiomics_key(scan, where, how) == radiomics_key(scan, where, how, "none", "measured")
    assert radiomics_key(scan, where, how) != radiomics_key(scan, where, how, "none", "shuffled")


def test_a_label_that_rests_on_texture_alone_is_found_in_measured_voxels_and_not_in_shuffled_ones(
    mirp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(radiomics, "IBSI_FAMILIES", ("stat", "cm"))  # the others take most of the time
    rng = np.random.default_rng(5)
    rough = rng.permutation(np.arange(28) % 2).astype(np.bool_)
    subjects = []
    for i, one in enumerate(rough):
        values = gradient(rng)
        subjects.append(Subject(f"P{i:02d}", ball_scan(rng.permutation(values) if one else values)))
    outcomes = Outcomes(Binary("rough", "rough"), tuple(s.patient_id for s in subjects), rough.astype(float), rough)
    cohort, cache = Cohort(tuple(subjects), (outcomes,), SPEC), Cache()
    models = [RadiomicsModel(voxels=voxels, max_features=3, cache=cache) for voxels in ("measured", "shuffled")]
    # Other patients are tested: in a cross-validation of noise the tested part leans against the training part.
    scheme = PredefinedSplit(cohort.patients[:14], cohort.patients[14:], by="patient")
    result = cross_validate(models, cohort, cv=scheme, resamples=200)
    measured, shuffled = (evaluation.metrics[0] for evaluation in result.evaluations)
    assert (measured.name, measured.value) == ("auc", 1.0)
    assert shuffled.low < 0.5 < shuffled.high
