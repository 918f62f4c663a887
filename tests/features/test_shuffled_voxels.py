"""Radiomic features of shuffled voxels: volume, shape and histogram stay, texture goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.cohort.splits import PredefinedSplit
from twobe3.core.endpoints import Binary
from twobe3.core.grid import Grid
from twobe3.core.outcomes import Outcomes
from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.features import radiomics
from twobe3.features.radiomics import RadiomicsSettings, extract, radiomic_features, radiomics_key, shuffle_voxels
from twobe3.io.cache import Cache
from twobe3.models import RadiomicsModel
from twobe3.scans.regions import Region
from twobe3.scans.scan import ArrayScan
from twobe3.validation.cross_validate import cross_validate

SHAPE = (15, 15, 15)
SPEC = Grid((4.0,) * 3, (60.0,) * 3)
BALL = np.linalg.norm(np.indices(SHAPE) - 7.0, axis=0) < 3.5
# What depends on which value lies where: centre of mass, autocorrelation, and the peak, a mean over a sphere.
OF_PLACES = ("morph_com", "morph_moran_i", "morph_geary_c", "pet_suv_peak")
TEXTURE = ("cm_", "rlm_", "szm_", "dzm_", "ngt_", "ngl_")


@pytest.fixture(scope="module")
def mirp() -> Any:
    return pytest.importorskip("mirp", reason="MIRP is not installed: pip install 'twobe3[radiomics]'")


def scan_of(inside: npt.NDArray[np.float64]) -> ArrayScan:
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
    scan = scan_of(gradient(np.random.default_rng(0)))
    assert scan.region is not None
    shuffled = shuffle_voxels(scan.volume, scan.region, "seed").array
    np.testing.assert_array_equal(np.sort(shuffled[BALL]), np.sort(scan.volume.array[BALL]))
    np.testing.assert_array_equal(shuffled[~BALL], scan.volume.array[~BALL])
    assert (shuffled[BALL] != scan.volume.array[BALL]).mean() > 0.9
    again, other = (shuffle_voxels(scan.volume, scan.region, seed).array for seed in ("seed", "another"))
    np.testing.assert_array_equal(shuffled, again)
    assert (shuffled != other).any()


def test_shape_and_histogram_have_their_features_and_texture_has_others(mirp: Any) -> None:
    scan = scan_of(gradient(np.random.default_rng(0)))
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
    first, second = (Subject(f"P{i}", scan_of(gradient(np.random.default_rng(i)))) for i in range(2))
    where, how = Region("contour"), RadiomicsSettings()

    def features(*subjects: Subject) -> list[list[float]]:
        cache = Cache()
        found = [radiomic_features(subject, where, how, cache, voxels="shuffled") for subject in subjects]
        return [list(one.values) for one in found]

    np.testing.assert_array_equal(features(first, second), features(second, first)[::-1])


def test_measured_voxels_keep_their_place_in_the_cache() -> None:
    scan, where, how = scan_of(gradient(np.random.default_rng(0))), Region("contour"), RadiomicsSettings()
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
        subjects.append(Subject(f"P{i:02d}", scan_of(rng.permutation(values) if one else values)))
    outcomes = Outcomes(Binary("rough", "rough"), tuple(s.patient_id for s in subjects), rough.astype(float), rough)
    cohort, cache = Cohort(tuple(subjects), (outcomes,), SPEC), Cache()
    models = [RadiomicsModel(voxels=voxels, max_features=3, cache=cache) for voxels in ("measured", "shuffled")]
    # Other patients are tested: in a cross-validation of noise the tested part leans against the training part.
    scheme = PredefinedSplit(cohort.patients[:14], cohort.patients[14:], by="patient")
    result = cross_validate(models, cohort, cv=scheme, resamples=200)
    measured, shuffled = (evaluation.metrics[0] for evaluation in result.evaluations)
    assert (measured.name, measured.value) == ("auc", 1.0)
    assert shuffled.low < 0.5 < shuffled.high
