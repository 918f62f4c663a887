"""The phantoms of ``benchmarks/outcomes.py``: what is painted is what was drawn; the truth predicts what it should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from benchmarks.outcome_phantoms import (
    CORE_SUV,
    FIRST_SEED,
    MECHANISMS,
    Patient,
    draw_outcome,
    draw_patient,
    paint_patient,
    paint_truth,
)
from sklearn.metrics import roc_auc_score
from sksurv.metrics import concordance_index_censored

from twobe3.phantom import NORTH

FIRST = FIRST_SEED["development"] + 900_000  # not among the patients of any table


def painted_glycolysis(patient: Patient) -> float:
    """SUV·ml of the whole body, before the scanner."""
    geometry = NORTH.geometry(1000.0)
    image = paint_truth(patient, geometry, np.random.default_rng(1))
    return float(image.sum(dtype=np.float64) * np.prod(geometry.spacing_mm) / 1000.0)


@pytest.fixture(scope="module")
def plain() -> Patient:
    """Even lesions without necrosis."""
    return replace(draw_patient(FIRST), unevenness=0.0, core=0.0)


def test_texture_makes_lesions_uneven_and_keeps_their_glycolysis(plain: Patient) -> None:
    uneven = replace(plain, unevenness=1.0)
    assert uneven.glycolysis == plain.glycolysis
    assert painted_glycolysis(uneven) - painted_glycolysis(plain) == pytest.approx(0.0, abs=1e-3 * plain.glycolysis)
    spread = [
        volume.array[mask.array].std() / volume.array[mask.array].mean()
        for volume, mask in map(paint_patient, (plain, uneven))
    ]
    assert spread[1] > 1.3 * spread[0]


def test_necrosis_takes_its_share_of_the_largest_lesion(plain: Patient) -> None:
    necrotic, lesion = replace(plain, core=1.0), plain.largest
    lost = necrotic.necrotic_share * lesion.volume_ml * (lesion.suv - CORE_SUV)
    assert painted_glycolysis(plain) - painted_glycolysis(necrotic) == pytest.approx(lost, rel=0.03)
    assert plain.glycolysis - necrotic.glycolysis == pytest.approx(lost)
    volume, _ = paint_patient(necrotic)
    centre = tuple(np.rint(volume.geometry.to_index(lesion.centre_mm)).astype(int))
    assert volume.array[centre] < 0.5 * paint_patient(plain)[0].array[centre]


def test_the_truth_predicts_and_what_is_drawn_is_independent() -> None:
    patients = [draw_patient(seed) for seed in range(FIRST, FIRST + 400)]
    risks = {}
    for name in MECHANISMS:
        outcomes = [draw_outcome(patient, name) for patient in patients]
        risks[name] = np.array([one.risk for one in outcomes])
        metastasis, recurrence = (
            np.array([getattr(one, what) for one in outcomes]) for what in ("metastasis", "recurrence")
        )
        assert roc_auc_score(metastasis, risks[name]) == pytest.approx(0.85, abs=0.06)
        days = [one.days for one in outcomes]
        assert concordance_index_censored(recurrence, days, risks[name])[0] == pytest.approx(0.74, abs=0.06)
        assert 0.25 < metastasis.mean() < 0.6
        assert abs(risks[name].mean()) < 0.2
        assert risks[name].std() == pytest.approx(1.0, abs=0.15)
    for drawn in ("heterogeneity", "necrosis"):
        for name in ("dissemination", "place"):
            assert abs(np.corrcoef(risks[drawn], risks[name])[0, 1]) < 0.2
