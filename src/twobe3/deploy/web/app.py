"""The routes of the page and of the interface under /api."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Request, Security
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from twobe3 import __version__
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, TwoBe3Error
from twobe3.deploy.web import schemas
from twobe3.deploy.web.bounds import Bounds
from twobe3.deploy.web.guard import Guard, Sessions
from twobe3.deploy.web.jobs import JOB_ID, Job, JobStore
from twobe3.deploy.web.pages import make_pages
from twobe3.deploy.web.problems import Problem, answer_problem, document_problems, not_found
from twobe3.deploy.web.queue import JobQueue, Progress
from twobe3.deploy.web.upload import receive_upload, too_large

log = logging.getLogger("twobe3")
JobId = Annotated[str, PathParameter(pattern=f"^{JOB_ID}$", description="The id that the upload was answered with")]
FileName = Annotated[str, PathParameter(max_length=300, description="A name that the job lists")]


@dataclass(frozen=True)
class Service:
    """What the routes work with.

    Attributes
    ----------
    models : dict of str to Model
        By the digests of their files.
    """

    models: dict[str, schemas.Model]
    store: JobStore
    queue: JobQueue
    bounds: Bounds
    sessions: Sessions

    def find(self, job_id: str) -> Progress:
        """A job; raises ConfigurationError ``NOT_FOUND``."""
        progress = self.queue.find(job_id)
        if progress is None:
            raise not_found("there is no such job")
        return progress

    def describe(self, progress: Progress) -> schemas.Job:
        """What is told of a job."""
        return schemas.describe_job(progress, self.store.folder(progress.job.id) / "results", self.bounds)

    async def receive(self, request: Request) -> Job:
        """Take an upload on; nothing is left of one that was refused."""
        with self.queue.reserve():
            if int(request.headers.get("content-length", "0")) > self.bounds.upload_bytes:
                raise too_large(self.bounds)
            job_id, folder = await run_in_threadpool(self.store.open_upload)
            try:
                kind = request.headers.get("content-type", "")
                upload = await receive_upload(kind, request.stream(), folder, self.bounds)
                if upload.model not in self.models:
                    raise not_found("there is no such model", remedy="/api/models lists them")
                job = Job(job_id, upload.model, time(), upload.n_files, upload.force)
                await run_in_threadpool(self.queue.submit, job)
            except BaseException:
                self.store.drop_upload(job_id)  # here, since nothing can be awaited in a request that was cut off
                raise
        return job


def make_app(
    models: Mapping[str, tuple[schemas.Model, Path]],
    folder: Path,
    *,
    token: str = "",
    local: bool = True,
    bounds: Bounds | None = None,
    workers: int = 1,
    device: str = "auto",
) -> FastAPI:
    """The application.

    Parameters
    ----------
    models : mapping of str to (Model, Path)
        By the digests of their files.
    folder : Path
        See :mod:`twobe3.deploy.web.jobs`.
    token : str
        What a request must know; none where it is empty.
    local : bool
        Whether it answers only to this machine's own names, where there is no token.
    bounds : Bounds, optional
    workers : int
        Processes that predict; with 0 every upload waits.
    device : str
        Where networks compute.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``; ``NODE_RUNNING``.
    """
    bounds = bounds or Bounds()
    store = JobStore(folder)
    files = {digest: path for digest, (_, path) in models.items()}
    queue = JobQueue(store, files, bounds, workers=workers, device=device)
    described = {digest: model for digest, (model, _) in models.items()}
    service = Service(described, store, queue, bounds, Sessions(token))

    @asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        queue.start()
        try:
            yield
        finally:
            queue.stop()
            store.close()

    app = FastAPI(
        title="twobe3", version=__version__, lifespan=live, docs_url=None, redoc_url=None, redirect_slashes=False,
        description="Predictions of a fitted model for PET scans. Research use only.",
    )  # fmt: skip
    app.state.queue = queue
    app.include_router(_make_api(service))
    app.include_router(make_pages(service.sessions, service.find, service.describe, described, bounds, store))
    _handle_errors(app)
    app.add_middleware(Guard, sessions=service.sessions, local=local and not token)
    return app


def _make_api(service: Service) -> APIRouter:
    bearer = [Security(HTTPBearer(auto_error=False))] if service.sessions.needed else []
    api = APIRouter(prefix="/api", dependencies=bearer)

    @api.get("/models", responses=document_problems())
    def list_models() -> list[schemas.Model]:
        """List the models that can be chosen."""
        return list(service.models.values())

    @api.post("/jobs", status_code=202, response_model=schemas.Job, openapi_extra=_document_form(service),
              responses=document_problems(404, 408, 413, 422, 429, 503))  # fmt: skip
    async def upload_scans(request: Request) -> schemas.Job:
        """Upload DICOM files or zip files of them; they are predicted in turn, and then deleted."""
        return service.describe(Progress(await service.receive(request)))

    @api.get("/jobs/{job_id}", responses=document_problems(404, 422))
    def read_job(job_id: JobId) -> schemas.Job:
        """Say what became of an upload."""
        return service.describe(service.find(job_id))

    @api.delete("/jobs/{job_id}", status_code=204, responses=document_problems(404, 422))
    def delete_job(job_id: JobId) -> None:
        """Delete an upload with its results, whatever is done with it."""
        if not service.queue.delete(job_id):
            raise not_found("there is no such job")

    kinds: dict[str, Any] = {kind: {} for kind in sorted(set(schemas.MEDIA_TYPES.values()))}
    downloads: dict[int | str, dict[str, Any]] = {200: {"description": "The file", "content": kinds}}

    @api.get("/jobs/{job_id}/files/{name}", response_class=FileResponse,
             responses={**downloads, **document_problems(404, 422)})  # fmt: skip
    def read_file(job_id: JobId, name: FileName) -> Response:
        """Download a result; those in DICOM have the patient's identity."""
        if name not in service.find(job_id).job.files:
            raise not_found("the job has no such file")
        path = service.store.folder(job_id) / "results" / name
        if not path.is_file():
            raise not_found("the job has no such file")
        return FileResponse(path, media_type=schemas.MEDIA_TYPES[schemas.find_kind(name)], filename=name)

    return api


def _document_form(service: Service) -> dict[str, Any]:
    """The form of an upload, which is read as it comes, by hand."""
    schema = {
        "type": "object",
        "required": ["model", "files"],
        "additionalProperties": False,
        "properties": {
            "model": {"type": "string", "enum": list(service.models), "description": "The id of a model"},
            "files": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}},
            "force": {
                "type": "string", "enum": ["true", "false"],
                "description": "Whether scans unlike those of the training are predicted, too",
            },
        },
    }  # fmt: skip
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _handle_errors(app: FastAPI) -> None:
    """Answer every refusal in one form, without what was sent."""

    @app.exception_handler(TwoBe3Error)
    def answer_error(request: Request, error: TwoBe3Error) -> JSONResponse:
        return answer_problem(error)

    @app.exception_handler(RequestValidationError)
    def answer_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer_problem(
            ConfigurationError(Code.UPLOAD_INVALID, "a part of the address is not valid", remedy="see /openapi.json")
        )

    @app.exception_handler(HTTPException)
    def answer_http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            return answer_problem(not_found(remedy="see /openapi.json"))
        reason = "the address does not take such a request"
        problem = Problem(code=Code.NOT_FOUND.name, reason=reason, remedy="see /openapi.json")
        return JSONResponse(problem.model_dump(), error.status_code, dict(error.headers or {}))

    @app.exception_handler(ClientDisconnect)
    def answer_nobody(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)
