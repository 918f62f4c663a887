"""What a person sees: the form, the progress, the results, and where to log in."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.resources import files
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from twobe3 import __version__
from twobe3.core.counts import format_count
from twobe3.deploy.web import schemas
from twobe3.deploy.web.bounds import Bounds
from twobe3.deploy.web.guard import COOKIE, SESSION_S, Sessions, make_policy
from twobe3.deploy.web.jobs import JobStore
from twobe3.deploy.web.problems import not_found
from twobe3.deploy.web.queue import Progress
from twobe3.deploy.web.worker import FRAGMENT

LONGEST_LOGIN_BYTES, LOGIN_S = 4096, 10.0
STATIC = ("app.js", "app.css")


def make_pages(
    sessions: Sessions,
    find: Callable[[str], Progress],
    describe: Callable[[Progress], schemas.Job],
    models: Mapping[str, schemas.Model],
    bounds: Bounds,
    store: JobStore,
) -> APIRouter:
    """The routes of the pages, which no document describes."""
    pages = APIRouter(include_in_schema=False)
    environment = _make_environment()
    static = _read_static()

    def render(template: str, script_hashes: tuple[str, ...] = (), status: int = 200, **shown: object) -> Response:
        text = environment.get_template(template).render(
            version=__version__, bounds=bounds, has_token=sessions.needed, **shown
        )
        return HTMLResponse(text, status, {"Content-Security-Policy": make_policy(script_hashes)})

    @pages.get("/")
    def show_form() -> Response:
        return render("start.html.jinja", models=list(models.values()))

    @pages.get("/jobs/{job_id}")
    def show_job(job_id: str) -> Response:
        progress = find(job_id)
        part = store.folder(job_id) / "results" / FRAGMENT
        text = Markup(part.read_text(encoding="utf-8")) if progress.job.script_hashes or part.is_file() else None
        return render("job.html.jinja", progress.job.script_hashes, job=describe(progress), part=text,
                      model=models.get(progress.job.model))  # fmt: skip

    @pages.get("/login")
    def show_login() -> Response:
        return render("login.html.jinja", refused=False)

    @pages.post("/login")
    async def log_in(request: Request) -> Response:
        token = await _read_token(request)
        if not sessions.needed or not sessions.is_token(token.strip()):
            return render("login.html.jinja", status=401, refused=True)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(COOKIE, sessions.open(), max_age=SESSION_S, httponly=True, samesite="strict",
                          secure=request.url.scheme == "https")  # fmt: skip
        return answer

    @pages.post("/logout")
    def log_out(request: Request) -> Response:
        sessions.close(request.headers)
        answer = RedirectResponse("/login", 303)
        answer.delete_cookie(COOKIE)
        return answer

    @pages.get("/static/{name}")
    def show_static(name: str) -> Response:
        if name not in static:
            raise not_found()
        return Response(static[name], media_type=mimetypes.guess_type(name)[0])

    return pages


async def _read_token(request: Request) -> str:
    """What the form to log in sent; empty where it is too long, or comes too slowly."""
    body = b""
    with suppress(TimeoutError):
        async with asyncio.timeout(LOGIN_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LONGEST_LOGIN_BYTES:
                    return ""
            return parse_qs(body.decode("latin-1")).get("token", [""])[0]
    return ""


def _make_environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("twobe3.deploy.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"format_count": format_count, "size": format_size}
    return environment


def format_size(n_bytes: int) -> str:
    """Bytes as a person reads them."""
    for unit, length in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= length:
            return f"{n_bytes / length:.3g} {unit}"
    return f"{n_bytes} bytes"


def _read_static() -> dict[str, bytes]:
    """The files of the page, whose style begins with that of the report."""
    report = files("twobe3.report").joinpath("templates")
    own = files("twobe3.deploy.web").joinpath("static")
    found = {name: own.joinpath(name).read_bytes() for name in STATIC}
    style = b"".join(report.joinpath(name).read_bytes() for name in ("page.css", "viewer.css"))
    return {**found, "app.css": style + found["app.css"]}
