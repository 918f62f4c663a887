import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, mean_squared_error

from twobe3.cohort.cohort import Cohort
from twobe3.pretraining.labels import Labels, Scale, label_loss, label_values, label_weights

NAMES = ("sex", "age_years", "weight_kg")
SCALES = (Scale("sex", True), Scale("age_years", False))


def test_what_headers_tell_becomes_numbers_in_units_of_the_training_patients(bodies: Cohort) -> None:
    training = np.arange(4)
    labels = Labels.from_subjects(bodies.subjects, NAMES, training)
    assert [scale.name for scale in labels.scales] == list(NAMES)
    assert (labels.values[:3, 0] == [0, 1, 0]).all()  # F, M, F
    np.testing.assert_allclose(labels.values[:4, 1].mean(), 0.0, atol=1e-6)
    np.testing.assert_allclose(labels.values[:4, 2].std(), 1.0, atol=1e-6)
    assert (
        labels.known == np.isfinite(np.stack([label_values(bodies.subjects, name) for name in NAMES], axis=1))
    ).all()
    assert labels.known[[3, 5, 7]].tolist() == [[False, True, True], [True, False, True], [False] * 3]


def test_a_label_of_which_training_patients_tell_one_value_is_left_out(bodies: Cohort) -> None:
    labels = Labels.from_subjects(bodies.subjects, NAMES, np.array([0, 2]))
    assert labels.left_out == ("sex",)
    assert [scale.name for scale in labels.scales] == ["age_years", "weight_kg"]


def test_the_loss_is_the_mean_of_the_losses_over_the_rows_that_tell_a_label() -> None:
    rng = np.random.default_rng(1)
    raw, known = rng.normal(size=(9, 2)), rng.random((9, 2)) < 0.6
    values = np.stack([rng.random(9) < 0.5, rng.normal(size=9)], axis=1)
    loss = label_loss(torch.tensor(raw), torch.tensor(values), torch.tensor(label_weights(known)), SCALES)
    sex, age = known.T
    entropy = log_loss(values[sex, 0], 1 / (1 + np.exp(-raw[sex, 0])), labels=[0, 1])
    expected = (entropy + mean_squared_error(values[age, 1], raw[age, 1])) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_what_is_not_known_changes_neither_loss_nor_gradient() -> None:
    known = np.array([[True, False], [False, True], [True, True]])
    values = torch.tensor([[1.0, 0.0], [0.0, 0.3], [0.0, -1.0]])
    found = []
    for absent in (0.0, 7.0, float("nan")):
        raw = torch.linspace(-1, 1, 6).view(3, 2).requires_grad_()
        seen = torch.where(torch.from_numpy(known), values, absent)
        loss = label_loss(raw, seen, torch.from_numpy(label_weights(known)), SCALES)
        loss.backward()  # type: ignore[no-untyped-call]
        assert raw.grad is not None
        found.append((loss.item(), raw.grad.tolist()))
    assert found[0] == found[1] == found[2]
    assert found[0][1][0][1] == found[0][1][1][0] == 0.0


def test_the_losses_of_several_processes_add_up_to_that_of_one() -> None:
    rng = np.random.default_rng(2)
    raw, values = (torch.from_numpy(rng.normal(size=(7, 2))) for _ in range(2))
    values[:, 0] = (values[:, 0] > 0).double()
    weights = torch.from_numpy(label_weights(rng.random((7, 2)) < 0.5))
    shares = [label_loss(raw[rank::3], values[rank::3], weights[rank::3], SCALES) for rank in range(3)]
    assert float(sum(shares)) == pytest.approx(float(label_loss(raw, values, weights, SCALES)))
