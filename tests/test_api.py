"""The interface as the documentation shows it: on DICOM, in a script and in a notebook, and without patient ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

MARKER = "MRN-SECRET"
PATIENTS = 8

CELLS = (
    """
import pandas
import twobe3 as tb

scan = tb.read_suv("dicom/scan-0")
assert scan.array.shape == (12, 10, 10)
assert scan.affine.shape == (4, 4)
assert scan.calibration.type == "bw"
scan.to_nifti("scan.nii.gz")
series = tb.find_series("dicom/")
assert len(series) == 8
mask = tb.read_regions(tb.find_series("drawn/")[0])
assert mask.volume_ml > 0
""",
    """
endpoint = tb.TimeToEvent("recurrence", time="days", event="relapse")
cohort = tb.read_cohort("dicom/", clinical="clinical.csv", endpoint=endpoint, grid=tb.Grid(16.0, (192.0, 160.0, 160.0)))
train, test = range(6), slice(6, None)
cohort
""",
    """
model = tb.models.TwoBe3Net(
    backbone="resnet18", weights="random", layer=2, slice_size=32, planes=("axial", "coronal"), components=4,
    epochs=1, ensemble_size=1,
)
prediction = model.fit(cohort[train]).predict(cohort[test])
assert prediction.risk.shape == (2,)
model.save("m.safetensors")
assert (tb.models.load("m.safetensors").predict(cohort[test]).risk == prediction.risk).all()
""",
    """
models = [model, tb.models.Baseline("suvmax", region="threshold", threshold_suv=1.5)]
cv = tb.cross_validate(models, cohort, cv=tb.CrossValidation(2, repeats=1), resamples=100, n_jobs=1)
assert len(cv.evaluations) == 2
assert len(cv.comparisons) == 1
frame = cv.to_frame()
assert isinstance(frame, pandas.DataFrame)
assert set(frame["model"]) == {one.name for one in models}
assert list(cv.to_frame("comparisons")["model_b"]) == [models[1].name]
cv.write_report("report.html")
cv
""",
)


@pytest.fixture(scope="module")
def folder(new_tiny_cohort: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans as DICOM, one of them with a structure set, and a clinical table; every patient id is a marker."""

    path = tmp_path_factory.mktemp("api")
    cohort = new_tiny_cohort(path)
    ids = [f"{MARKER}-{i}" for i in range(PATIENTS)]
    for i, patient in enumerate(ids):
        cohort.scan(patient, folder=f"scan-{i}", suv=3.0 + i)
    cohort.table({patient: (100 + 9 * i, int(i % 3 > 0)) for i, patient in enumerate(ids)}, "patient_id,days,relapse")
    return path
