"""What the load tests of the node and of the page send: few coarse phantoms under many ids, and a model for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import twobe3 as tb
from twobe3.core.volume import Geometry, SUVVolume
from twobe3.phantom import write_cohort
from twobe3.phantom.cohort import draw_case
from twobe3.phantom.dicom_writer import write_pet_series

TRAINED_ON, SEED, DIFFERENT = 16, 3, 5
COARSER = (2, 2, 2)
GRID = tb.Grid(16.0, (1024.0, 512.0, 512.0))
MEMORY_AT = (10, 50, 100)
"""After how many scans the memory is told."""


def fit_model(folder: Path) -> Path:
    """A small network, fitted on phantoms once."""
    path = folder / "model.safetensors"
    if not path.exists():
        cohort = write_cohort(folder / "cohort", patients=TRAINED_ON, seed=SEED)
        endpoint = tb.Binary("metastasis", "metastasis")
        read = tb.read_cohort(cohort / "dicom", clinical=cohort / "clinical.csv", endpoint=endpoint, grid=GRID)
        network = tb.models.TwoBe3Net(inputs=("image", "profile"), weighing="joint", epochs=2, ensemble_size=1)
        network.fit(read).save(path)
    return path


def write_scans(folder: Path, scans: int) -> Iterator[list[Path]]:
    """The files of each scan: :data:`DIFFERENT` phantoms, each under many ids."""
    cases = [draw_case(SEED, TRAINED_ON + 1 + i) for i in range(DIFFERENT)]
    for number in range(scans):
        case, target = cases[number % DIFFERENT], folder / f"{number:04d}"
        header = replace(case.header, patient_id=f"LOAD-{number:04d}", uid_seed="load")
        yield write_pet_series(_coarsen(case.patient.volume), target, header=header)


def _coarsen(volume: SUVVolume) -> SUVVolume:
    """Every second voxel of each axis, where it lies."""
    array = volume.array[tuple(slice(None, None, step) for step in COARSER)]
    affine = volume.geometry.affine @ np.diag([*COARSER, 1.0])
    return SUVVolume(np.ascontiguousarray(array), Geometry(array.shape, affine), volume.calibration)
