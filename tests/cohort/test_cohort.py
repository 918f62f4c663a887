from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.cohort.read import read_cohort
from twobe3.cohort.splits import CrossValidation
from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.errors import ConfigurationError
from twobe3.core.grid import Grid, place_grid, resample
from twobe3.core.outcomes import Endpoint, Outcomes
from twobe3.core.volume import Geometry, Mask, SUVCalibration, SUVVolume
from twobe3.dicom.series import find_series
from twobe3.io.cache import Cache
from twobe3.scans.scan import ArrayScan, DicomScan

SPEC = Grid((4.0,) * 3, (40.0,) * 3)


def scan(seed: int = 0) -> ArrayScan:
    array = np.random.default_rng(seed).gamma(2, 1, (9, 10, 11)).astype(np.float32)
    return ArrayScan(SUVVolume(array, Geometry(array.shape, np.eye(4) * 3.0), SUVCalibration("bw", "test", 1, 1)))


def cohort(event: Sequence[bool], *, patients: Sequence[str] | None = None, endpoint: Endpoint | None = None) -> Cohort:
    """Studies of one patient each unless patients are named, who may be named again."""
    patients = patients or [f"P{i:03d}" for i in range(len(event))]
    one = scan()
    outcome = dict(zip(patients, event, strict=True))
    values = np.array(list(outcome.values()), bool)
    endpoint = endpoint or Binary("y", "y")
    outcomes = Outcomes(endpoint, tuple(outcome), values.astype(float) + 1.0, values)
    return Cohort(tuple(Subject(patient, one) for patient in patients), (outcomes,), SPEC)


def as_lists(folds: Sequence[Any]) -> list[Any]:
    return [(fold.repeat, fold.fold, fold.train.tolist(), fold.test.tolist()) for fold in folds]


@settings(max_examples=40, deadline=None)
@given(
    n_events=st.integers(5, 40), n_others=st.integers(5, 40), folds=st.integers(2, 5), seed=st.integers(0, 2**31 - 10)
)
def test_every_patient_is_tested_once_a_repeat_and_events_are_spread(
    n_events: int, n_others: int, folds: int, seed: int
) -> None:
    event = np.random.default_rng(seed).permutation([True] * n_events + [False] * n_others)
    split = CrossValidation(folds, repeats=2, seed=seed).split(cohort(event.tolist()).sample)
    everyone = list(range(len(event)))
    assert [(fold.repeat, fold.fold) for fold in split] == [(r, f) for r in range(2) for f in range(folds)]
    for repeat in (split[:folds], split[folds:]):
        assert sorted(np.concatenate([fold.test for fold in repeat]).tolist()) == everyone
        for fold in repeat:
            assert sorted([*fold.train, *fold.test]) == everyone
        events = [int(event[fold.test].sum()) for fold in repeat]
        sizes = [len(fold.test) for fold in repeat]
        assert max(events) - min(events) <= 1
        assert max(sizes) - min(sizes) <= 2


def test_scans_of_one_patient_stay_together() -> None:
    patients = [f"P{i // 3}" for i in range(36)]
    event = [(i // 3) % 2 == 0 for i in range(36)]
    for fold in CrossValidation(4, repeats=3).split(cohort(event, patients=patients).sample):
        train, test = ({patients[i] for i in part} for part in (fold.train, fold.test))
        assert not train & test
        assert train | test == set(patients)


def test_folds_follow_from_the_seed() -> None:
    event = [i % 3 == 0 for i in range(30)]
    first = CrossValidation(5, repeats=2, seed=3).split(cohort(event).sample)
    assert as_lists(first) == as_lists(CrossValidation(5, repeats=2, seed=3).split(cohort(event).sample))
    assert as_lists(first) != as_lists(CrossValidation(5, repeats=2, seed=4).split(cohort(event).sample))
    assert as_lists(first[:5]) != [(0, *row[1:]) for row in as_lists(first[5:])]
    # Repeats are added at the end, so that more of them keep what is there.
    assert as_lists(CrossValidation(5, repeats=3, seed=3).split(cohort(event).sample)[:10]) == as_lists(first)


@pytest.mark.parametrize(
    ("event", "endpoint", "says"),
    [
        ([True, False, True], Binary("y", "y"), "FEWER_PATIENTS_THAN_FOLDS: endpoint 'y': 3 patients for 4 folds"),
        ([True] * 3 + [False] * 9, Binary("y", "y"), "FEWER_EVENTS_THAN_FOLDS: endpoint 'y': 3 patients of the rarer"),
        ([True] * 9 + [False] * 3, Binary("y", "y"), "FEWER_EVENTS_THAN_FOLDS"),
        ([True] * 3 + [False] * 9, TimeToEvent("y", "t", "e"), "FEWER_EVENTS_THAN_FOLDS"),
    ],
)
def test_too_few_patients_or_events(event: list[bool], endpoint: Endpoint, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        CrossValidation(4).split(cohort(event, endpoint=endpoint).sample)


@pytest.mark.parametrize(
    ("event", "endpoint"),
    [([True] * 9 + [False] * 2, TimeToEvent("y", "t", "e")), ([True] * 11, Continuous("y", "y"))],
)
def test_few_censored_patients_are_no_obstacle(event: list[bool], endpoint: Endpoint) -> None:
    split = CrossValidation(4).split(cohort(event, endpoint=endpoint).sample)
    assert Counter(np.concatenate([fold.test for fold in split]).tolist()) == Counter(range(11))


def test_one_endpoint_is_chosen_by_name() -> None:
    whole = cohort([True, False, True, False])
    some = Outcomes(Binary("z", "z"), ("P003", "P001"), np.array([1.0, 0.0]), np.array([True, False]))
    both = replace(whole, endpoints=(*whole.endpoints, some))
    with pytest.raises(ValueError, match=r"choose one of the endpoints \['y', 'z'\]"):
        _ = both.outcomes
    chosen = both.for_endpoint("z")
    assert chosen.patients == ("P001", "P003")
    assert chosen.outcomes.event.tolist() == [False, True]
    assert chosen.endpoint.name == "z"
    with pytest.raises(ValueError, match="no endpoint 'w'; it has y, z"):
        both.for_endpoint("w")


def test_studies_are_taken_with_their_outcomes() -> None:
    part = cohort([True, False, True, False]).subset(np.array([3, 0]))
    assert part.patients == ("P003", "P000")
    assert part.outcomes.event.tolist() == [False, True]


def test_a_volume_is_resampled_once(tmp_path: Path) -> None:
    subject = Subject("P1", scan())
    for _ in range(2):
        one = Cohort((subject,), grid=SPEC, volumes=Cache(tmp_path))
        np.testing.assert_array_equal(one.volume(subject), resample(subject.scan.suv(), SPEC).array)
    assert (one.volumes.computed, one.volumes.reused) == (0, 1)


def test_the_key_of_a_volume_depends_on_content_and_grid_alone() -> None:
    base = scan()
    volume = base.volume
    other_value = volume.array.copy()
    other_value[0, 0, 0] += 1e-3
    moved = volume.geometry.affine.copy()
    moved[0, 3] = 1.0
    drawn = Mask(volume.array > 2, volume.geometry)
    scans = {
        "same": base,
        "a value": ArrayScan(replace(volume, array=other_value)),
        "a place": ArrayScan(replace(volume, geometry=replace(volume.geometry, affine=moved))),
        "a shape": ArrayScan(
            replace(volume, array=volume.array.reshape(9, 11, 10), geometry=Geometry((9, 11, 10), np.eye(4) * 3.0))
        ),
        "a region": ArrayScan(volume, drawn),
    }
    keys = {name: Cohort((), grid=SPEC).volume_key(Subject("P1", one)) for name, one in scans.items()}
    assert len(set(keys.values())) == len(scans)
    assert Cohort((), grid=Grid((4.0,) * 3, (44.0,) * 3)).volume_key(Subject("P1", base)) != keys["same"]
    assert Cohort((), grid=SPEC).volume_key(Subject("P2", scan())) == keys["same"]


def test_the_digest_of_a_dicom_scan_depends_on_files_contours_and_policy(tiny_cohort: Any, tmp_path: Path) -> None:
    tiny_cohort.scan("P1")
    (series,) = find_series([tiny_cohort.images]).series
    contour = tmp_path / "contour.dcm"
    contour.write_bytes(b"drawn")
    drawn = replace(series, contours=(contour,))
    digests = [DicomScan(series).digest, DicomScan(series, "strict").digest, DicomScan(drawn).digest]
    contour.write_bytes(b"drawn again")
    digests.append(DicomScan(drawn).digest)
    assert len(set(digests)) == 4
    assert DicomScan(find_series([tiny_cohort.images]).series[0]).digest == digests[0]


def test_a_study_does_not_show_the_patient() -> None:
    subject = Subject("MARKER", scan())
    assert "MARKER" not in repr(subject)
    assert "MARKER" not in subject.patient


def test_a_contour_comes_onto_the_grid_with_its_volume() -> None:
    """A box of 6 × 6 × 6 voxels of 2 mm is 1.728 ml, and 3 × 3 × 3 voxels of 4 mm: to the voxel where they lie."""
    inside = np.zeros((20, 20, 20), np.bool_)
    inside[4:10, 8:14, 2:8] = True
    affine = np.eye(4)
    affine[:3, :3] = 2.0 * np.fliplr(np.eye(3))  # slices to the head, rows to the back, columns to the left
    geometry = Geometry(inside.shape, affine)
    volume = SUVVolume(np.zeros(inside.shape, np.float32), geometry, SUVCalibration("bw", "test", 1, 1))
    subject = Subject("p", ArrayScan(volume, Mask(inside, geometry)))
    found = Cohort((subject,), grid=SPEC).contour(subject)
    assert found is not None
    expected = np.zeros(SPEC.shape, np.bool_)
    expected[2:5, 4:7, 1:4] = True
    np.testing.assert_array_equal(found, expected)


def test_a_scan_on_which_nobody_drew_has_no_contour() -> None:
    subject = Subject("p", scan())
    assert Cohort((subject,), grid=SPEC).contour(subject) is None


def test_contours_of_a_folder_lie_under_the_names_of_the_volumes(real_data: Path, tmp_path: Path) -> None:
    folder, grid = real_data / "sts/dicom/STS_003", Grid((4.0,) * 3, (384.0, 320.0, 320.0))
    where = {"volumes": tmp_path / "volumes", "contours": tmp_path / "contours"}
    whole = read_cohort(folder, grid=grid, **where)
    (subject,) = whole.subjects
    inside = load_file(tmp_path / "contours" / f"{whole.volume_key(subject)}.safetensors")["contour"]
    assert (inside.shape, inside.dtype) == (grid.shape, np.uint8)
    drawn = subject.scan.contour(subject.scan.suv())
    assert drawn is not None
    index = np.argwhere(inside)
    found = np.rint(drawn.geometry.to_index(place_grid(drawn.geometry, grid).to_mm(index))).astype(int)
    assert drawn.array[tuple(found.T)].all()
    assert len(index) * 0.064 == pytest.approx(drawn.volume_ml, rel=0.1)  # voxels of 4 mm, in ml; slices of 3.3 mm


def test_a_notebook_shows_pictures_of_a_cohort_once_its_volumes_are_at_hand() -> None:
    scans = cohort([True, False, True])
    assert "<img" not in scans._repr_html_()
    scans.volume(scans[0])
    html = scans._repr_html_()
    assert html.count("<img") == 3  # all of them show the same scan
    assert not [patient for patient in scans.patients if patient in html]
    assert scans[0].patient in html
    assert "<style" not in html
