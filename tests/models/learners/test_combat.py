"""ComBat: what it takes away, what it leaves, and an independent implementation's values."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from twobe3.models.learners.combat import SMALLEST_CENTRE, fit_combat

FloatArray = npt.NDArray[np.float64]
REFERENCE = Path(__file__).parents[2] / "reference" / "combat.json"


def two_centres(n: int = 40, p: int = 30, seed: int = 0) -> tuple[FloatArray, list[str]]:
    """The second centre measures another offset and gain of each feature."""
    rng = np.random.default_rng(seed)
    x = rng.normal(5.0, 2.0, (2 * n, p)) * np.linspace(0.1, 50.0, p)
    x[n:] = x[n:] * rng.uniform(1.5, 2.5, p) + rng.normal(3.0, 1.0, p) * np.linspace(0.1, 50.0, p)
    return x, ["north"] * n + ["south"] * n


def differences(x: FloatArray, centres: list[str]) -> tuple[FloatArray, FloatArray]:
    """Of means, in standard deviations, and of standard deviations, as logarithms."""
    north = np.array(centres) == "north"
    one, two = x[north], x[~north]
    means = (one.mean(axis=0) - two.mean(axis=0)) / x.std(axis=0)
    return np.abs(means), np.abs(np.log(one.std(axis=0) / two.std(axis=0)))


def test_centres_agree_in_location_and_scale_afterwards() -> None:
    x, centres = two_centres(n=400)
    before, after = differences(x, centres), differences(fit_combat(x, centres).apply(x, centres), centres)
    assert before[0].mean() > 0.8
    assert before[1].mean() > 0.5
    assert after[0].max() < 0.1
    assert after[1].max() < 0.1


def test_the_values_are_those_of_an_independent_implementation() -> None:
    """Values of neuroCombat 0.2.12, which ``tests/reference/combat.py`` wrote."""
    reference = json.loads(REFERENCE.read_text())
    x = np.array(reference["x"])
    found = fit_combat(x, reference["centres"]).apply(x, reference["centres"])
    np.testing.assert_allclose(found, reference["harmonised"], rtol=1e-4, atol=1e-4)


def test_one_centre_or_too_few_patients_change_nothing() -> None:
    x, centres = two_centres()
    assert (fit_combat(x, ["north"] * len(x)).apply(x, centres) == x).all()
    few = ["north"] * (len(x) - SMALLEST_CENTRE + 1) + ["south"] * (SMALLEST_CENTRE - 1)
    assert (fit_combat(x, few).apply(x, few) == x).all()


def test_order_within_a_centre_is_kept() -> None:
    x, centres = two_centres()
    harmonised = fit_combat(x, centres).apply(x, centres)
    for part in (slice(0, 40), slice(40, 80)):
        assert (np.argsort(x[part], axis=0) == np.argsort(harmonised[part], axis=0)).all()


def test_a_patient_of_an_unseen_centre_keeps_the_features_and_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    x, centres = two_centres()
    combat = fit_combat(x, centres)
    with caplog.at_level(logging.WARNING, "twobe3"):
        harmonised = combat.apply(x[:3], ["east", "north", "west"])
    assert (harmonised[[0, 2]] == x[[0, 2]]).all()
    assert (harmonised[1] == combat.apply(x[1:2], ["north"])[0]).all()
    assert "2 of 3 patients" in caplog.text


def test_a_feature_that_does_not_vary_stays_as_it_is() -> None:
    x, centres = two_centres()
    x[:, 4] = 7.0
    harmonised = fit_combat(x, centres).apply(x, centres)
    assert (harmonised[:, 4] == 7.0).all()
    assert np.isfinite(harmonised).all()


def test_a_small_centre_borrows_from_its_other_features() -> None:
    """Shifts of five patients, estimated from each feature alone, scatter more than the shrunken ones."""
    rng = np.random.default_rng(0)
    x = rng.normal(0.0, 1.0, (65, 200))
    x[60:] += 2.0  # the same shift of every feature
    centres = ["north"] * 60 + ["south"] * 5
    combat = fit_combat(x, centres)
    alone = x[60:].mean(axis=0) - x.mean(axis=0)
    taken_away = (x[60:] - combat.apply(x[60:], centres[60:])).mean(axis=0)
    assert taken_away.mean() == pytest.approx(alone.mean(), rel=0.02)
    assert taken_away.std() < 0.75 * alone.std()
