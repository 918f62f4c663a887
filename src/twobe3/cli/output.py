"""What every verb says: one JSON document, or lines for people."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import typer

Document = dict[str, Any]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]


def print_document(document: Document, as_json: bool, lines: Callable[[Document], list[str]]) -> None:
    """Print a document as JSON, or as the lines that a function makes of it."""
    if as_json:
        print(json.dumps(document, ensure_ascii=False, allow_nan=False))
    else:
        print("\n".join(lines(document)))


def columns(rows: list[Document]) -> list[str]:
    """One line for each row, its first cell padded to the widest."""
    width = max(len(str(next(iter(row.values())))) for row in rows)
    return [f"{first!s:<{width}}  {'  '.join(map(str, rest))}" for first, *rest in (row.values() for row in rows)]
