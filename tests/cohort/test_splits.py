"""Who trains and who tests: groups on one side only, strata spread, schemes that users name, folds used again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twobe3.cohort.splits import (
    CrossValidation,
    Fold,
    FoldsFile,
    LeaveOneCentreOut,
    PredefinedSplit,
    Sample,
    Scheme,
    describe_unassigned,
    folds_document,
)
from twobe3.core.codes import Code
from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.core.outcomes import Endpoint, Outcomes
from twobe3.io.pseudonym import pseudonym

ENDPOINTS: tuple[Endpoint, ...] = (Binary("y", "y"), TimeToEvent("y", "t", "e"), Continuous("y", "y"))


def sample(
    event: Sequence[bool],
    centres: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    endpoint: Endpoint = ENDPOINTS[0],
) -> Sample:
    patients = tuple(f"P{i:03d}" for i in range(len(event)))
    values = np.array(event, bool)
    outcomes = Outcomes(
        endpoint, patients, values + 1.0, values | (endpoint.kind == "continuous"), groups=tuple(groups or ())
    )
    return Sample(outcomes, tuple(centres or [""] * len(event)))


def pair(fold: Fold, of: Sequence[str]) -> tuple[set[str], set[str]]:
    """Who trains and who is tested."""
    return {of[i] for i in fold.train}, {of[i] for i in fold.test}


def refused(code: Code, scheme: Scheme, what: Sample) -> str:
    with pytest.raises(ConfigurationError) as caught:
        scheme.split(what)
    assert caught.value.code is code
    return caught.value.reason


def spread(split: Sequence[Fold], of: Sequence[object]) -> list[int]:
    """How far the folds are apart in their numbers of each value."""
    counts = [Counter(of[i] for i in fold.test) for fold in split]
    return [max(c[value] for c in counts) - min(c[value] for c in counts) for value in set(of)]


def from_even(split: Sequence[Fold], of: Sequence[object]) -> float:
    """Summed squares of how far each fold's numbers of each value are from an equal share."""
    counts = [Counter(of[i] for i in fold.test) for fold in split]
    return sum((count[value] - n / len(split)) ** 2 for count in counts for value, n in Counter(of).items())


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(0, 2**31 - 100), st.integers(2, 4), st.sampled_from(ENDPOINTS[:2]))
def test_events_are_spread_as_without_centres_and_centres_better(seed: int, folds: int, endpoint: Endpoint) -> None:
    rng = np.random.default_rng(seed)
    event = [bool(value) for value in rng.permutation(np.arange(48) % 3 == 0)]
    centres = [str(value) for value in rng.permutation(["a"] * 24 + ["b"] * 16 + ["c"] * 8)]
    spreading = CrossValidation(folds, 1, seed).split(sample(event, centres, endpoint=endpoint))
    careless = CrossValidation(folds, 1, seed).split(sample(event, endpoint=endpoint))
    assert max(spread(spreading, event)) <= 1
    assert from_even(spreading, centres) <= from_even(careless, centres) + 1e-9
    assert max(spread(spreading, centres)) <= 3


def test_one_centre_splits_as_none() -> None:
    event = [i % 3 == 0 for i in range(30)]
    alone, none = (CrossValidation(3, 2, 7).split(sample(event, [centre] * 30)) for centre in ("one", ""))
    for one, other in zip(alone, none, strict=True):
        np.testing.assert_array_equal(one.test, other.test)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_no_person_is_on_both_sides_in_any_scheme(seed: int) -> None:
    """Acceptance row 36."""
    rng = np.random.default_rng(seed)
    n = 60
    groups = [f"P{i // 2:03d}" if i < 20 else f"P{i:03d}" for i in range(n)]
    centres = [str(centre) for centre in rng.choice(list("abc"), n)]
    event = [bool(value) for value in rng.permutation(np.arange(n) % 2)]
    parts = rng.permutation([True] * 30 + [False] * 30)
    patients = np.array([f"P{i:03d}" for i in range(n)])
    schemes: list[Scheme] = [
        CrossValidation(4, 2, seed),
        LeaveOneCentreOut(),
        PredefinedSplit(("a",), ("b", "c")),
        PredefinedSplit(tuple(patients[parts]), tuple(patients[~parts]), by="patient"),
    ]
    for scheme in schemes:
        for fold in scheme.split(sample(event, centres, groups)):
            train, test = pair(fold, groups)
            assert train
            assert test
            assert not train & test


def test_each_centre_is_tested_once_by_models_of_all_the_others() -> None:
    """Acceptance row 40."""
    centres = ["HGJ"] * 6 + ["CHUS"] * 8 + [""] + ["HMR"] * 3
    event = [i % 2 == 0 for i in range(14)] + [True] + [False] * 3  # one class alone in the last centre
    split = LeaveOneCentreOut().split(sample(event, centres))
    assert [fold.name for fold in split] == ["CHUS", "HGJ", "HMR"]
    assert [(fold.repeat, fold.fold) for fold in split] == [(0, 0), (0, 1), (0, 2)]
    for fold in split:
        train, test = pair(fold, centres)
        assert test == {fold.name}
        assert train == {"CHUS", "HGJ", "HMR"} - test
        assert len(fold.test) == centres.count(fold.name)
    assert 14 not in np.concatenate([part for fold in split for part in (fold.train, fold.test)])


@pytest.mark.parametrize("centres", [[""] * 8, ["one"] * 8, ["one"] * 7 + [""]])
def test_leaving_centres_out_needs_two_of_them(centres: list[str]) -> None:
    assert "of 8 patients" in refused(Code.TOO_FEW_CENTRES, LeaveOneCentreOut(), sample([True, False] * 4, centres))


def test_a_training_part_that_has_nothing_to_learn_from_is_named() -> None:
    event, centres = [True, False, False, False], ["a", "a", "b", "b"]
    assert "to test 'a', 2 patients with 0 events train" in refused(
        Code.ONE_CLASS, LeaveOneCentreOut(), sample(event, centres)
    )
    assert "0 events train" in refused(
        Code.ONE_CLASS, LeaveOneCentreOut(), sample(event, centres, endpoint=TimeToEvent("y", "t", "e"))
    )


def test_a_split_by_centre_takes_the_centres_named_and_nobody_else() -> None:
    centres = ["HGJ", "CHUS", "HMR", "CHUM", "other"] * 4
    event = [i % 3 == 0 for i in range(20)]
    (fold,) = PredefinedSplit(("HGJ", "CHUS"), ("HMR", "CHUM")).split(sample(event, centres))
    assert pair(fold, centres) == ({"HGJ", "CHUS"}, {"HMR", "CHUM"})
    assert (len(fold.train), len(fold.test), fold.name) == (8, 8, "HMR, CHUM")


@pytest.mark.parametrize(
    ("train", "test", "says"),
    [
        (("a", "x"), ("b",), "no patient has the centre 'x'; there are a, b"),
        (("a",), ("a", "b"), "1 centres stand on both sides of the split: a"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(train: tuple[str, ...], test: tuple[str, ...], says: str) -> None:
    assert says in refused(Code.SPLIT_INVALID, PredefinedSplit(train, test), sample([True, False] * 4, ["a", "b"] * 4))


def test_a_split_by_patient_without_anybody_in_a_part_is_refused() -> None:
    scheme = PredefinedSplit(("P001", "P002"), ("P100",), by="patient")
    assert "in the test part" in refused(Code.SPLIT_INVALID, scheme, sample([True, False] * 4))


# -- folds used again


def saved(tmp_path: Path, split: Sequence[Fold], what: Sample) -> Path:
    path = tmp_path / "folds.json"
    path.write_text(json.dumps({"endpoints": folds_document({"y": split}, {"y": what.patients})}))
    return path


@pytest.mark.parametrize("scheme", [CrossValidation(3, 2, 5), LeaveOneCentreOut(), PredefinedSplit(("a",), ("c",))])
def test_saved_folds_are_the_same_folds(scheme: Scheme, tmp_path: Path) -> None:
    what = sample([True, False] * 12, ["a", "a", "b", "b", "c", "c"] * 4)
    split = scheme.split(what)
    again = FoldsFile(saved(tmp_path, split, what)).split(what)
    assert len(again) == len(split)
    for one, other in zip(again, split, strict=True):
        assert (one.repeat, one.fold, one.name) == (other.repeat, other.fold, other.name)
        np.testing.assert_array_equal(one.train, other.train)
        np.testing.assert_array_equal(one.test, other.test)


def test_saved_folds_hold_no_patient_id(tmp_path: Path) -> None:
    what = sample([True, False] * 6)
    text = saved(tmp_path, CrossValidation(3).split(what), what).read_text()
    assert not any(patient in text for patient in what.patients)
    assert pseudonym("patient", "P003") in text


def test_saved_folds_of_other_patients_are_refused_with_the_difference(tmp_path: Path) -> None:
    what = sample([True, False] * 6)
    path = saved(tmp_path, CrossValidation(3).split(what), what)
    fewer = Sample(what.outcomes.subset(np.arange(11)), what.centres[:-1])
    reason = refused(Code.FOLDS_MISMATCH, FoldsFile(path), fewer)
    assert f"1 of its patients are not in the cohort ({pseudonym('patient', 'P011')})" in reason
    more = sample([True, False] * 7)
    reason = refused(Code.FOLDS_MISMATCH, FoldsFile(path), more)
    assert "2 of the cohort are not in it" in reason
    assert pseudonym("patient", "P013") in reason


def test_saved_folds_with_one_person_on_both_sides_are_refused(tmp_path: Path) -> None:
    what = sample([True, False] * 6)
    path = saved(tmp_path, CrossValidation(3).split(what), what)
    twins = Sample(replace(what.outcomes, groups=("P000",) * 12), what.centres)
    assert "1 group is on both sides of a fold" in refused(Code.FOLDS_MISMATCH, FoldsFile(path), twins)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not a folds.json"),
        ('{"endpoints": [{"endpoint": "y", "folds": [{"repeat": 0, "fold": 0, "test": []}]}]}', "not a folds.json"),
        ('{"endpoints": [{"endpoint": "z", "folds": []}]}', "no folds of the endpoint 'y'; it has z"),
        (None, "can't be read"),
    ],
)
def test_a_file_that_holds_no_folds_is_refused(content: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "folds.json"
    if content is not None:
        path.write_text(content)
    assert says in refused(Code.FOLDS_MISMATCH, FoldsFile(path), sample([True, False] * 6))


def test_who_takes_no_part_is_counted_with_the_reason() -> None:
    event, centres = [True, False] * 5, ["a"] * 4 + ["b"] * 3 + ["", "", "c"]
    groups = [*(f"p{i}" for i in range(3)), "p4", "p4", *(f"p{i}" for i in range(5, 10))]  # one scan in both centres
    left_out = sample(event, centres)
    schemes: list[tuple[Scheme, Sample, str]] = [
        (LeaveOneCentreOut(), left_out, "2 of 10 patients take no part in the validation: 2 whose centre is not known"),
        (
            PredefinedSplit(("a",), ("b",)),
            sample(event, centres, groups),
            "4 of 10 patients take no part in the validation: 2 whose centre is not known, 1 with the scan of a patient"
            " who is tested, 1 whom the split does not name",
        ),
        (
            PredefinedSplit(left_out.patients[:4], left_out.patients[4:9], by="patient"),
            left_out,
            "1 of 10 patients take no part in the validation: 1 whom the split does not name",
        ),
        (CrossValidation(2), left_out, ""),
    ]
    for scheme, what, said in schemes:
        assert describe_unassigned(scheme.split(what), what, scheme) == (said and f"y: {said}")


def test_too_few_patients_for_the_folds_tells_of_duplicates() -> None:
    groups = ["a", "a", "b", "b", "c", "d"]
    said = refused(Code.FEWER_PATIENTS_THAN_FOLDS, CrossValidation(5), sample([True, False] * 3, groups=groups))
    assert "4 patients for 5 folds; 6 ids are 4 patients, since 2 have the scan of another" in said
    plain = refused(Code.FEWER_PATIENTS_THAN_FOLDS, CrossValidation(5), sample([True, False, True, False]))
    assert "4 patients for 5 folds" in plain
    assert "scan of another" not in plain
