"""The radiomics model on features that a test drew: what is fitted inside, what is left out, what a file keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from twobe3.cohort import ArrayScan, Cohort, Study
from twobe3.errors import Code, Refusal, UsageError
from twobe3.features.maps import FeatureStore
from twobe3.features.radiomics import Change, FeatureVector, RadiomicsSettings, pack, radiomics_key
from twobe3.models import radiomics as module
from twobe3.models.base import load_model
from twobe3.models.learners import FITTED, LearnerName
from twobe3.models.radiomics import Radiomics
from twobe3.models.selection import concordance
from twobe3.outcome import Binary, Continuous, Kind, Outcomes, TimeToEvent
from twobe3.regions import Region
from twobe3.resample import VolumeSpec
from twobe3.volume import Geometry, SUVCalibration, SUVVolume

FloatArray = npt.NDArray[np.float64]
KINDS: tuple[Kind, ...] = ("binary", "time-to-event", "continuous")
LEARNERS = tuple(FITTED)
TIMES_ONLY = ("random-survival-forest",)
NAMES = (
    "signal",
    "copy",
    "weaker",
    "noise1",
    "noise2",
    "noise3",
    "constant",
    "unknown",
    "pet_dmax_mm",
    "pet_spread_mm",
)
CHANGED: tuple[Change, ...] = ("eroded", "dilated")
REFUSAL = Refusal(Code.CONTOUR_UNUSABLE, "the region 'GTV' is empty", remedy="check the contour")


def quick(**parameters: Any) -> Radiomics:
    return Radiomics(**{"inner_folds": 2, "trees": 20} | parameters)


def outcomes_of(kind: Kind, true: FloatArray, patients: tuple[str, ...]) -> Outcomes:
    rng, n = np.random.default_rng(9), len(true)
    if kind == "binary":
        event = true + 0.5 * rng.logistic(size=n) > 0
        return Outcomes(Binary("y", "y"), patients, event.astype(float), event)
    if kind == "continuous":
        return Outcomes(Continuous("y", "y"), patients, true + rng.normal(size=n), np.ones(n, np.bool_))
    time = rng.exponential(np.exp(-true))
    return Outcomes(TimeToEvent("y", "t", "e"), patients, np.minimum(time, 2.0), time <= 2.0)


def cohort_of(n: int = 60, kind: Kind = "binary", *, seed: int = 0) -> tuple[Cohort, FeatureStore, FloatArray]:
    """A cohort whose features lie in a store already: no image is looked at, no MIRP is needed."""
    rng, store = np.random.default_rng(seed), FeatureStore()
    x = rng.normal(size=(n, len(NAMES)))
    x[:, 1] = 3.0 * x[:, 0] + 0.05 * rng.normal(size=n) + 10.0
    x[:, 2] += 0.5 * x[:, 0]
    x[:, 6], x[: 2 * n // 3, 7] = 1.0, np.nan
    calibration = SUVCalibration("bw", "TEST", 1, 1)
    studies = []
    for i, row in enumerate(x):
        suv = np.full((2, 2, 2), float(i + 1000 * seed), np.float32)
        scan = ArrayScan(SUVVolume(suv, Geometry(suv.shape, np.eye(4)), calibration))
        store.put(radiomics_key(scan, Region(), RadiomicsSettings()), pack(FeatureVector(NAMES, row)))
        covariates = {"weight_kg": 60.0 + i, "height_m": 1.7}
        studies.append(Study(f"MRN-{i:03d}", scan, ("north", "south")[i % 2], covariates))
    patients = tuple(study.patient_id for study in studies)
    spec = VolumeSpec((8.0,) * 3, (64.0,) * 3)
    return Cohort(tuple(studies), (outcomes_of(kind, 2.0 * x[:, 0], patients),), spec=spec), store, x


def replaced(store: FeatureStore, study: Study, features: FeatureVector | Refusal) -> None:
    store.put(radiomics_key(study.scan, Region(), RadiomicsSettings()), pack(features))


@pytest.mark.parametrize(
    ("kind", "learner"),
    [(kind, one) for kind in KINDS for one in LEARNERS if kind == "time-to-event" or one not in TIMES_ONLY],
)
def test_every_learner_ranks_new_patients_for_every_kind_of_endpoint(kind: Kind, learner: LearnerName) -> None:
    cohort, store, _ = cohort_of(90, kind)
    train, test = cohort.take(range(60)), cohort.take(range(60, 90))
    model = quick(learner=learner, trees=40, store=store).fit(train)
    prediction = model.predict(test)
    assert concordance(prediction.risk[:, None], test.outcomes)[0] > 0.7
    assert (prediction.probability is not None) == (kind == "binary")


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_file_keeps_all_that_was_learnt(learner: LearnerName, tmp_path: Path) -> None:
    cohort, store, _ = cohort_of(kind="time-to-event" if learner in TIMES_ONLY else "binary")
    model = quick(learner=learner, trees=20, harmonise="combat", store=store).fit(cohort)
    again = load_model(model.save(tmp_path), store=store)
    assert (again.predict(cohort).risk == model.predict(cohort).risk).all()
    assert isinstance(again, Radiomics)
    assert again.chosen_names == model.chosen_names


def test_constant_and_mostly_unknown_features_are_left_out_and_of_copies_one_stays() -> None:
    cohort, store, _ = cohort_of()
    model = quick(store=store).fit(cohort)
    assert not {"constant", "unknown"} & set(model.names_)
    assert len({"signal", "copy"} & set(model.chosen_names)) == 1
    assert {"signal", "copy"} <= set(quick(redundancy=1.0, selection="none", store=store).fit(cohort).chosen_names)


@pytest.mark.parametrize("selection", ["mrmr", "univariate"])
def test_the_best_feature_is_chosen_first_and_no_more_than_asked_for(selection: Any) -> None:
    cohort, store, _ = cohort_of(200)
    for count in (1, 3):
        chosen = quick(selection=selection, max_features=count, store=store).fit(cohort).chosen_names
        assert len(chosen) == count
        assert chosen[0] in ("signal", "copy")


def test_choosing_looks_at_training_patients_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acceptance row 39: a spy at the selector and at ComBat sees no test patient."""
    cohort, store, x = cohort_of()
    train = cohort.take(range(40))
    seen: list[FloatArray] = []
    for name in ("concordance", "spearman", "fit_combat"):
        original = getattr(module, name)

        def spy(values: FloatArray, *rest: Any, original: Any = original) -> Any:
            seen.append(values)
            return original(values, *rest)

        monkeypatch.setattr(module, name, spy)
    model = quick(harmonise="combat", store=store).fit(train)
    assert [len(values) for values in seen] == [40, 40, 40]
    np.testing.assert_array_equal(seen[0][:, model.names_.index("signal")], x[:40, 0])
    model.predict(cohort)
    assert len(seen) == 3


def test_what_test_patients_look_like_changes_nothing_that_was_learnt() -> None:
    cohort, store, x = cohort_of()
    first = quick(harmonise="combat", store=store).fit(cohort.take(range(40)))
    before = first.predict(cohort.take(range(40))).risk
    for study, row in zip(cohort.studies[40:], x[40:], strict=True):
        replaced(store, study, FeatureVector(NAMES, 100.0 * row))
    again = quick(harmonise="combat", store=store).fit(cohort.take(range(40)))
    assert (again.predict(cohort.take(range(40))).risk == before).all()


def test_a_scan_without_a_region_is_named_and_neither_trains_nor_is_predicted() -> None:
    cohort, store, _ = cohort_of()
    without = [3, 17]
    for i in without:
        replaced(store, cohort.studies[i], REFUSAL)
    with_features = [i for i in range(60) if i not in without]
    model, alone = (quick(store=store).fit(cohort.take(index)) for index in (range(60), with_features))
    assert model.predict(cohort).patients == cohort.take(with_features).patients
    assert (model.predict(cohort).risk == alone.predict(cohort.take(with_features)).risk).all()
    assert len(model.predict(cohort.take(without))) == 0
    assert [(item.code, item.reason) for item in model.unusable(cohort)] == [
        ("CONTOUR_UNUSABLE", "the region 'GTV' is empty")
    ] * 2
    assert {item.patient for item in model.unusable(cohort)} == {cohort.studies[i].patient for i in without}


def test_features_that_scans_lack_are_counted_and_left_out_where_most_lack_them(tmp_path: Path) -> None:
    cohort, store, x = cohort_of(60)
    for study, row in zip(cohort.studies[:3], x, strict=False):
        replaced(store, study, FeatureVector(NAMES, np.where(np.array(NAMES) == "weaker", np.nan, row)))
    replaced(store, cohort.studies[3], REFUSAL)
    model = quick(store=store).fit(cohort)
    counted = {one.feature: (one.missing, one.n, one.left_out) for one in model.undefined(cohort)}
    assert counted == {"weaker": (3, 59, False), "unknown": (39, 59, True)}
    again = load_model(model.save(tmp_path), store=store)
    assert isinstance(again, Radiomics)
    assert again.undefined_ == model.undefined_ == model.undefined(cohort)
    assert "weaker" in model.names_
    assert "unknown" not in model.names_
    (left_out,) = (one.exclusion for one in model.undefined_ if one.left_out)
    assert (left_out.code, left_out.patient) == ("FEATURE_UNDEFINED", "")
    assert "'unknown' is not defined in 39 of 59 scans" in left_out.reason


def test_a_scan_without_a_contour_gets_the_automatic_region_unless_none_is_wanted() -> None:
    cohort, store, x = cohort_of()
    missing, above = Refusal(Code.CONTOUR_MISSING, "the scan has no contour"), Region("threshold")
    replaced(store, cohort.studies[0], missing)
    replaced(store, cohort.studies[1], REFUSAL)  # a contour that is wrong is not quietly replaced
    for study, row in zip(cohort.studies, x, strict=True):
        store.put(radiomics_key(study.scan, above, RadiomicsSettings()), pack(FeatureVector(NAMES, -row)))
    both, drawn, automatic = (
        quick(store=store, **parameters) for parameters in ({}, {"otherwise": "none"}, {"region": "threshold"})
    )
    assert [len(model.unusable(cohort)) for model in (both, drawn, automatic)] == [1, 2, 0]
    signal = both.fit(cohort).median_[both.names_.index("signal")]
    assert signal == pytest.approx(np.median(np.concatenate([-x[:1, 0], x[2:, 0]])))
    assert both.name == "radiomics elastic-net (contour, else SUV > 4)"
    assert automatic.name == "radiomics elastic-net (SUV > 4)"


def test_a_feature_that_a_patient_lacks_is_the_median_of_the_training_patients() -> None:
    cohort, store, x = cohort_of(selected := 60)
    train = cohort.take(range(selected - 1))
    model = quick(store=store, max_features=2).fit(train)
    lacking, median = x[-1].copy(), x[-1].copy()
    for name in model.chosen_names:
        lacking[NAMES.index(name)] = np.nan
        median[NAMES.index(name)] = np.median(x[:-1, NAMES.index(name)])
    risks = []
    for row in (lacking, median):
        replaced(store, cohort.studies[-1], FeatureVector(NAMES, row))
        risks.append(model.predict(cohort.take([selected - 1])).risk[0])
    assert risks[0] == pytest.approx(risks[1])


def test_features_that_another_contour_changes_are_left_out_if_asked_for() -> None:
    cohort, store, x = cohort_of()
    rng = np.random.default_rng(1)
    for study, row in zip(cohort.studies, x, strict=True):
        for change in CHANGED:
            shaken = row + np.array([0.05] * 3 + [3.0] * 3 + [0.0] * 4) * rng.normal(size=len(NAMES))
            store.put(radiomics_key(study.scan, Region(), RadiomicsSettings(), change),
                      pack(FeatureVector(NAMES, shaken)))  # fmt: skip
    replaced_eroded = radiomics_key(cohort.studies[5].scan, Region(), RadiomicsSettings(), "eroded")
    store.put(replaced_eroded, pack(REFUSAL))  # nothing is left of a thin region: the others decide
    names = set(quick(stability=0.75, store=store).fit(cohort).names_)
    assert {"signal", "copy", "weaker"} <= names
    assert not {"noise1", "noise2", "noise3"} & names
    assert {"noise1", "noise2", "noise3"} <= set(quick(store=store).fit(cohort).names_)


def test_harmonisation_takes_away_what_the_centre_adds() -> None:
    """All relapses at one centre, whose scanner reads higher; without the offset the risk is the signal's."""
    cohort, store, x = cohort_of(120)
    south = np.array([study.centre == "south" for study in cohort.studies])
    for study, row, offset in zip(cohort.studies, x, 5.0 * south, strict=True):
        replaced(store, study, FeatureVector(NAMES, np.append(row[:6] + offset, row[6:])))
    risk = quick(harmonise="combat", store=store).fit(cohort).predict(cohort).risk
    plain = quick(store=store).fit(cohort).predict(cohort).risk
    assert abs(np.corrcoef(risk, south)[0, 1]) < 0.1
    assert abs(np.corrcoef(risk, x[:, 0])[0, 1]) > abs(np.corrcoef(plain, x[:, 0])[0, 1])


def test_too_few_scans_with_a_region_are_a_coded_error() -> None:
    cohort, store, _ = cohort_of(8)
    for study in cohort.studies[3:]:
        replaced(store, study, REFUSAL)
    with pytest.raises(UsageError, match="3 of 8 training patients") as caught:
        quick(store=store).fit(cohort)
    assert caught.value.code is Code.NOTHING_USABLE


def test_features_that_never_differ_are_a_coded_error() -> None:
    cohort, store, _ = cohort_of(8)
    for study in cohort.studies:
        replaced(store, study, FeatureVector(("pet_dmax_mm", "pet_spread_mm"), np.zeros(2)))
    flat = Cohort(tuple(Study(s.patient_id, s.scan, s.centre) for s in cohort.studies), cohort.endpoints, cohort.spec)
    with pytest.raises(UsageError, match="no stable feature differs"):
        quick(store=store).fit(flat)


def test_preparing_twice_computes_nothing_again() -> None:
    cohort, store, _ = cohort_of(8)
    model = quick(store=store)
    model.prepare(cohort)
    assert (store.computed, store.reused) == (0, 8)
