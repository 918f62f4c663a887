"""Phantom patients look like people: sides, uptakes, lesions in their places."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sksurv.metrics import concordance_index_censored

from twobe3.phantom import (
    SOUTH,
    PhantomPatient,
    PhantomSpec,
    PhantomSubject,
    draw_phantom_subject,
    make_array,
    make_patient,
)
from twobe3.phantom.lesions import DIAMETER_MM, MOST_LESIONS, SUV, Lesion, largest_distance_mm, total_lesion_glycolysis
from twobe3.phantom.patient import BURDEN_LOG_OF_FOUR, PLACE, draw_outcome, mean_place
from twobe3.phantom.shapes import Ellipsoid, Solid


@pytest.fixture(scope="module", params=range(4))
def patient(request: pytest.FixtureRequest) -> PhantomPatient:
    return make_patient(request.param)


def suv_in(patient: PhantomPatient, solids: Iterable[Solid], share: float = 0.6) -> float:
    """Median SUV in the inner part of ellipsoids, the patient's lesions left out."""
    geometry = patient.volume.geometry
    x, y, z = np.moveaxis(geometry.to_mm(np.moveaxis(np.indices(geometry.shape), 0, -1)).astype(np.float32), -1, 0)
    inside = np.zeros(geometry.shape, dtype=bool)
    for solid in solids:
        assert isinstance(solid, Ellipsoid)
        a, b, c = (share * radius for radius in solid.radii_mm)
        inside |= Ellipsoid(solid.centre_mm, (a, b, c), solid.tilt_deg).contains(x, y, z)
    return float(np.median(patient.volume.array[inside & ~patient.mask.array]))


def organ(patient: PhantomPatient, name: str) -> list[Solid]:
    return [organ.solid for organ in patient.subject.body.organs if organ.name == name]


def test_voxels_are_finite_float32_and_never_negative(patient: PhantomPatient) -> None:
    array = patient.volume.array
    assert array.dtype == np.float32
    assert array.min() >= 0.0
    assert 3.0 < array.max() < 100.0
    assert 130 <= array.shape[0] <= 195
    assert array.shape[1:] == (96, 96)


def test_liver_is_right_spleen_and_heart_are_left(patient: PhantomPatient) -> None:
    assert organ(patient, "spleen")[0].bounds_mm()[0][0] > 0.0
    geometry, array = patient.volume.geometry, patient.volume.array
    tall = patient.subject.height_m / 1.72
    liver = array[round(float(geometry.to_index((0, 0, -600 * tall))[0]))]
    right = geometry.to_mm(np.stack([np.zeros(96), np.zeros(96), np.arange(96)], axis=-1))[:, 0] < 0
    assert liver[:, right].sum() > 1.15 * liver[:, ~right].sum()
    assert organ(patient, "heart")[0].bounds_mm()[1][0] > 60.0


def test_organs_have_the_uptake_of_an_fdg_scan(patient: PhantomPatient) -> None:
    true = {organ.name: organ.suv for organ in patient.subject.body.organs}
    liver = suv_in(patient, organ(patient, "liver"))
    assert liver == pytest.approx(true["liver"], rel=0.12)
    assert 1.3 < liver < 3.2
    assert suv_in(patient, organ(patient, "bladder")) > 1.5 * liver
    assert suv_in(patient, organ(patient, "cerebellum")) > 2.0 * liver


def test_lungs_are_colder_than_soft_tissue(patient: PhantomPatient) -> None:
    tall = patient.subject.height_m / 1.72
    thighs = [Ellipsoid((side * 85.0, 20.0, -960.0 * tall), (25.0, 25.0, 20.0)) for side in (-1, 1)]
    assert suv_in(patient, patient.subject.body.sites["lung"]) < 0.85 * suv_in(patient, thighs)


def test_equal_seeds_give_equal_patients_and_others_differ() -> None:
    first, second, other = make_patient(7), make_patient(7), make_patient(8)
    assert np.array_equal(first.volume.array, second.volume.array)
    assert first.volume.geometry.same_as(second.volume.geometry)
    assert first.lesions == second.lesions == draw_phantom_subject(7).lesions
    assert first.lesions != other.lesions


def test_the_specification_is_kept() -> None:
    patient = make_patient(1, spec=PhantomSpec(scanner=SOUTH, lesions=4), frame_of_reference="1.2.3")
    assert len(patient.lesions) == 4
    assert patient.volume.geometry.spacing_mm == pytest.approx(SOUTH.spacing_mm)
    assert patient.mask.geometry.frame_of_reference == "1.2.3"
    healthy = make_patient(1, spec=PhantomSpec(lesions=0))
    assert healthy.lesions == ()
    assert not healthy.mask.array.any()


def test_lesions_are_in_range_apart_and_clear_of_hot_organs() -> None:
    for seed in range(60):
        subject = draw_phantom_subject(seed)
        assert len(subject.lesions) <= MOST_LESIONS
        for i, lesion in enumerate(subject.lesions):
            assert DIAMETER_MM[0] <= 2 * lesion.radius_mm <= DIAMETER_MM[1]
            assert SUV[0] <= lesion.suv <= SUV[1]
            centre = [np.array([v], dtype=np.float32) for v in lesion.centre_mm]
            assert all(organ.distance_mm(*centre)[0] > lesion.radius_mm for organ in subject.body.keep_out)
            for other in subject.lesions[:i]:
                gap = np.linalg.norm(np.subtract(lesion.centre_mm, other.centre_mm))
                assert gap > lesion.radius_mm + other.radius_mm


def test_lesions_glow() -> None:
    patient = make_patient(17)
    assert patient.lesions
    for lesion in patient.lesions:
        k, j, i = np.rint(patient.volume.geometry.to_index(lesion.centre_mm)).astype(int)
        assert patient.volume.array[k, j, i] > 0.5 * lesion.suv
        assert patient.mask.array[k, j, i]


def test_burden_and_dissemination() -> None:
    lesions = (Lesion("", (0, 0, 0), 10.0, 3.0), Lesion("", (0, 30, 40), 10.0, 5.0), Lesion("", (0, 3, 4), 1.0, 0.0))
    assert total_lesion_glycolysis(lesions) == pytest.approx(8.0 * 4 / 3 * np.pi)
    assert largest_distance_mm(lesions) == pytest.approx(50.0)
    assert largest_distance_mm(lesions[:1]) == 0.0


def test_people_are_consistent() -> None:
    subjects = [draw_phantom_subject(seed) for seed in range(200)]
    men, women = ([s.height_m for s in subjects if s.sex == sex] for sex in "MF")
    assert np.mean(men) - np.mean(women) == pytest.approx(0.12, abs=0.03)
    bmi = np.array([s.weight_kg / s.height_m**2 for s in subjects])
    assert ((bmi > 17) & (bmi < 38.5)).all()


def test_coarse_arrays_have_one_shape() -> None:
    arrays = [make_array(seed) for seed in (0, 1)]
    assert {array.shape for array in arrays} == {(84, 44, 44)}
    assert all(array.dtype == np.float32 and array.min() >= 0 and array.max() > 2 for array in arrays)
    assert make_array(0, spacing_mm=24.0).shape == (42, 22, 22)


N = 600


@pytest.fixture(scope="module")
def subjects() -> list[PhantomSubject]:
    return [draw_phantom_subject(np.random.default_rng([2024, number])) for number in range(N)]


def column(subjects: list[PhantomSubject], name: str) -> np.ndarray:
    return np.array([getattr(subject.outcome, name) for subject in subjects])


def test_shares_of_events(subjects: list[PhantomSubject]) -> None:
    assert 0.35 < column(subjects, "recurrence").mean() < 0.50
    assert column(subjects, "metastasis").mean() == pytest.approx(0.42, abs=0.06)
    days = column(subjects, "recurrence_days")
    assert days.min() >= 1
    assert days.max() <= 2001


def test_who_knows_the_lesions_predicts_well(subjects: list[PhantomSubject]) -> None:
    metastasis, recurrence = column(subjects, "metastasis"), column(subjects, "recurrence")
    days, latent = column(subjects, "recurrence_days").astype(float), column(subjects, "latent")
    burden = np.array([total_lesion_glycolysis(subject.lesions) for subject in subjects])
    assert roc_auc_score(metastasis, latent) == pytest.approx(0.845, abs=0.05)
    assert roc_auc_score(metastasis, burden) == pytest.approx(0.81, abs=0.05)
    assert concordance_index_censored(recurrence, days, latent)[0] == pytest.approx(0.74, abs=0.04)
    assert concordance_index_censored(recurrence, days, burden)[0] == pytest.approx(0.715, abs=0.04)
    assert roc_auc_score(metastasis, latent) > roc_auc_score(metastasis, burden)  # where they lie matters too


def test_outcomes_can_depend_on_place_and_burden_each_alone() -> None:
    spec = PhantomSpec(lesions=4, outcomes="separate")
    subjects = [draw_phantom_subject(np.random.default_rng([2025, number]), spec=spec) for number in range(N)]
    metastasis, recurrence = column(subjects, "metastasis"), column(subjects, "recurrence")
    place = np.array([mean_place(subject.lesions, subject.height_m) for subject in subjects])
    burden = np.log1p([total_lesion_glycolysis(subject.lesions) for subject in subjects])
    days = column(subjects, "recurrence_days").astype(float)
    assert metastasis.mean() == pytest.approx(0.5, abs=0.06)
    assert recurrence.mean() == pytest.approx(0.46, abs=0.06)
    assert roc_auc_score(metastasis, -place) == pytest.approx(0.96, abs=0.02)
    assert roc_auc_score(metastasis, burden) == pytest.approx(0.56, abs=0.06)
    assert concordance_index_censored(recurrence, days, burden)[0] == pytest.approx(0.80, abs=0.04)
    assert (place.mean(), place.std()) == pytest.approx(PLACE, abs=0.01)
    assert (burden.mean(), burden.std()) == pytest.approx(BURDEN_LOG_OF_FOUR, abs=0.1)
    other = draw_phantom_subject(np.random.default_rng([2025, 0]), spec=PhantomSpec(lesions=4))
    assert other.lesions == subjects[0].lesions


def test_the_place_of_lesions_is_weighed_by_their_uptake() -> None:
    lesions = (Lesion("", (0, 0, -100), 10.0, 3.0), Lesion("", (0, 0, -500), 10.0, 1.0))
    assert mean_place(lesions, 2.0) == pytest.approx(-0.1)
    assert mean_place((), 2.0) == PLACE[0]


def test_age_alone_predicts_little(subjects: list[PhantomSubject]) -> None:
    age = [subject.age_years for subject in subjects]
    assert 0.48 < roc_auc_score(column(subjects, "metastasis"), age) < 0.62


def test_fate_is_chance_around_the_same_risk(subjects: list[PhantomSubject]) -> None:
    subject, rng = subjects[0], np.random.default_rng(0)
    outcomes = [draw_outcome(subject.lesions, subject.age_years, rng) for _ in range(50)]
    assert len({outcome.latent for outcome in outcomes}) == 1
    assert len({outcome.recurrence_days for outcome in outcomes}) > 10
