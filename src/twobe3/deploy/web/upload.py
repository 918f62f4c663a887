"""An upload, from the bytes of a form to files under names of ours; all of it bounded while it comes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure
from twobe3.deploy.web.bounds import Bounds
from twobe3.dicom.archive import is_zip, unpack_into

FIELDS = ("model", "force")
LONGEST_FIELD_BYTES = 200


@dataclass(frozen=True)
class Upload:
    """What was sent.

    Attributes
    ----------
    model : str
        As it was sent.
    n_files : int
        As they were sent: a zip file is one.
    force : bool
        Whether scans unlike those of the training are predicted, too.
    """

    model: str
    n_files: int
    force: bool


async def receive_upload(content_type: str, body: AsyncIterator[bytes], folder: Path, bounds: Bounds) -> Upload:
    """Take a form into a folder, which is there and empty, and unpack its zip files.

    The form has ``model`` once, ``files`` once or more, and may have ``force`` ("true" or "false"). Of the names of the
    files only the ending ``.zip`` matters. A zip file within a zip file is not unpacked.

    Parameters
    ----------
    content_type : str
        Of the request.
    body : asynchronous iterator of bytes
    folder : Path
    bounds : Bounds

    Raises
    ------
    ConfigurationError
        ``UPLOAD_INVALID``; ``TOO_LARGE``; ``UPLOAD_SLOW``.
    UnusableScanError
        ``CORRUPT_FILE`` or ``TOO_LARGE``, see :func:`~twobe3.dicom.archive.unpack_into`.
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    parts, n_bytes = _Parts(_read_boundary(content_type), folder, bounds), 0
    try:
        async with asyncio.timeout(bounds.receive_s):
            async for chunk in body:
                n_bytes += len(chunk)
                if n_bytes > bounds.upload_bytes:
                    raise too_large(bounds)
                await run_in_threadpool(parts.write, chunk)
    except TimeoutError:
        reason = f"the upload did not arrive within {bounds.receive_s:g} s"
        raise ConfigurationError(Code.UPLOAD_SLOW, reason) from None
    finally:
        parts.close()
    upload = parts.finish()
    await run_in_threadpool(_unpack_all, folder, bounds)
    return upload


def too_large(bounds: Bounds) -> ConfigurationError:
    """``TOO_LARGE`` for the bytes of an upload."""
    reason = f"an upload may have {bounds.upload_bytes} bytes at most"
    return ConfigurationError(Code.TOO_LARGE, reason, remedy="send one patient at a time")


def _too_many(bounds: Bounds) -> ConfigurationError:
    reason = f"an upload may have {bounds.files} files at most"
    return ConfigurationError(Code.TOO_LARGE, reason, remedy="send one patient at a time")


def _invalid(reason: str) -> ConfigurationError:
    return ConfigurationError(Code.UPLOAD_INVALID, reason)


def _read_boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise _invalid("the upload is no multipart/form-data")
    return options[b"boundary"]


_NONE: BinaryIO | None = None


class _Parts:
    """The parts of a form as they come: files go to the disk, fields are short."""

    def __init__(self, boundary: bytes, folder: Path, bounds: Bounds) -> None:
        self._folder, self._bounds = folder, bounds
        self._fields: dict[str, bytes] = {}
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""  # of the header that is coming
        self._field, self._sink = "", _NONE  # of the part that is coming; no sink where it is a field
        self._n_files, self._whole = 0, False
        names = ("part_begin", "header_field", "header_value", "header_end", "headers_finished", "part_data",
                 "part_end", "end")  # fmt: skip
        callbacks = {f"on_{name}": getattr(self, f"_on_{name}") for name in names}
        try:
            self._parser = MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError:
            raise _invalid("the boundary of the form is too long") from None

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError:
            raise _invalid("the form cannot be read") from None
        except OSError as error:
            raise EnvironmentFailure(Code.WRITE_FAILED, f"an upload cannot be kept: {error.strerror}") from None

    def close(self) -> None:
        if self._sink is not None:
            self._sink.close()

    def finish(self) -> Upload:
        if not self._whole:
            raise _invalid("the form ends too early")
        force = self._fields.get("force", b"false")
        if "model" not in self._fields or not self._n_files or force not in (b"true", b"false"):
            raise _invalid("the form needs `model`, `files`, and where there is `force`, true or false")
        return Upload(self._fields["model"].decode("utf-8", "replace"), self._n_files, force == b"true")

    def _on_part_begin(self) -> None:
        self._headers.clear()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        field, filename = options.get(b"name", b"").decode("utf-8", "replace"), options.get(b"filename")
        if field == "files" and filename is not None:
            self._n_files += 1
            if self._n_files > self._bounds.files:
                raise _too_many(self._bounds)
            ending = ".zip" if is_zip(Path(filename.decode("utf-8", "replace").replace("\0", ""))) else ""
            self._sink = (self._folder / f"{self._n_files:07}{ending}").open("xb")
        elif field in FIELDS and filename is None and field not in self._fields:
            self._field, self._fields[field] = field, b""
        else:
            raise _invalid("the form has a part that is neither `files`, with a file name, nor once `model` or `force`")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._sink is not None:
            self._sink.write(data[start:end])
            return
        self._fields[self._field] += data[start:end]
        if len(self._fields[self._field]) > LONGEST_FIELD_BYTES:
            raise _invalid(f"`{self._field}` is too long")

    def _on_part_end(self) -> None:
        if self._sink is not None:
            self._sink.flush()
            os.fsync(self._sink.fileno())
            self._sink.close()
            self._sink = None

    def _on_end(self) -> None:
        self._whole = True


def _unpack_all(folder: Path, bounds: Bounds) -> None:
    """Replace each zip file of an upload by what it holds; all files together stay within the bounds."""
    n_bytes, n_files = bounds.unpacked_bytes, bounds.files
    n_files -= sum(1 for path in folder.iterdir() if not is_zip(path))
    for path in sorted(path for path in folder.iterdir() if is_zip(path)):
        content = path.with_suffix("")
        content.mkdir()
        unpack_into(path, content, max_bytes=n_bytes, max_members=max(n_files, 0))
        path.unlink()
        for one in content.iterdir():
            n_bytes, n_files = n_bytes - one.stat().st_size, n_files - 1
