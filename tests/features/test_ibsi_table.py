"""IBSI's CT phantom by every configuration, and what the table of reference values compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripts.ibsi_table import (
    CONFIGURATIONS,
    Row,
    compare_laplacian,
    compare_with_published,
    main,
    phantom_features,
    read_published,
)

from twobe3.features.radiomics import FeatureVector


@pytest.fixture(scope="module")
def mirp() -> Any:
    return pytest.importorskip("mirp", reason="MIRP is not installed: pip install 'twobe3[radiomics]'")


@pytest.mark.parametrize(("letter", "features"), [("A", 346), ("B", 346), ("C", 210), ("D", 210), ("E", 210)])
def test_the_ct_phantom_has_every_value_that_ibsi_1_published(
    mirp: Any, real_data: Path, letter: str, features: int
) -> None:
    published = read_published(real_data / "ibsi1" / f"ibsi_1_chest_config_{letter.lower()}.csv")
    found = phantom_features(real_data / "ibsi1_chest" / "nifti", CONFIGURATIONS[letter])
    rows = compare_with_published(found, published)
    assert len(rows) == len(published) == features
    assert [row for row in rows if not row.within] == []


def test_the_laplacian_of_the_ct_phantom_has_the_values_that_ibsi_2_published(mirp: Any, real_data: Path) -> None:
    rows = compare_laplacian(real_data / "ibsi1_chest" / "nifti")
    assert len(rows) == 18
    assert [row for row in rows if not row.within] == []


def test_a_row_is_within_the_tolerance_or_to_the_digits_published(tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    lines = ["reference value;tolerance;tag", "2.15;0;stat_mean", "367000;6000;morph_volume", ";;morph_none",
             "1;0;cm_contrast_3D_comb", "9;0;cm_contrast_2D_avg", "3;1;ngl_lde_2_5D", "4;0.5;loc_peak",
             "7;0;int_mask_vox_count_init_roi"]  # fmt: skip
    path.write_text("\n".join(lines))
    found = FeatureVector(
        ("stat_mean", "morph_volume", "cm_contrast", "cm_contrast_d1_3d_avg", "ngl_lde_d1_a0.0_2.5d", "loc_peak"),
        np.array([2.1486, 372999.0, 1.01, 9.0, 2.0, 4.6]),
    )
    rows = compare_with_published(found, read_published(path))
    assert rows[0] == Row("stat_mean", 2.1486, 2.15, 0.0)
    assert [(row.tag, row.within) for row in rows] == [
        ("stat_mean", True), ("morph_volume", True), ("cm_contrast_3D_comb", False), ("ngl_lde_2_5D", True),
        ("loc_peak", False),
    ]  # fmt: skip


def test_the_table_has_every_3d_value_of_the_digital_phantom_within_tolerance(
    mirp: Any, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(real_data / "ibsi1")])
    said = capsys.readouterr().out
    assert "169 of 169 features within tolerance" in said
    assert "| stat_mean | 2.149 | 2.15 | 0 | yes |" in said
    assert "**no**" not in said


def test_a_folder_without_the_phantom_is_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="0 files are called phantom"):
        phantom_features(tmp_path, CONFIGURATIONS["C"])
