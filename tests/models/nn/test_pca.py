"""Principal components of feature maps against scikit-learn, and what must hold for every projection."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from twobe3.models.nn.pca import Projection

Maps = npt.NDArray[np.float16]


@pytest.fixture
def subjects() -> list[Maps]:
    """Maps of 5 patients with 6 correlated channels of very different size."""
    rng = np.random.default_rng(0)
    mixing, size = rng.normal(0, 1, (6, 6)), np.array([0.1, 1.0, 10.0, 1.0, 5.0, 0.5])
    return [
        (np.tensordot(mixing, rng.normal(0, 1, (6, 4, 3, 3)), axes=1) * size[:, None, None, None] + 2).astype(
            np.float16
        )
        for _ in range(5)
    ]


def rows(subjects: list[Maps]) -> npt.NDArray[np.float64]:
    return np.concatenate([maps.reshape(6, -1).T for maps in subjects]).astype(np.float64)


def test_components_are_those_of_scikit_learn_up_to_sign_and_one_common_factor(subjects: list[Maps]) -> None:
    projection = Projection.fit(subjects, 4)
    standard = StandardScaler().fit_transform(rows(subjects))
    reference = PCA(4).fit(standard)
    factor = np.sqrt((reference.explained_variance_ * (1 - 1 / len(standard))).mean())
    for maps in subjects:
        ours = projection(maps).reshape(4, -1)
        theirs = (
            reference.transform((maps.reshape(6, -1).T - rows(subjects).mean(0)) / rows(subjects).std(0)).T / factor
        )
        np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=2e-4)


def test_components_of_the_training_patients_have_mean_0_and_mean_variance_1(subjects: list[Maps]) -> None:
    projection = Projection.fit(subjects, 3)
    projected = np.concatenate([projection(maps).reshape(3, -1) for maps in subjects], axis=1)
    assert projected.mean(axis=1) == pytest.approx(np.zeros(3), abs=1e-4)
    assert projected.var(axis=1).mean() == pytest.approx(1.0, abs=1e-3)
    assert (np.diff(projected.var(axis=1)) < 0).all()


def test_every_patient_counts_alike_whatever_the_number_of_slices(subjects: list[Maps]) -> None:
    longer = [np.concatenate([subjects[0]] * 3, axis=1), *subjects[1:]]
    np.testing.assert_allclose(Projection.fit(longer, 4).matrix, Projection.fit(subjects, 4).matrix, atol=1e-9)


def test_more_components_than_channels_give_all_channels(subjects: list[Maps]) -> None:
    projection = Projection.fit(subjects, 32)
    assert projection.matrix.shape == (6, 6)
    assert projection(subjects[0]).shape == (6, 4, 3, 3)


def test_the_sign_does_not_depend_on_the_order_of_the_patients(subjects: list[Maps]) -> None:
    projection = Projection.fit(subjects, 4)
    np.testing.assert_allclose(Projection.fit(subjects[::-1], 4).matrix, projection.matrix, rtol=1e-6, atol=1e-9)
    loading = projection.matrix * rows(subjects).std(0)
    assert (loading[np.arange(4), np.abs(loading).argmax(axis=1)] > 0).all()


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_channel_that_never_varied_in_training_weighs_nothing(subjects: list[Maps], value: float) -> None:
    for maps in subjects:
        maps[2] = value
    projection = Projection.fit(subjects, 32)
    new = subjects[0].copy()
    new[2] += 3.0
    assert np.isfinite(projection(new)).all()
    np.testing.assert_array_equal(projection(new), projection(subjects[0]))


def test_arrays_round_trip(subjects: list[Maps]) -> None:
    projection = Projection.fit(subjects, 3)
    again = Projection.from_arrays(projection.arrays())
    np.testing.assert_array_equal(again(subjects[0]), projection(subjects[0]))


def test_standardised_channels_are_those_of_scikit_learn(subjects: list[Maps]) -> None:
    constant = [np.concatenate([maps, np.full_like(maps[:1], 7)]) for maps in subjects]
    projection = Projection.standardise(constant)
    ours = np.concatenate([projection(maps).reshape(7, -1).T for maps in constant])
    np.testing.assert_allclose(ours[:, :6], StandardScaler().fit_transform(rows(subjects)), atol=2e-4)
    assert not ours[:, 6].any()
