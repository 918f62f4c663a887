"""Cohorts that tell something: how high a slice lies, and of which sex a patient is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from twobe3.cohort.cohort import Cohort, Subject
from twobe3.core.grid import Grid
from twobe3.core.volume import Geometry, SUVCalibration, SUVVolume
from twobe3.pretraining.config import Recipe
from twobe3.scans.scan import ArrayScan

GRID = Grid(spacing_mm=(8.0, 8.0, 8.0), field_of_view_mm=(128.0, 128.0, 128.0))


@pytest.fixture(scope="session")
def bodies() -> Cohort:
    """Twelve scans in memory: a cylinder whose uptake rises from feet to head; two empty slices at the feet."""
    rng = np.random.default_rng(0)
    return Cohort(tuple(_study(i, rng) for i in range(12)), grid=GRID)


def _study(number: int, rng: np.random.Generator) -> Subject:
    affine = np.eye(4)
    affine[:3, :3] = 8.0 * np.fliplr(np.eye(3))
    geometry = Geometry(GRID.shape, affine)
    height, row, column = np.indices(GRID.shape)
    body = np.hypot(row - 7.5, column - 7.5) < 5.0 + 2.0 * (number % 2)
    suv = body * (0.5 + height / 2.0) * rng.uniform(0.9, 1.1, GRID.shape)
    suv[:2] = 0.0
    told: dict[str, float | str] = {"sex": "FM"[number % 2], "age_years": 40.0 + number, "weight_kg": 60.0 + 2 * number}
    for missing in {3: ("sex",), 5: ("age_years",), 7: ("sex", "age_years", "weight_kg")}.get(number, ()):
        del told[missing]
    volume = SUVVolume(suv.astype(np.float32), geometry, SUVCalibration("bw", "TEST", 1.0, 1.0))
    return Subject(f"MRN-{number}", ArrayScan(volume), covariates=told)


@pytest.fixture(scope="session")
def recipe() -> Callable[..., Recipe]:
    """A recipe that is quick; tables may be changed key by key."""

    def make(**tables: dict[str, Any]) -> Recipe:
        quick: dict[str, dict[str, Any]] = {
            "cohort": {"images": "dicom"},
            "volume": {"spacing_mm": 8.0, "field_of_view_mm": GRID.field_of_view_mm},
            "pretrain": {
                "backbone": "phantom-resnet10", "layer": 2, "slice_size": 32, "components": 4,
                "reduced_channels": 4, "width": 4, "resamples": 100,
            },
            "slices": {"epochs": 2, "per_scan": 4, "batch_size": 8},
            "stacks": {"epochs": 2, "batch_size": 4},
        }  # fmt: skip
        for table, keys in tables.items():
            quick[table] = {**quick[table], **keys}
        return Recipe.model_validate(quick)

    return make
