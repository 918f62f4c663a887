"""What must hold for every model of the registry; a newcomer is tested without anyone writing a test."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_weights

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import CrossValidation
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid
from twobe3.core.outcomes import Kind
from twobe3.features.backbones import load_backbone
from twobe3.io.cache import Cache, checksum
from twobe3.io.files import digest
from twobe3.models import MODELS, Model, load_model
from twobe3.models.model import parameter_names
from twobe3.validation import plan as plan_module
from twobe3.validation.plan import CVPlan
from twobe3.validation.thresholds import ThresholdPolicy

KINDS: tuple[Kind, ...] = ("binary", "time-to-event", "continuous")
SMALL: dict[str, Any] = {
    "backbone": "resnet18",
    "weights": "random",
    "layer": 2,
    "slice_size": 32,
    "components": 4,
    "reduced_channels": 4,
    "width": 4,
    "epochs": 2,
    "ensemble_size": 2,
    "inner_folds": 2,
    "penalties": (10.0, 1e4),
    "spacing_mm": 8.0,
}
SMALL_OF: dict[str, dict[str, Any]] = {
    "cnn3d": {"weights": ""},  # of a 3D network, a file
    "fusion": {
        "of": ({"kind": "baseline", "variable": "suvmax"}, {"kind": "baseline", "variable": "image_extent"}),
        "weights": "learnt",
    },
}


class FineTuned(str):
    """The kind of a model on maps, whose 2D network is trained too."""

    __slots__ = ()


class CrossFitted(str):
    """The kind of a fusion that keeps the models of its inner folds."""

    __slots__ = ()


KINDS_OF_MODELS = [*MODELS, FineTuned("2be3-net"), CrossFitted("fusion")]
STORE = Cache()  # the maps of the cohort below, computed once for all tests


def small(kind: str, **parameters: Any) -> Model:
    """A model of this kind with whatever makes it quick."""
    known = {item.name for item in fields(MODELS[kind])}
    quick = {key: value for key, value in SMALL.items() if key in known} | SMALL_OF.get(kind, {})
    if isinstance(kind, FineTuned):
        quick |= {"finetune": "low-rank", "finetune_epochs": 1, "rank": 2}
    if isinstance(kind, CrossFitted):
        quick |= {"weights": "cross-fitted"}
    return MODELS[kind](**quick | parameters, cache=STORE)


@pytest.fixture(scope="module")
def cohort(make_cohort: Any) -> Cohort:
    made: Cohort = make_cohort(12, KINDS)
    return made


@pytest.fixture(scope="module", params=KINDS_OF_MODELS, ids=lambda kind: f"{type(kind).__name__}-{kind}")
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def fitted(kind: str, cohort: Cohort) -> Model:
    return small(kind).fit(cohort.for_endpoint("relapse"))


def test_the_registry_knows_each_model_by_its_kind_and_says_what_it_is(kind: str) -> None:
    assert MODELS[kind].kind == kind
    assert len(MODELS[kind].summary) > 10


@pytest.mark.parametrize("endpoint", ["relapse", "survival", "uptake"])
def test_every_kind_of_endpoint_is_fitted_and_predicted(kind: str, endpoint: str, cohort: Cohort) -> None:
    subset, model = cohort.for_endpoint(endpoint), small(kind)
    assert model.fit(subset) is model
    prediction = model.predict(subset.subset([7, 2, 5]))
    assert prediction.patients == tuple(cohort.patients[i] for i in (7, 2, 5))
    assert (prediction.model, prediction.endpoint) == (model.name, endpoint)
    assert np.isfinite(prediction.risk).all()
    if endpoint == "relapse":
        assert prediction.probability is not None
        assert ((prediction.probability >= 0) & (prediction.probability <= 1)).all()
        assert (np.argsort(prediction.probability) == np.argsort(prediction.risk)).all()
    else:
        assert prediction.probability is None


def test_a_patient_is_predicted_alike_alone_and_among_others(fitted: Model, cohort: Cohort) -> None:
    together = fitted.predict(cohort).risk
    alone = [fitted.predict(cohort.subset([i])).risk[0] for i in range(len(cohort))]
    np.testing.assert_allclose(alone, together, rtol=1e-5, atol=1e-5)


def test_what_parts_contribute_and_the_risk_differ_by_a_constant(fitted: Model, cohort: Cohort) -> None:
    parts = fitted.contributions(cohort)
    assert parts if fitted.kind == "fusion" else len(parts) != 1
    if parts:
        rest = fitted.predict(cohort).risk - np.sum(list(parts.values()), axis=0)
        assert rest == pytest.approx(np.full(len(cohort), rest[0]), abs=1e-5)


def test_predicting_looks_at_no_outcome(fitted: Model, cohort: Cohort) -> None:
    without = replace(cohort, endpoints=())
    assert (fitted.predict(without).risk == fitted.predict(cohort.for_endpoint("relapse")).risk).all()


def test_the_same_seed_gives_the_same_model_whatever_was_fitted_before(
    kind: str, fitted: Model, cohort: Cohort
) -> None:
    again = small(kind).fit(cohort.for_endpoint("survival")).fit(cohort.for_endpoint("relapse"))
    first, second = fitted.predict(cohort), again.predict(cohort)
    assert (first.risk == second.risk).all()
    assert first.probability is not None
    assert second.probability is not None
    assert (first.probability == second.probability).all()


NAMING = {"weights", "backbone", "init", "of"}  # files and models: their content is in the key, as their own tests show

REGION = {"region": "relative", "otherwise": "percist", "roi": ("other",), "threshold_suv": 3.0, "fraction": 0.5}


def test_a_key_is_another_where_a_parameter_or_the_code_is(
    kind: str, cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acceptance row 51."""

    def keys(model: Model) -> set[str]:
        plan = CVPlan.of([model], cohort.for_endpoint("relapse"), CrossValidation(2, 1), ThresholdPolicy(False, 2, 0))
        return {*plan.keys().values()}

    model, names = small(kind), {*parameter_names(MODELS[kind])} - NAMING
    found = {model.cache_key()}
    for name in names:
        changed = copy.copy(model)
        object.__setattr__(changed, name, REGION.get(name, "another"))
        found.add(changed.cache_key())
    assert len(found) == 1 + len(names)
    first = keys(model)
    assert keys(small(kind)) == first
    monkeypatch.setattr(plan_module, "__version__", "another")
    assert not keys(model) & first


def test_fitting_and_predicting_leave_the_cohort_as_it_was(kind: str, cohort: Cohort) -> None:
    def content() -> tuple[Any, ...]:
        volumes = [cohort.volume(subject).tobytes() for subject in cohort.subjects]
        outcomes = [(item.patients, item.value.tobytes(), item.event.tobytes()) for item in cohort.endpoints]
        return volumes, outcomes, [subject.scan.digest for subject in cohort.subjects], cohort.patients

    before = content()
    small(kind).fit(cohort.for_endpoint("relapse")).predict(cohort)
    assert content() == before


def test_the_order_of_patients_to_predict_is_kept(fitted: Model, cohort: Cohort) -> None:
    backwards = fitted.predict(cohort.subset(range(len(cohort))[::-1]))
    assert backwards.patients == cohort.patients[::-1]
    np.testing.assert_allclose(backwards.risk[::-1], fitted.predict(cohort).risk, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("endpoint", ["relapse", "survival", "uptake"])
def test_a_saved_model_predicts_the_same_from_its_file_alone(
    kind: str, endpoint: str, cohort: Cohort, tmp_path: Path
) -> None:
    parameters, weights = {}, tmp_path / "somebodys folder" / "weights.safetensors"
    if "backbone" in {item.name for item in fields(MODELS[kind])}:
        weights.parent.mkdir()
        save_weights(load_backbone("resnet18", "random").network.state_dict(), weights)
        parameters = {"weights": str(weights)}
    model = small(kind, **parameters).fit(cohort.for_endpoint(endpoint))
    path = model.save(tmp_path / "models")
    weights.unlink(missing_ok=True)
    assert b"somebodys folder" not in path.read_bytes()
    loaded = load_model(path)
    expected, got = model.predict(cohort), loaded.predict(cohort)
    assert type(loaded) is MODELS[kind]
    assert (got.model, got.endpoint, got.patients) == (expected.model, expected.endpoint, expected.patients)
    assert (got.risk == expected.risk).all()
    assert (got.probability is None) == (expected.probability is None)
    assert loaded.endpoint_ == model.endpoint_
    assert loaded.grid_ == cohort.grid
    loaded.fit(cohort.for_endpoint(endpoint))
    assert (loaded.predict(cohort).risk == expected.risk).all()


@pytest.mark.parametrize("endpoint", ["relapse", "survival", "uptake"])
@pytest.mark.parametrize(
    "kind", [kind for kind in MODELS if "endpoints" in {item.name for item in fields(MODELS[kind])}]
)
def test_a_model_that_learns_all_endpoints_predicts_its_own_alike_twice_and_from_its_file(
    kind: str, endpoint: str, cohort: Cohort, tmp_path: Path
) -> None:
    few = tuple(outcomes.subset(range(i, 12)) for i, outcomes in enumerate(cohort.endpoints))  # of some it is not known
    subset = replace(cohort, endpoints=few).for_endpoint(endpoint)
    how = {"endpoints": "all", "head": "hazard", "intervals": 3, "covariates": ("age_years",)}
    model = small(kind, **how).fit(subset)
    assert model.multitask
    predictions = [
        one.predict(cohort) for one in (model, small(kind, **how).fit(subset), load_model(model.save(tmp_path)))
    ]
    first = predictions[0]
    assert first.endpoint == endpoint
    assert (first.probability is not None) == (endpoint == "relapse")
    assert (first.survival is not None) == (endpoint == "survival")
    for other in predictions[1:]:
        np.testing.assert_array_equal(other.risk, first.risk)
        if first.survival is not None and other.survival is not None:
            np.testing.assert_array_equal(other.survival, first.survival)
    own = small(kind, **how | {"endpoints": "own"}).fit(subset).predict(cohort)
    assert (own.risk != first.risk).any()


def test_a_model_is_saved_where_it_is_asked_to_be_and_found_by_its_folder(
    fitted: Model, cohort: Cohort, tmp_path: Path
) -> None:
    assert fitted.save(tmp_path / "a.safetensors") == tmp_path / "a.safetensors"
    assert fitted.save(str(tmp_path / "folder")) == tmp_path / "folder" / "model.safetensors"
    cache = Cache()
    assert load_model(tmp_path / "folder", cache=cache).cache is cache


def test_parameters_survive_json_and_make_the_same_model(kind: str) -> None:
    model = small(kind, seed=3, name="mine")
    again = MODELS[kind](**json.loads(json.dumps(model.public_parameters())))
    assert again.public_parameters() == model.public_parameters()
    assert again.cache_key() == model.cache_key()


def test_another_parameter_is_another_identity(kind: str) -> None:
    assert small(kind, seed=3).cache_key() != small(kind, seed=4).cache_key()


def test_models_share_the_store_that_they_are_given(kind: str) -> None:
    assert small(kind).cache is STORE


def test_an_unknown_parameter_and_a_wrong_value_are_errors(kind: str) -> None:
    with pytest.raises((TypeError, ValidationError), match="epoch_count"):
        MODELS[kind](epoch_count=3)
    with pytest.raises(ValidationError, match="seed"):
        MODELS[kind](seed=-1)


def test_another_grid_is_refused(fitted: Model, cohort: Cohort) -> None:
    coarse = replace(cohort, grid=Grid((16.0,) * 3, (128.0,) * 3))
    with pytest.raises(ValueError, match="was fitted on"):
        fitted.predict(coarse)


def test_an_unfitted_model_neither_predicts_nor_saves(kind: str, cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not fitted"):
        small(kind).predict(cohort)
    with pytest.raises(ValueError, match="is not fitted"):
        small(kind).save(tmp_path)


def refusal(path: Path) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        load_model(path)
    assert caught.value.code is Code.MODEL_INVALID
    assert path.name in caught.value.reason
    assert str(path.parent) not in str(caught.value)
    return caught.value


def test_one_changed_byte_anywhere_is_noticed(fitted: Model, tmp_path: Path) -> None:
    """Acceptance row 33."""
    path = fitted.save(tmp_path / "model.safetensors")
    whole = path.read_bytes()
    for changed in (
        whole[:-1] + bytes([whole[-1] ^ 1]),  # in an array
        whole.replace(b"relapse", b"relapsf", 1),  # in what is said of the model
        whole[: len(whole) // 2],
        whole[:4],
        b"",
    ):
        path.write_bytes(changed)
        assert refusal(path).exit_status == 2


def test_a_pickle_under_our_name_is_refused_and_never_executed(tmp_path: Path) -> None:
    """Acceptance row 32."""

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "executed",))

    path = tmp_path / "model.safetensors"
    for write in (lambda: path.write_bytes(pickle.dumps(Trap())), lambda: torch.save({"weights": Trap()}, path)):
        write()
        refusal(path)
    assert not (tmp_path / "executed").exists()


def test_other_files_and_no_file_are_refused(tmp_path: Path) -> None:
    refusal(tmp_path / "absent.safetensors")
    refusal(tmp_path / "model.safetensors")
    weights = tmp_path / "weights.safetensors"
    for metadata in (None, {"format": "pt"}, {"twobe3": "{}"}):
        save_file({"x": np.zeros(3)}, weights, metadata=metadata)
        refusal(weights)


@pytest.mark.parametrize(
    "change", [{"kind": "4be3-net"}, {"parameters": {"epoch_count": 3}}, {"endpoint": {"kind": "ordinal"}}]
)
def test_a_whole_file_of_an_unknown_model_is_refused(change: dict[str, Any], cohort: Cohort, tmp_path: Path) -> None:
    path = small("baseline").fit(cohort.for_endpoint("relapse")).save(tmp_path / "model.safetensors")
    with safe_open(path, framework="numpy") as stored:
        header: str = json.dumps({**json.loads(stored.metadata()["twobe3"]), **change})
        arrays: dict[str, npt.NDArray[Any]] = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    save_file(arrays, path, metadata={"twobe3": header, "digest": digest([header, checksum(arrays)])})
    assert "does not know" in refusal(path).reason


def test_what_a_model_file_says_of_itself(fitted: Model, kind: str, cohort: Cohort, tmp_path: Path) -> None:
    with safe_open(fitted.save(tmp_path), framework="numpy") as stored:
        header = json.loads(stored.metadata()["twobe3"])
    assert header["kind"] == kind
    assert header["endpoint"] == {"kind": "binary", "name": "relapse", "column": "relapse", "positive": ""}
    assert header["grid"] == json.loads(json.dumps(asdict(cohort.grid)))
    assert not any(patient in json.dumps(header) for patient in cohort.patients)
