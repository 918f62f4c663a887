"""Fusions: what they make of their members' risks, and that they learn it from nobody they should not see."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.base
from pydantic import ValidationError
from pydantic.dataclasses import dataclass
from scipy.special import expit
from sklearn.ensemble import VotingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sksurv.linear_model import CoxPHSurvivalAnalysis

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import CrossValidation, Fold
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.errors import ConfigurationError, Exclusion
from twobe3.core.outcomes import Kind, Outcomes
from twobe3.io.cache import Arrays, Cache
from twobe3.models import Baseline, Fusion, Model, PooledModel, load_model
from twobe3.models.blending import PENALTY
from twobe3.models.fit_cache import FitCache
from twobe3.models.fit_report import FitReport
from twobe3.models.fusion import Weights
from twobe3.models.learners.elastic_net import fit_nonnegative
from twobe3.models.model import CONFIG
from twobe3.scans.regions import Region
from twobe3.study.config import read_study
from twobe3.study.predict import predict
from twobe3.study.run import run
from twobe3.validation.baselines import add_baselines
from twobe3.validation.cross_validate import fit_final_models, out_of_fold
from twobe3.validation.leakage import audit
from twobe3.validation.plan import CVPlan
from twobe3.validation.provenance import collect_warnings
from twobe3.validation.thresholds import ThresholdPolicy

FloatArray = npt.NDArray[np.float64]
KINDS: tuple[Kind, ...] = ("binary", "time-to-event", "continuous")
ENDPOINTS = ("relapse", "survival", "uptake")


@dataclass(config=CONFIG)
class Known(Model):
    """A member of which everything is known: it says what it is told of each patient, and keeps whom it saw."""

    kind: ClassVar[str] = "known"
    summary: ClassVar[str] = "for these tests"

    said: Any = None
    by_heart: bool = False
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.saw: list[tuple[str, ...]] = []
        self.learnt: dict[str, float] = {}

    def _exclusions(self, cohort: Cohort) -> tuple[Exclusion, ...]:
        return tuple(
            Exclusion(subject.patient, "", "CONTOUR_MISSING", self.name, "")
            for subject in cohort.subjects
            if subject.patient_id in self.without
        )

    def _fit(self, cohort: Cohort) -> None:
        self.saw.append(cohort.patients)
        self.learnt = dict(zip(cohort.patients, cohort.outcomes.event.astype(float), strict=True))

    def _risk(self, cohort: Cohort) -> FloatArray:
        if self.by_heart:
            return np.array([self.learnt.get(patient, 0.5) for patient in cohort.patients])
        return np.array([self.said[patient] for patient in cohort.patients])

    def _arrays(self) -> Arrays:
        return {}

    def _restore(self, arrays: Arrays, notes: Mapping[str, Any]) -> None:
        pass


@pytest.fixture(scope="module")
def cohort(make_cohort: Any) -> Cohort:
    made: Cohort = make_cohort(24, KINDS)
    return made


STORE = Cache()


def baselines() -> list[Model]:
    return [Baseline("suvmax", cache=STORE), Baseline("age", cache=STORE), Baseline("weight", cache=STORE)]


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_equal_weights_give_the_mean_of_standardised_risks_on_the_members_own_scale(
    endpoint: str, cohort: Cohort
) -> None:
    subset = cohort.for_endpoint(endpoint)
    training, tested = subset.subset(range(16)), subset.subset(range(16, 24))
    alone = [model.fit(training) for model in baselines()]
    own = np.stack([model.predict(training).risk for model in alone])
    new = np.stack([model.predict(tested).risk for model in alone])
    mean, deviation = own.mean(axis=1), own.std(axis=1)
    standardised = (new - mean[:, None]) / deviation[:, None]
    by_hand = deviation.mean() * standardised.mean(axis=0) + (0.0 if endpoint == "survival" else mean.mean())
    np.testing.assert_allclose(Fusion(baselines()).fit(training).predict(tested).risk, by_hand, rtol=1e-9, atol=1e-12)


def said(cohort: Cohort, seed: int, *, size: float = 1.0, informed: float = 0.0) -> dict[str, float]:
    rng, event = np.random.default_rng(seed), cohort.outcomes.event
    return dict(zip(cohort.patients, size * (rng.normal(size=len(cohort)) + informed * event), strict=True))


@pytest.mark.parametrize("weights", get_args(Weights))
def test_a_member_that_is_ten_times_as_sure_of_itself_has_no_more_to_say(weights: Weights, cohort: Cohort) -> None:
    subset = cohort.for_endpoint("relapse")
    first, second = said(subset, 0, informed=1.5), said(subset, 1, informed=1.5)
    surer = {patient: 10.0 * risk + 3.0 for patient, risk in second.items()}
    modest, sure = (
        Fusion([Known(first, name="a"), Known(one, name="b")], weights=weights).fit(subset).predict(subset).risk
        for one in (second, surer)
    )
    assert np.corrcoef(modest, sure)[0, 1] == pytest.approx(1.0, abs=1e-6)
    if weights != "equal":
        np.testing.assert_allclose(modest, sure, atol=1e-4)


@pytest.mark.parametrize("weights", get_args(Weights))
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_member_that_says_the_same_of_everybody_changes_no_order(
    endpoint: str, weights: Weights, cohort: Cohort
) -> None:
    subset = cohort.for_endpoint(endpoint)
    silent = Known(dict.fromkeys(subset.patients, 0.1 + 0.2), name="silent")
    fused = Fusion([Baseline("suvmax"), silent], weights=weights, cache=STORE).fit(subset).predict(subset).risk
    alone = Baseline("suvmax", cache=STORE).fit(subset).predict(subset).risk
    assert (np.argsort(fused) == np.argsort(alone)).all()


def held_out(cohort: Cohort, folds: int = 4, seed: int = 0) -> FloatArray:
    """Inner out-of-fold risks of the baselines, made here by hand."""
    risks = np.zeros((len(cohort), 3))
    for fold in CrossValidation(folds, 1, seed).split(cohort.sample):
        part = cohort.subset(fold.train)
        for column, model in enumerate(baselines()):
            model.fit(part)
            origin = model.predict(part).risk.mean() if cohort.endpoint.kind == "time-to-event" else 0.0
            risks[fold.test, column] = model.predict(cohort.subset(fold.test)).risk - origin
    return risks


def fitted_elsewhere(x: FloatArray, outcomes: Outcomes) -> FloatArray:
    """Weights and intercept by scikit-learn or scikit-survival, without a constraint."""
    if outcomes.endpoint.kind == "continuous":
        linear = Ridge(alpha=PENALTY, solver="svd").fit(x, outcomes.value)
        return np.append(linear.coef_, linear.intercept_)
    if outcomes.endpoint.kind == "binary":
        logistic = LogisticRegression(C=1.0 / PENALTY, tol=1e-10, max_iter=10_000).fit(x, outcomes.event)
        return np.append(logistic.coef_[0], logistic.intercept_)
    observed = np.array(list(zip(outcomes.event, outcomes.value, strict=True)), dtype=[("e", bool), ("t", float)])
    cox = CoxPHSurvivalAnalysis(alpha=PENALTY, ties="efron", tol=1e-12, n_iter=500).fit(x, observed)
    return np.append(cox.coef_, 0.0)


def oracle(x: FloatArray, outcomes: Outcomes) -> FloatArray:
    """With weights that are not negative: of a convex loss the minimum is the free one over the columns that it uses.

    So it is the best of the free minima over subsets of the columns in which no weight is negative.
    """
    found = [np.append(np.zeros(x.shape[1]), fitted_elsewhere(0.0 * x, outcomes)[-1])]
    for size in range(1, x.shape[1] + 1):
        for columns in combinations(range(x.shape[1]), size):
            theta = fitted_elsewhere(x[:, list(columns)], outcomes)
            if (theta[:-1] >= 0).all():
                found.append(np.append(np.zeros(x.shape[1]), theta[-1]))
                found[-1][list(columns)] = theta[:-1]
    return min(found, key=lambda theta: loss(theta, x, outcomes))


def loss(theta: FloatArray, x: FloatArray, outcomes: Outcomes) -> float:
    risk, event = x @ theta[:-1] + theta[-1], outcomes.event
    shrink = PENALTY / 2 * float(theta[:-1] @ theta[:-1])
    if outcomes.endpoint.kind == "binary":
        return float(np.logaddexp(0.0, risk).sum() - risk[event].sum()) + shrink
    if outcomes.endpoint.kind == "continuous":
        return float(((risk - outcomes.value) ** 2).sum()) / 2 + shrink
    at_risk = outcomes.value[None, :] >= outcomes.value[event][:, None]  # the times below have no ties
    return float(np.log(at_risk @ np.exp(risk)).sum() - risk[event].sum()) + shrink


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_not_negative_are_those_of_an_oracle(kind: Kind) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 4))
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    true, patients = x @ [1.0, 0.4, -0.8, 0.0], tuple(f"p{i}" for i in range(60))
    if kind == "binary":
        event = true + rng.logistic(size=60) > 0
        outcomes = Outcomes(Binary("y", "y"), patients, event.astype(float), event)
    elif kind == "continuous":
        outcomes = Outcomes(Continuous("y", "y"), patients, 40.0 + true + rng.normal(size=60), np.ones(60, np.bool_))
    else:
        time = rng.exponential(np.exp(-true))
        outcomes = Outcomes(TimeToEvent("y", "t", "e"), patients, time, time <= 1.5)
    weights, bias = fit_nonnegative(x, outcomes, PENALTY)
    expected = oracle(x, outcomes)
    assert expected[0] > 0
    assert expected[2] == 0
    np.testing.assert_allclose(np.append(weights, bias), expected, atol=1e-4)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_learnt_weights_are_an_oracles_on_inner_risks_and_go_to_the_member_that_knows(
    endpoint: str, cohort: Cohort
) -> None:
    subset = cohort.for_endpoint(endpoint)
    fusion = Fusion(baselines(), weights="learnt").fit(subset)
    inner = held_out(subset)
    x = (inner - inner.mean(axis=0)) / inner.std(axis=0)
    weights = np.array(list(fusion.weight_of.values()))
    np.testing.assert_allclose(weights, oracle(x, subset.outcomes)[:-1], atol=1e-3)
    assert weights[0] > 3 * weights[1:].max()
    assert list(fusion.weight_of) == ["suvmax (contour)", "age", "weight"]


@pytest.mark.parametrize("weights", ["learnt", "cross-fitted"])
def test_a_member_that_knows_its_training_patients_by_heart_gets_no_weight(weights: Weights, cohort: Cohort) -> None:
    subset = cohort.for_endpoint("relapse")
    knows, learns = Known(by_heart=True, name="by heart"), Baseline("suvmax", cache=STORE)
    fusion = Fusion([knows, learns], weights=weights).fit(subset)
    assert (Known(by_heart=True).fit(subset).predict(subset).risk == subset.outcomes.event).all()
    assert fusion.weight_of["by heart"] == 0.0
    assert fusion.weight_of["suvmax (contour)"] > 0.5


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_cross_fitted_weights_are_an_oracles_and_weigh_the_mean_of_the_inner_models(
    endpoint: str, cohort: Cohort
) -> None:
    subset = cohort.for_endpoint(endpoint)
    training, tested = subset.subset(range(4, 24)), subset.subset(range(4))
    fusion = Fusion(baselines(), weights="cross-fitted").fit(training)
    inner = held_out(training)
    theta = oracle((inner - inner.mean(axis=0)) / inner.std(axis=0), training.outcomes)
    np.testing.assert_allclose(list(fusion.weight_of.values()), theta[:-1], atol=1e-3)
    new = []
    for fold in CrossValidation(4, 1, 0).split(training.sample):
        part = training.subset(fold.train)
        alone = [model.fit(part) for model in baselines()]
        origins = [model.predict(part).risk.mean() if endpoint == "survival" else 0.0 for model in alone]
        new.append(np.stack([model.predict(tested).risk for model in alone], axis=1) - origins)
    standardised = (np.mean(new, axis=0) - inner.mean(axis=0)) / inner.std(axis=0)
    np.testing.assert_allclose(fusion.predict(tested).risk, standardised @ theta[:-1] + theta[-1], atol=2e-3)


@pytest.mark.parametrize("endpoint", ["relapse", "uptake"])
def test_members_that_no_fit_changes_are_weighed_alike_crossed_or_not(endpoint: str, cohort: Cohort) -> None:
    subset = cohort.for_endpoint(endpoint)
    of = [Known(said(subset, i, informed=1.0), name=str(i)) for i in range(3)]
    crossed, learnt = (Fusion(of, weights=weights).fit(subset) for weights in ("cross-fitted", "learnt"))
    assert crossed.weight_of == learnt.weight_of
    np.testing.assert_allclose(crossed.predict(subset).risk, learnt.predict(subset).risk, rtol=1e-12)


class Shifted(Known):
    """A member whose risks have no origin: every fit adds another constant."""

    def _fit(self, cohort: Cohort) -> None:
        super()._fit(cohort)
        self.shift_ = float(sum(int(patient[-2:]) for patient in cohort.patients))

    def _risk(self, cohort: Cohort) -> FloatArray:
        return super()._risk(cohort) + self.shift_


@pytest.mark.parametrize("weights", get_args(Weights))
def test_log_hazard_ratios_may_count_from_anywhere_in_every_fit(weights: Weights, cohort: Cohort) -> None:
    subset = cohort.for_endpoint("survival")
    risks = [said(subset, i, informed=1.0) for i in range(2)]
    plain, shifted = (
        Fusion([make(one, name=str(i)) for i, one in enumerate(risks)], weights=weights).fit(subset).predict(subset)
        for make in (Known, Shifted)
    )
    np.testing.assert_allclose(shifted.risk, plain.risk, atol=1e-4)


def test_cross_fitted_probabilities_have_the_prevalence_as_their_mean_out_of_fold(cohort: Cohort) -> None:
    """The score equation of logistic regression for its bias, which carries no penalty."""
    subset = cohort.for_endpoint("relapse").subset(range(3, 24))
    fusion = Fusion(baselines(), weights="cross-fitted").fit(subset)
    assert fusion.blend_ is not None
    assert expit(fusion.blend_.risk(held_out(subset))).mean() == pytest.approx(subset.outcomes.event.mean(), abs=1e-5)


def test_noise_is_muted_and_so_is_who_says_the_opposite(make_cohort: Any) -> None:
    cohort = make_cohort(80)
    of_noise = []
    for seed in range(8):
        knows = said(cohort, seed, informed=2.0)
        opposite = {patient: -risk for patient, risk in said(cohort, 100 + seed, informed=2.0).items()}
        of = [Known(knows, name="knows"), Known(said(cohort, 200 + seed), name="noise"), Known(opposite, name="no")]
        fusion = Fusion(of, weights="cross-fitted").fit(cohort)
        assert fusion.weight_of["no"] == 0.0
        # By the Fisher information the weight of noise is about normal with this standard deviation, cut off at 0.
        chance = expit(fusion.predict(cohort).risk)
        deviation = 1.0 / np.sqrt((chance * (1.0 - chance)).sum())
        assert fusion.weight_of["noise"] < 3.0 * deviation < fusion.weight_of["knows"]
        of_noise.append(fusion.weight_of["noise"] / deviation)
    assert np.median(of_noise) < 1.0


def test_the_order_of_patients_changes_nothing_but_who_is_split_from_whom(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    subset = cohort.for_endpoint("survival")
    part = {patient: i % 3 for i, patient in enumerate(subset.patients)}

    def split_by_patient(outcomes: Outcomes, *arguments: Any, **named: Any) -> tuple[Fold, ...]:
        parts = np.array([part[patient] for patient in outcomes.patients])
        return tuple(Fold(0, k, np.flatnonzero(parts != k), np.flatnonzero(parts == k)) for k in range(3))

    monkeypatch.setattr("twobe3.models.fusion.inner_split", split_by_patient)
    order = np.random.default_rng(0).permutation(len(subset))
    first, second = (
        Fusion(baselines(), weights="cross-fitted").fit(one).predict(subset).risk
        for one in (subset, subset.subset(order))
    )
    np.testing.assert_allclose(second, first, atol=1e-4)


def test_what_every_inner_model_shares_is_stored_once(cohort: Cohort, tmp_path: Path) -> None:
    subset = cohort.for_endpoint("relapse")
    net = PooledModel(backbone="phantom-resnet10", layer=1, slice_size=32, planes=("axial",), penalties=(10.0,))
    model = Fusion([net, Baseline("age")], weights="cross-fitted", inner_folds=2).fit(subset)
    stored = model._arrays()
    inner = model.members_[0].models
    assert any(name.startswith("of0.0.backbone.") for name in stored)
    assert not any(name.startswith("of0.1.backbone.") for name in stored)
    assert (inner[0].predict(subset).risk != inner[1].predict(subset).risk).any()
    loaded = load_model(model.save(tmp_path))
    assert (loaded.predict(subset).risk == model.predict(subset).risk).all()


@pytest.mark.parametrize("weights", get_args(Weights))
def test_members_see_the_training_patients_of_their_inner_fold_only(weights: Weights, cohort: Cohort) -> None:
    """Acceptance row 39."""
    subset = cohort.for_endpoint("relapse")
    fusion = Fusion([Known(said(subset, i), name=str(i)) for i in range(2)], weights=weights)
    training = subset.subset(range(4, 24))
    fusion.fit(training).predict(subset.subset(range(4)))
    inner = [training.subset(fold.train).patients for fold in CrossValidation(4, 1, 0).split(training.sample)]
    for member in fusion.of:
        assert isinstance(member, Known)
        assert member.saw == {
            "equal": [training.patients], "learnt": [*inner, training.patients], "cross-fitted": inner,
        }[weights]  # fmt: skip


def test_the_leakage_audit_passes(cohort: Cohort) -> None:
    subset = cohort.for_endpoint("relapse")
    members = [Known(said(subset, 0, informed=1.0), name="says"), Known(by_heart=True, name="by heart")]
    models = [Fusion(members, weights=weights, inner_folds=2) for weights in get_args(Weights)]
    scheme = CrossValidation(2)
    fits = CVPlan.of(models, subset, scheme, ThresholdPolicy(recalibrate=True, inner_folds=2))
    found = audit(fits, out_of_fold(fits, Cache(), 1), scheme, permutations=2)
    assert found.passed
    assert not found.seeing
    assert {row.model for row in found.permuted} >= {f"fusion of 2, {weights} weights" for weights in get_args(Weights)}


class Counted(Baseline):
    """A baseline that counts its fits."""

    fits: ClassVar[int] = 0

    def _fit(self, cohort: Cohort) -> None:
        Counted.fits += 1
        super()._fit(cohort)


def test_a_study_fits_each_of_its_models_once_a_fold_however_many_fusions_have_it(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    subset, scheme = cohort.for_endpoint("relapse"), CrossValidation(3)
    models: list[Model] = [Counted("suvmax", cache=STORE), Counted("age", cache=STORE)]
    pair = Fusion(models, name="pair")
    learnt, crossed = (Fusion(models, weights=weights, inner_folds=2) for weights in get_args(Weights)[1:])
    fusions = [Fusion([pair, Baseline("weight")], name="three"), pair, learnt, crossed]
    alone = {model.name: out_of_fold(CVPlan.of([model], subset, scheme), Cache(), 1) for model in fusions}
    monkeypatch.setattr(Counted, "fits", 0)
    together = out_of_fold(CVPlan.of([fusions[0], *models, *fusions[1:]], subset, scheme), Cache(), 1)
    assert Counted.fits == 3 * 2 * (1 + 2)  # folds, models; for all patients of the fold and for the inner folds
    for number, fusion in zip((0, 3, 4, 5), fusions, strict=True):
        for position in range(3):
            expected, got = alone[fusion.name]["relapse", 0, position], together["relapse", number, position]
            assert (got["risk"] == expected["risk"]).all()
            assert (got["threshold"] == expected["threshold"]).all()
    monkeypatch.setattr(Counted, "fits", 0)
    # A file must say what its members are; the class that counts is a baseline in every other respect.
    saved = fit_final_models(CVPlan.of([fusions[0], *models, *fusions[1:]], subset, scheme), tmp_path, 1)
    assert Counted.fits == 2 * (1 + 2)
    for number, fusion in zip((0, 3, 4, 5), fusions, strict=True):
        expected_risk = copy.copy(fusion).fit(subset).predict(subset).risk
        assert (load_model(saved["relapse", number], cache=STORE).predict(subset).risk == expected_risk).all()


def test_members_are_fitted_once_where_the_fusion_leaves_scans_out_and_where_it_recalibrates(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    subset, scheme = cohort.for_endpoint("relapse"), CrossValidation(3)
    blind = Known(said(subset, 0), name="blind", without=(subset.patients[5],))
    models: list[Model] = [Counted("suvmax", cache=STORE), Counted("age", cache=STORE)]
    monkeypatch.setattr(Counted, "fits", 0)
    out_of_fold(CVPlan.of([Fusion([*models, blind]), blind, *models], subset, scheme), Cache(), 1)
    assert Counted.fits == 3 * 2  # folds, models
    monkeypatch.setattr(Counted, "fits", 0)
    policy = ThresholdPolicy(recalibrate=True, inner_folds=2)
    out_of_fold(CVPlan.of([Fusion(models), *models], subset, scheme, policy), Cache(), 1)
    assert Counted.fits == 3 * 2 * (1 + 2)  # and inner folds


def test_what_was_fitted_on_other_patients_or_other_outcomes_is_not_taken_over(cohort: Cohort) -> None:
    subset = cohort.for_endpoint("relapse")
    model = Baseline("age").fit(subset)
    cache = FitCache()
    cache.put(model, subset)
    known = cache.get(Baseline("age"), subset)
    assert known is not None
    assert (known.predict(subset).risk == model.predict(subset).risk).all()
    assert cache.get(Baseline("age"), subset.subset(range(23))) is None
    assert cache.get(Baseline("age"), cohort.for_endpoint("uptake")) is None
    assert cache.get(Baseline("age", seed=1), subset) is None
    model.fit(subset.subset(range(12)))
    assert (known.predict(subset).risk != model.predict(subset).risk).any()


@pytest.mark.parametrize("weights", ["learnt", "cross-fitted"])
def test_too_few_patients_to_split_get_equal_weights_and_that_is_told(
    weights: Weights, cohort: Cohort, caplog: pytest.LogCaptureFixture
) -> None:
    subset = cohort.for_endpoint("relapse")
    event = subset.outcomes.event
    few = subset.subset([*np.flatnonzero(event)[:1], *np.flatnonzero(~event)[:5]])
    with caplog.at_level(logging.INFO, logger="twobe3"):
        learnt = Fusion(baselines(), weights=weights).fit(few)
    assert "too few patients to learn weights" in caplog.text
    assert (learnt.predict(subset).risk == Fusion(baselines()).fit(few).predict(subset).risk).all()


def test_the_models_that_are_fused_stay_as_they_were(cohort: Cohort) -> None:
    member = Baseline("suvmax", cache=STORE)
    Fusion([member, Baseline("age")]).fit(cohort.for_endpoint("relapse"))
    assert member.endpoint_ is None
    pair = Fusion([member, Baseline("age")])
    Fusion([pair, Baseline("sex")]).fit(cohort.for_endpoint("relapse"))
    assert [one.endpoint_ for one in (pair, *pair.of)] == [None] * 3


def test_members_keep_their_stores_unless_the_fusion_is_given_one() -> None:
    fusion, own = Fusion(baselines()), Cache()
    assert [fusion.cache, *(member.cache for member in fusion.of)] == [STORE] * 4
    assert all(cache is STORE for cache in (fusion.cache, *(member.cache for member in fusion.of)))
    assert all(member.cache is own for member in Fusion(baselines(), cache=own).of)


def test_parameters_of_members_are_reached_as_in_scikit_learns_ensembles(cohort: Cohort) -> None:
    ours = Fusion([Baseline("image_extent", name="a"), Baseline("age", name="b")])
    theirs = VotingRegressor([("a", Ridge()), ("b", Ridge())])
    for ensemble in (ours, theirs):
        deep, shallow = ensemble.get_params(), ensemble.get_params(deep=False)
        members = {"a": deep["a"], "b": deep["b"]}
        below = {f"{name}__{one}" for name, member in members.items() for one in member.get_params()}
        assert set(deep) == {*shallow, *members, *below}
        made = sklearn.base.clone(ensemble)
        assert set(made.get_params()) == set(deep)
        assert ensemble.set_params(**deep) is ensemble
    ours.fit(cohort.for_endpoint("relapse"))
    before, key = ours.get_params(), ours.cache_key()
    assert ours.set_params(a__inner_folds=3, b=Baseline("weight", name="b"), b__seed=7) is ours
    assert ours.endpoint_ is None
    assert [(one.name, one.inner_folds, one.seed) for one in ours.of] == [("a", 3, 0), ("b", 4, 7)]  # type: ignore[attr-defined]
    assert ours.get_params()["b__variable"] == "weight"
    assert (before["a"].inner_folds, before["b"].variable) == (4, "age")
    assert ours.cache_key() != key
    for wrong in ("a__inner_fold", "c__seed", "c"):
        with pytest.raises(ValueError, match=f"has no parameter '{wrong}'; it has .*, a__inner_folds, "):
            ours.set_params(**{wrong: 1})
    with pytest.raises(ValueError, match="of a sequence of models"):
        ours.set_params(a=3)
    outer = Fusion([ours, Baseline("sex", name="seed")], name="outer")
    assert outer.set_params(**{f"{ours.name}__a__seed": 5}).get_params()[f"{ours.name}__a__seed"] == 5
    assert (outer.set_params(seed=2).seed, outer.of[1].seed) == (2, 0)  # its own parameter hides the member


def test_a_scan_that_a_member_cannot_use_is_none_for_the_fusion_and_the_others_learn_from_it(cohort: Cohort) -> None:
    subset = cohort.for_endpoint("relapse")
    patients = subset.patients
    fusion = Fusion([Known(said(subset, i), name=str(i), without=(patients[3 * i + 1], patients[7])) for i in range(2)])
    left_out = fusion.report(subset).exclusions
    assert [one.patient for one in left_out] == [subset.subjects[i].patient for i in (1, 4, 7)]
    assert [one.reason for one in left_out] == ["0", "1", "0"]
    prediction = fusion.fit(subset).predict(subset)
    assert prediction.patients == tuple(patients[i] for i in range(24) if i not in (1, 4, 7))
    for i, member in enumerate(fusion.of):
        assert isinstance(member, Known)
        assert member.saw == [tuple(patient for patient in patients if patient not in member.without)], i


def test_the_identity_is_that_of_the_members_too() -> None:
    plain = Fusion([Baseline("age"), Baseline("sex")])
    assert plain.cache_key() == Fusion([Baseline("age"), Baseline("sex")]).cache_key()
    others = [
        Fusion([Baseline("age"), Baseline("weight", name="sex")]),
        Fusion([Baseline("age"), Baseline("sex", seed=1)]),
        Fusion([Baseline("sex"), Baseline("age")]),
        Fusion([Baseline("age"), Baseline("sex")], weights="learnt", name=plain.name),
    ]
    assert len({one.cache_key() for one in (plain, *others)}) == 5


def test_candidate_parameters_are_those_of_the_members_and_the_learnt_weights(cohort: Cohort) -> None:
    assert Fusion(baselines()).report(cohort).n_parameters == 3
    assert Fusion(baselines(), weights="learnt").report(cohort).n_parameters == 6
    assert Fusion(baselines(), weights="cross-fitted").report(cohort).n_parameters == 6
    assert Fusion([*baselines(), Known(name="network")]).report(cohort).n_parameters is None


@pytest.mark.parametrize(("above", "below"), [("equal", "learnt"), ("cross-fitted", "equal"), ("cross-fitted",) * 2])
def test_a_fusion_of_a_fusion_comes_back_from_its_file(
    above: Weights, below: Weights, cohort: Cohort, tmp_path: Path
) -> None:
    subset = cohort.for_endpoint("survival")
    inner = Fusion([Baseline("suvmax"), Baseline("age")], weights=below, name="pair")
    model = Fusion([inner, Baseline("sex")], weights=above, cache=STORE).fit(subset)
    model.save(tmp_path)
    cache = Cache()
    loaded = load_model(tmp_path, cache=cache)
    assert (loaded.predict(subset).risk == model.predict(subset).risk).all()
    assert isinstance(loaded, Fusion)
    assert loaded.weight_of == model.weight_of
    (pairs, sexes) = loaded.members_
    assert len(pairs.models) == len(sexes.models) == (1 if above == "equal" else 4)
    for pair in pairs.models:
        assert isinstance(pair, Fusion)
        parts = [model for member in pair.members_ for model in member.models]
        assert all(member.cache is cache for member in (loaded, *sexes.models, pair, *parts))


def test_what_members_caution_of_is_said_by_the_fusion_and_told_once(cohort: Cohort) -> None:
    class Warned(Baseline):
        def report(self, cohort: Cohort) -> FitReport:
            return FitReport(warnings=(f"{self.name}: {len(cohort)} scans",))

    first, second = Warned("age"), Warned("sex")
    fusion = Fusion([Fusion([first, second], name="pair"), Baseline("suvmax")])
    expected = [f"{one.name}: {len(cohort)} scans" for one in (first, second)]
    assert list(fusion.report(cohort).warnings) == expected
    assert collect_warnings([second, fusion, first], cohort) == expected[::-1]


@pytest.mark.parametrize("of", [[], [Baseline("age")], [Baseline("age"), Baseline("age")], [{"kind": "oracle"}] * 2,
                                [{"kind": ["age"]}] * 2, ["age", "sex"], [1, 2], Baseline("age"), None])  # fmt: skip
def test_what_cannot_be_fused_is_refused(of: list[Any]) -> None:
    with pytest.raises(ValidationError, match=r"a fusion (needs|is of)|a member of a fusion"):
        Fusion(of)


# -- in a study file

STUDY = """
[cohort]
images = "dicom"
clinical = "clinical.csv"
[endpoint]
name = "y"
kind = "binary"
column = "outcome"
[[model]]
kind = "fusion"
of = ["age", "body weight"]
[[model]]
kind = "baseline"
variable = "age"
[[model]]
kind = "baseline"
variable = "weight"
name = "body weight"
[[model]]
kind = "fusion"
name = "all"
of = ["tlg (contour)", "fusion of 2, equal weights"]
weights = "learnt"
[[model]]
kind = "baseline"
variable = "tlg"
[validation]
inner_folds = 3
seed = 5
"""


def study_models(tmp_path: Path, text: str) -> list[Model]:
    (tmp_path / "study.toml").write_text(text)
    return read_study(tmp_path / "study.toml").models(tmp_path, Cache())


def test_a_fusion_names_other_models_of_the_study_wherever_they_stand(tmp_path: Path) -> None:
    models = study_models(tmp_path, STUDY)
    assert [model.name for model in models] == [
        "fusion of 2, equal weights", "age", "body weight", "all", "tlg (contour)",
    ]  # fmt: skip
    pair, everything = models[0], models[3]
    assert isinstance(pair, Fusion)
    assert isinstance(everything, Fusion)
    assert (everything.weights, everything.inner_folds, everything.seed) == ("learnt", 3, 5)
    assert [member.cache_key() for member in pair.of] == [models[1].cache_key(), models[2].cache_key()]
    assert [member.cache_key() for member in everything.of] == [models[4].cache_key(), pair.cache_key()]
    assert len({id(model.cache) for model in (*models, *pair.of, *everything.of)}) == 1


@pytest.mark.parametrize(
    ("region", "where"),
    [
        ("", Region("contour")),
        ("", Region("threshold")),
        ('[region]\nkind = "threshold"\nthreshold_suv = 2.5\n', Region("threshold", threshold_suv=2.5)),
    ],
)
def test_a_fusion_names_baselines_that_are_added_to_the_table_later(
    tmp_path: Path, cohort: Cohort, region: str, where: Region
) -> None:
    names = [f"tlg ({where.label})", f"suvmax ({where.label})", "image_extent", "clinical", "centre"]
    text = STUDY[: STUDY.index("[[model]]")] + region
    text += f'[[model]]\nkind = "cnn3d"\nseed = 3\n[[model]]\nkind = "fusion"\nof = {["cnn3d", *names]}\n'
    net, fusion = study_models(tmp_path, text)
    assert isinstance(fusion, Fusion)
    assert [member.name for member in fusion.of] == ["cnn3d", *names]
    later = {model.name: model for model in add_baselines([net], cohort, region=where)}
    for member in fusion.of[1:3]:
        assert member.cache_key() == later[member.name].cache_key()
    assert all(member.seed == 3 == later[member.name].seed for member in fusion.of[1:])


def test_a_model_of_the_file_goes_before_a_baseline_of_its_name(tmp_path: Path) -> None:
    text = STUDY.replace('"tlg (contour)", "fusion', '"clinical", "fusion')
    text = text.replace('variable = "weight"', 'variable = "weight"\n[[model]]\nkind = "cnn3d"\nname = "clinical"')
    text = text.replace('name = "body weight"\n', "").replace('"body weight"', '"clinical"')
    pair, everything = (model for model in study_models(tmp_path, text) if isinstance(model, Fusion))
    assert [pair.of[1].kind, everything.of[0].kind] == ["cnn3d", "cnn3d"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"body weight"]', '"body-weight"]', r"UNKNOWN_NAME: .*fusion of 2.*'body-weight'.*nearest is 'body weight'"),
        ('"body weight"]', '"zzzz"]', r"UNKNOWN_NAME: .*'zzzz'.*there are 'age', 'body weight'"),
        ('"tlg (contour)"', '"suvmax"', r"UNKNOWN_NAME: .*'suvmax'.*nearest is 'suvmax \(contour\)'"),
        ('["age", "body weight"]', '["age"]', r"STUDY_FILE_INVALID: .*at least 2 different models, got \['age'\]"),
        ('["age", "body weight"]', '["age", "age"]', "STUDY_FILE_INVALID: .*at least 2 different models"),
        ('["age", "body weight"]', "[]", "STUDY_FILE_INVALID: .*at least 2 different models"),
        ('["age", "body weight"]', '"age"', "STUDY_FILE_INVALID: .*must be a list of names, got 'age'"),
        ('["age", "body weight"]', "[1, 2]", "STUDY_FILE_INVALID: .*must be a list of names"),
        ('of = ["age", "body weight"]\n', "", "STUDY_FILE_INVALID: .*fusion: of: Field required"),
        ("of = [\"age\"", "off = [\"age\"", "UNKNOWN_KEY: .*unknown key 'off'; the nearest known key is 'of'"),
        ('["tlg (contour)",', '["all",', "STUDY_FILE_INVALID: .*'all': it is a part of itself: 'all' in 'all'"),
        ('"body weight"]', '"all"]', "STUDY_FILE_INVALID: .*it is a part of itself: .*'all' in 'fusion of 2"),
        ('weights = "learnt"', 'weights = "learned"', "STUDY_FILE_INVALID: .*fusion: weights"),
        ('name = "all"', 'name = "age"', "STUDY_FILE_INVALID: 2 models are called 'age'"),
        ('name = "all"', 'weight = "equal"', "UNKNOWN_KEY: .*'weight'; the nearest known key is 'weights'"),
    ],
)  # fmt: skip
def test_a_fusion_that_is_none_is_refused(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert STUDY.count(old) == 1
    with pytest.raises(ConfigurationError, match=says) as refused:
        study_models(tmp_path, STUDY.replace(old, new))
    assert refused.value.remedy
    assert refused.value.code in (Code.UNKNOWN_NAME, Code.UNKNOWN_KEY, Code.STUDY_FILE_INVALID)


@pytest.mark.parametrize("weights", ["learnt", "cross-fitted"])
def test_a_study_with_a_fusion_runs_and_its_file_predicts_the_next_scan(
    weights: Weights, tiny_cohort: Any, tmp_path: Path
) -> None:
    tiny_cohort.patients(8)
    fused = f'[[model]]\nkind = "fusion"\nof = ["suvmax (SUV > 1.5)", "image_extent"]\nweights = "{weights}"\n'
    result = run(tiny_cohort.study(extra=fused), tmp_path / "out", workers=1)
    assert f"fusion of 2, {weights} weights" in result.table()
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    (model,) = (one for one in record["models"] if one["kind"] == "fusion")
    assert set(model["parts"]["outcome"]) == {"suvmax (SUV > 1.5)", "image_extent"}
    (file,) = (tmp_path / "out" / "models").glob("*fusion*.safetensors")
    made = predict(file, [tiny_cohort.images])
    assert made.usable == 8
    assert {one.endpoint for one in made.predictions} == {"outcome"}
