"""The page as a process that listens."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.core.extras import import_optional
from twobe3.deploy.address import is_loopback
from twobe3.deploy.web.bounds import Bounds
from twobe3.io.secret import read_secret
from twobe3.models.registry import find_model, list_models, read_card

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from twobe3.deploy.web.schemas import Model

log = logging.getLogger("twobe3")
TOKEN_VARIABLE = "TWOBE3_TOKEN"
SHORTEST_TOKEN = 24
MOST_CONNECTIONS = 200
KEEP_ALIVE_S, STOP_S = 15, 5
MOST_HEADER_BYTES = 16_384


def serve(
    models: Sequence[Path | str],
    folder: Path | str | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8023,
    token: str = "",
    bounds: Bounds | None = None,
    workers: int = 1,
    device: str = "auto",
) -> None:
    """Serve the page until a signal ends the process.

    Parameters
    ----------
    models : sequence of path
        Model files, or folders with them.
    folder : path, optional
        Where uploads and results are kept; :func:`default_folder` otherwise.
    host, port
        Where it listens; port 0 is a free one.
    token : str
        What a person or program must know; only an address of this machine alone does without.
    bounds : Bounds, optional
    workers : int
        Processes that predict at the same time.
    device : {"auto", "cpu", "cuda"}
        Where networks compute.

    Raises
    ------
    ConfigurationError
        ``NODE_EXPOSED``; ``TOKEN_INVALID``; ``MODEL_INVALID``.
    EnvironmentFailure
        ``LISTEN_FAILED``; ``NODE_RUNNING``; ``WRITE_FAILED``; ``EXTRA_MISSING``.
    """
    local = is_loopback(host)
    if not local and not token:
        remedy = f"give a token, by --token-file or in the environment variable {TOKEN_VARIABLE}, or leave out --host"
        raise ConfigurationError(Code.NODE_EXPOSED, f"{host} is no address of this machine alone", remedy=remedy)
    if token and len(token) < SHORTEST_TOKEN:
        raise ConfigurationError(Code.TOKEN_INVALID, f"the token has {len(token)} characters, not {SHORTEST_TOKEN}")
    for package in ("fastapi", "python_multipart", "uvicorn"):
        import_optional(package, "the page", extra="serve")
    import uvicorn

    from twobe3.deploy.web.app import make_app

    named = read_models(models)
    with _listen(host, port) as listening:
        app = make_app(named, Path(folder or default_folder()), token=token, local=local, bounds=bounds,
                       workers=workers, device=device)  # fmt: skip
        shown = f"[{host}]" if ":" in host else host
        log.info("the page is at http://%s:%d/", shown, listening.getsockname()[1])
        uvicorn.Server(_configure(app)).run(sockets=[listening])


def _configure(app: FastAPI) -> uvicorn.Config:
    """The settings of the server, which logs nothing itself: its messages quote what was sent."""
    import uvicorn

    for name in ("uvicorn", "uvicorn.error", "python_multipart"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, ws="none", limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=STOP_S, proxy_headers=False,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES, http="h11",
    )  # fmt: skip


def read_models(paths: Sequence[Path | str]) -> dict[str, tuple[Model, Path]]:
    """The models of some files and folders by the digests of their files, each with what the page tells of it.

    Raises
    ------
    ConfigurationError
        ``MODEL_INVALID``.
    """
    from twobe3.deploy.web.schemas import describe_model

    found = {}
    for path in map(Path, paths):
        several = [] if path.is_file() else list_models(path)
        for file in several or [find_model(path)]:
            card, digest = read_card(file)
            found[digest] = describe_model(card, digest), file.resolve()
    return found


def read_token(path: Path | None) -> str:
    """The token in a file, else that in the environment variable, else none.

    Raises
    ------
    ConfigurationError
        ``TOKEN_INVALID``: the file cannot be read, or others than its owner may read it.
    """
    if path is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    return read_secret(path, Code.TOKEN_INVALID)


def default_folder() -> Path:
    """``~/.local/state/twobe3/serve``, or where XDG_STATE_HOME says."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "twobe3" / "serve"


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise EnvironmentFailure(Code.LISTEN_FAILED, f"{host} port {port}: {error.strerror}") from None
