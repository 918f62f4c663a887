"""Slices at their positions: what was rounded is read, what adds up to a misplacement is refused."""

from typing import Any

import numpy as np
import pytest

from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import Geometry
from twobe3.dicom.geometry import MOST_MISPLACED, Plane, stack_planes

ALONG_Z = np.array([0.0, 0.0, 1.0])
OBLIQUE = (np.cos(0.3), np.sin(0.3) * np.cos(0.2), np.sin(0.3) * np.sin(0.2))
TILTED = (0.0, np.cos(0.2), np.sin(0.2))


def even(step_mm: float, n: int, digits: int) -> np.ndarray:
    return np.round(-500.0 + step_mm * np.arange(n), digits)


def two_beds(first_mm: float, then_mm: float, n: int, seam_mm: float | None = None) -> np.ndarray:
    steps = [first_mm] * (n // 2) + [then_mm if seam_mm is None else seam_mm] + [then_mm] * (n - n // 2 - 2)
    return np.round(np.concatenate([[-500.0], -500.0 + np.cumsum(steps)]), 2)


def planes(positions_mm: np.ndarray, orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0)) -> list[Plane]:
    """Slices of 4 × 5 pixels at positions, shape (n, 3) in LPS mm, or (n,) along z."""
    if positions_mm.ndim == 1:
        positions_mm = positions_mm[:, None] * ALONG_Z
    return [Plane(4, 5, (2.0, 4.0), orientation, tuple(position)) for position in positions_mm.tolist()]


def largest_error_mm(geometry: Geometry, positions_mm: np.ndarray) -> float:
    """Between where a volume puts the slices and where they are."""
    if positions_mm.ndim == 1:
        positions_mm = positions_mm[:, None] * ALONG_Z
    there = geometry.to_mm([(i, 0, 0) for i in range(len(positions_mm))])
    return float(np.linalg.norm(there - positions_mm, axis=1).max())


@pytest.mark.parametrize(
    ("step_mm", "n", "digits"),
    [
        *((1.443, 200, 2), (1.443, 200, 1), (1.65, 200, 1), (0.796, 200, 2), (0.796, 120, 1), (0.2156, 200, 2)),
        *((0.2156, 90, 1), (2.78, 100, 0), (3.27, 267, 0), (4.07, 80, 0), (2.5, 90, 0), (5.0, 60, 0), (2.027, 400, 1)),
    ],
)
def test_positions_that_were_rounded_are_read(step_mm: float, n: int, digits: int) -> None:
    """Acceptance row 63: the affine is that of the even line, not of the first step."""
    geometry = stack_planes(planes(even(step_mm, n, digits)))
    assert geometry.spacing_mm[0] == pytest.approx(step_mm, abs=10.0**-digits / n)
    true_mm = -500.0 + step_mm * np.arange(n)
    assert largest_error_mm(geometry, true_mm) < 0.5 * 10.0**-digits


@pytest.mark.parametrize(
    ("positions_mm", "off_mm"),
    [
        (two_beds(3.20, 3.33, 80), 1.3),
        (two_beds(3.27, 3.42, 300), 5.6),
        (two_beds(2.0, 2.1, 120), 1.5),
        (-500 + np.cumsum(np.linspace(3.0, 3.4, 100)), 3.3),  # every step a little longer
        (two_beds(3.27, 3.27, 90, seam_mm=1.0), 1.1),  # the second bed overlaps the first
        (even(1.9, 60, 0), None),
    ],
)
def test_steps_that_add_up_are_refused(positions_mm: np.ndarray, off_mm: float | None) -> None:
    """Acceptance row 63: half of a triangle's height, which is n/4 times the difference of the steps."""
    with pytest.raises(UnusableScanError, match=r"GEOMETRY_MIXED.*by up to (\d+\.\d+) mm across") as refused:
        stack_planes(planes(positions_mm))
    stated_mm = float(str(refused.value).partition("by up to ")[2].split()[0])
    line = np.polynomial.Polynomial.fit(np.arange(len(positions_mm)), positions_mm, 1)
    assert stated_mm == pytest.approx(np.abs(line(np.arange(len(positions_mm))) - positions_mm).max(), abs=0.01)
    if off_mm is not None:
        assert stated_mm == pytest.approx(off_mm, abs=0.1)


def test_no_slice_is_further_from_its_place_than_stated() -> None:
    """Whatever the steps: what is read lies within a quarter of a step."""
    rng, outcomes = np.random.default_rng(0), []
    for spread_mm in np.linspace(0.0, 1.2, 300):
        positions_mm = np.sort(even(3.0, 12, 2) + rng.uniform(-spread_mm, spread_mm, 12))
        try:
            geometry = stack_planes(planes(positions_mm))
        except UnusableScanError as refusal:
            outcomes.append(refusal.code.name)
        else:
            assert largest_error_mm(geometry, positions_mm) <= MOST_MISPLACED * geometry.spacing_mm[0]
            outcomes.append("read")
    assert outcomes[:90] == ["read"] * 90  # up to 0.36 mm
    assert set(outcomes) == {"read", "SLICE_GAP", "GEOMETRY_MIXED"}


def test_a_slice_off_its_place_is_said_and_strictly_refused(bench: Any) -> None:
    """By 0.4 mm of four slices of 3 mm: the least-squares line is off by 0.28 mm, and ends at 0.12 and 0.24 mm."""
    slices = bench.slices()
    slices[1].ImagePositionPatient = [-10, -20, 103.4]
    volume = bench.read(slices)
    assert volume.geometry.affine[2].tolist() == pytest.approx([2.96, 0, 0, 100.16])
    assert volume.calibration.warnings == (
        "GEOMETRY_MIXED: slices were placed at equal steps of 2.960 mm; "
        "their positions are off by up to 0.28 mm across and 0.00 mm within the slices",
    )
    with pytest.raises(UnusableScanError, match="GEOMETRY_MIXED"):
        bench.read(slices, policy="strict")


def test_whole_millimetres_of_a_series_in_any_order(bench: Any) -> None:
    """Acceptance row 63, from files: every slice at its place, from the feet to the head."""
    stored = np.arange(40 * 30, dtype=np.uint16).reshape(40, 6, 5)
    slices = bench.slices(stored, step=(0, 0, -3.27))
    for dataset in slices:
        dataset.ImagePositionPatient[2] = round(dataset.ImagePositionPatient[2])
    volume = bench.read(slices[::3] + slices[1::3] + slices[2::3])
    assert volume.geometry.spacing_mm[0] == pytest.approx(3.27, abs=0.01)
    factor = 100 * 70e3 / 370e6 * 2 ** (3600 / 6586.2)
    np.testing.assert_allclose(volume.array, stored[::-1] * factor, rtol=1e-6)


@pytest.mark.parametrize("n", [6, 12, 79])
@pytest.mark.parametrize(("step_mm", "digits"), [(3.0, 2), (1.443, 1), (0.2156, 2), (3.27, 0), (2.4, 0)])
@pytest.mark.parametrize("which", ["second", "middle", "last but one"])
def test_one_slice_missing_is_a_gap_at_any_rounding(n: int, step_mm: float, digits: int, which: str) -> None:
    missing = {"second": 1, "middle": n // 2, "last but one": n - 2}[which]
    positions_mm = np.delete(even(step_mm, n, digits), missing)
    with pytest.raises(UnusableScanError, match=r"SLICE_GAP: 1 slice is missing") as refused:
        stack_planes(planes(positions_mm))
    assert f"between {positions_mm[missing - 1]:.2f} and {positions_mm[missing]:.2f} mm" in str(refused.value)


@pytest.mark.parametrize("digits", [3, 2, 1])
@pytest.mark.parametrize("sign", [1, -1])
def test_oblique_slices_may_be_rounded_too(digits: int, sign: int) -> None:
    across = np.cross(OBLIQUE, (0, 0, 1))
    orientation = (*OBLIQUE, *np.cross(across, OBLIQUE) / np.linalg.norm(across))
    normal = np.cross(orientation[:3], orientation[3:])
    true_mm = np.array([-80.0, -70.0, -300.0]) + sign * np.outer(3.27 * np.arange(60), normal)
    geometry = stack_planes(planes(np.round(true_mm, digits)[::sign], orientation))
    assert geometry.spacing_mm[0] == pytest.approx(3.27, abs=0.01)
    assert largest_error_mm(geometry, true_mm[::sign]) < 0.9 * 10.0**-digits


@pytest.mark.parametrize(("drift_mm", "code"), [(0.15, None), (0.3, None), (2.0, "SHEARED"), (30.0, "SHEARED")])
def test_a_drift_within_the_slices(drift_mm: float, code: str | None) -> None:
    """A table that runs askew: over 300 mm, on pixels of 2 and 4 mm."""
    along = np.linspace(0, 1, 101)
    positions_mm = np.column_stack([drift_mm * along, 0 * along, 300 * along])
    if code is None:
        assert largest_error_mm(stack_planes(planes(positions_mm)), positions_mm) <= drift_mm / 2 + 1e-3
    else:
        with pytest.raises(UnusableScanError, match=f"{code}.* drift sideways by {drift_mm:.1f} mm"):
            stack_planes(planes(positions_mm))


def test_a_tilted_gantry_is_refused() -> None:
    """Slices that lean by 0.2 radian and follow each other along z."""
    with pytest.raises(UnusableScanError, match="SHEARED"):
        stack_planes(planes(even(3.0, 40, 2), (1, 0, 0, *TILTED)))


def test_an_even_stack_keeps_its_first_and_last_position_to_the_bit() -> None:
    positions_mm = even(3.27, 90, 2)
    affine = stack_planes(planes(positions_mm)).affine
    assert (affine[2, 3], affine[2, 0]) == (-500.0, (positions_mm[-1] - positions_mm[0]) / 89)
