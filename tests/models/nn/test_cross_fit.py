"""Cross-fitted experts: what is composed is their weighed sum, and a wrong expert mutes itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from twobe3.cohort.cohort import Cohort
from twobe3.core.endpoints import Binary, TimeToEvent
from twobe3.core.outcomes import Outcomes
from twobe3.io.cache import Cache
from twobe3.models import TwoBe3Net, load_model
from twobe3.models.blending import learn_weights
from twobe3.models.inner_cv import inner_split
from twobe3.models.nn import cross_fit
from twobe3.models.nn.cross_fit import Expert, train_cross_fitted
from twobe3.models.nn.inputs import ModelInput
from twobe3.models.nn.networks import PlanesNetwork, StackBranch
from twobe3.models.nn.training import TrainingParameters
from twobe3.runtime.device import CPU

SHAPE = (2, 4, 1, 1)
HOW = TrainingParameters(epochs=20, batch_size=16, learning_rate=1e-2, weight_decay=1e-2)
N = 80
SMALL: dict[str, Any] = {"weights": "random", "layer": 2, "slice_size": 32, "components": 8}
STORE = Cache()


def branch() -> StackBranch:
    return StackBranch(SHAPE, reduced=4, width=4)


def network(*names: str, covariates: int = 0) -> PlanesNetwork:
    return PlanesNetwork({name: branch() for name in names}, dropout=0.0, covariates=covariates)


def stacks(seed: int) -> tuple[dict[str, ModelInput], Outcomes, Outcomes]:
    """A stack that tells the outcome, one that does not, and a covariate; a binary and a censored outcome."""
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=N)
    tells, noise = rng.normal(size=(2, N, *SHAPE))
    tells[:, 0] += latent[:, None, None, None]
    patients = [f"{number:03d}" for number in range(N)]
    times, ends = 100 * rng.exponential(size=N) * np.exp(-latent), 200 * rng.random(N)
    table = {
        patient: {"y": str(int(value > 0)), "t": str(min(time, end)), "e": str(int(time <= end))}
        for patient, value, time, end in zip(patients, latent, times, ends, strict=True)
    }
    found = {"tells": tells, "noise": noise}
    inputs = {name: ModelInput(torch.from_numpy(values).float(), None) for name, values in found.items()}
    inputs["covariates"] = ModelInput(torch.from_numpy(latent[:, None] + rng.normal(size=(N, 1))).float(), None)
    return inputs, Binary("label", "y").outcomes(table), TimeToEvent("end", "t", "e").outcomes(table)


def experts(inputs: dict[str, ModelInput]) -> dict[str, Expert]:
    return {
        name: Expert(partial(network, covariates=1), values, covariates=True)
        if name == "covariates"
        else Expert(partial(network, name), values)
        for name, values in inputs.items()
    }


@pytest.mark.parametrize("kind", ["binary", "time-to-event"])
def test_what_is_composed_is_the_weighed_sum_of_the_experts_of_each_fold(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, binary, censored = stacks(1)
    outcomes = binary if kind == "binary" else censored
    trained: list[tuple[PlanesNetwork, np.ndarray]] = []
    blends: list[Any] = []

    def spy(*arguments: Any) -> tuple[PlanesNetwork, np.ndarray]:
        trained.append(original(*arguments))
        return trained[-1]

    def learn(risks: np.ndarray, given: Outcomes) -> Any:
        blends.append((risks, learn_weights(risks, given)))
        return blends[-1][1]

    original = cross_fit._train
    monkeypatch.setattr(cross_fit, "_train", spy)
    monkeypatch.setattr(cross_fit, "learn_weights", learn)
    split = inner_split(outcomes, 4, 0)
    whole = partial(network, "tells", "noise", covariates=1)
    folds, weights = train_cross_fitted(experts(inputs), whole, outcomes, split, HOW, 0, CPU)
    ((risks, blend),) = blends
    seen = [values.values for values in inputs.values()]
    for number, fold in enumerate(split):
        found = np.column_stack([risk for _, risk in trained[3 * number : 3 * number + 3]])
        if kind == "time-to-event":
            found = found - found[fold.train].mean(axis=0)
        np.testing.assert_allclose(risks[fold.test], found[fold.test], atol=1e-9)
        expected = blend.bias + ((found - blend.mean) / blend.scale) @ blend.weights
        with torch.inference_mode():
            np.testing.assert_allclose(folds[number](seen).numpy(), expected, atol=1e-4)
    assert list(weights.values()) == blend.weights.tolist()


@pytest.mark.parametrize("kind", ["binary", "time-to-event"])
def test_an_expert_of_noise_mutes_itself(kind: str) -> None:
    noise, tells = [], []
    for seed in range(3):
        inputs, binary, censored = stacks(seed)
        outcomes = binary if kind == "binary" else censored
        split = inner_split(outcomes, 4, seed)
        whole = partial(network, "tells", "noise", covariates=1)
        _, weights = train_cross_fitted(experts(inputs), whole, outcomes, split, HOW, seed, CPU)
        assert min(weights.values()) >= 0
        noise.append(weights["noise"])
        tells.append(weights["tells"])
    assert np.mean(noise) < 0.25 * np.mean(tells)


def test_no_expert_sees_the_fold_that_it_is_weighed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, outcomes, _ = stacks(2)
    seen: list[tuple[str, ...]] = []
    original = cross_fit.train_ensemble

    def spy(make: Any, some: Any, given: Outcomes, *others: Any, **named: Any) -> Any:
        seen.append(given.patients)
        return original(make, some, given, *others, **named)

    monkeypatch.setattr(cross_fit, "train_ensemble", spy)
    split = inner_split(outcomes, 4, 0)
    train_cross_fitted(experts(inputs), partial(network, "tells", "noise", covariates=1), outcomes, split, HOW, 0, CPU)
    assert len(seen) == 4 * 3
    for number, patients in enumerate(seen):
        left_out = {outcomes.patients[i] for i in split[number // 3].test}
        assert left_out.isdisjoint(patients)


def test_a_fitted_model_is_saved_with_its_weights_and_contributes_by_stack(
    make_cohort: Callable[..., Cohort], tmp_path: Path
) -> None:
    cohort = make_cohort(24)
    how: dict[str, Any] = {**SMALL, "epochs": 2, "cache": STORE, "weighing": "cross-fitted"}
    model = TwoBe3Net(**how, inputs=("maps", "image"), inner_folds=3, covariates=("age_years",)).fit(cohort)
    assert len(model.networks_) == 3
    assert list(model.stack_weights_) == ["axial", "image", "covariates"]
    again = load_model(model.save(tmp_path / "model.safetensors"))
    assert isinstance(again, TwoBe3Net)
    np.testing.assert_array_equal(again.predict(cohort).risk, model.predict(cohort).risk)
    assert again.stack_weights_ == model.stack_weights_
    rest = model.predict(cohort).risk - sum(model.contributions(cohort).values())
    assert rest == pytest.approx(np.full(24, rest[0]), abs=1e-4)


def test_with_too_few_patients_to_split_the_stacks_are_trained_jointly(make_cohort: Callable[..., Cohort]) -> None:
    few = make_cohort(40).subset([0, 1])
    how: dict[str, Any] = {**SMALL, "epochs": 1, "cache": STORE, "inputs": ("maps", "image")}
    fused, joint = (TwoBe3Net(**how, weighing=weighing).fit(few) for weighing in ("cross-fitted", "joint"))
    np.testing.assert_array_equal(fused.predict(few).risk, joint.predict(few).risk)
    assert fused.stack_weights_ == {}


def test_a_second_fit_forgets_the_weights_of_the_first(make_cohort: Callable[..., Cohort]) -> None:
    cohort = make_cohort(24)
    model = TwoBe3Net(**{**SMALL, "epochs": 1, "cache": STORE}, inputs=("image", "profile"), inner_folds=2)
    assert model.fit(cohort).stack_weights_.keys() == {"image", "profile"}
    assert model.fit(cohort.subset([0, 1, 2])).stack_weights_ == {}
