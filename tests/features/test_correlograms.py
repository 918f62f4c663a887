"""Correlograms and hottest voxels against sums written out, on images of which everything is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from twobe3.cohort.cohort import Cohort
from twobe3.core.grid import Grid, resample
from twobe3.features.correlograms import (
    COLUMNS_OF_AXIS,
    HOT_VOLUMES_ML,
    LAGS_MM,
    PARTS,
    SMOOTHING_MM,
    STEP_MM,
    bin_lags,
    correlogram,
    crop_empty,
    extract_spatial_features,
    hottest_means,
    profile_excess,
    spatial_features,
)
from twobe3.features.stacks import FLOOR_SUV
from twobe3.io.cache import Cache
from twobe3.scans.find import find_series, read_suv

Shape = tuple[int, int, int]
BINS = len(LAGS_MM)
# Where the columns of an axis begin: of the maxima, of the means, of both.
HOT, MILD, CROSS = 0, 1 + BINS, 2 * (1 + BINS)

BEYOND_WIDTH = LAGS_MM > 6 * SMOOTHING_MM  # bins that a single lesion's own width does not reach


def of_axis(features: np.ndarray, axis: int) -> np.ndarray:
    return features[axis * COLUMNS_OF_AXIS :][:COLUMNS_OF_AXIS]


def nearest_bins(lag_mm: float) -> set[int]:
    """The bins between whose peaks a lag lies."""
    above = int(np.searchsorted(LAGS_MM, lag_mm))
    return {above - 1, above}


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(0).gamma(0.5, 4.0, (48, 16, 24)).astype(np.float32)


@pytest.mark.parametrize("spacing_mm", [2.0, 4.0, 5.0])
@pytest.mark.parametrize("distance_mm", [40.0, 120.0, 260.0])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_two_lesions_give_a_peak_in_the_bin_of_their_distance(axis: int, distance_mm: float, spacing_mm: float) -> None:
    image = np.full((round(500 / spacing_mm), 9, 9), 0.2)
    for at_mm in (100.0, 100.0 + distance_mm):
        image[round(at_mm / spacing_mm), 4, 4] = 5.0
    spacing = [7.0, 7.0]
    spacing.insert(axis, spacing_mm)
    found = of_axis(spatial_features(np.moveaxis(image, 0, axis), (spacing[0], spacing[1], spacing[2])), axis)
    for profile in (HOT, MILD):
        bins = found[profile + 1 :][:BINS]
        apart = np.where(BEYOND_WIDTH, bins, 0.0)
        assert apart.argmax() in nearest_bins(distance_mm)
        assert set(np.flatnonzero(apart > 0.1 * apart.max())) == nearest_bins(distance_mm)


def test_the_cross_correlogram_tells_on_which_side_of_what_is_hot_the_mild_lies() -> None:
    image = np.full((100, 20, 20), 0.2)
    image[60:64] = 1.0  # a mild organ, as wide as the image
    image[40, 10, 10] = 5.0  # a lesion, 22 slices of 4 mm footwards
    found = of_axis(spatial_features(image, (4.0, 4.0, 4.0)), 0)[CROSS + 1 :]
    ahead, behind = found[:BINS], found[BINS:]
    assert np.where(BEYOND_WIDTH, ahead, 0.0).argmax() in nearest_bins(22 * 4.0)
    assert ahead[BEYOND_WIDTH].max() > 20 * behind[BEYOND_WIDTH].max()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_in_a_mirror_the_two_directions_are_exchanged_and_nothing_else_changes(axis: int, volume: np.ndarray) -> None:
    spacing_mm = (3.0, 5.5, 4.0)
    seen, mirrored = (spatial_features(image, spacing_mm) for image in (volume, np.flip(volume, axis)))
    cross = of_axis(seen, axis)[CROSS + 1 :]  # a view
    assert np.abs(cross[:BINS] - cross[BINS:]).max() > 0.01
    cross[:] = np.roll(cross, BINS)
    np.testing.assert_allclose(mirrored, seen, atol=1e-12)


def test_a_correlogram_is_the_sum_of_products_over_all_pairs_of_a_lag() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 30))
    found = correlogram(first, second)
    for lag in range(30):
        pairs = sum(first[z] * second[z + lag] for z in range(30 - lag))
        assert found[lag] == pytest.approx(pairs / np.sqrt((first @ first) * (second @ second)))
    assert correlogram(first, first)[0] == pytest.approx(1.0)
    assert found.max() <= 1.0  # Cauchy and Schwarz


def test_a_bin_holds_the_mean_about_its_peak_and_0_beyond_the_profile() -> None:
    lags = np.arange(200) * STEP_MM
    np.testing.assert_allclose(bin_lags(np.ones(200)), 1.0)
    # Triangles in the logarithm of the lag, by hand: scipy's hat is a B-spline of degree 1.
    values = np.random.default_rng(2).random(200)
    ratio = np.log(LAGS_MM[1] / LAGS_MM[0])
    for found, peak in zip(bin_lags(values), LAGS_MM, strict=True):
        distance = np.abs(np.log(lags[1:] / peak)) / ratio
        weights = np.where((distance < 1) & (lags[1:] >= LAGS_MM[0]) & (lags[1:] <= LAGS_MM[-1]), 1 - distance, 0)
        assert found == pytest.approx(np.average(values[1:], weights=weights))
    short = bin_lags(np.ones(15))  # up to 56 mm
    last = max(nearest_bins(56.0))
    np.testing.assert_allclose(short[: last - 1], 1.0)
    assert (short[last - 1 : last + 1] < 1.0).all()
    assert (short[last + 1 :] == 0).all()


def test_a_profile_is_read_above_its_median_at_the_same_points_whatever_the_spacing() -> None:
    def profile(z_mm: np.ndarray) -> np.ndarray:
        return 1.0 + 3.0 * np.exp(-((z_mm - 200.0) ** 2) / (2 * 20.0**2))

    coarse, fine = (profile_excess(profile(np.arange(0, 401, spacing)), spacing) for spacing in (5.0, 2.0))
    assert len(coarse) == len(fine) == 101
    np.testing.assert_allclose(coarse, fine, atol=0.03)
    # Two Gaussians one after the other are one whose variances add up.
    width = np.hypot(20.0, SMOOTHING_MM)
    z_mm = np.arange(101) * STEP_MM
    smooth = 3.0 * 20.0 / width * np.exp(-((z_mm - 200.0) ** 2) / (2 * width**2))
    np.testing.assert_allclose(fine, np.maximum(smooth - np.median(smooth), 0.0), atol=0.01)


@pytest.mark.parametrize("spacing_mm", [(4.0, 4.0, 4.0), (3.0, 5.5, 4.0), (16.0, 20.0, 20.0)])
def test_hottest_means_are_numpys(spacing_mm: tuple[float, float, float], volume: np.ndarray) -> None:
    voxel_ml = np.prod(spacing_mm) / 1000.0
    ordered = np.sort(volume.ravel().astype(float))[::-1]
    for mean, wanted_ml in zip(hottest_means(volume.astype(float), voxel_ml), HOT_VOLUMES_ML, strict=True):
        whole, part = divmod(wanted_ml / voxel_ml, 1.0)
        whole = int(whole)
        uptake = ordered[:whole].sum() + (part * ordered[whole] if whole < len(ordered) else 0.0)
        assert mean == pytest.approx(uptake * voxel_ml / wanted_ml)
    assert spatial_features(volume, spacing_mm)[-8] == pytest.approx(
        np.log(hottest_means(volume.astype(float), voxel_ml)[0] + FLOOR_SUV)
    )


def test_empty_slices_around_the_image_change_nothing(volume: np.ndarray) -> None:
    padded = np.pad(volume, [(3, 8), (0, 5), (2, 1)])
    np.testing.assert_array_equal(crop_empty(padded.astype(float)), volume)
    spacing_mm = (4.0, 3.0, 5.0)
    np.testing.assert_array_equal(spatial_features(padded, spacing_mm), spatial_features(volume, spacing_mm))


def test_twice_the_uptake_changes_no_correlogram(volume: np.ndarray) -> None:
    one, two = (spatial_features(volume * factor, (4.0, 3.0, 5.0)) for factor in (1.0, 2.0))
    bins = np.ones(len(one), dtype=bool)
    bins[-8:] = False
    for axis in range(3):
        bins[axis * COLUMNS_OF_AXIS + np.array([HOT, MILD])] = False
    np.testing.assert_allclose(two[bins], one[bins], atol=1e-7)
    assert (two[~bins] > one[~bins]).all()


@pytest.mark.parametrize("value", [0.0, 0.3, 7.0])
@pytest.mark.parametrize("shape", [(1, 1, 1), (8, 1, 3), (40, 30, 30)])
def test_an_image_that_is_the_same_everywhere_has_no_correlogram(shape: Shape, value: float) -> None:
    found = spatial_features(np.full(shape, value, np.float32), (4.0, 4.0, 4.0))
    assert len(found) == sum(PARTS.values()) == 137
    at_floor = np.log(FLOOR_SUV)
    for axis in range(3):
        columns = of_axis(found, axis)
        assert columns[[HOT, MILD]] == pytest.approx([at_floor] * 2)
        assert (np.delete(columns, [HOT, MILD]) == 0).all()
    share = np.minimum(np.prod(shape) * 0.064 / HOT_VOLUMES_ML, 1.0)
    np.testing.assert_allclose(found[-8:], np.log(value * share + FLOOR_SUV), rtol=1e-6)


def test_values_below_0_count_as_0(volume: np.ndarray) -> None:
    below = np.where(volume < 0.5, -volume, volume)
    spacing_mm = (4.0, 4.0, 4.0)
    np.testing.assert_array_equal(
        spatial_features(below, spacing_mm), spatial_features(np.maximum(below, 0), spacing_mm)
    )


@pytest.mark.parametrize("grid_mm", [4.0, 8.0])
def test_a_real_whole_body_has_features_that_hardly_depend_on_its_grid(grid_mm: float, real_data: Path) -> None:
    """And no warning, which is an error; the scan's own voxels are compared with those of a grid."""
    (series,) = find_series([real_data / "ge_whole_body"]).series
    scan = read_suv(series)
    own = spatial_features(scan.array, scan.geometry.spacing_mm)
    grid = Grid(grid_mm, (1280.0, 768.0, 768.0))
    moved = spatial_features(resample(scan, grid).array, grid.spacing_mm)
    assert np.isfinite(own).all()
    assert np.corrcoef(own, moved)[0, 1] > 0.99


def test_features_are_kept_and_depend_on_scan_and_grid_alone(make_cohort: Callable[..., Cohort]) -> None:
    cohort, cache = make_cohort(3), Cache()
    first = [extract_spatial_features(cohort, subject, cache) for subject in cohort.subjects]
    again = [extract_spatial_features(cohort, subject, cache) for subject in cohort.subjects]
    np.testing.assert_array_equal(again, first)
    assert (cache.computed, cache.reused) == (3, 3)
    expected = spatial_features(cohort.volume(cohort.subjects[1]), cohort.grid.spacing_mm)
    np.testing.assert_array_equal(first[1], expected)
