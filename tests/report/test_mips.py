from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.core.mip import mip, png
from twobe3.io.cache import Cache
from twobe3.report.mips import colour_map, draw, draw_ct, outline
from twobe3.report.stored_scans import StoredScan, read_map, read_scan


def test_head_is_on_top_and_the_patients_left_on_the_right() -> None:
    suv = np.zeros((6, 5, 4), dtype=np.float32)
    suv[5, 2, 3] = 7.0  # the uppermost slice, the patient's left
    suv[0, 4, 0] = 3.5  # the lowest slice, the patient's right, at the back
    grey = mip(suv, "front")
    assert grey.shape == (6, 4)
    assert grey[0, 3] == 0
    assert grey[5, 0] == pytest.approx(255 / 2, abs=1)
    assert (grey == 255).sum() == 6 * 4 - 2


def test_from_the_left_the_front_is_on_the_left() -> None:
    suv = np.zeros((6, 5, 4), dtype=np.float32)
    suv[5, 0, 3] = 7.0  # the uppermost slice, in front
    grey = mip(suv, "side")
    assert grey.shape == (6, 5)
    assert np.argwhere(grey == 0).tolist() == [[0, 0]]


def test_depth_is_projected_by_its_maximum() -> None:
    suv = np.zeros((1, 3, 1), dtype=np.float32)
    suv[0, :, 0] = 1.0, 5.0, 2.0
    assert mip(suv, "front")[0, 0] == round(255 * (1 - 5 / 7))


def test_window_saturates_at_seven_and_below_zero() -> None:
    suv = np.array([-1.0, 0.0, 7.0, 30.0], dtype=np.float32).reshape(1, 1, 4)
    assert mip(suv, "front").tolist() == [[255, 255, 0, 0]]


def test_png_is_read_back_by_another_decoder() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (13, 7), dtype=np.uint8)
    np.testing.assert_array_equal(imread(io.BytesIO(png(grey))), grey)


def segments(path: str) -> set[tuple[float, float, float, float]]:
    """The segments of an outline, (x, y) to (x, y)."""
    found = re.findall(r"M([\d.]+) ([\d.]+)([HV])([\d.]+)", path)
    assert "".join(f"M{x} {y}{way}{end}" for x, y, way, end in found) == path
    numbers = [(float(x), float(y), way, float(end)) for x, y, way, end in found]
    return {(x, y, end, y) if way == "H" else (x, y, x, end) for x, y, way, end in numbers}


def test_the_outline_of_a_box_has_its_four_sides() -> None:
    inside = np.zeros((5, 6), np.bool_)
    inside[1:4, 2:4] = True
    # pixels are 2 mm wide and 3 mm high: the box reaches from x 4 to 8 mm and from y 3 to 12 mm
    assert segments(outline(inside, 3.0, 2.0)) == {(4, 3, 8, 3), (4, 12, 8, 12), (4, 3, 4, 12), (8, 3, 8, 12)}


def test_the_outline_reaches_the_border_and_goes_around_holes() -> None:
    inside = np.ones((3, 3), np.bool_)
    assert segments(outline(inside, 1.0, 1.0)) == {(0, 0, 3, 0), (0, 3, 3, 3), (0, 0, 0, 3), (3, 0, 3, 3)}
    inside[1, 1] = False
    assert len(segments(outline(inside, 1.0, 1.0))) == 8
    assert outline(np.zeros((3, 3), np.bool_), 1.0, 1.0) == ""


def test_a_picture_has_its_true_size(study: Path) -> None:
    scan = read_scan(study, "volume-9.safetensors")  # 6 × 5 × 4 voxels of 4, 5 and 6 mm
    front, side = draw(scan, "front"), draw(scan, "side")
    assert (front.width_mm, front.height_mm, front.ends) == (24.0, 24.0, ("R", "L"))
    assert (side.width_mm, side.height_mm, side.ends) == (25.0, 24.0, ("A", "P"))
    kind, data = front.data_uri.split(",")
    assert kind == "data:image/png;base64"
    assert (imread(io.BytesIO(base64.b64decode(data))) == 0).all()  # SUV 9 everywhere
    # the contour fills slices 1 and 2, rows 2 and 3, column 1; slice 5 is on top
    assert segments(front.outline) == {(6, 12, 12, 12), (6, 20, 12, 20), (6, 12, 6, 20), (12, 12, 12, 20)}
    assert segments(side.outline) == {(10, 12, 20, 12), (10, 20, 20, 20), (10, 12, 10, 20), (20, 12, 20, 20)}


def test_a_scan_without_a_contour_or_with_an_empty_one_has_no_outline(study: Path) -> None:
    assert read_scan(study, "volume-0.safetensors").contour is None
    empty = {"contour": np.zeros((6, 5, 4), np.uint8)}
    Cache(study / "contours").put("volume-0", empty, metadata={"spacing_mm": "[4.0, 5.0, 6.0]"})
    assert draw(read_scan(study, "volume-0.safetensors"), "front").outline == ""


def test_a_volume_that_was_deleted_has_a_remedy(study: Path) -> None:
    (study / "volumes" / "volume-4.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="volumes/volume-4") as caught:
        read_scan(study, "volume-4.safetensors")
    assert caught.value.code is Code.ARTEFACT_MISSING
    assert "`twobe3 run` makes again" in caught.value.remedy


@pytest.mark.parametrize("damage", ["empty", "no tensor", "a bit", "another contour"])
def test_a_damaged_contour_is_named(study: Path, damage: str) -> None:
    path = study / "contours" / "volume-4.safetensors"
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    other = path.with_name("volume-5.safetensors").read_bytes()
    path.write_bytes({"empty": b"", "no tensor": b"no tensor", "a bit": flipped, "another contour": other}[damage])
    with pytest.raises(EnvironmentFailure, match="contours/volume-4") as caught:
        read_scan(study, "volume-4.safetensors")
    assert caught.value.code is Code.ARTEFACT_DAMAGED


def test_a_contour_of_another_shape_is_refused(study: Path) -> None:
    other = {"contour": np.ones((2, 2, 2), np.uint8)}
    Cache(study / "contours").put("volume-4", other, metadata={"spacing_mm": "[4.0, 5.0, 6.0]"})
    with pytest.raises(EnvironmentFailure, match=r"shape \(2, 2, 2\), the volume \(6, 5, 4\)"):
        read_scan(study, "volume-4.safetensors")


def test_a_map_is_orange_where_the_risk_rises_and_blue_where_it_falls() -> None:
    relevance = np.zeros((2, 3, 2), np.float32)
    relevance[0, :, 0] = 0.1, 2.0, -1.0  # in front of and behind one another: the largest magnitude is seen
    relevance[0, 1, 1] = -1.0
    picture = colour_map(relevance, "front")
    assert picture.shape == (2, 2, 4)
    assert picture[1, 0].tolist() == [230, 97, 1, round(255 * 0.85)]
    assert picture[1, 1].tolist() == [33, 102, 172, pytest.approx(255 * 0.85 / 2, abs=1)]
    assert not picture[0, :, 3].any()


def test_a_map_of_zeros_is_transparent() -> None:
    assert not colour_map(np.zeros((2, 3, 2), np.float32), "side")[..., 3].any()


def test_a_picture_with_opacity_is_read_back_by_another_decoder() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (13, 7, 4), dtype=np.uint8)
    np.testing.assert_array_equal(imread(io.BytesIO(png(pixels))), pixels)


def test_a_map_on_another_grid_is_refused(study: Path) -> None:
    Cache(study / "explanations").put("m", {"map": np.zeros((2, 2, 2), np.float32)})
    with pytest.raises(EnvironmentFailure, match=r"explanations/m.safetensors has shape \(2, 2, 2\)") as caught:
        read_map(study, "m.safetensors", (6, 5, 4))
    assert caught.value.code is Code.ARTEFACT_DAMAGED
    with pytest.raises(ConfigurationError, match="explanations/n") as missing:
        read_map(study, "n.safetensors", (6, 5, 4))
    assert missing.value.code is Code.ARTEFACT_MISSING


def test_the_map_of_a_ct_lies_over_the_slices_through_its_strongest_voxel() -> None:
    hu = np.full((6, 5, 4), -1000.0, np.float32)
    hu[2, :, 1], hu[:, 3, :] = 1300.0, 40.0
    relevance = np.zeros(hu.shape, np.float32)
    relevance[2, 3, 1], relevance[0, 3, 0], relevance[0, 0, 0] = 0.5, -0.25, -0.5
    front, side = draw_ct(StoredScan(np.abs(hu), (4.0, 5.0, 6.0), None, hu), relevance)
    assert (front.width_mm, front.height_mm, side.width_mm) == (24.0, 24.0, 25.0)
    grey, colours = (imread(io.BytesIO(base64.b64decode(uri.split(",")[1]))) for uri in (front.data_uri, front.map_uri))
    assert grey.shape == (6, 4)
    assert (grey == round(255 * 200 / 400)).all()  # row 3 is soft tissue, 40 HU in the middle of -160 to 240
    assert colours[3, 1].tolist() == [230, 97, 1, round(255 * 0.85)]  # slice 2 of 6, head on top
    assert colours[5, 0].tolist() == [33, 102, 172, pytest.approx(255 * 0.85 / 2, abs=1)]
    assert "Slice of the CT" in (front.kind, side.kind)


def test_a_study_s_ct_comes_with_its_scan_and_damage_is_named(study: Path) -> None:
    Cache(study / "volumes").put("a-ct", {"ct": np.full((6, 5, 4), 37, np.int16), "facts": np.zeros(2, np.uint8)})
    Cache(study / "explanations").put("m", {name: np.ones((6, 5, 4), np.float32) for name in ("map", "map_ct")})
    scan = read_scan(study, "volume-9.safetensors", ct="a-ct.safetensors")
    assert scan.hu is not None
    assert (scan.hu == 37.0).all()
    assert read_map(study, "m.safetensors", (6, 5, 4)).of_ct is not None
    (study / "volumes" / "a-ct.safetensors").write_bytes(b"no tensor")
    with pytest.raises(EnvironmentFailure, match="volumes/a-ct"):
        read_scan(study, "volume-9.safetensors", ct="a-ct.safetensors")
