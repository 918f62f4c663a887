"""``twobe3 serve``: fitted models as a page in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import twobe3 as tb
from twobe3.cli.options import DeviceOption

_LARGEST_PORT = 65535


def serve(
    models: Annotated[list[Path], typer.Argument(help="Model files of twobe3, or folders with them.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for uploads and results, with identities; ~/.local/state/twobe3/serve by default."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=_LARGEST_PORT, help="Where it listens; 0 is a free port.")] = 8023,
    host: Annotated[str, typer.Option(help="Its address; one that other machines reach needs a token.")] = "127.0.0.1",
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token; that of the variable TWOBE3_TOKEN by default.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that predict at the same time.")] = 1,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds after which a prediction is ended.")] = 900.0,
    keep_hours: Annotated[float, typer.Option(min=0, help="Hours after which results are deleted.")] = 24.0,
    most_waiting: Annotated[int, typer.Option(min=1, help="Predictions that may wait.")] = 20,
    most_mb: Annotated[
        int, typer.Option(min=1, help="MB of one upload; a zip file may unpack to twice as much.")
    ] = 2000,
    device: DeviceOption = None,
) -> None:
    """Show a page in the browser that takes scans and shows what the models predict of them."""
    bounds = tb.deploy.Bounds(
        upload_bytes=most_mb * 10**6, unpacked_bytes=2 * most_mb * 10**6, waiting=most_waiting, predict_s=time_limit,
        keep_s=keep_hours * 3600,
    )  # fmt: skip
    tb.deploy.serve(
        models, out, host=host, port=port, token=tb.deploy.read_token(token_file), bounds=bounds, workers=workers,
        device=device or "auto",
    )  # fmt: skip
