"""Tests of the protocol of models: every registered one behaves as scikit-learn's estimators do.

Its own checks, ``sklearn.utils.estimator_checks``, are run where they can be. Most fit on arrays, which our models do
not take, and some forbid a constructor that checks its arguments; their names stand beside what asserts the same here.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.base
from pydantic import ValidationError
from sklearn.utils import estimator_checks
from tests.models.test_conformance import STORE, small

from twobe3.cohort.cohort import Cohort
from twobe3.io.cache import Cache
from twobe3.models import MODELS, Baseline, Fusion, Model, RadiomicsModel, TwoBe3Net
from twobe3.models.fit_report import FitReport
from twobe3.models.model import drop_unusable, parameter_names
from twobe3.runtime.device import CPU, Device


@pytest.fixture(scope="module")
def cohort(make_cohort: Callable[..., Cohort]) -> Cohort:
    return make_cohort(12, ("binary",))


@pytest.fixture(scope="module", params=MODELS)
def kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="module")
def fitted(kind: str, cohort: Cohort) -> Model:
    return small(kind).fit(cohort)


def shown(model: Model) -> dict[str, Any]:
    """Parameters that can be compared, those of members for the members."""
    parameters = {name: value for name, value in model.get_params().items() if not isinstance(value, Model)}
    return {**parameters, **model.public_parameters()}


def is_fitted(model: Model) -> bool:
    return model.endpoint_ is not None


def test_scikit_learns_own_checks_of_parameters(kind: str) -> None:
    model = small(kind)
    estimator_checks.check_get_params_invariance(kind, model)
    estimator_checks.check_estimator_repr(kind, model)
    estimator_checks.check_estimator_cloneable(kind, model)
    before = model.get_params()
    assert model.set_params(**before) is model  # check_set_params
    assert list(model.get_params()) == list(before)
    assert model.set_params() is model


def test_parameters_are_the_arguments_of_the_constructor_without_cache_and_device(kind: str) -> None:
    names = parameter_names(MODELS[kind])
    assert set(names) == {one.name for one in fields(MODELS[kind]) if one.init} - {"cache", "device"}
    model = small(kind)
    assert set(model.get_params(deep=False)) == set(names)
    of = model.of if isinstance(model, Fusion) else ()
    below = {one.name for one in of} | {f"{one.name}__{name}" for one in of for name in one.get_params()}
    assert set(model.get_params()) == set(names) | below


def test_what_is_learnt_has_a_trailing_underscore_and_no_parameter_has(kind: str, fitted: Model) -> None:
    """check_parameters_default_constructible, check_no_attributes_set_in_init, check_dont_overwrite_attributes."""
    names = {*parameter_names(MODELS[kind]), "cache", "device"}
    assert not [name for name in names if name.endswith("_")]
    learnt = [name for name in vars(fitted) if name not in names and not name.startswith("__")]
    assert [name for name in learnt if not name.endswith("_")] in ([], ["fit_cache"])
    added = set(vars(fitted)) - set(vars(small(kind)))
    assert [name for name in added if not name.endswith("_")] == []


def test_fit_leaves_the_parameters_as_they_were(kind: str, cohort: Cohort) -> None:
    """check_dict_unchanged, check_dont_overwrite_attributes."""
    model = small(kind)
    before, key, text = copy.deepcopy(shown(model)), model.cache_key(), repr(model)
    assert model.fit(cohort) is model  # check_estimators_fit_returns_self
    assert shown(model) == before
    assert (model.cache_key(), repr(model)) == (key, text)
    of = model.of if isinstance(model, Fusion) else ()
    assert not any(is_fitted(member) for member in of)


def test_predicting_and_reporting_change_nothing(fitted: Model, cohort: Cohort) -> None:
    """check_dict_unchanged."""
    first = fitted.predict(cohort).risk
    names, parameters = set(vars(fitted)), copy.deepcopy(shown(fitted))
    fitted.report(cohort)
    assert (set(vars(fitted)), shown(fitted)) == (names, parameters)
    np.testing.assert_array_equal(fitted.predict(cohort).risk, first)  # check_methods_sample_order_invariance elsewhere


def test_fitting_again_gives_the_same(fitted: Model, cohort: Cohort) -> None:
    """check_fit_idempotent."""
    first = fitted.predict(cohort).risk
    np.testing.assert_array_equal(fitted.fit(cohort).predict(cohort).risk, first)


@pytest.mark.parametrize("clone", [sklearn.base.clone, lambda model: model.clone()], ids=["scikit-learn", "own"])
def test_a_clone_is_unfitted_and_of_equal_parameters(
    clone: Callable[[Model], Model], fitted: Model, kind: str, cohort: Cohort
) -> None:
    """check_estimator_cloneable."""
    made = clone(fitted)
    assert type(made) is MODELS[kind]
    assert made is not fitted
    assert not is_fitted(made)
    assert is_fitted(fitted)
    assert shown(made) == shown(fitted)
    assert made.cache_key() == fitted.cache_key()
    assert (made.cache, made.device) == (fitted.cache, fitted.device)
    assert made.cache is STORE
    np.testing.assert_array_equal(made.fit(cohort).predict(cohort).risk, fitted.predict(cohort).risk)


def test_a_clone_may_have_another_cache_and_device(kind: str) -> None:
    cache = Cache()
    made = small(kind).clone(cache=cache, device=CPU)
    assert made.cache is cache
    assert made.device is CPU
    assert shown(made) == shown(small(kind))


def test_cache_and_device_are_no_parameters(kind: str) -> None:
    model = small(kind)
    key = model.cache_key()
    assert model.clone(cache=Cache()).cache_key() == key
    assert {"cache", "device"}.isdisjoint(model.get_params())
    for name in ("cache", "device"):
        with pytest.raises(ValueError, match=f"has no parameter '{name}'"):
            model.set_params(**{name: None})


def test_an_unknown_parameter_is_refused_with_the_names_of_all(kind: str, fitted: Model) -> None:
    before = shown(fitted)
    with pytest.raises(ValueError, match=r"has no parameter 'sed'; it has .*\bseed, "):
        fitted.set_params(seed=4, sed=3)
    with pytest.raises(ValidationError, match="seed"):
        fitted.set_params(seed=-1)
    assert shown(fitted) == before  # nothing is set by halves
    assert is_fitted(fitted)


def test_a_changed_parameter_is_validated_and_unfits_the_model(kind: str, cohort: Cohort) -> None:
    model = small(kind).fit(cohort)
    assert model.set_params(seed=7).seed == 7
    assert not is_fitted(model)
    assert shown(model) == shown(small(kind, seed=7))
    assert model.cache is STORE


def test_the_default_name_follows_the_parameters_and_a_given_one_stays() -> None:
    assert Baseline("age").get_params()["name"] == ""
    assert Baseline("age").set_params(variable="sex").name == "sex"
    named = Baseline("age", name="mine").set_params(variable="sex")
    assert (named.name, named.get_params()["name"]) == ("mine", "mine")


def test_repr_shows_what_differs_from_the_default(kind: str) -> None:
    """check_estimator_repr."""
    text = repr(small(kind, seed=3))
    assert text.startswith(f"{MODELS[kind].__name__}(")
    assert "seed=3" in text
    assert not any(f"{name}=" in text for name in ("cache", "device", "name"))
    assert repr(Baseline()) == "Baseline()"
    assert repr(Baseline("age", name="mine")) == "Baseline(variable='age', name='mine')"
    assert repr(RadiomicsModel(max_features=3, cache=Cache())) == "RadiomicsModel(max_features=3)"
    pair = Fusion([Baseline("age"), Baseline("sex", seed=1)], weights="learnt")
    assert repr(pair) == ("Fusion(of=(Baseline(variable='age'), Baseline(variable='sex', seed=1)), weights='learnt')")


def test_repr_shows_no_path(tmp_path: Path) -> None:
    text = repr(TwoBe3Net(weights=str(tmp_path / "a.safetensors"), device=Device(), cache=Cache(tmp_path)))
    assert text == "TwoBe3Net(weights='a.safetensors')"


def test_a_model_survives_copy_and_pickle(fitted: Model, cohort: Cohort) -> None:
    """check_estimators_pickle: worker processes get models so."""
    for made in (copy.copy(fitted), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(made.predict(cohort).risk, fitted.predict(cohort).risk)


def test_a_report_says_the_same_of_a_fitted_and_an_unfitted_model(kind: str, fitted: Model, cohort: Cohort) -> None:
    report = small(kind).report(cohort)
    assert isinstance(report, FitReport)
    assert report == fitted.report(cohort)
    assert report.exclusions == ()
    assert drop_unusable(fitted, cohort) is cohort
    assert (report.n_parameters is None) == bool(report.size)  # a number of coefficients, or the size of a network
    assert fitted.report(cohort.without_outcomes()).size == {}
