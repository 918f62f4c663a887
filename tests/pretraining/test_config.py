"""The recipe of a pre-training."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.models import TwoBe3Net
from twobe3.pretraining.config import PretrainSection, Recipe, read_recipe


def test_what_a_recipe_shares_with_the_model_has_the_same_default() -> None:
    # Where they differed, `init` would refuse the file of one default in a study of the other.
    section, model = PretrainSection(), TwoBe3Net()
    shared = set(PretrainSection.model_fields) & {field.name for field in fields(TwoBe3Net)}
    assert {"backbone", "weights", "layer", "planes", "windows_suv", "slice_size", "width", "anisotropy"} <= shared
    assert {name: getattr(section, name) for name in shared} == {name: getattr(model, name) for name in shared}


def test_by_default_all_is_learnt_that_the_networks_can_learn() -> None:
    assert PretrainSection(backbone="resnet18").tasks == (
        "sex",
        "age_years",
        "weight_kg",
        "slice_position",
        "masked_features",
    )
    assert PretrainSection().tasks == ("lesions", "masked_voxels", "masked_features")


@pytest.mark.parametrize(
    ("pretrain", "said"),
    [
        (
            'backbone = "pet-lesions"\ntasks = ["sex"]',
            r"no.* for 'sex': give tasks = \['lesions', 'masked_voxels', 'mas",
        ),
        ('backbone = "pet-lesions"\ntasks = ["lesions", "slice_position"]', r"none for 'slice_position'"),
        (
            'backbone = "resnet18"\ntasks = ["lesions"]',
            "which 'resnet18' has no output for: give backbone = 'pet-lesions'",
        ),
        ('backbone = "resnet18"\ntasks = ["sex", "masked_voxels"]', "'masked_voxels' is learnt at every position"),
    ],
)
def test_a_task_that_the_network_has_no_output_for_is_refused(tmp_path: Path, pretrain: str, said: str) -> None:
    (tmp_path / "recipe.toml").write_text(f'[cohort]\nimages = "dicom"\n[pretrain]\n{pretrain}\n')
    with pytest.raises(ConfigurationError, match=said) as caught:
        read_recipe(tmp_path / "recipe.toml")
    assert caught.value.code is Code.STUDY_FILE_INVALID


def test_labels_of_patients_are_learnt_by_the_3d_head_alone_where_the_2d_network_stays() -> None:
    tables = {"cohort": {"images": "dicom"}, "pretrain": {"backbone": "pet-lesions", "tasks": ["sex"]}}
    recipe = Recipe.model_validate({**tables, "slices": {"epochs": 0}})
    assert recipe.pretrain.of_slices == ()
