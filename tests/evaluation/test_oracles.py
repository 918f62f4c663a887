"""Every metric against another library, on real data and hard cases: the table that scripts/oracle_table.py prints."""

from __future__ import annotations

import csv
import math

import pytest
from scripts.oracle_table import rows

from twobe3.evaluation.metrics import HORIZON, METRICS


@pytest.fixture(scope="module")
def table():
    limit = csv.field_size_limit()
    found = list(rows())
    csv.field_size_limit(limit)  # the reader of the survival data changes it for the whole process
    return found


def test_every_metric_equals_its_oracle(table):
    """Acceptance row 43."""
    far = [row for row in table if not math.isclose(row.ours, row.oracle, rel_tol=1e-10, abs_tol=1e-12)]
    assert far == []


def test_every_metric_of_the_registry_has_an_oracle(table):
    compared = {name + HORIZON * bool(at) for name, at, _ in (row.metric.partition("@") for row in table)}
    assert set(METRICS) <= compared


def test_the_hard_cases_are_among_them(table):
    """Acceptance row 43."""
    cases = {row.case for row in table}
    for hard in ("ties", "all censored after", "trained on 100 days", "one event", "one positive", "20 patients"):
        assert any(hard in case for case in cases), hard
