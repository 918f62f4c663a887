from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

import twobe3 as tb
from twobe3.core.grid import Grid, resample
from twobe3.phantom import PhantomSpec, make_patient
from twobe3.phantom.atlas import HEIGHT_M, Arms
from twobe3.report.faces import find_face, hide_face

SPACING_MM = (4.0, 4.0, 4.0)
HEAD_MM, SHOULDERS_MM = 215.0, 380.0  # of the phantom from the vertex, for the atlas' height
SKIN_MM = 20.0  # at least so far behind the skin begins what is still shown

Array = npt.NDArray[np.float32]


class Body:
    """A phantom on a grid, and how many slices from its vertex a level of the atlas lies."""

    def __init__(self, seed: int, arms: Arms, spacing_mm: tuple[float, float, float] = SPACING_MM) -> None:
        patient = make_patient(seed, spec=PhantomSpec(arms=arms))
        self.suv = resample(patient.volume, Grid(spacing_mm, (1200.0, 512.0, 512.0))).array
        self.spacing_mm = spacing_mm
        self.scale = patient.subject.height_m / HEIGHT_M / spacing_mm[0]
        # the vertex is looked for in the middle, for raised arms reach higher
        middle = slice(*(int(share * self.suv.shape[2]) for share in (0.47, 0.53)))
        self.vertex = int(np.flatnonzero((self.suv[:, :, middle] > 0.3).any(axis=(1, 2))).max()) + 1

    def level(self, mm: float) -> int:
        return self.vertex - round(mm * self.scale)


def skin(suv: Array, *, smooth: bool) -> npt.NDArray[np.float64]:
    """The first row from the front that is no air, for each slice and column; infinite where there is none."""
    seen = (ndimage.gaussian_filter(suv, 1.0) if smooth else suv) > 0.2
    return np.where(seen.any(axis=1), seen.argmax(axis=1), np.inf)


def assert_no_face(suv: Array, spacing_mm: tuple[float, float, float], head: slice) -> None:
    before, after = skin(suv, smooth=True)[head], skin(hide_face(suv, spacing_mm), smooth=False)[head]
    seen = np.isfinite(before)
    assert seen.sum() > 500
    assert ((after[seen] - before[seen]) * spacing_mm[1]).min() >= SKIN_MM


@pytest.fixture(scope="module", params=[(100, "up"), (101, "down"), (103, "down")], ids=["up", "down", "slim"])
def body(request: pytest.FixtureRequest) -> Body:
    return Body(*request.param)


def test_no_ray_from_the_front_meets_the_skin_of_the_head(body: Body) -> None:
    assert_no_face(body.suv, SPACING_MM, slice(body.level(HEAD_MM), body.vertex))


def test_trunk_and_the_inner_brain_stay(body: Body) -> None:
    face = find_face(body.suv, SPACING_MM)
    assert not face[: body.level(SHOULDERS_MM)].any()
    head = body.suv[body.level(HEAD_MM) :]
    assert hide_face(body.suv, SPACING_MM)[body.level(HEAD_MM) :].max() > 0.7 * head.max()


@pytest.mark.parametrize(
    ("above_mm", "below_mm"),
    [(110, 1200), (0, 230), (100, 300), (100, 330)],
    ids=["eyes-down", "head", "neck", "neck+"],
)
def test_no_face_where_the_view_cuts_the_body(body: Body, above_mm: float, below_mm: float) -> None:
    low, high = max(0, body.level(below_mm)), body.level(above_mm)
    assert_no_face(body.suv[low:high], SPACING_MM, slice(body.level(HEAD_MM) - low, high - low))


def test_a_view_that_cuts_the_sides_of_a_head() -> None:
    body = Body(100, "up")
    middle = slice(body.suv.shape[2] // 2 - 25, body.suv.shape[2] // 2 + 25)
    suv = body.suv[body.level(300) : body.level(100), middle, middle]
    assert_no_face(suv, SPACING_MM, slice(-20, None))


def test_voxels_need_not_be_cubes() -> None:
    body = Body(101, "down", (3.0, 5.0, 2.5))
    assert_no_face(body.suv, body.spacing_mm, slice(body.level(HEAD_MM), body.vertex))


def test_what_is_kept_stays_in_the_face() -> None:
    body = Body(101, "down")
    keep = np.zeros(body.suv.shape, np.bool_)
    keep[body.level(200) :, :50] = True
    shown = hide_face(body.suv, SPACING_MM, keep=keep)
    np.testing.assert_array_equal(shown[keep], body.suv[keep])
    np.testing.assert_array_equal(shown[~keep], hide_face(body.suv, SPACING_MM)[~keep])


def test_the_phantoms_trunk_has_no_face(body: Body) -> None:
    assert not find_face(body.suv[: body.level(SHOULDERS_MM)], SPACING_MM).any()


def test_air_has_no_face() -> None:
    assert not find_face(np.zeros((20, 20, 20), np.float32), SPACING_MM).any()


def test_a_real_scan_from_the_shoulders_down_is_left_alone(real_data: Path) -> None:
    scan = resample(tb.read_suv(real_data / "ge_whole_body" / "PET"), Grid(4.0, (1200.0, 512.0, 512.0)))
    assert not find_face(scan.array, SPACING_MM).any()


def test_hardly_a_real_limb_or_trunk_is_taken_for_a_head(real_data: Path) -> None:
    grid = Grid(4.0, (384.0, 320.0, 320.0))
    scans = sorted((real_data / "sts" / "dicom").iterdir())
    taken = [find_face(resample(tb.read_suv(scan / "PET"), grid).array, SPACING_MM).any() for scan in scans]
    assert len(taken) == 51
    assert sum(taken) <= 2
