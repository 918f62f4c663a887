from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from twobe3.core.prediction import Prediction
from twobe3.report.agreement import agreement


def predicted(model: str, *repeats: list[float]) -> Prediction:
    patients = tuple(f"p{i}" for i in range(len(repeats[0])))
    return Prediction.concatenate(
        Prediction(model, "e", patients, np.array(risk, dtype=float)).in_fold(r, 0) for r, risk in enumerate(repeats)
    )


def test_one_repeat_is_spearmans_rho() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=30), rng.integers(0, 5, 30)
    found = agreement([predicted("a", a.tolist()), predicted("b", b.tolist())])
    assert found.models == ("a", "b")
    assert found.rho[0][1] == pytest.approx(spearmanr(a, b).statistic)
    assert found.rho[0][0] == pytest.approx(1.0)


def test_scale_of_a_repeat_does_not_matter() -> None:
    a = predicted("a", [1, 2, 3, 4], [100, 200, 300, 400])
    b = predicted("b", [4, 3, 2, 1], [-0.1, -0.2, -0.3, -0.4])
    assert agreement([a, b]).rho[0][1] == pytest.approx(-1.0)


def test_only_patients_in_common_count() -> None:
    a = Prediction("a", "e", ("p", "q", "r"), np.array([1.0, 2.0, 3.0]))
    b = Prediction("b", "e", ("r", "q", "s"), np.array([2.0, 1.0, 0.0]))
    assert agreement([a, b]).rho[0][1] == pytest.approx(1.0)


def test_constant_risk_has_no_correlation() -> None:
    assert agreement([predicted("a", [1, 2, 3]), predicted("b", [5, 5, 5])]).rho[0][1] is None


def test_without_predictions_there_is_nothing_to_agree() -> None:
    assert agreement([]).models == ()
