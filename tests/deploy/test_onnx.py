"""The ONNX file gives in onnxruntime what the model gives in twobe3; it says how a scan comes onto its grid."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tests.command_line import Call
from tests.conftest import MakeCohort
from torch.nn import functional

import twobe3 as tb
from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.deploy import onnx_file
from twobe3.deploy.covariates import CovariateLayer, describe_covariates, number_covariates
from twobe3.deploy.exportable import Exportable, Exported
from twobe3.deploy.pooling import bin_index, bin_members
from twobe3.io.cache import Cache
from twobe3.io.model_file import read_sealed
from twobe3.models import CNN2D, CNN3D, Baseline, Fusion, PooledModel, TwoBe3Net
from twobe3.models.encoder import CovariateEncoder
from twobe3.models.model import Model
from twobe3.scans.find import find_scans, scan_of

STORE = Cache()
QUICK: dict[str, Any] = {"epochs": 2, "cache": STORE}
RESNET: dict[str, Any] = {"backbone": "phantom-resnet10", "slice_size": 32, "layer": 2}
MODELS: dict[str, Callable[[], Model]] = {
    "default": lambda: TwoBe3Net(**QUICK, inner_folds=2),
    "pictures of a ResNet, two planes, age and sex": lambda: TwoBe3Net(
        **QUICK, **RESNET, inputs=("maps", "profile"), planes=("axial", "coronal"), weighing="joint", ensemble_size=2,
        components=4, covariates=("age_years", "sex"),
    ),
    "fine-tuned": lambda: TwoBe3Net(
        **QUICK, **RESNET, finetune="last-stage", finetune_epochs=1, ensemble_size=2, inputs=("maps", "profile")
    ),
    "cnn2d": lambda: CNN2D(**QUICK, planes=("sagittal",), ensemble_size=1),
    "cnn3d, hazards": lambda: CNN3D(epochs=1, head="hazard", intervals=3, covariates=("age_years",)),
    "pooled over planes, with age": lambda: PooledModel(cache=STORE, pool_planes=True, covariates=("age_years",)),
}  # fmt: skip


@pytest.fixture(scope="module", params=MODELS)
def fitted(
    request: pytest.FixtureRequest, make_cohort: MakeCohort, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Model, Cohort, Exported]:
    """A fitted model, its patients, and its file; the probability is a recalibrated one."""
    survival = "hazards" in request.param
    cohort = make_cohort(16, ("time-to-event",) if survival else ("binary",))
    model = MODELS[request.param]().fit(cohort)
    model.recalibration_ = None if survival else (0.7, -0.4)
    folder = tmp_path_factory.mktemp("onnx")
    model.save(folder)
    return model, cohort, tb.deploy.export_onnx(folder, folder / "model.onnx")


def run(path: Path, inputs: Any) -> list[float]:
    session = onnxruntime.InferenceSession(path)
    names = [one.name for one in session.get_inputs()]
    return [float(one) for one in session.run(None, dict(zip(names, inputs, strict=True)))]


def expected(model: Model, cohort: Cohort) -> list[float]:
    prediction = model.predict(cohort)
    return [float(one[0]) for one in (prediction.risk, prediction.probability) if one is not None]


def test_onnxruntime_gives_what_the_model_gives(fitted: tuple[Model, Cohort, Exported]) -> None:
    model, cohort, exported = fitted
    source = Exportable.read(exported.path.parent)
    risks = []
    for number in (0, 5, 10):
        one = cohort.subset([number])
        found = run(exported.path, source.inputs_of(one, one.subjects[0]))
        assert found == pytest.approx(expected(model, one), abs=1e-4)
        risks.append(found[0])
    assert np.ptp(risks) > 1e-3, "numbers that differ between patients, or nothing was compared"
    assert exported.difference < 1e-4


def test_real_scans_are_no_exception(fitted: tuple[Model, Cohort, Exported], real_data: Path) -> None:
    model, cohort, exported = fitted
    source = Exportable.read(exported.path.parent)
    for series in find_scans([real_data / "sts" / "dicom" / f"STS_{number:03d}" / "PET" for number in (1, 2)]).series:
        subject = Subject(series.patient_id, scan_of(series), covariates=series.covariates)
        one = Cohort((subject,), grid=cohort.grid)
        assert run(exported.path, source.inputs_of(one, subject)) == pytest.approx(expected(model, one), abs=1e-4)


def test_the_file_is_valid_and_tells_nothing_of_where_it_was_made(fitted: tuple[Model, Cohort, Exported]) -> None:
    _, _, exported = fitted
    onnx.checker.check_model(exported.path, full_check=True)
    content = exported.path.read_bytes()
    assert [one.name for one in exported.path.parent.iterdir() if "onnx" in one.name] == ["model.onnx"], "one file"
    for trace in (b".py", b"site-packages", str(Path(tb.__file__).parent).encode(), bytes(exported.path.parent)):
        assert trace not in content


def test_metadata_say_how_a_scan_comes_onto_the_grid(fitted: tuple[Model, Cohort, Exported]) -> None:
    model, cohort, exported = fitted
    session = onnxruntime.InferenceSession(exported.path)
    metadata = session.get_modelmeta().custom_metadata_map
    suv = json.loads(metadata["suv"])
    assert (suv["type"], suv["shape"], suv["spacing_mm"]) == ("bw", [16, 16, 16], [8.0, 8.0, 8.0])
    assert session.get_inputs()[0].shape == suv["shape"]
    assert list(json.loads(metadata["outputs"])) == [one.name for one in session.get_outputs()]
    assert json.loads(metadata["model"])["digest"] == read_sealed(exported.path.parent / "model.safetensors").digest
    assert json.loads(metadata["endpoint"])["name"] == cohort.endpoint.name
    assert [one["name"] for one in json.loads(metadata["covariates"])] == list(getattr(model, "covariates", ()))


# -- the file of the default model alone

SCRIPT = """
import json, sys
import numpy as np
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
print(json.dumps([float(one) for one in session.run(None, {"suv": np.load(sys.argv[2])})]))
assert not {"twobe3", "torch"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def model_file(make_cohort: MakeCohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = TwoBe3Net(**QUICK, inputs=("image",)).fit(make_cohort(16))
    return model.save(tmp_path_factory.mktemp("model"))


def test_a_process_without_twobe3_and_torch_predicts(
    model_file: Path, tmp_path: Path, make_cohort: MakeCohort, twobe3: Call
) -> None:
    document = twobe3("export", model_file, "--to", "onnx", "--out", tmp_path / "m.onnx", "--json").json()
    assert document["size_bytes"] == (tmp_path / "m.onnx").stat().st_size
    cohort = make_cohort(4, seed=3)
    np.save(tmp_path / "suv.npy", cohort.volume(cohort.subjects[0]))
    command = [sys.executable, "-c", SCRIPT, tmp_path / "m.onnx", tmp_path / "suv.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == pytest.approx(
        expected(tb.models.load_model(model_file), cohort.subset([0])), abs=1e-4
    )


def test_the_card_of_a_model_is_copied(model_file: Path) -> None:
    assert Exportable.read(model_file).description["card"] == tb.models.read_card(model_file)[0].to_json()


def test_a_file_of_twobe3_is_replaced_and_no_other(model_file: Path, tmp_path: Path, twobe3: Call) -> None:
    foreign = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []), producer_name="somebody")
    onnx.save(foreign, tmp_path / "foreign.onnx")
    (tmp_path / "notes.onnx").write_text("notes")
    for name in ("foreign.onnx", "notes.onnx", "."):
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        done = twobe3("export", model_file, "--to", "onnx", "--out", tmp_path / name)
        assert (done.status, done.refusal().split(":")[0]) == (2, "OUTPUT_EXISTS")
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    first = tb.deploy.export_onnx(model_file, tmp_path / "m.onnx").path.read_bytes()
    assert tb.deploy.export_onnx(model_file, tmp_path / "m.onnx").path.read_bytes() == first, "the same bytes again"


@pytest.mark.parametrize("to", ["onnx", "monai-bundle"])
@pytest.mark.parametrize(
    "model",
    [
        Baseline("image_extent"),
        Fusion((Baseline("image_extent"), PooledModel(cache=STORE))),
        CNN3D(epochs=1, augmentations=1, test_time="average"),
    ],
    ids=lambda model: model.kind,
)
def test_what_is_no_network_is_refused(
    model: Model, to: str, make_cohort: MakeCohort, tmp_path: Path, twobe3: Call
) -> None:
    path = model.clone().fit(make_cohort(16)).save(tmp_path / "m.safetensors")
    done = twobe3("export", path, "--to", to, "--out", tmp_path / "out")
    assert (done.status, done.refusal().split(":")[0]) == (2, "NOT_EXPORTABLE")
    assert not (tmp_path / "out").exists()


def test_an_absent_extra_is_named(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(EnvironmentFailure, match=r"EXTRA_MISSING: .*\(pip install 'twobe3\[export\]'") as refusal:
        tb.deploy.export_onnx(model_file, tmp_path / "m.onnx")
    assert "onnxscript is not installed" in refusal.value.reason


def test_a_file_that_predicts_something_else_is_not_written(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "_run", lambda *_: [0.0, 0.5])
    with pytest.raises(EnvironmentFailure, match="EXPORT_DIFFERS"):
        tb.deploy.export_onnx(model_file, tmp_path / "m.onnx")
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: None)
    with pytest.raises(ConfigurationError, match="NOT_EXPORTABLE"):
        tb.deploy.export_onnx(model_file, tmp_path / "m.onnx")
    assert not [*tmp_path.iterdir()]


# -- its parts, beside those that they stand for


@pytest.mark.parametrize(("length", "bins"), [(96, 24), (80, 8), (13, 8), (5, 8), (1, 1), (129, 48)])
def test_bins_are_those_of_torch(length: int, bins: int) -> None:
    values = torch.from_numpy(np.random.default_rng(length).normal(size=(2, length)).astype(np.float32))
    members, found = torch.from_numpy(bin_members(length, bins)), values[:, torch.from_numpy(bin_index(length, bins))]
    average = (found * members).sum(dim=-1) / members.sum(dim=-1)
    torch.testing.assert_close(average, functional.adaptive_avg_pool1d(values, bins))
    torch.testing.assert_close(found.amax(dim=-1), functional.adaptive_max_pool1d(values, bins))


def test_covariates_are_encoded_as_in_training(make_cohort: MakeCohort) -> None:
    (scan, *_) = (one.scan for one in make_cohort(1).subjects)
    stages, sexes = ["I"] * 6 + ["II"] * 7 + ["III"] * 3 + ["IV"] * 3, ["F", "M", "O"] * 6 + ["F"]
    training = [
        Subject(str(i), scan, covariates={"stage": stage, **({"age_years": 40.0 + i} if i % 3 else {}), "sex": sex})
        for i, (stage, sex) in enumerate(zip(stages, sexes, strict=True))
    ]
    strange = [Subject("a", scan), Subject("b", scan, covariates={"stage": "V", "sex": "X", "age_years": 90.5})]
    encoder = CovariateEncoder.fit(training, ("stage", "age_years", "sex"))
    assert {one.others for one in encoder.covariates} == {one.indicator for one in encoder.covariates} == {True, False}
    layer = CovariateLayer(encoder)
    for subject in (*training, *strange):
        found = layer(torch.from_numpy(number_covariates(encoder, subject.covariates)))
        np.testing.assert_allclose(found.numpy(), encoder.encode([subject]), rtol=1e-5, atol=1e-6)
    stage = describe_covariates(encoder)[0]
    assert stage == {"name": "stage", "kind": "category", "missing": "NaN", "levels": ["I", "II"], "another level": 2}
