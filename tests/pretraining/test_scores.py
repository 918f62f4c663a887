import numpy as np
import pytest
from scipy.stats import ttest_rel
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score

from twobe3.pretraining.labels import Labels, Scale
from twobe3.pretraining.scores import Change, Evaluator, compare, conclude

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


def test_the_interval_of_a_change_is_that_of_its_mean_paired_difference() -> None:
    rng = np.random.default_rng(1)
    before = rng.normal(1.0, 0.5, N)
    after = before + rng.normal(-0.1, 0.2, N)
    (change,) = compare("scans", {"masked_error": before}, {"masked_error": after}, resamples=4000, seed=0)
    expected = ttest_rel(after, before).confidence_interval()
    assert change.change == pytest.approx(np.mean(after - before))
    assert (change.low, change.high) == pytest.approx((expected.low, expected.high), abs=0.01)


@pytest.mark.parametrize(
    ("figure", "up"), [("lesion_dice", "better"), ("lesion_auc", "better"), ("masked_error", "worse")]
)
def test_a_verdict_needs_an_interval_on_one_side_of_0(figure: str, up: str) -> None:
    level, noise = np.full(N, 0.5), np.random.default_rng(0).normal(0, 0.01, N)
    for shift, verdict in ((0.1, up), (-0.1, {"better": "worse", "worse": "better"}[up]), (0.0, "open")):
        noise = noise - noise.mean()
        (change,) = compare("scans", {figure: level}, {figure: level + shift + noise}, resamples=200, seed=0)
        assert change.verdict == verdict
    (same,) = compare("scans", {figure: level}, {figure: level}, resamples=200, seed=0)
    assert (same.change, same.low, same.high, same.verdict) == (0.0, 0.0, 0.0, "open")


def test_scans_without_a_figure_are_left_out_of_a_change_and_one_alone_has_no_interval() -> None:
    before, after = np.array([0.2, np.nan, 0.4, np.nan]), np.array([0.3, 0.5, np.nan, np.nan])
    (change,) = compare("phantoms", {"lesion_auc": before}, {"lesion_auc": after}, resamples=100, seed=0)
    assert (change.n, change.before, change.low, change.verdict) == (1, 0.2, None, "open")
    (none,) = compare("phantoms", {"lesion_auc": before[3:]}, {"lesion_auc": after[3:]}, resamples=100, seed=0)
    assert (none.n, none.change, none.verdict) == (0, None, "open")


def test_the_sentence_says_better_worse_or_neither() -> None:
    better = Change("scans", "masked_error", 1.0, 0.5, -0.5, -0.6, -0.4, 9)
    worse = Change("generic", "lesion_dice", 0.5, 0.4, -0.1, -0.2, -0.05, 9)
    unclear = Change("phantoms", "lesion_auc", 0.5, 0.4, -0.1, -0.2, 0.05, 9)
    assert conclude([better, unclear]).startswith("It got better: error at masked voxels, log SUV on held-out scans;")
    assert conclude([worse, unclear]).startswith("It got worse: Dice of lesions on simulated shapes;")
    assert conclude([better, worse]).startswith("It got better in some figures")
    assert conclude([unclear]).startswith("Whether it got better cannot be told")
