from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imread

from twobe3.report.mips import coronal_mip, coronal_mips, png
from twobe3.report.study_folder import StudyFolder


def test_head_is_on_top_and_the_patients_left_on_the_right() -> None:
    suv = np.zeros((6, 5, 4), dtype=np.float32)
    suv[5, 2, 3] = 7.0  # the uppermost slice, the patient's left
    suv[0, 4, 0] = 3.5  # the lowest slice, the patient's right
    grey = coronal_mip(suv)
    assert grey.shape == (6, 4)
    assert grey[0, 3] == 0
    assert grey[5, 0] == pytest.approx(255 / 2, abs=1)
    assert (grey == 255).sum() == 6 * 4 - 2


def test_depth_is_projected_by_its_maximum() -> None:
    suv = np.zeros((1, 3, 1), dtype=np.float32)
    suv[0, :, 0] = 1.0, 5.0, 2.0
    assert coronal_mip(suv)[0, 0] == round(255 * (1 - 5 / 7))


def test_window_saturates_at_seven_and_below_zero() -> None:
    suv = np.array([-1.0, 0.0, 7.0, 30.0], dtype=np.float32).reshape(1, 1, 4)
    assert coronal_mip(suv).tolist() == [[255, 255, 0, 0]]


def test_png_is_read_back_by_another_decoder() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (13, 7), dtype=np.uint8)
    np.testing.assert_array_equal(imread(io.BytesIO(png(grey))), grey)


def test_picture_has_its_true_size_and_the_pseudonym(study: Path) -> None:
    first, *_, last = coronal_mips(StudyFolder.read(study))
    assert (first.width_mm, first.height_mm) == (16.0, 24.0)
    assert (first.caption, last.caption) == ("pa-000000000000", "pa-000000000009")
    kind, data = last.data_uri.split(",")
    assert kind == "data:image/png;base64"
    assert (imread(io.BytesIO(base64.b64decode(data))) == 0).all()  # SUV 9 everywhere


def test_at_most_twelve_scans_spread_over_the_cohort(study: Path) -> None:
    cohort = json.loads((study / "cohort.json").read_text())
    cohort["subjects"] = [s | {"patient": f"pa-{i}"} for i, s in enumerate(cohort["subjects"] * 5)]
    (study / "cohort.json").write_text(json.dumps(cohort))
    captions = [picture.caption for picture in coronal_mips(StudyFolder.read(study))]
    assert len(set(captions)) == 12
    assert (captions[0], captions[-1]) == ("pa-0", "pa-49")
