"""Several endpoints learnt at once: the masked loss, each head on its rows, subjects where outcomes are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic.dataclasses import dataclass
from sklearn.metrics import log_loss, mean_squared_error
from statsmodels.duration.hazard_regression import PHReg
from torch import nn

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import CrossValidation
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import FloatArray, Kind, Outcomes
from twobe3.io.cache import Cache
from twobe3.models import CNN2D, CNN3D, Baseline, Fusion, TwoBe3Net, load_model
from twobe3.models.encoder import fit_encoder, initial_weights
from twobe3.models.fit_cache import FitCache
from twobe3.models.model import CONFIG
from twobe3.models.nn.heads import HazardHead, Head, MultitaskHead, RiskHead, hazard_loss
from twobe3.models.nn.neural_model import NeuralModel
from twobe3.study.predict import predict
from twobe3.study.run import run
from twobe3.validation import leakage as auditing
from twobe3.validation.cross_validate import cross_validate, fit_folds, out_of_fold
from twobe3.validation.leakage import audit
from twobe3.validation.plan import CVPlan, FoldTask
from twobe3.validation.thresholds import ThresholdPolicy

STORE = Cache()
MAPS: dict[str, Any] = {"backbone": "resnet18", "weights": "random", "layer": 2, "slice_size": 32, "cache": STORE}
SMALL: dict[str, Any] = {"epochs": 2, "ensemble_size": 1, "components": 4, "reduced_channels": 4, "width": 4}
KINDS: tuple[Kind, ...] = ("binary", "time-to-event", "continuous")
PATIENTS = tuple(f"p{i}" for i in range(12))
EDGES = np.array([3.0, 6.0, 9.0])

MakeCohort = Callable[..., Cohort]


def network(**parameters: Any) -> TwoBe3Net:
    return TwoBe3Net(**{**MAPS, **SMALL, "endpoints": "all", **parameters})


def without(outcomes: Outcomes, *missing: int) -> Outcomes:
    """The outcomes without those of the patients at these positions."""
    return outcomes.subset([i for i in range(len(outcomes)) if i not in missing])


@pytest.fixture(scope="module")
def cohort(make_cohort: MakeCohort) -> Cohort:
    """Three endpoints; the time is not known of two patients, the value of three."""
    made = make_cohort(16, KINDS)
    relapse, survival, uptake = made.endpoints
    return replace(made, endpoints=(relapse, without(survival, 1, 4), without(uptake, 0, 1, 9)))


def changed(cohort: Cohort, name: str, patient: str) -> Cohort:
    """The cohort, where one patient has another outcome of an endpoint."""

    def other(outcomes: Outcomes) -> Outcomes:
        one = np.array(outcomes.patients) == patient
        assert one.any()
        return replace(outcomes, value=outcomes.value + 7.0 * one)

    endpoints = tuple(other(one) if one.endpoint.name == name else one for one in cohort.endpoints)
    return replace(cohort, endpoints=endpoints)


# -- the head


@pytest.fixture
def told() -> dict[str, Outcomes]:
    """Of 12 patients a class, a time (of all but three) and a number (of all but two)."""
    rng = np.random.default_rng(3)
    event, died = np.arange(12) % 3 == 0, np.arange(12) % 4 != 1
    return {
        "binary": Outcomes(Binary("b", "b"), PATIENTS, event.astype(float), event),
        "time": without(Outcomes(TimeToEvent("t", "t", "e"), PATIENTS, rng.permutation(12) + 1.0, died), 2, 5, 11),
        "number": without(
            Outcomes(Continuous("c", "c"), PATIENTS, 50 + 9 * rng.standard_normal(12), np.ones(12, bool)), 0, 5
        ),
    }


def joint(heads: Mapping[str, Head], told: Mapping[str, Outcomes]) -> MultitaskHead:
    return MultitaskHead(PATIENTS, [(head, told[name].patients) for name, head in heads.items()])


def test_the_loss_is_the_mean_of_oracle_losses_of_the_patients_whose_outcome_is_known(
    told: dict[str, Outcomes],
) -> None:
    head = joint({name: RiskHead(outcomes) for name, outcomes in told.items()}, told)
    index = np.array([8, 2, 0, 5, 7, 1, 3, 10])
    raw = np.random.default_rng(0).normal(size=(8, 3))
    binary = log_loss(told["binary"].event[index], 1 / (1 + np.exp(-raw[:, 0])))
    has_time = np.isin(index, [0, 1, 3, 4, 6, 7, 8, 9, 10])
    time = told["time"].of([PATIENTS[i] for i in index[has_time]])
    cox = PHReg(time.value, raw[has_time, 1][:, None], status=time.event.astype(int), ties="efron")
    has_number = ~np.isin(index, [0, 5])
    every, some = told["number"].value, told["number"].of([PATIENTS[i] for i in index[has_number]]).value
    number = mean_squared_error((some - every.mean()) / every.std(), raw[has_number, 2])
    expected = (binary - cox.loglike(np.ones(1)) / time.n_events + number) / 3
    assert head.loss(torch.from_numpy(raw), torch.from_numpy(index)).item() == pytest.approx(expected)
    assert head.stopping_loss(torch.from_numpy(raw), torch.from_numpy(index)).item() == pytest.approx(binary)


def test_heads_of_several_outputs_take_their_own_columns(told: dict[str, Outcomes]) -> None:
    head = joint({"time": HazardHead(told["time"], EDGES), "binary": RiskHead(told["binary"])}, told)
    assert head.outputs == 4
    raw, index = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12)
    known, outcomes = [PATIENTS.index(patient) for patient in told["time"].patients], told["time"]
    hazard = hazard_loss(raw[known, :3], torch.from_numpy(outcomes.value), torch.from_numpy(outcomes.event),
                         torch.from_numpy(EDGES))  # fmt: skip
    binary = log_loss(told["binary"].event, torch.sigmoid(raw[:, 3].double()))
    assert head.loss(raw, index).item() == pytest.approx((hazard.item() + binary) / 2)


def test_an_endpoint_that_nobody_in_a_step_is_known_for_moves_nothing(told: dict[str, Outcomes]) -> None:
    head = joint({"binary": RiskHead(told["binary"]), "time": HazardHead(told["time"], EDGES)}, told)
    index, raw = torch.tensor([2, 5, 11]), torch.full((3, 4), 3.0, requires_grad=True)
    loss = head.loss(raw, index)
    (gradient,) = torch.autograd.grad(loss, raw)
    assert loss.item() == pytest.approx(np.log1p(np.exp(3.0)) / 2)  # all three are of the negative class
    assert (gradient[:, 0] != 0).all()
    assert (gradient[:, 1:] == 0).all()


def test_a_step_of_which_nothing_is_known_has_a_loss_of_0_and_no_gradient(told: dict[str, Outcomes]) -> None:
    raw = torch.full((3, 3), torch.inf, requires_grad=True)
    loss = joint({"time": HazardHead(told["time"], EDGES)}, told).loss(raw, torch.tensor([2, 5, 11]))
    (gradient,) = torch.autograd.grad(loss, raw)
    assert loss.item() == 0
    assert (gradient == 0).all()


def test_a_head_alone_is_that_head_to_the_bit(told: dict[str, Outcomes]) -> None:
    outcomes = told["binary"]
    weights, losses = [], []
    for head in (RiskHead(outcomes, np.ones(2)), joint({"binary": RiskHead(outcomes, np.ones(2))}, told)):
        torch.manual_seed(0)
        last, x = nn.Linear(5, 1), torch.randn(12, 5)
        head.start(last)
        loss = head.loss(last(x).squeeze(1), torch.arange(12))
        loss.backward()  # type: ignore[no-untyped-call]
        assert last.weight.grad is not None
        weights.append(torch.cat([last.weight, last.weight.grad]))
        losses.append(loss)
    assert torch.equal(*weights)
    assert torch.equal(*losses)


def test_each_head_starts_and_finishes_its_rows_of_the_last_layer(told: dict[str, Outcomes]) -> None:
    covariates = {"binary": np.array([0.5, -1.0]), "time": np.array([2.0, 0.1]), "number": np.array([30.0, -4.0])}
    heads: dict[str, Head] = {
        "binary": RiskHead(told["binary"], covariates["binary"]),
        "time": HazardHead(told["time"], EDGES, covariates["time"]),
        "number": RiskHead(told["number"], covariates["number"]),
    }
    torch.manual_seed(0)
    last = nn.Linear(6, 5)
    drawn, state = last.weight.detach().clone(), torch.get_rng_state()
    whole = joint(heads, told)
    whole.start(last)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(last.weight[:, :4], drawn[:, :4])
    assert last.bias[0].item() == pytest.approx(np.log(4 / 8))
    time = told["time"]
    before_3 = (time.event & (time.value <= 3)).sum()
    assert last.bias[1].item() == pytest.approx(np.log((before_3 + 0.5) / (9 - before_3 + 0.5)))
    whole.finish(last)
    unit = told["number"].value.std()
    np.testing.assert_allclose(last.weight[4, :4].detach(), drawn[4, :4] * unit, rtol=1e-5)
    assert last.bias[4].item() == pytest.approx(told["number"].value.mean())
    for row, name in enumerate(["binary", "time", "time", "time", "number"]):
        np.testing.assert_allclose(last.weight[row, 4:].detach(), covariates[name], rtol=1e-5)


# -- the cohort


def test_the_other_endpoints_lie_other_outputs_the_one_that_is_chosen_and_are_taken_with_it(cohort: Cohort) -> None:
    ids = cohort.patients
    chosen = cohort.for_endpoint("survival")
    assert [outcomes.endpoint.name for outcomes in chosen.other_endpoints] == ["relapse", "uptake"]
    assert chosen.other_endpoints[0].patients == chosen.patients
    assert set(chosen.other_endpoints[1].patients) == set(chosen.patients) - {ids[0], ids[9]}
    part = chosen.subset([0, 2])  # the patients 0 and 3
    assert [outcomes.patients for outcomes in part.other_endpoints] == [(ids[0], ids[3]), (ids[3],)]
    again = part.for_endpoint("survival")
    assert [outcomes.patients for outcomes in again.other_endpoints] == [(ids[0], ids[3]), (ids[3],)]
    assert part.without_outcomes().other_endpoints == part.without_outcomes().endpoints == ()


# -- networks


@pytest.mark.parametrize("head", ["risk", "hazard"])
@pytest.mark.parametrize("kind", [TwoBe3Net, CNN2D, CNN3D])
def test_with_a_single_endpoint_it_is_the_same_network_to_the_bit(
    kind: type[NeuralModel], head: Literal["risk", "hazard"], make_cohort: MakeCohort
) -> None:
    single = make_cohort(10, ("time-to-event",)).for_endpoint("survival")
    how = {"epochs": 1, "width": 4} if kind is CNN3D else {**MAPS, **SMALL}
    own, every = (kind(**how, head=head, endpoints=which).fit(single) for which in ("own", "all"))
    one, other = dict(own._arrays()), dict(every._arrays())
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)
    np.testing.assert_array_equal(own.predict(single).risk, every.predict(single).risk)


def test_what_is_learnt_other_outputs_changes_the_network_and_a_network_that_learns_its_own_never_sees_it(
    cohort: Cohort,
) -> None:
    altered = changed(cohort, "uptake", cohort.patients[3])
    for which, same in (("own", True), ("all", False)):
        one, other = (network(endpoints=which).fit(of.for_endpoint("relapse")) for of in (cohort, altered))
        assert np.array_equal(one.predict(cohort).risk, other.predict(cohort).risk) is same


def test_the_outcome_of_who_does_not_train_can_not_matter(cohort: Cohort) -> None:
    """Patient 3 has all outcomes; without the patient in the training part none of them is there."""
    train = [i for i in range(16) if i != 3]
    risks = [
        network().fit(of.for_endpoint("relapse").subset(train)).predict(cohort).risk
        for of in (cohort, *(changed(cohort, name, cohort.patients[3]) for name in ("survival", "uptake")))
    ]
    np.testing.assert_array_equal(risks[1], risks[0])
    np.testing.assert_array_equal(risks[2], risks[0])


@pytest.mark.parametrize("endpoint", ["relapse", "survival", "uptake"])
def test_the_last_layer_has_rows_for_every_endpoint_the_own_one_first(
    endpoint: str, cohort: Cohort, tmp_path: Path
) -> None:
    model, subset = network(head="hazard", intervals=3), cohort.for_endpoint(endpoint)
    first = model.fit(subset).predict(cohort)
    others = [name for name in ("relapse", "survival", "uptake") if name != endpoint]
    assert model.other_outputs_ == {name: 3 if name == "survival" else 1 for name in others}
    parameters = dict(model.networks_[0].named_parameters())
    assert parameters["head.1.bias"].shape == (5,)
    assert model.report(subset).size["trainable_parameters"] == sum(value.numel() for value in parameters.values())
    assert (None if first.survival is None else first.survival.shape) == ((16, 3) if endpoint == "survival" else None)
    loaded = load_model(model.save(tmp_path), cache=STORE)
    assert isinstance(loaded, NeuralModel)
    assert loaded.other_outputs_ == model.other_outputs_


def test_the_risk_is_that_of_the_own_endpoint(make_cohort: MakeCohort) -> None:
    whole = make_cohort(24, ("binary", "continuous"))
    model = network(epochs=60, learning_rate=3e-3).fit(whole.for_endpoint("uptake"))
    uptake = whole.for_endpoint("uptake").outcomes.value
    risk = model.predict(whole).risk
    assert np.corrcoef(risk, uptake)[0, 1] > 0.7
    assert risk.mean() == pytest.approx(uptake.mean(), rel=0.3)  # in its unit, not log-odds


def test_covariates_start_at_the_weights_of_each_endpoint_by_those_whose_outcome_is_known(cohort: Cohort) -> None:
    model, subset = network(covariates=("age_years", "weight_kg")), cohort.for_endpoint("relapse")
    model.fit_head(subset)
    last = nn.Linear(10, 3)
    model.make_head(subset).start(last)
    encoder = fit_encoder(subset.subjects, model.covariates)
    subjects = {subject.patient_id: subject for subject in cohort.subjects}
    for row, (outcomes, unit) in enumerate(
        (
            (subset.outcomes, 1.0),
            (subset.other_endpoints[0], 1.0),
            (subset.other_endpoints[1], subset.other_endpoints[1].value.std()),
        )
    ):
        known = [subjects[patient] for patient in outcomes.patients]
        weights = initial_weights(encoder.encode(known), outcomes, seed=0)
        np.testing.assert_allclose(last.weight[row, -2:].detach(), weights / unit, rtol=1e-5)


def test_an_endpoint_that_tells_the_training_patients_nothing_is_left_out(cohort: Cohort) -> None:
    relapse, survival, uptake = cohort.endpoints
    nobody = replace(survival, event=np.zeros(len(survival), bool))
    emptied = replace(cohort, endpoints=(relapse, nobody, uptake.subset([])))
    model = network(head="hazard").fit(emptied.for_endpoint("relapse"))
    assert model.other_outputs_ == {}
    alone = network(endpoints="own").fit(cohort.for_endpoint("relapse"))
    np.testing.assert_array_equal(model.predict(cohort).risk, alone.predict(cohort).risk)


def test_who_tells_when_to_stop_does_so_by_the_own_endpoint(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[float, float]] = []
    stopping_loss, own = MultitaskHead.stopping_loss, RiskHead(cohort.endpoints[0])

    def spy(self: MultitaskHead, raw: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        loss = stopping_loss(self, raw, index)
        told.append((float(loss), float(own.loss(raw[:, 0], index))))
        return loss

    monkeypatch.setattr(MultitaskHead, "stopping_loss", spy)
    network(stopping_share=0.25, epochs=3, patience=9).fit(cohort.for_endpoint("relapse"))
    assert len(told) == 3
    assert all(used == expected for used, expected in told)


# -- subjects


def fits_of(models: list[Any], cohort: Cohort, *, recalibrate: bool = False) -> CVPlan:
    return CVPlan.of(models, cohort, CrossValidation(2), ThresholdPolicy(recalibrate, 2))


def test_keys_tell_the_outcomes_other_outputs_for_those_alone_who_learn_them(cohort: Cohort, tmp_path: Path) -> None:
    models = [
        network(name="all"),
        network(name="own", endpoints="own"),
        Fusion([network(), Baseline("age", cache=STORE)], name="fusion of all"),
    ]
    assert [model.multitask for model in models] == [True, False, True]
    altered = changed(cohort, "survival", cohort.patients[3])
    one, other, single = (fits_of(models, of).keys() for of in (cohort, altered, cohort.for_endpoint("relapse")))
    differ = {fit for fit, key in one.items() if other[fit] != key}
    assert differ == {fit for fit in one if fit[0] == "survival" or fit[1] != 1}
    assert [single[fit] == one[fit] for fit in single] == [True] * len(single)
    without_others = fits_of(models, replace(cohort, endpoints=cohort.endpoints[:1])).keys()
    assert {fit for fit, key in without_others.items() if one[fit] == key} == {("relapse", 1, 0), ("relapse", 1, 1)}


def test_a_fit_is_not_taken_over_where_other_endpoints_have_other_outcomes(cohort: Cohort) -> None:
    model, subset = network(), cohort.for_endpoint("relapse")
    model.fit(subset)
    cache = FitCache()
    cache.put(model, subset)
    assert cache.get(network(), subset) is not None
    assert cache.get(network(), changed(cohort, "survival", cohort.patients[3]).for_endpoint("relapse")) is None


def test_a_study_of_three_endpoints_where_outcomes_are_missing_is_validated(cohort: Cohort) -> None:
    models = [network(name="all"), network(name="own", endpoints="own")]
    result = cross_validate(models, cohort, cv=CrossValidation(2, 1), resamples=20)
    rows = {(one.endpoint, one.model): one for one in result.predictions}
    assert len(rows) == 6
    for endpoint, n in (("relapse", 16), ("survival", 14), ("uptake", 13)):
        assert len(rows[endpoint, "all"]) == n
        assert (rows[endpoint, "all"].risk != rows[endpoint, "own"].risk).any()


@pytest.mark.parametrize("recalibrate", [False, True])
def test_the_audit_changes_all_outcomes_of_the_tested_and_no_joint_network_sees_them(
    recalibrate: bool, cohort: Cohort
) -> None:
    fits = fits_of([network(name="joint", covariates=("age_years",), stopping_share=0.2)], cohort,
                   recalibrate=recalibrate)  # fmt: skip
    (test,) = (fits.splits["relapse"][0].test,)
    tampered = auditing._tamper(fits, "relapse")
    tested = {tampered.patients[i] for i in test}
    for before, after in zip(fits.cohorts["relapse"].other_endpoints, tampered.other_endpoints, strict=True):
        moved = {patient for patient, a, b in zip(before.patients, before.value, after.value, strict=True) if a != b}
        assert moved
        assert moved <= tested
    first = [FoldTask(name, 0, 0) for name in fits.cohorts]
    shared = [fits], Cache(), {(0, fit): str(fit) for fit in first}
    made = dict(zip(first, fit_folds(shared, (0, first)), strict=True))
    assert tuple(auditing._find_peeking(fits, made, 1)) == ()


@dataclass(config=CONFIG)
class Peeping(Baseline):
    """Learns the mean of another endpoint's outcome from whatever the cohort has beside its own."""

    @property
    def multitask(self) -> bool:
        return True

    def _fit(self, cohort: Cohort) -> None:
        super()._fit(cohort)
        self.mean_ = float(np.mean(cohort.other_endpoints[0].event))

    def _risk(self, cohort: Cohort) -> FloatArray:
        return np.asarray(super()._risk(cohort) + self.mean_)


def test_the_audit_names_a_model_that_sees_what_the_tested_have_beside(
    make_cohort: MakeCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_cohort(13, ("continuous", "binary"))
    fits = fits_of([Peeping("age", name="peeping"), Baseline("age")], whole.for_endpoint("uptake"))
    assert audit(fits, out_of_fold(fits, Cache(), 1), CrossValidation(2), permutations=0).passed
    take = Cohort.subset

    def leaky(self: Cohort, indices: npt.ArrayLike) -> Cohort:
        return replace(take(self, np.asarray(indices)), other_endpoints=self.other_endpoints)

    monkeypatch.setattr(Cohort, "subset", leaky)
    found = audit(fits, out_of_fold(fits, Cache(), 1), CrossValidation(2), permutations=0)
    assert found.seeing == ("peeping (uptake)",)


STUDY = """permutations = 2
[[endpoint]]
name = "survival"
kind = "time-to-event"
time = "days"
event = "dead"
[[model]]
kind = "cnn3d"
name = "joint"
endpoints = "all"
epochs = 1
width = 4
"""


def test_a_study_file_may_ask_for_it_and_the_saved_network_predicts_the_next_scan(
    tiny_cohort: Any, tmp_path: Path
) -> None:
    tiny_cohort.patients(8)
    rows = {f"P{i:02d}": (i % 2, "" if i in (2, 5) else 100 + 10 * i, int(i % 3 < 2)) for i in range(8)}
    tiny_cohort.table(rows, "patient_id,outcome,days,dead")
    path: Path = tiny_cohort.study(extra=STUDY)
    path.write_text(path.read_text().replace("[endpoint]", "[[endpoint]]", 1))
    result = run(path, tmp_path / "out", audit=True, workers=1)
    judged = {one.endpoint: len(one) for one in result.predictions if one.model == "joint"}
    assert judged == {"outcome": 8, "survival": 6}
    assert result.provenance.audit.passed
    files = sorted((tmp_path / "out" / "models").glob("*joint*.safetensors"))
    loaded = [load_model(file) for file in files]
    assert [model.other_outputs_ for model in loaded if isinstance(model, NeuralModel)] == [
        {"survival": 1},
        {"outcome": 1},
    ]
    assert predict(files[0], [tiny_cohort.images]).usable == 8
    path.write_text(path.read_text().replace('endpoints = "all"', 'endpoints = "both"'))
    with pytest.raises(ConfigurationError, match=r"cnn3d: endpoints: .*'both'; there are 'own', 'all'") as refused:
        run(path, tmp_path / "other", workers=1)
    assert refused.value.code is Code.STUDY_FILE_INVALID
