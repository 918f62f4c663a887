"""The whole of a pre-training on a folder of DICOM, and a study that starts from it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EmptyInputError, EnvironmentFailure
from twobe3.io.cache import Cache
from twobe3.models.pretrained import PretrainedCheckpoint
from twobe3.pretraining import run as module
from twobe3.pretraining.card import Card
from twobe3.pretraining.config import read_recipe
from twobe3.pretraining.run import Partition, pretrain
from twobe3.runtime.device import CPU
from twobe3.study.predict import predict
from twobe3.study.run import run

MARKER = "ZQXMARKER"
RECIPE = """
name = "tiny"
notes = ["Nothing that is learnt here says anything about patients."]

[cohort]
images = "dicom"

[volume]
spacing_mm = 16.0
field_of_view_mm = [192, 160, 160]

[pretrain]
{network}
held_out = 0.25
resamples = 100

[slices]
epochs = 2
per_scan = 4

[stacks]
epochs = 3
batch_size = 4
"""
NETWORK = """
backbone = "phantom-resnet10"
layer = 2
slice_size = 32
components = 4
reduced_channels = 4
width = 4
"""


def written(folder: Path, *change: tuple[str, str]) -> Path:
    text = RECIPE.format(network=NETWORK)
    for old, new in change:
        assert old in text
        text = text.replace(old, new)
    (folder / "pretrain.toml").write_text(text)
    return folder / "pretrain.toml"


def learnt(recipe: Path, out: Path, **how: Any) -> Card:
    return pretrain(recipe, out, workers=1, device="cpu", **how)


def results(out: Path) -> dict[str, bytes]:
    """The card, which has the digest of the file beside it."""
    digest = json.loads((out / "card.json").read_text())["file_digest"]
    assert PretrainedCheckpoint.read(out / "pretrained.safetensors").digest == digest
    return {name: (out / name).read_bytes() for name in ("card.json", "card.md")}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory, new_tiny_cohort: Callable[[Path], Any]) -> Any:
    """Eight patients; of one the sex is not known, of one the age."""
    cohort = new_tiny_cohort(tmp_path_factory.mktemp("people"))
    for i, sex in enumerate("MFMFOMFM"):
        told = {"PatientSex": sex, "PatientAge": "" if i == 1 else f"{40 + 5 * i:03d}Y", "PatientBirthDate": ""}
        cohort.scan(f"{MARKER}{i}", suv=3.0 + i, PatientName=f"{MARKER}^{i}", PatientWeight=60.0 + 3 * i, **told)
    cohort.table({f"{MARKER}{i}": (i % 2,) for i in range(8)})
    return cohort


@pytest.fixture(scope="module")
def done(people: Any) -> Path:
    folder: Path = people.images.parent
    learnt(written(folder), folder / "pretrained")
    return folder / "pretrained"


def test_the_card_says_what_it_was_trained_on_and_how_well(done: Path) -> None:
    card = json.loads((done / "card.json").read_text())
    assert card["trained_on"]["patients"] == card["trained_on"]["scans"] == 6
    assert card["trained_on"]["held_out_patients"] == 2
    assert card["trained_on"]["folders"] == {"dicom": 6}
    assert sum(card["trained_on"]["manufacturers"].values()) == 6
    assert all(facts["known"] + facts["missing"] == 6 for facts in card["labels"].values())
    told = {(figure["stage"], figure["task"]) for figure in card["figures"]}
    assert {("slices", "slice_position"), ("stacks", "masked_features"), ("slices", "weight_kg")} <= told
    assert all(figure["n"] <= 2 for figure in card["figures"])
    assert card["starting_weights"]["digest"] != card["weights_digest"]
    assert PretrainedCheckpoint.read(done / "pretrained.safetensors").digest == card["file_digest"]
    text = (done / "card.md").read_text()
    for said in ("on 6 PET scans of 6 patients", "| sex |", "slice_position", "Licence: Not stated", "> Nothing that"):
        assert said in text


def test_who_is_held_out_is_none_of_the_scans_trained_on(done: Path) -> None:
    card = json.loads((done / "card.json").read_text())
    trained, held = ({mark for pair in card["scans"][part] for mark in pair} for part in ("trained_on", "held_out"))
    assert not trained & held
    assert PretrainedCheckpoint.read(done / "pretrained.safetensors").marks == trained


def test_no_identity_is_in_anything_that_is_written(
    people: Any, done: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "twobe3"):
        learnt(people.images.parent / "pretrain.toml", tmp_path)
    assert MARKER not in caplog.text
    files = [path for folder in (done, tmp_path) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not [path for path in files if MARKER.encode() in path.read_bytes() or MARKER in path.name]
    # Nor the folders of this machine.
    told = [done / name for name in ("pretrained.safetensors", "card.json", "card.md")]
    assert str(people.images.parent).encode() not in b"".join(path.read_bytes() for path in told)


@pytest.mark.parametrize("calls", [1, 3])
def test_an_interrupted_pre_training_goes_on_where_it_stopped(
    people: Any, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    recipe, put, seen = people.images.parent / "pretrain.toml", module.Cache.put, []

    def interrupted(cache: Any, key: str, arrays: Any, **how: Any) -> None:
        put(cache, key, arrays, **how)
        if cache.folder.name == "checkpoints":
            seen.append(key)
            if len(seen) == calls:
                raise KeyboardInterrupt

    monkeypatch.setattr(module.Cache, "put", interrupted)
    with pytest.raises(KeyboardInterrupt):
        learnt(recipe, tmp_path)
    assert not (tmp_path / "card.json").exists()
    learnt(recipe, tmp_path)
    assert len(seen) == 2 + 3  # epochs of both stages, each once
    assert results(tmp_path) == results(done)


def test_a_second_run_trains_nothing_and_gives_the_same_bytes(people: Any, done: Path) -> None:
    before = results(done)
    times = {path: path.stat().st_mtime_ns for path in (done / "checkpoints").iterdir()}
    learnt(people.images.parent / "pretrain.toml", done)
    assert results(done) == before
    assert {path: path.stat().st_mtime_ns for path in (done / "checkpoints").iterdir()} == times


def test_a_folder_with_another_result_is_refused_unless_told(people: Any, done: Path, tmp_path: Path) -> None:
    recipe = people.images.parent / "other.toml"
    recipe.write_text((people.images.parent / "pretrain.toml").read_text().replace("epochs = 3", "epochs = 1"))
    (tmp_path / "card.json").write_bytes((done / "card.json").read_bytes())
    with pytest.raises(ConfigurationError) as caught:
        learnt(recipe, tmp_path)
    assert caught.value.code is Code.OUTPUT_EXISTS
    (tmp_path / "card.json").write_bytes((done / "card.json").read_bytes()[:100])
    with pytest.raises(EnvironmentFailure, match=r"ARTEFACT_DAMAGED: whose result .* add --update"):
        learnt(recipe, tmp_path)
    assert learnt(recipe, tmp_path, update=True).document["parameters"]["stacks"]["epochs"] == 1


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (("held_out", "heldout"), Code.UNKNOWN_KEY, r"\[pretrain\]: unknown key 'heldout'; the nearest .* 'held_out'"),
        (("[slices]", "[slice]"), Code.UNKNOWN_KEY, "the nearest known key is 'slices'"),
        (('"dicom"', '"dicom"\nclinical = "c.csv"'), Code.UNKNOWN_KEY, r"\[cohort\]: unknown key 'clinical'"),
        (("held_out", 'tasks = ["dose"]\nheld_out'), Code.STUDY_FILE_INVALID, "pretrain.tasks"),
        (("held_out", 'planes = ["coronal"]\nheld_out'), Code.STUDY_FILE_INVALID, "must have 'axial'"),
        (("held_out", 'tasks = ["sex", "sex"]\nheld_out'), Code.STUDY_FILE_INVALID, "once"),
        (("layer = 2", "layer = 9"), Code.LAYER_OUT_OF_RANGE, "not 9"),
        (("slice_size = 32", "slice_size = 8"), Code.STUDY_FILE_INVALID, "too small"),
        (("phantom-resnet10", "phantom-resnet11"), Code.UNKNOWN_NAME, "phantom-resnet10"),
        (("0.25", "1.5"), Code.STUDY_FILE_INVALID, "held_out"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_told(tmp_path: Path, change: tuple[str, str], code: Code, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        learnt(written(tmp_path, change), tmp_path / "out")
    assert caught.value.code is code


def test_a_recipe_that_learns_nothing_is_refused(tmp_path: Path) -> None:
    recipe = written(tmp_path, ("epochs = 2", "epochs = 0"), ("epochs = 3", "epochs = 0"))
    with pytest.raises(ConfigurationError, match="nothing is learnt"):
        learnt(recipe, tmp_path / "out")


def test_the_example_is_valid(pytestconfig: pytest.Config) -> None:
    example = pytestconfig.rootpath / "examples" / "pretrain.toml"
    model = read_recipe(example).model(example.parent, Cache(), CPU)
    assert model.weights == str(example.parent / "weights/mobilenetv2_100_imagenet_fp16.safetensors")


def test_too_few_patients_are_told(tmp_path: Path, new_tiny_cohort: Callable[[Path], Any]) -> None:
    for name in "ABC":
        new_tiny_cohort(tmp_path).scan(name, suv=float(ord(name)))
    with pytest.raises(EmptyInputError, match="patients with a scan that can be used: 3; at least 4 are needed"):
        learnt(written(tmp_path), tmp_path / "out")


def test_two_ids_of_one_scan_are_in_one_part(tmp_path: Path, new_tiny_cohort: Callable[[Path], Any]) -> None:
    for i in range(4):
        for twin in ("a", "b"):
            new_tiny_cohort(tmp_path).scan(f"{twin}{i}", suv=4.0 + i)
    for seed in range(3):
        recipe = written(tmp_path, ("held_out", f"seed = {seed}\nheld_out"))
        card = learnt(recipe, tmp_path / f"out{seed}").document
        assert (card["trained_on"]["patients"], card["trained_on"]["scans"]) == (3, 6)
        assert (card["trained_on"]["held_out_patients"], card["trained_on"]["held_out_scans"]) == (1, 2)


def test_one_stage_alone_leaves_the_other_as_it_was(people: Any, tmp_path: Path) -> None:
    folder = people.images.parent
    only = {}
    for name, change in (("slices", ("epochs = 3", "epochs = 0")), ("stacks", ("epochs = 2", "epochs = 0"))):
        recipe = folder / f"{name}.toml"
        recipe.write_text(RECIPE.format(network=NETWORK).replace(*change))
        only[name] = learnt(recipe, tmp_path / name).document
        only[name]["branches"] = PretrainedCheckpoint.read(tmp_path / name / "pretrained.safetensors").branches
    assert {figure["stage"] for figure in only["slices"]["figures"]} == {"slices"}
    assert not only["slices"]["branches"]  # a study's own start at random, each member's by itself
    assert {figure["stage"] for figure in only["stacks"]["figures"]} == {"stacks"}
    assert only["stacks"]["weights_digest"] == only["stacks"]["starting_weights"]["digest"]


STUDY = """
[cohort]
images = "dicom"
clinical = "clinical.csv"
[endpoint]
name = "outcome"
kind = "binary"
column = "outcome"
[volume]
spacing_mm = 16.0
field_of_view_mm = [192, 160, 160]
[[model]]
kind = "2be3-net"
init = "pretrained/pretrained.safetensors"
epochs = 1
ensemble_size = 1
{network}
[validation]
folds = 2
resamples = 100
baselines = false
"""


def test_a_study_starts_from_it_and_says_which_scans_it_has_seen(
    people: Any, done: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = people.images.parent
    subject = folder / "study.toml"
    subject.write_text(STUDY.format(network=NETWORK))
    with caplog.at_level(logging.WARNING, "twobe3"):
        run(subject, tmp_path / "out", workers=1)
    said = "2be3-net: 6 of 8 scans were among those of its pre-training"
    assert said in caplog.text
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert any(said in note for note in record["notes"])
    assert said in (tmp_path / "out/report.html").read_text()
    assert record["models"][0]["parameters"]["init"] == "pretrained.safetensors"
    (path,) = (tmp_path / "out/models").iterdir()
    hidden = done.rename(done.with_name("elsewhere"))
    try:
        predictions = predict(path, [people.images])
    finally:
        hidden.rename(done)
    assert predictions.usable == 8
    assert np.isfinite([one.risk for one in predictions.predictions if one.risk is not None]).all()


def test_a_study_that_the_file_does_not_fit_is_refused_before_scans_are_read(people: Any, done: Path) -> None:
    subject = people.images.parent / "wrong.toml"
    subject.write_text(STUDY.format(network=NETWORK).replace("layer = 2", "layer = 3").replace('"dicom"', '"nowhere"'))
    with pytest.raises(ConfigurationError, match="`layer` is 3, there 2") as caught:
        run(subject, people.images.parent / "never", workers=1)
    assert caught.value.code is Code.WEIGHTS_MISMATCH


def test_the_held_out_part_does_not_depend_on_labels(bodies: Any, recipe: Any) -> None:
    parts = [Partition.draw(bodies, recipe(pretrain={"tasks": tasks})) for tasks in (["sex"], ["masked_features"])]
    assert (parts[0].held_out == parts[1].held_out).all()
    assert len(parts[0].held_out) == 2
