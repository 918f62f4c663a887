"""The radiomics model on features that a test drew: what is fitted inside, what is left out, what a file keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.errors import ConfigurationError, UnusableScanError
from twobe3.core.grid import Grid
from twobe3.core.outcomes import Kind, Outcomes
from twobe3.core.volume import Geometry, SUVCalibration, SUVVolume
from twobe3.features.radiomics import Change, FeatureVector, RadiomicsSettings, pack, radiomics_key
from twobe3.io.cache import Cache
from twobe3.models import radiomics as module
from twobe3.models.learners.learner import FITTED, LearnerName
from twobe3.models.learners.selection import concordance
from twobe3.models.radiomics import RadiomicsModel
from twobe3.models.registry import load_model
from twobe3.scans.regions import Region
from twobe3.scans.scan import ArrayScan

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
REFUSAL = UnusableScanError(Code.CONTOUR_UNUSABLE, "the region 'GTV' is empty", remedy="check the contour")


def quick(**parameters: Any) -> RadiomicsModel:
    return RadiomicsModel(**{"inner_folds": 2, "trees": 20} | parameters)


def outcomes_of(kind: Kind, true: FloatArray, patients: tuple[str, ...]) -> Outcomes:
    rng, n = np.random.default_rng(9), len(true)
    if kind == "binary":
        event = true + 0.5 * rng.logistic(size=n) > 0
        return Outcomes(Binary("y", "y"), patients, event.astype(float), event)
    if kind == "continuous":
        return Outcomes(Continuous("y", "y"), patients, true + rng.normal(size=n), np.ones(n, np.bool_))
    time = rng.exponential(np.exp(-true))
    return Outcomes(TimeToEvent("y", "t", "e"), patients, np.minimum(time, 2.0), time <= 2.0)


def cohort_of(n: int = 60, kind: Kind = "binary", *, seed: int = 0) -> tuple[Cohort, Cache, FloatArray]:
    """A cohort whose features lie in a store already: no image is looked at, no MIRP is needed."""
    rng, cache = np.random.default_rng(seed), Cache()
    x = rng.normal(size=(n, len(NAMES)))
    x[:, 1] = 3.0 * x[:, 0] + 0.05 * rng.normal(size=n) + 10.0
    x[:, 2] += 0.5 * x[:, 0]
    x[:, 6], x[: 2 * n // 3, 7] = 1.0, np.nan
    calibration = SUVCalibration("bw", "TEST", 1, 1)
    subjects = []
    for i, row in enumerate(x):
        suv = np.full((2, 2, 2), float(i + 1000 * seed), np.float32)
        scan = ArrayScan(SUVVolume(suv, Geometry(suv.shape, np.eye(4)), calibration))
        cache.put(radiomics_key(scan, Region(), RadiomicsSettings()), pack(FeatureVector(NAMES, row)))
        covariates = {"weight_kg": 60.0 + i, "height_m": 1.7}
        subjects.append(Subject(f"MRN-{i:03d}", scan, ("north", "south")[i % 2], covariates))
    patients = tuple(subject.patient_id for subject in subjects)
    grid = Grid((8.0,) * 3, (64.0,) * 3)
    return Cohort(tuple(subjects), (outcomes_of(kind, 2.0 * x[:, 0], patients),), grid=grid), cache, x


def replaced(cache: Cache, subject: Subject, features: FeatureVector | UnusableScanError) -> None:
    cache.put(radiomics_key(subject.scan, Region(), RadiomicsSettings()), pack(features))


@pytest.mark.parametrize(
    ("kind", "learner"),
    [(kind, one) for kind in KINDS for one in LEARNERS if kind == "time-to-event" or one not in TIMES_ONLY],
)
def test_every_learner_ranks_new_patients_for_every_kind_of_endpoint(kind: Kind, learner: LearnerName) -> None:
    cohort, cache, _ = cohort_of(90, kind)
    train, test = cohort.subset(range(60)), cohort.subset(range(60, 90))
    model = quick(learner=learner, trees=40, cache=cache).fit(train)
    prediction = model.predict(test)
    assert concordance(prediction.risk[:, None], test.outcomes)[0] > 0.7
    assert (prediction.probability is not None) == (kind == "binary")


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_file_keeps_all_that_was_learnt(learner: LearnerName, tmp_path: Path) -> None:
    cohort, cache, _ = cohort_of(kind="time-to-event" if learner in TIMES_ONLY else "binary")
    model = quick(learner=learner, trees=20, harmonise="combat", cache=cache).fit(cohort)
    again = load_model(model.save(tmp_path), cache=cache)
    assert (again.predict(cohort).risk == model.predict(cohort).risk).all()
    assert isinstance(again, RadiomicsModel)
    assert again.chosen_names == model.chosen_names


def test_constant_and_mostly_unknown_features_are_left_out_and_of_copies_one_stays() -> None:
    cohort, cache, _ = cohort_of()
    model = quick(cache=cache).fit(cohort)
    assert not {"constant", "unknown"} & set(model.names_)
    assert len({"signal", "copy"} & set(model.chosen_names)) == 1
    assert {"signal", "copy"} <= set(quick(redundancy=1.0, selection="none", cache=cache).fit(cohort).chosen_names)


@pytest.mark.parametrize("selection", ["mrmr", "univariate"])
def test_the_best_feature_is_chosen_first_and_no_more_than_asked_for(selection: Any) -> None:
    cohort, cache, _ = cohort_of(200)
    for count in (1, 3):
        chosen = quick(selection=selection, max_features=count, cache=cache).fit(cohort).chosen_names
        assert len(chosen) == count
        assert chosen[0] in ("signal", "copy")


def test_choosing_looks_at_training_patients_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acceptance row 39: a spy at the selector and at ComBat sees no test patient."""
    cohort, cache, x = cohort_of()
    train = cohort.subset(range(40))
    seen: list[FloatArray] = []
    for name in ("concordance", "spearman", "fit_combat"):
        original = getattr(module, name)

        def spy(values: FloatArray, *rest: Any, original: Any = original) -> Any:
            seen.append(values)
            return original(values, *rest)

        monkeypatch.setattr(module, name, spy)
    model = quick(harmonise="combat", cache=cache).fit(train)
    assert [len(values) for values in seen] == [40, 40, 40]
    np.testing.assert_array_equal(seen[0][:, model.names_.index("signal")], x[:40, 0])
    model.predict(cohort)
    assert len(seen) == 3


def test_what_test_patients_look_like_changes_nothing_that_was_learnt() -> None:
    cohort, cache, x = cohort_of()
    first = quick(harmonise="combat", cache=cache).fit(cohort.subset(range(40)))
    before = first.predict(cohort.subset(range(40))).risk
    for subject, row in zip(cohort.subjects[40:], x[40:], strict=True):
        replaced(cache, subject, FeatureVector(NAMES, 100.0 * row))
    again = quick(harmonise="combat", cache=cache).fit(cohort.subset(range(40)))
    assert (again.predict(cohort.subset(range(40))).risk == before).all()


def test_a_scan_without_a_region_is_named_and_neither_trains_nor_is_predicted() -> None:
    cohort, cache, _ = cohort_of()
    without = [3, 17]
    for i in without:
        replaced(cache, cohort.subjects[i], REFUSAL)
    with_features = [i for i in range(60) if i not in without]
    model, alone = (quick(cache=cache).fit(cohort.subset(index)) for index in (range(60), with_features))
    assert model.predict(cohort).patients == cohort.subset(with_features).patients
    assert (model.predict(cohort).risk == alone.predict(cohort.subset(with_features)).risk).all()
    assert len(model.predict(cohort.subset(without))) == 0
    assert [(item.code, item.reason) for item in model.report(cohort).exclusions] == [
        ("CONTOUR_UNUSABLE", "the region 'GTV' is empty")
    ] * 2
    assert {item.patient for item in model.report(cohort).exclusions} == {cohort.subjects[i].patient for i in without}


def test_features_that_scans_lack_are_counted_and_left_out_where_most_lack_them(tmp_path: Path) -> None:
    cohort, cache, x = cohort_of(60)
    for subject, row in zip(cohort.subjects[:3], x, strict=False):
        replaced(cache, subject, FeatureVector(NAMES, np.where(np.array(NAMES) == "weaker", np.nan, row)))
    replaced(cache, cohort.subjects[3], REFUSAL)
    model = quick(cache=cache).fit(cohort)
    counted = {one.feature: (one.missing, one.n, one.left_out) for one in model.report(cohort).undefined}
    assert counted == {"weaker": (3, 59, False), "unknown": (39, 59, True)}
    again = load_model(model.save(tmp_path), cache=cache)
    assert isinstance(again, RadiomicsModel)
    assert again.undefined_ == model.undefined_ == model.report(cohort).undefined
    assert "weaker" in model.names_
    assert "unknown" not in model.names_
    (left_out,) = (one.exclusion for one in model.undefined_ if one.left_out)
    assert (left_out.code, left_out.patient) == ("FEATURE_UNDEFINED", "")
    assert "'unknown' is not defined in 39 of 59 scans" in left_out.reason


def test_a_scan_without_a_contour_gets_the_automatic_region_unless_none_is_wanted() -> None:
    cohort, cache, x = cohort_of()
    missing, above = UnusableScanError(Code.CONTOUR_MISSING, "the scan has no contour"), Region("threshold")
    replaced(cache, cohort.subjects[0], missing)
    replaced(cache, cohort.subjects[1], REFUSAL)  # a contour that is wrong is not quietly replaced
    for subject, row in zip(cohort.subjects, x, strict=True):
        cache.put(radiomics_key(subject.scan, above, RadiomicsSettings()), pack(FeatureVector(NAMES, -row)))
    both, drawn, automatic = (
        quick(cache=cache, **parameters) for parameters in ({}, {"otherwise": "none"}, {"region": "threshold"})
    )
    assert [len(model.report(cohort).exclusions) for model in (both, drawn, automatic)] == [1, 2, 0]
    signal = both.fit(cohort).median_[both.names_.index("signal")]
    assert signal == pytest.approx(np.median(np.concatenate([-x[:1, 0], x[2:, 0]])))
    assert both.name == "radiomics elastic-net (contour, else SUV > 4)"
    assert automatic.name == "radiomics elastic-net (SUV > 4)"


def test_a_feature_that_a_patient_lacks_is_the_median_of_the_training_patients() -> None:
    cohort, cache, x = cohort_of(selected := 60)
    train = cohort.subset(range(selected - 1))
    model = quick(cache=cache, max_features=2).fit(train)
    lacking, median = x[-1].copy(), x[-1].copy()
    for name in model.chosen_names:
        lacking[NAMES.index(name)] = np.nan
        median[NAMES.index(name)] = np.median(x[:-1, NAMES.index(name)])
    risks = []
    for row in (lacking, median):
        replaced(cache, cohort.subjects[-1], FeatureVector(NAMES, row))
        risks.append(model.predict(cohort.subset([selected - 1])).risk[0])
    assert risks[0] == pytest.approx(risks[1])


def test_features_that_another_contour_changes_are_left_out_if_asked_for() -> None:
    cohort, cache, x = cohort_of()
    rng = np.random.default_rng(1)
    for subject, row in zip(cohort.subjects, x, strict=True):
        for change in CHANGED:
            shaken = row + np.array([0.05] * 3 + [3.0] * 3 + [0.0] * 4) * rng.normal(size=len(NAMES))
            cache.put(radiomics_key(subject.scan, Region(), RadiomicsSettings(), change),
                      pack(FeatureVector(NAMES, shaken)))  # fmt: skip
    replaced_eroded = radiomics_key(cohort.subjects[5].scan, Region(), RadiomicsSettings(), "eroded")
    cache.put(replaced_eroded, pack(REFUSAL))  # nothing is left of a thin region: the others decide
    names = set(quick(stability=0.75, cache=cache).fit(cohort).names_)
    assert {"signal", "copy", "weaker"} <= names
    assert not {"noise1", "noise2", "noise3"} & names
    assert {"noise1", "noise2", "noise3"} <= set(quick(cache=cache).fit(cohort).names_)


def test_harmonisation_takes_away_what_the_centre_adds() -> None:
    """All relapses at one centre, whose scanner reads higher; without the offset the risk is the signal's."""
    cohort, cache, x = cohort_of(120)
    south = np.array([subject.centre == "south" for subject in cohort.subjects])
    for subject, row, offset in zip(cohort.subjects, x, 5.0 * south, strict=True):
        replaced(cache, subject, FeatureVector(NAMES, np.append(row[:6] + offset, row[6:])))
    risk = quick(harmonise="combat", cache=cache).fit(cohort).predict(cohort).risk
    plain = quick(cache=cache).fit(cohort).predict(cohort).risk
    assert abs(np.corrcoef(risk, south)[0, 1]) < 0.1
    assert abs(np.corrcoef(risk, x[:, 0])[0, 1]) > abs(np.corrcoef(plain, x[:, 0])[0, 1])


def test_too_few_scans_with_a_region_are_a_coded_error() -> None:
    cohort, cache, _ = cohort_of(8)
    for subject in cohort.subjects[3:]:
        replaced(cache, subject, REFUSAL)
    with pytest.raises(ConfigurationError, match="3 of 8 training patients") as caught:
        quick(cache=cache).fit(cohort)
    assert caught.value.code is Code.NOTHING_USABLE


def test_features_that_never_differ_are_a_coded_error() -> None:
    cohort, cache, _ = cohort_of(8)
    for subject in cohort.subjects:
        replaced(cache, subject, FeatureVector(("pet_dmax_mm", "pet_spread_mm"), np.zeros(2)))
    flat = Cohort(
        tuple(Subject(s.patient_id, s.scan, s.centre) for s in cohort.subjects), cohort.endpoints, cohort.grid
    )
    with pytest.raises(ConfigurationError, match="no stable feature differs"):
        quick(cache=cache).fit(flat)


def test_preparing_twice_computes_nothing_again() -> None:
    cohort, cache, _ = cohort_of(8)
    model = quick(cache=cache)
    model.precompute(cohort)
    assert (cache.computed, cache.reused) == (0, 8)
