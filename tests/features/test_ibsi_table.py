"""The table of IBSI's reference values: what it compares, and that configuration C is the published one."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from scripts.ibsi_table import ChestC, Row, compare_with_published, main, phantom_features, read_published

from twobe3.features.radiomics import FeatureVector, ibsi_features

FloatArray = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def mirp() -> Any:
    return pytest.importorskip("mirp", reason="MIRP is not installed: pip install 'twobe3[radiomics]'")


@pytest.fixture(scope="module")
def chest() -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Something like CT, in whole HU: lung, a tumour with air and calcifications in it, noise."""
    rng = np.random.default_rng(0)
    centre = np.linalg.norm((np.indices((20, 24, 26)) - [[[[9]]], [[[11]]], [[[14]]]]) * 3.0, axis=0)
    tumour = centre < 20.0
    hu = np.where(tumour, 40.0, -850.0) + rng.normal(0.0, 60.0, centre.shape)
    hu[tumour & (rng.random(centre.shape) < 0.05)] = 700.0
    hu[tumour & (rng.random(centre.shape) < 0.05)] = -990.0
    return np.clip(np.round(hu), -1000, 3000).astype(np.float32), tumour


def test_configuration_c_is_what_mirp_gives_for_its_published_settings(
    mirp: Any, chest: tuple[FloatArray, npt.NDArray[np.bool_]]
) -> None:
    """Those of MIRP's own test of conformity, test/ibsi_1_test.py of oncoray/mirp, called without this project."""
    hu, tumour = chest
    spacing_mm = (3.0, 0.977, 0.977)
    (image,) = importlib.import_module("mirp.data_import.import_image").import_image(hu.copy(), image_modality="ct")
    (region,) = importlib.import_module("mirp.data_import.import_mask").import_mask(tumour.copy())
    image.image_spacing = region.image_spacing = spacing_mm
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)  # without one, MIRP writes the log to standard output from now on
    (table,) = mirp.extract_features(
        image=image,
        mask=region,
        by_slice=False,
        no_approximation=True,
        new_spacing=2.0,
        spline_order=1,
        anti_aliasing=False,
        roi_spline_order=1,
        resegmentation_method="threshold",
        resegmentation_intensity_range=[-1000.0, 400.0],
        base_feature_families="all",
        base_discretisation_method="fixed_bin_size",
        base_discretisation_bin_width=25.0,
        ivh_discretisation_method="fixed_bin_size",
        ivh_discretisation_bin_width=2.5,
        glcm_distance=1.0,
        glcm_spatial_method="3d_volume_merge",
        glrlm_spatial_method="3d_volume_merge",
        glszm_spatial_method="3d",
        gldzm_spatial_method="3d",
        ngtdm_spatial_method="3d",
        ngldm_distance=1.0,
        ngldm_difference_level=0.0,
        ngldm_spatial_method="3d",
    )
    logging.getLogger().removeHandler(handler)
    found = ibsi_features(hu, tumour, spacing_mm, ChestC())
    theirs = table.filter(regex=r"^(morph|loc|stat|ih|ivh|cm|rlm|szm|dzm|ngt|ngl)_").iloc[0]
    assert len(found.names) == len(theirs) > 150
    for name, value in zip(found.names, found.values, strict=True):
        (same,) = [
            one for one in theirs.index if one == name or one.startswith((f"{name}_d1", f"{name}_3d", f"{name}_fbs"))
        ]
        assert value == pytest.approx(float(theirs[same]), rel=1e-6, abs=1e-12), name


def test_configuration_c_counts_bins_of_25_hu_from_minus_1000_and_leaves_out_what_lies_above_400(
    mirp: Any, chest: tuple[FloatArray, npt.NDArray[np.bool_]]
) -> None:
    """On voxels of 2 mm already, where nothing is interpolated: arithmetic."""
    hu, tumour = chest
    found = ibsi_features(hu, tumour, (2.0, 2.0, 2.0), ChestC())
    inside = hu[tumour & (hu >= -1000) & (hu <= 400)].astype(np.float64)
    level = np.floor((inside + 1000.0) / 25.0) + 1.0
    assert 0.9 < len(inside) / tumour.sum() < 0.99
    assert found["stat_mean"] == pytest.approx(inside.mean(), rel=1e-6)
    assert found["stat_min"] == inside.min() < -900
    assert found["stat_max"] == inside.max()
    assert found["ih_mean"] == pytest.approx(level.mean(), rel=1e-6)
    assert (found["ih_min"], found["ih_max"]) == (level.min(), level.max())
    assert found["morph_vol_approx"] == pytest.approx(tumour.sum() * 8.0, rel=1e-6)  # the shape keeps what is left out


def test_a_row_is_within_the_tolerance_or_to_the_digits_published(tmp_path: Path) -> None:
    path = tmp_path / "values.csv"
    lines = ["reference value;tolerance;tag", "2.15;0;stat_mean", "367000;6000;morph_volume", ";;morph_none",
             "1;0;cm_contrast_3D_comb", "9;0;cm_contrast_2D_avg", "4;0.5;loc_peak"]  # fmt: skip
    path.write_text("\n".join(lines))
    found = FeatureVector(
        ("stat_mean", "morph_volume", "cm_contrast", "loc_peak"), np.array([2.1486, 372999.0, 1.01, 4.6])
    )
    rows = compare_with_published(found, read_published(path))
    assert rows[0] == Row("stat_mean", 2.1486, 2.15, 0.0)
    assert [(row.tag, row.within) for row in rows] == [
        ("stat_mean", True), ("morph_volume", True), ("cm_contrast_3D_comb", False), ("loc_peak", False),
    ]  # fmt: skip


def test_the_table_has_every_3d_value_of_the_digital_phantom_within_tolerance(
    mirp: Any, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(real_data / "ibsi1")])
    said = capsys.readouterr().out
    assert "169 of 169 features within tolerance" in said
    assert "| stat_mean | 2.149 | 2.15 | 0 | yes |" in said
    assert "**no**" not in said


def test_the_ct_phantom_is_found_in_the_folder_named_and_every_value_of_configuration_c_is_looked_at(
    mirp: Any, chest: tuple[FloatArray, npt.NDArray[np.bool_]], real_data: Path, tmp_path: Path
) -> None:
    hu, tumour = chest
    for name, array in (("image/phantom", hu), ("mask/mask", tumour.astype(np.uint8))):
        (tmp_path / name).parent.mkdir()
        affine = np.diag([-2.0, -2.0, 2.0, 1.0])
        nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), affine), tmp_path / f"{name}.nii.gz")  # type: ignore[no-untyped-call,attr-defined]
    found = phantom_features(tmp_path, ChestC())
    direct = ibsi_features(hu, tumour, (2.0, 2.0, 2.0), ChestC())
    np.testing.assert_allclose(found.values, direct.values, rtol=1e-6, atol=1e-9)
    references = read_published(real_data / "ibsi1" / "ibsi_1_chest_config_c.csv")
    of_image = ("img_", "vox_", "mean_int", "min_int", "max_int", "int_mask", "morph_mask")
    wanted = {tag for tag in references if not tag.startswith(of_image) and "_3D_avg" not in tag}
    assert {row.tag for row in compare_with_published(found, references)} == wanted
    with pytest.raises(SystemExit, match="0 files are called phantom"):
        phantom_features(tmp_path / "mask", ChestC())
