"""DeLong's test by counting pairs, the corrected t-test against scipy, and the patients needed by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm, ttest_1samp
from statsmodels.stats.power import NormalIndPower

from twobe3.evaluation.alignment import AlignedPredictions
from twobe3.evaluation.binary import delong
from twobe3.evaluation.compare import FoldValue, compare, corrected_t, delong_p, patients_needed
from twobe3.evaluation.format import patients_needed_lines
from twobe3.evaluation.results import Comparison


@pytest.fixture
def aligned(predict):
    return lambda risk, outcomes: AlignedPredictions.of(predict(risk), outcomes)


def by_pairs(first, second, event):
    """DeLong's p from the structural components, averaged over the repeats of each model; O(m n)."""

    def components(risks):
        pairs = np.mean([np.heaviside(r[event][:, None] - r[~event][None, :], 0.5) for r in np.atleast_2d(risks)], 0)
        return pairs.mean(axis=1), pairs.mean(axis=0)

    (v10, v01), (w10, w01) = components(first), components(second)
    variance = np.var(v10 - w10, ddof=1) / event.sum() + np.var(v01 - w01, ddof=1) / (~event).sum()
    return 2 * norm.sf(abs((v10 - w10).mean()) / math.sqrt(variance))


@pytest.mark.parametrize("repeats", [(1, 1), (3, 3), (2, 5)])
def test_delongs_p_equals_that_of_its_structural_components(binary, aligned, repeats):
    rng = np.random.default_rng(3)
    outcomes = binary(np.arange(70) < 25)
    risks = [np.round(outcomes.value * 0.8 + rng.normal(size=(r, 70)), 1) for r in repeats]
    p = delong_p(*(aligned(risk, outcomes) for risk in risks))
    assert 1e-6 < p < 0.999
    assert p == pytest.approx(by_pairs(*risks, outcomes.event), rel=1e-9)


def test_delong_of_models_that_order_alike_and_of_too_few(binary, aligned):
    outcomes, risk = binary([0, 0, 0, 1, 1]), np.array([0.1, 0.4, 0.2, 0.3, 0.9])
    assert delong_p(aligned(risk, outcomes), aligned(risk * 2, outcomes)) == 1
    single = binary([0, 0, 0, 0, 1])
    assert delong_p(aligned(risk, single), aligned(-risk, single)) is None
    split = binary([0, 0, 1, 1, 1])
    perfect = np.arange(5.0)
    assert delong_p(aligned(perfect, split), aligned(-perfect, split)) is None  # 1 and 0 in every sample


def folds(values, tested=10, trained=40):
    return {divmod(i, 5): FoldValue(value, tested, trained) for i, value in enumerate(values)}


def test_the_corrected_t_is_the_paired_t_with_a_wider_variance():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.75, 0.05, 25), rng.normal(0.72, 0.05, 25)
    p, method = corrected_t(folds(a), folds(b))
    plain = ttest_1samp(a - b, 0)
    shrunk = plain.statistic / math.sqrt(1 + 25 * 10 / 40)
    # scipy's t with the same mean and degrees of freedom, its variance of the mean 1/25 → 1/25 + 10/40
    rescaled = (a - b).mean() + ((a - b) - (a - b).mean()) * math.sqrt(1 + 25 * 10 / 40)
    assert ttest_1samp(rescaled, 0).statistic == pytest.approx(shrunk)
    assert p == pytest.approx(ttest_1samp(rescaled, 0).pvalue, rel=1e-9)
    assert p > plain.pvalue
    assert method == "corrected resampled t-test across 25 of 25 folds, n_test/n_train = 0.25"


def test_a_fold_without_an_estimate_is_left_out_and_counted():
    a, b = [0.8, 0.7, math.nan, 0.9], [0.6, 0.65, 0.5, 0.6]
    p, method = corrected_t(folds(a), folds(b))
    kept = [0, 1, 3]
    assert p == corrected_t(folds([a[i] for i in kept]), folds([b[i] for i in kept]))[0]
    assert "3 of 4 folds" in method


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (folds([0.7, 0.7]), folds([0.7, 0.7]), 1.0),
        (folds([0.75, 1.0]), folds([0.5, 0.75]), None),
        (folds([0.7]), folds([0.6]), None),
        (folds([0.7, math.nan]), folds([0.6, 0.6]), None),
        (folds([0.7, 0.8]), folds([0.6, 0.6], tested=9), None),
    ],
    ids=["alike", "constant", "one fold", "one estimable", "other folds"],
)
def test_where_the_corrected_t_says_nothing(a, b, expected):
    assert corrected_t(a, b)[0] == expected


def test_patients_needed_equal_those_of_statsmodels():
    sd, n = 0.9, 51
    expected = NormalIndPower().solve_power(effect_size=0.05 / sd, alpha=0.05, power=0.8, ratio=0)
    assert patients_needed(n, sd / math.sqrt(n)) == pytest.approx(expected, abs=1)
    assert patients_needed(10 * n, sd / math.sqrt(10 * n)) == patients_needed(n, sd / math.sqrt(n))
    assert patients_needed(n, 0.0) is None
    assert patients_needed(n, None) is None


def test_a_line_tells_the_median_of_the_pairs():
    pairs = [
        Comparison("e", "auc", "a", "b", 50, 0.1, 0.0, 0.2, 0.05, 0.05, "", patients_needed=needed)
        for needed in (812, 1244, None, 90)
    ]
    assert patients_needed_lines(pairs) == [
        "to see a difference of 0.05 in auc with a power of 80%: about 810 patients like these (median of 3 pairs)"
    ]
    assert patients_needed_lines(pairs[2:3]) == []


def test_with_the_patients_needed_four_of_five_studies_see_the_difference():
    """400 subjects of that size, drawn from a truth with AUCs of 0.75 and 0.70 (binormal: Φ(shift/√2))."""
    rng = np.random.default_rng(5)
    shifts = math.sqrt(2) * norm.ppf([0.75, 0.70])

    def study(n):
        """Difference and standard error that a study of n patients finds."""
        event = np.arange(n) < 0.4 * n
        risks = shifts[:, None] * event + 0.8 * rng.normal(size=n) + 0.6 * rng.normal(size=(2, n))
        areas, covariance = delong(risks, event)
        return areas[0] - areas[1], math.sqrt(np.array([1, -1]) @ covariance @ np.array([1, -1]))

    needed = patients_needed(20_000, study(20_000)[1])
    assert 300 < needed < 3000
    found = [study(needed) for _ in range(400)]
    seen = np.mean([abs(difference) > 1.959964 * error for difference, error in found])
    assert seen == pytest.approx(0.8, abs=0.07)  # 3.5 standard errors


def test_the_standard_error_is_that_of_the_bootstrap(binary, predict):
    """DeLong's, of another kind, says nearly the same number of patients."""
    rng = np.random.default_rng(6)
    outcomes = binary(np.arange(300) < 120)
    risks = outcomes.value * 0.9 + rng.normal(size=(2, 300))
    models = [predict(risk, model=name) for risk, name in zip(risks, "ab", strict=True)]
    fold = np.tile(np.arange(300) % 5, (2, 1))
    for metric, folds in (("auc", None), ("auc_within_folds", fold)):
        (pair,) = compare(models, outcomes, metric=metric)
        _, covariance = delong(risks, outcomes.event, folds)
        error = math.sqrt(np.array([1, -1]) @ covariance @ np.array([1, -1]))
        assert pair.patients_needed == pytest.approx(patients_needed(300, error), rel=0.1)
