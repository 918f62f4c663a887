"""A small model, and a scan that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import TinyCohort

import twobe3 as tb

GRID = tb.Grid(16.0, (192, 160, 160))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, new_tiny_cohort: Callable[[Path], TinyCohort]) -> Path:
    folder = tmp_path_factory.mktemp("model")
    cohort = new_tiny_cohort(folder).patients(12)
    endpoint = tb.Binary("outcome", "outcome")
    read = tb.read_cohort(cohort.images, clinical=cohort.clinical, endpoint=endpoint, grid=GRID)
    network = tb.models.TwoBe3Net(inputs=("image", "profile"), weighing="joint", epochs=2, ensemble_size=1)
    return network.fit(read).save(folder / "m.safetensors")


@pytest.fixture
def scan(tiny_cohort: TinyCohort) -> Path:
    return tiny_cohort.scan("NEW-PATIENT", suv=5.5, PatientName="Doe^Jane")
