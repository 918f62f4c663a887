"""``twobe3 node``: a fitted model as a DICOM node."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

import twobe3 as tb
from twobe3.cli.options import CredentialsFile, DeviceOption, ModelFile

_TITLE = r"[^\\,@\x00-\x1f\x7f-\U0010ffff]{1,16}"  # an AE title, DICOM PS3.5 6.2
_LARGEST_PORT = 65535


def node(
    model: ModelFile,
    out: Annotated[Path, typer.Option(help="Folder for inbox, queue, results and node.jsonl, with identities.")],
    port: Annotated[int, typer.Option(min=0, max=_LARGEST_PORT, help="Where it listens; 0 is a free port.")] = 11112,
    aet: Annotated[str, typer.Option(help="Its AE title.")] = "TWOBE3",
    host: Annotated[str, typer.Option(help="Its address; one that other machines reach needs --allow.")] = "127.0.0.1",
    allow: Annotated[str, typer.Option(help="AE titles that may store, separated by commas; any by default.")] = "",
    send: Annotated[str, typer.Option(help="Archive that is sent the results: AET@HOST:PORT, or a DICOMweb URL.")] = "",
    credentials: CredentialsFile = None,
    quiet_seconds: Annotated[
        float, typer.Option(min=0, help="A study is complete when nothing came for it so long.")
    ] = 10.0,
    device: DeviceOption = None,
) -> None:
    """Take studies by C-STORE, predict each when it is complete, and store reports, regions and maps in an archive."""
    titles = [title.strip() for title in allow.split(",") if title.strip()]
    if not all(re.fullmatch(_TITLE, title) and title.strip() for title in (aet, *titles)):
        raise typer.BadParameter("an AE title has 1 to 16 characters of ASCII, and no backslash")
    archive = _read_archive(send, aet, credentials)
    with tb.deploy.Node(
        model, out, aet=aet, host=host, port=port, allow=titles, archive=archive, quiet_s=quiet_seconds,
        device=tb.Device(device or "auto"),
    ) as running:  # fmt: skip
        running.run()


def _read_archive(address: str, aet: str, credentials: Path | None) -> tb.deploy.Archive | tb.deploy.DicomWeb | None:
    """AET@HOST:PORT or a URL; None where nothing is given."""
    if not address:
        return None
    if address.startswith(("http://", "https://")):
        return tb.deploy.DicomWeb(address, tb.deploy.read_credentials(credentials))
    parts = re.fullmatch(rf"({_TITLE})@(.+):(\d{{1,5}})", address)
    if parts is None or not 0 < int(parts[3]) <= _LARGEST_PORT:
        raise typer.BadParameter("--send must be AET@HOST:PORT, for instance ARCHIVE@127.0.0.1:4242, or a URL")
    return tb.deploy.Archive(parts[1], parts[2].strip("[]"), int(parts[3]), aet)
