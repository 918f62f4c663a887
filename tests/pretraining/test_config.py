"""The recipe of a pre-training."""

from __future__ import annotations

from dataclasses import fields

from twobe3.models import TwoBe3Net
from twobe3.pretraining.config import PretrainSection


def test_what_a_recipe_shares_with_the_model_has_the_same_default() -> None:
    # Where they differed, `init` would refuse the file of one default in a study of the other.
    section, model = PretrainSection(), TwoBe3Net()
    shared = set(PretrainSection.model_fields) & {field.name for field in fields(TwoBe3Net)}
    assert {"backbone", "weights", "layer", "planes", "windows_suv", "slice_size", "width", "anisotropy"} <= shared
    assert {name: getattr(section, name) for name in shared} == {name: getattr(model, name) for name in shared}
