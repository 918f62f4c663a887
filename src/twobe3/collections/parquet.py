"""Tables of collections as CSV and, by way of duckdb, as Parquet; the same rows give the same bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twobe3.core.codes import Code
from twobe3.core.errors import EnvironmentFailure
from twobe3.io.csv import escape_formula, to_csv

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

EXTRA = "install it: pip install 'twobe3[collections]'"
_SQL_TYPES = {"str": "VARCHAR", "int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN"}


def require_duckdb(what: str) -> Any:
    """Import duckdb.

    Raises
    ------
    EnvironmentFailure
        ``EXTRA_MISSING``: it is not installed, and ``what`` needs it.
    """
    try:
        import duckdb
    except ImportError as error:
        raise EnvironmentFailure(Code.EXTRA_MISSING, f"{what} needs duckdb", remedy=EXTRA) from error
    return duckdb


def rows_to_csv(
    kind: type[DataclassInstance], rows: Sequence[DataclassInstance], escape: Callable[[str], str] = escape_formula
) -> bytes:
    """Write dataclass rows as a table with a column for each field and every cell in quotes."""
    return to_csv([[field.name for field in fields(kind)], *map(astuple, rows)], quote_all=True, escape=escape)


def to_parquet(
    kind: type[DataclassInstance],
    rows: Sequence[DataclassInstance],
    what: str,
    *,
    select: str = "*",
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Write rows as Parquet, typed as the fields of their class are annotated.

    ``what`` names the table in the error, ``select`` is the SQL of its columns, ``metadata`` goes into the file.

    Raises
    ------
    EnvironmentFailure
        ``EXTRA_MISSING``.
    """
    duckdb = require_duckdb(what)
    types = {field.name: _SQL_TYPES[str(field.type)] for field in fields(kind)}
    own = "".join(f", KV_METADATA {{{key}: {_quote(value)}}}" for key, value in (metadata or {}).items())
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "rows.csv", Path(name) / "rows.parquet"
        source.write_bytes(rows_to_csv(kind, rows, escape=str))
        with duckdb.connect(config={"threads": 1}) as database:
            database.execute("SET enable_progress_bar = false")  # standard output is for results
            database.execute(
                f"COPY (SELECT {select} FROM read_csv(?, header=true, auto_detect=false, delim=',', quote='\"', "
                f"escape='\"', nullstr='\\N', columns={types})) TO {_quote(str(target))} "
                f"(FORMAT parquet, COMPRESSION zstd{own})",
                [str(source)],
            )
        return target.read_bytes()


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
