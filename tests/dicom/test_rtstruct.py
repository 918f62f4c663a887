"""Regions by the names that people typed, on planes that are not the slices of the scan."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from tests.drawn import FRAME, structure_set

from twobe3.core.errors import UnusableScanError
from twobe3.core.volume import Geometry, Mask
from twobe3.dicom.rtstruct import read_rtstruct
from twobe3.phantom.dicom_writer import PETHeader
from twobe3.phantom.rtstruct_writer import write_rtstruct

GEOMETRY = Geometry((4, 12, 12), np.diag([3.0, 3.0, 3.0, 1.0])[[2, 1, 0, 3]], "1.2.3")
RADIUS_MM = 20.0
HEADER = PETHeader(
    patient_id="P", sex="F", age_years=60, weight_kg=70.0, height_m=1.7, injected_dose_bq=3e8,
    injected=datetime(2020, 1, 1, 9), started=datetime(2020, 1, 1, 10),
)  # fmt: skip


def structures(path: Path, *names: str) -> Path:
    """A structure set whose n-th region is a block of n voxels on slice n - 1."""
    merged = None
    for number, name in enumerate(names, start=1):
        inside = np.zeros(GEOMETRY.shape, np.bool_)
        inside[number - 1, 3, 2 : 2 + number] = True
        one = pydicom.dcmread(write_rtstruct(Mask(inside, GEOMETRY, name), path, header=HEADER))
        one.StructureSetROISequence[0].ROINumber = one.ROIContourSequence[0].ReferencedROINumber = number
        if merged is None:
            merged = one
            continue
        merged.StructureSetROISequence.append(one.StructureSetROISequence[0])
        merged.ROIContourSequence.append(one.ROIContourSequence[0])
    assert merged is not None
    merged.save_as(path)
    return path


@pytest.mark.parametrize(
    ("roi", "voxels"), [(["GTV 1"], 1), (["gtv1"], 1), (["  GTV  1 ", "Node"], 3), (["Brain", "brain"], 3)]
)
def test_case_and_blanks_of_a_name_do_not_matter(roi: list[str], voxels: int, tmp_path: Path) -> None:
    mask = read_rtstruct(structures(tmp_path / "RS.dcm", "GTV 1", "node", "Brain"), GEOMETRY, roi=roi)
    assert mask.array.sum() == voxels


def test_the_very_name_goes_before_one_that_differs_in_case(tmp_path: Path) -> None:
    path = structures(tmp_path / "RS.dcm", "gtv", "GTV")
    assert [read_rtstruct(path, GEOMETRY, roi=name).array.sum() for name in ("gtv", "GTV", "Gtv")] == [1, 2, 1]


def test_a_name_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = structures(tmp_path / "RS.dcm", "GTV 1", "Brain")
    with pytest.raises(
        UnusableScanError, match="CONTOUR_UNUSABLE: there is no region 'GTV 2'; there are: GTV 1, Brain"
    ):
        read_rtstruct(path, GEOMETRY, roi=["GTV 1", "GTV 2"])


def circle(z: float, x: float = 0.0, radius_mm: float = RADIUS_MM) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return np.column_stack([x + radius_mm * np.cos(angle), radius_mm * np.sin(angle), np.full(72, z)])


def scan(step_mm: float, offset_mm: float = 0.0, frame: str = FRAME) -> Geometry:
    """80 mm of slices, one of whose centres lies at ``offset_mm``, of 60 × 60 pixels of 2 mm."""
    n = round(80 / step_mm)
    affine = np.array([[0, 0, 2, -59], [0, 2, 0, -59], [step_mm, 0, 0, offset_mm - step_mm * (n // 2)], [0, 0, 0, 1.0]])
    return Geometry((n, 60, 60), affine, frame)


def slices(mask: Mask) -> list[float]:
    """Positions of the slices that hold a part of a region, in mm."""
    return [round(mask.geometry.to_mm((k, 0, 0))[2], 3) for k in np.flatnonzero(mask.array.any(axis=(1, 2)))]


@pytest.mark.parametrize("plane_mm", [5.0, 3.0, 3.75, 1.0])
@pytest.mark.parametrize("slice_mm", [2.0, 1.65, 1.443, 3.27, 4.0])
def test_a_cylinder_keeps_its_volume_whatever_planes_and_slices(
    plane_mm: float, slice_mm: float, tmp_path: Path
) -> None:
    """Acceptance row 56."""
    planes = plane_mm * np.arange(round(30 / plane_mm)) - 15
    path = structure_set(tmp_path / "rs.dcm", {"GTV": [circle(z) for z in planes]})
    low, high = planes[0] - plane_mm / 2, planes[-1] + plane_mm / 2
    right_ml = np.pi * RADIUS_MM**2 * 30 / 1000
    volumes = []
    for share in (0.5, *np.arange(8) / 8):
        mask = read_rtstruct(path, scan(slice_mm, share * slice_mm))
        centres = [mask.geometry.to_mm((k, 0, 0))[2] for k in range(mask.geometry.shape[0])]
        clear = [z for z in centres if min(abs(z - low), abs(z - high)) > 0.11]  # nearer the stated tolerance decides
        assert [round(z, 3) for z in clear if low < z < high] == [z for z in slices(mask) if z in np.round(clear, 3)]
        assert abs(mask.volume_ml - right_ml) <= 1.01 * np.pi * RADIUS_MM**2 * slice_mm / 1000  # one slice
        assert mask.notes == ()
        volumes.append(mask.volume_ml)
    assert np.mean(volumes[1:]) == pytest.approx(right_ml, rel=0.03)


@pytest.mark.parametrize(
    "steps_mm",
    [
        [*[3] * 5, *[5] * 3],
        [*[5] * 3, *[3] * 5],
        [5, 5, *[3] * 6, 5, 5],
        [3, 3, *[5] * 4, 3, 3],
        [*[2] * 8, *[5] * 3],
    ],
)
@pytest.mark.parametrize("slice_mm", [2.0, 1.443, 3.27])
def test_a_cylinder_keeps_its_volume_on_planes_of_two_distances(
    steps_mm: list[float], slice_mm: float, tmp_path: Path
) -> None:
    planes = np.cumsum([-15.0, *steps_mm])
    path = structure_set(tmp_path / "rs.dcm", {"GTV": [circle(z) for z in planes]})
    right_ml = np.pi * RADIUS_MM**2 * (sum(steps_mm) + steps_mm[0] / 2 + steps_mm[-1] / 2) / 1000
    masks = [read_rtstruct(path, scan(slice_mm, share * slice_mm)) for share in np.arange(8) / 8]
    assert np.mean([mask.volume_ml for mask in masks]) == pytest.approx(right_ml, rel=0.03)
    wide = "CONTOUR_PLANES: of planes 2.00 mm apart 4 lie farther apart in a row: no gap, they are filled"
    assert masks[0].notes == ((f"{wide} (region 'GTV')",) if steps_mm[0] == 2 else ())


@pytest.mark.parametrize("step_mm", [1.0, 3.0, 4.0, 4.07283])
@pytest.mark.parametrize("decimals", [1, 2, 6])
def test_planes_half_a_slice_off_are_neither_lost_nor_doubled(step_mm: float, decimals: int, tmp_path: Path) -> None:
    planes = step_mm * np.arange(7)
    path = structure_set(tmp_path / "rs.dcm", {"GTV": [circle(z) for z in planes]}, decimals=decimals)
    for half in (0.5, -0.5, 0.0):
        assert len(slices(read_rtstruct(path, scan(step_mm, half * step_mm)))) == 7


def test_planes_are_sorted_and_those_stored_twice_within_noise_are_one(tmp_path: Path) -> None:
    planes = [6.0, 0.0, 3.0, 3.004, 9.0, -0.003]
    mask = read_rtstruct(structure_set(tmp_path / "rs.dcm", {"GTV": [circle(z) for z in planes]}), scan(1.0))
    assert slices(mask) == list(np.arange(-1, 11))
    assert mask.notes == ("CONTOUR_OVERLAP: 2 contours are stored twice and count once (region 'GTV')",)


def test_uneven_planes_reach_half_way_and_a_gap_stays_empty(tmp_path: Path) -> None:
    def covered(*planes: float) -> list[float]:
        return slices(
            read_rtstruct(structure_set(tmp_path / "rs.dcm", {"GTV": [circle(z) for z in planes]}), scan(1.0))
        )

    assert covered(0, 3, 7, 10, 13) == list(np.arange(-1, 15))  # 4 mm once
    assert covered(0, 3, 6, 20, 23) == [*np.arange(-1, 8), *np.arange(19, 25)]
    assert covered(0, 3, 6, 30) == [*np.arange(-1, 8), 29, 30, 31]
    mask = read_rtstruct(structure_set(tmp_path / "rs.dcm", {"G": [circle(z) for z in (0, 3, 9, 12)]}), scan(1.0))
    assert slices(mask) == [*np.arange(-1, 5), *np.arange(8, 14)]
    said = "CONTOUR_PLANES: of planes 3.00 mm apart 1 seems to be left out, and nothing is filled there (region 'G')"
    assert mask.notes == (said,)


def test_lesions_side_by_side_have_planes_of_their_own(tmp_path: Path) -> None:
    """One drawn on the CT, one on the PET: between two planes of the one lies a plane of the other."""
    left = [circle(z, x=-30, radius_mm=10) for z in (0, 3, 6)]
    right = [circle(z, x=30, radius_mm=10) for z in (1.5, 4.5, 7.5)]
    both = read_rtstruct(structure_set(tmp_path / "rs.dcm", {"GTV": left + right}), scan(1.0)).array
    alone = [read_rtstruct(structure_set(tmp_path / "rs.dcm", {"G": one}), scan(1.0)).array for one in (left, right)]
    np.testing.assert_array_equal(both, alone[0] | alone[1])
    assert both.any(axis=(1, 2)).sum() == 10


def test_single_planes_stand_for_what_they_say_or_for_a_slice(tmp_path: Path) -> None:
    far = [circle(0.4), circle(30.4)]
    mask = read_rtstruct(structure_set(tmp_path / "rs.dcm", {"GTV": far}), scan(2.0))
    assert slices(mask) == [0.0, 30.0]
    note = "CONTOUR_PLANES: it is drawn on single planes, each of which stands for 2.00 mm (region 'GTV')"
    assert mask.notes == (note,)
    mask = read_rtstruct(structure_set(tmp_path / "rs.dcm", {"GTV": far}, slab_mm=5.0), scan(2.0))
    assert slices(mask) == [-2.0, 0.0, 2.0, 28.0, 30.0, 32.0]


def test_what_falls_between_the_slices_is_said(tmp_path: Path) -> None:
    large = [circle(z, x=-30, radius_mm=10) for z in range(10)]
    small = [circle(z, x=30, radius_mm=10) for z in (1.6, 2.6)]
    mask = read_rtstruct(structure_set(tmp_path / "rs.dcm", {"GTV": large + small}), scan(4.0))
    assert mask.notes == ("CONTOUR_UNUSED: 1 of its 2 parts without a voxel of the scan (region 'GTV')",)


@pytest.mark.parametrize(
    ("spacing_mm", "origin_mm"),
    [
        ((3.0, 4.07283, 4.07283), (-81.4567, -79.1234, -11.77)),
        ((3.27, 2.734375, 2.734375), (-52.2515625, -51.1734375, -11.0)),
        ((1.65, 1.65, 1.65), (-33.1, -29.7, -11.0)),
        ((1.443, 1.0, 1.0), (-20.3, 7.77, 900.1)),
    ],
)
@pytest.mark.parametrize("decimals", [2, 4, 10])
def test_contours_through_centres_give_the_same_voxels_everywhere(
    spacing_mm: tuple[float, ...], origin_mm: tuple[float, ...], decimals: int, tmp_path: Path
) -> None:
    """Acceptance row 57."""
    affine = np.eye(4)[[2, 1, 0, 3]] @ np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = origin_mm
    geometry = Geometry((8, 40, 40), affine, FRAME)
    rng = np.random.default_rng(0)
    squares = {}
    for k in range(20):
        r, c = rng.integers(1, 34, 2)
        squares[f"{k}"] = [geometry.to_mm([(3, r, c), (3, r, c + 5), (3, r + 5, c + 5), (3, r + 5, c)])]
    path = structure_set(tmp_path / "rs.dcm", squares, decimals=decimals)
    assert {int(read_rtstruct(path, geometry, roi=name).array.sum()) for name in squares} == {36}


def test_an_oblique_scan_keeps_the_voxels_of_contours_on_its_slices(tmp_path: Path) -> None:
    a, b = np.deg2rad(20), np.deg2rad(-35)
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    turn = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = scan(3.0).affine.copy()
    affine[:3, :3] = turn @ tilt @ affine[:3, :3]
    geometry = Geometry((20, 60, 60), affine, FRAME)
    corners = np.array([(20, 20), (20, 29), (29, 29), (29, 20)])
    planes = [geometry.to_mm(np.insert(corners, 0, k, axis=1)) for k in range(5, 12)]
    mask = read_rtstruct(structure_set(tmp_path / "rs.dcm", {"GTV": planes}, decimals=3), geometry)
    expected = np.zeros(geometry.shape, np.bool_)
    expected[5:12, 20:30, 20:30] = True
    np.testing.assert_array_equal(mask.array, expected)


def test_what_is_not_closed_or_not_drawn_is_said(tmp_path: Path) -> None:
    path = structure_set(tmp_path / "rs.dcm", {"GTV": [circle(0), circle(3)], "empty": []})
    dataset = pydicom.dcmread(path)
    dataset.ROIContourSequence[0].ContourSequence[1].ContourGeometricType = "OPEN_PLANAR"
    dataset.save_as(path)
    assert read_rtstruct(path, scan(2.0)).notes == (
        "CONTOUR_UNUSED: 1 contour is not closed and not used (region 'GTV')",
        "CONTOUR_PLANES: it is drawn on single planes, each of which stands for 2.00 mm (region 'GTV')",
        "CONTOUR_UNUSED: nothing is drawn (region 'empty')",
    )
    assert read_rtstruct(path, scan(2.0), roi="GTV").name == "GTV"
