"""Nothing is learnt from the patients who are tested, and the audit notices when something is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from pydantic.dataclasses import dataclass

from twobe3.cohort.cohort import Cohort
from twobe3.cohort.splits import CrossValidation, Fold, LeaveOneCentreOut
from twobe3.core.outcomes import FloatArray, Kind
from twobe3.evaluation.provenance import Audit
from twobe3.io.cache import Cache
from twobe3.models import MODELS, Baseline, Fusion, Model, PooledModel
from twobe3.models.fusion import members_of
from twobe3.models.learners import linear as linear_models
from twobe3.models.learners.linear import fit_path
from twobe3.models.model import CONFIG
from twobe3.runtime.device import CPU, Device
from twobe3.runtime.process import one_thread
from twobe3.scans.scan import ArrayScan
from twobe3.validation import cross_validate as cross_validation
from twobe3.validation import leakage as auditing
from twobe3.validation.cross_validate import fit_fold, out_of_fold
from twobe3.validation.leakage import audit, find_shared_groups, permute_outcomes
from twobe3.validation.plan import CVPlan, FoldTask, precompute
from twobe3.validation.thresholds import ThresholdPolicy

MakeCohort = Callable[..., Cohort]
KINDS: tuple[Kind, ...] = ("binary", "time-to-event")
SMALL: dict[str, Any] = {
    "backbone": "resnet18", "weights": "random", "layer": 2, "slice_size": 32, "components": 4, "reduced_channels": 4,
    "width": 4, "epochs": 1, "ensemble_size": 1, "inner_folds": 2, "penalties": (10.0, 1e4),
}  # fmt: skip
SMALL_OF: dict[str, dict[str, Any]] = {
    "cnn3d": {"weights": ""},  # of a 3D network, a file
    "fusion": {
        "of": ({"kind": "baseline", "variable": "suvmax"}, {"kind": "baseline", "variable": "age"}),
        "weights": "learnt",
    },
}
STORE = Cache()


def small(kind: str) -> Model:
    """A model of this kind with whatever makes it quick."""
    known = {item.name for item in fields(MODELS[kind])}
    quick = {key: value for key, value in SMALL.items() if key in known} | SMALL_OF.get(kind, {})
    return MODELS[kind](**quick, cache=STORE)


@pytest.fixture(scope="module")
def cohort(make_cohort: MakeCohort) -> Cohort:
    return make_cohort(12, KINDS)


def fits_of(models: list[Model], cohort: Cohort, folds: int = 2, *, recalibrate: bool = False) -> CVPlan:
    return CVPlan.of(models, cohort, CrossValidation(folds), ThresholdPolicy(recalibrate, 2))


# -- every model of the registry


@pytest.mark.parametrize("kind", MODELS)
def test_predictions_and_decisions_keep_their_bits_when_the_tested_patients_have_other_outcomes(
    kind: str, cohort: Cohort
) -> None:
    """Acceptance row 39."""
    for recalibrate in (False, True):
        fits = fits_of([small(kind)], cohort, 3, recalibrate=recalibrate)
        with one_thread():  # as every fold of a study is fitted
            made = {FoldTask(name, 0, 0): fit_fold(fits, FoldTask(name, 0, 0)) for name in fits.cohorts}
        assert tuple(auditing._find_peeking(fits, made, 1)) == ()


class Elsewhere(Device):
    """Computes here, and says that it does not."""

    def on_cpu(self) -> Device:
        return CPU

    def cache_key(self) -> str:
        return " elsewhere"


def test_what_was_not_computed_on_the_cpu_is_compared_there(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere, fitted = Elsewhere("cpu"), []
    models = [replace(small(kind), device=elsewhere) for kind in ("2be3-net", "baseline")]
    fits = fits_of([*models, Fusion(models, name="both")], cohort, 3)
    with one_thread():
        made = {FoldTask(e, n, 0): fit_fold(fits, FoldTask(e, n, 0)) for e in fits.cohorts for n in range(3)}

    def spy(fits: CVPlan, fit: Any, cache: Any) -> Any:
        fitted.append(fit)
        parts = fits.models[fit[1]]
        assert {one.device for one in (parts, *members_of(parts))} == {CPU}
        return fit_fold(fits, fit, cache)

    monkeypatch.setattr(cross_validation, "fit_fold", spy)
    assert tuple(auditing._find_peeking(fits, made, 1)) == ()
    assert {number: sum(fit[1] == number for fit in fitted) for number in range(3)} == {0: 4, 1: 2, 2: 4}
    assert {model.device for model in fits.models} == {elsewhere}


@pytest.mark.parametrize("kind", MODELS)
def test_a_fitted_model_keeps_its_bits_when_the_tested_patients_have_other_images(kind: str, cohort: Cohort) -> None:
    """Acceptance row 39."""
    subset = cohort.for_endpoint("relapse")
    (fold, _) = CrossValidation(2).split(subset.sample)
    rng = np.random.default_rng(0)
    subjects = list(subset.subjects)
    for i in fold.test:
        volume = subjects[i].scan.suv()
        noise = rng.gamma(2.0, 5.0, volume.array.shape).astype(np.float32)
        subjects[i] = replace(subjects[i], scan=ArrayScan(replace(volume, array=noise)), covariates={"age_years": 1.0})
    tampered = replace(subset, subjects=tuple(subjects))
    one, other = (dict(small(kind).fit(part.subset(fold.train))._arrays()) for part in (subset, tampered))
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(other[name], array)


def test_a_part_of_a_cohort_knows_nobody_elses_outcome(cohort: Cohort) -> None:
    part = cohort.subset([3, 8])
    assert [set(outcomes.patients) for outcomes in part.endpoints] == [{cohort.patients[3], cohort.patients[8]}] * 2


# -- spies on what is fitted inside


def test_scaling_and_choice_of_penalty_see_the_training_patients_of_their_inner_fold_only(
    make_cohort: MakeCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acceptance row 39."""
    cohort = make_cohort(24)
    seen: list[set[str]] = []
    pooled = PooledModel(**{k: SMALL[k] for k in ("weights", "layer", "slice_size")}, penalties=(10.0, 1e3),
                            inner_folds=3, planes=("axial",), cache=STORE)  # fmt: skip
    owner = {pooled._pooled(cohort.subset([i])).tobytes(): patient for i, patient in enumerate(cohort.patients)}

    def spy(x: FloatArray, *args: Any, **more: Any) -> Any:
        seen.append({owner[row.tobytes()] for row in x})
        return fit_path(x, *args, **more)

    monkeypatch.setattr(linear_models, "fit_path", spy)
    fits = fits_of([pooled], cohort, recalibrate=True)
    training, tested = fits.parts("relapse", 0)
    fit_fold(fits, FoldTask("relapse", 0, 0))
    assert len(seen) == 3 * (3 + 1)  # two inner fits and the outer one, each with three folds and a last fit
    assert all(rows <= set(training.patients) for rows in seen)
    assert not any(rows & set(tested.patients) for rows in seen)
    *inner, last = seen
    assert last == set(training.patients)
    assert all(rows < last for rows in inner)


# -- what the audit must notice


@dataclass(config=CONFIG)
class Peeping(Baseline):
    """Knows the outcomes of everybody, by a way that no cohort gives it."""

    def peep(self, cohort: Cohort) -> None:
        type(self).told = {o.endpoint.name: dict(zip(o.patients, o.value, strict=True)) for o in cohort.endpoints}

    def _risk(self, cohort: Cohort) -> FloatArray:
        assert self.endpoint_ is not None or self.ridge_ is not None
        return np.array([type(self).told["relapse"][patient] for patient in cohort.patients])


def test_a_model_that_sees_the_tested_outcomes_is_named(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Peeping("age", name="peeping")
    binary = cohort.for_endpoint("relapse")
    fits = fits_of([model, Baseline("age")], binary)
    tampered = auditing._tamper

    def peeped(fits: CVPlan, endpoint: str) -> Cohort:
        found = tampered(fits, endpoint)
        model.peep(found)
        return found

    model.peep(binary)
    made = out_of_fold(fits, Cache(), 1)
    monkeypatch.setattr(auditing, "_tamper", peeped)
    found = audit(fits, made, CrossValidation(2), permutations=2)
    assert found.seeing == ("peeping (relapse)",)
    assert not found.passed
    assert "FAILED" in found.text()


def test_a_fold_with_one_person_on_both_sides_is_named(cohort: Cohort) -> None:
    fits = fits_of([Baseline("age")], cohort.for_endpoint("relapse"))
    assert list(find_shared_groups(fits)) == []
    twin = replace(fits.cohorts["relapse"].subjects[0], patient_id="twin", duplicate_of=cohort.patients[0])
    subjects = list(fits.cohorts["relapse"].subjects)
    position = next(
        i for i in range(1, 12) if all((i in fold.test) != (0 in fold.test) for fold in fits.splits["relapse"])
    )
    subjects[position] = replace(subjects[position], duplicate_of=twin.duplicate_of)
    mixed = replace(fits, cohorts={"relapse": replace(fits.cohorts["relapse"], subjects=tuple(subjects))})
    assert list(find_shared_groups(mixed)) == ["relapse: repeat 0, fold 0", "relapse: repeat 0, fold 1"]


def test_an_audit_that_finds_nothing_says_so(cohort: Cohort) -> None:
    fits = fits_of([Baseline("age", cache=STORE), Baseline("centre", cache=STORE)], cohort)
    made = out_of_fold(fits, Cache(), 1)
    found = audit(fits, made, CrossValidation(2), permutations=2)
    assert found.passed
    assert (found.folds, found.shared, found.joined, found.seeing, found.site) == (4, (), 0, (), "centre")
    document = found.document()
    assert document["text"].startswith("Leakage audit passed: 0 of 4 folds have a group on both sides")
    assert [(row["endpoint"], row["model"]) for row in document["permuted"]] == [
        ("relapse", "age"), ("relapse", "centre"), ("survival", "age"), ("survival", "centre"),
    ]  # fmt: skip


# -- permuted outcomes, noise, centres


@pytest.mark.parametrize("signal", [True, False], ids=["permuted", "permuted noise"])
def test_permuted_outcomes_give_one_half_through_the_whole_pipeline(signal: bool, make_cohort: MakeCohort) -> None:
    """Acceptance row 38."""
    cache = Cache()
    pooled = PooledModel(weights="random", layer=2, slice_size=32, planes=("axial",), penalties=(10.0, 1e3),
                            inner_folds=2, cache=cache)  # fmt: skip
    whole = make_cohort(24, KINDS, seed=1, signal=signal)
    fits = CVPlan.of([pooled, Baseline("suvmax", cache=cache)], whole, CrossValidation(3), ThresholdPolicy())
    precompute(fits, 1)
    rows = permute_outcomes(fits, CrossValidation(3), 8, 0, Cache(), 1)
    assert [(row.endpoint, row.model) for row in rows] == [
        (endpoint, model) for endpoint in ("relapse", "survival") for model in ("pooled", "suvmax (contour)")
    ]
    assert [row.permutations for row in rows] == [8] * 4
    assert [row.mean for row in rows] == pytest.approx([0.5] * 4, abs=0.1)
    assert sum(row.covers_half for row in rows) >= 3  # 1 in 20 intervals misses


def test_permuted_outcomes_are_told_where_the_tested_patients_trained(
    make_cohort: MakeCohort, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled = PooledModel(weights="random", layer=2, slice_size=32, planes=("axial",), penalties=(1e-3,), cache=STORE)
    fits = CVPlan.of([pooled], make_cohort(12), CrossValidation(2), ThresholdPolicy())
    parts = CVPlan.parts
    monkeypatch.setattr(CVPlan, "parts", lambda self, *fit: (self.cohorts[fit[0]], parts(self, *fit)[1]))
    (row,) = permute_outcomes(fits, CrossValidation(2), 3, 0, Cache(), 1)
    assert row.mean == pytest.approx(1.0)
    assert not row.covers_half


def test_a_permutation_that_leaves_nothing_to_learn_is_left_out(make_cohort: MakeCohort) -> None:
    whole = make_cohort(8)
    event = np.arange(8) < 2  # with the centres in turn, often both events are in one of them
    outcomes = replace(whole.outcomes, event=event, value=event.astype(float))
    fits = CVPlan.of([Baseline("age")], replace(whole, endpoints=(outcomes,)), LeaveOneCentreOut(), ThresholdPolicy())
    (row,) = permute_outcomes(fits, LeaveOneCentreOut(), 10, 0, Cache(), 1)
    assert 0 < row.permutations < 10


def test_a_metric_that_is_nowhere_estimable_is_not_said_to_cover_one_half() -> None:
    row = auditing._summarize("y", "m", "auc_within_folds", [np.nan, np.nan, 0.5])
    assert (row.permutations, row.mean, row.covers_half) == (1, None, False)
    assert "interval" not in Audit(1, (), 0, (), (row,), None).text()


def test_folds_are_checked_by_person(cohort: Cohort) -> None:
    both = Fold(0, 0, np.arange(6), np.arange(5, 12))
    subset = cohort.for_endpoint("relapse")
    fits = CVPlan((Baseline("age"),), subset, {"relapse": subset}, {"relapse": (both,)}, ThresholdPolicy())
    assert list(find_shared_groups(fits)) == ["relapse: repeat 0, fold 0"]
