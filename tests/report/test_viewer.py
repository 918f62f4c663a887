from __future__ import annotations

import gzip
import html
import json
import re
from base64 import b64decode, b64encode
from hashlib import sha256
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest

import twobe3 as tb
from twobe3.core.grid import Grid, resample
from twobe3.phantom import make_patient
from twobe3.report import niivue
from twobe3.report import viewer as module
from twobe3.report.faces import hide_face
from twobe3.report.stored_scans import StoredMap, StoredScan
from twobe3.report.viewer import Viewer, ViewerCase, viewer

SHAPE, SPACING_MM = (5, 4, 3), (4.0, 3.0, 2.0)
HOSTILE = "</script><!--<script>alert('PET')"


def case(label: str = "pa-1", relevance: StoredMap | None = None, **shown: Any) -> ViewerCase:
    suv = np.random.default_rng(0).uniform(0.0, 30.0, SHAPE).astype(np.float32)
    return ViewerCase(label, StoredScan(suv, SPACING_MM, **{"contour": None, **shown}), relevance)


def plain(label: str, suv: npt.NDArray[np.float32], contour: npt.NDArray[np.bool_] | None = None) -> ViewerCase:
    return ViewerCase(label, StoredScan(suv, SPACING_MM, contour))


def records(shown: Viewer) -> list[dict[str, Any]]:
    texts = re.findall(r'<script type="application/json" id="viewer-case-\d+">(.*?)</script>', shown.html, re.S)
    return [json.loads(text) for text in texts]


def image(base64: str) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(b64decode(base64)))


def array(base64: str) -> npt.NDArray[np.float64]:
    return image(base64).get_fdata().T


def test_suv_is_there_to_within_half_a_step() -> None:
    scan = case()
    shown = viewer([scan], show_faces=True)
    np.testing.assert_allclose(array(records(shown)[0]["pet"]), scan.scan.suv, atol=0.005 + 1e-6)
    assert "SUV is rounded to 0.01" in shown.html


def test_suv_below_zero_is_zero() -> None:
    scan = plain("pa-1", np.full(SHAPE, -1.0, np.float32))
    assert (array(records(viewer([scan]))[0]["pet"]) == 0).all()


def test_axes_of_the_file_say_where_left_back_and_head_are() -> None:
    pet = image(records(viewer([case()]))[0]["pet"])
    assert nibabel.aff2axcodes(pet.affine) == ("L", "P", "S")
    assert pet.header.get_zooms() == SPACING_MM[::-1]
    assert pet.header.get_sform(coded=True)[1] == pet.header.get_qform(coded=True)[1] == 2
    np.testing.assert_allclose(pet.affine @ [1.0, 1.5, 2.0, 1.0], [0, 0, 0, 1])  # the middle


def test_contour_and_map_lie_on_the_voxels_of_the_scan() -> None:
    rng = np.random.default_rng(1)
    contour, relevance = rng.random(SHAPE) > 0.5, rng.normal(0.0, 0.01, SHAPE).astype(np.float32)
    [record] = records(viewer([case(contour=contour, relevance=StoredMap(relevance))], show_faces=True))
    np.testing.assert_array_equal(array(record["contour"]), contour)
    strongest = np.abs(relevance).max()
    coloured = np.abs(relevance) >= 0.1 * strongest
    np.testing.assert_allclose(array(record["map"])[coloured], relevance[coloured], atol=0.0251 * strongest)
    assert (array(record["map"])[~coloured] == 0).all()
    assert record["map_max"] == pytest.approx(strongest)


def test_the_ct_and_its_map_are_there_to_within_their_steps() -> None:
    rng = np.random.default_rng(2)
    hu, relevance = rng.uniform(-1000, 3000, SHAPE).astype(np.float32), rng.normal(size=(2, *SHAPE)).astype(np.float32)
    shown = viewer([case(hu=hu, relevance=StoredMap(*relevance))], show_faces=True)
    [record] = records(shown)
    np.testing.assert_allclose(array(record["ct"]), hu, atol=2.51)
    assert record["ct_map_max"] == pytest.approx(np.abs(relevance[1]).max())
    assert "PET on CT" in shown.html
    assert "PET on CT" not in viewer([case()]).html


def test_the_cross_starts_at_the_hottest_voxel_of_the_contour() -> None:
    suv = np.zeros(SHAPE, np.float32)
    suv[1, 2, 0], suv[4, 3, 2] = 5.0, 9.0
    contour = np.zeros(SHAPE, np.bool_)
    contour[1] = True
    inside, anywhere, nothing = records(
        viewer([plain("a", suv, one) for one in (contour, None, np.zeros(SHAPE, np.bool_))])
    )
    assert inside["start"] == [2, 1, 1]  # voxels to the right, to the front, to the head
    assert anywhere["start"] == nothing["start"] == [0, 0, 4]


def test_a_map_of_zeros_has_no_colours() -> None:
    [record] = records(viewer([case(relevance=StoredMap(np.zeros(SHAPE, np.float32)))]))
    assert "map" not in record


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"map has shape \(2, 4, 3\), the scan \(5, 4, 3\)"):
        case(relevance=StoredMap(np.zeros((2, 4, 3), np.float32)))


def test_faces_are_left_out_unless_they_are_asked_for() -> None:
    volume = make_patient(1).volume
    spacing_mm = (5.0, 4.0, 4.0)
    contour = np.zeros(volume.array.shape, np.bool_)
    contour[-8, 30:60] = True
    hu, ones = np.full(volume.array.shape, 40.0, np.float32), np.ones_like(volume.array)
    scan = StoredScan(volume.array, spacing_mm, contour, hu)
    seen = ViewerCase("pa-1", scan, StoredMap(ones, ones))
    hidden, shown = viewer([seen]), viewer([seen], show_faces=True)
    without = hide_face(scan.suv, spacing_mm, keep=contour)
    assert (without != scan.suv).any()
    np.testing.assert_allclose(array(records(hidden)[0]["pet"]), without.clip(0), atol=0.0051)
    np.testing.assert_allclose(array(records(shown)[0]["pet"]), scan.suv.clip(0), atol=0.0051)
    for name, of_nothing in (("map", 0), ("ct_map", 0), ("ct", -1000)):
        assert (array(records(hidden)[0][name])[without != scan.suv] == of_nothing).all()
        assert (array(records(shown)[0][name]) != of_nothing).all()
    assert "Faces are left out." in hidden.html
    assert "Faces are shown." in shown.html


def test_scans_are_rounded_more_where_they_have_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    suv = np.random.default_rng(0).uniform(0.0, 2.0, (20, 20, 20)).astype(np.float32)
    scans = [plain(f"pa-{i}", suv) for i in range(4)]
    overlay = module._encode_overlays(scans[0])
    sizes = [len(json.dumps({"pet": module._encode_pet(scans[0], step), **overlay})) for step in module.STEPS_SUV]
    assert sizes == sorted(sizes, reverse=True)
    monkeypatch.setattr(module, "MAX_BYTES", 4 * sizes[1])
    assert "SUV is rounded to 0.02" in viewer(scans).html
    monkeypatch.setattr(module, "MAX_BYTES", 4 * sizes[-1] - 1)
    few = viewer(scans)
    assert len(records(few)) == 3
    assert "SUV is rounded to 0.1;" in few.html
    assert "3 scans to turn through" in few.html
    assert "1 more has no room." in few.html
    assert "pa-3" not in few.html


def test_no_label_breaks_out() -> None:
    shown = viewer([case(HOSTILE)])
    assert HOSTILE not in shown.html
    assert html.escape(HOSTILE, quote=False).replace("'", "&#39;") in shown.html
    assert shown.html.count("<script") == shown.html.count("</script>") == 3


def test_the_policy_allows_just_the_scripts_that_run() -> None:
    shown = viewer([case()])
    [own] = re.findall(r"<script>(.*?)</script>", shown.html, re.S)
    [packed] = re.findall(r'<script type="text/plain" id="viewer-niivue">(.*?)</script>', shown.html)
    for text, named in zip((own.encode(), gzip.decompress(b64decode(packed))), shown.script_hashes, strict=True):
        assert named == "sha256-" + b64encode(sha256(text).digest()).decode()


def test_the_licence_goes_with_the_code() -> None:
    assert "BSD 2-Clause License" in viewer([case()]).html
    assert "Copyright (c) 2025, Niivue" in viewer([case()]).html


def test_the_same_scans_give_the_same_bytes() -> None:
    assert viewer([case()]) == viewer([case()])


def test_without_scans_there_is_a_sentence_and_no_script() -> None:
    shown = viewer([])
    assert "There is no scan to turn through." in shown.html
    assert shown.script_hashes == ()
    assert "<script" not in shown.html


def test_without_niivue_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_none(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(niivue, "distribution", find_none)
    shown = viewer([case()])
    assert "pip install &#39;twobe3[viewer]&#39;" in shown.html or "pip install 'twobe3[viewer]'" in shown.html
    assert shown.script_hashes == ()
    assert "<script" not in shown.html


def test_a_widget_that_holds_no_niivue_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(niivue, "_read", lambda installed, name: "export default {}")
    assert niivue.find_niivue() is None


def test_fifty_one_real_scans_have_room_at_the_finest_step(real_data: Path) -> None:
    grid = Grid(4.0, (384.0, 320.0, 320.0))
    cases = []
    for folder in sorted((real_data / "sts" / "dicom").iterdir()):
        suv = resample(tb.read_suv(folder / "PET"), grid).array
        cases.append(ViewerCase(folder.name, StoredScan(suv, (4.0, 4.0, 4.0), suv > 4.0)))
    shown = viewer(cases)
    assert len(records(shown)) == 51
    assert "SUV is rounded to 0.01;" in shown.html
    assert len(shown.html) < 15_000_000
