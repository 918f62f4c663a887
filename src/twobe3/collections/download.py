"""The series of a manifest, brought into a folder: whole, checked, and only once."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from twobe3.collections.download_log import LOG_FILE, DownloadLog, Entry
from twobe3.collections.manifest import ManifestRow, read_manifest
from twobe3.collections.s5cmd import IDC_ENDPOINT, S5cmd, StoredObject
from twobe3.collections.text import CITATIONS, LICENSES, write_notices
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, EnvironmentFailure, Exclusion, UnusableScanError
from twobe3.dicom.reader import quietly, read_header, text
from twobe3.runtime.progress import bar

# A file that does not match is fetched again until it was fetched this often.
ATTEMPTS = 3
# The first answer must come within this time, or there is no network.
PROBE_SECONDS = 10.0
SERIES_AT_ONCE = 4
PARTIAL = ".partial"
_OWN_FILES = {name.casefold() for name in (LICENSES, CITATIONS, LOG_FILE)}  # beside the folders of collections
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class FetchResult:
    """What a download did."""

    series: int  # of the manifest
    fetched: int  # downloaded now
    reused: int  # there already
    needed_bytes: int  # missing at the start
    free_bytes: int
    failed: tuple[Exclusion, ...] = ()  # series that could not be fetched whole


def fetch_collections(
    manifest: Path | str,
    out: Path | str,
    *,
    endpoint: str | None = None,
    workers: int = 8,
    verify: bool = False,
    dry_run: bool = False,
    allow_edited: bool = False,
) -> FetchResult:
    """Download the series of a manifest that are missing into ``out/<collection>/<study UID>/<series UID>``.

    A series appears in its folder when every file has the size and, where the server tells one, the MD5 of the
    server's object, is a DICOM file, and belongs to that series. Incomplete series wait in ``out/.partial`` for the
    next call. One failed series does not keep back the others. ``LICENSES.md`` and ``CITATIONS.md`` are written first.

    Parameters
    ----------
    manifest, out : path
        From :func:`~twobe3.collections.plan.plan_collections`; the folder of the images.
    endpoint : str, optional
        Address of the S3-compatible server; that of IDC by default.
    workers : int
        Connections at once.
    verify : bool
        Whether the contents of series that are there are read and compared with their digest.
    dry_run : bool
        Whether to report only what is missing, without network.
    allow_edited : bool
        Whether a manifest that was changed since it was planned is accepted.

    Raises
    ------
    ConfigurationError
        ``MANIFEST_INVALID``, ``MANIFEST_EDITED``.
    EnvironmentFailure
        ``DISK_SPACE``, before anything is fetched; ``NETWORK_MISSING``; ``WRITE_FAILED``; ``EXTRA_MISSING``. What has
        arrived until then stays.
    """
    endpoint = endpoint or IDC_ENDPOINT
    planned = read_manifest(manifest, allow_edited=allow_edited)
    rows, download = planned.rows, _Download(Path(out))
    for row in rows:
        download.folder(row)
    lacking = [row for row in rows if not download.has(row, verify=verify)]
    needed = sum(max(row.size_bytes - download.waiting_bytes(row), 0) for row in lacking)
    free = _free_bytes(download.out)
    found = FetchResult(len(rows), 0, len(rows) - len(lacking), needed, free)
    if needed > free:
        raise EnvironmentFailure(Code.DISK_SPACE, f"{needed} bytes are needed and {free} bytes are free")
    if dry_run:
        return found
    write_notices(download.out, rows, {} if planned.header is None else planned.header.citations)
    if not lacking:
        return found
    _make_folder(download.out / PARTIAL)
    download.log.compact()
    with suppress(UnusableScanError):  # of that series alone, and said where it is fetched
        S5cmd(endpoint, retries=0).list_objects(lacking[0].url, patience_seconds=PROBE_SECONDS)
    server = S5cmd(endpoint, connections=max(workers // SERIES_AT_ONCE, 1))
    failed = download.fetch(lacking, server, at_once=min(workers, SERIES_AT_ONCE))
    return replace(found, fetched=len(lacking) - len(failed), failed=tuple(failed))


class _Download:
    """The folder of a download and its log."""

    def __init__(self, out: Path) -> None:
        self.out, self.log = out, DownloadLog(out)

    def folder(self, row: ManifestRow) -> Path:
        names = (row.collection, row.study_uid, row.series_uid)
        for name in names:
            if not _FOLDER.fullmatch(name) or name.casefold() in _OWN_FILES:
                raise ConfigurationError(Code.MANIFEST_INVALID, f"{name!r} names no folder")
        return self.out.joinpath(*names)

    def waiting(self, row: ManifestRow) -> Path:
        return self.out / PARTIAL / row.series_uid

    def waiting_bytes(self, row: ManifestRow) -> int:
        folders = (self.waiting(row), self.folder(row))
        return sum(file.stat().st_size for folder in folders for file in folder.glob("*.dcm"))

    def has(self, row: ManifestRow, *, verify: bool) -> bool:
        entry, folder = self.log.entries.get(row.series_uid), self.folder(row)
        there = entry is not None and entry.matches(folder)
        return there and not (verify and Entry.describe(row.series_uid, folder) != entry)

    def fetch(self, rows: Iterable[ManifestRow], server: S5cmd, *, at_once: int) -> list[Exclusion]:
        """Fetch series side by side; those that could not be had."""
        rows, failed = list(rows), []
        with bar("series fetched", len(rows)) as advance, ThreadPoolExecutor(at_once) as pool:
            try:
                futures = {pool.submit(self.fetch_one, row, server): row for row in rows}
                for done, future in enumerate(as_completed(futures), 1):
                    try:
                        self.log.append(future.result())
                    except UnusableScanError as refusal:
                        failed.append(Exclusion.of(refusal, series=futures[future].series_uid))
                    advance(done, len(rows))
            except BaseException:  # interrupted, or without network: nothing goes on behind our back
                server.stop()
                pool.shutdown(cancel_futures=True)
                raise
        return sorted(failed, key=lambda one: one.series)

    def fetch_one(self, row: ManifestRow, server: S5cmd) -> Entry:
        objects = server.list_objects(row.url)
        there = (len(objects), sum(one.size_bytes for one in objects))
        if there != (row.instances, row.size_bytes):
            raise UnusableScanError(
                Code.FETCH_FAILED,
                f"the server has {there[0]} instances of {there[1]} bytes, the manifest {row.instances} of "
                f"{row.size_bytes}",
                remedy="make the manifest again with `twobe3 collections plan`",
            )
        final, waiting = self.folder(row), self.waiting(row)
        if final.is_dir() and not waiting.exists():  # stopped before it was noted, or changed since
            final.rename(waiting)
        _make_folder(waiting)
        _complete(waiting, objects, row.series_uid, server)
        entry = Entry.describe(row.series_uid, waiting)
        _make_folder(final.parent)
        shutil.rmtree(final, ignore_errors=True)
        waiting.rename(final)
        return entry


def _complete(folder: Path, objects: Sequence[StoredObject], series_uid: str, server: S5cmd) -> None:
    """Fetch what lacks or is wrong in a folder until nothing is."""
    names = {one.name for one in objects}
    for file in folder.iterdir():  # s5cmd writes under the name with digits behind it; a killed one leaves that
        if file.name not in names and file.name.rstrip("0123456789") in names:
            file.unlink()
    faults = _faults(folder, objects, series_uid)
    for _ in range(ATTEMPTS):
        if not faults:
            return
        wrong = [one for one in objects if one.name in faults]
        for one in wrong:
            (folder / one.name).unlink(missing_ok=True)
        with suppress(UnusableScanError):  # what did not come is absent, which is a fault
            server.copy(wrong, folder)
        faults = _faults(folder, wrong, series_uid)
    if faults:
        name, fault = next(iter(faults.items()))
        reason = f"{len(faults)} of {len(objects)} instances are wrong after {ATTEMPTS} attempts; {name} {fault}"
        raise UnusableScanError(Code.FETCH_FAILED, reason)


def _faults(folder: Path, objects: Iterable[StoredObject], series_uid: str) -> dict[str, str]:
    """Name and fault of every object whose file is not what it must be."""
    faults = {one.name: _fault(folder / one.name, one, series_uid) for one in objects}
    return {name: fault for name, fault in faults.items() if fault}


def _fault(path: Path, expected: StoredObject, series_uid: str) -> str:
    if not path.is_file():
        return "is absent"
    if path.stat().st_size != expected.size_bytes:
        return f"has {path.stat().st_size} bytes, not {expected.size_bytes}"
    if expected.md5 and _md5(path) != expected.md5:
        return "does not match its checksum"
    try:
        with quietly():
            header = read_header(path, ["SeriesInstanceUID"])
            own = None if header is None else text(header.dataset, "SeriesInstanceUID")
    except UnusableScanError:
        own = None
    if own is None:
        return "is no readable DICOM file"
    return "" if own == series_uid else "belongs to another series"


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFailure(Code.WRITE_FAILED, f"{folder.name} could not be made: {error.strerror}") from error


def _free_bytes(folder: Path) -> int:
    """Room on the disk of a folder that may not exist yet."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(there).free
