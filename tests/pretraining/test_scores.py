import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score

from twobe3.pretraining.labels import Labels, Scale
from twobe3.pretraining.scores import Evaluator

N = 30
EVALUATOR = Evaluator("stacks", tuple(f"pa-{i}" for i in range(N)), 200, 0)


def test_figures_of_labels_are_those_of_another_library_on_whom_they_are_known() -> None:
    rng = np.random.default_rng(0)
    true = np.stack([rng.random(N) < 0.5, rng.normal(size=N)], axis=1)
    raw, known = true + rng.normal(size=(N, 2)), rng.random((N, 2)) < 0.8
    scales = (Scale("sex", True), Scale("age_years", False, 60.0, 12.0))
    labels = Labels(scales, true, known, ())
    found = {(figure.task, figure.metric): figure for figure in EVALUATOR.score_labels(labels, raw)}
    sex, age = known.T
    assert found["sex", "auc"].value == pytest.approx(roc_auc_score(true[sex, 0], raw[sex, 0]))
    assert found["age_years", "r2"].value == pytest.approx(r2_score(true[age, 1], raw[age, 1]))
    mae = mean_absolute_error(60 + 12 * true[age, 1], 60 + 12 * raw[age, 1])  # in years
    assert found["age_years", "mae"].value == pytest.approx(mae)
    assert found["age_years", "spearman"].n == age.sum()
    for figure in found.values():
        assert figure.low is not None
        assert figure.high is not None
        assert figure.value is not None
        assert figure.low < figure.value < figure.high


def test_a_label_that_nobody_of_them_has_gets_no_figure() -> None:
    blank = np.zeros((N, 1))
    assert EVALUATOR.score_labels(Labels((Scale("sex", True),), blank, blank > 0, ()), blank) == []


def test_what_is_explained_is_a_share_of_the_squares_about_the_mean() -> None:
    spread = np.linspace(1.0, 2.0, N)
    assert EVALUATOR.explained_variance("x", np.zeros(N), spread).value == 1.0
    assert EVALUATOR.explained_variance("x", spread, spread).value == pytest.approx(0.0)
    error = np.random.default_rng(0).uniform(0.0, 1.0, N)
    figure = EVALUATOR.explained_variance("x", error, spread)
    assert figure.value == pytest.approx(1 - error.sum() / spread.sum())
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < 1 - error.sum() / spread.sum() < figure.high
    assert EVALUATOR.explained_variance("x", np.zeros(N), np.zeros(N)).value is None
