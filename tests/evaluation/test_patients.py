from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from twobe3.core.endpoints import Binary, Continuous, TimeToEvent
from twobe3.core.outcomes import Endpoint, FloatArray, Outcomes
from twobe3.core.prediction import Prediction
from twobe3.evaluation import metrics
from twobe3.evaluation.patients import PatientRecords, share_concordant, summarize_patients
from twobe3.io.files import write_artefact

N = 30


def observed(endpoint: Endpoint, value: FloatArray, event: np.ndarray) -> Outcomes:
    return Outcomes(endpoint, tuple(f"p{i}" for i in range(len(value))), value, event)


def test_of_two_classes_the_mean_over_the_events_is_the_auc() -> None:
    rng = np.random.default_rng(0)
    event, risk = rng.random(N) < 0.4, rng.integers(0, 8, N).astype(float)
    share = share_concordant(observed(Binary("e", "e"), event.astype(float), event), risk)
    assert share[event].mean() == pytest.approx(roc_auc_score(event, risk))
    assert share[~event].mean() == pytest.approx(roc_auc_score(event, risk))


def test_of_times_it_counts_the_pairs_of_harrells_c() -> None:
    """Each pair stands with both of its patients: weighted by the pairs, the mean is Harrell's C."""
    rng = np.random.default_rng(1)
    time, event, risk = rng.integers(1, 12, N).astype(float), rng.random(N) < 0.6, rng.normal(size=N)
    outcomes = observed(TimeToEvent("e", "t", "e"), time, event)
    share = share_concordant(outcomes, risk)
    pairs = np.array(
        [
            sum(
                (a != b)
                and any(
                    event[i] and (time[j] > time[i] or (time[j] == time[i] and not event[j]))
                    for i, j in ((a, b), (b, a))
                )
                for b in range(N)
            )
            for a in range(N)
        ]
    )
    value = metrics.harrell_c(outcomes, risk, resamples=100).value
    assert np.average(share[pairs > 0], weights=pairs[pairs > 0]) == pytest.approx(value)


def test_of_numbers_the_right_order_is_1_and_the_wrong_one_0() -> None:
    outcomes = observed(Continuous("e", "e"), np.array([1.0, 2.0, 3.0]), np.ones(3, np.bool_))
    assert share_concordant(outcomes, outcomes.value).tolist() == [1, 1, 1]
    assert share_concordant(outcomes, -outcomes.value).tolist() == [0, 0, 0]


def test_without_a_pair_there_is_no_share() -> None:
    outcomes = observed(TimeToEvent("e", "t", "e"), np.array([1.0, 2.0]), np.zeros(2, np.bool_))
    assert np.isnan(share_concordant(outcomes, np.zeros(2))).all()


def test_records_hold_pseudonyms_and_means_over_repeats(tmp_path: Path) -> None:
    event = np.array([True, False, False])
    outcomes = observed(Binary("e", "e"), event.astype(float), event)
    parts = [
        Prediction("m", "e", ("p0", "p1", "p2"), np.array(risk), np.array(probability)).in_fold(repeat, 0)
        for repeat, (risk, probability) in enumerate(
            [([3.0, 2.0, 1.0], [0.9, 0.5, 0.1]), ([10.0, 30.0, 20.0], [0.5, 0.7, 0.3])]
        )
    ]
    unseen = Prediction("n", "e", ("p1",), np.array([1.0]))
    records = summarize_patients(
        [Prediction.concatenate(parts), unseen], [outcomes], {f"p{i}": f"pa-{i}" for i in range(3)}
    )
    write_artefact(tmp_path / "patients.json", records.to_json())
    assert PatientRecords.read(tmp_path / "patients.json") == records
    first, second, _ = records.patients
    assert (first.patient, first.event) == ("pa-0", True)
    said = first.risk("m")
    assert said is not None
    assert (said.rank, said.risk) == (0.5, 6.5)  # highest, then lowest of three
    assert said.probability == pytest.approx(0.7)
    assert said.concordance == pytest.approx(0.5)  # above the third patient, whose rank is 0.25, below the second
    assert first.risk("n") is None
    assert second.risk("n") is not None
