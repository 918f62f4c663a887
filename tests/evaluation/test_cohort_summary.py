"""Riley's criteria against what pmsampsize prints, and the parameters that a cohort bears against their inverse."""

from __future__ import annotations

import numpy as np
import pytest

from twobe3.evaluation.cohort_summary import EXPLAINED, largest_r2, patients_for, sample_size


def test_a_binary_outcome_needs_what_pmsampsize_says():
    """pmsampsize 1.1.3: ``type = "b", csrsquared = 0.1845, parameters = 30, prevalence = 0.47``."""
    most = largest_r2(1308, 615, binary=True)
    assert most == pytest.approx(0.749, abs=5e-4)
    assert patients_for(30, 0.1845, most, 0.47) == {"shrinkage": 1308, "optimism": 709, "risk": 383}


def test_a_time_to_event_needs_what_pmsampsize_says():
    """The same: ``type = "s", csrsquared = 0.005956358, parameters = 25``, 0.005129329 events a year for 10 years."""
    most = largest_r2(10000, 513, binary=False)
    assert most == pytest.approx(0.335, abs=5e-4)
    assert patients_for(25, 0.005956358, most) == {"shrinkage": 37650, "optimism": 1478}


def test_half_of_the_patients_leave_the_most_to_explain():
    """BMJ 368 (2020) m441: the largest Cox–Snell R² is 0.75 at a share of 0.5, 0.33 at 0.05."""
    assert largest_r2(100, 50, binary=True) == pytest.approx(0.75)
    assert largest_r2(1000, 50, binary=True) == pytest.approx(0.33, abs=0.005)


def test_the_parameters_that_a_cohort_bears(binary):
    outcomes = binary(np.arange(600) < 200)
    found = sample_size(outcomes, {"few": 1, "many": 2000})
    assert (found.n, found.events) == (600, 200)
    assert found.r2 == EXPLAINED * largest_r2(600, 200, binary=True)
    most = found.r2 / EXPLAINED
    assert patients_for(found.parameters, found.r2, most)["shrinkage"] <= 600
    assert patients_for(found.parameters + 1, found.r2, most)["shrinkage"] > 600
    few, many = found.models
    assert (few.events_per_parameter, many.events_per_parameter) == (200, 0.1)
    assert few.patients_needed == 342  # 1.96² · 2/9 / 0.05²: the share of events within 0.05
    assert many.patients_needed == patients_for(2000, found.r2, most)["shrinkage"]


def test_the_rarer_class_counts(binary, survival):
    assert sample_size(binary(np.arange(60) < 50), {}).events == 10
    assert sample_size(survival(np.arange(1.0, 61.0), np.arange(60) < 50), {}).events == 50


def test_where_the_criteria_do_not_apply(binary, survival, continuous):
    assert sample_size(continuous(np.arange(9.0)), {}) is None
    assert sample_size(binary([1, 1]), {}) is None
    assert sample_size(survival([1, 2], [0, 0]), {}) is None
