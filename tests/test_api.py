"""The interface as the documentation shows it: on DICOM, in a script and in a notebook, and without patient ids."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

import twobe3 as tb
from twobe3.core.volume import Mask
from twobe3.phantom.dicom_writer import PETHeader, write_pet_series
from twobe3.phantom.rtstruct_writer import write_rtstruct

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
mask = tb.read_regions(tb.find_series("drawn/")[0], roi="GTV")
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


# In a process of its own, with a kernel of this interpreter rather than one that is installed for the user.
EXECUTE = """
import sys
import nbformat
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient

manager = KernelManager()
manager._kernel_spec = KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])
notebook = nbformat.read("page.ipynb", as_version=4)
NotebookClient(notebook, km=manager, timeout=300).execute()
nbformat.write(notebook, "page.ipynb")
"""
HEADER = PETHeader(
    patient_id=f"{MARKER}-drawn", sex="F", age_years=60, weight_kg=70.0, height_m=1.7, injected_dose_bq=3e8,
    injected=datetime(2020, 1, 1, 9), started=datetime(2020, 1, 1, 10),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(new_tiny_cohort: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans as DICOM, a clinical table, and another scan with a structure set; every patient id is a marker."""
    path = tmp_path_factory.mktemp("api")
    cohort = new_tiny_cohort(path)
    ids = [f"{MARKER}-{i}" for i in range(PATIENTS)]
    for i, patient in enumerate(ids):
        cohort.scan(patient, folder=f"scan-{i}", suv=3.0 + i)
    cohort.table({patient: (100 + 9 * i, int(i % 3 > 0)) for i, patient in enumerate(ids)}, "patient_id,days,relapse")
    volume = tb.read_suv(path / "dicom" / "scan-0")
    write_pet_series(volume, path / "drawn" / "PET", header=HEADER)
    write_rtstruct(Mask(volume.array > 2, volume.geometry, "GTV"), path / "drawn" / "RS.dcm", header=HEADER)
    return path


def test_the_example_runs_as_a_script(folder: Path) -> None:
    (folder / "script.py").write_text("\n".join(CELLS))
    done = subprocess.run([sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert MARKER not in done.stdout + done.stderr
    assert (folder / "report.html").read_text().startswith("<!doctype html>")


def test_the_example_runs_in_a_notebook_and_results_show_themselves_as_tables(folder: Path) -> None:
    cells = [nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "page.ipynb")
    subprocess.run([sys.executable, "-c", EXECUTE], cwd=folder, capture_output=True, check=True)
    notebook = nbformat.read(folder / "page.ipynb", as_version=4)
    cohort, result = (
        next(output.data for output in notebook.cells[number].outputs if output.output_type == "execute_result")
        for number in (1, 3)
    )
    assert "<td>8 known, 5 events</td>" in cohort["text/html"]
    assert cohort["text/plain"].startswith("Cohort(8 subjects, Outcomes(recurrence: time-to-event")
    assert result["text/html"].count("<table>") == 2
    assert "suvmax (SUV &gt; 1.5)" in result["text/html"]
    assert MARKER not in nbformat.writes(notebook)


def test_no_repr_shows_a_patient_id(folder: Path) -> None:
    endpoint = tb.Binary("relapse", column="relapse")
    grid = tb.Grid(16.0, (192.0, 160.0, 160.0))
    cohort = tb.read_cohort(folder / "dicom", clinical=folder / "clinical.csv", endpoint=endpoint, grid=grid)
    assert cohort.patients[0] == f"{MARKER}-0"
    cv = tb.cross_validate([tb.models.Baseline("image_extent")], cohort, cv=tb.CrossValidation(2), resamples=100)
    split = tb.PredefinedSplit(cohort.patients[:4], cohort.patients[4:], by="patient")
    shown = [
        cohort, cohort[0], cohort[:2], cohort.outcomes, cohort.sample, cohort.exclusions, split,
        *split.split(cohort.sample),
        cv, *cv.predictions, *cv.evaluations, *cv.comparisons, cv.plan, cv.plan.splits, cv.provenance, cv.summary,
        cv.exclusions, tb.find_series(folder / "dicom"), cohort[0].scan, cohort[0].scan.suv(), cv._repr_html_(),
        cohort._repr_html_(),
    ]  # fmt: skip
    for one in shown:
        assert MARKER not in repr(one), type(one)
    assert len(repr(cohort)) < 300


def test_a_cohort_is_indexed_as_an_array_is(make_cohort: Callable[..., tb.Cohort]) -> None:
    cohort = make_cohort(6)
    assert cohort[2] is cohort.subjects[2]
    assert cohort[1:3].patients == cohort.patients[1:3]
    assert cohort[[4, 0]].patients == (cohort.patients[4], cohort.patients[0])
    assert cohort[np.arange(6) % 2 == 0].patients == cohort.patients[::2]
    assert cohort[np.array([], dtype=int)].patients == ()
    assert cohort[1:3].outcomes.patients == cohort.patients[1:3]
    with pytest.raises(IndexError):
        cohort[6]
    with pytest.raises(IndexError):
        cohort[[True, False]]


def test_of_several_series_none_is_guessed(folder: Path) -> None:
    with pytest.raises(tb.core.ConfigurationError, match=r"holds 8 scans: se-.*find_series"):
        tb.read_suv(folder / "dicom")


def test_a_table_without_pandas_says_what_to_install(
    make_cohort: Callable[..., tb.Cohort], monkeypatch: pytest.MonkeyPatch
) -> None:
    cv = tb.cross_validate([tb.models.Baseline("age")], make_cohort(8), cv=tb.CrossValidation(2), resamples=100)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(tb.core.EnvironmentFailure, match=r"twobe3\[notebook\]"):
        cv.to_frame()
