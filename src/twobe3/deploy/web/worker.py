"""What the process of a prediction does: scans of an upload to numbers, pictures and files."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from twobe3.core.errors import TwoBe3Error
from twobe3.deploy.results import ResultFiles, Results
from twobe3.io.files import write_atomic
from twobe3.report.patient_page import PatientPage, render_patients
from twobe3.runtime.device import Device
from twobe3.runtime.timed_worker import Tell
from twobe3.study.checks import Notice
from twobe3.study.predict import PredictedScan, Predictions, predict, to_json_text

FRAGMENT = "part.html"
"""The part of the page that shows the results; it is no download."""
TABLE, DOCUMENT = "predictions.csv", "predictions.json"


def predict_upload(task: str, tell: Tell) -> str:
    """Predict an upload and write its results beside it.

    Parameters
    ----------
    task : str
        JSON with ``folder`` (of the job), ``model`` (its file), ``force`` and ``device``.
    tell : callable

    Returns
    -------
    str
        JSON with the attributes of :class:`~twobe3.deploy.web.jobs.Job` that say what became of it.
    """
    given = json.loads(task)
    folder = Path(given["folder"])
    logging.getLogger().setLevel(logging.CRITICAL)  # messages of others quote headers
    logging.getLogger("twobe3").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    tempfile.tempdir = str(_make_empty(folder / "work"))  # what a killed process leaves goes with the job
    results = _make_empty(folder / "results")
    files = ResultFiles(sr=results, seg=results, pm=results, pdf=results)
    pages: list[PatientPage] = []
    lacking: list[Notice] = []

    def make(predicted: PredictedScan) -> None:
        tell(f"Scan {len(pages) + 1} is predicted; its map and its files are made.")
        made = Results(predicted)
        lacking.extend(files.write(made))
        pages.append(made.page())

    tell("The scans are read.")
    try:
        found = predict(given["model"], [folder / "input"], device=Device(given["device"]), force=given["force"],
                        each=make)  # fmt: skip
    except TwoBe3Error as error:
        return json.dumps({"state": "refused", **_say_error(error)})
    return json.dumps(_write(results, found, pages, lacking))


def _write(results: Path, found: Predictions, pages: list[PatientPage], lacking: list[Notice]) -> dict[str, Any]:
    """Write the table, the document and the part of the page; gives what became of the job."""
    public = replace(found, predictions=tuple(replace(one, patient_id="", path="") for one in found.predictions))
    named = replace(public, predictions=tuple(replace(one, patient_id=one.patient) for one in public.predictions))
    named.write(results / TABLE)
    write_atomic(results / DOCUMENT, to_json_text(public.to_json()))
    names = tuple(sorted(path.name for path in results.iterdir()))
    outcome: dict[str, Any] = {
        "state": "predicted" if found.usable else "refused",
        "predictions": [{**one.to_json(), "remedy": one.remedy} for one in public.predictions],
        "lacking": [asdict(one) for one in lacking],
        "files": names,
    }
    if not found.usable:
        first = next(one for one in public.predictions if one.code)
        outcome |= {"code": first.code, "reason": first.reason, "remedy": first.remedy}
    if pages:
        part = render_patients(pages)
        write_atomic(results / FRAGMENT, part.html.encode())
        outcome["script_hashes"] = part.script_hashes
    return outcome


def _make_empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _say_error(error: TwoBe3Error) -> dict[str, str]:
    return {"code": error.code.name, "reason": error.reason, "remedy": error.remedy}
