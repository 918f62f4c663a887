"""The manifest of a plan: one row a series, and a header by which it can be made again and a change be noticed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any

from twobe3.collections.parquet import require_duckdb, rows_to_csv, to_parquet
from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError
from twobe3.io.csv import unescape_formula
from twobe3.io.files import digest, write_atomic

HEADER_KEY = "twobe3_manifest"
SCHEMA = 1


@dataclass(frozen=True, order=True)
class ManifestRow:
    """A series, under public, de-identified ids."""

    collection: str
    patient: str
    study_uid: str
    series_uid: str
    modality: str  # PT; SEG, RTSTRUCT and CT where they were asked for
    series_uuid: str  # of this version of the series in IDC
    url: str  # where its files are, s3://bucket/folder/*
    instances: int  # files
    size_bytes: int
    license: str
    doi: str  # what to cite
    tracer: str  # or "unknown"
    description: str  # SeriesDescription


COLUMNS = tuple(field.name for field in fields(ManifestRow))
_NUMBERS = ("instances", "size_bytes")


@dataclass(frozen=True)
class Header:
    """How a manifest was made: index, package version, options, citations by DOI, and series left out by each rule."""

    index_version: str
    index_digest: str
    package_version: str
    options: dict[str, Any]
    citations: dict[str, str]
    excluded: dict[str, int]


@dataclass(frozen=True)
class Manifest:
    """Sorted rows; their header, None where another program wrote the file; and whether they differ from the plan."""

    rows: tuple[ManifestRow, ...]
    header: Header | None
    edited: bool = False


def write_manifest(folder: Path, rows: Sequence[ManifestRow], header: Header) -> Path:
    """Write ``manifest.parquet``, which is the manifest, and ``manifest.csv`` with the same rows to look at.

    Raises
    ------
    EnvironmentFailure
        ``WRITE_FAILED``.
    """
    document = {"schema": SCHEMA, **asdict(header), "digest": _digest(rows, header)}
    text = json.dumps(document, ensure_ascii=True, sort_keys=True)
    path = folder / "manifest.parquet"
    write_atomic(folder / "manifest.csv", rows_to_csv(ManifestRow, rows))
    write_atomic(path, to_parquet(ManifestRow, rows, "a manifest", metadata={HEADER_KEY: text}))
    return path


def read_manifest(path: Path | str, *, allow_edited: bool = False) -> Manifest:
    """Read a manifest.

    Parameters
    ----------
    path : path
        ``manifest.parquet``; with ``allow_edited`` also a table in Parquet or CSV that has its columns.
    allow_edited : bool
        Whether a manifest that was changed since it was planned is accepted.

    Raises
    ------
    ConfigurationError
        ``MANIFEST_INVALID``: no such file, no manifest, a column or a value is missing, or a series stands twice;
        ``MANIFEST_EDITED``.
    EnvironmentFailure
        ``EXTRA_MISSING``: duckdb is not installed.
    """
    path = Path(path)
    cells, document = _read(path)
    rows = _parse_rows(path, cells)
    header, expected = _parse_header(path, document)
    edited = header is None or expected != _digest(rows, header)
    if edited and not allow_edited:
        reason = "its rows are not those of its header" if header else "it has no header: another program wrote it"
        raise ConfigurationError(Code.MANIFEST_EDITED, f"{path.name}: {reason}")
    return Manifest(rows, header, edited)


def _digest(rows: Sequence[ManifestRow], header: Header) -> str:
    return digest([json.dumps(asdict(header), sort_keys=True), *(json.dumps(astuple(row)) for row in rows)])


def _read(path: Path) -> tuple[list[dict[str, Any]], str | None]:
    """The rows of a file as they stand in it, and its header."""
    duckdb = require_duckdb("a manifest")
    if not path.is_file():
        raise ConfigurationError(Code.MANIFEST_INVALID, f"{path.name} is no file", remedy="give the path of a manifest")
    parquet = path.suffix.lower() == ".parquet"
    source = "read_parquet(?)" if parquet else "read_csv(?, header=true, all_varchar=true)"
    try:
        with duckdb.connect() as database:
            answer = database.execute(f"SELECT * FROM {source}", [str(path)])
            names = [column[0] for column in answer.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in answer.fetchall()]
            query = "SELECT decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = ?"
            found = database.execute(query, [str(path), HEADER_KEY]).fetchone() if parquet else None
    except duckdb.Error as error:
        reason = f"{path.name} can't be read as a table ({type(error).__name__})"
        raise ConfigurationError(Code.MANIFEST_INVALID, reason) from None
    return rows, None if found is None else str(found[0])


def _parse_rows(path: Path, cells: list[dict[str, Any]]) -> tuple[ManifestRow, ...]:
    missing = [name for name in COLUMNS if cells and name not in cells[0]]
    if missing or not cells:
        reason = f"lacks the column {missing[0]!r}" if missing else "has no row"
        raise ConfigurationError(Code.MANIFEST_INVALID, f"{path.name} {reason}")
    rows = [_parse_row(path, number, row) for number, row in enumerate(cells, 1)]
    first = {row.series_uid: number for number, row in reversed(list(enumerate(rows, 1)))}
    twice = [number for number, row in enumerate(rows, 1) if first[row.series_uid] != number]
    if twice:
        raise ConfigurationError(Code.MANIFEST_INVALID, f"{path.name}: the series of row {twice[0]} stands twice")
    return tuple(rows)


def _parse_row(path: Path, number: int, cells: dict[str, Any]) -> ManifestRow:
    words = {name: unescape_formula(str(cells[name] or "")) for name in COLUMNS if name not in _NUMBERS}
    try:
        row = ManifestRow(**words, instances=int(cells["instances"]), size_bytes=int(cells["size_bytes"]))
    except (TypeError, ValueError):
        row = None
    if row is None or min(row.instances, row.size_bytes) < 1 or not row.series_uid or not row.url:
        raise ConfigurationError(Code.MANIFEST_INVALID, f"{path.name}: row {number} lacks a UID, an address or a size")
    return row


def _parse_header(path: Path, document: str | None) -> tuple[Header | None, str]:
    if document is None:
        return None, ""
    try:
        content = json.loads(document)
        schema, expected = content.pop("schema"), content.pop("digest")
        if schema == SCHEMA:
            return Header(**content), expected
    except (ValueError, KeyError, TypeError, AttributeError):
        schema = None
    raise ConfigurationError(Code.MANIFEST_INVALID, f"{path.name}: the header is of another version ({schema})")
