"""The whole of a pre-training that continues the network that knows PET, and models that start from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twobe3.cohort.cohort import Cohort
from twobe3.features.backbones import load_backbone
from twobe3.io.cache import Cache
from twobe3.models import TwoBe3Net
from twobe3.models.pretrained import PretrainedCheckpoint
from twobe3.pretraining import dense_stage, run
from twobe3.pretraining.config import read_recipe
from twobe3.pretraining.run import pretrain
from twobe3.pretraining.simulation import simulate_generic_slices
from twobe3.runtime.device import CPU

RECIPE = """
name = "tiny"
[cohort]
images = "dicom"
[volume]
spacing_mm = 16.0
field_of_view_mm = [192, 160, 160]
[pretrain]
backbone = "pet-lesions"
layer = 2
components = 4
reduced_channels = 4
width = 4
held_out = 0.4
resamples = 100
[slices]
epochs = 1
per_scan = 4
batch_size = 8
threshold_suv = 2.5
simulated_phantoms = 1
[stacks]
epochs = 1
"""
MODEL: dict[str, Any] = {
    "backbone": "pet-lesions", "layer": 2, "components": 4, "reduced_channels": 4, "width": 4, "epochs": 1,
    "ensemble_size": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, new_tiny_cohort: Callable[[Path], Any]) -> Path:
    folder = tmp_path_factory.mktemp("dense")
    people = new_tiny_cohort(folder)
    for number in range(5):
        people.scan(f"P{number}", suv=3.0 + number)
    (people.images.parent / "pretrain.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense_stage, "GROUP", 8)
        patch.setattr(dense_stage, "simulate_phantom_slices", lambda seed: simulate_generic_slices(seed, 8))
        patch.setattr(run, "EVALUATED_SEEDS", 3)
        pretrain(people.images.parent / "pretrain.toml", folder / "out", workers=1, device="cpu")
    return folder / "out"


def test_the_card_says_whether_it_got_better(done: Path) -> None:
    card, text = json.loads((done / "card.json").read_text()), (done / "card.md").read_text()
    told = {(change["slices"], change["figure"]): change for change in card["changes"]}
    assert set(told) == {
        ("scans", "masked_error"), ("scans", "lesion_dice"), ("scans", "lesion_auc"), ("phantoms", "lesion_dice"),
        ("phantoms", "lesion_auc"), ("generic", "lesion_dice"), ("generic", "lesion_auc"),
    }  # fmt: skip
    assert told["scans", "masked_error"]["n"] == card["trained_on"]["held_out_scans"] == 2
    assert told["generic", "lesion_auc"]["n"] == 3
    for change in card["changes"]:
        if change["n"]:
            assert change["change"] == pytest.approx(change["after"] - change["before"])
    assert "## Whether the 2D network got better" in text
    assert "takes the brain, the heart, kidneys, bladder and bowel for lesions too" in text
    assert card["starting_weights"]["digest"] == load_backbone("pet-lesions").weights_digest != card["weights_digest"]
    assert {figure["task"] for figure in card["figures"]} == {"masked_features"}


@pytest.mark.parametrize("inputs", [("maps",), "auto"])
def test_a_model_starts_from_it(done: Path, make_cohort: Any, inputs: Any) -> None:
    stored = PretrainedCheckpoint.read(done / "pretrained.safetensors")
    cohort: Cohort = make_cohort(8)
    cohort = Cohort(cohort.subjects, cohort.endpoints, grid=stored.grid)
    model = TwoBe3Net(**MODEL, inputs=inputs, init=str(done / "pretrained.safetensors"), cache=Cache())
    model.precompute(cohort)
    model.fit(cohort)
    assert np.isfinite(model.predict(cohort).risk).all()
    assert model.maps.backbone.weights_digest == stored.backbone.weights_digest
    np.testing.assert_array_equal(model.inputs_.projections["axial"].matrix, stored.inputs.projections["axial"].matrix)
    others = {"image", "profile"} if inputs == "auto" else set()
    assert set(model.inputs_.stacks) == {"axial", *others}


def test_the_example_is_valid(pytestconfig: pytest.Config) -> None:
    example = pytestconfig.rootpath / "examples" / "pretrain_pet_lesions.toml"
    recipe = read_recipe(example)
    assert recipe.pretrain.of_slices == ("lesions", "masked_voxels")
    assert recipe.model(example.parent, Cache(), CPU).backbone == "pet-lesions"
