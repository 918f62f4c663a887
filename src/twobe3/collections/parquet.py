"""Tables of collections as CSV and, by way of duckdb, as Parquet; the same rows give the same bytes."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure

EXTRA = "install it: pip install 'twobe3[collections]'"


def duckdb_for(what: str) -> Any:
    """The package duckdb.

    Raises
    ------
    EnvironmentFailure
        ``EXTRA_MISSING``: it is not installed, and this needs it.
    """
    try:
        import duckdb
    except ImportError as error:
        raise EnvironmentFailure(Code.EXTRA_MISSING, f"{what} needs duckdb", remedy=EXTRA) from error
    return duckdb


def as_csv(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> bytes:
    """A table with every cell in quotes."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue().encode()


def as_parquet(
    text: bytes, types: Mapping[str, str], *, what: str, select: str = "*", metadata: Mapping[str, str] | None = None
) -> bytes:
    """The Parquet of a table.

    Parameters
    ----------
    text : bytes
        From :func:`as_csv`.
    types : mapping
        Of every column, as SQL calls it.
    what : str
        The table, for the error.
    select : str
        What is taken of it, as SQL.
    metadata : mapping, optional
        For the file's own keys and values.

    Raises
    ------
    EnvironmentFailure
        ``EXTRA_MISSING``.
    """
    duckdb = duckdb_for(what)
    own = "".join(f", KV_METADATA {{{key}: {_quoted(value)}}}" for key, value in (metadata or {}).items())
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "rows.csv", Path(name) / "rows.parquet"
        source.write_bytes(text)
        with duckdb.connect(config={"threads": 1}) as database:
            database.execute("SET enable_progress_bar = false")  # standard output is for results
            database.execute(
                f"COPY (SELECT {select} FROM read_csv(?, header=true, auto_detect=false, delim=',', quote='\"', "
                f"escape='\"', nullstr='\\N', columns={dict(types)})) TO {_quoted(str(target))} "
                f"(FORMAT parquet, COMPRESSION zstd{own})",
                [str(source)],
            )
        return target.read_bytes()


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
