"""What the interface under /api answers, as its OpenAPI document describes it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from twobe3.deploy.web.bounds import Bounds
from twobe3.deploy.web.jobs import State
from twobe3.deploy.web.problems import Problem
from twobe3.deploy.web.queue import Progress
from twobe3.deploy.web.worker import DOCUMENT, TABLE
from twobe3.models.card import ModelCard

Kind = Literal["sr", "seg", "pm", "pdf", "csv", "json"]
LABELS: dict[Kind, str] = {
    "pdf": "Page to print, PDF",
    "csv": "Table, CSV",
    "json": "Document, JSON",
    "sr": "Report for the archive, DICOM SR",
    "seg": "Region, DICOM SEG",
    "pm": "Map of the risk, DICOM Parametric Map",
}
MEDIA_TYPES: dict[Kind, str] = {
    "pdf": "application/pdf", "csv": "text/csv", "json": "application/json", "sr": "application/dicom",
    "seg": "application/dicom", "pm": "application/dicom",
}  # fmt: skip


class Model(BaseModel):
    """A model that can be chosen: ``id`` is the digest of its file."""

    id: str
    name: str
    endpoint: str
    patients: int
    performance: str
    intended_use: str


class Notice(BaseModel):
    """Something that should be known: a code and half a sentence."""

    code: str
    reason: str


class Prediction(BaseModel):
    """A series, under pseudonyms: a risk, or why there is none; docs/howto/predicting.md says what the numbers are."""

    patient: str
    series_uid: str
    endpoint: str
    risk: float | None
    probability: float | None
    code: str | None
    reason: str | None
    remedy: str | None
    forced: list[Notice]
    flags: list[Notice]
    percentile: float | None
    risk_low: float | None
    risk_high: float | None
    probability_low: float | None
    probability_high: float | None


class File(BaseModel):
    """A result to download; ``identity`` says that the patient's is in it."""

    name: str
    kind: Kind
    label: str
    n_bytes: int
    identity: bool


class Job(BaseModel):
    """An upload and what became of it; ``position`` counts those before it."""

    id: str
    state: State
    model: str
    n_files: int
    received: datetime
    finished: datetime | None
    deleted_at: datetime | None
    position: int | None
    step: str | None
    problem: Problem | None
    predictions: list[Prediction]
    lacking: list[Notice]
    files: list[File]


def describe_model(card: ModelCard, digest: str) -> Model:
    """What is told of a model before it is chosen."""
    found = card.performance
    performance = "its performance is not known: it was fitted and not validated"
    if found is not None and found.value is not None:
        limits = "" if found.low is None or found.high is None else f" ({found.low:.3f} to {found.high:.3f})"
        performance = f"{found.metric} {found.value:.3f}{limits} in patients left out"
    return Model(id=digest, name=card.name, endpoint=card.endpoint, patients=card.trained_on.n,
                 performance=performance, intended_use=card.intended_use)  # fmt: skip


def describe_job(progress: Progress, results: Path, bounds: Bounds) -> Job:
    """What is told of a job; ``results`` is the folder of its files."""
    job = progress.job
    problem = None
    if job.code is not None:
        problem = Problem(code=job.code, reason=job.reason or "", remedy=job.remedy or "")
    files = [describe_file(results / name) for name in job.files if (results / name).exists()]
    order = list(LABELS)
    return Job(
        id=job.id, state=job.state, model=job.model, n_files=job.n_files, received=_to_time(job.received),
        finished=None if job.finished is None else _to_time(job.finished),
        deleted_at=None if job.finished is None else _to_time(job.finished + bounds.keep_s),
        position=progress.position, step=progress.step, problem=problem,
        predictions=[Prediction.model_validate(one) for one in job.predictions],
        lacking=[Notice.model_validate(one) for one in job.lacking],
        files=sorted(files, key=lambda one: (order.index(one.kind), one.name)),
    )  # fmt: skip


def describe_file(path: Path) -> File:
    """What is told of a result by its name, for instance ``….sr.dcm``."""
    kind = find_kind(path.name)
    identity = MEDIA_TYPES[kind] == "application/dicom"
    return File(name=path.name, kind=kind, label=LABELS[kind], n_bytes=path.stat().st_size, identity=identity)


def find_kind(name: str) -> Kind:
    """What a result is."""
    if name in (TABLE, DOCUMENT):
        return "csv" if name == TABLE else "json"
    return next(kind for kind in LABELS if name.endswith((f".{kind}", f".{kind}.dcm")))


def _to_time(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds), UTC)
