"""A 2Be3-Net that starts from a pre-trained file."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from twobe3.cohort.cohort import Cohort
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid
from twobe3.io.cache import Cache
from twobe3.models import CNN2D, TwoBe3Net, load_model
from twobe3.models.nn.networks import PlanesNetwork
from twobe3.models.pretrained import SHARED, PretrainedCheckpoint, marks_of
from twobe3.scans.scan import TumourScan

STORE = Cache()
SMALL: dict[str, Any] = {
    "backbone": "phantom-resnet10", "layer": 2, "slice_size": 32, "components": 4, "reduced_channels": 4, "width": 4,
    "planes": ("axial", "coronal"),
}  # fmt: skip
QUICK: dict[str, Any] = {"epochs": 1, "ensemble_size": 2, "cache": STORE}


@pytest.fixture(scope="module")
def cohort(make_cohort: Any) -> Cohort:
    made: Cohort = make_cohort(10)
    return made


@pytest.fixture(scope="module")
def start(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a pre-training leaves it: another 2D network, components of other scans, branches of its own."""
    model = TwoBe3Net(**SMALL, inputs=("maps",), weights="random", **QUICK)
    model.fit_inputs(cohort.subset([8, 9]))
    torch.manual_seed(7)
    branches = model.make_network(covariates=0, outputs=1).branches.state_dict()
    marks = {mark for i in (8, 9) for mark in marks_of(cohort, cohort.subjects[i])}
    parameters = {name: getattr(model, name) for name in SHARED}
    made = PretrainedCheckpoint(parameters, cohort.grid, model.inputs_, branches, frozenset(marks))
    path = tmp_path_factory.mktemp("somebody") / "pretrained.safetensors"
    made.save(path)
    return path


def model_of(path: Path, **parameters: Any) -> TwoBe3Net:
    return TwoBe3Net(**{**SMALL, **QUICK, "inputs": ("maps",), "init": str(path), **parameters})


def test_it_really_starts_there(cohort: Cohort, start: Path) -> None:
    model, stored = model_of(start), PretrainedCheckpoint.read(start)
    model.fit_head(cohort)
    model.fit_inputs(cohort)
    networks = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = model._init_network()
        assert isinstance(network, PlanesNetwork)
        networks.append(network)
    for network in networks:
        for name, value in network.branches.state_dict().items():
            assert torch.equal(value, stored.branches[name])
    assert not torch.equal(networks[0].head[1].weight, networks[1].head[1].weight)  # the last layer starts as always
    for stack, projection in model.inputs_.projections.items():
        np.testing.assert_array_equal(projection.matrix, stored.inputs.projections[stack].matrix)
    assert model.maps.backbone.weights_digest == stored.inputs.maps.backbone.weights_digest


def test_without_branches_they_start_by_chance(cohort: Cohort, start: Path, tmp_path: Path) -> None:
    replace(PretrainedCheckpoint.read(start), branches={}).save(tmp_path / "start.safetensors")
    model = model_of(tmp_path / "start.safetensors", epochs=1).fit(cohort)
    first, second = (network.state_dict()["branches.axial.reduction.0.weight"] for network in model.networks_)
    assert (first - second).abs().mean() > 0.05  # a step moves them by the rate


def test_the_file_is_read_as_it_was_written(cohort: Cohort, start: Path, tmp_path: Path) -> None:
    stored = PretrainedCheckpoint.read(start)
    assert stored.save(tmp_path / "again.safetensors") == stored.digest
    assert stored.count_seen(cohort) == 2
    assert stored.grid == cohort.grid


def test_fitting_and_predicting_give_the_same_from_the_saved_model_alone(
    cohort: Cohort, start: Path, tmp_path: Path
) -> None:
    model = model_of(start).fit(cohort)
    path = model.save(tmp_path)
    assert b"somebody" not in path.read_bytes()
    hidden = start.rename(start.with_name("gone"))
    try:
        again = load_model(path, cache=STORE)
        np.testing.assert_array_equal(again.predict(cohort).risk, model.predict(cohort).risk)
        assert "init" in again.cache_key()
    finally:
        hidden.rename(start)


def test_its_identity_has_the_file_s_digest_and_not_its_path(start: Path, tmp_path: Path) -> None:
    copied = tmp_path / "elsewhere.safetensors"
    copied.write_bytes(start.read_bytes())
    assert model_of(copied).cache_key() == model_of(start).cache_key()
    assert str(tmp_path) not in model_of(copied).cache_key()
    stored = PretrainedCheckpoint.read(start)
    replace(stored, branches={name: value + 1.0 for name, value in stored.branches.items()}).save(copied)
    assert model_of(copied).cache_key() != model_of(start).cache_key()


def test_without_it_there_is_nothing_to_warn_of() -> None:
    assert TwoBe3Net(**SMALL).report(Cohort(())).warnings == ()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"backbone": "resnet18"}, "`backbone` is 'resnet18', there 'phantom-resnet10'"),
        ({"layer": 3}, "`layer` is 3, there 2"),
        ({"planes": ("axial",)}, "`planes`"),
        ({"windows_suv": (10.0,)}, "`windows_suv`"),
        ({"slice_size": 64, "width": 8}, "`slice_size` is 64, there 32; `width` is 8, there 4"),
        ({"components": 8}, "`components`"),
        ({"anisotropy": "spacing"}, "`anisotropy`"),
    ],
)
def test_what_does_not_fit_is_named(start: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match="was pre-trained otherwise") as caught:
        model_of(start, **wrong).cache_key()
    assert caught.value.code is Code.WEIGHTS_MISMATCH
    assert said in caught.value.reason


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        (Grid((4.0,) * 3, (128.0,) * 3), "the voxels are (4.0, 4.0, 4.0) mm apart, there (8.0, 8.0, 8.0)"),
        (Grid((8.0,) * 3, (512.0, 128.0, 128.0)), "the axial stack has 64 slices, there 16, and so other blocks"),
    ],
)
def test_a_grid_that_needs_other_blocks_is_refused(cohort: Cohort, start: Path, grid: Grid, said: str) -> None:
    model, other = model_of(start), replace(cohort, grid=grid)
    for use in (model.precompute, model.fit):
        with pytest.raises(ConfigurationError) as caught:
            use(other)
        assert caught.value.code is Code.WEIGHTS_MISMATCH
        assert said in caught.value.reason


def test_another_field_of_view_with_the_same_blocks_fits(cohort: Cohort, start: Path) -> None:
    grid = Grid((8.0,) * 3, (120.0, 128.0, 128.0))
    model_of(start, ensemble_size=1).fit(replace(cohort, grid=grid))


def test_a_file_that_is_absent_changed_or_another_is_refused(cohort: Cohort, start: Path, tmp_path: Path) -> None:
    content = bytearray(start.read_bytes())
    content[-1] ^= 1
    (tmp_path / "changed.safetensors").write_bytes(content)
    CNN2D(**SMALL, **QUICK).fit(cohort).save(tmp_path / "model.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    for name, code, said in (
        ("absent", Code.WEIGHTS_MISSING, "does not exist"),
        ("changed", Code.MODEL_INVALID, "was changed since it was written"),
        ("model", Code.MODEL_INVALID, "holds a 'cnn2d', not what `init` starts from"),
        ("text", Code.MODEL_INVALID, "is not a model file"),
    ):
        with pytest.raises(ConfigurationError, match=said) as caught:
            model_of(tmp_path / f"{name}.safetensors").cache_key()
        assert caught.value.code is code
    with pytest.raises(ConfigurationError, match=r"pretrain` wrote, and no fitted model \(let `init` of .* name it"):
        load_model(start)


@pytest.mark.parametrize(
    ("wrong", "said"), [({"weights": "random"}, "leave `weights` out"), ({"capacity": "auto"}, "leave `capacity")]
)
def test_what_the_file_decides_must_not_be_asked_for(start: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model_of(start, **wrong)


def test_scans_are_known_again_by_files_or_by_voxels(cohort: Cohort, start: Path) -> None:
    stored = PretrainedCheckpoint.read(start)
    renamed = [replace(subject, patient_id=f"other-{i}") for i, subject in enumerate(cohort.subjects)]
    named = [replace(subject, scan=TumourScan(subject.scan, ("GTV",))) for subject in renamed]
    for subjects in (renamed, named):
        assert stored.count_seen(replace(cohort, subjects=tuple(subjects))) == 2
    assert stored.count_seen(replace(cohort, grid=Grid((4.0,) * 3, (128.0,) * 3))) == 2  # by the files alone
    (said,) = model_of(start).report(cohort).warnings
    assert said.startswith("2be3-net: 2 of 10 scans were among those of its pre-training")


def test_it_travels_to_workers(cohort: Cohort, start: Path) -> None:
    model = model_of(start)
    identity = model.cache_key()
    assert pickle.loads(pickle.dumps(model)).cache_key() == identity
